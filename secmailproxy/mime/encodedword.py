"""Raw 8-bit octets in a header field, written in ASCII as they should have been.

A signed header must be 7bit, and some clients and scripts write "Subject: Grüße" as it is. Only the words
that hold 8-bit octets are rewritten; every other octet of the field stays. An address in UTF-8 has no ASCII
form (RFC 6532) and stays as it is.

Standards: RFC 2047 sections 4 and 5 (encoded words), RFC 2231 section 4 (parameters).
"""

from __future__ import annotations

import binascii
import re
from urllib.parse import quote_from_bytes

ADDRESS_FIELDS = frozenset(
    f"{prefix}{name}"
    for prefix in ("", "resent-")
    for name in ("from", "sender", "to", "cc", "bcc", "reply-to")
)
_WORD_OCTETS = 42
"""Octets in one encoded word: 56 base64 digits, 68 characters in all (at most 75, RFC 2047 section 2)."""

_NEAR = 80
"""Octets in which white space is looked for the next word."""

_RAW_WORDS = re.compile(rb"(?<!\S)[^\s]*[\x80-\xff][^\s]*(?:\s+[^\s]*[\x80-\xff][^\s]*)*")
_RAW_PHRASE = re.compile(
    rb'"(?:[^"\\]|\\.)*[\x80-\xff](?:[^"\\]|\\.)*"'
    rb'|[^\s<>()\[\],;:@"]*[\x80-\xff][^\s<>()\[\],;:@"]*'
    rb'(?:[ \t]+[^\s<>()\[\],;:@"]*[\x80-\xff][^\s<>()\[\],;:@"]*)*(?![^\s<>()\[\],;:"]*@)',
    re.DOTALL,
)
_ADDRESS = re.compile(rb'<[^>]*>|"(?:[^"\\]|\\.)*"|[^\s<>,;:"]+@[^\s<>,;:"]+', re.DOTALL)
_RAW_PARAMETER = re.compile(
    rb'([A-Za-z0-9!#$&.^_`{|}~-]+)=(?:"((?:[^"\\]|\\.)*[\x80-\xff](?:[^"\\]|\\.)*)"|([^\s;"]*[\x80-\xff][^\s;"]*))',
    re.DOTALL,
)
_RAW_IN_WORD = re.compile(rb"=\?[^?\s]+\?[qQ]\?[^?\s]*[\x80-\xff][^?\s]*\?=")
_RAW = re.compile(rb"[\x80-\xff]")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def ascii_field(raw: bytes) -> bytes:
    """The field `raw` (name, colon, value, CRLF) with its 8-bit octets encoded, where they can be."""
    if raw.isascii():
        return raw
    name, colon, value = raw.partition(b":")
    lower = name.strip().lower().decode("latin-1")
    if lower.startswith("content-") and lower != "content-description":
        return name + colon + _RAW_PARAMETER.sub(_parameter, value)
    value = _RAW_IN_WORD.sub(_quoted_word, value)
    if lower in ADDRESS_FIELDS:
        return name + colon + _phrases(value)
    return name + colon + _RAW_WORDS.sub(_beside_words, value)


def _quoted_word(match: re.Match[bytes]) -> bytes:
    """An encoded word in which octets of its charset stand raw, with these written as they should be."""
    return _RAW.sub(lambda octet: b"=%02X" % octet[0][0], match[0])


def _beside_words(match: re.Match[bytes]) -> bytes:
    """Encoded words for raw ones. A blank between two encoded words is not shown, so it goes inside."""
    value = match.string
    before = b" " if value[max(0, match.start() - _NEAR) : match.start()].rstrip().endswith(b"?=") else b""
    after = b" " if value[match.end() : match.end() + _NEAR].lstrip().startswith(b"=?") else b""
    return _words(before + match[0] + after)


def _phrases(value: bytes) -> bytes:
    pieces, position = [], 0
    for match in _ADDRESS.finditer(value):
        pieces.append(_RAW_PHRASE.sub(_phrase, value[position : match.start()]))
        quoted = match[0].startswith(b'"')
        pieces.append(_RAW_PHRASE.sub(_phrase, match[0]) if quoted else match[0])
        position = match.end()
    pieces.append(_RAW_PHRASE.sub(_phrase, value[position:]))
    return b"".join(pieces)


def _phrase(match: re.Match[bytes]) -> bytes:
    phrase = match[0]
    if phrase.startswith(b'"'):
        phrase = _ESCAPED.sub(rb"\1", phrase[1:-1])
    return _words(phrase)


def _words(octets: bytes) -> bytes:
    """Encoded words for `octets`; folds inside become spaces, which is what unfolding makes of them."""
    return _joined(*_text(re.sub(rb"\r?\n", b"", octets)))


def encoded_words(text: str) -> bytes:
    """`text` as encoded words in UTF-8, on as many lines as it needs (CRLF)."""
    return _joined(text.encode("utf-8", "replace").decode("utf-8"), "utf-8")


def _joined(text: str, charset: str) -> bytes:
    return b"\r\n ".join(
        b"=?%s?B?%s?=" % (charset.encode(), binascii.b2a_base64(piece, newline=False))
        for piece in _pieces(text, charset)
    )


def _pieces(text: str, charset: str) -> list[bytes]:
    """`text` encoded, in pieces that end between characters (RFC 2047 section 5)."""
    pieces = [b""]
    for character in text:
        encoded = character.encode(charset)
        if len(pieces[-1]) + len(encoded) > _WORD_OCTETS:
            pieces.append(b"")
        pieces[-1] += encoded
    return pieces


def _parameter(match: re.Match[bytes]) -> bytes:
    value = match[3] if match[2] is None else _ESCAPED.sub(rb"\1", match[2])
    text, charset = _text(value)
    encoded = quote_from_bytes(text.encode(charset), safe="!#$&+-.^_`{|}~")
    return match[1] + f"*={charset}''{encoded}".encode()


def _text(octets: bytes) -> tuple[str, str]:
    """The text and its charset: UTF-8 where it is, else Latin-1, as readers guess."""
    try:
        return octets.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return octets.decode("latin-1"), "iso-8859-1"
