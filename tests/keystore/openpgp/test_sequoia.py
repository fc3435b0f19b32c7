"""Sequoia as a second opinion: another implementation reads ours, and we read its."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pysequoia
import pytest

from keystore import openpgp, policy
from keystore.model import Purpose, Reason, SignatureState
from keystore.openpgp.packet import Tag, binary, packets

MADE = datetime.now(UTC)
NOW = MADE + timedelta(days=1)  # keys and signatures of other programs are dated when the tests run
TEXT = b"words for Sequoia\r\n" * 40
V6 = pysequoia.Profile.RFC9580
V4 = pysequoia.Profile.RFC4880


@pytest.fixture(scope="module")
def own() -> openpgp.SecretKey:
    return openpgp.generate("own@example.org", now=MADE)


def theirs(profile: pysequoia.Profile) -> tuple[pysequoia.Tsk, openpgp.SecretKey]:
    tsk = pysequoia.Tsk.generate("Their <their@example.org>", profile=profile)
    return tsk, openpgp.unlock(bytes(tsk), None)


@pytest.mark.parametrize("profile", [V4, V6])
def test_it_reads_ours(own: openpgp.SecretKey, profile: pysequoia.Profile) -> None:
    tsk, key = theirs(profile)
    octets = key.certificate_octets
    usable = policy.usability(openpgp.facts(octets), Purpose.ENCRYPT, NOW, "their@example.org")
    assert usable.reason is None
    made = openpgp.encrypt(TEXT, [(octets, usable.keys)], own, NOW)
    certificate = pysequoia.Cert.from_bytes(own.certificate_octets)
    opened = pysequoia.decrypt(bytes=made, decryptor=tsk.decryptor(), store=lambda issuers: [certificate])
    assert opened.bytes == TEXT
    assert [one.certificate.upper() for one in opened.valid_sigs] == [own.fingerprint]
    version = next(p.body[0] for p in packets(binary(made, "MESSAGE")) if p.tag == Tag.SEIPD)
    assert version == (2 if profile == V6 else 1)


@pytest.mark.parametrize("profile", [V4, V6])
def test_we_read_its(own: openpgp.SecretKey, profile: pysequoia.Profile) -> None:
    tsk, key = theirs(profile)
    certificates = [openpgp.certificate(key.certificate_octets)]
    recipients = [pysequoia.Cert.from_bytes(one.certificate_octets) for one in (own, key)]
    made = pysequoia.encrypt(signer=tsk.signer(), recipients=recipients, bytes=TEXT)
    for reader in (own, key):
        opened = openpgp.open_message(made, [reader], lambda issuer: certificates, NOW)
        assert opened.octets == TEXT
        assert [(one.state, one.addresses) for one in opened.signatures] == [
            (SignatureState.GOOD, ("their@example.org",))
        ]
    signature = pysequoia.sign(signer=tsk.signer(), bytes=TEXT, mode=pysequoia.SignatureMode.DETACHED)
    (result,) = openpgp.verify_detached(TEXT, signature, lambda issuer: certificates, NOW)
    assert (result.state, result.fingerprint) == (SignatureState.GOOD, key.fingerprint)


def test_its_revocation_revokes() -> None:
    tsk, key = theirs(V4)
    certificate = pysequoia.Cert.from_bytes(key.certificate_octets)
    primary = next(packets(key.certificate_octets)).octets
    revocation = binary(str(certificate.revoke(tsk.certifier())).encode(), "SIGNATURE")
    merged = openpgp.merge(key.certificate_octets, primary + revocation)
    assert pysequoia.Cert.from_bytes(merged).is_revoked
    for purpose in Purpose:
        assert policy.usability(openpgp.facts(merged), purpose, NOW).reason is Reason.REVOKED
