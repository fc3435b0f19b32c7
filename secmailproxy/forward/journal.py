"""What became of each message, one line each, for reports and heartbeats: a file for each day.

A line has the time, what was done, by which rule, and the kind of error, in clear: it says no more than the
log. Sender, host and subject are put through the slot of the keystore's letter box, so they are read where
the keystore is unlocked and nowhere else; without a slot they are left out. Nothing here is needed to
deliver mail: a line that is lost with the power is one that is not counted, and one that cannot be written
stops no message.

Security: subjects name commands, disks and people; they are never on the disk in clear.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keystore.errors import KeystoreError
from secmailproxy.errors import SecMailProxyError
from secmailproxy.folders import Folders, make_private
from secmailproxy.forward.collected import now_utc
from secmailproxy.forward.facts import Facts, facts_of
from secmailproxy.forward.model import SystemMail
from secmailproxy.forward.tally import Outcome, Record
from secmailproxy.logs import place
from secmailproxy.mime.entity import parse_or_leaf

if TYPE_CHECKING:
    from keystore.letterbox import Letterbox, Slot

log = logging.getLogger(__name__)

DAYS_KEPT = 35
_SUFFIX = ".journal"


@dataclass(frozen=True, slots=True)
class Journal:
    """A folder of lines. Methods block; several processes may write at once."""

    folder: Path
    slot: Callable[[], Slot]
    clock: Callable[[], datetime] = now_utc

    def note(self, mail: SystemMail, outcomes: tuple[Outcome, ...], rule: str, why: str = "") -> None:
        """Never raises."""
        try:
            self._write(mail, outcomes, rule, why)
        except (SecMailProxyError, OSError) as error:
            log.warning("a message is missing in the reports", extra=place(error))

    def records(self, since: datetime, letterbox: Letterbox | None) -> Iterator[Record]:
        """All from `since` (aware) on; facts are read with `letterbox`. Raises OSError."""
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            if _day_of(path) < since.astimezone(UTC).date():
                continue
            with path.open("rb") as lines:
                for line in lines:
                    # One that a power cut left unfinished, or a restored backup brought, is none.
                    with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):
                        record = _read(json.loads(line), letterbox)
                        if record.at >= since:
                            yield record

    def _write(self, mail: SystemMail, outcomes: tuple[Outcome, ...], rule: str, why: str) -> None:
        now = self.clock().astimezone(UTC)
        told: dict[str, Any] = {"at": now.isoformat(), "outcomes": outcomes, "rule": rule, "why": why}
        with contextlib.suppress(KeystoreError, FileNotFoundError):
            facts = facts_of(parse_or_leaf(mail.octets), mail.mail_from)
            letter = self.slot().put(
                json.dumps([facts.sender, facts.host, facts.subject]).encode(), _context(told)
            )
            told["letter"] = base64.b64encode(letter).decode("ascii")
        path = self.folder / f"{now:%Y-%m-%d}{_SUFFIX}"
        if not path.exists():
            make_private(self.folder)
            self._forget(now.date() - timedelta(days=DAYS_KEPT))
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # One call: lines of several processes do not mix.
            os.write(descriptor, json.dumps(told).encode("ascii") + b"\n")
        finally:
            os.close(descriptor)

    def _forget(self, oldest: date) -> None:
        for path in self.folder.glob(f"*{_SUFFIX}"):
            if _day_of(path) < oldest:
                path.unlink(missing_ok=True)


def journal_of(folders: Folders) -> Journal:
    """That of this installation. Nothing is unlocked for it: without a slot, less is told."""

    def slot() -> Slot:
        from keystore.letterbox import Slot  # its libraries take time to import

        return Slot.from_octets(folders.slot.read_bytes())

    return Journal(folders.journal, slot)


def _day_of(path: Path) -> date:
    try:
        return date.fromisoformat(path.name.removesuffix(_SUFFIX))
    except ValueError:
        return date.max  # none of ours: it is read line by line, and stays


def _context(told: dict[str, Any]) -> bytes:
    return b"journal\0" + str(told["at"]).encode("ascii")


def _read(told: dict[str, Any], letterbox: Letterbox | None) -> Record:
    """Raises ValueError, LookupError or TypeError for what is no record."""
    at = datetime.fromisoformat(told["at"])
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    outcomes = tuple(Outcome(one) for one in told["outcomes"])
    return Record(at, outcomes, str(told["rule"]), str(told["why"]), _facts(told, letterbox))


def _facts(told: dict[str, Any], letterbox: Letterbox | None) -> Facts | None:
    if letterbox is None or "letter" not in told:
        return None
    with contextlib.suppress(KeystoreError, binascii.Error):
        letter = base64.b64decode(told["letter"], validate=True)
        sender, host, subject = map(str, json.loads(letterbox.open(letter, _context(told))))
        return Facts(sender, host, subject)
    return None
