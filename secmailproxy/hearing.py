"""PURE. What a message that is read says by Autocrypt of certificates and their owners.

Of a message in clear the header section tells it, which is at hand when a client fetches it; nothing is
fetched for it. Of a protected message the opened one tells it, with gossip from inside the encryption.

Standards: Autocrypt Level 1 sections 2.1, 2.3 and 3.1; RFC 9788 (a field inside counts before one outside).
Security: a message that its From does not fit, with several authors, a report, or what a filter has marked as
spam says nothing. Gossip counts for those alone whom the message names as its recipients.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from keystore.autocrypt import Gossip, Heard
from secmailproxy.errors import LimitExceeded
from secmailproxy.mime import entity, header, shown
from secmailproxy.mime.address import address_list
from secmailproxy.mime.autocrypt import told
from secmailproxy.mime.entity import Entity
from secmailproxy.model import CryptoSummary, DecryptionState, Verdict
from secmailproxy.rules import normal_address

FIELD = "Autocrypt"
GOSSIP_FIELD = "Autocrypt-Gossip"
GOSSIP_FIELDS_MOST = 100
"""Of one message; each costs a certificate to be looked at."""
_RECIPIENTS = ("to", "cc", "reply-to")


def of_header_section(section: bytes) -> Heard | None:
    """What a message in clear says, by its header section (CRLF); None where that is nothing."""
    try:
        root = entity.parse(section)
    except LimitExceeded:
        return None
    return _heard(root, shown.header_fields(root), header.values(root, FIELD))


def of_opened(root: Entity, payload: Entity, fields: Sequence[bytes], summary: CryptoSummary) -> Heard | None:
    """What a protected message says: `root` as it came, `payload` inside its layers, the shown `fields`."""
    inside = () if payload is root else header.values(payload, FIELD)
    found = _heard(root, fields, inside or header.values(root, FIELD))
    if found is None:
        return None
    opened = summary.decryption is DecryptionState.OK and summary.authenticated
    signer = summary.fingerprint if summary.verdict is Verdict.VALID else None
    gossip = tuple(_gossip(payload, fields, found.author)) if opened else ()
    return replace(found, gossip=gossip, protected=True, encrypted=opened, signer=signer)


def _heard(root: Entity, fields: Sequence[bytes], values: Sequence[bytes]) -> Heard | None:
    author = shown.sole_author(shown.fields_named(fields, "from"))
    sent = shown.sole_date(shown.fields_named(fields, "date"))
    if author is None or sent is None or root.content_type.full == "multipart/report" or _is_spam(root):
        return None
    # Several valid fields for the author are as none (Level 1 section 2.3).
    whose = normal_address(author)
    valid = [one for one in map(told, values) if one is not None and normal_address(one.address) == whose]
    if len(valid) != 1:
        return Heard(author, sent)
    return Heard(author, sent, valid[0].certificate, valid[0].mutual)


def _is_spam(root: Entity) -> bool:
    said = (header.value(root, name) or b"" for name in ("X-Spam-Flag", "X-Spam-Status"))
    return any(value.strip().lower().startswith(b"yes") for value in said)


def _gossip(payload: Entity, fields: Sequence[bytes], author: str) -> Iterable[Gossip]:
    """One for each recipient that is named, the first one that is valid."""
    values = header.values(payload, GOSSIP_FIELD)[:GOSSIP_FIELDS_MOST]
    named = _named(fields) if values else frozenset()
    met = {normal_address(author)}
    for one in filter(None, map(told, values)):
        address = normal_address(one.address)
        if address in named and address not in met:
            met.add(address)
            yield Gossip(address, one.certificate)


def _named(fields: Sequence[bytes]) -> frozenset[str]:
    found = (
        one.addr_spec.encode("latin-1").decode("utf-8", "replace")
        for name in _RECIPIENTS
        for raw in shown.fields_named(fields, name)
        for one in address_list(raw.partition(b":")[2].strip())
        if one.is_mailbox
    )
    return frozenset(map(normal_address, found))
