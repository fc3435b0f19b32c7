"""S/MIME messages as they leave: openssl and gpgsm verify and decrypt them, and every product was proven."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from keystore.errors import KeyRefused
from keystore.keystore import Keystore
from keystore.smime.capabilities import statement
from keystore.smimemessages import SmimeMessages
from secmailproxy.mime import pkcs7
from secmailproxy.mime.entity import parse
from secmailproxy.mime.kept import original
from secmailproxy.preparation import ProofFailed
from secmailproxy.sealing_smime import SmimeSealer
from secmailproxy.stamp import Stamp
from tests.fixtures.keystores import credentials, keystore, make_keystore
from tests.fixtures.x509 import (
    KINDS,
    NOW,
    Authority,
    Gpgsm,
    Issued,
    OpenSSL,
    addresses,
    key_usage,
    learn,
    name,
    own,
    private_key,
)

__all__ = ["credentials", "keystore", "make_keystore"]

ALICE, BOB, CAROL = "alice@example.org", "bob@example.com", "carol@example.net"
STAMP = Stamp(NOW, "=-boundary", "<made@example.org>")
MESSAGE = parse(
    b"From: <alice@example.org>\r\nTo: <bob@example.com>\r\nSubject: The treasure\r\n"
    b"Date: Mon, 02 Mar 2026 10:00:00 +0100\r\nMessage-ID: <1@example.org>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8; format=flowed\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"Under the windmill. \r\nFrom here, south-west\xc3\xa9\r\n.\r\n-- \r\nAlice\r\n"
)


@pytest.fixture
def alice(request: pytest.FixtureRequest, keystore: Keystore, mail_authority: Authority) -> Issued:
    """The sender, whose key is in the keystore; of RSA unless the test says otherwise."""
    return own(keystore, mail_authority.person(ALICE, getattr(request, "param", "rsa2048")))


@pytest.fixture
def sealer(keystore: Keystore) -> SmimeSealer:
    """Makes messages."""
    return SmimeSealer(keystore)


@pytest.mark.parametrize("alice", ["rsa2048", "p256", "p384"], indirect=True)
def test_signed_mail_is_verified_by_openssl_and_gpgsm(
    sealer: SmimeSealer, alice: Issued, mail_authority: Authority, openssl: OpenSSL, gpgsm: Gpgsm
) -> None:
    """MIME-01: the signature and its chain, the root being all that the reader knows."""
    made = sealer.signed(MESSAGE, alice.fingerprint, STAMP)
    content = openssl.verify(made, mail_authority.above[0])
    payload, signature = parse(made).parts
    assert content == payload.whole
    assert b'hp="clear"' in content
    assert b"Subject: The treasure" in content
    gpgsm.verifies(payload.whole, base64.b64decode(signature.body))


def test_a_signature_says_when_it_was_made_and_takes_the_chain_along_but_not_the_root(
    sealer: SmimeSealer, alice: Issued, openssl: OpenSSL
) -> None:
    signature = base64.b64decode(parse(sealer.signed(MESSAGE, alice.fingerprint, STAMP)).parts[1].body)
    shown = openssl("cms", "-cmsout", "-print", "-noout", "-inform", "DER", octets=signature).decode()
    assert f"{NOW:%b} {NOW.day:2} {NOW:%H:%M:%S} {NOW.year} GMT" in shown.partition("signingTime")[2][:200]
    assert "S/MIME Capabilities" in shown
    assert "signingCertificateV2" in shown
    certificates = openssl("pkcs7", "-print_certs", "-noout", "-inform", "DER", octets=signature).decode()
    assert {line for line in certificates.splitlines() if line.startswith("subject=")} == {
        "subject=CN = Alice",
        "subject=CN = Example Mail Authority",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_encrypted_mail_is_read_by_openssl_and_gpgsm(
    sealer: SmimeSealer,
    keystore: Keystore,
    alice: Issued,
    mail_authority: Authority,
    openssl: OpenSSL,
    gpgsm: Gpgsm,
    kind: str,
) -> None:
    """MIME-01: every kind of recipient, beside the sender; the signature inside is verified.

    gpgsm 2.2 decrypts with keys of RSA only, whoever has made the message.
    """
    bob = learn(keystore, mail_authority.person(BOB, kind, 1))
    copy = (bob.fingerprint, alice.fingerprint)
    (made,) = sealer.encrypted(MESSAGE, [copy], alice.fingerprint, STAMP, hidden=True)
    assert b"Subject: [...]" in made
    assert b"windmill" not in made
    inside = openssl.decrypt(made, bob)
    assert inside == openssl.decrypt(made, alice)
    content = openssl.verify(inside, mail_authority.above[0])
    assert content == parse(inside).parts[0].whole
    for line in (b'hp="cipher"', b"HP-Outer: Subject: [...]", b"Subject: The treasure"):
        assert line in content
    if kind.startswith("rsa"):
        gpgsm.own(bob)
        assert gpgsm.decrypt(base64.b64decode(parse(made).body)) == inside


def test_a_blind_copy_is_apart_and_nobody_is_named_in_it_who_should_not_be(
    sealer: SmimeSealer, keystore: Keystore, alice: Issued, mail_authority: Authority, openssl: OpenSSL
) -> None:
    """SMTP-09: no RecipientInfo tells the others of a blind recipient, nor him of them."""
    bob, carol = (learn(keystore, mail_authority.person(one, "p256", 8)) for one in (BOB, CAROL))
    copies = [(one.fingerprint, alice.fingerprint) for one in (bob, carol)]
    made = sealer.encrypted(MESSAGE, copies, alice.fingerprint, STAMP, hidden=True)
    for message, named in zip(made, (bob, carol), strict=True):
        cms = pkcs7.cms_octets(parse(message))
        assert cms is not None
        found = keystore.smime.recipients(cms)
        assert {one and one.fingerprint for one in found} == {named.fingerprint, alice.fingerprint}
        # They share a key, so that only the names in the envelope tell them apart.
        assert openssl.decrypt(message, named)


@pytest.mark.parametrize("to_bob", [False, True], ids=["GCM", "CBC"])
def test_a_message_is_in_the_form_that_mail_programs_expect(
    sealer: SmimeSealer, keystore: Keystore, alice: Issued, mail_authority: Authority, to_bob: bool
) -> None:
    """RFC 8551 sections 3.2, 3.3 and 3.4: types, names and lines of at most 76."""
    bob = learn(keystore, mail_authority.person(BOB, "p256", 8))
    copy = (alice.fingerprint, bob.fingerprint) if to_bob else (alice.fingerprint,)
    (made,) = sealer.encrypted(MESSAGE, [copy], alice.fingerprint, STAMP, hidden=False)
    root = parse(made)
    assert root.content_type.full == "application/pkcs7-mime"
    wanted = "enveloped-data" if to_bob else "authEnveloped-data"
    assert root.content_type.param("smime-type") == wanted
    assert b'filename="smime.p7m"' in made
    assert {len(line) for line in root.body.split(b"\r\n")[:-2]} == {76}
    assert b"\r\nSubject: The treasure\r\n" in made
    signed = parse(sealer.signed(MESSAGE, alice.fingerprint, STAMP))
    assert signed.content_type.param("protocol") == "application/pkcs7-signature"
    assert signed.content_type.param("micalg") == "sha-256"
    assert b'filename="smime.p7s"' in signed.octets


def test_who_has_stated_it_gets_mail_that_proves_its_integrity(
    sealer: SmimeSealer,
    keystore: Keystore,
    alice: Issued,
    mail_authority: Authority,
    openssl: OpenSSL,
) -> None:
    """AuthEnvelopedData (RFC 8551 section 3.4), to each blind recipient by what that one has stated."""
    people = [learn(keystore, mail_authority.person(one, "p256", 8)) for one in (BOB, CAROL)]
    copies = [(one.fingerprint, alice.fingerprint) for one in people]
    keystore.smime.learn_capabilities(people[0].fingerprint, statement(rsa=False), NOW)
    made = sealer.encrypted(MESSAGE, copies, alice.fingerprint, STAMP, hidden=True)
    types = ["authEnveloped-data", "enveloped-data"]
    for message, reader, wanted in zip(made, people, types, strict=True):
        assert parse(message).content_type.param("smime-type") == wanted
        assert openssl.verify(openssl.decrypt(message, reader), mail_authority.above[0])


@pytest.mark.parametrize("work", ["own_copy", "at_rest"])
def test_what_is_kept_for_its_owner_comes_back_as_it_was(
    sealer: SmimeSealer, alice: Issued, openssl: OpenSSL, work: str
) -> None:
    """IMAP-16: encrypted with a proof of integrity, the subject hidden; any program with the key reads it."""
    made = getattr(sealer, work)(MESSAGE, alice.fingerprint, STAMP)
    assert parse(made).content_type.param("smime-type") == "authEnveloped-data"
    assert b"Subject: [...]" in made
    assert b"windmill" not in made
    assert b"\r\nContent-ID: <boundary@" in made
    inside = openssl.decrypt(made, alice)
    assert original(inside) == MESSAGE.octets


def test_an_owner_with_two_certificates_signs_with_one_and_reads_with_the_other(
    sealer: SmimeSealer, keystore: Keystore, mail_authority: Authority, openssl: OpenSSL
) -> None:
    """RFC 8551 section 4: authorities issue separate certificates for the two purposes."""
    both = [
        mail_authority.issue(name("Alice"), private_key("rsa2048", number), key_usage(use), addresses(ALICE))
        for number, use in ((0, "digital_signature"), (1, "key_encipherment"))
    ]
    signing, reading = (own(keystore, one) for one in both)
    (made,) = sealer.encrypted(MESSAGE, [(signing.fingerprint,)], signing.fingerprint, STAMP, hidden=True)
    assert openssl.verify(openssl.decrypt(made, reading), mail_authority.above[0])
    keystore.delete(reading.fingerprint)
    with pytest.raises(KeyRefused, match=r"cannot be encrypted to \(.*key usage\).*; import the one"):
        sealer.encrypted(MESSAGE, [(signing.fingerprint,)], signing.fingerprint, STAMP, hidden=True)


class TestProof:
    """A product that is not what was decided does not leave."""

    @pytest.fixture
    def bob(self, keystore: Keystore, mail_authority: Authority) -> Issued:
        """A recipient."""
        return learn(keystore, mail_authority.person(BOB, "p256", 8))

    def test_a_signature_over_something_else(
        self, sealer: SmimeSealer, alice: Issued, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        right = SmimeMessages.sign
        changed = lambda self, octets, *rest: right(self, octets + b" ", *rest)  # noqa: E731
        monkeypatch.setattr(SmimeMessages, "sign", changed)
        with pytest.raises(ProofFailed, match="does not verify"):
            sealer.signed(MESSAGE, alice.fingerprint, STAMP)
        with pytest.raises(ProofFailed, match="does not verify"):
            sealer.encrypted(MESSAGE, [(alice.fingerprint,)], alice.fingerprint, STAMP, hidden=True)

    def test_a_signature_of_somebody_else(
        self,
        sealer: SmimeSealer,
        keystore: Keystore,
        alice: Issued,
        mail_authority: Authority,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        other = own(keystore, mail_authority.person(CAROL, "p256", 9))
        right = SmimeMessages.sign
        changed = lambda self, octets, _, now: right(self, octets, other.fingerprint, now)  # noqa: E731
        monkeypatch.setattr(SmimeMessages, "sign", changed)
        with pytest.raises(ProofFailed, match=f"signature of {alice.fingerprint} does not verify"):
            sealer.signed(MESSAGE, alice.fingerprint, STAMP)

    @pytest.mark.parametrize("stated", [b"", statement(rsa=False)], ids=["CBC", "GCM"])
    @pytest.mark.parametrize("change", ["one more", "one less", "other octets"])
    def test_an_envelope_that_is_not_what_was_wanted(
        self,
        sealer: SmimeSealer,
        keystore: Keystore,
        alice: Issued,
        bob: Issued,
        monkeypatch: pytest.MonkeyPatch,
        change: str,
        stated: bytes,
    ) -> None:
        keystore.smime.learn_capabilities(bob.fingerprint, stated, NOW)
        right = SmimeMessages.encrypt

        def changed(self: SmimeMessages, octets: bytes, recipients: list, now: object) -> bytes:
            if change == "other octets":
                octets += b" "
            else:
                recipients = [*recipients, bob.fingerprint] if change == "one more" else recipients[:-1]
            return right(self, octets, recipients, now)

        monkeypatch.setattr(SmimeMessages, "encrypt", changed)
        wanted = (alice.fingerprint,) if change == "one more" else (alice.fingerprint, bob.fingerprint)
        with pytest.raises(ProofFailed, match=r"not encrypted to the certificates|does not decrypt to"):
            sealer.encrypted(MESSAGE, [wanted], alice.fingerprint, STAMP, hidden=True)

    def test_a_boundary_that_occurs_inside(self, sealer: SmimeSealer, alice: Issued) -> None:
        with pytest.raises(ProofFailed, match="boundary"):
            sealer.signed(MESSAGE, alice.fingerprint, replace(STAMP, boundary="windmill"))
