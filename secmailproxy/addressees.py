"""PURE. The addresses that a message's own header names.

Standards: RFC 5322 sections 3.6.3 and 3.6.6 (destination and resent fields), RFC 6532.
Security: a header is the sender's word. Whom a message goes to is said by the envelope alone.
"""

from __future__ import annotations

from secmailproxy.mime import header
from secmailproxy.mime.address import address_list
from secmailproxy.mime.entity import Entity
from secmailproxy.rules import normal_address

_NAMING_FIELDS = ("To", "Cc", "Resent-To", "Resent-Cc")


def named_addresses(root: Entity) -> frozenset[str]:
    """The addresses, in normal form, that every reader of the message sees as recipients."""
    return frozenset(map(normal_address, _addresses(root, *_NAMING_FIELDS)))


def _addresses(root: Entity, *names: str) -> list[str]:
    """The addresses in the fields `names`; UTF-8 in them is read as such (RFC 6532)."""
    return [
        one.addr_spec.encode("latin-1").decode("utf-8", "replace")
        for name in names
        for value in header.values(root, name)
        for one in address_list(value)
        if one.is_mailbox
    ]
