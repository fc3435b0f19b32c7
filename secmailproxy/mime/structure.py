"""ENVELOPE, BODY and BODYSTRUCTURE of a message, from the same spans that its parts are served from.

Dovecot 2.3 is the reference: for a message with CRLF line ends the octets are those that it would answer.

Standards: RFC 3501 section 7.4.2, RFC 9051 section 7.5.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from secmailproxy.mime.address import address_list
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.header import Field
from secmailproxy.mime.lexical import Broken, Lexer
from secmailproxy.mime.parameter import RawParameters, media_type, token_and_parameters

_ESCAPES_MOST = 4
"""With more quotes and backslashes than this a literal is shorter than a quoted string."""
_FOLD_BEFORE_BLANK = re.compile(rb"[\r\n](?=[ \t\r\n]|\Z)")
_LINE_END = re.compile(rb"[\r\n]")
_NOT_PLAIN = re.compile(rb'[\x00\t\r\n"\\\x80-\xff]|  |^ | $')
_BLANKS = re.compile(rb"[ \t]+")

_PLAIN: tuple[bytes, bytes, RawParameters] = (b"text", b"plain", ())
_BEYOND_PLAIN = (
    "content-id",
    "content-description",
    "content-md5",
    "content-disposition",
    "content-language",
    "content-location",
)
_OF_ENVELOPE = frozenset("date subject from sender reply-to to cc bcc in-reply-to message-id".split())
_NO_PART = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0'


Values = Mapping[str, list[bytes]]
"""Header values by lower-case field name, in order."""


def imap_envelope(entity: Entity) -> bytes:
    """The ENVELOPE of a message (root or embedded), parentheses included."""
    values: dict[str, list[bytes]] = {}
    for field in entity.fields:
        name = field.name.lower()
        if name in _OF_ENVELOPE:
            values.setdefault(name, []).append(_full_value(entity, field))
    sender = _address_string(values, "from")
    items = [
        _nstring(_last(values, "date"), fold=True),
        _human(_last(values, "subject")),
        sender,
        _address_string(values, "sender", missing=sender),
        _address_string(values, "reply-to", missing=sender),
        _address_string(values, "to"),
        _address_string(values, "cc"),
        _address_string(values, "bcc"),
        _nstring(_last(values, "in-reply-to"), fold=True),
        _nstring(_last(values, "message-id"), fold=True),
    ]
    return b"(" + b" ".join(items) + b")"


def body(entity: Entity) -> bytes:
    """The BODY item (no extension fields), parentheses included."""
    return structures(entity)[0]


def bodystructure(entity: Entity) -> bytes:
    """The BODYSTRUCTURE item with all extension fields, parentheses included."""
    return structures(entity)[1]


def structures(entity: Entity) -> tuple[bytes, bytes]:
    """BODY and BODYSTRUCTURE, which together cost little more than one."""
    short, extended = _multipart(entity) if entity.is_multipart else _leaf(entity)
    return b"(" + short + b")", b"(" + extended + b")"


def _multipart(entity: Entity) -> tuple[bytes, bytes]:
    values = _mime_values(entity)
    parts = [structures(part) for part in entity.parts]
    if not parts:
        parts = [(_NO_PART + b")", _NO_PART + b" NIL NIL NIL NIL)")]
    _, subtype, params = media_type(_first(values, "content-type") or b"")
    name = b" " + _string(subtype)
    extension = b" " + _parameters(params) + _common_extension(values)
    return (
        b"".join(short for short, _ in parts) + name,
        b"".join(extended for _, extended in parts) + name + extension,
    )


def _leaf(entity: Entity) -> tuple[bytes, bytes]:
    values = _mime_values(entity)
    declared = _first(values, "content-type")
    maintype, subtype, params = _PLAIN if declared is None else media_type(declared)
    encoding = _encoding(values)
    if entity.start == 0 and _is_plain_7bit(values, (maintype, subtype, params), encoding):
        (maintype, subtype, params), encoding = _PLAIN, b'"7bit"'
    text = not entity.is_rfc822 and maintype.lower() == b"text"
    items = [
        b'"message" "rfc822"' if entity.is_rfc822 else _string(maintype) + b" " + _string(subtype),
        _parameters(params, charset=text),
        _nstring(_first(values, "content-id"), fold=True),
        _nstring(_first(values, "content-description"), fold=True),
        encoding,
        b"%d" % (entity.end - entity.body_start),
    ]
    lines = b"%d" % entity.octets.count(b"\n", entity.body_start, entity.end)
    short = extended = b" ".join(items)
    if text:
        short = extended = short + b" " + lines
    elif entity.is_rfc822:
        embedded = entity.parts[0]
        head = short + b" " + imap_envelope(embedded) + b" "
        short, extended = (head + inner + b" " + lines for inner in structures(embedded))
    extended += b" " + _nstring(_first(values, "content-md5"), fold=True) + _common_extension(values)
    return short, extended


def _is_plain_7bit(values: Values, kind: tuple[bytes, bytes, RawParameters], encoding: bytes) -> bool:
    """Whether Dovecot keeps no structure for this message, but one flag: it forgets the letters' case."""
    maintype, subtype, params = kind
    return (
        (maintype.lower(), subtype.lower()) == (b"text", b"plain")
        and [(name.lower(), value.lower()) for name, value in params] in ([], [(b"charset", b"us-ascii")])
        and encoding.lower() == b'"7bit"'
        and not any(name in values for name in _BEYOND_PLAIN)
    )


def _encoding(values: Values) -> bytes:
    for value in values.get("content-transfer-encoding", ()):
        lexer = Lexer(value)
        try:
            lexer.skip()
            token = lexer.token()
        except Broken:
            continue
        if token and lexer.at_end():
            return _string(token)
    return b'"7bit"'


def _common_extension(values: Values) -> bytes:
    """Disposition, language and location."""
    disposition = b"NIL"
    for value in values.get("content-disposition", ()):
        token, params = token_and_parameters(value)
        if token is not None:
            disposition = b"(" + _string(token) + b" " + _parameters(params) + b")"
            if params:
                break
    languages = _languages(values)
    language = b"(" + b" ".join(map(_string, languages)) + b")" if languages else b"NIL"
    location = _nstring(_first(values, "content-location"), fold=True)
    return b" " + disposition + b" " + language + b" " + location


def _languages(values: Values) -> list[bytes]:
    found = (_language_tags(value) for value in values.get("content-language", ()))
    return next((tags for tags in found if tags), [])


def _language_tags(value: bytes) -> list[bytes]:
    tags: list[bytes] = []
    lexer = Lexer(value)
    try:
        lexer.skip()
        while not lexer.at_end():
            tags.append(lexer.atom())
            if not lexer.accept(b","):
                break
            lexer.skip()
    except Broken:
        pass
    return tags


def _parameters(params: RawParameters, *, charset: bool = False) -> bytes:
    written = [_string(name) + b" " + _string(value) for name, value in params]
    if charset and not any(name.lower() == b"charset" for name, _ in params):
        written.append(b'"charset" "us-ascii"')
    return b"(" + b" ".join(written) + b")" if written else b"NIL"


def _mime_values(entity: Entity) -> Values:
    """Values of the Content-* fields; a message that does not say it is MIME has none."""
    values: dict[str, list[bytes]] = {}
    is_mime = not entity.is_message
    for field in entity.fields:
        name = field.name.lower()
        if name.startswith("content-"):
            values.setdefault(name, []).append(_full_value(entity, field))
            is_mime = is_mime or name == "content-type"
        elif name == "mime-version":
            is_mime = True
    return values if is_mime else {}


def _first(values: Values, name: str) -> bytes | None:
    found = values.get(name)
    return found[0] if found else None


def _last(values: Values, name: str) -> bytes | None:
    found = values.get(name)
    return found[-1] if found else None


def _full_value(entity: Entity, field: Field) -> bytes:
    """The value as Dovecot reads it: first blanks dropped (but one, if all are), folds kept as LF."""
    value = field.value(entity.octets).replace(b"\r\n", b"\n")
    return value.lstrip(b" \t") or value[1:]


def _address_string(values: Values, name: str, missing: bytes = b"NIL") -> bytes:
    """The addresses of all fields of the name; Dovecot joins them."""
    addresses = [address for value in values.get(name, ()) for address in address_list(value)]
    if not addresses:
        return missing
    return (
        b"("
        + b"".join(
            b"(%b %b %b %b)"
            % (_human(one.name), _nstring(one.route), _nstring(one.mailbox), _nstring(one.domain))
            for one in addresses
        )
        + b")"
    )


def _nstring(octets: bytes | None, *, fold: bool = False) -> bytes:
    if octets is None:
        return b"NIL"
    if fold:
        octets = _LINE_END.sub(b" ", _FOLD_BEFORE_BLANK.sub(b"", octets))
    return _string(octets)


def _string(octets: bytes) -> bytes:
    """A quoted string, or a literal for 8-bit, line ends and many escapes."""
    escapes = octets.count(b'"') + octets.count(b"\\")
    if escapes > _ESCAPES_MOST or b"\r" in octets or b"\n" in octets or not octets.isascii():
        return b"{%d}\r\n%b" % (len(octets), octets)
    if escapes:
        octets = octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"' + octets + b'"'


def _human(octets: bytes | None) -> bytes:
    """Text for people: one blank for each run of white space, no line ends; a literal when changed."""
    if octets is None:
        return b"NIL"
    if not _NOT_PLAIN.search(octets):
        return b'"' + octets + b'"'
    cleaned = _BLANKS.sub(b" ", _LINE_END.sub(b"", octets)).strip(b" ").replace(b"\x00", b"\x80")
    return b"{%d}\r\n%b" % (len(cleaned), cleaned) if cleaned else b'""'
