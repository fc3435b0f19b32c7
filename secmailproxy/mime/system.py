"""A message of this machine about itself, whole inside a new message whose outside tells nothing. PURE.

The original is an embedded message: its header and body arrive as they were, and every client shows them. The
new message has its own protected header, with the original's subject inside.

    outside   From, To, Date, Message-ID, Subject, Auto-Submitted, loop mark, MIME fields: nothing else, ever
    inside    the same fields with the original's subject, then message/rfc822: the original

A message that somebody has encrypted already is not embedded: it is passed on as it is, with those fields of
its header that say who wrote it and what it is.

Standards: RFC 2046 section 5.2.1 (message/rfc822), RFC 6532 section 3.7 (message/global), RFC 9788, RFC 3834
section 5 (Auto-Submitted).
Security: this is imported by pipes that live for some hundredths of a second; it imports little.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from enum import Enum

from secmailproxy.errors import SecMailProxyError, UsageError
from secmailproxy.mime import header, transfer
from secmailproxy.mime.assemble import Made, made, openpgp_ciphertext
from secmailproxy.mime.canonical import clean_field, embedding, is_safe
from secmailproxy.mime.encodedword import ascii_field
from secmailproxy.mime.entity import Entity, parse
from secmailproxy.mime.protected import ProtectedMessage, Protects, field_name, hp_outer, protect_header

SUBJECT = b"Subject: Encrypted system mail\r\n"
LOOP_FIELD = "X-Loop"
_MARK = re.compile(rb"secmailproxy-[0-9a-f]{20}")
"""What an installation writes there (`forward.message.loop_mark`)."""
_SUBJECT_MOST = 500
_OUTSIDE = ("from", "to", "date", "message-id", "subject", "auto-submitted")
_STRUCTURE = frozenset(
    {
        "mime-version",
        "content-type",
        "content-transfer-encoding",
        "content-disposition",
        "content-description",
    }
)
_PASSED = frozenset(
    {*_OUTSIDE, "cc", "sender", "reply-to", "in-reply-to", "references", "content-id", *_STRUCTURE}
)
_OF_A_PART = _STRUCTURE | {"content-id"}
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_START = re.compile(
    rb"(?:This is an OpenPGP/MIME encrypted message \(RFC [0-9]{4} and 3156\)\r?\n)?\s*--\S+[ \t]*\r?\n"
)
"""Between the header and the first part: no text but the one that mail programs write there."""
_END = re.compile(rb"\r?\n--\S+--\s*")
_VERSION = re.compile(rb"\s*Version: 1\s*", re.IGNORECASE)
_ARMOR = re.compile(
    rb"\s*-----BEGIN PGP MESSAGE-----\r?\n"
    rb"(?:(?:Version|Comment|Charset|Hash): [ -~]{,80}\r?\n){,4}[ \t]*\r?\n"
    rb"([A-Za-z0-9+/]{4})[A-Za-z0-9+/]*={,2}\r?\n(?:[A-Za-z0-9+/]++={,2}\r?\n)*+"
    rb"(?:=[A-Za-z0-9+/]{4}\r?\n)?-----END PGP MESSAGE-----\s*"
)
_ENCRYPTED_TAGS = frozenset({1, 3, 18, 20})
"""Session keys, and the encrypted data that may stand without any (RFC 9580 section 5, LibrePGP)."""


class Carried(Enum):
    """How the original is embedded."""

    AS_IT_IS = "message/rfc822"
    """Its octets, with the encoding that they may claim."""
    FOR_A_SIGNATURE = "message/global"
    """In base64 where readers would change its line ends before they verify a signature over them."""
    NOT_AT_ALL = ""
    """Its body is the payload: for a message of our own, which nobody needs to see as an attachment."""


@dataclass(frozen=True, slots=True)
class SystemHeader:
    """What the outside of a system message says. Addresses must be checked: they stand there as they are."""

    author: str
    rcpt_tos: tuple[str, ...]
    loop: str = ""
    """The mark of this host; "" for none."""
    subject: bytes | None = SUBJECT
    """The field that stands outside, as `subject_field` makes it; None: the original's own, in clear."""


class OutsideTells(SecMailProxyError):
    """A product would show something that was not decided, and is not sent."""

    smtp_code = 554
    enhanced_status = "5.6.0"
    exit_status = 65


def subject_field(text: str) -> bytes:
    """The Subject field that says `text`. Raises UsageError for what cannot stand in one line of a header."""
    plain = " ".join(text.split())
    if not plain or not plain.isprintable() or len(plain.encode()) > _SUBJECT_MOST // 2:
        raise UsageError("the text of a subject is one line of 1 to 250 octets without control characters")
    return ascii_field(f"Subject: {plain}\r\n".encode())


def system_message(
    root: Entity, head: SystemHeader, *, date: str, message_id: str, carried: Carried = Carried.AS_IT_IS
) -> ProtectedMessage:
    """The payload and the outer fields for the message `root` (CRLF), ready to be encrypted.

    Parsing may have failed on it (`entity.parse_or_leaf`). Raises OutsideTells.
    """
    original = _subject(root)
    structure, content = _carried(root, carried)
    fields = [
        f"From: {head.author}\r\n".encode(),
        f"To: {', '.join(head.rcpt_tos)}\r\n".encode(),
        f"Date: {date}\r\n".encode("ascii"),
        f"Message-ID: {message_id}\r\n".encode("ascii"),
        original,
        b"Auto-Submitted: auto-generated\r\n",
        *([f"{LOOP_FIELD}: {head.loop}\r\n".encode("ascii")] if head.loop else []),
        b"MIME-Version: 1.0\r\n",
        *structure,
    ]
    shown = original if head.subject is None else head.subject
    ready = protect_header(
        fields, content, Protects.CIPHER, lambda name, raw: shown if name == "subject" else raw
    )
    _prove(ready, content, head)
    return ready


def _carried(root: Entity, carried: Carried) -> tuple[list[bytes], bytes]:
    """The fields that describe the payload, and its body."""
    if carried is Carried.NOT_AT_ALL:
        return [
            field.raw(root.octets) for field in root.fields if field.name.lower().startswith("content-")
        ], root.body
    octets = root.octets
    encoding, content = embedding(octets), octets
    kind = Carried.AS_IT_IS
    if carried is Carried.FOR_A_SIGNATURE and encoding == "binary":
        kind, encoding, content = carried, transfer.BASE64, transfer.encode_base64(octets)
    structure = (f"Content-Type: {kind.value}\r\n", f"Content-Transfer-Encoding: {encoding}\r\n")
    return [field.encode("ascii") for field in structure], content


def prove_outside(product: bytes, ready: ProtectedMessage) -> Entity:
    """The product taken apart again; its header is what was decided, and what its structure needs.

    Raises OutsideTells.
    """
    root = parse(product)
    fields = [field.raw(product) for field in root.fields]
    decided, rest = tuple(fields[: len(ready.outer)]), fields[len(ready.outer) :]
    if decided != ready.outer or not _STRUCTURE.issuperset(map(field_name, rest)):
        raise OutsideTells("the outer header is not what was decided")
    return root


def is_sealed(root: Entity) -> bool:
    """Whether the message is encrypted and nothing else: no word of it stands beside the ciphertext.

    Stricter than `assemble.made`, by which mail is read: what only looks encrypted is encrypted by us.
    """
    if made(root) is not Made.ENCRYPTED or embedding(root.octets) == "binary":
        return False  # of a bare CR or LF some servers make a line end, and of its line a field or a command
    if not root.is_multipart:
        return transfer.encoding_of(root) == transfer.BASE64 and transfer.is_base64(root.body)
    control, data = root.parts
    if transfer.encoding_of(data) == transfer.BASE64 and not transfer.is_base64(data.body):
        return False  # a decoder leaves out what is no digit, such as all words in Cyrillic
    if not all(field_name(one.raw(root.octets)) in _OF_A_PART for part in root.parts for one in part.fields):
        return False
    armor = _ARMOR.fullmatch(openpgp_ciphertext(root) or b"")
    return bool(
        armor
        and _tag(binascii.a2b_base64(armor[1])[0]) in _ENCRYPTED_TAGS
        and _VERSION.fullmatch(control.body)
        and _START.fullmatch(root.octets, root.body_start, control.start)
        and _END.fullmatch(root.octets, data.end, root.end)
    )


def _tag(first: int) -> int:
    """The kind of packet that begins with this octet (RFC 9580 section 4.2)."""
    return first & 0x3F if first & 0x40 else (first & 0x3C) >> 2


def passed_on(root: Entity, loop: str) -> bytes:
    """A sealed message with the mark of this host in front, and of its header what may be shown.

    The marks of other hosts stay: two that send to each other would never know theirs again.
    """
    return (f"{LOOP_FIELD}: {loop}\r\n".encode("ascii") if loop else b"") + header.filter_fields(
        root.octets, lambda field: field.name.lower() in _PASSED or _is_mark(field, root.octets)
    )


def _is_mark(field: header.Field, octets: bytes) -> bool:
    return field.named(LOOP_FIELD) and _MARK.fullmatch(field.value(octets).strip()) is not None


def _prove(ready: ProtectedMessage, content: bytes, head: SystemHeader) -> None:
    """Outside stand the fields of the list, each once; inside stands the original behind one header."""
    names = (*_OUTSIDE, *([LOOP_FIELD.lower()] if head.loop else []))
    outer = parse(b"".join(ready.outer) + b"\r\n")
    if tuple(field.name.lower() for field in outer.fields) != names or outer.body:
        raise OutsideTells("the outer header is not what was decided")
    inside = ready.payload.removesuffix(content)
    inner = parse(inside)
    listed = [field.raw(inside) for field in inner.fields if field.named("HP-Outer")]
    if inside + content != ready.payload or inner.body or listed != [hp_outer(raw) for raw in ready.outer]:
        raise OutsideTells("the message is not inside as it was")


def _subject(root: Entity) -> bytes:
    """The original's subject, for inside; the fixed one where it has none that fits into a field."""
    field = header.find(root, "Subject")
    if field is None:
        return SUBJECT
    _, colon, value = clean_field(field.raw(root.octets)).partition(b":")
    raw = ascii_field(b"Subject:" + value)
    fits = colon and len(raw) <= _SUBJECT_MOST and is_safe(raw) and not _CONTROL.search(raw)
    return raw if fits else SUBJECT
