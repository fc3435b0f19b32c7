"""New keys, as gpg and Sequoia see them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pysequoia
import pytest

from keystore import openpgp, policy
from keystore.errors import KeyRefused
from keystore.model import Purpose, Reason
from tests.keystore.oracle import Oracle, oracle

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def gpg() -> Iterator[Oracle]:
    with oracle() as home:
        yield home


@pytest.mark.parametrize(("kind", "days"), [("ed25519", None), ("ed25519", 30), ("rsa3072", 30)])
def test_gpg_and_sequoia_take_a_new_key(gpg: Oracle, kind: openpgp.KeyKind, days: int | None) -> None:
    expires = timedelta(days=days) if days else None
    address = f"{kind}-{days}@example.org"
    key = openpgp.generate(address, name="Zoë", kind=kind, now=NOW, expires=expires)
    gpg.run("--import", data=key.to_octets())
    listing = gpg.run("--with-colons", "--list-keys", key.fingerprint).stdout.decode()
    rows = [line.split(":") for line in listing.splitlines()]
    primary, subkey = (next(row for row in rows if row[0] == kind_of) for kind_of in ("pub", "sub"))
    assert [row[9] for row in rows if row[0] == "uid"] == [f"Zoë <{address}>"]
    assert (primary[11].lower()[:2], subkey[11]) in (("sc", "e"), ("cs", "e"))
    expected = str(int((NOW + expires).timestamp())) if expires else ""
    assert (primary[6], subkey[6]) == (expected, expected)
    made = gpg.run("--local-user", address, "--sign", "--encrypt", "-r", address, data=b"text").stdout
    assert gpg.run("--decrypt", data=made).stdout == b"text"
    # GnuPG 2.2 cannot read SEIPD version 2: the key must not announce it.
    exported = gpg.run("--export", key.fingerprint).stdout
    features = gpg.run("--list-packets", data=exported).stdout.decode()
    assert "features: 01" in features
    assert pysequoia.Cert.from_bytes(key.certificate_octets).fingerprint.upper() == key.fingerprint


def test_it_expires_when_it_was_said(gpg: Oracle) -> None:
    key = openpgp.generate("short@example.org", now=NOW, expires=timedelta(days=30))
    facts = openpgp.facts(key.certificate_octets)
    day = timedelta(days=1)
    assert policy.usability(facts, Purpose.ENCRYPT, NOW + 30 * day - timedelta(seconds=1)).usable
    assert policy.usability(facts, Purpose.ENCRYPT, NOW + 30 * day).reason is Reason.EXPIRED
    assert policy.usability(facts, Purpose.ENCRYPT, NOW - day).reason is Reason.NOT_YET_VALID
    certificate = openpgp.certificate(key.certificate_octets)
    assert (certificate.created, certificate.expires) == (NOW, NOW + 30 * day)
    gpg.run("--import", data=key.certificate_octets)
    assert gpg.encrypts(NOW + 29 * day, key.fingerprint) is not None
    assert gpg.encrypts(NOW + 31 * day, key.fingerprint) is None


def test_two_keys_are_different() -> None:
    assert (
        openpgp.generate("a@example.org", now=NOW).fingerprint
        != openpgp.generate("a@example.org", now=NOW).fingerprint
    )


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("", "no address"),
        ("", ""),
        ("Alice <x@example.org>", "alice@example.org"),
        ("Alice\nBcc: mallory", "alice@example.org"),
        ("", "alice@example.org>"),
        ("Ali\u202ece", "alice@example.org"),
    ],
)
def test_a_user_id_that_would_lie_is_refused(name: str, address: str) -> None:
    with pytest.raises(KeyRefused, match="user ID"):
        openpgp.generate(address, name=name, now=NOW)
