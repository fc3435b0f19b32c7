"""Many submissions in one run: is each of them there once, and does the proxy stay as small as it was?

`python -m bench.soak [--count 10000] [--sessions 10] [--size 5120] [--postfix]` counts by Message-ID at the
smarthost, which is a small one of our own or a Postfix. Memory is that of the proxy and of the processes that
help it, after a fifth of the messages and after all of them; descriptors and threads are the proxy's.
Processor time, of all messages but the first fifth, says more on a busy machine than the time they took. The
exit status is 1 when a message was lost or doubled, when memory has grown by more than a twentieth, or when
there are more descriptors or threads.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys

from bench.footprint import Held, processor_seconds
from bench.load import submit_all
from bench.smtp import SMALL, messages, ways, ways_to_postfix

GROWTH = 1.05


def main() -> int:
    """0 when everything was as it should be."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--size", type=int, default=SMALL, help="octets of a message")
    parser.add_argument("--postfix", action="store_true")
    options = parser.parse_args()
    early = options.count // 5
    with (
        ways_to_postfix() if options.postfix else ways() as both,
        both.proxied(options.sessions) as found,
    ):
        idle = Held.by(both.proxy)
        endless = messages(options.size)
        seconds = submit_all(found, itertools.islice(endless, early))
        before, worked = Held.by(both.proxy), processor_seconds(both.proxy)
        seconds += submit_all(found, itertools.islice(endless, options.count - early))
        after = Held.by(both.proxy)
        own, helpers = (
            1000 * (late - first) / (options.count - early)
            for first, late in zip(worked, processor_seconds(both.proxy), strict=True)
        )
        assert options.postfix or all(b"encrypted" in session.last for session in found)
        arrived = both.arrived()
    sent = {f"<{number}@example.org>" for number in range(options.count)}
    lost = len(sent - arrived.keys())
    doubled = sum(arrived[name] > 1 for name in sent)
    strange = len(arrived.keys() - sent)
    print(
        f"{options.count} messages of {options.size} octets, {options.sessions} sessions, {seconds:.0f} s, "
        f"{options.count / seconds:.0f} messages a second, load {os.getloadavg()[0]:.1f}\n"
        f"accepted and lost: {lost}; arrived more than once: {doubled}; never sent: {strange}\n"
        f"processor time for a message: {own:.2f} ms in the proxy, {helpers:.2f} ms in what helps it\n"
        f"before: {idle}\nafter {early}: {before}\nafter all: {after}"
    )
    is_flat = (
        after.megabytes <= GROWTH * before.megabytes
        and after.descriptors <= before.descriptors
        and after.threads <= before.threads
    )
    return 0 if lost == doubled == strange == 0 and is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
