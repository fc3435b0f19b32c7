"""ENVELOPE, BODY and BODYSTRUCTURE of a message, from the same spans that its parts are served from.

Dovecot 2.3 is the reference: for a message with CRLF line ends the octets are those that it would answer.

Standards: RFC 3501 section 7.4.2, RFC 9051 section 7.5.2.
"""

from __future__ import annotations

import re

from secmailproxy.mime import header
from secmailproxy.mime.address import Address, address_list
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
_NO_PART = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0'


def imap_envelope(entity: Entity) -> bytes:
    """The ENVELOPE of a message (root or embedded), parentheses included."""
    sender = _address_string(_addresses(entity, "from"))
    items = [
        _nstring(_last(entity, "date"), fold=True),
        _human(_last(entity, "subject")),
        sender,
        _address_string(_addresses(entity, "sender"), missing=sender),
        _address_string(_addresses(entity, "reply-to"), missing=sender),
        _address_string(_addresses(entity, "to")),
        _address_string(_addresses(entity, "cc")),
        _address_string(_addresses(entity, "bcc")),
        _nstring(_last(entity, "in-reply-to"), fold=True),
        _nstring(_last(entity, "message-id"), fold=True),
    ]
    return b"(" + b" ".join(items) + b")"


def body(entity: Entity) -> bytes:
    """The BODY item (no extension fields), parentheses included."""
    return _structure(entity, extended=False)


def bodystructure(entity: Entity) -> bytes:
    """The BODYSTRUCTURE item with all extension fields, parentheses included."""
    return _structure(entity, extended=True)


def _structure(entity: Entity, *, extended: bool) -> bytes:
    if entity.is_multipart:
        return b"(" + _multipart(entity, extended=extended) + b")"
    return b"(" + _leaf(entity, extended=extended) + b")"


def _multipart(entity: Entity, *, extended: bool) -> bytes:
    parts = b"".join(_structure(part, extended=extended) for part in entity.parts)
    if not parts:
        parts = _NO_PART + (b" NIL NIL NIL NIL)" if extended else b")")
    _, subtype, params = media_type(_content(entity, "content-type") or b"")
    result = parts + b" " + _string(subtype)
    if extended:
        result += b" " + _parameters(params) + _common_extension(entity)
    return result


def _leaf(entity: Entity, *, extended: bool) -> bytes:
    declared = _content(entity, "content-type")
    maintype, subtype, params = _PLAIN if declared is None else media_type(declared)
    plain = entity.start == 0 and _is_plain_7bit(entity, (maintype, subtype, params))
    encoding = _encoding(entity)
    if plain:
        (maintype, subtype, params), encoding = _PLAIN, b'"7bit"'
    text = not entity.is_rfc822 and maintype.lower() == b"text"
    items = [
        b'"message" "rfc822"' if entity.is_rfc822 else _string(maintype) + b" " + _string(subtype),
        _parameters(params, charset=text),
        _nstring(_content(entity, "content-id"), fold=True),
        _nstring(_content(entity, "content-description"), fold=True),
        encoding,
        b"%d" % (entity.end - entity.body_start),
    ]
    lines = b"%d" % entity.octets.count(b"\n", entity.body_start, entity.end)
    if text:
        items.append(lines)
    elif entity.is_rfc822:
        embedded = entity.parts[0]
        items += [imap_envelope(embedded), _structure(embedded, extended=extended), lines]
    result = b" ".join(items)
    if extended:
        result += b" " + _nstring(_content(entity, "content-md5"), fold=True) + _common_extension(entity)
    return result


def _is_plain_7bit(entity: Entity, kind: tuple[bytes, bytes, RawParameters]) -> bool:
    """Whether Dovecot keeps no structure for this message, but one flag: it forgets the letters' case."""
    maintype, subtype, params = kind
    return (
        (maintype.lower(), subtype.lower()) == (b"text", b"plain")
        and [(name.lower(), value.lower()) for name, value in params] in ([], [(b"charset", b"us-ascii")])
        and _encoding(entity).lower() == b'"7bit"'
        and not any(_contents(entity, name) for name in _BEYOND_PLAIN)
    )


def _encoding(entity: Entity) -> bytes:
    for value in _contents(entity, "content-transfer-encoding"):
        lexer = Lexer(value)
        try:
            lexer.skip()
            token = lexer.token()
        except Broken:
            continue
        if token and lexer.at_end():
            return _string(token)
    return b'"7bit"'


def _common_extension(entity: Entity) -> bytes:
    """Disposition, language and location."""
    disposition = b"NIL"
    for value in _contents(entity, "content-disposition"):
        token, params = token_and_parameters(value)
        if token is not None:
            disposition = b"(" + _string(token) + b" " + _parameters(params) + b")"
            if params:
                break
    languages = _languages(entity)
    language = b"(" + b" ".join(map(_string, languages)) + b")" if languages else b"NIL"
    location = _nstring(_content(entity, "content-location"), fold=True)
    return b" " + disposition + b" " + language + b" " + location


def _languages(entity: Entity) -> list[bytes]:
    found = (_language_tags(value) for value in _contents(entity, "content-language"))
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


def _contents(entity: Entity, name: str) -> list[bytes]:
    """Values of a Content-* field; a message that does not say it is MIME has none."""
    if entity.is_message and not any(
        field.named("mime-version") or field.named("content-type") for field in entity.fields
    ):
        return []
    return [_full_value(entity, field) for field in header.find_all(entity, name)]


def _content(entity: Entity, name: str) -> bytes | None:
    return next(iter(_contents(entity, name)), None)


def _full_value(entity: Entity, field: Field) -> bytes:
    """The value as Dovecot reads it: first blanks dropped (but one, if all are), folds kept as LF."""
    value = field.value(entity.octets).replace(b"\r\n", b"\n")
    return value.lstrip(b" \t") or value[1:]


def _last(entity: Entity, name: str) -> bytes | None:
    fields = header.find_all(entity, name)
    return _full_value(entity, fields[-1]) if fields else None


def _addresses(entity: Entity, name: str) -> tuple[Address, ...]:
    """Of all fields of the name; Dovecot joins them."""
    return tuple(
        address
        for field in header.find_all(entity, name)
        for address in address_list(_full_value(entity, field))
    )


def _address_string(addresses: tuple[Address, ...], missing: bytes = b"NIL") -> bytes:
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
