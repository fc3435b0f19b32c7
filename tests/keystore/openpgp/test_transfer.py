"""Own keys going out under a passphrase come back whole, in other programs too; two versions become one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pysequoia
import pytest

from keystore import openpgp
from keystore.errors import KeyRefused
from keystore.openpgp.packet import Tag, packets

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
PASSPHRASE = "Zwölf Boxkämpfer"
TEXT = b"Meet me at the windmill.\n"


def sequoia(profile: pysequoia.Profile) -> openpgp.SecretKey:
    """A key with a signing and an encryption subkey, version 4 or 6."""
    made = pysequoia.Tsk.generate(user_id="alice@example.org", profile=profile)
    [parsed] = openpgp.parse_keys(bytes(made))
    return openpgp.unlock(parsed.secret_octets, None)


@pytest.fixture(scope="module", params=["ed25519", "rsa3072", "version 4, three keys", "version 6"])
def key(request) -> openpgp.SecretKey:
    if request.param.startswith("version"):
        version_6 = request.param == "version 6"
        return sequoia(pysequoia.Profile.RFC9580 if version_6 else pysequoia.Profile.RFC4880)
    return openpgp.generate("alice@example.org", kind=request.param, now=NOW)


@pytest.fixture(scope="module")
def locked(key) -> bytes:
    """The key under PASSPHRASE: made once, for it costs a tenth of a second a packet."""
    return openpgp.protect(key, PASSPHRASE)


@pytest.fixture(scope="module")
def three_keys() -> openpgp.SecretKey:
    """Version 4, for the stubs that GnuPG has invented for this version."""
    return sequoia(pysequoia.Profile.RFC4880)


def test_there_and_back(key, locked):
    [parsed] = openpgp.parse_keys(locked)
    assert parsed.protected
    assert openpgp.unlock(locked, PASSPHRASE).to_octets() == key.to_octets()
    for wrong in (None, PASSPHRASE.lower()):
        with pytest.raises(KeyRefused):
            openpgp.unlock(locked, wrong)


def test_no_secret_octets_remain(key, locked):
    clear = {packet.body for packet in packets(key.to_octets()) if packet.tag in _SECRET}
    for body in clear:
        assert body[-40:-2] not in locked
    assert openpgp.protect(key, None) == key.to_octets()


def test_each_packet_has_its_own_salt(key, locked):
    both = [openpgp.parse_keys(octets)[0] for octets in (locked, openpgp.protect(key, PASSPHRASE))]
    first, second = (
        {packet.octets for packet in packets(one.secret_octets) if packet.tag in _SECRET} for one in both
    )
    assert first
    assert not first & second


def test_sequoia_reads_it(key, locked):
    """An independent reader finds the same secrets behind the passphrase."""
    tsk = pysequoia.Tsk.from_bytes(locked)
    recipient = pysequoia.Cert.from_bytes(key.certificate_octets)
    signed = pysequoia.encrypt(recipients=[recipient], bytes=TEXT, signer=tsk.signer(PASSPHRASE))
    assert pysequoia.decrypt(decryptor=tsk.decryptor(PASSPHRASE), bytes=signed).bytes == TEXT
    with pytest.raises(RuntimeError):
        tsk.decryptor("wrong")


def test_union_keeps_every_secret(three_keys):
    whole = {packet.octets for packet in packets(three_keys.to_octets())}
    secrets = dict(three_keys._secrets)
    partial = [
        openpgp.SecretKey(three_keys.certificate_octets, {name: body}) for name, body in secrets.items()
    ]
    united = partial[0]
    for one in partial[1:]:
        united = openpgp.united(united, one)
    assert united.secret_fingerprints == three_keys.secret_fingerprints
    assert {packet.octets for packet in packets(united.to_octets())} == whole
    assert openpgp.united(three_keys, partial[0]).to_octets() == three_keys.to_octets()


def test_a_stub_stays_a_stub(three_keys):
    subkeys = {name: body for name, body in three_keys._secrets.items() if name != three_keys.fingerprint}
    laptop = openpgp.SecretKey(three_keys.certificate_octets, subkeys)
    back = openpgp.unlock(openpgp.protect(laptop, PASSPHRASE), PASSPHRASE)
    assert back.secret_fingerprints == frozenset(subkeys)


def test_two_keys_are_not_united(key):
    with pytest.raises(KeyRefused, match="two different"):
        openpgp.united(key, openpgp.generate("bob@example.org", now=NOW))


_SECRET = frozenset({Tag.SECRET_KEY, Tag.SECRET_SUBKEY})
