"""By what SORT and THREAD order messages, read from their header fields as Dovecot reads them. PURE.

Standards: RFC 5256 sections 2.1, 2.2 and 3; RFC 5957 (DISPLAYFROM, DISPLAYTO).
"""

from __future__ import annotations

import calendar
import email.utils
from dataclasses import dataclass
from datetime import datetime

from secmailproxy.mime import header
from secmailproxy.mime.address import Address, address_list
from secmailproxy.mime.basesubject import base_subject
from secmailproxy.searchable import decode_text, fold

_ADDRESSES = frozenset({"FROM", "TO", "CC", "DISPLAYFROM", "DISPLAYTO"})
CRITERIA = _ADDRESSES | {"ARRIVAL", "DATE", "SIZE", "SUBJECT"}
Value = int | bytes
_HEADER_MOST = 256 * 1024
_VALUE_MOST = 64 * 1024
"""Octets of a header, and of one field, that are looked at: hostile mail has fields of megabytes."""
_ADDRESS_MOST = 8 * 1024
"""Of a list of addresses, of which the first counts."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """What is known of one message. `number` is what the client knows it by: UID or sequence number."""

    number: int
    header: bytes
    """The fields that are needed, or more of them."""
    arrival: int
    """INTERNALDATE in seconds since 1970."""
    size: int

    def value(self, criterion: str) -> Value:
        """By what it is ordered."""
        match criterion:
            case "ARRIVAL":
                return self.arrival
            case "SIZE":
                return self.size
            case "DATE":
                return self.sent
            case "SUBJECT":
                return self.subject[0]
            case _:
                return _address(criterion, self.field(criterion.removeprefix("DISPLAY")))

    @property
    def sent(self) -> int:
        """When it was written, in seconds since 1970; its arrival when it does not say."""
        value = self.field("DATE")
        parsed = email.utils.parsedate_tz(value.decode("latin-1")) if value is not None else None
        if parsed is None:
            return self.arrival
        try:
            return (calendar.timegm((*parsed[:6], 0, 0, 0)) - (parsed[9] or 0)) or self.arrival
        except (ValueError, OverflowError):
            return self.arrival

    @property
    def subject(self) -> tuple[bytes, bool]:
        """The base subject, and whether it is that of a reply or forward."""
        value = self.field("SUBJECT")
        return (b"", False) if value is None else base_subject(fold(decode_text(value[:_VALUE_MOST])))

    def field(self, name: str) -> bytes | None:
        """The first field of this name, on one line."""
        octets = self.header[:_HEADER_MOST]
        for field in header.scan(octets, 0, len(octets), most=len(octets)):
            if field.named(name):
                return header.unfold(field.value(octets)).strip()
        return None


def _address(criterion: str, value: bytes | None) -> bytes:
    addresses = address_list(value[:_ADDRESS_MOST]) if value is not None else ()
    if not addresses:
        return b""
    first = addresses[0]
    shown = first.mailbox or b""
    if criterion.startswith("DISPLAY"):
        shown = _display(first)
    return fold(decode_text(shown))


def _display(first: Address) -> bytes:
    if first.name:
        return first.name
    return (first.mailbox or b"") + (b"@" + first.domain if first.domain is not None else b"")


def ordered(messages: list[Sorted], criteria: tuple[tuple[str, bool], ...]) -> list[int]:
    """Their numbers in order. Each criterion with whether it is reversed; equals stay by number."""
    found = sorted(messages, key=lambda one: one.number)
    for criterion, is_reverse in reversed(criteria):
        # A stable sort in reverse order keeps equals as they were, too.
        found.sort(key=lambda one: one.value(criterion), reverse=is_reverse)
    return [one.number for one in found]


def internal_date(octets: bytes) -> int:
    """The seconds of an INTERNALDATE, quoted as it came. Raises ValueError."""
    text = octets.strip(b'" ').decode("ascii")
    return int(datetime.strptime(text, "%d-%b-%Y %H:%M:%S %z").timestamp())
