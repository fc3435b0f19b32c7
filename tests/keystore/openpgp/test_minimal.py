"""A certificate cut down: what stays is enough to use it, and nothing else stays. GnuPG reads the result."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pysequoia
import pytest

from keystore import openpgp, policy
from keystore.errors import KeyRefused
from keystore.keystore import Keystore
from keystore.model import Purpose, Trust
from keystore.openpgp.certificate import components, join
from keystore.openpgp.packet import Tag
from tests.keystore.oracle import Oracle, oracle

NOW = datetime.now(UTC).replace(microsecond=0)
THEN = NOW - timedelta(days=300)
RICH = "rich@example.org"


@pytest.fixture(scope="module")
def gpg() -> Iterator[Oracle]:
    with oracle() as home:
        yield home


@pytest.fixture(scope="module")
def rich(gpg: Oracle) -> bytes:
    """Two user IDs, a friend's certification, a renewal, two subkeys to encrypt and one to sign."""
    gpg.at(THEN, "--quick-generate-key", f"Rich <{RICH}>", "ed25519", "cert", "2y")
    gpg.at(THEN, "--quick-generate-key", "Friend <friend@example.org>", "ed25519", "sign,cert", "2y")
    fingerprint = gpg.fingerprints(f"=Rich <{RICH}>")[0]
    gpg.at(THEN, "--quick-add-uid", fingerprint, "Rich elsewhere <secret-life@example.net>")
    for day, subkey in enumerate(("cv25519 encr", "ed25519 sign", "cv25519 encr")):
        gpg.at(THEN + timedelta(days=day), "--quick-add-key", fingerprint, *subkey.split(), "2y")
    gpg.at(THEN, "--default-key", "friend@example.org", "--quick-sign-key", fingerprint)
    gpg.at(THEN + timedelta(days=9), "--quick-set-expire", fingerprint, "3y")
    return gpg.binary(fingerprint)


def counted(octets: bytes) -> list[tuple[int, int]]:
    """The tag of each component, and how many signatures it has."""
    return [(part.packet.tag, len(part.signatures)) for part in components(octets)]


def test_one_user_id_and_the_keys_in_use_each_with_its_newest_binding(
    rich: bytes, keystore: Keystore, gpg: Oracle
) -> None:
    (result,) = keystore.import_keys(rich, source="test")
    fingerprint = result.fingerprint
    assert fingerprint is not None
    primary, _first, signing, second = openpgp.key_fingerprints(rich)
    for signs, wanted in ((False, (primary, second)), (True, (primary, signing, second))):
        octets = keystore.exports.minimal(fingerprint, RICH.upper(), NOW, signs=signs)
        assert octets is not None
        assert openpgp.key_fingerprints(octets) == wanted
        assert counted(octets) == [(Tag.PUBLIC_KEY, 0), (Tag.USER_ID, 1)] + [(Tag.PUBLIC_SUBKEY, 1)] * len(
            wanted[1:]
        )
        assert b"secret-life" not in octets
        assert openpgp.facts(octets).user_ids[0].text == f"Rich <{RICH}>"
        (certification,) = openpgp.facts(octets).user_ids[0].certifications
        newest = max(one.created for one in openpgp.facts(rich).user_ids[0].certifications)
        assert certification.created == newest > THEN
    with oracle() as reader:
        reader.take(openpgp.armor(octets, "PUBLIC KEY BLOCK"))
        assert reader.fingerprints(RICH) == list(wanted)
        assert reader.encrypts(NOW, fingerprint) is not None


@pytest.mark.parametrize("kind", ["ed25519", "rsa3072"])
def test_a_key_made_here_is_minimal_already(kind: openpgp.KeyKind, keystore: Keystore) -> None:
    made = keystore.generate("alice@example.org", name="Alice", kind=kind)
    assert (
        keystore.exports.minimal(made.fingerprint, "alice@example.org", NOW + timedelta(1), signs=True)
        == made.octets
    )


def test_what_nobody_could_use_is_not_given_out(keystore: Keystore, rich: bytes) -> None:
    (result,) = keystore.import_keys(rich, source="test")
    fingerprint = result.fingerprint
    assert fingerprint is not None
    assert keystore.exports.minimal(fingerprint, "other@example.org", NOW) is None
    assert keystore.exports.minimal(fingerprint, RICH, THEN - timedelta(days=1)) is None
    assert keystore.exports.minimal(fingerprint, RICH, THEN + timedelta(days=4000)) is None
    keystore.set_trust(fingerprint, Trust.REJECTED)
    assert keystore.exports.minimal(fingerprint, RICH, NOW) is None


def test_a_binding_by_somebody_else_does_not_count(rich: bytes) -> None:
    mine = openpgp.generate("alice@example.org", now=THEN).certificate_octets
    (user_id,) = (one.text for one in openpgp.facts(mine).user_ids)
    subkey = openpgp.key_fingerprints(mine)[1]
    theirs = next(part for part in components(rich) if part.packet.tag == Tag.PUBLIC_SUBKEY)
    parts = components(mine)
    parts[2].signatures[:0] = [*theirs.signatures, b"\x04\x18", b"\x09"]
    assert openpgp.minimal(join(parts), user_id, (subkey,)) == mine
    parts[2].signatures[:] = theirs.signatures
    with pytest.raises(KeyRefused, match="not bound"):
        openpgp.minimal(join(parts), user_id, (subkey,))


@pytest.mark.parametrize("profile", [pysequoia.Profile.RFC4880, pysequoia.Profile.RFC9580])
def test_what_holds_other_programs_certificates_together_stays(
    profile: pysequoia.Profile, keystore: Keystore
) -> None:
    """Sequoia's have a direct-key signature, in version 6 the only place where the key's flags are."""
    made = bytes(pysequoia.Tsk.generate(user_id="Sequoia <s@example.org>", profile=profile))
    (result,) = keystore.import_keys(made, source="test")
    assert result.fingerprint is not None
    now = datetime.now(UTC) + timedelta(seconds=2)
    octets = keystore.exports.minimal(result.fingerprint, "s@example.org", now, signs=True)
    assert octets is not None
    stated = openpgp.facts(octets)
    assert stated.fingerprint == result.fingerprint
    assert all(policy.usability(stated, purpose, now, "s@example.org").usable for purpose in Purpose)
    assert len(components(octets)[0].signatures) == 1
