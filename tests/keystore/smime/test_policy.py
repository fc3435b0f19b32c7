"""Which X.509 certificates serve for what, and why not: every reason in a table of real certificates."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from keystore import smime
from keystore.errors import KeyRefused
from keystore.model import Purpose, Reason
from tests.fixtures.x509 import (
    DAY,
    NOW,
    Authority,
    Extension,
    Issued,
    addresses,
    key_usage,
    name,
    private_key,
)

ALICE = "alice@example.org"
USES = {
    "mail": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "web": ExtendedKeyUsageOID.SERVER_AUTH,
}
OK = (True, True)


def extended(*uses: str) -> Extension:
    return x509.ExtendedKeyUsage([USES[one] for one in uses]), False


def judged(der: bytes, purpose: Purpose, address: str | None = ALICE, now=NOW) -> tuple[Reason | None, str]:
    usability = smime.usability(smime.facts(der), purpose, now, address)
    assert usability.usable == (usability.keys == (smime.fingerprint_of(der),))
    return usability.reason, usability.detail


@pytest.mark.parametrize(
    ("kind", "extensions", "encrypt", "sign"),
    [
        ("rsa2048", [], None, None),
        ("p256", [], None, None),
        ("p384", [], None, None),
        ("rsa2048", [key_usage("key_encipherment")], None, "key usage"),
        ("rsa2048", [key_usage("digital_signature")], "key usage", None),
        ("rsa2048", [key_usage("content_commitment")], "key usage", None),
        ("rsa2048", [key_usage("key_agreement")], "key usage", "key usage"),
        ("p256", [key_usage("key_agreement")], None, "key usage"),
        ("p256", [key_usage("key_encipherment", "digital_signature")], "key usage", None),
        ("p256", [extended("mail", "web")], None, None),
        ("p256", [extended("any")], None, None),
        ("p256", [extended("web")], "without emailProtection", "without emailProtection"),
        ("rsa1024", [], "RSA 1024", "RSA 1024"),
        ("k256", [], "secp256k1", "secp256k1"),
        ("brainpool256", [], None, None),
    ],
)
def test_keys_and_what_they_may_be_used_for(
    mail_authority: Authority, kind: str, extensions: list[Extension], encrypt: str | None, sign: str | None
) -> None:
    found = mail_authority.issue(name("Alice"), private_key(kind), addresses(ALICE), *extensions)
    for purpose, expected in ((Purpose.ENCRYPT, encrypt), (Purpose.SIGN, sign), (Purpose.VERIFY, sign)):
        reason, detail = judged(found.der, purpose)
        assert (reason is None) == (expected is None), (purpose, reason, detail)
        assert expected is None or expected in detail


def test_signatures_of_ed25519_are_verified_and_not_made(mail_authority: Authority) -> None:
    """RFC 8419: most mail programs do not verify them."""
    found = mail_authority.issue(name("Alice"), private_key("ed25519"), addresses(ALICE))
    assert judged(found.der, Purpose.VERIFY)[0] is None
    for purpose in (Purpose.SIGN, Purpose.ENCRYPT):
        reason, detail = judged(found.der, purpose)
        assert reason is not None
        assert "Ed25519" in detail


def test_time(mail_authority: Authority) -> None:
    """RFC 5280 section 4.1.2.5: both ends belong to the period."""
    der = mail_authority.person(ALICE, since=NOW, until=NOW + DAY).der
    table = [
        (NOW - timedelta(seconds=1), Reason.NOT_YET_VALID),
        (NOW, None),
        (NOW + DAY, None),
        (NOW + DAY + timedelta(microseconds=999_999), None),
        (NOW + DAY + timedelta(seconds=1), Reason.EXPIRED),
    ]
    for now, expected in table:
        for purpose in Purpose:
            assert judged(der, purpose, now=now)[0] is expected, now


def test_authorities_are_nobody_to_write_to(mail_authority: Authority) -> None:
    for purpose in Purpose:
        assert judged(mail_authority.der, purpose, None) == (Reason.AUTHORITY, "")


def test_a_critical_extension_that_we_do_not_know(mail_authority: Authority) -> None:
    unknown = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    for critical, expected in ((True, Reason.UNSUPPORTED), (False, None)):
        found = mail_authority.issue(name("A"), private_key("p256"), addresses(ALICE), (unknown, critical))
        assert judged(found.der, Purpose.ENCRYPT)[0] is expected


def test_issued_with_a_weak_hash(openssl) -> None:
    """cryptography does not sign with SHA-1 any more; openssl does."""
    key = openssl.file("key.pem", Issued(None, private_key("p256")).key_pem)  # type: ignore[arg-type]  # the key alone
    words = ["req", "-x509", "-new", "-key", key, "-subj", "/CN=Alice", "-outform", "DER", "-sha1"]
    words += ["-addext", f"subjectAltName=email:{ALICE}", "-addext", "basicConstraints=critical,CA:FALSE"]
    assert judged(openssl(*words), Purpose.ENCRYPT, now=NOW + DAY) == (
        Reason.WEAK_ALGORITHM,
        "issued with SHA-1",
    )


def utf8_mailbox(octets: bytes) -> x509.OtherName:
    return x509.OtherName(ObjectIdentifier("1.3.6.1.5.5.7.8.9"), octets)


@pytest.mark.parametrize(
    ("names", "subject", "expected"),
    [
        ([x509.RFC822Name("Alice@Example.ORG")], [], ("alice@example.org",)),
        (
            [x509.RFC822Name("a@example.org"), x509.RFC822Name("b@example.org")],
            [],
            ("a@example.org", "b@example.org"),
        ),
        ([], [(NameOID.EMAIL_ADDRESS, "old@example.org")], ("old@example.org",)),
        ([], [(NameOID.COMMON_NAME, "mallory@example.org")], ()),
        ([x509.DNSName("example.org")], [], ()),
        ([utf8_mailbox(b"\x0c\x12\xc3\xa9lise@example.org")], [], ("élise@example.org",)),
        ([utf8_mailbox(b"\x0c\x03\xff@a")], [], ()),
        ([utf8_mailbox(b"\x05\x00")], [], ()),
        ([], [(NameOID.EMAIL_ADDRESS, "two@example.org, three@example.org")], ()),
        ([], [(NameOID.EMAIL_ADDRESS, "nul@example.org\0.evil.example")], ()),
        ([], [(NameOID.EMAIL_ADDRESS, "\N{RIGHT-TO-LEFT OVERRIDE}alice@example.org")], ()),
    ],
)
def test_addresses(mail_authority: Authority, names: list, subject: list, expected: tuple[str, ...]) -> None:
    """RFC 8550 section 3, RFC 9598; what could be read in two ways is no address."""
    extensions = [(x509.SubjectAlternativeName(names), False)] if names else []
    found = mail_authority.issue(name("", *subject), private_key("p256"), *extensions)
    assert smime.facts(found.der).addresses == expected
    for address in expected:
        assert judged(found.der, Purpose.ENCRYPT, address.upper())[0] is None
    assert judged(found.der, Purpose.ENCRYPT, "carol@example.org") == (
        Reason.NOT_FOR_ADDRESS,
        "carol@example.org",
    )


def test_who_issued_a_certificate(mail_authority: Authority) -> None:
    (root,) = mail_authority.above
    root_der = root.public_bytes(Encoding.DER)
    alice = mail_authority.person(ALICE)
    impostor = Authority(
        x509.CertificateBuilder()
        .subject_name(mail_authority.certificate.subject)
        .issuer_name(mail_authority.certificate.subject)
        .public_key(private_key("p256", 50).public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + DAY)
        .sign(private_key("p256", 50), hashes.SHA256()),
        private_key("p256", 50),
    )
    assert smime.issued(mail_authority.der, alice.der)
    assert smime.issued(root_der, mail_authority.der)
    assert smime.issued(root_der, root_der)
    assert not smime.issued(root_der, alice.der)
    assert not smime.issued(impostor.der, alice.der)


@pytest.mark.parametrize(
    "change", [lambda der: der[:-1], lambda der: der + b"\0", lambda der: b"", lambda der: b"0" * 500]
)
def test_what_is_no_certificate_is_refused(
    mail_authority: Authority, change: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(KeyRefused, match=r"not an X\.509 certificate"):
        smime.certificate(change(mail_authority.der))
