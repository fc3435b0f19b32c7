"""The end of an own key, as gpg 2.2 and Sequoia see it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pysequoia
import pytest

from keystore import openpgp, policy
from keystore.errors import KeyRefused
from keystore.model import Purpose, Reason
from keystore.openpgp.revoking import REASONS
from tests.keystore.oracle import oracle

NOW = datetime.now(UTC).replace(microsecond=0)
THEN = NOW - timedelta(days=60)
KEY = openpgp.generate("alice@example.org", now=THEN)


def test_gpg_takes_the_revocation_certificate_as_it_is() -> None:
    """Made at birth, without a reason, armored as a file has it."""
    made = openpgp.revocation_certificate(KEY, THEN)
    with oracle() as gpg:
        gpg.run("--trust-model=pgp", "--check-trustdb")  # makes the database that gpg notes a revocation in
        gpg.run("--import", data=KEY.certificate_octets)
        assert gpg.encrypts(NOW, KEY.fingerprint) is not None
        gpg.run("--import", data=openpgp.armor(made, "PUBLIC KEY BLOCK"))
        assert gpg.encrypts(NOW, KEY.fingerprint) is None
        listing = gpg.run("--with-colons", "--list-keys", KEY.fingerprint).stdout.decode()
    assert listing.splitlines()[1].startswith("pub:r:")


@pytest.mark.parametrize("reason", sorted(REASONS))
@pytest.mark.parametrize("kind", ["ed25519", "ed25519-v6"])
def test_a_revoked_key_serves_nobody(kind: openpgp.KeyKind, reason: openpgp.RevocationReason) -> None:
    key = openpgp.generate("alice@example.org", now=THEN, kind=kind)
    made = openpgp.revocation_certificate(key, NOW, reason)
    octets = openpgp.revoked(key.certificate_octets, openpgp.armor(made, "PUBLIC KEY BLOCK"))
    for purpose in Purpose:
        assert policy.usability(openpgp.facts(octets), purpose, NOW).reason is Reason.REVOKED
    assert pysequoia.Cert.from_bytes(octets).is_revoked
    assert openpgp.revoked(octets, made) == octets


def test_only_its_own_revocation_certificate_ends_a_key() -> None:
    other = openpgp.generate("alice@example.org", now=THEN)
    made = openpgp.revocation_certificate(other, NOW)
    changed = made[:-1] + bytes([made[-1] ^ 1])
    for octets in (made, changed, other.certificate_octets, b"", openpgp.armor(changed, "PUBLIC KEY BLOCK")):
        with pytest.raises(KeyRefused, match="no revocation certificate of"):
            openpgp.revoked(KEY.certificate_octets, octets)
    with pytest.raises(KeyRefused, match="not a revocation certificate"):
        openpgp.revoked(KEY.certificate_octets, b"text")
