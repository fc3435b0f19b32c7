"""X509 files into the keystore: each certificate has a result, keys are wrapped, authorities go along."""

from __future__ import annotations

from datetime import datetime

import pytest

from keystore import openpgp
from keystore.errors import KeyRefused, StoreLocked
from keystore.keystore import Keystore
from keystore.model import Holder, ImportAction, Purpose, Reason, Scheme, Trust
from tests.fixtures.keystores import KeystoreFactory
from tests.fixtures.x509 import DAY, NOW, PASSPHRASE, Authority, Issued, OpenSSL, learn, own

ALICE, BOB = "alice@example.org", "bob@example.org"
ADDED, UPDATED, UNCHANGED, REFUSED = ImportAction


@pytest.fixture
def alice(mail_authority: Authority) -> Issued:
    """Somebody with a key."""
    return mail_authority.person(ALICE, "rsa2048")


def test_a_pkcs12_file_gives_the_key_and_the_authorities(keystore: Keystore, alice: Issued) -> None:
    results = keystore.import_keys(alice.pkcs12(), source="file alice.p12", passphrase=lambda: PASSPHRASE)
    assert [(one.action, one.secret) for one in results] == [(ADDED, True), (ADDED, False), (ADDED, False)]
    assert results[0].user_ids == (f"Alice <{ALICE}>",)
    assert "authority's" in results[1].reason
    found = keystore.certificate(alice.fingerprint)
    assert found is not None
    assert (found.scheme, found.holder, found.trust) == (Scheme.SMIME, Holder.OWN, Trust.VERIFIED)
    assert (found.algorithm, found.source) == ("RSA 2048", "file alice.p12")
    identity = keystore.identity(ALICE, NOW, scheme=Scheme.SMIME)
    assert identity is not None
    assert identity.certificate == found
    assert keystore.identity(ALICE, NOW) is None
    again = keystore.import_keys(alice.pkcs12(), source="again", passphrase=lambda: PASSPHRASE)
    assert {one.action for one in again} == {UNCHANGED}


def test_the_schemes_are_kept_apart(keystore: Keystore, alice: Issued) -> None:
    """A certificate is chosen for its scheme only, though pinned or of the same address."""
    own(keystore, alice)
    theirs = keystore.generate(ALICE)
    for scheme, expected in ((Scheme.OPENPGP, theirs.fingerprint), (Scheme.SMIME, alice.fingerprint)):
        for pinned in ((), (expected,)):
            selection = keystore.select(ALICE, NOW + DAY, pinned, scheme=scheme)
            assert [one.fingerprint for one in selection.certificates] == [expected]
    crossed = keystore.select(ALICE, NOW, (alice.fingerprint,))
    assert crossed.reason is Reason.OTHER_SCHEME
    assert "of the other scheme" in crossed.explanation
    assert {one.fingerprint for one in keystore.own(ALICE)} == {theirs.fingerprint, alice.fingerprint}
    with pytest.raises(KeyRefused, match="S/MIME key"):
        keystore.sign(b"octets", alice.fingerprint, NOW)
    with pytest.raises(KeyRefused, match="no S/MIME certificate"):
        keystore.smime.sign(b"octets", theirs.fingerprint, NOW)


def test_a_key_finds_its_certificate_that_came_before(keystore: Keystore, alice: Issued) -> None:
    [refused] = keystore.import_keys(alice.key_pem, source="key.pem")
    assert refused.action is REFUSED
    assert "import the certificate first" in refused.reason
    learn(keystore, alice)
    [result] = keystore.import_keys(alice.key_pem, source="key.pem")
    assert (result.action, result.secret, result.fingerprint) == (UPDATED, True, alice.fingerprint)


@pytest.mark.parametrize("order", ["key last", "certificate last"])
def test_one_key_serves_all_its_certificates(
    keystore: Keystore, alice: Issued, mail_authority: Authority, openssl: OpenSSL, order: str
) -> None:
    """An authority renewed the certificate without a new key: mail that names either opens."""
    renewed = mail_authority.person(ALICE, "rsa2048")
    files = [alice.pem, renewed.pem, alice.key_pem] if order == "key last" else [alice.pkcs12(), renewed.pem]
    results = [keystore.import_keys(one, source="a file", passphrase=lambda: PASSPHRASE) for one in files]
    assert all(one.secret for one in results[-1])
    for certificate in (alice, renewed):
        reader = openssl.file("reader.pem", certificate.pem)
        envelope = openssl("cms", "-encrypt", "-binary", "-outform", "DER", "-aes256", reader, octets=b"mail")
        assert keystore.smime.decrypt(envelope).octets == b"mail"


def test_a_strangers_certificate_of_an_own_key_is_not_own(
    keystore: Keystore, alice: Issued, mail_authority: Authority
) -> None:
    """Anybody can have any public key certified, under any address."""
    own(keystore, alice)
    [result] = keystore.import_keys(mail_authority.person(BOB, "rsa2048").pem, source="mail")
    assert not result.secret
    found = keystore.certificate(result.fingerprint or "")
    assert found is not None
    assert (found.holder, found.trust) == (Holder.NONE, Trust.KNOWN)


def test_both_schemes_in_one_text(keystore: Keystore, alice: Issued) -> None:
    bob = openpgp.generate(BOB, now=NOW)
    armored = openpgp.armor(bob.certificate_octets, "PUBLIC KEY BLOCK")
    results = keystore.import_keys(alice.pem + b"and\n" + armored, source="mail")
    assert [one.fingerprint for one in results] == [alice.fingerprint, bob.fingerprint]


def test_what_cannot_be_encrypted_to_is_kept_and_says_why(
    keystore: Keystore, mail_authority: Authority
) -> None:
    expired = mail_authority.person(BOB, since=NOW - 2 * DAY, until=NOW - DAY)
    [result] = keystore.import_keys(expired.pem, source="mail")
    assert result.action is ADDED
    assert result.reason.startswith("kept, but not for encryption: expired (on ")
    selection = keystore.select(BOB, NOW, scheme=Scheme.SMIME)
    assert (selection.reason, selection.certificates) == (Reason.EXPIRED, ())
    keystore.set_trust(expired.fingerprint, Trust.REJECTED)
    assert keystore.usability(expired.fingerprint, Purpose.ENCRYPT, NOW).reason is Reason.REJECTED


def test_a_wrong_passphrase_and_none(keystore: Keystore, alice: Issued) -> None:
    with pytest.raises(KeyRefused, match="does not open this PKCS #12 file"):
        keystore.import_keys(alice.pkcs12(), source="alice.p12", passphrase=lambda: "wrong")
    with pytest.raises(KeyRefused, match="none was given"):
        keystore.import_keys(alice.pkcs12(), source="alice.p12")
    assert keystore.certificates() == []


def test_the_private_key_is_wrapped_and_opens_after_a_start(
    make_keystore: KeystoreFactory, alice: Issued, tmp_path
) -> None:
    """At rest there is nothing of it in clear; the wrap belongs to this certificate alone."""
    with_key = make_keystore("home")
    own(with_key, alice)
    numbers = alice.key.private_numbers()
    octets = b"".join(file.read_bytes() for file in (tmp_path / "home").iterdir())
    assert numbers.p.to_bytes(128, "big") not in octets
    assert numbers.d.to_bytes(256, "big") not in octets
    again = make_keystore("home")
    again.unlock()
    signature = again.smime.sign(b"octets", alice.fingerprint, NOW)
    assert again.smime.proves(b"octets", signature.der, alice.fingerprint)
    assert not again.smime.proves(b"octetS", signature.der, alice.fingerprint)


def test_locked(make_keystore: KeystoreFactory, alice: Issued, credentials) -> None:
    own(make_keystore("home"), alice)
    for file in credentials.iterdir():
        file.unlink()
    locked = make_keystore("home")
    assert locked.locked
    assert [one.action for one in locked.import_keys(alice.pem, source="a file")] == [UNCHANGED]
    with pytest.raises(StoreLocked):
        locked.smime.sign(b"octets", alice.fingerprint, NOW)
    assert locked.smime.encrypt(b"octets", [alice.fingerprint], NOW)


def test_export_and_back(
    keystore: Keystore, alice: Issued, make_keystore: KeystoreFactory, openssl: OpenSSL
) -> None:
    own(keystore, alice)
    pem = keystore.export(alice.fingerprint)
    assert pem.count(b"-----BEGIN CERTIFICATE-----\r\n") == 3
    assert openssl("x509", "-noout", "-email", octets=pem).strip() == ALICE.encode()
    secret = keystore.export(alice.fingerprint, secret=True, passphrase="other")
    words = ["pkcs12", "-in", openssl.file("a.p12", secret), "-nodes", "-passin", "pass:other"]
    assert b"BEGIN PRIVATE KEY" in openssl(*words)
    results = make_keystore("other").import_keys(secret, source="a.p12", passphrase=lambda: "other")
    assert [one.action for one in results] == [ADDED] * 3


def test_found_by_address_fingerprint_and_words(keystore: Keystore, alice: Issued) -> None:
    own(keystore, alice)
    as_openssl = ":".join(alice.fingerprint[at : at + 2] for at in range(0, 64, 2))
    for query in (ALICE, alice.fingerprint, as_openssl, alice.fingerprint[:16], "ali example.org"):
        assert [one.fingerprint for one in keystore.certificates(query)] == [alice.fingerprint], query
    assert len(keystore.certificates("authority")) == 1


def test_an_x509_certificate_is_never_an_issuer_of_openpgp(keystore: Keystore, alice: Issued) -> None:
    """The first digits of a fingerprint might be made equal to the key ID of somebody."""
    own(keystore, alice)
    assert keystore._cache.by_issuer(alice.fingerprint) == []
    assert keystore._cache.by_issuer(alice.fingerprint[:16]) == []


def test_deleted_with_its_key(keystore: Keystore, alice: Issued) -> None:
    own(keystore, alice)
    keystore.delete(alice.fingerprint)
    assert keystore.own(ALICE) == []
    with pytest.raises(KeyRefused, match="there is no secret key"):
        keystore._vault.smime_key(alice.fingerprint)


def test_what_others_import_is_noticed(make_keystore: KeystoreFactory, alice: Issued) -> None:
    one, other = make_keystore("home"), make_keystore("home")
    assert other.certificates() == []
    own(one, alice)
    assert other.identity(ALICE, NOW, scheme=Scheme.SMIME) is not None


def test_a_look_alike_in_a_bundle_is_not_encrypted_to(keystore: Keystore, mail_authority: Authority) -> None:
    """Bob's certificate stays in use, though the other one is newer; when it ends, the owner is asked."""
    bob = learn(keystore, mail_authority.person(BOB, number=20, since=NOW - 9 * DAY, until=NOW + 9 * DAY))
    evil = mail_authority.person(BOB, number=21)
    other = mail_authority.person("mallory@evil.example", number=21)
    results = keystore.import_keys(other.pem + evil.pem, source="smime.p7s", now=NOW)
    assert [one.action for one in results] == [ADDED, ADDED]
    assert results[0].reason == ""
    assert results[1].reason.startswith(f"not used for {BOB}, which has {bob.fingerprint} already")

    def chosen(now: datetime) -> str:
        [one] = keystore.select(BOB, now, scheme=Scheme.SMIME).certificates
        return one.fingerprint

    assert chosen(NOW) == bob.fingerprint
    later = keystore.select(BOB, NOW + 10 * DAY, scheme=Scheme.SMIME)
    assert (later.certificates, later.reason) == ((), Reason.HELD)
    keystore.set_trust(evil.fingerprint, Trust.REJECTED)
    later = keystore.select(BOB, NOW + 10 * DAY, scheme=Scheme.SMIME)
    assert (later.certificates, later.reason) == ((), Reason.EXPIRED)
    keys = keystore.import_keys(evil.key_pem, source="key.pem", now=NOW)
    assert {one.fingerprint: one.secret for one in keys} == {evil.fingerprint: True, other.fingerprint: True}
    assert keystore.settling.waiting() == []


def test_a_renewal_of_the_same_key_is_no_change(keystore: Keystore, mail_authority: Authority) -> None:
    """Whatever its date and issuer, nobody but its owner can read the mail."""
    bob = mail_authority.person(BOB, number=22, since=NOW - 9 * DAY, until=NOW + DAY)
    renewed = mail_authority.person(BOB, number=22, since=NOW - DAY, until=NOW + 99 * DAY)
    learn(keystore, bob)
    [result] = keystore.import_keys(renewed.pem, source="mail", now=NOW)
    assert result.reason == ""
    [one] = keystore.select(BOB, NOW + 2 * DAY, scheme=Scheme.SMIME).certificates
    assert (one.fingerprint, one.trust) == (renewed.fingerprint, Trust.KNOWN)
