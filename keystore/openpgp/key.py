"""Own keys in memory, and key files as people have them: armored or binary, several keys to a file.

Standards: RFC 9580 sections 10.1, 10.2 (transferable keys) and 5.5.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial

from openpgp import composed as engine

from keystore.errors import KeyRefused
from keystore.model import Fingerprint
from keystore.openpgp.certificate import (
    MAX_CERTIFICATE_OCTETS,
    Component,
    components,
    facts,
    join,
    single_key,
)
from keystore.openpgp.engine import EngineRefused, ask
from keystore.openpgp.packet import Malformed, Packet, Tag, dearmor, is_armored, packets
from keystore.openpgp.private import PrivateKey, private_key
from keystore.openpgp.secret import STUB, parse_secret, unlocked_body

_SECRET_TAG = {Tag.PUBLIC_KEY: Tag.SECRET_KEY, Tag.PUBLIC_SUBKEY: Tag.SECRET_SUBKEY}
_KEY_BLOCKS = ("PUBLIC KEY BLOCK", "PRIVATE KEY BLOCK")
MAX_KEYS_IN_FILE = 1000

SigningKey = engine.SignedSecretKey | engine.SignedSecretSubKey


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """One key of a file, nothing unlocked yet."""

    certificate_octets: bytes
    secret_octets: bytes | None
    """The transferable secret key as it was found, binary; None for a certificate."""
    protected: bool
    """Whether `unlock` needs a passphrase."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the primary key."""
        return facts(self.certificate_octets).fingerprint

    def __repr__(self) -> str:
        return f"ParsedKey({self.fingerprint})"


class SecretKey:
    """An own key, unlocked, in memory only. Its text form names the fingerprint and nothing else.

    `certificate_octets` is the public half; `secrets` are unprotected secret key packet bodies by
    fingerprint, without those that are kept elsewhere (stubs of a primary key).
    """

    def __init__(self, certificate_octets: bytes, secrets: Mapping[Fingerprint, bytes]) -> None:
        self.certificate_octets = certificate_octets
        self.fingerprint = facts(certificate_octets).fingerprint
        self._secrets = dict(secrets)

    def __repr__(self) -> str:
        return f"SecretKey({self.fingerprint})"

    @property
    def secret_fingerprints(self) -> frozenset[Fingerprint]:
        """The keys whose secret half is here."""
        return frozenset(self._secrets)

    def secret_of(self, fingerprint: Fingerprint) -> bytes:
        """The unprotected secret packet's body of one key, to make signatures with. Raises KeyRefused."""
        body = self._secrets.get(fingerprint)
        if body is None:
            raise KeyRefused(
                f"the secret half of key {fingerprint} is not here, it was left out of the file that was "
                "imported: do this with the program that has it, and import the result"
            )
        return body

    def with_secret(self, certificate_octets: bytes, fingerprint: Fingerprint, body: bytes) -> SecretKey:
        """The same with one secret half more, under a certificate that has its key."""
        return SecretKey(certificate_octets, {**self._secrets, fingerprint: body})

    def with_certificate(self, certificate_octets: bytes) -> SecretKey:
        """The same secrets under a newer version of the certificate. Raises KeyRefused for another one."""
        if facts(certificate_octets).fingerprint != self.fingerprint:
            raise KeyRefused("this is another certificate")
        renewed = SecretKey(certificate_octets, self._secrets)
        # The packets are the same, and to prove an RSA key takes 50 ms.
        renewed.private_keys = self.private_keys
        return renewed

    def to_octets(self) -> bytes:
        """The unprotected transferable secret key, binary. Only the keystore may see it, to wrap it."""
        return self._with_secrets(components(self.certificate_octets))

    def _with_secrets(self, parts: list[Component]) -> bytes:
        for part in parts:
            tag = Tag(part.packet.tag)
            if tag in _SECRET_TAG:
                body = self._secrets.get(_fingerprint(part.packet.body), part.packet.body + STUB)
                part.packet = Packet(_SECRET_TAG[tag], body)
        return join(parts)

    @classmethod
    def from_octets(cls, octets: bytes) -> SecretKey:
        """The inverse of `to_octets`. Raises KeyRefused."""
        return unlock(octets, None)

    @cached_property
    def private_keys(self) -> tuple[PrivateKey, ...]:
        """All keys of `secret_fingerprints` that can open session keys or prove their halves match."""
        made = (private_key(parse_secret(body).public, body) for body in self._secrets.values())
        return tuple(key for key in made if key is not None)

    @cached_property
    def signing_keys(self) -> dict[Fingerprint, SigningKey]:
        """The engine's objects by fingerprint, of the keys that it can sign with."""
        algorithms = {key.fingerprint: key.algorithm for key in facts(self.certificate_octets).keys}
        able = [one for one, algorithm in algorithms.items() if algorithm.signs and algorithm.supported]
        made: dict[Fingerprint, SigningKey] = {}
        for fingerprint in able:
            if fingerprint in self._secrets:
                with suppress(EngineRefused):
                    made[fingerprint] = ask(partial(self._engine_key, fingerprint))
        return made

    def _engine_key(self, fingerprint: Fingerprint) -> SigningKey:
        octets = self._with_secrets(components(single_key(self.certificate_octets, fingerprint)))
        whole = engine.SignedSecretKey.from_bytes(octets)
        return whole.secret_subkeys[0] if whole.secret_subkeys else whole


def _fingerprint(public_body: bytes) -> Fingerprint:
    return parse_secret(public_body + b"\0").public.fingerprint


def parse_keys(octets: bytes) -> list[ParsedKey]:
    """All keys and certificates of a file, armored (several blocks, with text around them) or binary.

    Raises KeyRefused when there is none, or when something in the file is damaged.
    """
    if not octets.strip():
        raise KeyRefused("there is no key: the input is empty")
    try:
        pieces = _key_blocks(octets)
        found = [_parsed(piece) for block in pieces for piece in _split(block)]
    except Malformed:
        raise KeyRefused("this is neither an OpenPGP key nor one of S/MIME, or it is damaged") from None
    if len(found) > MAX_KEYS_IN_FILE:
        raise KeyRefused(f"there are more than {MAX_KEYS_IN_FILE} keys in this file")
    return found


def _key_blocks(octets: bytes) -> list[bytes]:
    if not is_armored(octets):
        return [octets]
    blocks = dearmor(octets)
    keys = [block for kind, block in blocks if kind in _KEY_BLOCKS]
    if not keys and blocks:
        raise KeyRefused(f"there is no key here, but a PGP {blocks[0][0].lower()}")
    if not keys:
        raise Malformed("no armor at the start of a line")
    return keys


def _split(octets: bytes) -> list[bytes]:
    """Cut a row of keys at each primary key. Raises Malformed unless it starts with one."""
    pieces: list[list[bytes]] = []
    for packet in packets(octets):
        if packet.tag in (Tag.PUBLIC_KEY, Tag.SECRET_KEY):
            pieces.append([])
        elif not pieces:
            if packet.tag == Tag.MARKER:
                continue
            raise Malformed("does not start with a key")
        pieces[-1].append(packet.octets)
    joined = [b"".join(piece) for piece in pieces]
    if not joined or any(len(piece) > MAX_CERTIFICATE_OCTETS for piece in joined):
        raise Malformed("size")
    return joined


def _parsed(piece: bytes) -> ParsedKey:
    public = join(components(piece))
    facts(public)
    secrets = [p for p in packets(piece) if p.tag in (Tag.SECRET_KEY, Tag.SECRET_SUBKEY)]
    opened = [parse_secret(packet.body) for packet in secrets]
    present = [packet for packet in opened if not packet.stub]
    if secrets and not present:
        raise KeyRefused(
            f"the secret parts of key {facts(public).fingerprint} are not in this file (a smartcard?)"
        )
    return ParsedKey(public, piece if secrets else None, any(packet.usage for packet in present))


def unlock(secret_octets: bytes, passphrase: str | None) -> SecretKey:
    """Unlock a binary transferable secret key, all its subkeys with the one passphrase.

    `passphrase` is None for keys without protection. Raises KeyRefused: wrong passphrase, unknown protection,
    or halves that do not belong together. Costs about 0.1 s for each protected packet.
    """
    try:
        public = join(components(secret_octets))
        secrets = {}
        for packet in packets(secret_octets):
            if packet.tag not in (Tag.SECRET_KEY, Tag.SECRET_SUBKEY):
                continue
            secret = parse_secret(packet.body)
            body = unlocked_body(secret, packet.tag, passphrase)
            if body is not None:
                secrets[secret.public.fingerprint] = body
        key = SecretKey(public, secrets)
        if not secrets:
            raise KeyRefused(f"there is no secret key in key {key.fingerprint}")
        _ = key.private_keys  # proves that the halves belong together
    except Malformed:
        raise KeyRefused("this secret key is damaged, or of a kind that we cannot use") from None
    return key
