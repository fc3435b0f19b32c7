"""Files as people have them: whatever their form, what they hold is found; damage is refused in our words."""

from __future__ import annotations

import contextlib

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given, settings
from hypothesis import strategies as st

from keystore import forms, openpgp, smime
from keystore.errors import KeyRefused
from tests.fixtures.growth import assert_linear
from tests.fixtures.x509 import PASSPHRASE, Authority, Issued, OpenSSL, root

BOB = root(number=100).person("bob@example.org", "p256", 60)
RSA = root(number=100).person("rsa@example.org", "rsa2048")


def never() -> str:
    raise AssertionError("no passphrase is needed")


def read(octets: bytes, passphrase=never) -> smime.Contents:
    assert forms.is_x509(octets)
    return smime.read(octets, passphrase)


def bundle(encoding: Encoding, *people: Issued) -> bytes:
    return pkcs7.serialize_certificates([one.certificate for one in people], encoding)


@pytest.mark.parametrize(
    ("octets", "certificates", "keys"),
    [
        (BOB.der, 1, 0),
        (BOB.pem, 1, 0),
        (b"Subject: Bob\r\n\r\n" + BOB.pem.replace(b"\n", b"\r\n") + RSA.pem + BOB.pem, 2, 0),
        (BOB.pem.replace(b" CERTIFICATE", b" X509 CERTIFICATE"), 1, 0),
        (bundle(Encoding.DER, BOB, RSA), 2, 0),
        (bundle(Encoding.PEM, BOB, RSA), 2, 0),
        (BOB.pem + BOB.key_pem, 1, 1),
        (BOB.key_pem, 0, 1),
        (BOB.pkcs12(None), 2, 1),
    ],
    ids=["DER", "PEM", "several", "X509", "p7b", "p7b PEM", "with key", "key", "p12 in clear"],
)
def test_what_a_file_holds(octets: bytes, certificates: int, keys: int) -> None:
    found = read(octets)
    assert (len(found.certificates), len(found.keys)) == (certificates, keys)
    assert all(smime.certificate(one) for one in found.certificates)
    assert all(smime.belongs(one, BOB.der) for one in found.keys)


def test_pkcs12_of_others(openssl: OpenSSL) -> None:
    """As today's openssl makes it, and as old Windows and openssl did (RC2 and 3DES)."""
    key, certificate = openssl.file("key.pem", RSA.key_pem), openssl.file("cert.pem", RSA.pem + RSA.chain)
    words = ["pkcs12", "-export", "-inkey", key, "-in", certificate, "-passout", f"pass:{PASSPHRASE}"]
    for more in ([], ["-legacy"]):
        found = read(openssl(*words, *more), lambda: PASSPHRASE)
        assert found.certificates[0] == RSA.der
        assert smime.belongs(found.keys[0], RSA.der)


@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_protected_private_keys(openssl: OpenSSL, form: str) -> None:
    key = openssl.file("key.pem", BOB.key_pem)
    words = ["pkcs8", "-topk8", "-in", key, "-outform", form, "-passout", f"pass:{PASSPHRASE}"]
    protected = openssl(*words)
    assert smime.belongs(read(protected, lambda: PASSPHRASE).keys[0], BOB.der)
    with pytest.raises(KeyRefused, match="passphrase does not open this private key"):
        read(protected, lambda: "wrong")


def test_a_bundle_with_lengths_left_open(openssl: OpenSSL) -> None:
    """BER with indefinite lengths, as browsers once wrote it."""
    inner = bundle(Encoding.DER, BOB)
    content = smime_body(inner)
    found = read(b"\x30\x80" + content + b"\x00\x00")
    assert found.certificates == [BOB.der]


def smime_body(der: bytes) -> bytes:
    """What is inside the outermost sequence."""
    head = 2 + (der[1] & 0x7F if der[1] > 0x80 else 0)
    return der[head:]


def test_wrong_passphrases_and_damage() -> None:
    with pytest.raises(KeyRefused, match="passphrase does not open this PKCS #12 file"):
        read(BOB.pkcs12(), lambda: "wrong")
    with pytest.raises(KeyRefused, match="damaged"):
        read(bundle(Encoding.DER, BOB)[:-40])
    with pytest.raises(KeyRefused, match="PEM block in this file is damaged"):
        read(BOB.pem.replace(b"\nMII", b"\nM*I"))


def test_openpgp_is_not_taken_for_x509(mail_authority: Authority) -> None:
    key = openpgp.generate("alice@example.org", now=mail_authority.certificate.not_valid_before_utc)
    for octets in (key.to_octets(), openpgp.armor(key.certificate_octets, "PUBLIC KEY BLOCK"), b"0\n", b""):
        assert not forms.is_x509(octets)


@settings(max_examples=60)
@given(st.data())
def test_no_octets_do_more_than_be_refused(data: st.DataObject) -> None:
    """Changed at any place, a file is read or refused; nothing else is raised."""
    whole = data.draw(
        st.sampled_from(
            [BOB.der, bundle(Encoding.DER, BOB), BOB.pkcs12(None), BOB.pkcs12("x"), BOB.pem + BOB.key_pem]
        )
    )
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + data.draw(st.integers(0, 3)) :]
    if forms.is_x509(changed):
        with contextlib.suppress(KeyRefused):
            for one in smime.read(changed, lambda: "x").certificates:
                smime.certificate(one)


@pytest.mark.parametrize("piece", [b"-----BEGIN A-----\n", b"-----BEGIN A-----\n-----END B-----\n", b"-----"])
def test_blocks_without_an_end_cost_no_more_than_their_length(piece: bytes) -> None:
    assert_linear(lambda size: piece * size, forms.is_x509, 40_000)
