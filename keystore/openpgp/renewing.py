"""An own key changed: a new subkey, another end, a user ID more or less. No secret half is ever taken away.

Whatever was said of the key before stays beside the new statement, which counts because it is the newest:
versions of one certificate are merged everywhere, and what is left out of one comes back with another. So a
statement is always later than the ones before it, by a second where the clock has not gone on.

Standards: RFC 9580 sections 5.2.1 (signature types), 5.2.3 (subpackets), 10.1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta

from keystore import policy
from keystore.errors import KeyRefused
from keystore.facts import CertificateFacts, KeyFacts, KeyFlags
from keystore.model import Fingerprint, Purpose
from keystore.openpgp import signature as sig
from keystore.openpgp.certificate import Component, components, facts, join, key_bodies
from keystore.openpgp.generate import flags
from keystore.openpgp.halves import encryption_half
from keystore.openpgp.key import SecretKey
from keystore.openpgp.material import public_material
from keystore.openpgp.minimal import Covers, newest, of_primary, of_subkey, of_user_id
from keystore.openpgp.packet import Packet, Tag
from keystore.openpgp.selfsigning import (
    CREATED,
    EMBEDDED,
    EXPIRES,
    ISSUER,
    ISSUER_FINGERPRINT,
    LIFETIME,
    PRIMARY_USER_ID,
    REASON,
    Subpacket,
    over_key,
    over_user_id,
    signature_packet,
)

MOST_AHEAD = timedelta(hours=1)
"""How far in the future the last statement may lie. Beyond, some clock was or is wrong, and nothing is made
that would count only after years."""
_NO_LONGER_VALID = bytes([32])
"""The reason for revoking a user ID (RFC 9580 section 5.2.3.31)."""
_NEVER_COPIED = frozenset({CREATED, EXPIRES, LIFETIME, ISSUER, ISSUER_FINGERPRINT, EMBEDDED})
_ABILITIES = (KeyFlags.ENCRYPT, KeyFlags.SIGN, KeyFlags.AUTHENTICATE)


def rotated(
    key: SecretKey, now: datetime, *, expires: datetime | None, overlap: timedelta | None
) -> tuple[SecretKey, Fingerprint]:
    """The key with a new subkey that encrypts, from now on the one in use, and its fingerprint.

    `expires` is the new subkey's own end, within that of the key. Subkeys that encrypted before end after
    `overlap`, unless sooner by themselves; None leaves them as they are. They open what they opened for ever.
    Raises KeyRefused where the secret primary key is not here, or the key cannot be used any more.
    """
    maker = _Maker(key, now)
    before = [one for one in maker.facts.subkeys if maker.abilities(one) & KeyFlags.ENCRYPT]
    moment = maker.after(one.created for one in before)
    half = encryption_half(public_material(maker.primary), int(moment.timestamp()))
    fingerprint = public_material(half.public).fingerprint
    content = over_key(maker.primary) + over_key(half.public)
    stated = [flags(KeyFlags.ENCRYPT), *_lifetime(moment, expires)]
    binding = maker.signed(sig.SUBKEY_BINDING, content, moment, stated)
    if overlap is not None:
        for one in before:
            if one.bindings and not _ends_before(one, moment + overlap):
                maker.end(one, moment + overlap)
    maker.parts.append(Component(Packet(Tag.PUBLIC_SUBKEY, half.public), [binding]))
    changed = key.with_secret(maker.octets(), fingerprint, half.secret)
    usable = policy.usability(facts(changed.certificate_octets), Purpose.ENCRYPT, moment)
    if usable.keys[:1] != (fingerprint,):
        why = usable.explanation or "the engine does not accept the subkey that was made"
        raise KeyRefused(f"a new subkey of {key.fingerprint} would not be usable: {why}")
    return changed, fingerprint


def extended(key: SecretKey, now: datetime, expires: datetime | None) -> SecretKey:
    """The key with another end (None: never), which may be sooner than before.

    Of the subkeys that have an end of their own, the newest of each ability gets the same one; those that
    were replaced keep theirs. Raises KeyRefused.
    """
    maker = _Maker(key, now)
    created = public_material(maker.primary).created
    if expires is not None and expires <= now:
        raise KeyRefused("the new end of a key must lie in the future")
    lifetime = _lifetime(created, expires)
    if maker.direct is not None:
        moment = maker.after(one.created for one in maker.facts.primary.bindings)
        stated = [*_kept(maker.direct), *lifetime]
        made = maker.signed(sig.DIRECT_KEY, over_key(maker.primary), moment, stated)
        maker.parts[0].signatures.append(made)
    maker.certify_again(lifetime)
    for one in maker.newest_of_each_ability():
        if any(binding.key_lifetime for binding in one.bindings):
            maker.end(one, expires)
    changed = key.with_certificate(maker.octets())
    if policy.expiry(facts(changed.certificate_octets)) != (expires and expires.replace(microsecond=0)):
        raise KeyRefused(f"the end of key {key.fingerprint} cannot be changed: a signature is not accepted")
    return changed


def with_user_id(key: SecretKey, user_id: str, now: datetime, *, first: bool = False) -> SecretKey:
    """The key with one user ID more, or one that was revoked valid again; `first`: it becomes the primary.

    Raises KeyRefused.
    """
    maker = _Maker(key, now)
    known = maker.user_id(user_id)
    part = known or Component(Packet(Tag.USER_ID, user_id.encode()))
    mark = [(PRIMARY_USER_ID, b"\1")] if first else []
    maker.certify(part, [*maker.said_beside_user_ids(), *mark])
    if known is None:
        # User IDs stand before the subkeys (RFC 9580 section 10.1).
        at = next((n for n, one in enumerate(maker.parts) if one.packet.tag == Tag.PUBLIC_SUBKEY), None)
        maker.parts.insert(len(maker.parts) if at is None else at, part)
    return _accepted(key, maker)


def without_user_id(key: SecretKey, user_id: str, now: datetime) -> SecretKey:
    """The key with this user ID revoked, which does not concern the others.

    Raises KeyRefused for one that it does not have, and for the last.
    """
    maker = _Maker(key, now)
    valid = policy.claimed_user_ids(maker.facts)
    part = maker.user_id(user_id)
    if part is None or user_id not in valid:
        raise KeyRefused(f"key {key.fingerprint} has no such user ID")
    if len(valid) == 1:
        raise KeyRefused(
            f"it is the only user ID of key {key.fingerprint}: give it another one first, or revoke the key"
        )
    maker.say_of_user_id(part, sig.CERTIFICATION_REVOCATION, [(REASON, _NO_LONGER_VALID)])
    return _accepted(key, maker)


def _accepted(key: SecretKey, maker: _Maker) -> SecretKey:
    changed = key.with_certificate(maker.octets())
    if facts(changed.certificate_octets).broken > maker.facts.broken:
        raise KeyRefused(f"key {key.fingerprint} cannot be changed: a signature is not accepted")
    return changed


def _ends_before(subkey: KeyFacts, moment: datetime) -> bool:
    lifetime = max(subkey.bindings, key=lambda one: one.created).key_lifetime
    return lifetime is not None and subkey.created + lifetime <= moment


def _lifetime(created: datetime, end: datetime | None) -> list[Subpacket]:
    """The subpacket that says when a key ends; none for never."""
    if end is None:
        return []
    seconds = int((end - created).total_seconds())
    if not 0 < seconds < 1 << 32:
        raise KeyRefused(f"a key of {created:%Y-%m-%d} cannot end on {end:%Y-%m-%d}")
    return [(LIFETIME, seconds.to_bytes(4, "big"))]


def _kept(template: sig.SignaturePacket) -> list[Subpacket]:
    """What is said again as it was: all but dates, the end of the key, and who says it."""
    return [
        (number | 0x80 if critical else number, octets)
        for number, critical, octets in template.stated
        if number not in _NEVER_COPIED and (number in sig.UNDERSTOOD or not critical)
    ]


def _template(part: Component, covers: Covers, kinds: Collection[int]) -> sig.SignaturePacket | None:
    """The newest statement of these kinds about a component."""
    found = newest(part, covers, kinds)
    return sig.parse_signature(found[0]) if found else None


def _text(part: Component) -> str:
    return part.packet.body.decode("utf-8", "replace")


class _Maker:
    """Makes statements of one own key about itself. Raises KeyRefused where its secret half is not here."""

    def __init__(self, key: SecretKey, now: datetime) -> None:
        self.key = key
        self.now = now.replace(microsecond=0)
        self.facts: CertificateFacts = facts(key.certificate_octets)
        if self.facts.primary.revocations:
            raise KeyRefused(f"key {key.fingerprint} is revoked, which is for ever: make a new one")
        self.parts = components(key.certificate_octets)
        self.primary = self.parts[0].packet.body
        self.direct = _template(self.parts[0], of_primary(self.parts[0]), {sig.DIRECT_KEY})
        self._secret = key.secret_of(key.fingerprint)

    def octets(self) -> bytes:
        """The certificate with all that was made."""
        return join(self.parts)

    def after(self, dates: Iterable[datetime]) -> datetime:
        """The present time, or the first second after all `dates`."""
        last = max(dates, default=self.now - timedelta(seconds=1))
        if last > self.now + MOST_AHEAD:
            raise KeyRefused(
                f"key {self.key.fingerprint} has a signature of {last:%Y-%m-%d %H:%M} UTC, which is still "
                "to come: see to the clock of this machine"
            )
        return max(self.now, last + timedelta(seconds=1))

    def signed(self, kind: int, content: bytes, moment: datetime, stated: Sequence[Subpacket]) -> bytes:
        """A signature by the primary key."""
        return signature_packet(self._secret, kind, content, int(moment.timestamp()), stated)

    # -- user IDs

    def user_id(self, text: str) -> Component | None:
        """The user ID that reads so."""
        return next((part for part in self._user_ids() if _text(part) == text), None)

    def certify(self, part: Component, stated: Sequence[Subpacket]) -> None:
        """Bind a user ID to the key."""
        self.say_of_user_id(part, sig.POSITIVE_CERTIFICATION, stated)

    def say_of_user_id(self, part: Component, kind: int, stated: Sequence[Subpacket]) -> None:
        """Make a statement about a user ID, later than all before it: which is the primary one is told by the
        newest."""
        dates: list[datetime] = []
        for known in self.facts.user_ids:
            dates += [one.created for one in known.certifications]
            dates += [one.created for one in known.revocations]
        content = over_key(self.primary) + over_user_id(part.packet.body)
        part.signatures.append(self.signed(kind, content, self.after(dates), stated))

    def certify_again(self, lifetime: Sequence[Subpacket]) -> None:
        """Say of every valid user ID what was said last, but for the end of the key."""
        for part, template in self._certified():
            # In version 6 the key itself says when it ends; a user ID that does too must not say otherwise.
            if self.facts.version == 4 or any(number == LIFETIME for number, _, _ in template.stated):
                self.certify(part, [*_kept(template), *lifetime])

    def said_beside_user_ids(self) -> list[Subpacket]:
        """What the newest user ID says of the key, for another one to say the same."""
        dated = [(one.created, one) for _, one in self._certified() if one.created is not None]
        if not dated:
            return []
        template = max(dated, key=lambda one: one[0])[1]
        said = [one for one in _kept(template) if one[0] & 0x7F != PRIMARY_USER_ID]
        return said + [(LIFETIME, octets) for number, _, octets in template.stated if number == LIFETIME]

    def _certified(self) -> list[tuple[Component, sig.SignaturePacket]]:
        """The valid user IDs with what was last said of each."""
        valid = policy.claimed_user_ids(self.facts)
        found = (
            (part, _template(part, of_user_id(self.parts[0], part), sig.CERTIFICATIONS))
            for part in self._user_ids()
            if _text(part) in valid
        )
        return [(part, template) for part, template in found if template is not None]

    def _user_ids(self) -> list[Component]:
        return [part for part in self.parts if part.packet.tag == Tag.USER_ID]

    # -- subkeys

    @staticmethod
    def abilities(subkey: KeyFacts) -> KeyFlags:
        """What a subkey may do, by its newest binding; nothing when it is revoked."""
        if subkey.revocations or not subkey.bindings:
            return KeyFlags(0)
        said = max(subkey.bindings, key=lambda one: one.created).flags
        if said is not None:
            return said
        return KeyFlags.ENCRYPT if subkey.algorithm.encrypts else KeyFlags.SIGN

    def newest_of_each_ability(self) -> list[KeyFacts]:
        """The subkeys that have not been replaced by newer ones."""
        found: dict[Fingerprint, KeyFacts] = {}
        for ability in _ABILITIES:
            able = [one for one in self.facts.subkeys if self.abilities(one) & ability]
            if able:
                last = max(able, key=lambda one: one.created)
                found[last.fingerprint] = last
        return list(found.values())

    def end(self, subkey: KeyFacts, end: datetime | None) -> None:
        """Bind a subkey anew, with another end."""
        body = key_bodies(self.key.certificate_octets)[subkey.fingerprint]
        part = next(one for one in self.parts if one.packet.body == body)
        template = _template(part, of_subkey(self.parts[0], part), {sig.SUBKEY_BINDING})
        if template is None:
            raise KeyRefused(f"subkey {subkey.fingerprint} is bound in a way that is not accepted any more")
        content = over_key(self.primary) + over_key(body)
        moment = self.after(one.created for one in subkey.bindings)
        stated = [*_kept(template), *_lifetime(subkey.created, end)]
        if template.embedded is not None:
            stated.append((EMBEDDED, self._back(subkey.fingerprint, content, moment, template.embedded.body)))
        part.signatures.append(self.signed(sig.SUBKEY_BINDING, content, moment, stated))

    def _back(self, subkey: Fingerprint, content: bytes, moment: datetime, before: bytes) -> bytes:
        """The signature of a subkey that signs (RFC 9580 section 5.2.1, type 0x19); a new one if possible."""
        if subkey not in self.key.secret_fingerprints:
            return before
        secret = self.key.secret_of(subkey)
        return signature_packet(secret, sig.PRIMARY_KEY_BINDING, content, int(moment.timestamp()), [])
