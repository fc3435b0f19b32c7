"""PKCS #12 files: all of their keys, whoever wrote them; a reason for each that does not open."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from keystore import forms, smime
from keystore.errors import KeyRefused
from keystore.keystore import Keystore
from keystore.model import Scheme
from keystore.smime import ber, pfx
from tests.fixtures.cms import DATA, INTEGER_0, NULL, oid, sequence, string
from tests.fixtures.x509 import PASSPHRASE, Gpgsm, OpenSSL, private_key, root

NSS = (Path(__file__).parents[2] / "corpus" / "pkcs12" / "nss.p12").read_bytes()
UMLAUTS = "grün €😀"
"""Its passphrase."""
MAIL = root(number=100)
BOB = MAIL.person("bob@example.org", "p256", 60)
CAROL = MAIL.person("carol@example.org", "p384")

ENCRYPTED, ENVELOPED = oid("1.2.840.113549.1.7.6"), oid("1.2.840.113549.1.7.3")
PBES2, PBMAC1 = oid("1.2.840.113549.1.5.13"), oid("1.2.840.113549.1.5.14")
PBKDF2, SCRYPT = oid("1.2.840.113549.1.5.12"), oid("1.3.6.1.4.1.11591.4.11")
TRIPLE_DES = oid("1.2.840.113549.1.12.1.3")
HMAC_SHA256 = sequence(oid("1.2.840.113549.2.9"), NULL)
SALT = b"saltsalt"
VERSION = b"\x02\x01\x03"


def read(octets: bytes, passphrase: str = PASSPHRASE) -> smime.Contents:
    assert forms.is_x509(octets)
    return smime.read(octets, lambda: passphrase)


def refusal(octets: bytes, passphrase: str = PASSPHRASE) -> str:
    with pytest.raises(KeyRefused) as refused:
        read(octets, passphrase)
    return str(refused.value)


def parts(octets: bytes) -> bytes:
    """What AuthenticatedSafe holds in a file (DER), one ContentInfo after the other."""
    outer = ber.Fields(ber.only(octets, ber.SEQUENCE).inside)
    outer.take(ber.INTEGER)
    content = ber.Fields(outer.take(ber.SEQUENCE).inside)
    content.take(ber.OID)
    safe = ber.only(content.take(0xA0).inside, ber.OCTET_STRING)
    return ber.only(safe.inside, ber.SEQUENCE).contents


def number(value: int) -> bytes:
    return ber.element(ber.INTEGER, value.to_bytes(value.bit_length() // 8 + 1))


def info(kind: bytes, content: bytes) -> bytes:
    return sequence(kind, ber.element(0xA0, content))


def file(safe: bytes, iterations: int = 2048, passphrase: str = PASSPHRASE) -> bytes:
    """A file with this AuthenticatedSafe under PBMAC1, as RFC 9579 has it."""
    safe = sequence(safe)
    key = hashlib.pbkdf2_hmac("sha256", passphrase.encode(), SALT, min(iterations, 2048), 32)
    derivation = sequence(PBKDF2, sequence(string(SALT), number(iterations), number(32), HMAC_SHA256))
    algorithm = sequence(PBMAC1, sequence(derivation, HMAC_SHA256))
    digest = string(hmac.digest(key, safe, "sha256"))
    mac = sequence(sequence(algorithm, digest), string(b"not used"), number(1))
    return sequence(VERSION, info(DATA, string(safe)), mac)


def encrypted(algorithm: bytes) -> bytes:
    """Something that says that it is encrypted in this way."""
    inside = sequence(DATA, algorithm, ber.element(0x80, bytes(32)))
    return info(ENCRYPTED, sequence(INTEGER_0, inside))


def pbes2(derivation: bytes) -> bytes:
    return encrypted(sequence(PBES2, sequence(derivation, sequence(TRIPLE_DES, NULL))))


def test_what_nss_exports(keystore: Keystore, openssl: OpenSSL) -> None:
    """Several keys in BER, their certificates long expired: mail to each of them opens."""
    results = keystore.import_keys(NSS, source="nss.p12", passphrase=lambda: UMLAUTS)
    assert [one.secret for one in results] == [True, True]
    assert all("not for encryption: expired" in one.reason for one in results)
    own = [one for one in keystore.own("alice@example.org") if one.scheme is Scheme.SMIME]
    assert {one.algorithm for one in own} == {"RSA 2048", "NIST P-256"}
    for one in own:
        reader = openssl.file("reader.pem", smime.pem([one.octets]))
        envelope = openssl("cms", "-encrypt", "-binary", "-outform", "DER", "-aes256", reader, octets=b"old")
        assert keystore.smime.decrypt(envelope).octets == b"old"


def test_armored() -> None:
    digits = base64.encodebytes(BOB.pkcs12())
    block = b"-----BEGIN PKCS12-----\n" + digits + b"-----END PKCS12-----\n"
    for octets in (block, b"Bob's key:\r\n" + block.replace(b"\n", b"\r\n")):
        found = read(octets)
        assert found.certificates[0] == BOB.der
        assert smime.belongs(found.keys[0], BOB.der)


def test_all_keys_and_pbmac1() -> None:
    """Those in clear too; each once."""
    found = read(file(parts(BOB.pkcs12()) + parts(CAROL.pkcs12(None)) + parts(BOB.pkcs12())))
    assert {BOB.der, CAROL.der} <= set(found.certificates)
    for person in (BOB, CAROL):
        assert [smime.belongs(one, person.der) for one in found.keys].count(True) == 1
    assert (len(found.keys), found.refusals) == (2, [])


def test_several_keys_under_an_empty_passphrase(openssl: OpenSSL) -> None:
    safe = b""
    for person in (BOB, CAROL):
        name = openssl.file("key.pem", person.key_pem + person.pem)
        safe += parts(openssl("pkcs12", "-export", "-in", name, "-passout", "pass:"))
    found = read(file(safe, passphrase=""), "not asked for")
    assert (len(found.keys), found.refusals) == (2, [])


def test_keys_that_cannot_be_taken_do_not_hinder_others(keystore: Keystore) -> None:
    protection = BestAvailableEncryption(PASSPHRASE.encode())
    alien = serialize_key_and_certificates(None, private_key("ed25519"), None, None, protection)
    damaged = parts(CAROL.pkcs12())
    at = damaged.index(b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x02") + 200
    damaged = damaged[:at] + bytes((damaged[at] ^ 1,)) + damaged[at + 1 :]
    octets = file(parts(BOB.pkcs12()) + parts(alien) + damaged)
    found = read(octets)
    assert [smime.belongs(one, BOB.der) for one in found.keys] == [True]
    assert ["kind" in one for one in sorted(found.refusals)] == [False, True]
    results = keystore.import_keys(octets, source="a test", passphrase=lambda: PASSPHRASE)
    assert [one.reason for one in results if one.fingerprint is None] == found.refusals
    assert "kind that is not supported" in refusal(alien)


@pytest.mark.parametrize("word", ["", "grün", UMLAUTS, "é" * 99], ids=["empty", "umlaut", "emoji", "long"])
def test_passphrases_of_openssl(openssl: OpenSSL, word: str) -> None:
    """Today's, and of the times before 2022; empty is not none."""
    openssl.file("key.pem", BOB.key_pem + BOB.pem)
    for more in ([], ["-legacy"]):
        octets = openssl("pkcs12", "-export", "-in", "key.pem", "-passout", f"pass:{word}", *more)
        assert smime.belongs(read(octets, word).keys[0], BOB.der)


def test_passphrases_of_gpgsm(gpgsm: Gpgsm) -> None:
    """gpgsm takes octets of UTF-8 for characters; some of its files open nowhere (fixtures/x509.py)."""
    (gpgsm.home / "gpg-agent.conf").write_text("allow-loopback-pinentry\n")
    carol = MAIL.person("carol@example.org", "rsa2048")
    gpgsm.own(carol)
    words = ["--pinentry-mode=loopback", "--passphrase-fd=0", "--export-secret-key-p12"]
    export = [*words, carol.fingerprint_sha1]
    exported = [gpgsm.run(*export, octets=f"{UMLAUTS}\n".encode()).stdout for _ in range(3)]
    found = []
    for octets in exported:
        with contextlib.suppress(KeyRefused):
            found += read(octets, UMLAUTS).keys
    assert found
    assert all(smime.belongs(one, carol.der) for one in found)


def test_damage_is_told_from_a_wrong_passphrase() -> None:
    whole = BOB.pkcs12()
    mac_changed = whole[:-20] + bytes((whole[-20] ^ 1,)) + whole[-19:]
    assert "passphrase is right" in refusal(mac_changed)
    assert refusal(mac_changed, "wrong") == refusal(whole, "wrong")
    assert refusal(whole, "wrong").startswith("the passphrase does not open this PKCS #12 file")
    for short in (whole[:-1], whole[: len(whole) // 2], NSS[:-1], NSS[:1000]):
        assert "damaged, or cut off" in refusal(short)


FAR = pfx.MAX_ITERATIONS


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (file(b"", FAR + 1), "takes too long"),
        (file(encrypted(sequence(TRIPLE_DES, sequence(string(SALT), number(FAR))))), "takes too long"),
        (file(pbes2(sequence(PBKDF2, sequence(string(SALT), number(FAR))))), "takes too long"),
        (file(pbes2(sequence(PBKDF2, sequence(string(SALT), number(2**4000))))), "takes too long"),
        (file(pbes2(sequence(SCRYPT, sequence(string(SALT), number(2**30))))), "hashed in a way not supp"),
        (file(encrypted(sequence(oid("1.2.3.4"), NULL))), "not supported (1.2.3.4)"),
        (file(info(ENVELOPED, sequence(INTEGER_0))), "encrypted to a key"),
        (sequence(VERSION, info(oid("1.2.840.113549.1.7.2"), string(bytes(160)))), "with a key"),
        (file(info(DATA, NULL)), "damaged"),
        (file(info(DATA, string(sequence(sequence(DATA))))), "damaged"),
    ],
    ids="MAC,triple DES,PBES2,huge,scrypt,unknown,to a key,signed,none,no bag".split(","),
)
def test_what_is_refused(octets: bytes, reason: str) -> None:
    assert reason in refusal(octets)


def test_the_limit_is_of_the_whole_file() -> None:
    one = encrypted(sequence(TRIPLE_DES, sequence(string(SALT), number(FAR // 3))))
    assert "takes too long" in refusal(file(one * 3))
