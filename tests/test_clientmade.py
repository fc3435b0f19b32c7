"""What the mail client has protected itself: it passes as it is, unless it must not leave so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from keystore.keystore import Keystore
from keystore.model import Fingerprint
from secmailproxy.errors import KeystoreLocked, NotAllowed
from secmailproxy.mime import pkcs7
from secmailproxy.mime.assemble import encrypted
from secmailproxy.model import Envelope
from secmailproxy.outbound import Copy, Outbound, OutboundSettings
from secmailproxy.policy import Protect, Rule
from secmailproxy.wishes import SubjectWord, Wish
from tests.fixtures.gnupg import GnuPG, encrypted_by, signed_by
from tests.fixtures.keystores import KeystoreFactory, credentials, keystore, make_keystore
from tests.fixtures.x509 import (
    Authority,
    OpenSSL,
    addresses,
    learn,
    mail_authority,
    name,
    openssl,
    own,
    private_key,
)

__all__ = ["credentials", "keystore", "mail_authority", "make_keystore", "openssl"]

ALICE, SECOND, ALIAS, BOB = "alice@example.org", "alice@second.example", "info@example.org", "bob@example.com"
HEADER = f"From: {ALICE}\nTo: {BOB}\nSubject: [sealed] hello\nMessage-ID: <1@example.org>"
ENTITY = b"Content-Type: text/plain\r\n\r\nThe treasure\r\n"
NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Desk:
    """Alice's keystore with keys for two addresses, and a GnuPG with all certificates in it."""

    keystore: Keystore
    gnupg: GnuPG
    prints: dict[str, Fingerprint]

    def outbound(self, *rules: Rule) -> Outbound:
        """By these rules, with an alias and a word for wishes."""
        words = (SubjectWord("[sealed]", Wish(protect=Protect.REQUIRE)),)
        return Outbound(self.keystore, OutboundSettings(rules, words=words, aliases={ALIAS: ALICE}))

    def message(self, *readers: str, header: str = HEADER) -> bytes:
        """As the client encrypts it; a reader with "?" before it is hidden."""
        options = [
            word
            for one in readers
            for word in ("-R" if one[0] == "?" else "-r", self.prints[one.removeprefix("?")])
        ]
        return encrypted_by(self.gnupg, header, ENTITY, *options)


@pytest.fixture
def desk(keystore: Keystore, gnupg_home: Callable[..., GnuPG]) -> Desk:
    """Alice's."""
    gnupg = gnupg_home()
    prints = {address: keystore.generate(address).fingerprint for address in (ALICE, SECOND)}
    prints[BOB] = Fingerprint(gnupg.generate(BOB))
    keystore.import_keys(gnupg.export(BOB), source="test")
    for address in (ALICE, SECOND):
        gnupg.take(keystore.export(prints[address]))
    return Desk(keystore, gnupg, prints)


READERS = [
    # encrypted to, sent to, whether it leaves
    ((ALICE,), (BOB,), False),
    ((ALICE,), (ALICE, BOB), False),
    ((ALICE, SECOND), (BOB,), False),
    (("?" + ALICE,), (BOB,), False),
    ((ALICE,), (ALICE,), True),
    ((ALICE,), (SECOND,), True),
    ((ALICE,), (ALIAS, SECOND), True),
    ((ALICE, BOB), (BOB,), True),
    ((ALICE, "?" + BOB), (BOB,), True),
    (("?" + ALICE, "?" + BOB), (BOB,), True),
    (("?" + BOB,), (BOB,), True),
    ((BOB,), (BOB,), True),
]


async def test_smtp_16_what_only_its_sender_can_read_stays_here(desk: Desk) -> None:
    made = {readers: desk.message(*readers) for readers in {one[0] for one in READERS}}
    for readers, rcpt_tos, leaves in READERS:
        message = made[readers]
        if leaves:
            assert await desk.outbound().protect(Envelope(ALICE, rcpt_tos), message) == (
                Copy(rcpt_tos, message),
            )
            continue
        with pytest.raises(NotAllowed, match="only to the sender's own key") as refusal:
            await desk.outbound().protect(Envelope(ALICE, rcpt_tos), message)
        assert (refusal.value.smtp_code, refusal.value.enhanced_status) == (554, "5.7.1")


async def test_smtp_16_no_secret_key_is_needed_to_tell(
    desk: Desk, make_keystore: KeystoreFactory, credentials: Path
) -> None:
    """A locked keystore; only a hidden recipient cannot be told without the key, and then nothing leaves."""
    message, hidden = desk.message(ALICE, SECOND), desk.message("?" + ALICE)
    (credentials / "keystore-key").unlink()
    locked = Outbound(make_keystore(), OutboundSettings())
    with pytest.raises(NotAllowed, match="only to the sender's own key"):
        await locked.protect(Envelope(ALICE, (BOB,)), message)
    with pytest.raises(KeystoreLocked):
        await locked.protect(Envelope(ALICE, (BOB,)), hidden)


async def test_smtp_16_gnupg_is_not_asked_for_a_key_that_it_holds(
    make_keystore: KeystoreFactory, gnupg_home: Callable[..., GnuPG]
) -> None:
    """Its agent could ask for a passphrase; there is none to give, and none is asked for."""
    holder = gnupg_home("a passphrase that nobody gives")
    print_ = holder.generate(ALICE)
    keys = make_keystore("held", gnupg_home=holder.home)
    keys.holders.take_from_gnupg(secret=True)
    message = encrypted_by(holder, HEADER, ENTITY, "-r", print_)
    holder.end()
    with pytest.raises(NotAllowed, match="only to the sender's own key"):
        await Outbound(keys, OutboundSettings()).protect(Envelope(ALICE, (BOB,)), message)


async def test_smtp_16_an_smime_envelope_only_for_its_sender(
    keystore: Keystore, mail_authority: Authority
) -> None:
    alice = own(keystore, mail_authority.person(ALICE, number=1))
    bob = learn(keystore, mail_authority.person(BOB, number=2))
    head = (b"From: alice@example.org\r\n", b"To: bob@example.com\r\n")
    to_self, to_both = (
        pkcs7.enveloped(head, made.der, made.smime_type)
        for readers in ((alice.fingerprint,), (alice.fingerprint, bob.fingerprint))
        for made in [keystore.smime.encrypt(ENTITY, [Fingerprint(one) for one in readers], NOW)]
    )
    outbound = Outbound(keystore, OutboundSettings())
    with pytest.raises(NotAllowed, match="only to the sender's own key"):
        await outbound.protect(Envelope(ALICE, (BOB,)), to_self)
    for message, rcpt_to in ((to_self, ALICE), (to_both, BOB)):
        (copy,) = await outbound.protect(Envelope(ALICE, (rcpt_to,)), message)
        assert copy == Copy((rcpt_to,), message)
        assert copy.scheme is not None
        assert (copy.protection.value, copy.scheme.value) == ("encrypted", "smime")


@pytest.mark.parametrize("kind", ["rsa2048", "p256"])
async def test_smtp_16_an_smime_envelope_that_names_its_reader_by_key_identifier(
    keystore: Keystore, mail_authority: Authority, openssl: OpenSSL, kind: str
) -> None:
    """As Outlook does."""
    key = private_key(kind, 1)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False
    alice = own(keystore, mail_authority.issue(name("Alice"), key, addresses(ALICE), identifier))
    reader = openssl.file("alice.pem", alice.pem)
    made = openssl("cms", "-encrypt", "-aes256", "-keyid", "-from", ALICE, "-to", BOB, reader, octets=ENTITY)
    outbound = Outbound(keystore, OutboundSettings())
    with pytest.raises(NotAllowed, match="only to the sender's own key"):
        await outbound.protect(Envelope(ALICE, (BOB,)), made.replace(b"\n", b"\r\n"))


async def test_fields_for_wishes_are_removed_and_the_rest_stays(desk: Desk) -> None:
    """SMTP-08, SMTP-15: a word in the subject counts, and stays in what the client has made."""
    message = desk.message(ALICE, BOB)
    wish = b"X-SecMailProxy-PROTECT :\r\n require\r\n"
    (copy,) = await desk.outbound().protect(Envelope(ALICE, (BOB,)), wish + message + b"\r\n")
    assert copy.octets == message + b"\r\n"


async def test_what_is_only_signed_is_refused_where_the_rule_or_a_wish_requires_more(desk: Desk) -> None:
    signed = signed_by(desk.gnupg, HEADER, ENTITY)
    with pytest.raises(NotAllowed, match="only signed"):
        await desk.outbound().protect(Envelope(ALICE, (BOB,)), signed)
    plain = signed.replace(b"[sealed] ", b"")
    assert await desk.outbound().protect(Envelope(ALICE, (BOB,)), plain) == (Copy((BOB,), plain),)
    with pytest.raises(NotAllowed, match="weaker"):
        await desk.outbound(Rule(protect=Protect.REQUIRE)).protect(
            Envelope(ALICE, (BOB,)), b"X-Secmailproxy-Protect: sign\r\n" + plain
        )


@pytest.mark.parametrize(
    "field", [b"Bcc: eve@example.net", b"x-secmailproxy-Protect : sign", b"Secmail-X: y"]
)
async def test_smtp_08_what_must_not_leave_is_not_signed_by_the_client_either(
    desk: Desk, field: bytes
) -> None:
    """In the header that a part brings, or in that of a whole message inside (RFC 8551 section 3.1)."""
    wrapped = b"Content-Type: message/rfc822; forwarded=no\r\n\r\n" + field + b"\r\n" + ENTITY
    for part in (field + b"\r\n" + ENTITY, wrapped):
        signed = signed_by(desk.gnupg, HEADER.replace("[sealed] ", ""), part)
        with pytest.raises(NotAllowed, match="leave signing to the proxy"):
            await desk.outbound().protect(Envelope(ALICE, (BOB,)), signed)


@pytest.mark.parametrize("wish", [b"Scheme: smime", b"Attach-Key: yes"])
async def test_a_wish_that_comes_too_late_is_not_ignored(desk: Desk, wish: bytes) -> None:
    message = b"X-Secmailproxy-" + wish + b"\r\n" + desk.message(ALICE, BOB)
    with pytest.raises(NotAllowed, match="protected it itself"):
        await desk.outbound().protect(Envelope(ALICE, (BOB,)), message)


async def test_encrypted_with_a_passphrase_alone_says_nothing_of_readers(desk: Desk) -> None:
    gnupg = replace(desk.gnupg, passphrase="told on the telephone")
    ciphertext = gnupg.run("--armor", "--symmetric", data=ENTITY).stdout.replace(b"\n", b"\r\n")
    message = encrypted((b"From: alice@example.org\r\n",), ciphertext, "=-b")
    assert await desk.outbound().protect(Envelope(ALICE, (BOB,)), message) == (Copy((BOB,), message),)


@pytest.mark.parametrize("rule", [Rule(), Rule(protect=Protect.REQUIRE)])
async def test_what_only_has_the_form_of_an_encrypted_message_leaves_for_nobody(
    desk: Desk, rule: Rule
) -> None:
    """SMTP-16: GnuPG gives the same armor to what it only signs, which everybody can read."""
    signed = desk.gnupg.run("--armor", "-u", BOB, "--sign", data=ENTITY).stdout.replace(b"\n", b"\r\n")
    text = b"-----BEGIN PGP MESSAGE-----\r\n\r\nThe treasure\r\n-----END PGP MESSAGE-----\r\n"
    for ciphertext in (signed, text):
        message = encrypted((b"From: alice@example.org\r\n",), ciphertext, "=-b")
        for rcpt_to in (ALICE, BOB):
            with pytest.raises(NotAllowed, match="and it is not") as refusal:
                await desk.outbound(rule).protect(Envelope(ALICE, (rcpt_to,)), message)
            assert refusal.value.smtp_code == 554


@pytest.mark.parametrize("rule", [Rule(), Rule(protect=Protect.REQUIRE)])
async def test_what_only_begins_like_an_smime_envelope_leaves_for_nobody(desk: Desk, rule: Rule) -> None:
    """SMTP-16: the name of its type says nothing of what follows."""
    enveloped_data = bytes.fromhex("06092a864886f70d010703")
    for head in (b"\x30\x80", b"\x30\x17"):
        message = pkcs7.enveloped(
            (b"From: alice@example.org\r\n",), head + enveloped_data + b"The treasure", "enveloped-data"
        )
        for rcpt_to in (ALICE, BOB):
            with pytest.raises(NotAllowed, match="and it is not"):
                await desk.outbound(rule).protect(Envelope(ALICE, (rcpt_to,)), message)
