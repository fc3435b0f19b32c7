"""MIME-03: S/MIME signatures judged through the keystore, of programs and of attackers."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keystore import smime
from keystore.errors import NotReadable
from keystore.keystore import Keystore, KeystoreSettings
from keystore.model import SignatureState, SignedContent, Trust
from keystore.secrets import SystemdSecrets
from keystore.smime import ber
from tests.fixtures.cms import (
    BY_EC,
    BY_RSA,
    CONTENT_TYPE,
    DIGESTS,
    INTEGER_1,
    MESSAGE_DIGEST,
    NULL,
    SIGNED_DATA,
    SIGNING_TIME,
    Signing,
    a_set,
    attribute,
    oid,
    sequence,
    signed_data,
    string,
    usual,
)
from tests.fixtures.x509 import DAY, NOW, Authority, Issued, OpenSSL, name, private_key, root

OCTETS = b"Content-Type: text/plain\r\n\r\nUnder the windmill.\r\n"
FORMS = {
    "attributes": [],
    "no attributes": ["-noattr"],
    "key identifier": ["-keyid"],
    "streamed": ["-stream"],
    "sha384": ["-md", "sha384"],
    "sha512": ["-md", "sha512"],
}
RSA_FORMS = {"sha3-256": ["-md", "sha3-256"], "pss": ["-keyopt", "rsa_padding_mode:pss"]}
TABLE = [
    (kind, form, opaque)
    for kind in ("p256", "p384", "p521", "rsa3072")
    for form in ({**FORMS, **RSA_FORMS} if kind == "rsa3072" else FORMS)
    for opaque in (False, True)
    # openssl puts the content into what it streams, detached or not.
    if opaque or form != "streamed"
]


@pytest.fixture(scope="module")
def signers(mail_authority: Authority) -> dict[str, Issued]:
    """A person for each kind of key."""
    return {
        kind: mail_authority.person(f"{kind}@example.org", kind, 0)
        for kind in ("rsa2048", "rsa3072", "p256", "p384", "p521", "brainpool384", "ed25519")
    }


@pytest.fixture(scope="module")
def openssl(tmp_path_factory: pytest.TempPathFactory) -> OpenSSL:
    """openssl in a folder of this module."""
    return OpenSSL(tmp_path_factory.mktemp("openssl"))


@pytest.fixture(scope="module")
def reader(mail_authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystore]:
    """A keystore that knows the authorities and no person."""
    folder = tmp_path_factory.mktemp("reader")
    store = Keystore.open(KeystoreSettings(folder), SystemdSecrets(folder))
    for one in (mail_authority.pem, mail_authority.chain):
        store.import_keys(one, source="a test", trust=Trust.VERIFIED)
    yield store
    store.close()


def signed(openssl: OpenSSL, signer: Issued, *words: str, opaque: bool = False) -> bytes:
    """What `openssl cms` makes, the signer's certificate and its chain in it."""
    key, certificate = openssl.file("key.pem", signer.key_pem), openssl.file("cert.pem", signer.pem)
    chain = openssl.file("chain.pem", signer.chain)
    start = ["cms", "-sign", "-binary", "-outform", "DER", *(["-nodetach"] if opaque else [])]
    inside = ["-signer", certificate, "-inkey", key, "-certfile", chain]
    return openssl(*start, *inside, *words, octets=OCTETS)


def state(content: SignedContent) -> SignatureState:
    """The state of the one signature."""
    (one,) = content.signatures
    return one.state


@pytest.mark.parametrize(("kind", "form", "opaque"), TABLE)
def test_what_openssl_signs_is_good(
    reader: Keystore, openssl: OpenSSL, signers: dict[str, Issued], kind: str, form: str, opaque: bool
) -> None:
    """RFC 8551 section 2: every algorithm and form that openssl cms has."""
    signer = signers[kind]
    cms = signed(openssl, signer, *{**FORMS, **RSA_FORMS}[form], opaque=opaque)
    content = reader.smime.verify(cms, None if opaque else OCTETS, NOW)
    (result,) = content.signatures
    assert (result.state, result.reason) == (SignatureState.GOOD, "")
    assert content.octets == (OCTETS if opaque else None)
    assert result.addresses == (f"{kind}@example.org",)
    assert result.certificate == signer.der
    assert (result.created is None) == (form == "no attributes")
    assert state(reader.smime.verify(cms, None if opaque else OCTETS + b" ", NOW)) is (
        SignatureState.GOOD if opaque else SignatureState.BAD
    )


def test_content_inside_and_outside(reader: Keystore, openssl: OpenSSL, signers: dict[str, Issued]) -> None:
    """eContent confusion: a detached signature holds no content, and an opaque one does."""
    detached, opaque = (signed(openssl, signers["p256"], opaque=one) for one in (False, True))
    assert state(reader.smime.verify(opaque, OCTETS, NOW)) is SignatureState.BAD
    assert state(reader.smime.verify(opaque, b"other", NOW)) is SignatureState.BAD
    assert state(reader.smime.verify(detached, None, NOW)) is SignatureState.BAD


def test_an_untrusted_authority(reader: Keystore, openssl: OpenSSL) -> None:
    stranger = root("Nobody").person("mallory@example.org")
    content = reader.smime.verify(signed(openssl, stranger), OCTETS, NOW)
    assert state(content) is SignatureState.UNKNOWN_KEY
    assert content.signatures[0].addresses == ()


def test_what_is_no_signature(reader: Keystore) -> None:
    for octets in (b"", b"\0", OCTETS, b"0\x80" * 1000, b"0\x03\x02\x01\x01"):
        with pytest.raises(NotReadable):
            reader.smime.verify(octets, OCTETS, NOW)


def verdict(reader: Keystore, cms: bytes, octets: bytes | None = OCTETS) -> tuple[SignatureState, str]:
    """State and reason of the one signature."""
    (one,) = reader.smime.verify(cms, octets, NOW).signatures
    return one.state, one.reason


def by(signer: Issued, **changes: Any) -> bytes:
    """A detached signature over `OCTETS` made by hand, sent with the chain."""
    above = [one.public_bytes(Encoding.DER) for one in signer.above]
    digest = changes.get("digest", "sha256")
    given = {"attributes": usual(OCTETS, digest), "octets": OCTETS, **changes}
    return signed_data(Signing(signer=signer, **given).info, certificates=[signer.der, *above])


def pss(digest: str, mask: str, salt: int) -> bytes:
    """AlgorithmIdentifier of RSA-PSS."""
    hash_algorithm, mask_algorithm = (sequence(oid(DIGESTS[one]), NULL) for one in (digest, mask))
    mgf = sequence(oid("1.2.840.113549.1.1.8"), mask_algorithm)
    parts = (hash_algorithm, mgf, bytes((ber.INTEGER, 1, salt)))
    inside = [ber.element(0xA0 + number, part) for number, part in enumerate(parts)]
    return sequence(oid("1.2.840.113549.1.1.10"), sequence(*inside))


@pytest.mark.parametrize("kind", ["brainpool384", "ed25519"])
def test_kinds_that_openssl_does_not_sign_with(
    reader: Keystore, signers: dict[str, Issued], kind: str
) -> None:
    """RFC 8419 (Ed25519), RFC 5639."""
    digest = "sha512" if kind == "ed25519" else "sha384"
    assert verdict(reader, by(signers[kind], digest=digest)) == (SignatureState.GOOD, "")
    assert verdict(reader, by(signers[kind], digest=digest), b"other")[0] is SignatureState.BAD


@pytest.mark.parametrize(
    ("stated", "expected"), [("sha256", SignatureState.GOOD), ("sha384", SignatureState.UNACCEPTABLE)]
)
def test_ecdsa_with_its_hash_beside_it(
    reader: Keystore, signers: dict[str, Issued], stated: str, expected: SignatureState
) -> None:
    """X9.62 ecdsa-with-Specified, as Windows wrote it: the hash is that of the message digest, or nothing."""
    algorithm = sequence(oid("1.2.840.10045.4.3"), sequence(oid(DIGESTS[stated])))
    assert verdict(reader, by(signers["p256"], algorithm=algorithm))[0] is expected
    assert verdict(reader, by(signers["p256"], algorithm=algorithm), b"other")[0] is not SignatureState.GOOD


def test_ed25519_with_another_hash(reader: Keystore, signers: dict[str, Issued]) -> None:
    """RFC 8419 section 3.1: SHA-512 for the message digest."""
    assert verdict(reader, by(signers["ed25519"]))[0] is SignatureState.UNACCEPTABLE


@pytest.mark.parametrize("digest", ["md5", "sha1", "sha224"])
@pytest.mark.parametrize("attributes", [True, False])
def test_weak_hashes_are_computed_and_refused(
    reader: Keystore, signers: dict[str, Issued], digest: str, attributes: bool
) -> None:
    """A changed message is told from an old one; neither is good."""
    changes = {} if attributes else {"attributes": None}
    cms = by(signers["rsa2048"], digest=digest, **changes)
    state, reason = verdict(reader, cms)
    assert state is SignatureState.UNACCEPTABLE
    assert "weak" in reason
    assert verdict(reader, cms, OCTETS + b"!")[0] is SignatureState.BAD


@pytest.mark.parametrize(
    ("digest", "mask", "salt", "expected"),
    [
        ("sha256", "sha256", 32, SignatureState.GOOD),
        ("sha256", "sha512", 20, SignatureState.GOOD),
        ("sha256", "sha256", 0, SignatureState.UNACCEPTABLE),
        ("sha256", "sha1", 32, SignatureState.UNACCEPTABLE),
        ("sha1", "sha1", 20, SignatureState.UNACCEPTABLE),
        ("sha512", "sha512", 32, SignatureState.UNACCEPTABLE),
    ],
)
def test_parameters_of_pss(
    reader: Keystore, signers: dict[str, Issued], digest: str, mask: str, salt: int, expected: SignatureState
) -> None:
    """RFC 4055, RFC 4056: strong hashes, that of the message digest, and a salt of some length."""
    used = "sha256" if digest == "sha512" else digest
    scheme = padding.PSS(padding.MGF1(getattr(hashes, mask.upper())()), salt)
    cms = by(signers["rsa2048"], digest=used, scheme=scheme, algorithm=pss(digest, mask, salt))
    assert verdict(reader, cms)[0] is expected


def test_keys_that_would_cost_long(reader: Keystore, mail_authority: Authority) -> None:
    """A public exponent as long as the modulus makes every verification as dear as a signature."""
    numbers = private_key("rsa2048").private_numbers()
    odd = rsa.RSAPublicNumbers(numbers.public_numbers.n - 2, numbers.public_numbers.n).public_key()
    builder = x509.CertificateBuilder(mail_authority.certificate.subject, name("Mallory"), odd)
    builder = builder.serial_number(5).not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
    slow = Issued(builder.sign(mail_authority.key, hashes.SHA256()), private_key("rsa2048"))
    state, reason = verdict(reader, by(slow))
    assert (state, "too large" in reason) == (SignatureState.UNACCEPTABLE, True)


def test_attributes_shown_as_content(reader: Keystore, signers: dict[str, Issued]) -> None:
    """A signature over attributes is no signature over a message that reads like these attributes."""
    signer = signers["p256"]
    attributes = usual(OCTETS)
    content = a_set(*attributes)
    signature = signer.key.sign(content, ec.ECDSA(hashes.SHA256()))
    assert verdict(reader, by(signer, attributes=attributes, signature=signature))[0] is SignatureState.GOOD
    forged = by(signer, attributes=None, signature=signature)
    state, reason = verdict(reader, forged, content)
    assert (state, "attributes" in reason) == (SignatureState.BAD, True)


def ess(kind: str, certificate: bytes, *more: bytes) -> bytes:
    """A signing-certificate attribute, version 1 with SHA-1 or version 2 with SHA-256."""
    digest = hashlib.sha1 if kind == "12" else hashlib.sha256
    identifier = sequence(string(digest(certificate).digest()), *more)
    return attribute(oid(f"1.2.840.113549.1.9.16.2.{kind}"), sequence(sequence(identifier)))


def issuer_serial(certificate: bytes, serial: bytes = b"") -> bytes:
    """IssuerSerial of a certificate."""
    issuer, number = ber.elements(ber.only(smime.names_in_messages(certificate)[0], ber.SEQUENCE).inside)
    return sequence(sequence(ber.element(0xA4, issuer.whole)), serial or number.whole)


PROTECTION = oid("1.2.840.113549.1.9.52")
SHA256 = sequence(oid(DIGESTS["sha256"]))


def protection(digest: bytes, signature: str) -> bytes:
    """A CMSAlgorithmProtection attribute (RFC 6211)."""
    return attribute(PROTECTION, sequence(digest, ber.element(0xA1, oid(signature))))


def signing_time(moment: datetime) -> bytes:
    """The time of signing as a GeneralizedTime."""
    return attribute(SIGNING_TIME, b"\x18\x0f" + f"{moment:%Y%m%d%H%M%SZ}".encode())


def added(*attributes: bytes) -> list[bytes]:
    """The usual attributes and these."""
    return [*usual(OCTETS), *attributes]


P256 = root(number=100).person("someone@example.org", "p256", 77).der
"""Of somebody else."""
GOOD_ATTRIBUTES: dict[str, Callable[[bytes], list[bytes]]] = {
    "version 1": lambda own: added(ess("12", own)),
    "version 2": lambda own: added(ess("47", own)),
    "both, with names": lambda own: added(ess("12", own, issuer_serial(own)), ess("47", own)),
    "algorithms": lambda _: added(protection(SHA256, BY_EC)),
    "NULL parameters": lambda _: added(protection(sequence(oid(DIGESTS["sha256"]), NULL), BY_EC)),
    "unknown": lambda _: added(attribute(oid("1.2.3.4"), string(b"x"), b"\x86\x01x")),
    "a time": lambda _: added(signing_time(NOW)),
}
BAD_ATTRIBUTES: dict[str, Callable[[bytes], list[bytes]]] = {
    "another's, version 1": lambda _: added(ess("12", P256)),
    "another's, version 2": lambda _: added(ess("47", P256)),
    "another's name": lambda own: added(ess("47", own, issuer_serial(P256))),
    "another number": lambda own: added(ess("47", own, issuer_serial(own, INTEGER_1))),
    "two values": lambda own: added(
        attribute(oid("1.2.840.113549.1.9.16.2.47"), *(2 * [sequence(sequence(sequence(string(own))))]))
    ),
    "no value": lambda _: added(attribute(oid("1.2.840.113549.1.9.16.2.47"))),
    "another hash": lambda _: added(protection(sequence(oid(DIGESTS["sha512"])), BY_EC)),
    "another algorithm": lambda _: added(protection(SHA256, BY_RSA)),
    "content type alone": lambda _: usual(OCTETS)[:1],
    "digest alone": lambda _: usual(OCTETS)[1:],
    "none at all": lambda _: [],
    "digest twice": lambda _: [*usual(OCTETS), usual(b"other")[1]],
    "digest of two values": lambda _: [
        usual(OCTETS)[0],
        attribute(MESSAGE_DIGEST, *(string(hashlib.sha256(one).digest()) for one in (OCTETS, b"other"))),
    ],
    "type twice": lambda _: [*usual(OCTETS), usual(OCTETS)[0]],
    "another type": lambda _: [attribute(CONTENT_TYPE, SIGNED_DATA), usual(OCTETS)[1]],
    "another digest": lambda _: usual(b"other"),
    "no time": lambda _: added(attribute(SIGNING_TIME, b"\x17\x0d" + b"269999999999Z")),
    "a local time": lambda _: added(attribute(SIGNING_TIME, b"\x18\x0e" + b"20260101000000")),
}


@pytest.mark.parametrize("case", GOOD_ATTRIBUTES)
def test_attributes_that_may_be(reader: Keystore, signers: dict[str, Issued], case: str) -> None:
    """RFC 5652 section 11, RFC 5035, RFC 6211."""
    signer = signers["p256"]
    cms = by(signer, attributes=GOOD_ATTRIBUTES[case](signer.der))
    assert verdict(reader, cms) == (SignatureState.GOOD, "")


@pytest.mark.parametrize("case", BAD_ATTRIBUTES)
def test_attributes_that_may_not_be(reader: Keystore, signers: dict[str, Issued], case: str) -> None:
    """RFC 5652 section 11, RFC 5035, RFC 6211: what they demand must be so."""
    signer = signers["p256"]
    assert verdict(reader, by(signer, attributes=BAD_ATTRIBUTES[case](signer.der)))[0] is SignatureState.BAD


def test_unsigned_attributes_count_for_nothing(reader: Keystore, signers: dict[str, Issued]) -> None:
    """Counter-signatures and all else that anybody may add."""
    unsigned = ber.element(0xA1, attribute(oid("1.2.840.113549.1.9.6"), sequence(b"\x86\x01x")))
    assert verdict(reader, by(signers["p256"], unsigned=unsigned)) == (SignatureState.GOOD, "")


def test_several_signatures_have_each_a_result(reader: Keystore, signers: dict[str, Issued]) -> None:
    good, other = signers["p256"], root("Nobody").person("mallory@example.org")
    infos = [
        Signing(signer=good, attributes=usual(OCTETS)).info,
        Signing(signer=good, attributes=usual(OCTETS), signature=b"0\x06\x02\x01\x01\x02\x01\x01").info,
        Signing(signer=other, attributes=usual(OCTETS)).info,
        Signing(signer=signers["p384"], attributes=usual(OCTETS)).info,
    ]
    above = [one.public_bytes(Encoding.DER) for one in good.above]
    cms = signed_data(*infos, certificates=[good.der, other.der, *above])
    found = [one.state for one in reader.smime.verify(cms, OCTETS, NOW).signatures]
    unknown = SignatureState.UNKNOWN_KEY
    assert found == [SignatureState.GOOD, SignatureState.BAD, unknown, unknown]
    assert reader.smime.verify(signed_data(certificates=[good.der]), OCTETS, NOW).signatures == ()
    many = reader.smime.verify(signed_data(*(infos[:1] * 40), certificates=[good.der]), OCTETS, NOW)
    assert len(many.signatures) == 16


def test_a_certificate_under_anothers_name(reader: Keystore, signers: dict[str, Issued]) -> None:
    """Whoever sends one along under the name of another neither hides nor becomes the other."""
    good = signers["p256"]
    key = private_key("p256", 55)
    builder = x509.CertificateBuilder(good.certificate.issuer, good.certificate.subject, key.public_key())
    builder = builder.serial_number(good.certificate.serial_number)
    builder = builder.not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
    double = Issued(builder.sign(key, hashes.SHA256()), key)
    above = [one.public_bytes(Encoding.DER) for one in good.above]
    sent = [double.der, good.der, *above]
    infos = [Signing(signer=one, attributes=usual(OCTETS)).info for one in (good, double)]
    found = reader.smime.verify(signed_data(*infos, certificates=sent), OCTETS, NOW).signatures
    assert [one.state for one in found] == [SignatureState.GOOD, SignatureState.UNKNOWN_KEY]
    assert found[1].addresses == ()


def test_content_of_another_type(reader: Keystore, signers: dict[str, Issued]) -> None:
    """A time stamp or a receipt is no mail, though its octets might be read as such."""
    info = Signing(signer=signers["p256"], attributes=usual(OCTETS)).info
    for kind in ("1.2.840.113549.1.9.16.1.4", "1.2.840.113549.1.9.16.1.1", "1.2.840.113549.1.7.2"):
        with pytest.raises(NotReadable, match="no mail"):
            reader.smime.verify(signed_data(info, content=OCTETS, kind=oid(kind)), None, NOW)


def test_a_time_to_come(reader: Keystore, signers: dict[str, Issued]) -> None:
    for hours, expected in ((0.5, SignatureState.GOOD), (2, SignatureState.UNACCEPTABLE)):
        cms = by(signers["p256"], attributes=added(signing_time(NOW + timedelta(hours=hours))))
        assert verdict(reader, cms)[0] is expected


@pytest.fixture(scope="module")
def info(signers: dict[str, Issued]) -> bytes:
    """One SignerInfo."""
    return Signing(signer=signers["p256"], attributes=usual(OCTETS)).info


@settings(max_examples=200)
@given(data=st.data())
def test_no_changed_octet_of_what_is_signed_leaves_it_good(
    reader: Keystore, signers: dict[str, Issued], info: bytes, data: st.DataObject
) -> None:
    """Of the signed attributes and of the signature; the content is changed in other tests."""
    fields = ber.elements(ber.only(info, ber.SEQUENCE).inside)
    part = data.draw(st.sampled_from([one.whole for one in fields if one.tag in (0xA0, ber.OCTET_STRING)]))
    at = data.draw(st.integers(0, len(part) - 1))
    changed = part[:at] + data.draw(st.binary(max_size=3)) + part[at + data.draw(st.integers(0, 2)) :]
    assume(changed != part)
    signer = signers["p256"]
    above = [one.public_bytes(Encoding.DER) for one in signer.above]
    cms = signed_data(info.replace(part, changed), certificates=[signer.der, *above])
    with contextlib.suppress(NotReadable):
        found = reader.smime.verify(cms, OCTETS, NOW).signatures
        assert all(one.state is not SignatureState.GOOD for one in found)
