"""Outgoing S/MIME: which scheme is chosen, who can read it, what is refused. openssl is the reader."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509

from keystore.keystore import Keystore
from keystore.model import Scheme
from secmailproxy.errors import KeystoreLocked, NotAllowed, NoUsableCertificate, SigningKeyUnusable
from secmailproxy.mime import header
from secmailproxy.mime.canonical import crlf
from secmailproxy.mime.entity import parse
from secmailproxy.mime.kept import original
from secmailproxy.mime.pkcs7 import cms_octets
from secmailproxy.model import Envelope, Protection
from secmailproxy.outbound import Copy, Outbound, OutboundSettings
from secmailproxy.rules import Protect, Rule
from tests.fixtures.keystores import KeystoreFactory, credentials, keystore, make_keystore
from tests.fixtures.x509 import (
    DAY,
    NOW,
    Authority,
    Issued,
    OpenSSL,
    addresses,
    key_usage,
    learn,
    name,
    own,
    private_key,
)
from tests.test_outbound import ALICE, BOB, CAROL, DAVE, MESSAGE, SECRETS, relayed

__all__ = ["credentials", "keystore", "make_keystore"]

REQUIRE = Rule(protect=Protect.REQUIRE, scheme=Scheme.SMIME)
ONLY_SIGN = Rule(protect=Protect.SIGN)


@pytest.fixture
def alice(keystore: Keystore, mail_authority: Authority) -> Issued:
    """Alice, whose keystore this is; she has S/MIME only."""
    return own(keystore, mail_authority.person(ALICE, "rsa2048"))


@pytest.fixture
def bob(keystore: Keystore, mail_authority: Authority) -> Issued:
    """Somebody whose certificate Alice has."""
    return learn(keystore, mail_authority.person(BOB, "p256", 70))


@pytest.fixture
def root(mail_authority: Authority) -> x509.Certificate:
    """All that a reader trusts."""
    return mail_authority.above[0]


@pytest.fixture
def outbound(keystore: Keystore) -> Callable[..., Outbound]:
    """Make an Outbound with some rules."""
    return lambda *rules: Outbound(keystore, OutboundSettings(rules), clock=lambda: NOW + DAY)


def names(keystore: Keystore, copy: Copy) -> set[str | None]:
    """Whom the envelope of a copy names."""
    envelope = cms_octets(parse(copy.octets))
    assert envelope is not None
    return {one and one.fingerprint for one in keystore.smime.recipients(envelope)}


async def test_signed_mail_is_verified_after_relays_have_changed_its_form(
    outbound: Callable[..., Outbound], alice: Issued, root: x509.Certificate, openssl: OpenSSL
) -> None:
    """MIME-01: LF, stripped blanks and folding leave the signature good; a list's footer breaks it."""
    (copy,) = await outbound(ONLY_SIGN).protect(Envelope(ALICE, (BOB,)), MESSAGE)
    assert (copy.protection, copy.scheme) == (Protection.SIGNED, Scheme.SMIME)
    for arrived in (copy.octets, relayed(copy.octets), relayed(copy.octets).replace(b"\r\n", b"\n")):
        content = openssl.verify(arrived, root)
        assert b'hp="clear"' in content
        assert b"M=C3=BChle liegt=20\r\nder Schatz.\r\n=46rom here on, dig.\r\n--=20\r\nAlice\r\n" in content
    footer = copy.octets.replace(b"\r\nAlice\r\n", b"\r\nAlice\r\n_____\r\nour list\r\n")
    with pytest.raises(AssertionError, match="content verify error"):
        openssl.verify(footer, root)


async def test_encrypted_mail_is_read_after_relays_have_changed_its_form(
    outbound: Callable[..., Outbound], alice: Issued, bob: Issued, root: x509.Certificate, openssl: OpenSSL
) -> None:
    """MIME-01: base64 wrapped anew is the same envelope."""
    (copy,) = await outbound().protect(Envelope(ALICE, (BOB,)), MESSAGE)
    assert (copy.protection, copy.scheme) == (Protection.SIGNED_AND_ENCRYPTED, Scheme.SMIME)
    assert not [word for word in SECRETS if word in copy.octets]
    head, _, body = copy.octets.partition(b"\r\n\r\n")
    rewrapped = head + b"\n\n" + base64.encodebytes(base64.b64decode(body)).replace(b"\n", b" \n")
    for arrived in (copy.octets, relayed(copy.octets), rewrapped):
        content = openssl.verify(openssl.decrypt(arrived, bob), root)
        assert header.values(parse(content), "Subject") == (b"the crooked windmill",)
        assert b"dave" not in content
        assert b"Autocrypt" not in content


async def test_blind_copies_are_envelopes_of_their_own(
    outbound: Callable[..., Outbound],
    keystore: Keystore,
    alice: Issued,
    bob: Issued,
    mail_authority: Authority,
    openssl: OpenSSL,
) -> None:
    """SMTP-09: To's copy names nobody blind, and each blind recipient's only that one."""
    blind = {one: learn(keystore, mail_authority.person(one, "p256", 71)) for one in (CAROL, DAVE)}
    copies = await outbound().protect(Envelope(ALICE, (CAROL, BOB, DAVE)), MESSAGE)
    assert [copy.rcpt_tos for copy in copies] == [(BOB,), (CAROL,), (DAVE,)]
    wanted = [bob, blind[CAROL], blind[DAVE]]
    for copy, reader in zip(copies, wanted, strict=True):
        assert names(keystore, copy) == {alice.fingerprint, reader.fingerprint}
        assert openssl.decrypt(copy.octets, reader)


async def test_the_scheme_of_the_rule_is_the_scheme_of_the_message(
    outbound: Callable[..., Outbound], keystore: Keystore, alice: Issued, bob: Issued
) -> None:
    """Alice has both; Bob has S/MIME only, and Carol nothing."""
    keystore.generate(ALICE)
    table = [
        ((ONLY_SIGN,), BOB, Protection.SIGNED, Scheme.OPENPGP),
        ((Rule(protect=Protect.SIGN, scheme=Scheme.SMIME),), BOB, Protection.SIGNED, Scheme.SMIME),
        ((), BOB, Protection.SIGNED_AND_ENCRYPTED, Scheme.SMIME),
        ((Rule(scheme=Scheme.OPENPGP),), BOB, Protection.SIGNED, Scheme.OPENPGP),
        ((Rule(scheme=Scheme.SMIME),), CAROL, Protection.SIGNED, Scheme.SMIME),
    ]
    for rules, rcpt_to, protection, scheme in table:
        (copy,) = await outbound(*rules).protect(Envelope(ALICE, (rcpt_to,)), MESSAGE)
        assert (copy.protection, copy.scheme) == (protection, scheme), (rules, rcpt_to)


async def test_without_a_certificate_nothing_leaves_where_a_rule_requires_it(
    outbound: Callable[..., Outbound], keystore: Keystore, alice: Issued, mail_authority: Authority
) -> None:
    """SMTP-06: refused at RCPT, with the reason."""
    learn_expired = mail_authority.person(BOB, "p256", 72, since=NOW - 2 * DAY, until=NOW - DAY)
    keystore.import_keys(learn_expired.pem, source="a test")
    with pytest.raises(NoUsableCertificate, match=r"no encryption key for .*S/MIME: .*expired \(on "):
        await outbound(REQUIRE).check_recipient(ALICE, BOB)
    with pytest.raises(NoUsableCertificate, match=r"no encryption key for <carol@example\.org> \(S/MIME: "):
        await outbound(REQUIRE).protect(Envelope(ALICE, (CAROL,)), MESSAGE)


async def test_a_locked_keystore_is_temporary(
    make_keystore: KeystoreFactory, mail_authority: Authority, credentials: Path
) -> None:
    """SMTP-07: neither signed nor encrypted mail leaves."""
    own(make_keystore("home"), mail_authority.person(ALICE, "rsa2048"))
    for file in credentials.iterdir():
        file.unlink()
    locked = Outbound(make_keystore("home"), OutboundSettings(), clock=lambda: NOW + DAY)
    with pytest.raises(KeystoreLocked):
        await locked.check_recipient(ALICE, BOB)
    with pytest.raises(KeystoreLocked):
        await locked.protect(Envelope(ALICE, (BOB,)), MESSAGE)


async def test_own_copies_are_of_the_scheme_that_there_is_a_key_of(
    outbound: Callable[..., Outbound], keystore: Keystore, alice: Issued, openssl: OpenSSL
) -> None:
    """IMAP-16: with a key of S/MIME only, drafts, sent mail and mailboxes at rest are S/MIME to self."""
    message = crlf(MESSAGE)
    for work in (
        outbound().protect_to_self(ALICE, message, sign=True),
        outbound().protect_to_self(ALICE, message, sign=False),
        outbound().protect_at_rest(ALICE, message),
    ):
        stored = await work
        assert parse(stored).content_type.param("smime-type") == "authEnveloped-data"
        assert b"Subject: [...]\r\n" in stored
        assert original(openssl.decrypt(stored, alice)) == message
        assert await outbound().protect_to_self(ALICE, stored, sign=False) == stored
    keystore.generate(ALICE)
    stored = await outbound().protect_to_self(ALICE, MESSAGE, sign=True)
    assert parse(stored).content_type.full == "multipart/encrypted"


async def test_own_copies_are_never_stored_in_clear(
    outbound: Callable[..., Outbound], keystore: Keystore, mail_authority: Authority
) -> None:
    """IMAP-16: nor by S/MIME behind the back of an owner whose OpenPGP key has become useless."""
    with pytest.raises(SigningKeyUnusable, match="no own OpenPGP key"):
        await outbound().protect_to_self(ALICE, MESSAGE, sign=True)
    only_signs = mail_authority.issue(
        name("Alice"), private_key("rsa2048"), key_usage("digital_signature"), addresses(ALICE)
    )
    own(keystore, only_signs)
    with pytest.raises(SigningKeyUnusable, match="import the one that is for encryption"):
        await outbound().protect_to_self(ALICE, MESSAGE, sign=True)
    own(keystore, mail_authority.person(ALICE, "rsa2048", 1))
    assert await outbound().protect_to_self(ALICE, MESSAGE, sign=True)
    keystore.generate(ALICE, now=NOW - 9 * DAY, expires=DAY)
    with pytest.raises(SigningKeyUnusable, match="expired"):
        await outbound().protect_to_self(ALICE, MESSAGE, sign=True)


@pytest.mark.parametrize("options", [[], ["-stream"], ["-aes-256-gcm"]], ids=["DER", "BER", "AES-GCM"])
async def test_what_the_client_encrypted_only_to_its_user_does_not_go_to_others(
    outbound: Callable[..., Outbound],
    alice: Issued,
    bob: Issued,
    openssl: OpenSSL,
    options: list[str],
) -> None:
    """SMTP-16, SMTP-15: by the certificates that it names; a message for others too passes as it is."""
    files = [openssl.file(f"{number}.pem", one.pem) for number, one in enumerate((alice, bob))]

    def made(*readers: str) -> bytes:
        words = [word for reader in readers for word in ("-recip", reader)]
        body = openssl(
            "cms", "-encrypt", *options, *words, octets=b"Content-Type: text/plain\r\n\r\nhello\r\n"
        )
        return b"From: <alice@example.org>\nSubject: hello\n" + body

    with pytest.raises(NotAllowed, match="only to the sender's own key"):
        await outbound().protect(Envelope(ALICE, (BOB,)), made(files[0]))
    message = made(*files)
    (copy,) = await outbound().protect(Envelope(ALICE, (BOB,)), message)
    assert copy.octets.replace(b"\r\n", b"\n") == message.replace(b"\r\n", b"\n")
    (kept,) = await outbound().protect(Envelope(ALICE, (ALICE,)), made(files[0]))
    assert kept.scheme is Scheme.SMIME


async def test_a_signature_names_the_time_of_the_clock(
    outbound: Callable[..., Outbound], alice: Issued, openssl: OpenSSL
) -> None:
    (copy,) = await outbound(ONLY_SIGN).protect(Envelope(ALICE, (BOB,)), MESSAGE)
    signature = base64.b64decode(parse(copy.octets).parts[1].body)
    shown = openssl("cms", "-cmsout", "-print", "-noout", "-inform", "DER", octets=signature).decode()
    stated = shown.partition("signingTime")[2].partition("UTCTIME:")[2].partition("\n")[0]
    assert datetime.strptime(stated, "%b %d %H:%M:%S %Y GMT") == (NOW + DAY).replace(tzinfo=None)
