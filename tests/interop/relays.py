"""What servers on the way do to messages, as functions of octets; mailing lists too. PURE."""

from __future__ import annotations

import re
from collections.abc import Callable

Relay = Callable[[bytes], bytes]
"""A message (CRLF) as it goes on."""

_BASE64 = re.compile(
    rb"(content-transfer-encoding: base64\r\n(?:[^\r\n]+\r\n)*\r\n)([a-z0-9+/=\r\n]+?)(\s*)(?=\r\n--|\Z)",
    re.IGNORECASE,
)
_FIELD = re.compile(rb"[^\r\n]+\r\n(?:[ \t][^\r\n]*\r\n)*")
_DELIMITER = re.compile(rb"\r\n--[^\r\n]{8,}\r\n")
TRACE = (
    b"Received: from mx.example.org by lists.example.net; Mon, 02 Mar 2026 10:00:05 +0100\r\n"
    b"DKIM-Signature: v=1; a=rsa-sha256; d=example.net; s=x; h=from:to; bh=AAAA;\r\n\tb=AAAA\r\n"
    b"List-Id: Digging <digging.lists.example.net>\r\n"
    b"List-Unsubscribe: <mailto:digging-leave@lists.example.net>\r\nPrecedence: list\r\n"
)
FOOTER = b"_______________________________________________\r\ndigging mailing list\r\n"


def header_and_body(message: bytes) -> tuple[bytes, bytes]:
    """The header section, with the line end of its last field, and the body."""
    head, _, body = message.partition(b"\r\n\r\n")
    return head + b"\r\n", body


def rewrapped(width: int) -> Relay:
    """Base64 bodies at any depth in lines of `width`."""

    def wrap(found: re.Match[bytes]) -> bytes:
        octets = found[2].replace(b"\r\n", b"")
        lines = [octets[start : start + width] for start in range(0, len(octets), width)]
        return found[1] + b"\r\n".join(lines) + found[3]

    return lambda message: _BASE64.sub(wrap, message)


def in_lf(message: bytes) -> bytes:
    """As a Unix program hands it on."""
    return message.replace(b"\r\n", b"\n")


def crlf_again(message: bytes) -> bytes:
    """To LF and back, a bare LF too."""
    return in_lf(message).replace(b"\n", b"\r\n")


def without_trailing_blanks(message: bytes) -> bytes:
    return re.sub(rb"[ \t]+(?=\r\n|\Z)", b"", message)


def refolded(width: int, fold: bytes) -> Relay:
    """The outer header in lines of at most `width` where it has blanks, folded by CRLF and `fold`."""

    def refold(message: bytes) -> bytes:
        head, body = header_and_body(message)
        fields = (
            _folded(re.sub(rb"\r\n[ \t]*", b" ", field[:-2]), width, fold) for field in _FIELD.findall(head)
        )
        return b"".join(fields) + b"\r\n" + body

    return refold


def _folded(field: bytes, width: int, fold: bytes) -> bytes:
    lines = [b""]
    for word in field.split(b" "):
        if len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] += b" " + word if lines[-1] else word
    return (b"\r\n" + fold).join(lines) + b"\r\n"


def from_escaped(message: bytes) -> bytes:
    """As mbox writes it."""
    return re.sub(rb"(?m)^From ", b">From ", message)


def downgraded(message: bytes) -> bytes:
    """For a next hop without 8BITMIME: every 8-bit octet of the body in quoted-printable."""
    head, body = header_and_body(message)
    quoted = re.sub(rb"[\x80-\xff]", lambda found: b"=%02X" % ord(found[0]), body)
    return head + b"\r\n" + quoted


def broken_at_998(message: bytes) -> bytes:
    """As sendmail breaks longer lines."""
    return b"".join(
        line if len(line) <= 1000 else line[:998] + b"!\r\n " + line[998:]
        for line in message.splitlines(True)
    )


def traced(message: bytes) -> bytes:
    return TRACE + message


def subject_marked(message: bytes) -> bytes:
    """The outer subject begins with the name of a list."""
    return re.sub(rb"(?m)^Subject: ", b"Subject: [digging] ", message, count=1)


def ended_by_blank_lines(message: bytes) -> bytes:
    return message + b"\r\n\r\n"


def footer_in_text(message: bytes) -> bytes:
    """At the end of the first text: before the delimiter line that ends it."""
    start = message.index(b"Content-Type: text/plain")
    found = _DELIMITER.search(message, start)
    assert found
    return message[: found.start()] + b"\r\n" + FOOTER + message[found.start() :]


def footer_as_part(message: bytes) -> bytes:
    """The message in a multipart/mixed with the footer beside it, as Mailman 3 does."""
    head, body = header_and_body(message)
    fields = _FIELD.findall(head)
    inner = [field for field in fields if field.lower().startswith(b"content-")]
    outer = [field for field in fields if field not in inner]
    mark = b"--===============list=="
    return (
        b"".join(outer)
        + b'Content-Type: multipart/mixed; boundary="===============list=="\r\n\r\n'
        + mark + b"\r\n" + b"".join(inner) + b"\r\n" + body + b"\r\n"
        + mark + b"\r\nContent-Type: text/plain\r\nContent-Disposition: inline\r\n\r\n" + FOOTER
        + mark + b"--\r\n"
    )  # fmt: skip


def footer_at_the_end(message: bytes) -> bytes:
    """After everything: in a multipart, after its last delimiter line."""
    return message + FOOTER
