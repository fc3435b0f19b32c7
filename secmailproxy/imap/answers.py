"""What FETCH items of a protected message are asked of the server, and what the client is told. PURE.

A FORM answers every content item from the presented form; only metadata comes from the server. OPAQUE
messages are the server's own octets after one verdict field of fixed length: their items are asked for with
origins shifted, and sizes are corrected by a constant. SIGNED messages look the same, but what their verdict
speaks of comes from the octets that were verified, never from the server again.

Standards: RFC 9051 sections 6.4.5, 7.5.2; RFC 3516 (BINARY); RFC 8970 (PREVIEW).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from secmailproxy.imap.grammar import (
    FetchItem,
    FetchResponse,
    GrammarError,
    attribute_key,
    literal,
    literal8,
    nstring,
    string_value,
)
from secmailproxy.imap.mask import Mask, token_of
from secmailproxy.mime import entity
from secmailproxy.mime.binary import binary
from secmailproxy.mime.preview import preview
from secmailproxy.mime.section import Section, section
from secmailproxy.views import Kind, View

_METADATA = frozenset(
    "UID FLAGS INTERNALDATE MODSEQ EMAILID THREADID SAVEDATE X-GM-MSGID X-GM-THRID X-GM-LABELS".split()
)
_SECTIONED = frozenset({"BODY[]", "BINARY[]", "BINARY.SIZE[]"})
_CONTENT = _SECTIONED | frozenset(
    "RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE RFC822 RFC822.HEADER RFC822.TEXT PREVIEW".split()
)
# Sets \Seen by the server's own rules and returns next to nothing (RFC 9051 section 6.4.5).
_TOUCH = b"BODY[HEADER.FIELDS (X-None)]"


def unknown_item(items: Sequence[FetchItem]) -> str | None:
    """The first item that we cannot answer exactly, if any."""
    for item in items:
        if item.name not in _METADATA and (
            item.name not in _CONTENT or (item.peek and item.name not in _SECTIONED)
        ):
            return item.name
    return None


def has_content(items: Sequence[FetchItem]) -> bool:
    """Whether any item depends on the octets of a message."""
    return any(item.name in _CONTENT for item in items)


def _sets_seen(item: FetchItem) -> bool:
    return not item.peek and item.name in {"BODY[]", "BINARY[]", "RFC822", "RFC822.TEXT"}


def _wants_header_of_root(item: FetchItem) -> bool:
    return item.name == "RFC822.HEADER" or (
        item.name == "BODY[]" and not item.path and item.text.startswith("HEADER")
    )


def needs_octets(items: Sequence[FetchItem]) -> bool:
    """Whether a FORM needs its whole octets, more than the outline."""
    return any(
        item.name in {"RFC822", "RFC822.TEXT", "BINARY[]", "BINARY.SIZE[]", "PREVIEW"}
        or (item.name == "BODY[]" and not _wants_header_of_root(item))
        for item in items
    )


def _holds_verdict(item: FetchItem, field_name: bytes) -> bool:
    """Whether the value begins with (or is) the verdict field."""
    if item.name in {"RFC822", "RFC822.HEADER"}:
        return True
    if item.name not in _SECTIONED or item.path:
        return False
    if item.text in {"", "HEADER"}:
        return True
    named = _names(item, field_name)
    return (item.text == "HEADER.FIELDS" and named) or (item.text == "HEADER.FIELDS.NOT" and not named)


def _is_mime_of_first(item: FetchItem) -> bool:
    """Whether this is BODY[1.MIME], the header of the message itself where that has one part only."""
    return item.name == "BODY[]" and item.path == (1,) and item.text == "MIME"


def _names(item: FetchItem, field_name: bytes) -> bool:
    return any(name.lower() == field_name.lower() for name in item.names)


def kept_octets(items: Sequence[FetchItem], field_name: bytes) -> tuple[FetchItem, ...]:
    """The items that a SIGNED message answers from the octets that were verified.

    The rest (size, structures, lists of other header fields) is the server's, so that a list of messages
    needs no body; it claims nothing.
    """
    return tuple(item for item in items if item.name in _CONTENT and not _from_server(item, field_name))


def _from_server(item: FetchItem, field_name: bytes) -> bool:
    if item.name in {"RFC822.SIZE", "ENVELOPE", "BODY", "BODYSTRUCTURE", "PREVIEW"}:
        return True
    return not item.path and item.text == "HEADER.FIELDS" and not _names(item, field_name)


def _spell(item: FetchItem, partial: tuple[int, int] | None) -> bytes:
    if item.name not in _SECTIONED:
        return item.name.encode() + (b" (LAZY)" if item.lazy else b"")
    head = item.name[:-2].encode() + (b".PEEK[" if item.peek else b"[")
    return head + item.spelling + b"]" + (b"<%d.%d>" % partial if partial is not None else b"")


def _echo(item: FetchItem) -> bytes:
    """How an answer names the item: the client's own spelling, the origin without the length."""
    if item.name not in _SECTIONED:
        return item.name.encode()
    origin = b"<%d>" % item.partial[0] if item.partial else b""
    return item.name[:-2].encode() + b"[" + item.spelling + b"]" + origin


def _list(items: Sequence[bytes]) -> bytes:
    return b"(" + b" ".join(dict.fromkeys(items)) + b")"


def _keep_metadata(response: FetchResponse, *, with_uid: bool) -> list[bytes]:
    return [
        key.encode("latin-1") + b" " + value
        for key, value in response.attributes.items()
        if key in _METADATA and (key != "UID" or with_uid)
    ]


def _respond(number: int, attributes: Sequence[bytes]) -> bytes:
    return b"* %d FETCH (%b)\r\n" % (number, b" ".join(attributes)) if attributes else b""


def leftover(response: FetchResponse, *, with_uid: bool) -> bytes:
    """The news in an answer to our own question: flags that the client has not asked for but must hear of."""
    if "FLAGS" not in response.attributes:
        return b""
    return _respond(response.number, _keep_metadata(response, with_uid=with_uid))


def form_request(items: Sequence[FetchItem]) -> bytes:
    """The item list to ask of the server for FORM messages: metadata, the UID, and a touch for \\Seen."""
    asked = [item.name.encode() for item in items if item.name in _METADATA]
    touch = [_TOUCH] if any(map(_sets_seen, items)) else []
    return _list([b"UID", *asked, *touch])


def form_answer(response: FetchResponse, items: Sequence[FetchItem], view: View, *, with_uid: bool) -> bytes:
    """The response for a FORM message: the server's metadata and our content."""
    attributes = _keep_metadata(response, with_uid=with_uid)
    attributes += [_echo(i) + b" " + _form_value(i, view) for i in items if i.name in _CONTENT]
    return _respond(response.number, attributes)


def _form_value(item: FetchItem, view: View) -> bytes:
    match item.name:
        case "RFC822.SIZE":
            return b"%d" % view.size
        case "ENVELOPE":
            return view.imap_envelope
        case "BODY":
            return view.body
        case "BODYSTRUCTURE":
            return view.bodystructure
        case "RFC822":
            return literal(_octets(view))
        case "RFC822.HEADER":
            return literal(view.header)
        case "RFC822.TEXT":
            return literal(_octets(view)[len(view.header) :])
        case "BINARY[]":
            return _binary_value(item, view)
        case "BINARY.SIZE[]":
            return b"%d" % len(binary(entity.parse_or_leaf(_octets(view)), item.path) or b"")
        case "PREVIEW":
            return nstring(preview(entity.parse_or_leaf(_octets(view))).encode("utf-8", "replace"))
        case _:
            return _section_value(item, view)


def _octets(view: View) -> bytes:
    assert view.octets is not None, "needs_octets() was not asked"
    return view.octets


def _section_value(item: FetchItem, view: View) -> bytes:
    value: bytes | None
    match item.path, item.text:
        case (), "":
            value = _octets(view)
        case (), "HEADER":
            value = view.header
        case (), "TEXT":
            value = _octets(view)[len(view.header) :]
        case _:
            # Parsing costs more than all the rest, and reading a message whole needs none.
            message = entity.parse_or_leaf(view.header if _wants_header_of_root(item) else _octets(view))
            value = section(message, Section(item.path, item.text, item.names))
    return b"NIL" if value is None else literal(_cut(value, item.partial))


def _binary_value(item: FetchItem, view: View) -> bytes:
    value = binary(entity.parse_or_leaf(_octets(view)), item.path)
    if value is None:
        return b"NIL"
    if view.kind is Kind.SIGNED and view.verdict is not None:
        # Decoding can bring to light what the server has hidden from the mask.
        keep = 0 if item.path else len(view.verdict)
        field_name = view.verdict.partition(b":")[0]
        value = value[:keep] + Mask(token_of(field_name)).struck(value[keep:])
    return literal8(_cut(value, item.partial))


def _cut(value: bytes, partial: tuple[int, int] | None) -> bytes:
    return value if partial is None else value[partial[0] : partial[0] + partial[1]]


def signed_request(items: Sequence[FetchItem], field_name: bytes) -> bytes:
    """The item list to ask of the server for SIGNED messages."""
    ours = kept_octets(items, field_name)
    asked = [_spell(item, item.partial) for item in items if item not in ours]
    return _list([b"UID", *asked, *([_TOUCH] if any(map(_sets_seen, ours)) else [])])


def signed_answer(
    response: FetchResponse,
    items: Sequence[FetchItem],
    view: View | None,
    request: PrefixRequest,
    *,
    with_uid: bool,
) -> bytes:
    """The response for a SIGNED message; `view` may be None when `kept_octets` names no item."""
    ours = kept_octets(items, request.field_name)
    attributes = _keep_metadata(response, with_uid=with_uid)
    for item in items:
        if item.name not in _CONTENT:
            continue
        if item in ours:
            assert view is not None, "kept_octets() was not asked"
            value = _form_value(item, view)
        else:
            value = request.value(item, response, None)
        attributes.append(_echo(item) + b" " + value)
    return _respond(response.number, attributes)


@dataclass(frozen=True, slots=True)
class PrefixRequest:
    """What to ask of the server for OPAQUE messages, and how to answer the client from it."""

    items: tuple[FetchItem, ...]
    field_name: bytes
    prefix_length: int
    masked_name: bytes
    """How the server's answers name the field (`mask`), and so how it is asked for."""

    def _upstream(self, item: FetchItem) -> FetchItem:
        if not _names(item, self.field_name):
            return item
        names = tuple(self.masked_name if n.lower() == self.field_name.lower() else n for n in item.names)
        spelling = item.text.encode() + b" (" + b" ".join(names) + b")"
        path = b"".join(b"%d." % number for number in item.path)
        return replace(item, names=names, spelling=path + spelling)

    @property
    def octets(self) -> bytes:
        """The item list; the UID is always asked for."""
        # Whether there is one part only, the server's own structure tells best.
        shape = [b"BODY"] if any(map(_is_mime_of_first, self.items)) else []
        asked = (_spell(self._upstream(item), self._shifted(item)) for item in self.items)
        return _list([b"UID", *asked, *shape])

    def _shifted(self, item: FetchItem) -> tuple[int, int] | None:
        if _is_mime_of_first(item):
            return None
        if item.partial is None or not _holds_verdict(item, self.field_name):
            return item.partial
        origin, length = item.partial
        upstream_origin = max(0, origin - self.prefix_length)
        upstream_length = origin + length - self.prefix_length - upstream_origin
        # Wholly inside the verdict field: one octet is asked for all the same, so that \Seen is set.
        return (upstream_origin, max(1, upstream_length))

    def answer(self, response: FetchResponse, verdict: bytes | None, *, with_uid: bool) -> bytes:
        """The response for the client. Raises `GrammarError` when the server's answer lacks something."""
        attributes = _keep_metadata(response, with_uid=with_uid)
        for item in self.items:
            if item.name in _CONTENT:
                attributes.append(_echo(item) + b" " + self.value(item, response, verdict))
        return _respond(response.number, attributes)

    def value(self, item: FetchItem, response: FetchResponse, verdict: bytes | None) -> bytes:
        """The value of one item, as the client shall get it."""
        shifted = self._shifted(item)
        key = item.name
        if key in _SECTIONED:
            origin = shifted[0] if shifted is not None else None
            names = self._upstream(item).names
            key = attribute_key(item.path, item.text, names, origin, of=key[:-2].encode())
        raw = response.attributes.get(key)
        if raw is None and item.path:
            return b"NIL"
        if raw is None:
            raise GrammarError(f"the server left out {item.name}")
        if item.name == "RFC822.SIZE" or (item.name == "BINARY.SIZE[]" and not item.path):
            if not raw.isdigit():
                raise GrammarError(f"{item.name} is no number")
            # Of a message that somebody has expunged, Dovecot says 0, and NIL of its content.
            return b"%d" % (int(raw) + self.prefix_length) if int(raw) else raw
        if _is_mime_of_first(item) and verdict is not None:
            return self._mime_of_first(item, response, verdict, string_value(raw) or b"")
        if not _holds_verdict(item, self.field_name):
            return raw
        assert verdict is not None, "OPAQUE messages have one"
        value = string_value(raw)
        if value is None:
            return raw
        if item.partial is None:
            return literal8(verdict + value)
        origin, length = item.partial
        head = verdict[origin : origin + length]
        return literal8(head + value[: length - len(head)])

    def _mime_of_first(self, item: FetchItem, response: FetchResponse, verdict: bytes, value: bytes) -> bytes:
        shape = response.attributes.get("BODY")
        if shape is None:
            raise GrammarError("the server left out BODY")
        many_parts = shape.startswith(b"((")
        return literal8(_cut(value if many_parts else verdict + value, item.partial))
