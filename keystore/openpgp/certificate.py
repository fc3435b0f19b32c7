"""Certificates: transferable public keys to facts, merging, and a trial encryption.

Standards: RFC 9580 sections 10.1 (composition) and 5.2.1 (signature types).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache

from keystore import policy
from keystore.errors import KeyRefused
from keystore.facts import CertificateFacts, KeyFacts, Revocation, SelfSignature, UserIdFacts
from keystore.model import Certificate, Fingerprint, Holder, Trust
from keystore.openpgp import signature as sig
from keystore.openpgp.material import PublicMaterial, public_material, public_part
from keystore.openpgp.packet import Malformed, Packet, Tag, packets, write

MAX_CERTIFICATE_OCTETS = 8 * 1024 * 1024
"""Certificates flooded with signatures reached tens of megabytes on the old keyservers."""

MAX_COMPONENTS = 1000
"""Keys, user IDs and attributes of one certificate; real ones have a dozen."""

MAX_SELF_SIGNATURES = 1000
"""More are a flood: each costs a verification, and to leave out some could leave out a revocation."""

_PUBLIC = {Tag.SECRET_KEY: Tag.PUBLIC_KEY, Tag.SECRET_SUBKEY: Tag.PUBLIC_SUBKEY}
_COMPONENTS = frozenset({Tag.PUBLIC_KEY, Tag.PUBLIC_SUBKEY, Tag.USER_ID, Tag.USER_ATTRIBUTE})


@dataclass(slots=True)
class Component:
    """A key, user ID or attribute with the signatures after it, as bodies, in order, without repeats."""

    packet: Packet
    signatures: list[bytes] = field(default_factory=list)


def components(octets: bytes) -> list[Component]:
    """Split one certificate (or secret key; its secret halves are dropped) into components.

    Raises Malformed unless it starts with a key and holds a single primary key, KeyRefused for a flood.
    Components of kinds that we do not know are passed over, with their signatures.
    """
    found: list[Component] = []
    current: Component | None = None
    seen: set[bytes] = set()
    for packet in packets(octets):
        if packet.tag in _PUBLIC:
            packet = Packet(_PUBLIC[Tag(packet.tag)], public_part(packet.body))
        if packet.tag in _COMPONENTS:
            current = Component(packet)
            seen.clear()
            found.append(current)
            if len(found) > MAX_COMPONENTS:
                raise KeyRefused(f"a certificate has more than {MAX_COMPONENTS} keys and user IDs")
        elif packet.tag == Tag.SIGNATURE:
            if current and packet.body not in seen:
                seen.add(packet.body)
                current.signatures.append(packet.body)
        elif packet.tag not in (Tag.TRUST, Tag.MARKER, Tag.PADDING):
            current = None
    tags = [component.packet.tag for component in found]
    if not tags or tags[0] != Tag.PUBLIC_KEY or tags.count(Tag.PUBLIC_KEY) != 1:
        raise Malformed("not one certificate")
    return found


def join(parts: Iterable[Component]) -> bytes:
    """The octets of components, with packet headers in the current format."""
    return b"".join(
        part.packet.octets + b"".join(write(Tag.SIGNATURE, body) for body in part.signatures)
        for part in parts
    )


@lru_cache(maxsize=1024)
def facts(certificate_octets: bytes) -> CertificateFacts:
    """What the certificate (binary) says of itself, every self-signature verified.

    Subkeys and primary keys of algorithms that we cannot read are left out. Raises KeyRefused when there is
    no certificate to speak of.
    """
    try:
        parts = components(certificate_octets)
        primary = public_material(parts[0].packet.body)
    except Malformed:
        raise KeyRefused(
            "this is not an OpenPGP certificate, or it is of a version that we cannot read"
        ) from None
    judge = _SelfSignatures(primary)
    user_ids, subkeys = [], []
    direct, revocations = judge.of_primary(parts[0])
    for part in parts[1:]:
        if part.packet.tag == Tag.USER_ID:
            user_ids.append(judge.of_user_id(part))
        elif part.packet.tag == Tag.PUBLIC_SUBKEY:
            subkeys += judge.of_subkey(part)
    key = KeyFacts(primary.fingerprint, primary.created, primary.algorithm, direct, revocations)
    return CertificateFacts(primary.version, key, tuple(user_ids), tuple(subkeys), judge.broken)


class _SelfSignatures:
    """Sorts the signatures of one certificate: verified self-signatures into facts, failures into a count."""

    def __init__(self, primary: PublicMaterial) -> None:
        self.primary = primary
        self.broken = 0
        self.looked_at = 0

    def _claimed(self, part: Component, kinds: Iterable[int]) -> list[sig.SignaturePacket]:
        """The signatures of these kinds that name the primary key as their maker."""
        wanted = frozenset(kinds)
        found = []
        for body in part.signatures:
            try:
                packet = sig.parse_signature(body)
            except Malformed:
                self.broken += 1
                continue
            if packet.kind in wanted and packet.claims(self.primary.fingerprint):
                found.append(packet)
        self.looked_at += len(found)
        if self.looked_at > MAX_SELF_SIGNATURES:
            raise KeyRefused(f"certificate {self.primary.fingerprint} is flooded with signatures")
        return found

    def _verified(self, packet: sig.SignaturePacket, right: bool) -> bool:
        self.broken += not right
        return right

    def of_primary(self, part: Component) -> tuple[tuple[SelfSignature, ...], tuple[Revocation, ...]]:
        """Direct-key signatures and revocations of the primary key."""
        made = [
            packet
            for packet in self._claimed(part, {sig.DIRECT_KEY, sig.KEY_REVOCATION})
            if self._verified(packet, sig.covers_key(packet, self.primary.body))
        ]
        return _sort(made, frozenset({sig.KEY_REVOCATION}))

    def of_user_id(self, part: Component) -> UserIdFacts:
        """Certifications and revocations of a user ID."""
        made = [
            packet
            for packet in self._claimed(part, sig.CERTIFICATIONS | {sig.CERTIFICATION_REVOCATION})
            if self._verified(packet, sig.covers_user_id(packet, self.primary.body, part.packet))
        ]
        text = part.packet.body.decode("utf-8", "replace")
        return UserIdFacts(text, *_sort(made, frozenset({sig.CERTIFICATION_REVOCATION})))

    def of_subkey(self, part: Component) -> list[KeyFacts]:
        """A subkey with its bindings and revocations; nothing for one of an unknown algorithm."""
        try:
            subkey = public_material(part.packet.body)
        except Malformed:
            return []
        made = [
            packet
            for packet in self._claimed(part, {sig.SUBKEY_BINDING, sig.SUBKEY_REVOCATION})
            if self._verified(packet, sig.covers_subkey(packet, self.primary.body, subkey.body))
        ]
        bindings, revocations = _sort(
            made, frozenset({sig.SUBKEY_REVOCATION}), back=lambda packet: self._back(packet, subkey)
        )
        return [KeyFacts(subkey.fingerprint, subkey.created, subkey.algorithm, bindings, revocations)]

    def _back(self, packet: sig.SignaturePacket, subkey: PublicMaterial) -> sig.SignaturePacket | None:
        inner = packet.embedded
        if inner is None or inner.kind != sig.PRIMARY_KEY_BINDING or inner.critical_unknown:
            return None
        return inner if sig.covers_primary(inner, subkey.body, self.primary.body) else None


def _sort(
    made: Iterable[sig.SignaturePacket],
    revoking: frozenset[int],
    back: Callable[[sig.SignaturePacket], sig.SignaturePacket | None] = lambda packet: None,
) -> tuple[tuple[SelfSignature, ...], tuple[Revocation, ...]]:
    """Verified signatures as facts: (statements, revocations)."""
    statements, revocations = [], []
    for packet in made:
        if packet.kind in revoking:
            revocations.append(packet.as_revocation())
        elif (statement := packet.as_self_signature(back(packet))) is not None:
            statements.append(statement)
    return tuple(statements), tuple(revocations)


@lru_cache(maxsize=1024)
def key_bodies(certificate_octets: bytes) -> dict[Fingerprint, bytes]:
    """Fingerprint -> public key packet body, of the primary key and all subkeys. Raises KeyRefused."""
    found: dict[Fingerprint, bytes] = {}
    try:
        for part in components(certificate_octets):
            if part.packet.tag in (Tag.PUBLIC_KEY, Tag.PUBLIC_SUBKEY):
                with suppress(Malformed):
                    found[public_material(part.packet.body).fingerprint] = part.packet.body
    except Malformed:
        raise KeyRefused("this is not an OpenPGP certificate") from None
    if not found:
        raise KeyRefused("this is not an OpenPGP certificate of a version that we can read")
    return found


def single_key(octets: bytes, fingerprint: Fingerprint) -> bytes:
    """The part of a certificate that is about one key: the primary key alone, or with that one subkey.

    The engine refuses whole certificates for one subkey that it does not know, and given a choice of keys it
    makes one by itself. Raises KeyRefused.
    """
    key_bodies(octets)
    primary, *others = components(octets)
    if public_material(primary.packet.body).fingerprint == fingerprint:
        return primary.packet.octets
    for part in others:
        if part.packet.tag == Tag.PUBLIC_SUBKEY and key_bodies(octets).get(fingerprint) == part.packet.body:
            return join([Component(primary.packet), part])
    raise KeyRefused(f"there is no key {fingerprint} in this certificate")


def key_fingerprints(certificate_octets: bytes) -> tuple[Fingerprint, ...]:
    """Fingerprints of the primary key and of all subkeys, for an index by issuer. Raises KeyRefused."""
    return tuple(key_bodies(certificate_octets))


def certificate(
    octets: bytes, *, source: str = "", trust: Trust = Trust.KNOWN, holder: Holder = Holder.NONE
) -> Certificate:
    """The value that the store hands out for a binary certificate. Raises KeyRefused.

    User IDs and addresses are those whose newest self-signature is no revocation, whatever the present time:
    usability is `keystore.policy`'s to say.
    """
    stated = facts(octets)
    user_ids = policy.claimed_user_ids(stated)
    return Certificate(
        fingerprint=stated.fingerprint,
        octets=octets,
        user_ids=user_ids,
        addresses=policy.addresses(user_ids),
        created=stated.primary.created,
        expires=policy.expiry(stated),
        algorithm=str(stated.primary.algorithm),
        holder=holder,
        trust=trust,
        source=source,
    )


def merge(old_octets: bytes, new_octets: bytes) -> bytes:
    """The union of two versions of one certificate: every user ID, subkey and signature of either.

    Renewals and revocations win by being there: the newest self-signature counts, and a revocation is never
    lost. Signatures that claim to be by the certificate and do not verify are kept; they are no facts.
    Raises KeyRefused when the two are not the same certificate.
    """
    if facts(old_octets).fingerprint != facts(new_octets).fingerprint:
        raise KeyRefused("cannot merge two different certificates")
    merged = components(old_octets)
    for part in components(new_octets):
        known = next((one for one in merged if one.packet == part.packet), None)
        if known is None:
            merged.append(part)
        else:
            known.signatures = list(dict.fromkeys([*known.signatures, *part.signatures]))
    order = {Tag.PUBLIC_KEY: 0, Tag.USER_ID: 1, Tag.USER_ATTRIBUTE: 2, Tag.PUBLIC_SUBKEY: 3}
    merged.sort(key=lambda part: order[Tag(part.packet.tag)])
    octets = join(merged)
    if len(octets) > MAX_CERTIFICATE_OCTETS:
        raise KeyRefused(f"certificate {facts(old_octets).fingerprint} would grow beyond 8 MiB")
    return octets
