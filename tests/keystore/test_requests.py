"""Requests for S/MIME certificates: openssl reads them and issues what finds its key here."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keystore.errors import KeyRefused, StoreLocked
from keystore.keystore import Keystore
from keystore.model import Holder, ImportAction, Scheme
from keystore.ownkeys import OwnKeys
from keystore.requests import Request
from tests.fixtures.keystores import KeystoreFactory
from tests.fixtures.x509 import DAY, NOW, Authority, OpenSSL

ALICE, WORK = "alice@example.org", "work@example.com"


def issued(openssl: OpenSSL, authority: Authority, request: Request, *options: str) -> bytes:
    """What openssl, as the authority, issues for a request, with the extensions that it asks for."""
    openssl.file("request.pem", request.pem)
    openssl.file("ca.pem", authority.pem)
    openssl.file("ca.key", authority.key_pem)
    words = ["x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "30"]
    return openssl(*words, *(options or ("-copy_extensions", "copyall")))


def taken(keystore: Keystore, octets: bytes) -> tuple[ImportAction, bool, str]:
    [result] = keystore.import_keys(octets, source="file new.cer")
    return result.action, result.secret, result.reason


@pytest.mark.parametrize("kind", ["p256", "rsa3072"])
def test_the_issued_certificate_finds_its_key(
    make_keystore: KeystoreFactory, openssl: OpenSSL, mail_authority: Authority, kind
) -> None:
    """It signs and opens mail, after a restart too, and the request waits no more."""
    keystore = make_keystore()
    request = keystore.requests.make(["Alice@example.org", WORK], "Alice", kind, NOW)
    said = openssl("req", "-verify", "-noout", "-text", octets=request.pem).decode()
    assert "Subject: CN = Alice" in said
    assert "email:Alice@example.org, email:work@example.com" in said
    assert "E-mail Protection" in said
    assert keystore.requests.of([WORK, "ALICE@example.org"]) == request
    assert keystore.requests.of([WORK]) is None
    certificate = issued(openssl, mail_authority, request)
    keystore = make_keystore()
    assert taken(keystore, certificate) == (ImportAction.ADDED, True, "")
    assert keystore.requests.all() == []
    identity = keystore.identity(ALICE, NOW + DAY, scheme=Scheme.SMIME)
    assert identity is not None
    assert identity.certificate.holder is Holder.OWN
    sealed = openssl(
        "cms", "-encrypt", "-aes256", "-outform", "DER", openssl.file("own.pem", certificate), octets=b"text"
    )
    assert keystore.smime.decrypt(sealed).octets.strip() == b"text"
    assert taken(keystore, certificate)[0] is ImportAction.UNCHANGED


def test_a_request_is_no_secret_and_its_key_is_sealed(keystore: Keystore, tmp_path) -> None:
    request = keystore.requests.make([ALICE], "", "p256", NOW)
    loaded = x509.load_pem_x509_csr(request.pem)
    public = loaded.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    [(sealed,)] = keystore._store.rows("SELECT sealed FROM requests")
    assert public not in sealed
    assert public not in repr(request).encode()


@pytest.mark.parametrize(
    "options",
    [("-copy_extensions", "none"), ("-extfile", "other.cnf")],
    ids=["none", "another"],
)
def test_a_certificate_for_other_addresses_does_not_get_the_key(
    keystore: Keystore, openssl: OpenSSL, mail_authority: Authority, options: tuple[str, ...]
) -> None:
    """Anybody can have a key certified whose request they have seen."""
    request = keystore.requests.make([ALICE], "", "p256", NOW)
    openssl.file("other.cnf", b"subjectAltName=email:mallory@example.net\n")
    action, secret, reason = taken(keystore, issued(openssl, mail_authority, request, *options))
    assert (action, secret) == (ImportAction.REFUSED, False)
    assert "issued for your request for alice@example.org" in reason
    assert taken(keystore, issued(openssl, mail_authority, request))[1]


def test_a_locked_keystore_takes_the_certificate_later(
    make_keystore: KeystoreFactory, openssl: OpenSSL, mail_authority: Authority, credentials
) -> None:
    """Nothing of the request is lost meanwhile."""
    request = make_keystore().requests.make([ALICE], "", "p256", NOW)
    certificate = issued(openssl, mail_authority, request)
    key = (credentials / "keystore-key").read_text()
    (credentials / "keystore-key").unlink()
    with pytest.raises(StoreLocked):
        make_keystore().import_keys(certificate, source="test")
    (credentials / "keystore-key").write_text(key)
    assert taken(make_keystore(), certificate) == (ImportAction.ADDED, True, "")


@pytest.mark.parametrize(
    ("addresses", "name", "text"),
    [
        ([], "", "needs an address"),
        (["alice"], "", "cannot be in a request"),
        (["Alice <alice@example.org>"], "", "cannot be in a request"),
        (["jos\u00e9@example.org"], "", "cannot be in a request"),
        ([ALICE], "Alice\nMallory", "the name"),
        ([ALICE], "A" * 65, "the name"),
    ],
)
def test_what_cannot_be_requested(keystore: Keystore, addresses, name: str, text: str) -> None:
    with pytest.raises(KeyRefused, match=text):
        keystore.requests.make(addresses, name, "p256", NOW)
    assert keystore.requests.all() == []


def test_only_the_authority_renews_or_revokes(keystore: Keystore, mail_authority: Authority) -> None:
    person = mail_authority.person(ALICE)
    keystore.import_keys(person.pkcs12(None), source="test")
    keys: OwnKeys = keystore.own_keys
    with pytest.raises(KeyRefused, match="only the authority"):
        keys.extend(person.fingerprint, None, NOW)
    with pytest.raises(KeyRefused, match="only the authority"):
        keys.revoke(person.fingerprint, "none", NOW)
