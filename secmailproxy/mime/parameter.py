"""Content-Type and the parameters of MIME fields.

Standards: RFC 2045 section 5.1, RFC 2231 (continued and extended parameters).
"""

from __future__ import annotations

import functools
import itertools
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from secmailproxy.mime.lexical import Broken, Lexer

_BARE_PROTOCOL = re.compile(rb";\s*protocol\s*=\s*([A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+)", re.IGNORECASE)
_SHORT = 512
_MOST = 1000
"""Parameters, or what cannot be read as one; a header section has room for a hundred times as many."""
_CONTINUED = re.compile(rb"([^*]*)\*(?:([0-9]*)(\*?))?")

RawParameters = tuple[tuple[bytes, bytes], ...]
"""Names as written, values without quotes. Continued ones are joined; extended ones are still
percent-encoded, under a name that ends in "*"."""


@dataclass(frozen=True, slots=True)
class ContentType:
    """A media type in lower case, with its parameters (names in lower case, values decoded to text)."""

    maintype: str = "text"
    subtype: str = "plain"
    params: tuple[tuple[str, str], ...] = ()

    @property
    def full(self) -> str:
        """Such as "text/plain"."""
        return f"{self.maintype}/{self.subtype}"

    def param(self, name: str) -> str | None:
        """The value of the first parameter `name`, or None."""
        return next((value for key, value in self.params if key == name), None)


def media_type(value: bytes) -> tuple[bytes, bytes, RawParameters]:
    """The raw type, subtype and parameters of a Content-Type value.

    As Dovecot reads it: without a slash there is only a type, and what goes wrong after the slash leaves
    neither.
    """
    lexer = Lexer(value)
    try:
        lexer.skip()
        maintype = lexer.token()
    except Broken:
        maintype = lexer.partial
        lexer.position = len(value)
    if not lexer.accept(b"/"):
        return (
            (b"application", b"octet-stream", ()) if maintype.lower() == b"multipart" else (maintype, b"", ())
        )
    try:
        lexer.skip()
        subtype = lexer.token()
    except Broken:
        return b"", b"", ()
    if not maintype or not subtype or lexer.peek() not in {b"", b";"}:
        return b"", b"", ()
    return maintype, subtype, _parameters(lexer)


def token_and_parameters(value: bytes) -> tuple[bytes | None, RawParameters]:
    """The first token of a value such as Content-Disposition, None when it is broken, and its parameters."""
    lexer = Lexer(value)
    try:
        lexer.skip()
        token = lexer.token()
    except Broken:
        return None, ()
    return token, _parameters(lexer)


def content_type(value: bytes) -> ContentType:
    """A Content-Type value for decisions; a broken one is application/octet-stream."""
    return _read_again(value) if len(value) <= _SHORT else _content_type(value)


@functools.lru_cache(maxsize=1024)
def _read_again(value: bytes) -> ContentType:
    """The same few values come in every message, and each message is parsed more than once."""
    return _content_type(value)


def _content_type(value: bytes) -> ContentType:
    maintype, subtype, raw = media_type(value)
    if not maintype or not subtype:
        return ContentType("application", "octet-stream")
    return ContentType(
        maintype.decode("latin-1").lower(),
        subtype.decode("latin-1").lower(),
        tuple(_decoded(name, _with_slash(name, octets, value)) for name, octets in raw),
    )


def _with_slash(name: bytes, octets: bytes, value: bytes) -> bytes:
    """A protocol that is written without the quotes that its slash demands, as some senders do."""
    if name.lower() != b"protocol" or b"/" in octets:
        return octets
    bare = _BARE_PROTOCOL.search(value)
    return bare[1] if bare else octets


def _decoded(name: bytes, octets: bytes) -> tuple[str, str]:
    """A parameter as text (RFC 2231 section 4)."""
    if not name.endswith(b"*") or octets.count(b"'") < 2:
        return name.decode("latin-1").lower(), octets.decode("latin-1")
    charset, _, encoded = octets.split(b"'", 2)
    try:
        decoded = unquote_to_bytes(encoded).decode(charset.decode("ascii") or "us-ascii", "replace")
    except (LookupError, UnicodeError, ValueError):
        decoded = unquote_to_bytes(encoded).decode("latin-1")
    return name[:-1].decode("latin-1").lower(), decoded


def _parameters(lexer: Lexer) -> RawParameters:
    plain: list[tuple[bytes, bytes]] = []
    continued: list[tuple[bytes, int, bool, bytes]] = []
    for _ in range(_MOST):
        if lexer.at_end():
            break
        try:
            parameter = _parameter(lexer)
        except Broken:
            lexer.position += 1
            continue
        name, value = parameter
        match = _CONTINUED.fullmatch(name)
        if match is None:
            plain.append(parameter)
        elif name == match[1] + b"*":
            continued.append((match[1], 0, True, value))
        else:
            continued.append((match[1], int(match[2] or b"0"), match[3] == b"*", value))
    return tuple(plain) + _joined(sorted(continued, key=lambda item: item[:2]))


def _parameter(lexer: Lexer) -> tuple[bytes, bytes]:
    if not lexer.accept(b";"):
        raise Broken
    lexer.skip()
    name = lexer.token()
    if not lexer.accept(b"="):
        raise Broken
    try:
        lexer.skip()
        if lexer.peek() == b'"':
            return name, lexer.quoted_string()
        if lexer.peek() == b"=":
            return name, _unquoted_word(lexer)
        return name, lexer.token()
    except Broken:
        lexer.position -= 1
        raise


def _unquoted_word(lexer: Lexer) -> bytes:
    """An encoded word without quotes, which some senders write: name==?utf-8?b?...?=."""
    match = re.compile(rb"[^; \t\r\n]*").match(lexer.value, lexer.position)
    assert match is not None  # the pattern matches the empty string
    lexer.position = match.end()
    return match[0]


def _joined(continued: list[tuple[bytes, int, bool, bytes]]) -> RawParameters:
    """Continued parameters put together, in the order of their sorted names."""
    joined: list[tuple[bytes, bytes]] = []
    for _, items in itertools.groupby(continued, key=lambda item: item[0].lower()):
        group = list(items)
        if [item[1] for item in group] == list(range(len(group))):
            joined.append(_whole(group))
        else:
            joined += [(item[0] + b"*%d" % item[1] + (b"*" if item[2] else b""), item[3]) for item in group]
    return tuple(joined)


def _whole(group: list[tuple[bytes, int, bool, bytes]]) -> tuple[bytes, bytes]:
    name = group[0][0]
    if not any(item[2] for item in group):
        return name, b"".join(item[3] for item in group)
    start = b"" if group[0][2] else b"''"
    pieces = [item[3] if item[2] else item[3].replace(b"%", b"%25") for item in group]
    return name + b"*", start + b"".join(pieces)
