"""Digests, heartbeats and reports of system mail, made from the configuration: the same for the running proxy
and for a timer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from secmailproxy.config import Config
from secmailproxy.forward.alerting import facts_of
from secmailproxy.forward.collected import Collected, collected_of
from secmailproxy.forward.digestmail import local_time
from secmailproxy.forward.digests import Digests, DigestSettings, local_zone
from secmailproxy.forward.facts import shown
from secmailproxy.forward.heartbeat import Heartbeat, Section
from secmailproxy.forward.journal import journal_of
from secmailproxy.forward.model import SystemMail
from secmailproxy.forward.queue import Damaged, NotQueued, Queue
from secmailproxy.forward.sender import with_sender
from secmailproxy.forward.tally import Outcome, summary, tally

if TYPE_CHECKING:
    from keystore.keystore import Keystore

_LINE_MOST = 500
_THE_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def digests_of(
    config: Callable[[], Config],
    keystore: Keystore,
    author: Callable[[], str],
    process: Callable[[SystemMail], object],
) -> Digests:
    """What makes digests and heartbeats; by what `config`, `author` and `process` give at that time."""
    folders = config().folders

    def settings() -> DigestSettings:
        now = config()
        plan = now.forward.heartbeat_value()
        zone = local_zone(now.forward.time_zone)
        beat = None
        if plan is not None:
            beat = Heartbeat(
                plan,
                folders.heartbeat,
                lambda since: _sections(config(), keystore, since),
                os.uname().nodename,
            )
        return DigestSettings(tuple(one.value() for one in now.forward.digests), author(), zone, beat)

    return Digests(settings, collected_of(folders, keystore), keystore.letterbox, process, folders.slot)


def _sections(config: Config, keystore: Keystore, since: datetime | None) -> Sequence[Section]:
    """What a heartbeat tells; nothing of any message."""
    folders = config.folders
    counts = tally(journal_of(folders).records(since or _THE_BEGINNING, None))
    troubled = counts.outcomes[Outcome.DEFERRED.value] or counts.outcomes[Outcome.HELD.value]
    queued = list(_queued(Queue(folders.spool)))
    stuck = any(tried for tried, _ in queued)
    return [
        Section("What became of messages since then", list(summary(counts)), bool(troubled)),
        Section("In the queue", [line for _, line in queued], stuck),
        _certificates(config, keystore),
        Section("Collected for digests", list(_waiting(collected_of(folders, keystore)))),
    ]


def _certificates(config: Config, keystore: Keystore) -> Section:
    """Those that cannot be used, or soon cannot."""
    now = datetime.now(UTC)
    facts = facts_of(with_sender(config.forward_settings()), keystore, now)
    lines = [f"  {shown(one.sentence(), _LINE_MOST)}" for one in facts if one.why or one.ends is not None]
    return Section("Certificates that end, or have ended", lines, bool(lines))


def _queued(queue: Queue) -> Iterator[tuple[bool, str]]:
    """(whether it could have left and did not, one line) for each message."""
    now = time.time()
    for name in queue.names():
        try:
            queued, progress = queue.look(name)
        except NotQueued:
            continue
        except Damaged:
            yield True, f"  {name}: damaged"
            continue
        hours = max(0, now - queued.arrived) / 3600
        state = "held" if progress.held else f"{progress.tries} tries"
        yield (
            bool(progress.held or progress.tries),
            f"  {name}: {hours:.1f} hours, {state}; {progress.why or progress.held or 'new'}",
        )


def _waiting(collected: Collected) -> Iterator[str]:
    for name in collected.digests():
        if entries := collected.entries(name):
            yield f"{len(entries):7d}  {name}, since {local_time(entries[0].at, UTC)}"
