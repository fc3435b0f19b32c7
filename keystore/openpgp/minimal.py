"""A certificate cut down to what a correspondent needs: one user ID, the keys in use, their newest bindings.

Third parties' certifications tell whom the owner has met, and other user IDs where else mail reaches them;
neither is in it.

Standards: Autocrypt Level 1 section 2.1.1 (the form), RFC 9580 section 10.1 (composition).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import lru_cache

from keystore import policy
from keystore.errors import KeyRefused
from keystore.model import Fingerprint
from keystore.openpgp import signature as sig
from keystore.openpgp.certificate import Component, components, join, key_bodies
from keystore.openpgp.packet import Malformed, Tag

Covers = Callable[[sig.SignaturePacket], bool]


@lru_cache(maxsize=1024)
def minimal(octets: bytes, user_id: str, keys: tuple[Fingerprint, ...]) -> bytes:
    """The certificate `octets` (binary) with the user ID `user_id` and, beside the primary key, only `keys`.

    Of each component's self-signatures that verify the newest strong one stays. Raises KeyRefused when
    something of what is wanted has none. Whether the result may be used is `keystore.policy`'s to say.
    """
    bodies = key_bodies(octets)
    wanted = {bodies[key] for key in keys}
    primary, *others = components(octets)
    kept = [Component(primary.packet, newest(primary, of_primary(primary), {sig.DIRECT_KEY}))]
    for part in others:
        if part.packet.tag == Tag.USER_ID and part.packet.body.decode("utf-8", "replace") == user_id:
            kept.append(_bound(part, of_user_id(primary, part), sig.CERTIFICATIONS))
        elif part.packet.tag == Tag.PUBLIC_SUBKEY and part.packet.body in wanted:
            kept.append(_bound(part, of_subkey(primary, part), {sig.SUBKEY_BINDING}))
    return join(kept)


def of_primary(primary: Component) -> Covers:
    """Whether a signature is the primary key's over itself."""
    return lambda packet: sig.covers_key(packet, primary.packet.body)


def of_user_id(primary: Component, part: Component) -> Covers:
    """Whether a signature is the primary key's over this user ID."""
    return lambda packet: sig.covers_user_id(packet, primary.packet.body, part.packet)


def of_subkey(primary: Component, part: Component) -> Covers:
    """Whether a signature is the primary key's over this subkey."""
    return lambda packet: sig.covers_subkey(packet, primary.packet.body, part.packet.body)


def _bound(part: Component, covers: Covers, kinds: Collection[int]) -> Component:
    found = newest(part, covers, kinds)
    if not found:
        raise KeyRefused("a key or user ID of this certificate is not bound to it")
    return Component(part.packet, found)


def newest(part: Component, covers: Covers, kinds: Collection[int]) -> list[bytes]:
    """The body of the newest signature of these kinds that `covers` the component, alone; [] without any."""
    found = [packet for packet in map(_readable, part.signatures) if packet and packet.kind in kinds]
    strong = [
        (packet.created, packet.body, packet)
        for packet in found
        if packet.created and policy.strong_hash(packet.hash_algorithm, packet.created)
    ]
    newest_first = sorted(strong, key=lambda one: one[:2], reverse=True)
    return next(([body] for _, body, packet in newest_first if covers(packet)), [])


def _readable(body: bytes) -> sig.SignaturePacket | None:
    try:
        return sig.parse_signature(body)
    except Malformed:
        return None
