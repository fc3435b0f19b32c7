"""Makes the digests and heartbeats that are due, and hands them on.

    read entries -> note which are retries -> mails -> for each: make room for the note, hand over, note,
    remove its entries

Only the hand-over lets go of messages: what fails before it leaves everything as it was, and what dies
after it finds the note, or sends one mail twice. One process at a time does it.

Security: to open what was collected takes the keystore key. The mails go through the same way as all system
mail, which encrypts them; rules are not asked.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from keystore.errors import KeystoreError, StoreDamaged
from keystore.letterbox import Letterbox
from secmailproxy.errors import SecMailProxyError
from secmailproxy.folders import make_private
from secmailproxy.forward.collected import Collected, Entry, keep_slot, mark_of, now_utc
from secmailproxy.forward.digest import CollectedMail, Sheet, batches, sheets
from secmailproxy.forward.digestmail import digest_mail, text_mail
from secmailproxy.forward.heartbeat import Heartbeat
from secmailproxy.forward.model import Entrance, SystemMail
from secmailproxy.forward.schedule import DigestPlan, Every, Schedule, digest_is_due, next_slot
from secmailproxy.stamp import RANDOM_OCTETS, Stamp

log = logging.getLogger(__name__)

_AT_ONCE = Schedule(Every.HOURLY, 0)
_TRY_AGAIN = 300.0
"""Seconds after which what failed is tried again."""
_SOON = 60.0
"""Seconds after which a message may have come for a digest that had none."""


@dataclass(frozen=True, slots=True)
class DigestSettings:
    """What is configured, as it is in force now."""

    plans: tuple[DigestPlan, ...]
    author: str
    """The address in From; it has been checked."""
    zone: tzinfo
    heartbeat: Heartbeat | None = None


@dataclass(slots=True)
class _Batch:
    """What was read at once, and under which marks."""

    messages: list[CollectedMail] = field(default_factory=list)
    entries: dict[str, list[Entry]] = field(default_factory=dict)
    """By the name of a message: its own entry, then those of retries."""
    marks: dict[str, str] = field(default_factory=dict)
    """The name of the message with that mark."""
    retries: list[Entry] = field(default_factory=list)
    """Of messages that have left in an earlier mail."""


class Digests:
    """Asked from time to time what is due. Methods block; `due` does not."""

    def __init__(
        self,
        settings: Callable[[], DigestSettings],
        collected: Collected,
        letterbox: Callable[[], Letterbox],
        process: Callable[[SystemMail], object],
        slot_file: Path | None = None,
        clock: Callable[[], datetime] = now_utc,
    ) -> None:
        """`process` returns when a mail is in safe hands. The slot is kept in `slot_file` for pipes."""
        self._settings = settings
        self._collected = collected
        self._letterbox = letterbox
        self._process = process
        self._slot_file = slot_file
        self._clock = clock
        self._unreadable: set[str] = set()

    async def due(self) -> float | None:
        """Send what is due; in how many seconds there may be more."""
        return await asyncio.to_thread(self.do)

    def do(self) -> float:
        """The same. Failures are logged, and tried again later."""
        now = self._clock()
        try:
            if self.is_due(now):
                self.send(now)
        except (SecMailProxyError, KeystoreError, OSError) as error:
            log.error("a digest or heartbeat waits", extra={"why": _why(error)})
            return _TRY_AGAIN
        return self._pause(now)

    def is_due(self, now: datetime) -> bool:
        """Whether there is something to send. Raises OSError."""
        settings = self._settings()
        beat = settings.heartbeat
        return any(True for _ in self._due(settings, now)) or (
            beat is not None and beat.is_due(now, settings.zone)
        )

    def send(self, now: datetime) -> int:
        """Send all that is due, and return the number of mails.

        One digest that fails keeps no other. Raises the first failure, when all has been tried: StoreLocked
        where the keystore is locked, whatever `process` raises, OSError.
        """
        settings = self._settings()
        make_private(self._collected.folder)
        with _alone(self._collected.folder) as is_alone:
            if not is_alone:
                return 0
            if self._slot_file is not None:
                # Pipes must find the slot of this keystore, also after another one was restored.
                keep_slot(self._slot_file, self._letterbox())
            count, failures = 0, []
            for plan in self._due(settings, now):
                try:
                    count += self._send_digest(plan, settings, now)
                except Exception as error:  # noqa: BLE001  raised when all has been tried
                    failures.append(error)
            if settings.heartbeat is not None and settings.heartbeat.is_due(now, settings.zone):
                self._send_heartbeat(settings.heartbeat, settings, now)
                count += 1
        if failures:
            raise failures[0]
        return count

    def _due(self, settings: DigestSettings, now: datetime) -> Iterator[DigestPlan]:
        known = {plan.name: plan for plan in settings.plans}
        # Messages of a digest that is no longer configured wait for nothing.
        for name in self._collected.digests():
            plan = known.get(name, DigestPlan(name, _AT_ONCE))
            times = [entry.at for entry in self._entries(name)]
            if times and (name not in known or digest_is_due(times, plan.schedule, now, settings.zone)):
                yield plan

    def _entries(self, digest: str) -> list[Entry]:
        return [one for one in self._collected.entries(digest) if one.name not in self._unreadable]

    def _pause(self, now: datetime) -> float:
        settings = self._settings()
        schedules = [plan.schedule for plan in settings.plans]
        if settings.heartbeat is not None:
            schedules.append(settings.heartbeat.plan.schedule)
        following = [next_slot(one, now, settings.zone) for one in schedules]
        # Never long: clocks are set, and digests configured.
        return min((max(1.0, (one - now).total_seconds()) for one in following), default=_SOON * 60)

    def _send_digest(self, plan: DigestPlan, settings: DigestSettings, now: datetime) -> int:
        letterbox, left = self._letterbox(), self._collected.left(plan.name)
        entries = self._entries(plan.name)
        self._collected.drop([one for one in entries if one.name in left])
        waiting = [one for one in entries if one.name not in left]
        parts = batches([one.size for one in waiting], plan.max_octets)
        count = 0
        for number, part in enumerate(parts, 1):
            batch = self._read(waiting[part], letterbox, left)
            self._collected.drop(batch.retries)
            for sheet in sheets(batch.messages, before=count, is_last=number == len(parts)):
                left |= self._send_sheet(plan, sheet, batch, settings, now)
                count += 1
        self._collected.tidy(plan.name, now)
        return count

    def _read(self, entries: Sequence[Entry], letterbox: Letterbox, left: set[str]) -> _Batch:
        batch = _Batch()
        for entry in entries:
            try:
                message = self._collected.read(entry, letterbox)
            except OSError as error:
                log.error(
                    "a collected message cannot be read; it waits",
                    extra={"digest": entry.digest, "entry": entry.name, "why": _why(error)},
                )
                continue
            except StoreDamaged:
                self._unreadable.add(entry.name)
                log.error(
                    "a collected message cannot be opened; it stays where it is",
                    extra={"digest": entry.digest, "entry": entry.name},
                )
                continue
            mark = mark_of(message, letterbox)
            if mark and mark in left:
                batch.retries.append(entry)
            elif mark in batch.marks:
                batch.entries[batch.marks[mark]].append(entry)
            else:
                batch.messages.append(message)
                batch.entries[message.name] = [entry]
                if mark:
                    batch.marks[mark] = message.name
        return batch

    def _send_sheet(
        self, plan: DigestPlan, sheet: Sheet, batch: _Batch, settings: DigestSettings, now: datetime
    ) -> set[str]:
        """Hand one mail over, and let go of what it carries; the names and marks of that."""
        beat = settings.heartbeat
        if beat is not None and not (sheet.is_last and beat.is_served_by(plan)):
            beat = None
        postscript = "" if beat is None else beat.postscript(settings.zone)
        stamp = _stamp(settings, now)
        octets = digest_mail(plan.name, sheet, settings.author, stamp, settings.zone, postscript)
        names = {message.name for message in sheet.messages}
        gone = names | {mark for mark, name in batch.marks.items() if name in names}
        with self._collected.noting(plan.name, gone, now):
            self._process(SystemMail(octets, "", plan.rcpt_tos, Entrance.OWN))
        self._collected.drop([entry for name in names for entry in batch.entries[name]])
        if beat is not None:
            beat.sent(now, by_digest=True)
        log.info("a digest was sent", extra={"digest": plan.name, "messages": sheet.count})
        return gone

    def _send_heartbeat(self, beat: Heartbeat, settings: DigestSettings, now: datetime) -> None:
        beat.prepare()
        sections = beat.sections(beat.signs().last)
        text = beat.text(sections, settings.zone)
        octets = text_mail(beat.subject(sections), text, settings.author, _stamp(settings, now))
        self._process(SystemMail(octets, "", beat.plan.rcpt_tos, Entrance.OWN))
        beat.sent(now)
        log.info("a heartbeat was sent")


def local_zone(name: str = "") -> tzinfo:
    """The zone of that name in the IANA database; without one, that of this machine. ValueError for none."""
    if name:
        return _named(name)
    wanted = os.environ.get("TZ", "").removeprefix(":")
    try:
        if wanted:
            return _named(wanted)
        with open("/etc/localtime", "rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC


def _named(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise ValueError(f'{name!r} is no time zone; write for example "Europe/Berlin"') from None


def _stamp(settings: DigestSettings, now: datetime) -> Stamp:
    domain = settings.author.rpartition("@")[2]
    return Stamp.fresh(now.astimezone(settings.zone), domain, os.urandom(RANDOM_OCTETS))


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return " ".join(str(error).split())


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether no other process makes digests; none does until the end of the block."""
    with open(folder / "lock", "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
