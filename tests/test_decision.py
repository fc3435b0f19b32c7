"""From the keystore to what leaves: wishes, mailing lists, aliases and accounts. GnuPG is the reader."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from keystore import openpgp
from keystore.keystore import Keystore
from keystore.model import Fingerprint, Reason, Scheme
from secmailproxy.decision import Decider
from secmailproxy.errors import NotAllowed, NoUsableCertificate, SigningKeyUnusable
from secmailproxy.mime import header
from secmailproxy.mime.assemble import Made, made
from secmailproxy.mime.entity import parse
from secmailproxy.model import Envelope, Protection
from secmailproxy.outbound import Copy, Outbound, OutboundSettings
from secmailproxy.policy import Protect, Rule
from secmailproxy.wishes import SubjectWord, Wish
from tests.fixtures.gnupg import GnuPG, opened_by
from tests.fixtures.keystores import credentials, keystore, make_keystore

__all__ = ["credentials", "keystore", "make_keystore"]

ALICE, ALIAS, WORK, BOB, EVE, LIST = (
    "alice@example.org",
    "info@example.org",
    "alice@work.example",
    "bob@example.com",
    "eve@example.net",
    "crew@lists.example.org",
)
WORDS = (
    SubjectWord("[encrypt]", Wish(protect=Protect.REQUIRE)),
    SubjectWord("[clear]", Wish(protect=Protect.NEVER)),
    SubjectWord("[sign]", Wish(protect=Protect.SIGN)),
)


@dataclass(frozen=True)
class Office:
    """Alice's keystore, and GnuPG with the keys of bob and of a list, which does not carry its address."""

    keystore: Keystore
    gnupg: GnuPG
    prints: dict[str, Fingerprint] = field(default_factory=dict)

    def outbound(self, *rules: Rule) -> Outbound:
        """By these rules."""
        return Outbound(self.keystore, OutboundSettings(rules, words=WORDS, aliases={ALIAS: ALICE}))


@pytest.fixture
def office(keystore: Keystore, gnupg_home: Callable[..., GnuPG]) -> Office:
    """One for each test."""
    gnupg = gnupg_home()
    found = {ALICE: keystore.generate(ALICE).fingerprint}
    for address, user_id in ((BOB, BOB), (LIST, "The crew's machine")):
        found[address] = Fingerprint(gnupg.generate(user_id))
        keystore.import_keys(gnupg.export(found[address]), source="test")
    gnupg.take(keystore.export(found[ALICE]))
    return Office(keystore, gnupg, found)


def written(*fields: str, to: str = BOB) -> bytes:
    """A message with these fields beside the usual ones."""
    lines = [f"From: {ALICE}", f"To: {to}", "Date: Mon, 02 Mar 2026 10:00:00 +0100", *fields]
    return "\r\n".join([*lines, "", "The treasure", ""]).encode()


def what_left(copy: Copy) -> Made:
    """Judged by its octets, which the record must agree with."""
    found = made(parse(copy.octets))
    assert (
        copy.protection
        is {
            Made.NOTHING: Protection.NONE,
            Made.SIGNED: Protection.SIGNED,
            Made.ENCRYPTED: Protection.SIGNED_AND_ENCRYPTED,
        }[found]
    )
    assert (copy.scheme is None) is (found is Made.NOTHING)
    return found


FIELDS = ("X-Secmailproxy-Protect: {0}", "x-SECMAILPROXY-protect :\r\n\t{0} ")


@pytest.mark.parametrize(
    ("wish", "word", "leaves"),
    [
        ("require", "[Encrypt]", Made.ENCRYPTED),
        ("prefer", "", Made.ENCRYPTED),
        ("sign", "[sign]", Made.SIGNED),
        ("never", "[clear]", Made.NOTHING),
    ],
)
async def test_smtp_08_a_wish_is_obeyed_and_leaves_no_trace(
    wish: str, word: str, leaves: Made, office: Office
) -> None:
    """As a field, several, folded and in any case; as a word, raw and encoded: outside and inside."""
    fields = [one.format(wish) for one in FIELDS]
    spellings = [(*fields, "Subject: hello =?utf-8?q?=C3=BC?="), ("X-SecMailProxy-Subject: hide", *fields)]
    if word:
        encoded = f"=?utf-8?q?{word}_?= hello =?utf-8?q?=C3=BC?="
        spellings += [(f"Subject: {word} hello =?utf-8?q?=C3=BC?=",), (f"Subject: {encoded}",)]
    for spelling in spellings:
        (copy,) = await office.outbound().protect(Envelope(ALICE, (BOB,)), written(*spelling))
        assert what_left(copy) is leaves
        inside = opened_by(office.gnupg, copy.octets)[0] if leaves is Made.ENCRYPTED else copy.octets
        for octets in (copy.octets, inside):
            assert b"secmailproxy" not in octets.lower()
            assert not word or word.lower().encode() not in octets.lower()
        if any(one.startswith("Subject") for one in spelling):
            assert header.text(parse(inside), "Subject") == "hello \u00fc"
            assert b" hello =?utf-8?q?=C3=BC?=" in inside


async def test_a_wish_can_refuse_but_not_weaken(office: Office) -> None:
    required = office.outbound(Rule(to="@example.net", protect=Protect.REQUIRE))
    with pytest.raises(NoUsableCertificate, match=f"<{EVE}>") as refusal:
        await office.outbound().protect(Envelope(ALICE, (BOB, EVE)), written("Subject: [encrypt] x"))
    assert (refusal.value.smtp_code, refusal.value.enhanced_status) == (554, "5.7.5")
    for wish in ("Subject: [clear] x", "X-Secmailproxy-Protect: prefer", "X-Secmailproxy-Protect: requre"):
        with pytest.raises(NotAllowed) as denial:
            await required.protect(Envelope(ALICE, (EVE,)), written(wish))
        assert (denial.value.smtp_code, denial.value.enhanced_status) == (554, "5.7.1")


async def test_only_the_root_of_what_the_owner_submits_wishes_anything(office: Office) -> None:
    """A forwarded message has wishes of its own, or of somebody who would like to be obeyed."""
    forwarded = (
        b"X-Secmailproxy-Protect: never\r\nSubject: [clear] inner\r\n\r\nX-Secmailproxy-Protect: never\r\n"
    )
    message = written("Content-Type: message/rfc822")[: -len("The treasure\r\n")] + forwarded
    (copy,) = await office.outbound().protect(Envelope(ALICE, (BOB,)), message)
    assert what_left(copy) is Made.ENCRYPTED
    stored = await office.outbound().protect_to_self(
        ALICE, written("X-Secmailproxy-Protect: requre"), sign=True
    )
    assert b"treasure" not in stored


async def test_a_key_is_attached_where_the_message_wishes_it(office: Office) -> None:
    for wish, attached in (("yes", True), ("no", False)):
        message = written(f"X-Secmailproxy-Attach-Key: {wish}")
        (copy,) = await office.outbound().protect(Envelope(ALICE, (BOB,)), message)
        assert (b"BEGIN PGP PUBLIC KEY" in opened_by(office.gnupg, copy.octets)[0]) is attached


# Mailing lists.


async def test_a_list_reads_with_a_key_that_does_not_carry_its_address(office: Office) -> None:
    rule = Rule(to=LIST, protect=Protect.REQUIRE, fingerprints=(office.prints[LIST],))
    await office.outbound(rule).check_recipient(ALICE, LIST)
    (copy,) = await office.outbound(rule).protect(Envelope(ALICE, (LIST,)), written(to=LIST))
    assert b"The treasure" in opened_by(office.gnupg, copy.octets)[0]
    with pytest.raises(NoUsableCertificate, match=LIST):
        await office.outbound(Rule(to=LIST, protect=Protect.REQUIRE)).check_recipient(ALICE, LIST)
    both = await office.outbound(rule).protect(Envelope(ALICE, (LIST, BOB)), written(to=f"{LIST}, {BOB}"))
    assert [what_left(one) for one in both] == [Made.ENCRYPTED]


async def test_a_reply_to_a_list_and_people_has_one_protection(office: Office) -> None:
    talk, envelope = "talk@lists.example.org", Envelope(ALICE, ("talk@lists.example.org", BOB))
    signing = Rule(to=talk, protect=Protect.SIGN)
    (copy,) = await office.outbound(signing).protect(envelope, written(to=f"{talk}, {BOB}"))
    assert what_left(copy) is Made.SIGNED
    assert copy.rcpt_tos == envelope.rcpt_tos
    with pytest.raises(NotAllowed, match="send two messages"):
        await office.outbound(signing, Rule(to=BOB, protect=Protect.REQUIRE)).protect(envelope, written())


# Aliases and accounts.


async def test_an_alias_uses_the_key_of_its_account_until_it_has_one(office: Office) -> None:
    async def signer() -> str:
        message = written().replace(ALICE.encode(), ALIAS.encode())
        (copy,) = await office.outbound().protect(Envelope(ALIAS, (BOB,)), message, account=ALICE)
        assert what_left(copy) is Made.ENCRYPTED
        status = opened_by(office.gnupg, copy.octets)[1]
        return re.findall(r"VALIDSIG (\w+)", status)[0]

    assert await signer() == office.prints[ALICE]
    own = office.keystore.generate(ALIAS)
    office.gnupg.take(office.keystore.export(own.fingerprint))
    assert await signer() == own.fingerprint


async def test_an_address_that_is_not_listed_borrows_no_key_and_does_not_leave_in_clear_unnoticed(
    office: Office,
) -> None:
    """It would tell the world that two addresses belong to one person."""
    outbound = office.outbound()
    with pytest.raises(SigningKeyUnusable, match="`aliases`") as refusal:
        await outbound.protect(Envelope(WORK, (BOB,)), written(), account=ALICE)
    assert (refusal.value.smtp_code, refusal.value.enhanced_status) == (554, "5.7.5")
    for envelope, account in ((Envelope(WORK, (EVE,)), ALICE), (Envelope(WORK, (BOB,)), WORK)):
        (copy,) = await outbound.protect(envelope, written(), account=account)
        assert what_left(copy) is Made.NOTHING


async def test_a_rule_for_an_account_counts_at_rcpt_and_for_the_message(office: Office) -> None:
    """SMTP-06."""
    outbound = office.outbound(Rule(account=WORK, protect=Protect.REQUIRE))
    await outbound.check_recipient(ALICE, EVE, account=ALICE)
    with pytest.raises(NoUsableCertificate) as refusal:
        await outbound.check_recipient(ALICE, EVE, account=WORK)
    assert (refusal.value.smtp_code, refusal.value.enhanced_status) == (550, "5.7.5")
    (copy,) = await outbound.protect(Envelope(ALICE, (EVE,)), written(to=EVE), account=ALICE)
    assert what_left(copy) is Made.SIGNED
    with pytest.raises(NoUsableCertificate):
        await outbound.protect(Envelope(ALICE, (EVE,)), written(to=EVE), account=WORK)


def test_what_is_held_under_one_spelling_is_not_gone_round_by_another(keystore: Keystore) -> None:
    """A certificate of the ASCII form of the domain does not take the place of the one in use."""
    now = datetime.now(UTC)
    spelled, plain = "bob@bücher.example", "bob@xn--bcher-kva.example"
    ended = openpgp.generate(spelled, now=now - timedelta(9), expires=timedelta(8))
    keystore.import_keys(ended.certificate_octets, source="a file", now=now - timedelta(5))
    for address in (spelled, plain):
        other = openpgp.generate(address, now=now)
        keystore.import_keys(other.certificate_octets, source="a file", now=now)
    decider = Decider(keystore, OutboundSettings(), now)
    assert decider.select(spelled, Rule("*"), Scheme.OPENPGP).reason is Reason.HELD
    assert decider.select(plain, Rule("*"), Scheme.OPENPGP).reason is Reason.HELD


def test_nobody_gets_the_certificate_of_a_similar_address(keystore: Keystore) -> None:
    """Some letters are folded to others in rules; that would encrypt to another person."""
    now = datetime.now(UTC)
    theirs = openpgp.generate("strauss@example.org", now=now - timedelta(1))
    keystore.import_keys(theirs.certificate_octets, source="a file", now=now)
    decider = Decider(keystore, OutboundSettings(), now)
    assert decider.select("Strauss@example.org", Rule(), Scheme.OPENPGP).certificates
    assert not decider.select("strau\u00df@example.org", Rule(), Scheme.OPENPGP).certificates
