"""Many submissions in one run: is each of them there once, and does the proxy stay as small as it was?

`python -m bench.soak [--count 10000] [--sessions 10]` counts by Message-ID at the smarthost. Memory is that
of the proxy and of the processes that help it, after a fifth of the messages and after all of them. The exit
status is 1 when a message was lost or doubled, or when memory has grown by more than a twentieth.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections import Counter

from bench.footprint import resident
from bench.load import submit_all
from bench.smtp import SMALL, messages, ways

GROWTH = 1.05


def main() -> int:
    """0 when everything was as it should be."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--sessions", type=int, default=10)
    options = parser.parse_args()
    early = options.count // 5
    with ways() as both, both.proxied(options.sessions) as found:
        idle = resident(both.proxy)
        endless = messages(SMALL)
        seconds = submit_all(found, itertools.islice(endless, early))
        before = resident(both.proxy)
        seconds += submit_all(found, itertools.islice(endless, options.count - early))
        after = resident(both.proxy)
        assert all(b"encrypted" in session.last for session in found)
        arrived = Counter(both.ledger.read_text().split())
    sent = {f"<{number}@example.org>" for number in range(options.count)}
    lost = len(sent - arrived.keys())
    doubled = sum(arrived[name] > 1 for name in sent)
    strange = len(arrived.keys() - sent)
    print(
        f"{options.count} messages of 5 KB, {options.sessions} sessions, {seconds:.0f} s, "
        f"{options.count / seconds:.0f} messages a second, load {os.getloadavg()[0]:.1f}\n"
        f"accepted and lost: {lost}; arrived more than once: {doubled}; never sent: {strange}\n"
        f"memory: {idle:.1f} MB before, {before:.1f} MB after {early}, {after:.1f} MB after all"
    )
    return 0 if lost == doubled == strange == 0 and after <= GROWTH * before else 1


if __name__ == "__main__":
    sys.exit(main())
