"""What S/MIME programs say that they read, and what is made of it: openssl reads all of it."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import combinations_with_replacement

import pytest
from cryptography.x509 import ObjectIdentifier, UnrecognizedExtension
from hypothesis import given
from hypothesis import strategies as st

from keystore import smime
from keystore.keystore import Keystore
from keystore.model import Fingerprint, Trust
from keystore.smime import NOTHING_STATED, OWN, Capabilities, ContentCipher, capabilities_of
from keystore.smime.capabilities import MAX_OCTETS, cipher_for, statement
from tests.fixtures.x509 import NOW, Authority, Issued, OpenSSL, addresses, learn, name, own, private_key

OCTETS = b"Content-Type: text/plain\r\n\r\nUnder the windmill.\r\n"
GCM256, GCM128, CBC256, CBC128 = ContentCipher


def states(*ciphers: ContentCipher) -> Capabilities:
    return Capabilities(frozenset(ciphers))


WEAK = bytes.fromhex("300f300d06082a864886f70d0302020128")
"""RC2 with 40 bits alone."""
TABLE = [
    # what the recipients have stated -> what they get
    ([NOTHING_STATED], CBC256),
    ([NOTHING_STATED, NOTHING_STATED], CBC256),
    ([OWN], GCM256),
    ([OWN, OWN], GCM256),
    ([OWN, NOTHING_STATED], CBC256),
    ([states(GCM256), states(GCM128)], CBC128),
    ([states(GCM128, CBC256), OWN], GCM128),
    ([states(GCM256)], GCM256),
    ([states(GCM128)], GCM128),
    ([states(CBC256, CBC128), OWN], CBC256),
    ([states(CBC128), OWN], CBC128),
    ([states(CBC128), NOTHING_STATED], CBC128),
    ([capabilities_of(WEAK)], CBC256),
    ([capabilities_of(WEAK), OWN], CBC256),
]


@pytest.mark.parametrize(("stated", "cipher"), TABLE)
def test_the_best_cipher_that_all_read(stated: list[Capabilities], cipher: ContentCipher) -> None:
    """RFC 8551 section 2.7.1: never weaker than AES-128, whatever somebody states."""
    assert cipher_for(stated) is cipher
    assert cipher_for(reversed(stated)) is cipher


def test_nobody_gets_better_by_company() -> None:
    order = list(ContentCipher)
    known = [NOTHING_STATED, OWN, *(states(one) for one in ContentCipher)]
    for pair in combinations_with_replacement(known, 2):
        assert order.index(cipher_for(pair)) >= max(order.index(cipher_for([one])) for one in pair)


@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
def test_what_we_state_is_what_openssl_calls_it(
    mail_authority: Authority, openssl: OpenSSL, kind: str
) -> None:
    """RFC 8551 section 2.5.2, in what is signed; OAEP only where there is a key of RSA (RFC 4055)."""
    alice = mail_authority.person("alice@example.org", kind)
    made = smime.sign(OCTETS, smime.SecretKey(alice.der, alice.key), [], NOW)
    shown = openssl("cms", "-cmsout", "-print", "-noout", "-inform", "DER", octets=made.der).decode()
    stated = shown.partition("S/MIME Capabilities")[2].partition("signingTime")[0]
    found = re.findall(r"OBJECT +:([a-z0-9A-Z-]+)", stated.partition("object:")[0])
    ciphers = ["aes-256-gcm", "aes-128-gcm", "aes-256-cbc", "aes-128-cbc"]
    assert found == ([*ciphers, "rsaesOaep", "sha256", "mgf1", "sha256"] if kind == "rsa2048" else ciphers)
    assert capabilities_of(statement(rsa=True)) == Capabilities(OWN.ciphers, frozenset({"sha256"}))
    assert capabilities_of(statement(rsa=False)) == OWN


@given(st.binary() | st.binary().map(lambda tail: statement(rsa=True)[:30] + tail))
def test_whatever_strangers_state(octets: bytes) -> None:
    assert capabilities_of(octets).ciphers <= frozenset(ContentCipher)


def test_a_statement_without_end_says_nothing() -> None:
    long = b"\x30\x82\x40\x00" + b"\x30\x0b\x06\x09`\x86H\x01e\x03\x04\x01\x2e" * (0x4000 // 13)
    assert len(long) > MAX_OCTETS
    assert capabilities_of(long) == NOTHING_STATED


@pytest.mark.parametrize("kind", ["rsa2048", "p256", "p384"])
@pytest.mark.parametrize(
    "stated",
    [*map(states, ContentCipher), Capabilities(OWN.ciphers, frozenset({"sha256", "sha512"}))],
    ids=[*(one.name for one in ContentCipher), "OAEP"],
)
def test_openssl_reads_every_cipher(
    mail_authority: Authority, openssl: OpenSSL, kind: str, stated: Capabilities
) -> None:
    """EnvelopedData, AuthEnvelopedData (RFC 5083, RFC 5084), and OAEP where it was stated (RFC 3560)."""
    bob = mail_authority.person("bob@example.com", kind)
    made = smime.envelop(OCTETS, {bob.der: stated})
    files = [openssl.file("key.pem", bob.key_pem), openssl.file("cert.pem", bob.pem)]
    words = ["cms", "-decrypt", "-inform", "DER", "-inkey", files[0], "-recip", files[1]]
    assert openssl(*words, octets=made.der) == OCTETS
    shown = openssl("cms", "-cmsout", "-print", "-noout", "-inform", "DER", octets=made.der).decode()
    assert made.cipher.name.lower().replace("_", "-").replace("aes", "aes-") in shown
    assert ("authEnvelopedData" in shown) is made.cipher.authenticates
    assert ("rsaesOaep" in shown) is (bool(stated.oaep) and kind == "rsa2048")
    assert smime.open_message(made.der, smime.SecretKey(bob.der, bob.key)).octets == OCTETS


class TestWhatIsKnown:
    """The word of a recipient's program, by signature or certificate, chooses the cipher."""

    ADDRESS = "bob@example.com"

    def stating(self, authority: Authority, stated: bytes) -> Issued:
        """A certificate with the extension of RFC 4262."""
        extension = UnrecognizedExtension(ObjectIdentifier("1.2.840.113549.1.9.15"), stated)
        key = private_key("p256", 83)
        return authority.issue(name("Bob"), key, addresses(self.ADDRESS), (extension, False))

    def cipher(self, keystore: Keystore, *people: Issued) -> ContentCipher:
        return keystore.smime.encrypt(OCTETS, [Fingerprint(one.fingerprint) for one in people], NOW).cipher

    def test_a_certificate_may_state_it(self, keystore: Keystore, mail_authority: Authority) -> None:
        bob = learn(keystore, self.stating(mail_authority, statement(rsa=False)))
        assert self.cipher(keystore, bob) is GCM256
        carol = learn(keystore, mail_authority.person("carol@example.net", "p256", 84))
        assert self.cipher(keystore, bob, carol) is CBC256

    def test_a_signature_says_it_later_than_the_certificate(
        self, keystore: Keystore, mail_authority: Authority
    ) -> None:
        """RFC 8551 section 2.7.1: the latest word counts, whatever order messages are read in."""
        bob = learn(keystore, self.stating(mail_authority, statement(rsa=False)))
        fingerprint = Fingerprint(bob.fingerprint)
        only_128 = bytes.fromhex("300d300b0609608648016503040102")
        for days, stated, cipher in (
            (0, only_128, CBC128),
            (-1, statement(rsa=False), CBC128),
            (2, statement(rsa=False), GCM256),
            (1, only_128, GCM256),
            (3, b"\x30\x00", GCM256),
            (4, b"garbage", GCM256),
        ):
            keystore.smime.learn_capabilities(fingerprint, stated, NOW + timedelta(days=days))
            assert self.cipher(keystore, bob) is cipher, days

    def test_what_is_repeated_moves_the_time_on(self, keystore: Keystore, mail_authority: Authority) -> None:
        bob = learn(keystore, mail_authority.person(self.ADDRESS, "p256", 83))
        only_128 = bytes.fromhex("300d300b0609608648016503040102")
        for days, stated in ((0, statement(rsa=False)), (9, statement(rsa=False)), (5, only_128)):
            keystore.smime.learn_capabilities(
                Fingerprint(bob.fingerprint), stated, NOW + timedelta(days=days)
            )
        assert self.cipher(keystore, bob) is GCM256

    def test_who_signs_with_one_certificate_states_it_for_the_other(
        self, keystore: Keystore, mail_authority: Authority
    ) -> None:
        """By the address that both have; not where the user has rejected the one that signed."""
        signing, reading = (mail_authority.person(self.ADDRESS, "p256", number) for number in (85, 86))
        keystore.import_keys(signing.pem + reading.pem, source="a test")
        keystore.smime.learn_capabilities(Fingerprint(signing.fingerprint), statement(rsa=False), NOW)
        assert self.cipher(keystore, reading) is GCM256
        keystore.set_trust(Fingerprint(signing.fingerprint), Trust.REJECTED)
        assert self.cipher(keystore, reading) is CBC256

    def test_of_strangers_nothing_is_kept(self, keystore: Keystore, mail_authority: Authority) -> None:
        bob = mail_authority.person(self.ADDRESS, "p256", 83)
        keystore.smime.learn_capabilities(Fingerprint(bob.fingerprint), statement(rsa=False), NOW)
        learn(keystore, bob)
        assert self.cipher(keystore, bob) is CBC256

    def test_a_signature_says_what_its_signer_has_stated(
        self, keystore: Keystore, mail_authority: Authority, openssl: OpenSSL
    ) -> None:
        """Of ours, and of openssl's, which names no GCM."""
        alice = own(keystore, mail_authority.person("alice@example.org", "p256"))
        ours = keystore.smime.sign(OCTETS, Fingerprint(alice.fingerprint), NOW).der
        files = [openssl.file("key.pem", alice.key_pem), openssl.file("cert.pem", alice.pem)]
        words = ["cms", "-sign", "-binary", "-outform", "DER", "-inkey", files[0], "-signer", files[1]]
        for signature, stated in ((ours, OWN), (openssl(*words, octets=OCTETS), states(CBC256, CBC128))):
            (result,) = keystore.smime.verify(signature, OCTETS, NOW + timedelta(minutes=1)).signatures
            assert capabilities_of(result.capabilities) == stated

    def test_we_ourselves_read_all(self, keystore: Keystore, mail_authority: Authority) -> None:
        """What goes to us alone is authenticated, whatever our certificate says."""
        alice = own(keystore, mail_authority.person("alice@example.org", "rsa2048"))
        assert self.cipher(keystore, alice) is GCM256
        bob = learn(keystore, mail_authority.person(self.ADDRESS, "p256", 83))
        assert self.cipher(keystore, alice, bob) is CBC256
