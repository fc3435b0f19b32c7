"""Header protection on receipt: which fields of an unprotected message are shown, and what From means.

A payload whose Content-Type says `hp=` or `protected-headers=` brings its own header. With `hp` the fields
that people read come from inside only; outside ones that the sender did not list in HP-Outer were added on
the way (Received, List-*, Authentication-Results) and are appended. The older schemes protected some fields
only, so there every outside field without a counterpart inside stays.

Standards: RFC 9788 section 4, draft-autocrypt-lamps-protected-headers, RFC 9787 section 1.1.1.
Security: HP fields are read from the payload's root only; a From inside replaces the one outside only when it
is the same address or a signature is bound to it, which the caller decides. What servers write on the way is
shown from outside only: a sender could otherwise put the provider's own findings into the payload.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from keystore.model import lower_case
from secmailproxy.mime.address import address_list, is_plain
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.header import Field, decode_words, is_structural, unfold
from secmailproxy.mime.transfer import IDENTITY, encoding_of

_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\n)")
_HIDING = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\u2028\u2029\u202d\u202e]")
"""Decoded: line ends and controls, and what has a name read backwards."""
_ODD = re.compile(rb"\x00|\r(?!\n)")
_BLANK_BEFORE_COLON = re.compile(rb"^[!-9;-~]+[ \t]+:", re.MULTILINE)
_FIELD_NAME = re.compile(r"[!-9;-~]+")
_DATE = re.compile(
    rb"(?:[A-Za-z]{3},)?\s*\d{1,2}\s+[A-Za-z]{3}\s+\d{4}\s+\d{1,2}:\d\d(?::\d\d)?\s+"
    rb"(?:[+-]\d{4}|UT|UTC|GMT|Z|[ECMP][SD]T)(?:\s*\([^()]*\))?"
)
"""RFC 5322 section 3.3, with the zones and comments of section 4.3; at all else readers guess."""
_MBOX_LINE = re.compile(rb"From [!-~]+ +(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [ -~]{1,60}\r?\n")
"""Before the first field of a message that was in an mbox file."""
ORIGINAL_FIELD = "secmail-original"
"""Inside an own copy: the digest of what it was made of (see `kept`)."""
_FOR_PEOPLE = frozenset(
    {
        "subject",
        "sender",
        "reply-to",
        "to",
        "cc",
        "bcc",
        "in-reply-to",
        "references",
        "comments",
        "keywords",
        "followup-to",
        "mail-followup-to",
        "mail-reply-to",
    }
)
"""Fields that an `hp` message shows from inside only; From, Date and Message-ID stay if none is inside."""
_OF_SERVERS = frozenset(
    {
        "received",
        "received-spf",
        "return-path",
        "delivered-to",
        "envelope-to",
        "x-original-to",
        "authentication-results",
        "x-authentication-results",
    }
)
_OF_SERVERS_PREFIXES = (
    "arc-",
    "x-spam",
    "x-virus",
    "x-google-",
    "x-gm-",
    "x-microsoft-antispam",
    "x-ms-exchange-",
    "x-forefront-",
)
"""Fields in which servers say what they found (RFC 8601, RFC 8617) and how a message came (RFC 5321)."""


@dataclass(frozen=True, slots=True)
class ProtectedHeader:
    """The fields that a payload brings, as octets with their line ends."""

    fields: tuple[tuple[str, bytes], ...]
    """Names as written, with the whole field."""
    outer: frozenset[str]
    """Names in lower case that the sender put outside (HP-Outer)."""
    complete: bool
    """Whether all fields that the sender wrote are inside (`hp`), not just some (older schemes)."""

    def named(self, name: str) -> list[bytes]:
        """The whole fields of this name (lower case)."""
        return [raw for one, raw in self.fields if one.lower() == name]

    def names(self) -> frozenset[str]:
        """The names in lower case."""
        return frozenset(name.lower() for name, _ in self.fields)


def protected_header(payload: Entity) -> ProtectedHeader | None:
    """The header that the root of the cryptographic payload protects, None when it says of none."""
    complete = payload.content_type.param("hp") in {"clear", "cipher"}
    if not complete and payload.content_type.param("protected-headers") is None:
        return None
    kept = [field for field in payload.fields if _can_be_protected(field)]
    outer = frozenset(
        field.value(payload.octets).split(b":", 1)[0].strip().lower().decode("latin-1")
        for field in kept
        if field.named("hp-outer")
    )
    fields = tuple((field.name, field.raw(payload.octets)) for field in kept if not field.named("hp-outer"))
    return ProtectedHeader(fields, outer, complete)


def payload_header(payload: Entity) -> ProtectedHeader | None:
    """The header that the payload brings in any of the ways, None when it brings none."""
    wrapped = wrapped_message(payload)
    return protected_header(payload) if wrapped is None else wrapped_header(wrapped)


def wrapped_message(payload: Entity) -> Entity | None:
    """The message inside a payload that is message/rfc822 with forwarded=no (RFC 8551 section 3.1).

    One that is encoded is shown as it came, as an attached message: its fields are not read.
    """
    is_one = payload.is_rfc822 and payload.content_type.param("forwarded") == "no"
    if is_one and encoding_of(payload) in IDENTITY:
        return payload.parts[0]
    return None


def wrapped_header(message: Entity) -> ProtectedHeader:
    """The header of a wrapped message: all of it is protected."""
    fields = tuple(
        (field.name, field.raw(message.octets)) for field in message.fields if _can_be_protected(field)
    )
    return ProtectedHeader(fields, frozenset(), complete=True)


def _can_be_protected(field: Field) -> bool:
    name = field.name.lower()
    return is_field(field) and not is_structural(name) and not _is_of_servers(name) and name != ORIGINAL_FIELD


def _is_of_servers(name: str) -> bool:
    return name in _OF_SERVERS or name.startswith(_OF_SERVERS_PREFIXES)


def shown_fields(outer: Entity, protected: ProtectedHeader | None, *, inner_from: bool) -> list[bytes]:
    """The fields to present, each with its line end, structural ones excluded.

    With `inner_from` false the From of `outer` stands in the place of the protected one.
    """
    if protected is None:
        return [raw for _, raw in _outer_fields(outer)]
    outside_from = [raw for name, raw in _outer_fields(outer) if name == "from"]
    fields: list[bytes] = []
    for name, raw in protected.fields:
        if name.lower() == "from" and not inner_from:
            fields += outside_from
            outside_from = []
        else:
            fields.append(raw)
    inside = protected.names()
    fields += [raw for name, raw in _outer_fields(outer) if _is_addition(name, inside, protected)]
    return fields


def _is_addition(name: str, inside: frozenset[str], protected: ProtectedHeader) -> bool:
    if _is_of_servers(name):
        return True
    if name in inside or name in protected.outer:
        return False
    return not (protected.complete and name in _FOR_PEOPLE)


def _outer_fields(outer: Entity) -> Iterable[tuple[str, bytes]]:
    for field in outer.fields:
        if is_field(field) and not is_structural(field.name):
            yield field.name.lower(), field.raw(outer.octets)


def same_as_outside(outer: Entity, protected: ProtectedHeader) -> tuple[str, ...]:
    """Names of the protected fields that stand outside with the same value, once."""
    outside: dict[str, list[bytes]] = {}
    for name, raw in _outer_fields(outer):
        outside.setdefault(name, []).append(_meaning(raw))
    return tuple(name for name, raw in protected.fields if outside.get(name.lower()) == [_meaning(raw)])


def _meaning(raw: bytes) -> bytes:
    return b" ".join(raw.partition(b":")[2].split())


def is_cut_alike(message: Entity) -> bool:
    """Whether all readers find the same fields.

    A lone CR or NUL is the start of one for some; and a line that is no field is the end of the header for
    some, who then show what follows as the text. A blank before the colon makes it such a line for some. The
    line that mbox files begin with is known to all.
    """
    return _has_fields_alone(message) and not _BLANK_BEFORE_COLON.search(message.header)


def _has_fields_alone(message: Entity) -> bool:
    fields = message.fields
    if fields and message.start == 0 and _MBOX_LINE.fullmatch(fields[0].raw(message.octets)):
        fields = fields[1:]
    return not _ODD.search(message.header) and all(map(is_field, fields))


def author(message: Entity) -> str | None:
    """The sole author of a message that its owner writes; see `sole_author`."""
    return sole_author(fields_named(header_fields(message), "from")) if _has_fields_alone(message) else None


def sole_author(from_fields: Iterable[bytes]) -> str | None:
    """The addr-spec of From in lower case, None unless there is one field with one plain, valid address.

    `from_fields` are the whole fields. Groups, quoted local parts, control octets and garbage after the
    address give None: readers differ in what they show for those. So do encoded words in the place of the
    address, and control characters in one before it, at which some programs cut off what follows.
    """
    fields = list(from_fields)
    if len(fields) != 1 or _CONTROL.search(fields[0]):
        return None
    if _HIDING.search(decode_words(unfold(fields[0].partition(b":")[2]).strip())):
        return None
    addresses = address_list(fields[0].partition(b":")[2].strip())
    if len(addresses) != 1 or not addresses[0].is_mailbox or not addresses[0].valid:
        return None
    try:
        author = addresses[0].addr_spec.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return None
    return lower_case(author) if is_plain(author) and "=?" not in author else None


def sole_date(date_fields: Iterable[bytes]) -> datetime | None:
    """The time of Date, None unless there is one field that can be read. `date_fields` are whole."""
    fields = list(date_fields)
    if len(fields) != 1 or _CONTROL.search(fields[0]):
        return None
    from email.utils import parsedate_to_datetime  # it brings sockets along, and pipes look at no dates

    try:
        stated = fields[0].partition(b":")[2].strip()
        if not _DATE.fullmatch(stated):
            return None
        date = parsedate_to_datetime(stated.decode("ascii"))
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def fields_named(fields: Iterable[bytes], name: str) -> list[bytes]:
    """Those of the whole `fields` that are `name` (lower case)."""
    return [raw for raw in fields if raw.partition(b":")[0].strip(b" \t").lower() == name.encode()]


def header_fields(entity: Entity) -> list[bytes]:
    """Every field of the header, whole."""
    return [field.raw(entity.octets) for field in entity.fields]


def is_field(field: Field) -> bool:
    """Whether the span is a field that a header may have, not a stray line."""
    return field.value_start < field.end and bool(_FIELD_NAME.fullmatch(field.name))
