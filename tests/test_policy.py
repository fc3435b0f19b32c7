"""What the rules decide, as a truth table, and who gets which copy."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from keystore.model import Certificate, Fingerprint, Identity, Reason, Selection
from secmailproxy.errors import NotAllowed, NoUsableCertificate, SecMailProxyError, SigningKeyUnusable
from secmailproxy.model import Protection
from secmailproxy.policy import (
    CopyPlan,
    Plan,
    Protect,
    Rule,
    matches,
    normal_address,
    plan_outbound,
    recipient_refusal,
    rule_for,
)

REQUIRE, PREFER, SIGN, NEVER = Protect.REQUIRE, Protect.PREFER, Protect.SIGN, Protect.NEVER
ALICE, BOB, CAROL, DAVE = (f"{name}@example.org" for name in ("alice", "bob", "carol", "dave"))
PRINTS = {one: Fingerprint(f"{number:040X}") for number, one in enumerate((ALICE, BOB, CAROL, DAVE), 10)}


def certificate(address: str, fingerprint: Fingerprint | None = None) -> Certificate:
    """A certificate for `address`."""
    created = datetime(2026, 1, 1, tzinfo=UTC)
    return Certificate(fingerprint or PRINTS[address], b"", (address,), (address,), created, None, "Ed25519")


OWN = Identity(ALICE, certificate(ALICE))


def facts(*known: str, unknown: tuple[str, ...] = ()) -> dict[str, Selection]:
    """Selections: a certificate for each of `known`, none for `unknown`."""
    missing = {one: Selection(one, (), Reason.EXPIRED, "key 1234 expired 2026-01-02") for one in unknown}
    return {one: Selection(one, (certificate(one),)) for one in known} | missing


def decide(
    selections: dict[str, Selection],
    *rules: Rule,
    identity: Identity | None = OWN,
    named: tuple[str, ...] | None = None,
    problem: str = "",
) -> Plan:
    """The plan for a message from alice to everybody in `selections`."""
    rcpt_tos = tuple(selections)
    visible = frozenset(map(normal_address, rcpt_tos if named is None else named))
    return plan_outbound(ALICE, rcpt_tos, visible, identity, selections, rules, identity_problem=problem)


BOTH, NO_CAROL = facts(BOB, CAROL), facts(BOB, unknown=(CAROL,))
ENCRYPTED, SIGNED, PLAIN = Protection.SIGNED_AND_ENCRYPTED, Protection.SIGNED, Protection.NONE
TABLE: list[
    tuple[dict[str, Selection], Protect, Protect, Identity | None, Protection | type[SecMailProxyError]]
] = [
    # certificates, rule for bob, rule for carol, own key, outcome
    (BOTH, PREFER, PREFER, OWN, ENCRYPTED),
    (BOTH, PREFER, PREFER, None, PLAIN),
    (NO_CAROL, PREFER, PREFER, OWN, SIGNED),
    (NO_CAROL, PREFER, PREFER, None, PLAIN),
    (BOTH, REQUIRE, PREFER, OWN, ENCRYPTED),
    (BOTH, REQUIRE, REQUIRE, OWN, ENCRYPTED),
    (BOTH, REQUIRE, PREFER, None, SigningKeyUnusable),
    (NO_CAROL, REQUIRE, PREFER, OWN, NoUsableCertificate),
    (NO_CAROL, PREFER, REQUIRE, OWN, NoUsableCertificate),
    (NO_CAROL, PREFER, REQUIRE, None, NoUsableCertificate),
    (BOTH, REQUIRE, NEVER, OWN, NotAllowed),
    (BOTH, REQUIRE, SIGN, OWN, NotAllowed),
    (NO_CAROL, REQUIRE, NEVER, OWN, NotAllowed),
    (BOTH, SIGN, PREFER, OWN, SIGNED),
    (BOTH, SIGN, SIGN, OWN, SIGNED),
    (BOTH, SIGN, SIGN, None, PLAIN),
    (BOTH, NEVER, PREFER, OWN, PLAIN),
    (BOTH, NEVER, SIGN, OWN, PLAIN),
    (BOTH, NEVER, NEVER, None, PLAIN),
]


@pytest.mark.parametrize(("selections", "for_bob", "for_carol", "identity", "outcome"), TABLE)
def test_one_protection_for_all_recipients(
    selections: dict[str, Selection],
    for_bob: Protect,
    for_carol: Protect,
    identity: Identity | None,
    outcome: Protection | type[SecMailProxyError],
) -> None:
    rules = (Rule(to=BOB, protect=for_bob), Rule(to=CAROL, protect=for_carol))
    if isinstance(outcome, type):
        with pytest.raises(outcome):
            decide(selections, *rules, identity=identity)
        return
    plan = decide(selections, *rules, identity=identity)
    assert plan.protection is outcome
    assert plan.why
    assert (plan.signer is None) is (outcome is PLAIN)
    assert {rcpt for copy in plan.copies for rcpt in copy.rcpt_tos} == set(selections)
    assert all(bool(copy.fingerprints) is (outcome is ENCRYPTED) for copy in plan.copies)
    assert len(plan.copies) == 1


def test_an_own_key_that_cannot_sign_never_means_clear_text() -> None:
    for rule in (Rule(), Rule(protect=SIGN), Rule(protect=REQUIRE)):
        with pytest.raises(SigningKeyUnusable, match="expired"):
            decide(BOTH, rule, identity=None, problem="the own key has expired")
    assert decide(BOTH, Rule(protect=NEVER), identity=None, problem="expired").protection is PLAIN


def test_refusals_name_each_address_and_its_reason() -> None:
    with pytest.raises(NoUsableCertificate) as refusal:
        decide(facts(unknown=(BOB, CAROL)), Rule(protect=REQUIRE))
    for address in (BOB, CAROL):
        assert f"<{address}> (key 1234 expired 2026-01-02)" in refusal.value.text
    with pytest.raises(NotAllowed, match=r"<bob@example.org>.*<carol@example.org>"):
        decide(BOTH, Rule(to=BOB, protect=REQUIRE), Rule(to=CAROL, protect=NEVER))


def test_smtp_09_blind_recipients_get_copies_of_their_own() -> None:
    plan = decide(facts(DAVE, BOB, CAROL), named=(BOB,))
    own = PRINTS[ALICE]
    assert plan.copies == (
        CopyPlan((BOB,), (PRINTS[BOB], own)),
        CopyPlan((DAVE,), (PRINTS[DAVE], own)),
        CopyPlan((CAROL,), (PRINTS[CAROL], own)),
    )


def test_only_blind_recipients_make_no_empty_copy() -> None:
    plan = decide(facts(BOB, CAROL), named=(DAVE,))
    assert [copy.rcpt_tos for copy in plan.copies] == [(BOB,), (CAROL,)]


def test_named_recipients_are_found_in_any_case_and_the_sender_is_included_once() -> None:
    selections = facts(BOB, ALICE) | {"Carol@EXAMPLE.org": Selection(CAROL, (certificate(CAROL),))}
    plan = decide(selections, named=(BOB.upper(), ALICE, CAROL))
    assert plan.copies == (
        CopyPlan((BOB, ALICE, "Carol@EXAMPLE.org"), (PRINTS[BOB], PRINTS[ALICE], PRINTS[CAROL])),
    )


def test_clear_and_signed_messages_are_not_split() -> None:
    for rule in (Rule(protect=SIGN), Rule(protect=NEVER)):
        assert decide(BOTH, rule, named=(BOB,)).copies == (CopyPlan((BOB, CAROL)),)


def test_pinned_certificates_are_all_and_the_only_ones() -> None:
    first, second = Fingerprint("A" * 40), Fingerprint("B" * 40)
    pin = Rule(to=BOB, fingerprints=(first, second))
    both = Selection(BOB, (certificate(BOB, first), certificate(BOB, second), certificate(BOB)))
    one = Selection(BOB, (certificate(BOB, first),))
    assert decide({BOB: both}, pin).copies[0].fingerprints == (first, second, PRINTS[ALICE])
    assert decide({BOB: one}, pin).protection is SIGNED
    with pytest.raises(NoUsableCertificate, match=r"B{40}"):
        decide({BOB: one}, Rule(to=BOB, protect=REQUIRE, fingerprints=(first, second)))


def test_the_subject_is_hidden_unless_every_rule_shows_it() -> None:
    shows = Rule(to=BOB, hide_subject=False)
    assert decide(facts(BOB), shows).hide_subject is False
    assert decide(BOTH, shows).hide_subject is True


@pytest.mark.parametrize(
    ("pattern", "address", "covered"),
    [
        ("*", "a@b", True),
        ("a@b.org", "A@B.ORG", True),
        ("<a@b.org>", "a@b.org", True),
        ("a@b.org", "aa@b.org", False),
        ("@b.org", "x@B.org", True),
        ("@b.org", "x@sub.b.org", False),
        ("@b.org", "x@evilb.org", False),
        ("*.b.org", "x@sub.b.org", True),
        ("*.b.org", "x@deep.sub.b.org", True),
        ("*.b.org", "x@b.org", False),
        ("*.b.org", "x@evilb.org", False),
        ("@b\u00fccher.example", "x@xn--bcher-kva.example", True),
        ("x@xn--bcher-kva.example", "X@B\u00dcCHER.example", True),
    ],
)
def test_patterns(pattern: str, address: str, covered: bool) -> None:
    assert matches(pattern, address) is covered


def test_the_first_matching_rule_speaks() -> None:
    rules = (
        Rule(to=BOB, from_=CAROL, protect=NEVER),
        Rule(to="@example.org", protect=SIGN),
        Rule(to=BOB, protect=REQUIRE),
    )
    assert rule_for(CAROL, BOB, rules).protect is NEVER
    assert rule_for(ALICE, BOB, rules).protect is SIGN
    assert rule_for(ALICE, "x@elsewhere.org", rules) == Rule()


def test_a_domain_that_is_no_idn_is_compared_as_it_is() -> None:
    assert normal_address("a@\u00fc..b") == "a@\u00fc..b"


@pytest.mark.parametrize(
    ("spelling", "plain"),
    [
        ('"bob"@example.org', BOB),
        ('"b\\ob"@Example.ORG', BOB),
        ("bob@example.org.", BOB),
        ("<BOB@example.org>", BOB),
        ('"b ob"@example.org', '"b ob"@example.org'),
        ('"bob.."@example.org', '"bob.."@example.org'),
        ('""@example.org', '""@example.org'),
        ('"', '"'),
        ("", ""),
    ],
)
def test_spellings_of_one_address(spelling: str, plain: str) -> None:
    assert normal_address(spelling) == plain


def test_smtp_06_only_required_encryption_refuses_at_rcpt() -> None:
    missing = facts(unknown=(BOB,))[BOB]
    assert recipient_refusal(BOB, Rule(protect=REQUIRE), facts(BOB)[BOB]) is None
    for protect in (PREFER, SIGN, NEVER):
        assert recipient_refusal(BOB, Rule(protect=protect), missing) is None
    refusal = recipient_refusal(BOB, Rule(protect=REQUIRE), missing)
    assert refusal == "no encryption key for <bob@example.org> (key 1234 expired 2026-01-02)"
    bare = Selection(BOB, (), Reason.NO_CERTIFICATE)
    assert recipient_refusal(BOB, Rule(protect=REQUIRE), bare) == (
        "no encryption key for <bob@example.org> (no certificate)"
    )
