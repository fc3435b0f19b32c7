"""Digests, heartbeats and reports of system mail, made from the configuration: the same for the running proxy
and for a timer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from keystore.errors import KeystoreError
from secmailproxy.config import Config
from secmailproxy.errors import SecMailProxyError
from secmailproxy.folders import Folders
from secmailproxy.forward.alerting import facts_of
from secmailproxy.forward.collected import Collected, collected_of
from secmailproxy.forward.digestmail import local_time
from secmailproxy.forward.digests import Digests, DigestSettings, local_zone
from secmailproxy.forward.facts import shown
from secmailproxy.forward.heartbeat import Heartbeat, Section
from secmailproxy.forward.journal import journal_of
from secmailproxy.forward.model import SystemMail
from secmailproxy.forward.queue import ASIDE, Damaged, NotQueued, Queue
from secmailproxy.forward.sender import with_sender
from secmailproxy.forward.tally import Outcome, summary, tally

if TYPE_CHECKING:
    from keystore.keystore import Keystore

Told = tuple[bool, str]
"""Whether a person should look at it, and one line."""

_LINE_MOST = 500
_TOO_LONG = timedelta(days=2)
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
    collected = collected_of(folders, keystore)
    return [
        _section("What became of messages since then", lambda: _became(folders, since)),
        _section("In the queue", lambda: _queued(Queue(folders.spool))),
        _section("Certificates that end, or have ended", lambda: _certificates(config, keystore)),
        _section("Collected for digests", lambda: _waiting(collected)),
    ]


def _section(head: str, tell: Callable[[], Iterable[Told]]) -> Section:
    """What cannot be told is worth a look; the rest of the mail does not wait for it."""
    try:
        told = list(tell())
    except (SecMailProxyError, KeystoreError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        return Section(head, [f"  cannot be told: {shown(why or type(error).__name__, _LINE_MOST)}"], True)
    return Section(head, [line for _, line in told], any(alarming for alarming, _ in told))


def _became(folders: Folders, since: datetime | None) -> Iterator[Told]:
    counts = tally(journal_of(folders).records(since or _THE_BEGINNING, None))
    troubled = bool(counts.outcomes[Outcome.DEFERRED.value] or counts.outcomes[Outcome.HELD.value])
    yield from ((troubled, line) for line in summary(counts))


def _certificates(config: Config, keystore: Keystore) -> Iterator[Told]:
    """Those that cannot be used, or soon cannot."""
    facts = facts_of(with_sender(config.forward_settings()), keystore, datetime.now(UTC))
    yield from ((True, f"  {shown(one.sentence(), _LINE_MOST)}") for one in facts if one.why or one.ends)


def _queued(queue: Queue) -> Iterator[Told]:
    """What could have left and did not is alarming."""
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
    aside = queue.folder / ASIDE
    if aside.is_dir() and (count := len(os.listdir(aside))):
        yield True, f"  {count} set aside in {aside}"


def _waiting(collected: Collected) -> Iterator[Told]:
    """What has waited for longer than any digest does is alarming: it cannot leave, or not be opened."""
    now = datetime.now(UTC)
    for name in collected.digests():
        if entries := collected.entries(name):
            line = f"{len(entries):7d}  {name}, since {local_time(entries[0].at, UTC)}"
            yield now - entries[0].at > _TOO_LONG, line
