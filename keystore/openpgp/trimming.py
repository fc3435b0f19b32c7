"""A stranger's certificate cut down to what it says of one address, and to what its owner signed.

What it says of other addresses makes no claim to them, and its pictures are nobody's business. Others'
certifications of what stays are kept.

Standards: RFC 9580 section 10.1 (composition).
Security: anybody can put signatures, keys and user IDs into a copy of somebody's certificate, and write a
signature in many ways, since parts of it are not signed. Merged into the store they would fill a certificate
up, until no revocation by its owner fits in. So what its owner did not sign is left out, and what is signed
alike is taken once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from keystore import policy
from keystore.errors import KeyRefused
from keystore.openpgp import signature as sig
from keystore.openpgp.certificate import MAX_SELF_SIGNATURES, Component, components, join
from keystore.openpgp.material import public_material
from keystore.openpgp.minimal import Covers, of_primary, of_subkey, of_user_id
from keystore.openpgp.packet import Malformed, Packet, Tag, packets

_SECRET = frozenset({Tag.SECRET_KEY, Tag.SECRET_SUBKEY})
_KINDS = {
    Tag.PUBLIC_KEY: frozenset({sig.DIRECT_KEY, sig.KEY_REVOCATION}),
    Tag.USER_ID: sig.CERTIFICATIONS | {sig.CERTIFICATION_REVOCATION},
    Tag.PUBLIC_SUBKEY: frozenset({sig.SUBKEY_BINDING, sig.SUBKEY_REVOCATION}),
}

_Signed = tuple[bytes, bool]
"""What of a signature is signed, and whether it holds one by the subkey, which may be where nothing is."""
_Statements = Mapping[Packet, Mapping[_Signed, bytes]]
"""For each component what its owner has signed of it, and the signature's body."""


def about(octets: bytes, address: str, *, known: bytes = b"", others: bool = True) -> bytes:
    """The certificate `octets` (binary) without user IDs of other addresses than `address` (lower case).

    What `known`, another copy of it, has too is written as there. Without `others`, only the signatures of
    its owner stay. KeyRefused: it is not one certificate, is flooded with signatures, or somebody has
    published a secret key.
    """
    try:
        if any(packet.tag in _SECRET for packet in packets(octets)):
            raise KeyRefused("a secret key, which must be nobody's but its owner's")
        primary, *parts = components(octets)
        wanted = (one for one in parts if one.packet.tag != Tag.USER_ID or _is_of(one.packet, address))
        statements = _statements(known) if known else {}
        return join(_sifted(primary, wanted, statements, others=others))
    except Malformed:
        raise KeyRefused("not one OpenPGP certificate") from None


def sound(octets: bytes) -> bytes:
    """The certificate `octets` (binary) with nothing in it but what its owner signed. KeyRefused as above."""
    try:
        primary, *parts = components(octets)
        return join(_sifted(primary, iter(parts), {}, others=False))
    except Malformed:
        raise KeyRefused("not one OpenPGP certificate") from None


def _sifted(
    primary: Component, parts: Iterator[Component], known: _Statements, *, others: bool
) -> Iterator[Component]:
    """The primary key, and of `parts` those that it has signed."""
    maker, tried = public_material(primary.packet.body).fingerprint, 0
    for part in (primary, *parts):
        if part.packet.tag not in _KINDS:
            continue
        claimed, foreign = _by_maker(part, maker)
        tried += len(claimed)
        if tried > MAX_SELF_SIGNATURES:
            raise KeyRefused(f"certificate {maker} is flooded with signatures")
        own = _signed(primary, part, claimed)
        if own or part is primary:
            there = known.get(part.packet, {})
            bodies = [there.get(one, body) for one, body in own.items()]
            yield Component(part.packet, bodies + (foreign if others else []))


def _by_maker(part: Component, maker: str) -> tuple[list[sig.SignaturePacket], list[bytes]]:
    """The signatures that may be the primary key's, and those of others."""
    claimed, foreign = [], []
    for body in part.signatures:
        try:
            packet = sig.parse_signature(body)
        except Malformed:
            continue
        if not packet.claims(maker):
            foreign.append(body)
        elif packet.kind in _KINDS[Tag(part.packet.tag)]:
            claimed.append(packet)
    return claimed, foreign


def _signed(
    primary: Component, part: Component, claimed: Iterable[sig.SignaturePacket]
) -> dict[_Signed, bytes]:
    covers, found = _covers(primary, part), dict[_Signed, bytes]()
    for packet in claimed:
        key = packet.signed, _has_back(primary, part, packet)
        if key not in found and covers(packet):
            found[key] = packet.body
    return found


def _covers(primary: Component, part: Component) -> Covers:
    if part is primary:
        return of_primary(primary)
    of_part = of_user_id if part.packet.tag == Tag.USER_ID else of_subkey
    return of_part(primary, part)


def _has_back(primary: Component, part: Component, packet: sig.SignaturePacket) -> bool:
    back = packet.embedded if part.packet.tag == Tag.PUBLIC_SUBKEY else None
    return back is not None and sig.covers_primary(back, part.packet.body, primary.packet.body)


@lru_cache(maxsize=64)
def _statements(octets: bytes) -> _Statements:
    primary, *parts = components(octets)
    found = {}
    for part in (primary, *parts):
        if part.packet.tag in _KINDS:
            claimed, _ = _by_maker(part, public_material(primary.packet.body).fingerprint)
            found[part.packet] = _signed(primary, part, claimed)
    return found


def _is_of(user_id: Packet, address: str) -> bool:
    return address in policy.addresses([user_id.body.decode("utf-8", "replace")])
