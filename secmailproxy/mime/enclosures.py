"""What a message gets on its way beside what its sender wrote: certificates, as fields and as a part.

A value only. `mime.compare` takes it into account octet for octet, so that nothing else can have been added.

Standards: RFC 3156 section 7 (application/pgp-keys), RFC 9788 section 2 (what stands inside).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secmailproxy.mime.canonical import CanonicalEntity
from secmailproxy.mime.protected import field_name

MOVES_WITH_ITS_BODY = "content-"
"""Fields that start so describe a body, and go where it goes (RFC 2045 section 9)."""


@dataclass(frozen=True, slots=True)
class Enclosures:
    """Fields end in CRLF each and are ready to be signed."""

    fields: tuple[bytes, ...] = ()
    """Stand outside and inside; those of the same name that the sender wrote make room for them."""
    inside: tuple[bytes, ...] = ()
    """Stand in an encrypted payload only."""
    part: bytes = b""
    """A MIME entity to attach; b"" is none."""

    @property
    def names(self) -> frozenset[str]:
        """The names of the fields, in lower case."""
        return frozenset(map(field_name, self.fields))


NOTHING = Enclosures()


def with_part(
    fields: Sequence[bytes], body: bytes, part: bytes, boundary: str
) -> tuple[tuple[bytes, ...], bytes]:
    """The header fields and body of a multipart/mixed: what was there before, then `part`.

    `boundary` must occur in neither.
    """
    stay = [raw for raw in fields if not _moves(raw)]
    first = CanonicalEntity(tuple(raw for raw in fields if _moves(raw)), body)
    mark = b"--" + boundary.encode("ascii")
    kind = b'Content-Type: multipart/mixed; boundary="%s"\r\n' % boundary.encode("ascii")
    pieces = (mark + b"\r\n", first.octets, b"\r\n" + mark + b"\r\n", part, b"\r\n" + mark + b"--\r\n")
    return (*stay, kind), b"".join(pieces)


def _moves(raw: bytes) -> bool:
    return field_name(raw).startswith(MOVES_WITH_ITS_BODY)
