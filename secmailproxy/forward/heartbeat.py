"""A mail that comes at its time even when there is nothing to say, so that silence is noticed.

It tells what became of system mail since the last one, what waits, and whatever else it is given sections
for. A digest to the same recipients may serve as one and then says the same.

State: when the last heartbeat and the last digest went out, in one file. It is written after the hand-over,
so a process that dies between both sends one heartbeat twice, and never none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path

from keystore.files import replace_file
from secmailproxy.folders import make_private
from secmailproxy.forward.digestmail import local_time
from secmailproxy.forward.schedule import DigestPlan, HeartbeatPlan, heartbeat_is_due

_SIZE = 200


@dataclass(frozen=True, slots=True)
class Section:
    """A head and what stands under it; the lines hold no content of messages."""

    head: str
    lines: Sequence[str]
    is_alarming: bool = False
    """Whether a person should look at it; the subject says how many of these there are."""


@dataclass(frozen=True, slots=True)
class SignsOfLife:
    """When the last ones went out."""

    heartbeat: datetime | None = None
    digest: datetime | None = None

    @property
    def last(self) -> datetime | None:
        """The later of both."""
        return max((one for one in (self.heartbeat, self.digest) if one is not None), default=None)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Knows when one is due, and what it says. Methods block."""

    plan: HeartbeatPlan
    file: Path
    sections: Callable[[datetime | None], Sequence[Section]]
    """What is told, as from this time on."""
    host: str

    def is_due(self, now: datetime, zone: tzinfo) -> bool:
        """Whether a mail is to go out now."""
        signs = self.signs()
        last = signs.last if self.plan.by_digest else signs.heartbeat
        return heartbeat_is_due(last, self.plan.schedule, now, zone)

    def is_served_by(self, plan: DigestPlan) -> bool:
        """Whether a digest shows life to those who wait for the heartbeat."""
        return self.plan.by_digest and plan.rcpt_tos == self.plan.rcpt_tos

    def subject(self, sections: Sequence[Section]) -> str:
        """ASCII; it stands inside the encryption."""
        alarming = sum(one.is_alarming for one in sections)
        state = f"{alarming} to look at" if alarming else "all is well"
        return f"Heartbeat of {self.host}: {state}"

    def text(self, sections: Sequence[Section], zone: tzinfo) -> str:
        """All that it says, with LF."""
        return "\n".join((*self._head(zone), *_body(sections)))

    def postscript(self, zone: tzinfo) -> str:
        """The same, for the end of a digest that serves as heartbeat."""
        return "\n".join(("", f"State of {self.host}", *_body(self.sections(self.signs().last))))

    def prepare(self) -> None:
        """Raises OSError, ConfigError where it could not be kept that one went out: it would never end."""
        self._keep(self.signs())

    def sent(self, now: datetime, *, by_digest: bool = False) -> None:
        """One is in safe hands. Raises OSError, ConfigError."""
        signs = self.signs()
        is_own = not by_digest
        self._keep(SignsOfLife(now if is_own else signs.heartbeat, signs.digest if is_own else now))

    def signs(self) -> SignsOfLife:
        """What is known of the last ones; a file that cannot be read or understood tells nothing."""
        try:
            told = json.loads(self.file.read_bytes())
            return SignsOfLife(_time(told.get("heartbeat")), _time(told.get("digest")))
        except (OSError, ValueError, TypeError, AttributeError):
            return SignsOfLife()

    def _keep(self, signs: SignsOfLife) -> None:
        make_private(self.file.parent)
        told = {"heartbeat": signs.heartbeat, "digest": signs.digest}
        written = {name: moment.isoformat() for name, moment in told.items() if moment is not None}
        # Of one size, so that there is room for the next one where there was for this.
        replace_file(self.file, json.dumps(written).ljust(_SIZE).encode("ascii"))

    def _head(self, zone: tzinfo) -> Iterator[str]:
        # Also in the text: many readers show the subject from outside the encryption.
        yield f"{self.host} is alive, and mail from it arrives."
        last = self.signs().last
        if last is None:
            yield "This is the first one."
        else:
            yield f"The last sign of life was sent {local_time(last, zone)}."


def _time(text: str | None) -> datetime | None:
    # Without a zone it could not be compared with others.
    return None if text is None else datetime.fromisoformat(text).astimezone()


def _body(sections: Sequence[Section]) -> Iterator[str]:
    for section in sections:
        yield from ("", section.head, "")
        yield from section.lines or ("  nothing",)
    yield ""
