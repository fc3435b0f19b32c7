"""Inline OpenPGP: a message whose whole text is one armored block, encrypted or cleartext-signed.

It is an option of the account. Nothing is made of a block with words around it, in a part beside others, or
in HTML: what a reader would take for one message there was written by several people.

Standards: RFC 9580 sections 6 (armor) and 7 (cleartext signature framework), RFC 3676 (format=flowed).
Security: what is shown is what was signed or encrypted, and nothing else; the armor's own headers say nothing
(its Charset could be rewritten by anybody). Only charsets in which ASCII is ASCII are taken, since the
declared one is not signed: in UTF-7 or UTF-16 the same octets would read otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from secmailproxy.mime import header
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.transfer import BASE64, IDENTITY, QUOTED_PRINTABLE, decode, decoded_body, encoding_of

FIRST_OCTETS = 200
"""So much of a body tells whether a block begins it, with blank lines before it and in any encoding."""

_MESSAGE, _SIGNED = b"-----BEGIN PGP MESSAGE-----", b"-----BEGIN PGP SIGNED MESSAGE-----"
_SIGNATURE = b"-----BEGIN PGP SIGNATURE-----"
_ENDS = {_MESSAGE: b"-----END PGP MESSAGE-----", _SIGNATURE: b"-----END PGP SIGNATURE-----"}
_TYPES = ("text/plain", "application/pgp")
"""The latter is what mutt and others once called such a text."""
_ENCODINGS = IDENTITY | {QUOTED_PRINTABLE, BASE64}
_ARMOR_HEADER = re.compile(rb"(?:Hash|Charset): [ -~]*")
"""What may stand between the first line and the text (RFC 9580 section 7.1); older programs add a charset."""
_ASCII_CHARSETS = re.compile(
    r"(?:us-)?ascii|utf-?8|iso-8859-(?:\d|1\d)|windows-125\d|cp125\d|koi8-[ru]", re.IGNORECASE
)
_BLANKS = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class InlineText:
    """One armored block that is all of a message's text."""

    armored: bytes
    """A message, or the signature over `signed`."""
    signed: bytes | None
    """The text that is signed in clear (CRLF, no line end after the last line); None in a message."""
    charset: str
    """As declared, lower case; "" where it is not."""


def may_be_inline(root: Entity) -> bool:
    """Whether the header of a message leaves it open that its text is an armored block."""
    declared = [value.strip() for name, value in root.content_type.params if name.startswith("charset")]
    is_plain = root.content_type.full in _TYPES and len(declared) <= 1
    return is_plain and all(map(_ASCII_CHARSETS.fullmatch, declared))


def looks_inline(first_octets: bytes) -> bool:
    """Whether a body that starts with `first_octets`, in whatever transfer encoding, is worth a look."""
    decodings = (decode(first_octets, encoding) for encoding in ("7bit", QUOTED_PRINTABLE, BASE64))
    return any(decoded.lstrip(_BLANKS).startswith((_MESSAGE, _SIGNED)) for decoded in decodings)


def take_apart(root: Entity) -> InlineText | None:
    """The block that the text of the message `root` is, None where it is anything else, or more."""
    if not may_be_inline(root) or encoding_of(root) not in _ENCODINGS:
        return None
    if any(len(header.values(root, name)) > 1 for name in ("content-type", "content-transfer-encoding")):
        return None
    text = decoded_body(root).strip(_BLANKS)
    if b"\0" in text or b"\r" in text.replace(b"\r\n", b"\n"):
        return None
    lines = [line.rstrip(b" \t\r") for line in text.split(b"\n")]
    charset = (root.content_type.param("charset") or "").strip().lower()
    if lines[0] == _MESSAGE and _is_block(lines):
        return InlineText(b"\r\n".join(lines) + b"\r\n", None, charset)
    return _signed(lines, charset) if lines[0] == _SIGNED else None


def _is_block(lines: list[bytes]) -> bool:
    """Whether these are one block from the first line to the last."""
    return (
        len(lines) > 1
        and lines[-1] == _ENDS[lines[0]]
        and not any(line.startswith(b"-") for line in lines[1:-1])
    )


def _signed(lines: list[bytes], charset: str) -> InlineText | None:
    """RFC 9580 section 7. The lines have lost their trailing blanks already, as the signed text has."""
    try:
        start, end = lines.index(b""), lines.index(_SIGNATURE)
    except ValueError:
        return None
    if end < start or not all(map(_ARMOR_HEADER.fullmatch, lines[1:start])) or not _is_block(lines[end:]):
        return None
    text = lines[start + 1 : end]
    if any(line.startswith(b"-") and not line.startswith(b"- ") and line != b"-" for line in text):
        return None
    # A line of a single hyphen is an empty one, escaped: "- " without its trailing blank.
    shown = [line[2:] if line.startswith(b"-") else line for line in text]
    return InlineText(b"\r\n".join(lines[end:]) + b"\r\n", b"\r\n".join(shown), charset)


def as_entity(text: bytes, charset: str) -> bytes:
    """The text as a MIME entity (CRLF). Without a declared charset, or with ASCII, it is UTF-8 if it can be.

    Nothing else of the received Content-Type is kept: format=flowed could join lines that were signed apart.
    """
    body = text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if body and not body.endswith(b"\r\n"):
        body += b"\r\n"
    is_ascii = body.isascii()
    if charset in ("", "us-ascii", "ascii"):
        charset = "us-ascii" if is_ascii or not _is_utf8(body) else "utf-8"
    encoding = b"7bit" if is_ascii else b"8bit"
    head = b'Content-Type: text/plain; charset="%b"\r\nContent-Transfer-Encoding: %b\r\n\r\n'
    return head % (charset.encode("ascii"), encoding) + body


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
