"""From a protected message as the server holds it to the view that is fixed for it. Blocks; no storage.

Security: a locked key holder raises `KeystoreLocked`; every other failure is a property of the message, which
is then shown as it is (IMAP-22).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from keystore.errors import KeystoreError
from keystore.keystore import Keystore
from secmailproxy import inbound, verdict
from secmailproxy.confinement import confined
from secmailproxy.errors import SecMailProxyError
from secmailproxy.inbound import InboundLimits
from secmailproxy.logs import place
from secmailproxy.mime import entity, header, structure
from secmailproxy.mime.presented import storable
from secmailproxy.mime.subjectmark import marked
from secmailproxy.model import CryptoSummary, DecryptionState, Protection, Verdict
from secmailproxy.opening import OpensMessages
from secmailproxy.views import Kind, View

log = logging.getLogger(__name__)


_LOCKED_TRIES = 3
"""Messages that may fail for want of a key, in one go; each may have asked somebody for a passphrase."""


Bounds = Callable[[int], AbstractContextManager[object]]
"""What keeps the opening of a message of so many octets within its share of the process."""


class Job(NamedTuple):
    """A message (CRLF), and whether it was classified as signed only."""

    octets: bytes
    signed: bool


class Locked(NamedTuple):
    """Instead of a view: why it cannot be had now."""

    text: str
    by_memory: bool = False
    """Whether memory was refused."""


class ShortOfMemory(SecMailProxyError):
    """This process was refused memory."""


@dataclass(frozen=True, slots=True)
class Renderer:
    """Makes views with the keys of one keystore."""

    keystore: OpensMessages
    field_name: str
    """Of the verdict field of this installation."""
    clock: Callable[[], datetime]
    inline_pgp: bool = False
    """Whether texts that are one armored block are opened."""
    subject_mark: str = ""
    """The secret word before the Subject of what is rightly signed; nothing without."""

    def task(self, *jobs: Job) -> Rendering:
        """The same for another process, which has the keystore itself."""
        return Rendering(jobs, self.field_name, self.inline_pgp, self.subject_mark)

    def views(self, jobs: Sequence[Job], bounds: Bounds = nullcontext) -> list[View | Locked]:
        """The views of messages; after a few that cannot be had now, no more are tried.

        `bounds` is entered for each message, with its size.
        """
        outcomes: list[View | Locked] = []
        failures: list[Locked] = []
        for job in jobs:
            if len(failures) == _LOCKED_TRIES:
                outcomes.append(failures[-1])
                continue
            try:
                with bounds(len(job.octets)):
                    outcomes.append(self.view(job.octets, signed=job.signed))
            except ShortOfMemory as error:
                outcomes.append(Locked(str(error), by_memory=True))
            except (SecMailProxyError, KeystoreError) as error:
                failures.append(Locked(str(error)))
                outcomes.append(failures[-1])
        return outcomes

    def view(self, octets: bytes, *, signed: bool) -> View:
        """The view of one message (CRLF). Raises SecMailProxyError or KeystoreError for a while only.

        `signed`: it was classified as signed only.
        """
        try:
            return self._view(octets, signed=signed)
        except (SecMailProxyError, KeystoreError):
            raise
        except (MemoryError, OSError) as error:
            # Of this machine, and for a while; the view would be for ever.
            log.error("no resources to present a message", extra=place(error))
            kind = ShortOfMemory if isinstance(error, MemoryError) else SecMailProxyError
            raise kind("This machine is short of memory or files; try again.") from None
        except Exception as error:  # noqa: BLE001 - any; its text may be mail
            log.error("a message could not be presented", extra=place(error))
            return self.failed("internal error of secmailproxy", octets, signed=signed)

    def failed(self, reason: str, octets: bytes = b"", *, signed: bool = False) -> View:
        """The view of a message of which nothing is claimed."""
        summary = (
            CryptoSummary(protection=Protection.SIGNED, verdict=Verdict.UNACCEPTABLE, verdict_reason=reason)
            if signed
            else CryptoSummary(
                protection=Protection.ENCRYPTED,
                decryption=DecryptionState.FAILED,
                decryption_reason=reason,
            )
        )
        field = verdict.render(summary, self.field_name)
        try:
            return self._as_received(field, octets) if octets else View(Kind.OPAQUE, field)
        except Exception as error:  # noqa: BLE001 - any; what cannot be read at all is the server's to show
            log.error("a message could not be taken apart", extra=place(error))
            return View(Kind.OPAQUE, field)

    def _as_received(self, field: bytes, octets: bytes, *, deserved: bool = False) -> View:
        """The message as it came, kept like one that was opened: the server is asked for neither again.

        Else the next FETCH would tell it whether its message could be decrypted.
        """
        # Made storable first: a name with NUL in it is the field's name then.
        without = header.remove_fields(storable(octets), (self.field_name,))
        return form_of(field, marked(without, self.subject_mark, deserved=deserved))

    def _view(self, octets: bytes, *, signed: bool) -> View:
        limits = InboundLimits(inline_pgp=self.inline_pgp)
        unprotected = inbound.unprotect(
            octets, self.keystore, self.clock(), self.field_name, limits, octets_stay=signed
        )
        view = self._form(unprotected, octets, signed=signed)
        return replace(view, introduction=unprotected.introduction, heard=unprotected.heard)

    def _form(self, unprotected: inbound.Unprotected, octets: bytes, *, signed: bool) -> View:
        field = verdict.render(unprotected.summary, self.field_name)
        if signed:
            return replace(form_of(field, octets), kind=Kind.SIGNED)
        if inbound.is_untouched(octets, unprotected):
            return form_of(b"", octets)
        deserved = unprotected.summary.verdict is Verdict.VALID
        presented = unprotected.presented
        if presented is None:
            return self._as_received(field, octets, deserved=deserved)
        presented = marked(presented, self.subject_mark, deserved=deserved)
        is_open = unprotected.summary.decryption is DecryptionState.OK
        return replace(form_of(field, presented), came_encrypted=is_open and not unprotected.kept)


@dataclass(frozen=True, slots=True)
class Rendering:
    """Some views, as a task for another process."""

    jobs: tuple[Job, ...]
    field_name: str
    inline_pgp: bool = False
    subject_mark: str = ""

    def carry_out(self, keystore: Keystore) -> list[View | Locked] | None:
        """As `Renderer.views`, of this process alone: no message may take more of it than its share.

        None where a token may have to open one: this process is not logged in there.
        """
        if keystore.holders.relies_on_token:
            return None
        clock = partial(datetime.now, UTC)
        renderer = Renderer(keystore, self.field_name, clock, self.inline_pgp, self.subject_mark)
        return renderer.views(self.jobs, confined)


def form_of(field: bytes, presented: bytes) -> View:
    """The presented form of `presented` (CRLF) after the verdict field (may be empty)."""
    octets = field + presented
    message = entity.parse_or_leaf(octets)
    body, bodystructure = structure.structures(message)
    return View(
        Kind.FORM,
        field,
        len(octets),
        message.header,
        structure.imap_envelope(message),
        body,
        bodystructure,
        octets,
    )
