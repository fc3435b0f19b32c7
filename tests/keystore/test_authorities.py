"""Whom the owner believes, and what is known of revocation, through the keystore."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from keystore import smime
from keystore.errors import KeystoreError
from keystore.keystore import Keystore
from keystore.model import Purpose, Reason, RevocationState, SignatureState, Trust
from keystore.revocationtable import MAX_OCTETS, WantedList
from keystore.roots import Roots, RootSettings, platform_file, read_roots
from tests.fixtures.crls import points_to, revocation_list
from tests.fixtures.keystores import KeystoreFactory
from tests.fixtures.x509 import (
    DAY,
    NOW,
    PASSPHRASE,
    Issued,
    addresses,
    key_usage,
    learn,
    name,
    private_key,
    root,
)

OCTETS = b"Content-Type: text/plain\r\n\r\nUnder the windmill.\r\n"
HERE = "http://lists.example.org/mail.crl"
ROOT = root("Known Root", number=270)


def named(*numbers: int) -> list[Issued]:
    """People whose certificates say where the list is."""
    return [
        ROOT.issue(
            name(f"Person {number}"),
            private_key("p256", number),
            key_usage("digital_signature", "key_agreement"),
            addresses(f"p{number}@example.org"),
            points_to(HERE),
        )
        for number in numbers
    ]


def signed(person: Issued) -> bytes:
    chain = [one.public_bytes(Encoding.DER) for one in person.above]
    return smime.sign(OCTETS, smime.SecretKey(person.der, person.key), chain, NOW).der


def state(keystore: Keystore, person: Issued) -> SignatureState:
    (one,) = keystore.smime.verify(signed(person), OCTETS, NOW).signatures
    return one.state


def test_an_imported_authority_is_a_root_only_when_the_owner_says_so(keystore: Keystore) -> None:
    (person,) = named(271)
    assert state(keystore, person) is SignatureState.UNKNOWN_KEY
    keystore.import_keys(ROOT.pem, source="a test")
    assert state(keystore, person) is SignatureState.UNKNOWN_KEY
    keystore.set_trust(ROOT.fingerprint, Trust.VERIFIED)
    assert state(keystore, person) is SignatureState.GOOD
    keystore.set_trust(ROOT.fingerprint, Trust.REJECTED)
    assert state(keystore, person) is SignatureState.UNKNOWN_KEY


def test_an_own_key_brings_no_root_along(keystore: Keystore) -> None:
    """The authorities of a .p12 file are kept to be sent along; its owner's certificate is verified."""
    mine, other = named(272, 273)
    keystore.import_keys(mine.pkcs12(), source="a test", passphrase=lambda: PASSPHRASE)
    assert state(keystore, mine) is SignatureState.GOOD
    assert state(keystore, other) is SignatureState.UNKNOWN_KEY


def test_an_imported_certificate_is_no_anchor_until_it_is_verified(keystore: Keystore) -> None:
    (person,) = named(274)
    learn(keystore, person)
    assert state(keystore, person) is SignatureState.UNKNOWN_KEY
    keystore.set_trust(person.fingerprint, Trust.VERIFIED)
    assert state(keystore, person) is SignatureState.GOOD


def test_roots_of_a_file(make_keystore: KeystoreFactory, tmp_path: Path) -> None:
    """PEM or DER, several, repeated; what is no authority's certificate is none."""
    (person,) = named(275)
    pem, der = tmp_path / "roots.pem", tmp_path / "roots.der"
    pem.write_bytes(ROOT.pem + person.pem + ROOT.pem)
    der.write_bytes(ROOT.der)
    assert read_roots(pem) == read_roots(der) == (ROOT.der,)
    keystore = make_keystore("with-roots", roots=RootSettings((pem,), platform=False))
    assert state(keystore, person) is SignatureState.GOOD
    assert keystore.roots.all == (ROOT.der,)


def test_a_file_that_is_no_list_of_roots(tmp_path: Path) -> None:
    (person,) = named(276)
    path = tmp_path / "roots.pem"
    for octets, why in (
        (b"", "cannot be read"),
        (b"nonsense", "cannot be read"),
        (person.pem, "no certificate of"),
    ):
        path.write_bytes(octets)
        with pytest.raises(KeystoreError, match=f"{path}.*") as caught:
            read_roots(path)
        assert why in str(caught.value)
    with pytest.raises(KeystoreError, match=str(tmp_path / "missing")):
        read_roots(tmp_path / "missing.pem")


def test_roots_that_cannot_be_read_judge_nothing(make_keystore: KeystoreFactory, tmp_path: Path) -> None:
    """The error leaves, so that no verdict is fixed for a file that is away for a while."""
    keystore = make_keystore("lost", roots=RootSettings((tmp_path / "gone.pem",), platform=False))
    (person,) = named(277)
    with pytest.raises(KeystoreError, match=r"gone\.pem"):
        keystore.smime.verify(signed(person), OCTETS, NOW)


def test_roots_of_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What OpenSSL's own variable names is the platform's list."""
    path = tmp_path / "platform.pem"
    path.write_bytes(ROOT.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    assert platform_file() == path
    assert Roots(RootSettings()).all == (ROOT.der,)
    assert Roots(RootSettings(platform=False)).all == ()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    assert Roots(RootSettings()).all == ()


@pytest.fixture
def believing(keystore: Keystore) -> Keystore:
    """A keystore that believes the root."""
    keystore.import_keys(ROOT.pem, source="a test", trust=Trust.VERIFIED)
    return keystore


def add(keystore: Keystore, octets: bytes) -> str:
    """Keep a list as if it had been fetched."""
    return keystore.authorities.revocations.add(WantedList(HERE, ROOT.der), octets, NOW)


def test_what_is_revoked_is_refused_and_not_encrypted_to(believing: Keystore) -> None:
    """Of a certificate that the owner has verified, too."""
    gone, stays, verified = named(278, 279, 280)
    for one in (gone, stays, verified):
        believing.import_keys(one.pem, source="a test")
    believing.set_trust(verified.fingerprint, Trust.VERIFIED)
    before = believing.smime.verify(signed(gone), OCTETS, NOW).signatures[0]
    assert (before.state, before.revocation) == (SignatureState.GOOD, RevocationState.NOT_CHECKED)
    assert add(believing, revocation_list(ROOT, gone, verified)) == ""
    for one in (gone, verified):
        (result,) = believing.smime.verify(signed(one), OCTETS, NOW).signatures
        assert (result.state, result.reason) == (
            SignatureState.UNACCEPTABLE,
            "the certificate of the signer is revoked",
        )
        usability = believing.usability(one.fingerprint, Purpose.ENCRYPT, NOW)
        assert usability.reason is Reason.REVOKED
    (result,) = believing.smime.verify(signed(stays), OCTETS, NOW).signatures
    assert (result.state, result.revocation) == (SignatureState.GOOD, RevocationState.GOOD)
    assert believing.usability(stays.fingerprint, Purpose.ENCRYPT, NOW).usable


def test_a_list_out_of_date_clears_nobody(believing: Keystore) -> None:
    gone, stays = named(278, 279)
    old = {"this_update": NOW - 9 * DAY, "next_update": NOW - DAY}
    assert add(believing, revocation_list(ROOT, gone, **old)) == ""
    assert state(believing, gone) is SignatureState.UNACCEPTABLE
    (result,) = believing.smime.verify(signed(stays), OCTETS, NOW).signatures
    assert result.revocation is RevocationState.NOT_CHECKED


def test_an_older_list_does_not_take_the_place_of_a_newer_one(believing: Keystore) -> None:
    (gone,) = named(278)
    assert add(believing, revocation_list(ROOT, gone)) == ""
    assert "older" in add(believing, revocation_list(ROOT, this_update=NOW - DAY))
    assert "damaged" in add(believing, b"nonsense")
    assert "larger" in add(believing, b"0" * (MAX_OCTETS + 1))
    assert state(believing, gone) is SignatureState.UNACCEPTABLE
    (row,) = believing.authorities.revocations.all()
    assert (row.address, "larger" in row.failure) == (HERE, True)


def test_another_issuer_revokes_nobody(believing: Keystore) -> None:
    """Of the same name, at the same address."""
    (person,) = named(278)
    other = root("Known Root", number=281)
    found = believing.authorities.revocations.add(
        WantedList(HERE, other.der), revocation_list(other, person), NOW
    )
    assert found == ""
    assert state(believing, person) is SignatureState.GOOD


def test_which_lists_are_wanted(believing: Keystore) -> None:
    """Of people for whom a root vouches; authorities that nobody here believes are not asked."""
    person, rejected = named(282, 283)
    stranger = root("Stranger", number=284)
    elsewhere = stranger.issue(
        name("X"), private_key("p256"), addresses("x@example.org"), points_to("http://x.example/")
    )
    for one in (person, rejected, stranger, elsewhere):
        believing.import_keys(one.pem, source="a test")
    believing.set_trust(rejected.fingerprint, Trust.REJECTED)
    assert [(one.address, one.authority) for one in believing.authorities.wanted()] == [(HERE, ROOT.der)]
    add(believing, revocation_list(ROOT))
    believing.delete(person.fingerprint)
    believing.authorities.revocations.keep_only(believing.authorities.wanted())
    assert believing.authorities.revocations.all() == []


def test_another_process_sees_new_lists(believing: Keystore, make_keystore: KeystoreFactory) -> None:
    (gone,) = named(278)
    other = make_keystore()
    assert state(other, gone) is SignatureState.GOOD
    assert add(believing, revocation_list(ROOT, gone)) == ""
    assert state(other, gone) is SignatureState.UNACCEPTABLE
