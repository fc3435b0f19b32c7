"""Certificates are looked for while mail is submitted: for whom, for how long, and never by reading."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from keystore import openpgp
from keystore.discovery.ladder import Ladder, LadderSettings, Reach
from keystore.discovery.model import Offer, SourceKind
from keystore.keystore import Keystore
from keystore.model import Fingerprint, Scheme, Trust
from secmailproxy.decision import Decider, OutboundSettings
from secmailproxy.errors import NoUsableCertificate, StillLooking
from secmailproxy.finding import Finding, Patience, asked_as, wanted_for
from secmailproxy.model import Envelope, Protection
from secmailproxy.outbound import Outbound
from secmailproxy.rules import Protect, Rule
from tests.fixtures.keystores import NOW, credentials, keystore, make_keystore
from tests.fixtures.shelves import Shelf

__all__ = ["credentials", "keystore", "make_keystore"]

DAY = timedelta(days=1)
ALICE, BOB, EVE = "alice@example.org", "bob@posteo.de", "eve@posteo.de"
WKD = SourceKind.WKD
REQUIRE = Rule(protect=Protect.REQUIRE)
MESSAGE = b"From: alice@example.org\r\nTo: bob@posteo.de\r\nSubject: x\r\n\r\nhello\r\n"
KINDS = (WKD,)


def made(address: str = BOB, **options) -> Offer:
    return Offer(openpgp.generate(address, now=NOW - 30 * DAY, **options).certificate_octets, "somewhere")


KEY = made()


@pytest.fixture
def alice(keystore: Keystore) -> Keystore:
    """A keystore with an own key."""
    keystore.generate(ALICE, now=NOW - 30 * DAY)
    return keystore


Office = Callable[..., Outbound]


@pytest.fixture
async def office(alice: Keystore) -> AsyncIterator[Office]:
    """Makes outbounds that look for certificates on shelves."""
    findings = []

    def make(*shelves: Shelf, rules: tuple[Rule, ...] = (), seconds: float = 3.0) -> Outbound:
        ladder = Ladder(alice, shelves, LadderSettings(), lambda: NOW)
        findings.append(Finding(ladder, seconds, lambda: NOW))
        return Outbound(alice, OutboundSettings(rules), lambda: NOW, finding=findings[-1])

    yield make
    for one in findings:
        await one.close()


async def sent(outbound: Outbound, *rcpt_tos: str) -> Protection:
    patience = Patience()
    for one in rcpt_tos:
        await outbound.check_recipient(ALICE, one, patience=patience)
    copies = await outbound.protect(Envelope(ALICE, rcpt_tos), MESSAGE, patience=patience)
    return copies[0].protection


@pytest.mark.parametrize("rules", [(), (REQUIRE,)], ids=["prefer", "require"])
async def test_what_is_found_protects_this_very_message(office: Office, rules: tuple[Rule, ...]) -> None:
    shelf = Shelf(WKD, {BOB: [KEY]})
    outbound = office(shelf, rules=rules)
    assert await sent(outbound, BOB) is Protection.SIGNED_AND_ENCRYPTED
    assert await sent(outbound, BOB) is Protection.SIGNED_AND_ENCRYPTED
    assert shelf.asked == [BOB]


async def test_nothing_is_found(office: Office) -> None:
    """SMTP-06: the recipient is refused where a rule demands encryption, before the message is seen."""
    shelf = Shelf(WKD)
    assert await sent(office(shelf), BOB) is Protection.SIGNED
    with pytest.raises(NoUsableCertificate):
        await office(shelf, rules=(REQUIRE,)).check_recipient(ALICE, BOB, patience=Patience())


async def test_a_slow_source_holds_up_no_mail_beyond_the_bound(office: Office) -> None:
    """Many recipients share one; what is demanded is deferred, for it may be found yet."""
    shelf = Shelf(WKD, {BOB: [KEY]})
    shelf.open.clear()
    many = [f"p{number}@posteo.de" for number in range(30)]
    assert await sent(office(shelf, seconds=0.2), BOB, *many) is Protection.SIGNED
    outbound = office(shelf, rules=(REQUIRE,), seconds=0.2)
    patience = Patience()
    for one in (BOB, *many[:5]):
        with pytest.raises(StillLooking, match=f"{one}.*still being looked for"):
            await outbound.check_recipient(ALICE, one, patience=patience)
    # One after the other, they would have taken six times that.
    assert 0.2 <= patience.spent + 0.01 < 6 * 0.2
    shelf.open.set()
    assert await sent(outbound, BOB) is Protection.SIGNED_AND_ENCRYPTED


async def test_the_search_goes_on_and_serves_the_next_message(office: Office, alice: Keystore) -> None:
    shelf = Shelf(WKD, {BOB: [KEY]})
    shelf.open.clear()
    outbound = office(shelf, seconds=0.0)
    assert await sent(outbound, BOB) is Protection.SIGNED
    shelf.open.set()
    async with asyncio.timeout(10):
        while not alice.select(BOB, NOW).usable:
            await asyncio.sleep(0.001)
    assert await sent(outbound, BOB) is Protection.SIGNED_AND_ENCRYPTED


async def test_a_search_that_is_given_up_refuses_nobody_for_good(alice: Keystore) -> None:
    """SIGHUP with other sources comes while a submission waits."""
    shelf = Shelf(WKD, {BOB: [KEY]})
    shelf.open.clear()
    finding = Finding(Ladder(alice, [shelf], LadderSettings(), lambda: NOW), 60.0, lambda: NOW)
    outbound = Outbound(alice, OutboundSettings((REQUIRE,)), lambda: NOW, finding=finding)
    waiting = asyncio.create_task(outbound.check_recipient(ALICE, BOB, patience=Patience()))
    while not shelf.asked:
        await asyncio.sleep(0.001)
    await finding.close()
    with pytest.raises(StillLooking):
        await waiting


async def test_what_cannot_be_stored_refuses_nobody_for_good(office: Office, alice: Keystore) -> None:
    """The disk cannot be written to, and there is a certificate."""
    outbound = office(Shelf(WKD, {BOB: [KEY]}), rules=(REQUIRE,))
    disk = alice._store.database._connection  # type: ignore[attr-defined]
    disk.execute("PRAGMA query_only = ON")
    with pytest.raises(StillLooking):
        await outbound.check_recipient(ALICE, BOB, patience=Patience())
    disk.execute("PRAGMA query_only = OFF")
    assert await sent(outbound, BOB) is Protection.SIGNED_AND_ENCRYPTED


async def test_without_a_submission_nobody_is_asked(office: Office) -> None:
    """Neither policy test nor a seal, nor anything that reads, has the patience of a submission."""
    shelf = Shelf(WKD, {BOB: [KEY]})
    outbound = office(shelf)
    await outbound.check_recipient(ALICE, BOB)
    (copy,) = await outbound.protect(Envelope(ALICE, (BOB,)), MESSAGE)
    assert (copy.protection, shelf.asked) == (Protection.SIGNED, [])


PIN = Fingerprint("AB" * 20)
UNUSED = {
    "never": (Rule(protect=Protect.NEVER), BOB),
    "sign": (Rule(protect=Protect.SIGN), BOB),
    "an own address": (Rule(), ALICE),
    "an odd address": (Rule(), '"b ob"@posteo.de'),
    "a scheme without an own key": (Rule(scheme=Scheme.SMIME), BOB),
}


@pytest.mark.parametrize("case", list(UNUSED))
def test_for_whom_nobody_is_asked(alice: Keystore, case: str) -> None:
    rule, rcpt_to = UNUSED[case]
    assert wanted_for(Decider(alice, OutboundSettings(), NOW), ALICE, rcpt_to, rule, KINDS) is None


def test_a_sender_without_a_key_asks_for_nobody(keystore: Keystore) -> None:
    assert wanted_for(Decider(keystore, OutboundSettings(), NOW), ALICE, BOB, REQUIRE, KINDS) is None


def test_what_is_wanted(alice: Keystore) -> None:
    decider = Decider(alice, OutboundSettings(), NOW)
    wanted = wanted_for(decider, ALICE, "Bob@POSTEO.de", Rule(fingerprints=(PIN,)), KINDS)
    assert wanted is not None
    assert (wanted.address, wanted.schemes, wanted.pinned) == ("Bob@posteo.de", (Scheme.OPENPGP,), (PIN,))
    assert wanted.reach is Reach.NEEDED


@pytest.mark.parametrize(
    ("offer", "kind", "trust", "reach"),
    [
        (KEY, None, None, None),
        (made(expires=60 * DAY), None, None, None),
        (made(expires=40 * DAY), None, None, Reach.RENEWING),
        (KEY, WKD, None, Reach.RENEWING),
        (KEY, SourceKind.AUTOCRYPT, None, None),
        (KEY, SourceKind.GOSSIP, None, Reach.NEEDED),
        (made(expires=20 * DAY), None, None, Reach.NEEDED),
        (KEY, None, Trust.REJECTED, Reach.NEEDED),
    ],
    ids=[
        "lasts",
        "lasts long enough",
        "ends soon",
        "was found",
        "came by mail",
        "gossip",
        "expired",
        "rejected",
    ],
)
def test_what_is_known_is_renewed(
    alice: Keystore, offer: Offer, kind: SourceKind | None, trust: Trust | None, reach: Reach | None
) -> None:
    if kind is not None:
        alice.import_found(offer, kind, BOB, NOW)
    else:
        (result,) = alice.import_keys(offer.octets, source="the tests", now=NOW - 29 * DAY)
        if trust is not None and result.fingerprint is not None:
            alice.set_trust(result.fingerprint, trust)
    wanted = wanted_for(Decider(alice, OutboundSettings(), NOW), ALICE, BOB, Rule(), KINDS)
    assert (wanted.reach if wanted else None) is reach


async def test_renewal_keeps_nobody_waiting_and_is_rare(office: Office, alice: Keystore) -> None:
    alice.import_found(KEY, WKD, BOB, NOW)
    shelf = Shelf(WKD, {BOB: [KEY]})
    shelf.open.clear()
    outbound = office(shelf, rules=(REQUIRE,))
    patience = Patience()
    for _ in range(3):
        await outbound.check_recipient(ALICE, BOB, patience=patience)
        await outbound.protect(Envelope(ALICE, (BOB,)), MESSAGE, patience=patience)
    assert (len(shelf.asked), patience.spent) == (1, 0.0)


@pytest.mark.parametrize(
    ("rcpt_to", "asked"),
    [
        ("Bob@Posteo.DE", "Bob@posteo.de"),
        ("bob@bücher.de", "bob@xn--bcher-kva.de"),
        ("bob@posteo.de.", "bob@posteo.de"),
        ('"bob"@posteo.de', ""),
        ("postmaster", ""),
        ("", ""),
    ],
)
def test_how_an_address_is_asked_for(rcpt_to: str, asked: str) -> None:
    assert asked_as(rcpt_to) == asked
