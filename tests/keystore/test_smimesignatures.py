"""S/MIME signatures judged through the keystore: what programs emit, and what attackers make of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from keystore.errors import NotReadable
from keystore.keystore import Keystore, KeystoreSettings
from keystore.model import SignatureState, SignedContent, Trust
from keystore.secrets import SystemdSecrets
from tests.fixtures.x509 import NOW, Authority, Issued, OpenSSL, root

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
        for kind in ("rsa2048", "rsa3072", "p256", "p384", "p521")
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


def test_content_that_is_attributes(reader: Keystore, openssl: OpenSSL, signers: dict[str, Issued]) -> None:
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
