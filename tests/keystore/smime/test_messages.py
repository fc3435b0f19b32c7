"""CMS structures: what is made is proven, and what strangers write is read or refused, no more."""

from __future__ import annotations

import statistics
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keystore import smime
from keystore.errors import KeyRefused, NotReadable
from tests.fixtures.x509 import NOW, Authority, Issued, OpenSSL, private_key, root

OCTETS = b"Content-Type: text/plain\r\n\r\nUnder the windmill.\r\n"
BOB = root(number=100).person("bob@example.org", "p256", 60)
CAROL = root(number=100).person("carol@example.org", "rsa2048")
NOTHING, EVERYTHING = smime.NOTHING_STATED, smime.OWN
PLAIN, AUTHENTICATED = (
    smime.envelop(OCTETS, dict.fromkeys([BOB.der, CAROL.der], stated)).der for stated in (NOTHING, EVERYTHING)
)
SIGNATURE = smime.sign(OCTETS, smime.SecretKey(BOB.der, BOB.key), [], NOW).der


@pytest.mark.parametrize("stated", [NOTHING, EVERYTHING], ids=["CBC", "GCM"])
@pytest.mark.parametrize("kind", ["rsa2048", "p256", "p384", "p521"])
def test_what_is_enveloped_opens_with_each_key(
    mail_authority: Authority, kind: str, stated: smime.Capabilities
) -> None:
    people = [mail_authority.person("a@example.org", kind, 1), BOB, CAROL]
    for octets in (b"", b"x" * 15, b"x" * 16, OCTETS):
        envelope = smime.envelop(octets, {one.der: stated for one in people}).der
        assert set(smime.recipients(envelope)) == {smime.names_in_messages(one.der)[0] for one in people}
        for one in people:
            assert smime.open_message(envelope, smime.SecretKey(one.der, one.key)).octets == octets


def test_a_stranger_opens_nothing(mail_authority: Authority) -> None:
    dave = mail_authority.person("dave@example.org", "p256", 61)
    with pytest.raises(NotReadable, match="no secret key"):
        smime.open_message(PLAIN, smime.SecretKey(dave.der, dave.key))


def test_each_message_has_keys_of_its_own() -> None:
    """Content key, vector and ephemeral key: the same octets twice have nothing in common but the names."""
    one, other = (smime.envelop(OCTETS, {BOB.der: NOTHING}).der for _ in range(2))
    assert one[-64:] != other[-64:]
    assert statistics.mean(left == right for left, right in zip(one[-64:], other[-64:], strict=True)) < 0.5


def test_a_key_that_is_bound_to_pss_signs_with_pss(openssl: OpenSSL) -> None:
    """RFC 4055, RFC 4056: openssl makes the key and the certificate, and verifies."""
    key = openssl.file(
        "pss.pem", openssl("genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048")
    )
    words = [
        "req",
        "-x509",
        "-new",
        "-key",
        key,
        "-subj",
        "/CN=Alice",
        "-addext",
        "subjectAltName=email:a@b.example",
    ]
    pem = openssl(*words, "-addext", "basicConstraints=critical,CA:FALSE")
    contents = smime.read(pem + (openssl.folder / key).read_bytes(), lambda: "")
    der, private = contents.certificates[0], contents.keys[0]
    assert smime.facts(der).kind.value == "RSA-PSS"
    signature = smime.sign(OCTETS, smime.SecretKey(der, private), [], datetime.now(UTC))
    assert smime.proves(OCTETS, signature.der, der)
    files = [openssl.file("t", OCTETS), openssl.file("s", signature.der), openssl.file("c", pem)]
    words = ["cms", "-verify", "-binary", "-inform", "DER", "-content", files[0], "-in", files[1]]
    assert openssl(*words, "-CAfile", files[2], "-partial_chain") == OCTETS
    shown = openssl("cms", "-cmsout", "-print", "-noout", "-inform", "DER", "-in", files[1])
    assert b"rsassaPss" in shown
    with pytest.raises(KeyRefused):
        smime.SecretKey(der, private_key("rsa2048"))


@pytest.mark.parametrize(
    ("octets", "signature", "certificate"),
    [
        (OCTETS + b" ", SIGNATURE, BOB),
        (OCTETS, SIGNATURE, CAROL),
        (OCTETS, SIGNATURE[:-1] + bytes([SIGNATURE[-1] ^ 1]), BOB),
        (OCTETS, SIGNATURE + b"\0", BOB),
        (OCTETS, PLAIN, BOB),
        (OCTETS, b"", BOB),
    ],
    ids=["other octets", "another's", "changed", "more", "an envelope", "nothing"],
)
def test_what_proves_nothing(octets: bytes, signature: bytes, certificate: Issued) -> None:
    assert smime.proves(OCTETS, SIGNATURE, BOB.der)
    assert not smime.proves(octets, signature, certificate.der)


def test_a_signature_whose_attributes_are_another_messages(openssl: OpenSSL) -> None:
    """The digest among the signed attributes must be that of these octets, though the signature is right."""
    other = smime.sign(OCTETS + b"more", smime.SecretKey(BOB.der, BOB.key), [], NOW).der
    assert smime.proves(OCTETS + b"more", other, BOB.der)
    assert not smime.proves(OCTETS, other, BOB.der)


def test_a_signature_with_its_octets_inside_is_not_detached(openssl: OpenSSL) -> None:
    files = [openssl.file("key.pem", BOB.key_pem), openssl.file("cert.pem", BOB.pem)]
    words = ["cms", "-sign", "-binary", "-outform", "DER", "-inkey", files[0], "-signer", files[1]]
    assert smime.proves(OCTETS, openssl(*words, octets=OCTETS), BOB.der)
    assert not smime.proves(OCTETS, openssl(*words, "-nodetach", octets=OCTETS), BOB.der)
    second = ["-inkey", openssl.file("k2.pem", CAROL.key_pem), "-signer", openssl.file("c2.pem", CAROL.pem)]
    assert not smime.proves(OCTETS, openssl(*words, *second, octets=OCTETS), BOB.der)


@settings(max_examples=60)
@given(st.data())
def test_whatever_strangers_write_is_refused_in_our_words(data: st.DataObject) -> None:
    start = data.draw(st.sampled_from([PLAIN, AUTHENTICATED, SIGNATURE]))
    at = data.draw(st.integers(0, len(start) - 1))
    changed = start[:at] + data.draw(st.binary(max_size=4)) + start[at + data.draw(st.integers(0, 3)) :]
    for work in (
        lambda: smime.recipients(changed),
        lambda: smime.open_message(changed, smime.SecretKey(BOB.der, BOB.key)),
    ):
        try:
            work()
        except NotReadable as error:
            text = str(error)
        else:
            text = ""
        assert "windmill" not in text
    if changed != SIGNATURE:
        assert isinstance(smime.proves(OCTETS, changed, BOB.der), bool)


@pytest.mark.parametrize("depth", [100, 100_000])
def test_nesting_without_end(depth: int) -> None:
    for octets in (b"\x30\x80" * depth, b"\x30\x80" * depth + b"\0\0" * depth):
        with pytest.raises(NotReadable):
            smime.recipients(octets)
        with pytest.raises(KeyRefused):
            smime.read(octets, lambda: "")
