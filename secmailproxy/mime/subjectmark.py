"""The secret word in the Subject: put before that of a message rightly signed, and taken out elsewhere. PURE.

A word in the subject is a claim that any sender could write who knows it. So it is taken out of presented
subjects that do not deserve it, and out of what leaves: answers would tell it to everybody.

Standards: RFC 2047 (encoded words), RFC 5322 section 2.2.3 (folding).
"""

from __future__ import annotations

import re

from secmailproxy.mime import header
from secmailproxy.mime.encodedword import encoded_words
from secmailproxy.mime.header import Field


def marked(message: bytes, mark: str, *, deserved: bool) -> bytes:
    """The message (CRLF) with `mark` (plain characters, or empty) before its Subject where it is `deserved`.

    Wherever else it stands in the Subject, in any case or encoding, it is taken out.
    """
    if not mark:
        return message
    end = header.section_end(message, 0, len(message)) or len(message)
    subjects = [field for field in header.scan(message, 0, end) if field.named("subject")]
    first = b" " + mark.encode() if deserved else b""
    if not subjects and first:
        return b"Subject:" + first + b"\r\n" + message
    pieces: list[bytes] = []
    at = 0
    for field in subjects:
        value = _of(field, message)
        pieces += [message[at : field.value_start], _joined(first, without(value, mark))]
        at, first = field.value_start + len(value), b""
    return b"".join([*pieces, message[at:]])


def without(value: bytes, mark: str) -> bytes:
    """A Subject's value without `mark`; as it is where it does not hold it."""
    word = re.compile(re.escape(mark) + r"\s?", re.IGNORECASE)
    text = header.decode_words(value)
    if not word.search(text):
        return value
    while word.search(text):
        text = word.sub("", text)
    return b" " + (text.strip().encode() if _is_plain(text) else encoded_words(text.strip()))


def _of(field: Field, message: bytes) -> bytes:
    return message[field.value_start : field.end].rstrip(b"\r\n")


def _joined(first: bytes, value: bytes) -> bytes:
    """The mark on a line of its own: the line after it is no longer than it was."""
    if not first or not value.strip():
        return first + (b"" if first else value)
    return first + b"\r\n" + (value if value[:1] in (b" ", b"\t") else b" " + value)


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and len(text) < 900 and "=?" not in text
