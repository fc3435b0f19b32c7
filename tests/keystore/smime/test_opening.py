"""CMS envelopes opened: what programs emit, old keys and odd names, and what is refused, in few words."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from keystore import smime
from keystore.errors import NotReadable
from keystore.smime import ber
from tests.fixtures.cms import CONTENT_TYPE, DATA, INTEGER_0, attribute, oid, sequence, string
from tests.fixtures.x509 import (
    NOW,
    Authority,
    Gpgsm,
    Issued,
    OpenSSL,
)

OCTETS = b"Content-Type: text/plain\r\n\r\nUnder the windmill.\r\n"
KINDS = ("rsa2048", "p256", "p384", "p521", "brainpool256")
CIPHERS = (
    "aes-128-cbc",
    "aes-192-cbc",
    "aes-256-cbc",
    "des3",
    "camellia-256-cbc",
    "aes-128-gcm",
    "aes-192-gcm",
    "aes-256-gcm",
)
FORMS = {"plain": [], "streamed": ["-stream"], "key identifier": ["-keyid"]}
OAEP = ["-keyopt", "rsa_padding_mode:oaep"]
KDFS = ("sha1", "sha224", "sha256", "sha384", "sha512")
TRANSPORT = {
    "oaep": OAEP,
    "oaep-sha256": [*OAEP, "-keyopt", "rsa_oaep_md:sha256"],
    "oaep-sha512-mgf-sha1": [*OAEP, "-keyopt", "rsa_oaep_md:sha512", "-keyopt", "rsa_mgf1_md:sha1"],
    "oaep-label": [*OAEP, "-keyopt", "rsa_oaep_label:00010203"],
    **{f"kdf-{name}": ["-keyopt", f"ecdh_kdf_md:{name}"] for name in KDFS},
    "cofactor": ["-keyopt", "ecdh_cofactor_mode:1"],
}


@pytest.fixture(scope="module")
def openssl(tmp_path_factory: pytest.TempPathFactory) -> OpenSSL:
    """openssl in a folder of this module."""
    return OpenSSL(tmp_path_factory.mktemp("openssl"))


@pytest.fixture(scope="module")
def people(mail_authority: Authority) -> dict[str, Issued]:
    """A reader for each kind of key."""
    return {kind: mail_authority.person(f"{kind}@example.org", kind, 0) for kind in KINDS}


def encrypted(
    openssl: OpenSSL, *readers: Issued, cipher: str = "aes-128-cbc", words: Sequence[str] = ()
) -> bytes:
    """What `openssl cms` makes; `words` stand before each reader's certificate."""
    certificates = []
    for number, reader in enumerate(readers):
        certificates += ["-recip", openssl.file(f"{number}.pem", reader.pem), *words]
    streams = [word for word in words if word in ("-stream", "-keyid")]
    start = ["cms", "-encrypt", "-binary", "-outform", "DER", f"-{cipher}", *streams]
    return openssl(*start, *(word for word in certificates if word not in streams), octets=OCTETS)


def secret(person: Issued) -> smime.SecretKey:
    """The person's key as the keystore has it."""
    return smime.SecretKey(person.der, person.key)


@pytest.mark.parametrize(
    ("kind", "cipher", "form"),
    [
        (kind, cipher, form)
        for kind, cipher, form in product(KINDS, CIPHERS, FORMS)
        if kind in ("p256", "rsa2048") or form == "plain"
    ],
)
def test_what_openssl_encrypts_opens(
    openssl: OpenSSL, people: dict[str, Issued], kind: str, cipher: str, form: str
) -> None:
    """RFC 8551 section 2.7: every cipher, form and kind of key that openssl cms has.

    With triple DES, its default for long, it wraps the key by triple DES, too (RFC 3217).
    """
    cms = encrypted(openssl, people[kind], cipher=cipher, words=FORMS[form])
    opened = smime.open_message(cms, secret(people[kind]))
    assert (opened.octets, opened.authenticated) == (OCTETS, cipher.endswith("gcm"))


@pytest.mark.parametrize("transport", TRANSPORT)
def test_every_way_for_the_key_to_come(openssl: OpenSSL, people: dict[str, Issued], transport: str) -> None:
    """RFC 3560 (OAEP), RFC 5753 (ECDH): hashes, labels, the cofactor."""
    reader = people["rsa2048" if transport.startswith("oaep") else "p384"]
    cms = encrypted(openssl, reader, words=TRANSPORT[transport])
    assert smime.open_message(cms, secret(reader)).octets == OCTETS


def test_each_of_several_recipients_reads(openssl: OpenSSL, people: dict[str, Issued]) -> None:
    cms = encrypted(openssl, *people.values(), cipher="aes-256-gcm")
    for reader in people.values():
        assert smime.open_message(cms, secret(reader)).octets == OCTETS
    assert smime.open_message(cms, *(secret(one) for one in people.values())).octets == OCTETS


def test_an_expired_certificate_still_reads(openssl: OpenSSL, mail_authority: Authority) -> None:
    old = NOW - timedelta(days=900)
    reader = mail_authority.person("old@example.org", since=old, until=old + timedelta(days=30))
    assert smime.open_message(encrypted(openssl, reader), secret(reader)).octets == OCTETS


def test_what_gpgsm_encrypts_opens(gpgsm: Gpgsm, people: dict[str, Issued]) -> None:
    """In pieces and with indefinite lengths. (gpgsm 2.2 does not encrypt to elliptic curves.)"""
    reader = people["rsa2048"]
    gpgsm.run("--import", octets=reader.pem + reader.chain)
    octets = OCTETS * 2000
    for cipher in ("AES", "AES192", "AES256", "3DES"):
        words = ["--encrypt", "--cipher-algo", cipher, "--recipient", reader.fingerprint_sha1]
        cms = gpgsm.run(*words, octets=octets).stdout
        assert cms.startswith(b"0\x80")
        assert smime.open_message(cms, secret(reader)).octets == octets, cipher


TYPED = attribute(CONTENT_TYPE, DATA)
RSA = sequence(oid("1.2.840.113549.1.1.1"), b"\x05\x00")
NONCE = bytes(12)
AES128_GCM = "2.16.840.1.101.3.4.1.6"
CHACHA20 = "1.2.840.113549.1.9.16.3.18"


@dataclass(frozen=True)
class Made:
    """A message made by hand, by RSA."""

    reader: Issued
    key: bytes
    algorithm: bytes
    ciphertext: bytes
    tag: bytes | None = None
    attributes: bytes = b""
    name: bytes | None = None
    content_type: bytes = DATA

    @property
    def cms(self) -> bytes:
        """BER that is DER."""
        public = self.reader.certificate.public_key()
        assert isinstance(public, rsa.RSAPublicKey)
        rid = self.name or smime.names_in_messages(self.reader.der)[0]
        info = sequence(INTEGER_0, rid, RSA, string(public.encrypt(self.key, padding.PKCS1v15())))
        parts = [INTEGER_0, ber.element(ber.SET, info)]
        parts.append(sequence(self.content_type, self.algorithm, ber.element(0x80, self.ciphertext)))
        if self.tag is not None:
            parts += [self.attributes, string(self.tag)]
        kind = "1.2.840.113549.1.7.3" if self.tag is None else "1.2.840.113549.1.9.16.1.23"
        return sequence(oid(kind), ber.element(0xA0, sequence(*parts)))


def by_gcm(reader: Issued, attributes: bytes = b"", **changes: Any) -> Made:
    """AES-128-GCM with these authenticated attributes."""
    key = bytes(range(16))
    associated = ber.element(ber.SET, attributes) if attributes else b""
    sealed = AESGCM(key).encrypt(NONCE, OCTETS, associated)
    parameters = sequence(string(NONCE), b"\x02\x01\x10")
    made = Made(reader, key, sequence(oid(AES128_GCM), parameters), sealed[:-16], sealed[-16:])
    return replace(made, attributes=ber.element(0xA1, attributes) if attributes else b"", **changes)


def test_authenticated_attributes(people: dict[str, Issued]) -> None:
    """RFC 5083 section 2.2: they are part of what is authenticated."""
    reader = people["rsa2048"]
    assert smime.open_message(by_gcm(reader, TYPED).cms, secret(reader)).octets == OCTETS
    added = replace(by_gcm(reader), attributes=ber.element(0xA1, TYPED))
    removed = replace(by_gcm(reader, TYPED), attributes=b"")
    for changed in (added, removed):
        with pytest.raises(NotReadable, match="damaged"):
            smime.open_message(changed.cms, secret(reader))


def test_chacha20_poly1305_opens(people: dict[str, Issued]) -> None:
    """RFC 8103."""
    reader, key = people["rsa2048"], bytes(range(32))
    sealed = ChaCha20Poly1305(key).encrypt(NONCE, OCTETS, b"")
    algorithm = sequence(oid(CHACHA20), string(NONCE))
    opened = smime.open_message(Made(reader, key, algorithm, sealed[:-16], sealed[-16:]).cms, secret(reader))
    assert (opened.octets, opened.authenticated) == (OCTETS, True)


@pytest.mark.parametrize(
    ("octets", "stated"), [(12, 12), (13, 13), (8, 8), (4, 4), (0, 0), (12, 16), (16, 12)]
)
def test_tags_of_other_lengths(people: dict[str, Issued], octets: int, stated: int) -> None:
    """RFC 5084 section 3.2: 12 to 16 octets, as many as stated; a shorter tag is easily guessed."""
    reader = people["rsa2048"]
    made = by_gcm(reader)
    parameters = sequence(string(NONCE), bytes((ber.INTEGER, 1, stated)))
    made = replace(made, algorithm=sequence(oid(AES128_GCM), parameters), tag=(made.tag or b"")[:octets])
    if octets == stated >= 12:
        assert smime.open_message(made.cms, secret(reader)).authenticated
    else:
        with pytest.raises(NotReadable, match="damaged"):
            smime.open_message(made.cms, secret(reader))


def test_names_in_other_encodings(people: dict[str, Issued]) -> None:
    """A program that writes the issuer's name anew, with other kinds of strings and other letters."""
    reader = people["rsa2048"]
    name = smime.names_in_messages(reader.der)[0]
    written = reader.certificate.issuer.rdns[0].get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert isinstance(written, str)
    other = name.replace(bytes((12, len(written))), bytes((19, len(written))))
    other = other.replace(written.encode(), written.upper().encode())
    assert other != name
    assert smime.open_message(by_gcm(reader, name=other).cms, secret(reader)).octets == OCTETS
    changed = other.replace(b"MAIL", b"MALL")
    with pytest.raises(NotReadable, match="no secret key"):
        smime.open_message(by_gcm(reader, name=changed).cms, secret(reader))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"content_type": oid("1.2.840.113549.1.7.2")}, "no mail"),
        ({"algorithm": sequence(oid("1.2.840.113549.3.2"), string(bytes(8))), "tag": None}, "RC2"),
        ({"algorithm": sequence(oid("1.2.840.113549.3.99")), "tag": None}, "not supported"),
        ({"tag": None}, "not supported"),
        ({"algorithm": sequence(oid("2.16.840.1.101.3.4.1.2"), string(bytes(16)))}, "not supported"),
    ],
    ids=["other content", "RC2", "unknown", "GCM without a tag", "CBC with a tag"],
)
def test_what_is_refused_before_any_key_is_used(
    people: dict[str, Issued], change: dict[str, Any], reason: str
) -> None:
    reader = people["rsa2048"]
    with pytest.raises(NotReadable, match=reason) as caught:
        smime.open_message(by_gcm(reader, **change).cms, secret(reader))
    assert caught.value.reason == "unsupported"


def test_every_failure_with_a_key_looks_alike(openssl: OpenSSL, people: dict[str, Issued]) -> None:
    """MIME-07, no oracle: a wrong padding, key, length, point or tag has one text, whatever the algorithm."""
    told = set()
    for kind, cipher in product(("rsa2048", "p256"), ("aes-128-cbc", "aes-128-gcm", "des3")):
        cms = encrypted(openssl, people[kind], cipher=cipher)
        envelope = smime.read_envelope(cms)
        recipient = envelope.recipients[0]
        ciphertext = bytes(envelope.ciphertext)
        fields = [recipient.encrypted_key, ciphertext, envelope.tag or ciphertext[-16:]]
        fields += [recipient.agreement.originator] if recipient.agreement else []
        for field in fields:
            for at in range(0, len(field), max(1, len(field) // 5)):
                changed = field[:at] + bytes((field[at] ^ 0xFF,)) + field[at + 1 :]
                try:
                    opened = smime.open_message(cms.replace(field, changed), secret(people[kind]))
                except NotReadable as error:
                    told.add((str(error), error.reason))
                else:
                    assert not opened.authenticated
    assert told == {("this S/MIME message is damaged", "damaged")}


def test_a_wrong_pkcs1_padding_is_told_from_a_right_one_by_nothing(people: dict[str, Issued]) -> None:
    """RFC 3218: the error is that of a wrong content key, whatever came out of RSA."""
    reader = people["rsa2048"]
    public = reader.certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    right = by_gcm(reader).cms
    length = 2048 // 8
    at = right.index(string(bytes(length))[:4]) + 4
    for encrypted_key in (
        public.encrypt(bytes(16), padding.PKCS1v15()),
        public.encrypt(bytes(15), padding.PKCS1v15()),
        bytes(range(length)),
        bytes(length),
        bytes([255]) * length,
    ):
        changed = right[:at] + encrypted_key + right[at + length :]
        with pytest.raises(NotReadable) as caught:
            smime.open_message(changed, secret(reader))
        assert (str(caught.value), caught.value.reason) == ("this S/MIME message is damaged", "damaged")


@settings(max_examples=150)
@given(data=st.data())
def test_no_change_passes_authenticated_encryption(people: dict[str, Issued], data: st.DataObject) -> None:
    """Whatever changes, what comes out is what went in, or nothing."""
    reader = people["rsa2048"]
    cms = by_gcm(reader, TYPED).cms
    at = data.draw(st.integers(0, len(cms) - 1))
    changed = cms[:at] + data.draw(st.binary(max_size=4)) + cms[at + data.draw(st.integers(0, 3)) :]
    with contextlib.suppress(NotReadable):
        opened = smime.open_message(changed, secret(reader))
        assert not opened.authenticated or opened.octets == OCTETS
