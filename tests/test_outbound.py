"""Outgoing messages: what is made of them, who can read them, and what is refused. GnuPG is the reader."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keystore.keystore import Keystore
from keystore.model import Certificate, Fingerprint, Purpose
from secmailproxy import inbound
from secmailproxy.errors import (
    KeystoreLocked,
    MalformedMessage,
    NotAllowed,
    NoUsableCertificate,
    SecMailProxyError,
    SigningKeyUnusable,
)
from secmailproxy.mime import header
from secmailproxy.mime.assemble import Made, made, openpgp_ciphertext
from secmailproxy.mime.canonical import is_safe
from secmailproxy.mime.entity import Entity, parse
from secmailproxy.model import Envelope, Verdict
from secmailproxy.outbound import Copy, Outbound, OutboundSettings
from secmailproxy.policy import Protect, Rule
from secmailproxy.preparation import ProofFailed
from secmailproxy.stamp import Stamp
from tests.fixtures.gnupg import GnuPG, opened_by
from tests.fixtures.keystores import KeystoreFactory, credentials, keystore, make_keystore

__all__ = ["credentials", "keystore", "make_keystore"]

ALICE, BOB, CAROL, DAVE = (f"{name}@example.org" for name in ("alice", "bob", "carol", "dave"))
FIELD = "Secmail-Verdict-0123456789abcdef"
MESSAGE = (
    "From: Alice <alice@example.org>\r\n"
    "To: Bob <BOB@example.org>\r\n"
    "Subject: the crooked\r\n windmill\r\n"
    "Message-ID: <original@example.org>\r\n"
    "Date: Mon, 02 Mar 2026 10:00:00 +0100\r\n"
    "Keywords: treasure\r\n"
    "Thread-Topic: the crooked windmill\r\n"
    "BCC :\r\n dave@example.org\r\n"
    "MIME-Version: 1.0\r\n"
    'Content-Type: multipart/mixed; boundary="m"\r\n'
    "\r\n"
    "--m\r\n"
    "Content-Type: text/plain; charset=utf-8; format=flowed\r\n"
    "Content-Transfer-Encoding: 8bit\r\n"
    "\r\n"
    "Unter der M\u00fchle liegt \r\nder Schatz.\r\nFrom here on, dig.\r\n-- \r\nAlice\r\n"
    "--m\r\n"
    "Content-Type: application/octet-stream\r\n"
    "Content-Transfer-Encoding: base64\r\n"
    "\r\n"
    "AAECAwQFBgcICQ==\r\n"
    "--m--\r\n"
).encode()
SECRETS = (b"windmill", b"treasure", b"Schatz", b"dave@example", b"AAECAwQ")
"""Words that do not occur in armor by chance."""
BCC_FIELD = re.compile(rb"^(?:resent-)?bcc\s*:", re.IGNORECASE | re.MULTILINE)


@pytest.fixture
def alice(keystore: Keystore) -> Certificate:
    """Alice, whose keystore this is."""
    return keystore.generate(ALICE)


@pytest.fixture
def outbound(keystore: Keystore, alice: Certificate) -> Callable[..., Outbound]:
    """Make an Outbound with some rules."""
    return lambda *rules: Outbound(keystore, OutboundSettings(rules))


Correspondent = tuple[GnuPG, Fingerprint]


@pytest.fixture
def correspondent(
    keystore: Keystore, alice: Certificate, gnupg_home: Callable[..., GnuPG]
) -> Callable[..., Correspondent]:
    """Make somebody with GnuPG; each knows the other's certificate."""

    def make(address: str, *, rsa: bool = False) -> Correspondent:
        gnupg = gnupg_home()
        fingerprint = Fingerprint(gnupg.generate(address, rsa=rsa))
        gnupg.take(keystore.export(alice.fingerprint))
        (result,) = keystore.import_keys(gnupg.export(fingerprint), source="test")
        assert result.fingerprint == fingerprint
        return gnupg, fingerprint

    return make


def body_of(octets: bytes) -> bytes:
    """The part of a message after its header."""
    return parse(octets).body


def relayed(octets: bytes) -> bytes:
    """What arrives after relays that use LF, strip blanks, fold header lines anew at 78, and add a field."""
    head, _, body = octets.replace(b"\r\n", b"\n").partition(b"\n\n")
    fields = re.sub("\n[ \t]+", " ", head.decode("latin-1")).split("\n")
    folded = ["\n ".join(textwrap.wrap(field, 77, break_long_words=False)) for field in fields]
    received = "Received: from a by b; Mon, 02 Mar 2026 10:00:00 +0100"
    stripped = re.sub(rb"(?m)[ \t]+$", b"", body)
    arrived = "\n".join([received, *folded]).encode("latin-1") + b"\n\n" + stripped
    return arrived.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("rsa", [False, True])
async def test_gnupg_reads_and_verifies_what_is_encrypted(
    rsa: bool,
    outbound: Callable[..., Outbound],
    alice: Certificate,
    correspondent: Callable[..., Correspondent],
) -> None:
    gnupg, _ = correspondent(BOB, rsa=rsa)
    (copy,) = await outbound().protect(Envelope(ALICE, (BOB,)), MESSAGE)
    assert not [word for word in SECRETS if word in copy.octets]
    plaintext, status = opened_by(gnupg, relayed(copy.octets))
    assert f"VALIDSIG {alice.fingerprint}" in status
    assert "GOODSIG" in status
    inside = parse(plaintext)
    assert header.values(inside, "Subject") == (b"the crooked windmill",)
    assert b"M=C3=BChle liegt=20\r\nder Schatz.\r\n=46rom here on, dig.\r\n--=20\r\nAlice\r\n" in plaintext
    assert b"dave" not in plaintext
    assert is_safe(inside.body)


@pytest.mark.parametrize("kind", ["ed25519", "rsa3072"])
async def test_mime_01_gnupg_verifies_what_is_signed_after_relays(
    kind: str, make_keystore: KeystoreFactory, gnupg_home: Callable[..., GnuPG], tmp_path: Path
) -> None:
    keys = make_keystore("signer")
    own = keys.generate(ALICE, kind=kind)
    gnupg = gnupg_home()
    gnupg.take(keys.export(own.fingerprint))
    (copy,) = await Outbound(keys, OutboundSettings()).protect(Envelope(ALICE, (BOB, CAROL)), MESSAGE)
    root = parse(relayed(copy.octets))
    assert made(root) is Made.SIGNED
    signed, signature = root.parts
    assert is_safe(signed.whole)
    (tmp_path / "sig").write_bytes(signature.body)
    verified = gnupg.run("--verify", str(tmp_path / "sig"), "-", data=signed.whole)
    assert f"VALIDSIG {own.fingerprint}".encode() in verified.stderr
    assert header.value(root, "Subject") == b"the crooked windmill"
    assert signed.content_type.param("hp") == "clear"
    assert header.values(signed, "Message-ID") == (b"<original@example.org>",)


async def test_smtp_09_blind_recipients_have_ciphertexts_of_their_own(
    outbound: Callable[..., Outbound],
    keystore: Keystore,
    alice: Certificate,
    correspondent: Callable[..., Correspondent],
) -> None:
    people = {one: correspondent(one) for one in (DAVE, BOB, CAROL)}
    message = MESSAGE.replace(
        b"To: Bob <BOB@example.org>", b"To: =?utf-8?q?B=C3=B6b?= <BOB@example.org>, g:;"
    )
    copies = await outbound().protect(Envelope(ALICE, tuple(people)), message)
    assert [copy.rcpt_tos for copy in copies] == [(BOB,), (DAVE,), (CAROL,)]
    for copy in copies:
        assert readers(keystore, copy) == {alice.fingerprint, people[copy.rcpt_tos[0]][1]}
        assert not BCC_FIELD.search(copy.octets)
        plaintext, _ = opened_by(people[copy.rcpt_tos[0]][0], copy.octets)
        assert not BCC_FIELD.search(plaintext)
        others = [gnupg for one, (gnupg, _) in people.items() if one not in copy.rcpt_tos]
        ciphertext = openpgp_ciphertext(parse(copy.octets)) or b""
        assert all(gnupg.run("--decrypt", data=ciphertext, check=False).returncode for gnupg in others)


def readers(keystore: Keystore, copy: Copy) -> set[Fingerprint]:
    """Whose keys the copy names."""
    ciphertext = openpgp_ciphertext(parse(copy.octets))
    assert ciphertext is not None
    opened = keystore.decrypt(ciphertext, datetime.now(UTC))
    return {one.fingerprint for key_id in opened.recipients for one in keystore.certificates(key_id)}


async def test_smtp_05_keys_are_those_of_the_envelope(
    outbound: Callable[..., Outbound],
    keystore: Keystore,
    alice: Certificate,
    correspondent: Callable[..., Correspondent],
) -> None:
    correspondent(BOB)
    _, carol = correspondent(CAROL)
    (copy,) = await outbound().protect(Envelope(ALICE, (CAROL,)), MESSAGE)
    assert copy.rcpt_tos == (CAROL,)
    assert readers(keystore, copy) == {alice.fingerprint, carol}


async def test_smtp_17_message_id_and_date_stay_and_are_added_where_missing(
    outbound: Callable[..., Outbound], correspondent: Callable[..., Correspondent]
) -> None:
    correspondent(BOB)
    for rule in (Rule(), Rule(protect=Protect.SIGN)):
        (copy,) = await outbound(rule).protect(Envelope(ALICE, (BOB,)), MESSAGE)
        assert header.values(parse(copy.octets), "Message-ID") == (b"<original@example.org>",)
        assert header.values(parse(copy.octets), "Date") == (b"Mon, 02 Mar 2026 10:00:00 +0100",)
        (copy,) = await outbound(rule).protect(Envelope(ALICE, (BOB,)), b"From: alice@example.org\n\nbody\n")
        (message_id,) = header.values(parse(copy.octets), "Message-ID")
        assert re.fullmatch(rb"<[0-9a-f-]{36}@example\.org>", message_id)
        assert len(header.values(parse(copy.octets), "Date")) == 1


async def test_the_subject_is_shown_where_the_rule_says_so(
    outbound: Callable[..., Outbound], correspondent: Callable[..., Correspondent]
) -> None:
    correspondent(BOB)
    for hidden, subject in ((True, b"[...]"), (False, b"the crooked windmill")):
        (copy,) = await outbound(Rule(hide_subject=hidden)).protect(Envelope(ALICE, (BOB,)), MESSAGE)
        root = parse(copy.octets)
        assert header.values(root, "Subject") == (subject,)
        assert bool(header.values(root, "Keywords")) is not hidden


async def test_our_own_reader_shows_the_same_message_with_a_valid_verdict(
    outbound: Callable[..., Outbound], keystore: Keystore, correspondent: Callable[..., Correspondent]
) -> None:
    correspondent(BOB)
    for rule in (Rule(), Rule(protect=Protect.SIGN)):
        (copy,) = await outbound(rule).protect(Envelope(ALICE, (BOB,)), MESSAGE)
        opened = inbound.unprotect(relayed(copy.octets), keystore, datetime.now(UTC), FIELD)
        assert opened.summary.verdict is Verdict.VALID
        assert opened.summary.signer == ALICE
        assert opened.summary.subject == "the crooked windmill"


async def test_what_no_rule_protects_keeps_its_octets(keystore: Keystore) -> None:
    plain = Outbound(keystore, OutboundSettings())
    (copy,) = await plain.protect(Envelope(ALICE, (BOB, CAROL)), MESSAGE)
    assert copy == Copy((BOB, CAROL), MESSAGE.replace(b"BCC :\r\n dave@example.org\r\n", b""))
    assert await plain.protect(Envelope("", (BOB,)), b"A: b\n\nc") == (Copy((BOB,), b"A: b\r\n\r\nc"),)


async def test_with_a_null_envelope_sender_the_owner_of_the_login_signs_never_the_header(
    outbound: Callable[..., Outbound],
) -> None:
    (copy,) = await outbound().protect(Envelope("", (BOB,)), MESSAGE, sender=ALICE)
    assert made(parse(copy.octets)) is Made.SIGNED
    (copy,) = await outbound().protect(Envelope("", (BOB,)), MESSAGE)
    assert made(parse(copy.octets)) is Made.NOTHING


async def test_smtp_15_what_the_client_protected_passes_octet_for_octet(
    outbound: Callable[..., Outbound], correspondent: Callable[..., Correspondent]
) -> None:
    correspondent(BOB)
    for rule in (Rule(), Rule(protect=Protect.SIGN)):
        (copy,) = await outbound(rule).protect(Envelope(ALICE, (BOB,)), MESSAGE)
        odd = b"X-Odd :  kept \r\n\tas it is\r\n" + copy.octets
        envelope = Envelope(ALICE, (BOB, "nobody@example.org"))
        assert await outbound().protect(envelope, odd) == (Copy(envelope.rcpt_tos, odd),)
        with_bcc = b"Bcc: dave@example.org\r\n" + odd
        assert await outbound().protect(envelope, with_bcc) == (Copy(envelope.rcpt_tos, odd),)


async def test_a_message_that_the_client_only_signed_is_refused_where_encryption_is_required(
    outbound: Callable[..., Outbound], correspondent: Callable[..., Correspondent]
) -> None:
    correspondent(BOB)
    (copy,) = await outbound(Rule(protect=Protect.SIGN)).protect(Envelope(ALICE, (BOB,)), MESSAGE)
    with pytest.raises(NotAllowed, match=rf"encryption to <{BOB}> is required.*only signed"):
        await outbound(Rule(protect=Protect.REQUIRE)).protect(Envelope(ALICE, (BOB,)), copy.octets)


async def test_smtp_16_a_message_only_for_its_sender_does_not_go_to_others(
    outbound: Callable[..., Outbound], correspondent: Callable[..., Correspondent]
) -> None:
    correspondent(BOB)
    draft = await outbound().protect_to_self(ALICE, MESSAGE, sign=False)
    with pytest.raises(NotAllowed, match="only to the sender's own key"):
        await outbound().protect(Envelope(ALICE, (ALICE, BOB)), draft)
    assert await outbound().protect(Envelope(ALICE, (ALICE,)), draft) == (Copy((ALICE,), draft),)


async def test_smtp_06_required_encryption_is_refused_at_rcpt(
    outbound: Callable[..., Outbound], correspondent: Callable[..., Correspondent]
) -> None:
    correspondent(BOB)
    strict = outbound(Rule(to="@example.org", protect=Protect.REQUIRE))
    await strict.check_recipient(ALICE, BOB)
    await strict.check_recipient(ALICE, "anybody@elsewhere.example")
    with pytest.raises(NoUsableCertificate, match=r"<carol@example.org>") as refusal:
        await strict.check_recipient(ALICE, CAROL)
    assert (refusal.value.smtp_code, refusal.value.enhanced_status) == (550, "5.7.5")
    with pytest.raises(NoUsableCertificate) as late:
        await strict.protect(Envelope(ALICE, (BOB, CAROL)), MESSAGE)
    assert late.value.smtp_code == 554
    assert NoUsableCertificate.smtp_code == 550


async def test_smtp_07_locked_keys_are_a_temporary_failure(
    make_keystore: KeystoreFactory, credentials: Path
) -> None:
    make_keystore("locked").generate(ALICE)
    (credentials / "keystore-key").unlink()
    keys = make_keystore("locked")
    locked = Outbound(keys, OutboundSettings())
    for work in (
        locked.protect(Envelope(ALICE, (BOB,)), MESSAGE),
        locked.check_recipient(ALICE, BOB),
        locked.protect_to_self(ALICE, MESSAGE, sign=True),
        locked.protect_to_self(ALICE, MESSAGE, sign=False),
    ):
        with pytest.raises(KeystoreLocked) as refusal:
            await work
        assert (refusal.value.smtp_code, refusal.value.enhanced_status) == (451, "4.7.5")


async def test_an_expired_own_key_never_means_clear_text(make_keystore: KeystoreFactory) -> None:
    keys = make_keystore("expired")
    then = datetime.now(UTC) - timedelta(days=9)
    keys.generate(ALICE, now=then, expires=timedelta(days=8))
    expired = Outbound(keys, OutboundSettings())
    for work in (
        expired.protect(Envelope(ALICE, (BOB,)), MESSAGE),
        expired.check_recipient(ALICE, BOB),
        expired.protect_to_self(ALICE, MESSAGE, sign=False),
    ):
        with pytest.raises(SigningKeyUnusable, match="expired"):
            await work
    never = Outbound(keys, OutboundSettings((Rule(protect=Protect.NEVER),)))
    await never.check_recipient(ALICE, BOB)
    assert len(await never.protect(Envelope(ALICE, (BOB,)), MESSAGE)) == 1


@pytest.mark.parametrize("protect", [Protect.PREFER, Protect.REQUIRE, Protect.SIGN])
async def test_a_clock_that_was_set_back_never_means_clear_text(protect: Protect, keystore: Keystore) -> None:
    """A machine that starts with the year 1970; the reply says what to look at."""
    for address in (ALICE, BOB):
        keystore.generate(address)
    settings = OutboundSettings((Rule(protect=protect),))
    turned = Outbound(keystore, settings, lambda: datetime(1970, 1, 2, tzinfo=UTC))
    with pytest.raises((SigningKeyUnusable, NoUsableCertificate), match="by this machine's clock"):
        await turned.protect(Envelope(ALICE, (BOB,)), MESSAGE)


async def test_rules_can_be_replaced(outbound: Callable[..., Outbound]) -> None:
    changing = outbound()
    await changing.check_recipient(ALICE, BOB)
    changing.replace_settings(OutboundSettings((Rule(protect=Protect.REQUIRE),)))
    with pytest.raises(NoUsableCertificate):
        await changing.check_recipient(ALICE, BOB)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (MESSAGE.replace(b"Keywords", b"Subject"), MalformedMessage),
        (b"From: alice@example.org\r\nno field\r\n\r\nbody", MalformedMessage),
        (b"From: alice@example.org\r\nSubject: " + b"x" * 999 + b"\r\n\r\nbody", MalformedMessage),
        (
            b'Content-Type: multipart/mixed; boundary="a;hp=b"\r\n\r\n--a;hp=b\r\n\r\nx\r\n--a;hp=b--',
            ProofFailed,
        ),
    ],
)
async def test_what_cannot_be_protected_whole_is_refused_without_its_text(
    message: bytes, error: type[SecMailProxyError], outbound: Callable[..., Outbound]
) -> None:
    with pytest.raises(error) as refusal:
        await outbound().protect(Envelope(ALICE, (BOB,)), message)
    assert not [word for word in ("windmill", "body", "treasure") if word in refusal.value.text]


ORIGINAL = (
    b"Date: Mon, 02 Mar 2026 10:00:00 +0100\r\nFrom: alice@example.org\r\nTo: bob@example.org\r\n"
    b"Cc: carol@example.org\r\nBcc: dave@example.org\r\nSubject:  the  crooked windmill \r\n"
    b"Message-ID: <draft@example.org>\r\nX-TUID: abcdef\r\nX-OfflineIMAP-7: y\r\nX-Mozilla-Draft-Info: x\r\n"
    b"In-Reply-To: <0@example.org>\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\xc3\xbc \r\nFrom me\r\n"
)


@pytest.mark.parametrize("sign", [False, True])
async def test_imap_16_imap_17_an_own_copy_is_found_again_and_read_as_it_was(
    sign: bool, outbound: Callable[..., Outbound], keystore: Keystore, alice: Certificate
) -> None:
    for written in (ORIGINAL, ORIGINAL.replace(b"\r\n", b"\n")):
        stored = await outbound().protect_to_self("Alice@Example.org", written, sign=sign)
        root = parse(stored)
        names = [field.name for field in root.fields][:-2]
        assert names == [
            "Date",
            "From",
            "To",
            "Subject",
            "Message-ID",
            "X-TUID",
            "X-OfflineIMAP-7",
            "In-Reply-To",
        ]
        assert not [word for word in (b"windmill", b"dave@", b"carol@", b"Draft-Info") if word in stored]
        assert readers(keystore, Copy((ALICE,), stored)) == {alice.fingerprint}
        opened = inbound.unprotect(stored, keystore, datetime.now(UTC), FIELD)
        assert opened.presented is not None
        shown = parse(opened.presented)
        for name in ("Subject", "Cc", "Bcc", "X-Mozilla-Draft-Info", "Message-ID"):
            assert header.values(shown, name) == header.values(parse(ORIGINAL), name)
        assert shown.body == body_of(ORIGINAL)
        assert (opened.summary.verdict is Verdict.VALID) is sign
        assert await outbound().protect_to_self(ALICE, stored, sign=sign) == stored


async def test_an_own_copy_of_what_the_client_signed_keeps_its_signature(
    outbound: Callable[..., Outbound], keystore: Keystore
) -> None:
    (copy,) = await outbound().protect(Envelope(ALICE, (BOB,)), MESSAGE)
    stored = await outbound().protect_to_self(ALICE, copy.octets, sign=False)
    assert b"Schatz" not in stored
    opened = inbound.unprotect(stored, keystore, datetime.now(UTC), FIELD)
    assert opened.presented is not None
    assert opened.summary.verdict is Verdict.VALID
    assert opened.summary.subject == "the crooked windmill"


async def test_without_an_own_key_there_is_no_own_copy(outbound: Callable[..., Outbound]) -> None:
    with pytest.raises(SigningKeyUnusable, match=BOB):
        await outbound().protect_to_self(BOB, ORIGINAL, sign=False)


async def test_every_copy_is_usable_by_its_reader_only_while_the_certificate_is(
    outbound: Callable[..., Outbound], keystore: Keystore, correspondent: Callable[..., Correspondent]
) -> None:
    gnupg, fingerprint = correspondent(BOB)
    gnupg.run("--quick-set-expire", fingerprint, "seconds=1")
    keystore.import_keys(gnupg.export(fingerprint), source="test")
    later = Outbound(
        keystore,
        OutboundSettings((Rule(protect=Protect.REQUIRE),)),
        lambda: datetime.now(UTC) + timedelta(days=1),
    )
    assert not keystore.usability(fingerprint, Purpose.ENCRYPT, datetime.now(UTC) + timedelta(days=1)).usable
    with pytest.raises(NoUsableCertificate, match="expired"):
        await later.protect(Envelope(ALICE, (BOB,)), MESSAGE)


def test_dates_are_written_as_rfc_5322_has_them() -> None:
    stamp = Stamp(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "b", "<1@x>")
    assert stamp.date == "Fri, 02 Jan 2026 03:04:05 +0000"


def test_relaying_is_a_real_test() -> None:
    """The simulated relay does what it says, so that surviving it means something."""
    arrived: Entity = parse(relayed(b"Subject: x\r\n\r\ntrailing \r\n"))
    assert arrived.body == b"trailing\r\n"
    assert header.value(arrived, "Received") is not None


async def test_a_key_that_gnupg_holds_signs_and_encrypts(
    make_keystore: KeystoreFactory, gnupg_home: Callable[..., GnuPG]
) -> None:
    holder, reader = gnupg_home(), gnupg_home()
    alice, bob = holder.generate(ALICE), reader.generate(BOB)
    reader.take(holder.export(alice))
    keys = make_keystore("held", gnupg_home=holder.home)
    keys.holders.take_from_gnupg(secret=True)
    keys.import_keys(reader.export(bob), source="test")
    held = Outbound(keys, OutboundSettings())
    (copy,) = await held.protect(Envelope(ALICE, (BOB,)), MESSAGE)
    plaintext, status = opened_by(reader, copy.octets)
    assert f"VALIDSIG {alice}" in status
    assert b"Subject: the crooked\r\n windmill\r\n" in plaintext
    assert b"GOODSIG" in holder.run("--decrypt", data=openpgp_ciphertext(parse(copy.octets)) or b"").stderr
    (signed,) = await held.protect(Envelope(ALICE, (CAROL,)), MESSAGE)
    assert made(parse(signed.octets)) is Made.SIGNED
    assert b"windmill" not in await held.protect_to_self(ALICE, MESSAGE, sign=True)


@pytest.mark.parametrize("protect", [Protect.PREFER, Protect.SIGN, Protect.NEVER])
async def test_smtp_08_marks_of_ours_in_forwarded_messages_stay_here(
    outbound: Callable[..., Outbound], protect: Protect
) -> None:
    """Whoever learns the name of the verdict field could try to write one."""
    forwarded = (
        b"%b: signed+encrypted;\r\n (....)\r\nFrom: Carol <carol@example.org>\r\nSubject: inner\r\n"
        % FIELD.encode()
        + b"X-Secmailproxy-Rule: x\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n"
        + b"Content-Type: message/rfc822\r\n\r\nSubject: deep\r\n%b : signed\r\n\r\ntext\r\n--i--\r\n"
        % FIELD.upper().encode()
    )
    head = MESSAGE[: MESSAGE.index(b"Content-Type")]
    message = head + b"Content-Type: message/rfc822\r\n\r\n" + forwarded
    (copy,) = await outbound(Rule(protect=protect)).protect(Envelope(ALICE, (BOB,)), message)
    assert b"secmail" not in copy.octets.lower()
    assert b"Subject: inner" in copy.octets
    assert b"Subject: deep\r\n\r\ntext" in copy.octets


async def test_what_is_signed_in_a_forwarded_message_is_not_changed(
    outbound: Callable[..., Outbound],
) -> None:
    sealed = b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\nContent-Type: message/rfc822\r\n\r\n"
    sealed += FIELD.encode() + b": quoted\r\n\r\nx\r\n--s--\r\n"
    message = MESSAGE[: MESSAGE.index(b"Content-Type")] + b"Content-Type: message/rfc822\r\n\r\n" + sealed
    (copy,) = await outbound(Rule(protect=Protect.NEVER)).protect(Envelope(ALICE, (BOB,)), message)
    assert sealed in copy.octets


@pytest.mark.parametrize("spelling", ['"bob"@example.org', '"b\\ob"@Example.ORG.', "bob@example.org."])
async def test_a_rule_holds_for_every_spelling_of_an_address(
    outbound: Callable[..., Outbound], correspondent: Callable[..., Correspondent], spelling: str
) -> None:
    rule = Rule(to=BOB, protect=Protect.REQUIRE)
    with pytest.raises(NoUsableCertificate):
        await outbound(rule).check_recipient(ALICE, spelling)
    with pytest.raises(NoUsableCertificate):
        await outbound(rule).protect(Envelope(ALICE, (spelling,)), MESSAGE)
    correspondent(BOB)
    await outbound(rule).check_recipient(ALICE, spelling)
    (copy,) = await outbound(rule).protect(Envelope('"alice"@example.org', (spelling,)), MESSAGE)
    assert made(parse(copy.octets)) is Made.ENCRYPTED
