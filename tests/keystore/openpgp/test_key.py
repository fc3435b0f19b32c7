"""Key files as people have them, and unlocking: gpg's protection, the engine's, and stubs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpgp.composed import EncryptionCaps, KeyType, SecretKeyParamsBuilder, SubkeyParamsBuilder
from openpgp.types import S2kParams, StringToKey

from keystore import openpgp, policy
from keystore.errors import KeyRefused
from keystore.model import Purpose
from keystore.openpgp.packet import Tag, packets, write
from tests.keystore.oracle import Oracle, oracle

MADE = datetime.now(UTC)
NOW = MADE + timedelta(days=1)  # keys and signatures of other programs are dated when the tests run
PASSPHRASE = "correct horse, p\u00e4ssphrase"
ALGORITHMS = {"ed25519": "cv25519", "rsa2048": "rsa2048", "nistp384": "nistp384"}


@pytest.fixture(scope="module")
def gpg() -> Iterator[Oracle]:
    """A home whose keys have a passphrase."""
    with oracle(PASSPHRASE) as home:
        for primary, subkey in ALGORITHMS.items():
            name = f"{primary}@example.org"
            home.run("--quick-generate-key", name, primary, "sign,cert", "never")
            home.run("--quick-add-key", home.fingerprints(f"={name}")[0], subkey, "encr", "never")
        yield home


def works(key: openpgp.SecretKey) -> None:
    """It opens what is encrypted to it and signs, with nothing but itself."""
    octets = key.certificate_octets
    usable = policy.usability(openpgp.facts(octets), Purpose.ENCRYPT, NOW)
    made = openpgp.encrypt(b"text", [(octets, usable.keys)], None, NOW)
    assert openpgp.open_message(made, [key], lambda issuer: [], NOW).octets == b"text"
    signature = openpgp.sign_detached(key, b"text", NOW)
    certificate = openpgp.certificate(octets)
    (result,) = openpgp.verify_detached(b"text", signature.armored, lambda issuer: [certificate], NOW)
    assert result.state.value == "good"


@pytest.mark.parametrize("primary", ALGORITHMS)
def test_keys_of_gpg_unlock_once(gpg: Oracle, primary: str) -> None:
    exported = gpg.binary_secret(f"{primary}@example.org")
    (parsed,) = openpgp.parse_keys(exported)
    assert parsed.protected
    assert parsed.secret_octets is not None
    assert parsed.fingerprint == gpg.fingerprints(f"={primary}@example.org")[0]
    key = openpgp.unlock(parsed.secret_octets, PASSPHRASE)
    works(key)
    works(openpgp.SecretKey.from_octets(key.to_octets()))
    assert not openpgp.parse_keys(key.to_octets())[0].protected


@pytest.mark.parametrize("passphrase", ["wrong", "", None])
def test_wrong_passphrases_are_refused_by_name(gpg: Oracle, passphrase: str | None) -> None:
    exported = gpg.binary_secret("ed25519@example.org")
    with pytest.raises(KeyRefused, match="passphrase") as caught:
        openpgp.unlock(exported, passphrase)
    assert gpg.fingerprints("=ed25519@example.org")[0] in str(caught.value)


def test_subkeys_without_their_primary_key_decrypt(gpg: Oracle) -> None:
    exported = gpg.binary_secret("rsa2048@example.org", subkeys_only=True)
    key = openpgp.unlock(exported, PASSPHRASE)
    primary, subkey = gpg.fingerprints("=rsa2048@example.org")
    assert key.secret_fingerprints == {subkey}
    made = gpg.run("--encrypt", "-r", primary, data=b"text").stdout
    for one in (key, openpgp.SecretKey.from_octets(key.to_octets())):
        assert openpgp.open_message(made, [one], lambda issuer: [], NOW).octets == b"text"
        with pytest.raises(KeyRefused, match="its secret signing key is not here"):
            openpgp.sign_detached(one, b"text", NOW)


def test_gpg_takes_back_what_was_unlocked() -> None:
    key = openpgp.generate("back@example.org", now=MADE)
    with oracle() as home:
        home.run("--import", data=key.to_octets())
        works(openpgp.unlock(home.binary_secret(key.fingerprint), None))


PROTECTIONS = {
    "iterated, AES-128": S2kParams.cfb("aes128", StringToKey.iterated("sha256", 96)),
    "iterated, AES-256": S2kParams.cfb("aes256", StringToKey.iterated("sha512", 0)),
    "Argon2, OCB": S2kParams.aead("aes256", "ocb", StringToKey.argon2(1, 1, 10)),
    "Argon2, GCM": S2kParams.aead("aes128", "gcm", StringToKey.argon2(1, 1, 10)),
}


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protection", PROTECTIONS)
def test_protections_of_the_engine(version: int, protection: str) -> None:
    kinds = (
        (KeyType.ed25519(), KeyType.x25519())
        if version == 6
        else (KeyType.ed25519_legacy(), KeyType.ecdh("curve25519"))
    )
    subkey = SubkeyParamsBuilder().version(version).key_type(kinds[1]).can_encrypt(EncryptionCaps.all())
    subkey = subkey.passphrase(PASSPHRASE).s2k(PROTECTIONS[protection]).build()
    builder = SecretKeyParamsBuilder().version(version).key_type(kinds[0]).can_sign(True).can_certify(True)
    builder = builder.primary_user_id("engine@example.org").subkey(subkey)
    locked = builder.passphrase(PASSPHRASE).s2k(PROTECTIONS[protection]).generate().to_bytes()
    works(openpgp.unlock(locked, PASSPHRASE))
    with pytest.raises(KeyRefused, match="wrong passphrase"):
        openpgp.unlock(locked, "wrong")


def test_halves_that_do_not_belong_together_are_refused() -> None:
    one, other = (openpgp.generate(f"{name}@example.org", now=MADE) for name in ("one", "other"))
    mixed = b""
    for mine, theirs in zip(packets(one.to_octets()), packets(other.to_octets()), strict=True):
        if mine.tag in (Tag.SECRET_KEY, Tag.SECRET_SUBKEY):
            public = len(next(p.body for p in packets(one.certificate_octets) if p.tag == Tag.PUBLIC_KEY))
            public += 0 if mine.tag == Tag.SECRET_KEY else 5
            mixed += write(mine.tag, mine.body[:public] + theirs.body[public:])
        else:
            mixed += mine.octets
    with pytest.raises(KeyRefused, match="damaged"):
        openpgp.unlock(mixed, None)


# --- files


def test_files_with_several_keys(gpg: Oracle) -> None:
    binary_file = gpg.run("--export").stdout
    armored_file = gpg.run("--armor", "--export").stdout
    blocks = b"".join(
        b"A line between.\r\n" + gpg.run("--armor", "--export", f"{name}@example.org").stdout
        for name in ALGORITHMS
    )
    for octets in (binary_file, armored_file, blocks, blocks.replace(b"\n", b"\r\n")):
        found = openpgp.parse_keys(octets)
        assert len(found) == len(ALGORITHMS)
        assert all(one.secret_octets is None and not one.protected for one in found)


def test_secret_and_public_keys_in_one_file(gpg: Oracle) -> None:
    octets = gpg.binary("ed25519@example.org") + gpg.binary_secret("rsa2048@example.org")
    assert [one.secret_octets is not None for one in openpgp.parse_keys(octets)] == [False, True]


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"", "empty"),
        (b" \r\n", "empty"),
        (b"hello", "neither an OpenPGP key"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDME", "damaged"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n@@@@\n-----END PGP PUBLIC KEY BLOCK-----\n", "damaged"),
        (b"-----BEGIN PGP MESSAGE-----\n\nAAAA\n-----END PGP MESSAGE-----\n", "pgp message"),
        (b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "neither an OpenPGP key"),
    ],
)
def test_what_is_no_key_file(octets: bytes, words: str) -> None:
    with pytest.raises(KeyRefused) as caught:
        openpgp.parse_keys(octets)
    assert words.lower() in str(caught.value).lower()


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=8))
def test_damaged_key_files_raise_nothing_but_refusals(at: int, octets: bytes) -> None:
    damaged = SECRET[:at] + octets + SECRET[at + len(octets) :]
    with contextlib.suppress(KeyRefused):
        for one in openpgp.parse_keys(damaged):
            if one.secret_octets is not None:
                # What still opens is what it was: damage to the secret is noticed.
                works(openpgp.unlock(one.secret_octets, None))


SECRET = openpgp.generate("damaged@example.org", now=MADE).to_octets()


def test_no_secret_shows_in_text() -> None:
    key = openpgp.SecretKey.from_octets(SECRET)
    (parsed,) = openpgp.parse_keys(SECRET)
    assert repr(key) == f"SecretKey({key.fingerprint})"
    assert repr(parsed) == f"ParsedKey({key.fingerprint})"
    assert all(len(repr(one)) < 80 for one in key.private_keys)
