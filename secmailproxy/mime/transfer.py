"""Content transfer encodings, both ways. What is written here survives relays that re-wrap at 76 columns.

Standards: RFC 2045 section 6 (6.7 quoted-printable, 6.8 base64), RFC 3156 section 5 ("From ", blanks).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

from secmailproxy.mime import header
from secmailproxy.mime.entity import Entity

BASE64 = "base64"
QUOTED_PRINTABLE = "quoted-printable"
IDENTITY = frozenset({"7bit", "8bit", "binary"})

_COMMENT = re.compile(rb"\([^()]*\)")
_LINE_OCTETS, _LINE_DIGITS = 57, 76
"""Octets in a base64 line, and the digits that stand for them."""
_BASE64_DIGITS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_NOT_BASE64 = bytes(set(range(256)) - set(_BASE64_DIGITS))
_ASCII = bytes(range(128))
_WORTH_READING = 64
"""Octets that quoted-printable may cost more than base64: who looks at the source can read a short text."""
# Tried at the first of a run of blanks only: from each of them, a long run would cost its square.
_BLANKS_BEFORE_LINE_END = re.compile(rb"(?<![ \t])[ \t]++(?=\r?\n|\Z)")
_SAFE_LINE = re.compile(rb"(?!From |\.\Z)(?:[ -<>-~\t]{0,75}[!-<>-~])?")
"""A whole line that quoted-printable leaves as it is."""
_TO_QUOTE = {octet: f"={octet:02X}" for octet in range(256) if not (32 <= octet < 127 or octet == 9)} | {
    61: "=3D"
}
_GROUPS = re.compile(rb"[^=]{2,}")
"""Base64 digits that stand for something, between padding."""
_PIECE = 64 * 1024
"""Octets of quoted-printable that are decoded at once: what is made on the way is many times as large."""
_SHORT_RUN = 8
"""Blanks at a line end that are taken away one by one."""
_LONE_CR = re.compile(rb"\r(?!\n)")
_BARE_LF = re.compile(rb"(?<!\r)\n")
_NOT_TEXT = re.compile(rb"[\x00\r\x80-\xff]")
_LONG_LINE = re.compile(rb"[^\n]{77}[^\r\n]|[^\r\n]{77}")
_SOFT_BREAK_AT_END = re.compile(rb"(?:=\r?\n)*=(?:\r?\n)?\Z")
_STRAY = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r?\n|\Z)")
"""An equals sign that begins no escape: read as itself."""


def encoding_of(entity: Entity) -> str:
    """The entity's Content-Transfer-Encoding in lower case, without comments; "7bit" when there is none."""
    value = header.value(entity, "Content-Transfer-Encoding")
    if value is None:
        return "7bit"
    return _COMMENT.sub(b"", value).split(b";")[0].strip().lower().decode("latin-1") or "7bit"


def decoded_body(entity: Entity) -> bytes:
    """The body of a leaf with its transfer encoding undone; as `decode` does it."""
    return decode(entity.body, encoding_of(entity))


def encode_base64(octets: bytes) -> bytes:
    """`octets` in lines of 76 with CRLF after each."""
    return b"".join(
        binascii.b2a_base64(octets[at : at + _LINE_OCTETS], newline=False) + b"\r\n"
        for at in range(0, len(octets), _LINE_OCTETS)
    )


def encode_quoted_printable(octets: bytes) -> bytes:
    """`octets`, lines ended by CRLF, in lines of at most 76. A bare CR or LF is encoded, nothing is lost."""
    return b"\r\n".join(
        line if _SAFE_LINE.fullmatch(line) else _quoted_line(line) for line in octets.split(b"\r\n")
    )


def encode_text(octets: bytes) -> tuple[str, bytes]:
    """The encoding for text, and the text in it: quoted-printable unless base64 is shorter by 64 octets.

    So nothing grows by more than base64 does, 78/57 (37 percent), and a few octets.
    """
    most = _base64_size(len(octets)) + _WORTH_READING
    if len(octets) + 2 * len(octets.translate(None, _ASCII)) <= most:
        quoted = encode_quoted_printable(octets)
        if len(quoted) <= most:
            return QUOTED_PRINTABLE, quoted
    return BASE64, encode_base64(octets)


def _base64_size(octets: int) -> int:
    """What `encode_base64` makes of so many octets."""
    return -(-octets // 3) * 4 + -(-octets // _LINE_OCTETS) * 2


def is_regular(body: bytes, encoding: str) -> bool:
    """Whether `body`, in base64 or quoted-printable, is as relays leave it that decode and encode it anew.

    Base64 in lines of 76 and nothing else in them; quoted-printable in lines of at most 76 without a soft
    line break at its end, which some take for a part of the boundary.
    """
    if encoding == BASE64:
        return _is_regular_base64(body)
    return not _LONG_LINE.search(body) and not _SOFT_BREAK_AT_END.search(body[-3:])


def is_base64(body: bytes, *, whole: bool = True) -> bool:
    """Whether there is nothing but base64 and white space in `body`; if `whole`, with all of its digits."""
    digits = body.translate(None, b" \t\r\n")
    if digits.translate(None, _BASE64_DIGITS):
        return False
    return not whole or (len(digits) % 4 == 0 and b"=" not in digits[:-2] and not digits.endswith(b"==="))


def _is_regular_base64(body: bytes) -> bool:
    lines = body.split(b"\r\n")
    if body.translate(None, _BASE64_DIGITS) != b"\r\n" * (len(lines) - 1):
        return False
    if not lines[-1]:
        lines.pop()
    last = len(lines[-1]) if lines else _LINE_DIGITS
    return set(map(len, lines[:-1])) <= {_LINE_DIGITS} and 0 < last <= _LINE_DIGITS


def _quoted_line(line: bytes) -> bytes:
    quoted = line.decode("latin-1").translate(_TO_QUOTE).encode("ascii")
    if quoted.endswith((b" ", b"\t")):
        quoted = quoted[:-1] + b"=%02X" % quoted[-1]
    return _folded(b"=2E" if quoted == b"." else quoted)


def _quoted(octet: re.Match[bytes]) -> bytes:
    return b"=%02X" % octet[0][0]


def _folded(quoted: bytes) -> bytes:
    """A quoted line with soft line breaks, none of them inside an escape."""
    pieces, at = [], 0
    while len(quoted) - at > 76:
        cut = at + 75
        while b"=" in quoted[cut - 2 : cut]:
            cut -= 1
        pieces.append(quoted[at:cut] + b"=")
        at = cut
    pieces.append(quoted[at:])
    first, *others = pieces
    return b"\r\n".join(
        (_disarmed(first, b"From "), *(_disarmed(piece, b"From ", b"--") for piece in others))
    )


def _disarmed(line: bytes, *starts: bytes) -> bytes:
    """An encoded line that nobody takes for the beginning of a message, or for a boundary where none was."""
    if not line.startswith(starts):
        return line
    return b"=%02X" % line[0] + (b"" if len(line) <= 74 else b"=\r\n") + line[1:]


def decode(body: bytes, encoding: str) -> bytes:
    """The octets that `body` stands for; of an unknown encoding, and where it breaks off, what there is."""
    if encoding == QUOTED_PRINTABLE:
        return b"".join(binascii.a2b_qp(_readable(piece)) for piece in _line_by_line(body))
    if encoding == BASE64:
        return _decode_base64(body)
    return body


def _regular(body: bytes) -> bytes:
    """Quoted-printable without what is not allowed in it: blanks at line ends, lone CR, stray "=".

    A lone CR comes first: once the blank after it is gone, it would pass for half of a line end.
    """
    return _STRAY.sub(b"=3D", _BLANKS_BEFORE_LINE_END.sub(b"", _LONE_CR.sub(b"=0D", body)))


def _readable(body: bytes) -> bytes:
    """What decodes to the same as `_regular(body)`, for a decoder that copies a lone CR or a stray "=".

    Without regular expressions where a sender chooses how often they would match. The decoder takes "=" and
    CR for a soft line break whatever follows, and "==" for one stray "="; and with the blanks behind it gone,
    a lone CR would pass for half of a line end.
    """
    if b"\r " in body or b"\r\t" in body or body.count(b"=\r") != body.count(b"=\r\n"):
        # NUL stands for line ends meanwhile; one that was there is written in another way.
        body = body.replace(b"\0", b"=00").replace(b"\r\n", b"\0")
        body = body.replace(b"\r", b"=0D").replace(b"\0", b"\r\n")
    body = _without_blanks_at_line_ends(body)
    # Twice, because in a row every other one is passed over.
    return body.replace(b"==", b"=3D=").replace(b"==", b"=3D=")


def _without_blanks_at_line_ends(body: bytes) -> bytes:
    for _ in range(_SHORT_RUN):
        before = len(body)
        for line_end in (b"\r\n", b"\n"):
            body = body.replace(b" " + line_end, line_end).replace(b"\t" + line_end, line_end)
        if len(body) == before:
            return body.rstrip(b" \t")
    return _BLANKS_BEFORE_LINE_END.sub(b"", body)


def _line_by_line(body: bytes) -> Iterator[bytes]:
    """`body` in pieces of whole lines."""
    at = 0
    while at < len(body):
        end = body.find(b"\n", at + _PIECE) + 1 or len(body)
        yield body[at:end]
        at = end


def _decode_base64(body: bytes) -> bytes:
    digits = body.translate(None, _NOT_BASE64)
    if b"=" not in digits:
        return _decode_group(digits)
    decoded = bytearray()
    for group in _GROUPS.finditer(digits):
        decoded += _decode_group(group[0])
    return bytes(decoded)


def _decode_group(digits: bytes) -> bytes:
    rest = len(digits) % 4
    if rest == 0:
        return binascii.a2b_base64(digits)
    return binascii.a2b_base64(digits[: len(digits) - 1] if rest == 1 else digits + b"=" * (4 - rest))


def repair_quoted_printable(body: bytes) -> bytes:
    """The same content as `body`, already quoted-printable, made safe and regular: no blanks at line ends,
    no long line, no 8-bit octet, no "From " at the start of a line, no soft line break at the end.
    """
    quoted = _BARE_LF.sub(b"=0A=\r\n", _regular(body).replace(b"=\n", b"=\r\n"))
    quoted = _SOFT_BREAK_AT_END.sub(b"", quoted)
    if quoted.endswith((b" ", b"\t")):
        quoted = quoted[:-1] + b"=%02X" % quoted[-1]
    return b"\r\n".join(_folded(_NOT_TEXT.sub(_quoted, line)) for line in quoted.split(b"\r\n"))


def repair_base64(body: bytes) -> bytes:
    """The same digits as `body`, already base64, in lines of 76, without what is no base64."""
    digits = body.translate(None, _NOT_BASE64)
    return b"".join(digits[at : at + _LINE_DIGITS] + b"\r\n" for at in range(0, len(digits), _LINE_DIGITS))
