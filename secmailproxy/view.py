"""PURE. What is presented of one message, and what is known of a mailbox; `views` keeps both.

Standards: RFC 9051 section 7.5.2 (the FETCH items of an outline).
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass, field
from enum import IntEnum

from keystore.autocrypt import Heard
from keystore.model import Introduction
from secmailproxy.keywords import Marks

_SAID_CLOSED = re.compile(rb"[^:]+: not decrypted;")


class Kind(IntEnum):
    """How a message that is not plain is presented."""

    SIGNED = 1
    """The original octets after a verdict field; once verified, the octets are kept with the verdict."""
    OPAQUE = 2
    """The original octets after a verdict field: protected, too large to be looked into.

    Former versions took it for all that could not be opened, and so told the server of it.
    """
    SEALED = 3
    """Encrypted (or carrying a copy of our field) and not presented yet."""
    FORM = 4
    """A whole presented form of our own."""


@dataclass(frozen=True, slots=True)
class View:
    """What a client sees of one protected message.

    For OPAQUE only `verdict` counts. For FORM and SIGNED: `size` is the length of `octets`, which begin with
    `verdict`; `header` is its header section with the blank line; the rest are FETCH values (octets).
    """

    kind: Kind
    verdict: bytes | None = None
    size: int = 0
    header: bytes = b""
    imap_envelope: bytes = b""
    body: bytes = b""
    bodystructure: bytes = b""
    octets: bytes | None = None
    """None where only the outline was asked for."""
    came_encrypted: bool = field(default=False, compare=False)
    """Of a new form: somebody else encrypted the message, so its Message-ID is remembered. Not kept."""
    introduction: Introduction | None = field(default=None, compare=False)
    """Of a new form: the author's certificate, for the keystore. Not kept."""
    heard: Heard | None = field(default=None, compare=False)
    """Of a new form: what it says by Autocrypt, for the keystore. Not kept."""

    @property
    def stayed_closed(self) -> bool:
        """Whether the message is shown as it came because it could not be decrypted."""
        return self.kind is Kind.OPAQUE or _SAID_CLOSED.match(self.verdict or b"") is not None


@dataclass(slots=True)
class Mailbox:
    """What is known of one mailbox at one UIDVALIDITY; shared by all connections of this process."""

    id: int
    account: str
    name: bytes
    uidvalidity: int
    covered: bytes
    """The classified UIDs, as a sequence-set."""
    kinds: dict[int, Kind] = field(default_factory=dict)
    """Of every classified UID that is not plain."""
    marks: Marks = field(default_factory=Marks)
    """The keywords of those that have a view."""


def message_hash(octets: bytes) -> bytes:
    """The SHA-256 of a message as the server holds it."""
    return hashlib.sha256(octets).digest()


def pack_outline(view: View) -> bytes:
    """All of a view but its octets, to be sealed."""
    values = (view.verdict or b"", view.header, view.imap_envelope, view.body, view.bodystructure)
    return struct.pack(">Q5I", view.size, *map(len, values)) + b"".join(values)


def unpack_outline(octets: bytes) -> View:
    """What `pack_outline` was given, of a whole form, without its octets."""
    size, *lengths = struct.unpack_from(">Q5I", octets)
    at = struct.calcsize(">Q5I")
    values = []
    for length in lengths:
        values.append(octets[at : at + length])
        at += length
    verdict, header, imap_envelope, body, bodystructure = values
    return View(Kind.FORM, verdict, size, header, imap_envelope, body, bodystructure)
