"""What the rules decide, as a truth table, and who gets which copy."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore.model import Certificate, Fingerprint, Identity, Reason, Scheme, Selection
from secmailproxy.errors import NotAllowed, NoUsableCertificate, SecMailProxyError, SigningKeyUnusable
from secmailproxy.model import Protection
from secmailproxy.policy import (
    CopyPlan,
    Facts,
    Plan,
    Protect,
    Question,
    Rule,
    plan_outbound,
    recipient_refusal,
)
from secmailproxy.rules import choose, matches, normal_address, rule_for
from secmailproxy.wishes import Wish

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
    known = Facts(identity, selections, problem)
    nothing = Facts(None, {one: Selection(one, (), Reason.NO_CERTIFICATE) for one in rcpt_tos})
    chosen = {one: choose(ALICE, one, rules) for one in rcpt_tos}
    by_scheme = {Scheme.OPENPGP: known, Scheme.SMIME: nothing}
    return plan_outbound(Question(ALICE, rcpt_tos, visible), chosen, by_scheme.__getitem__)


def changed(*known: str, held: str) -> dict[str, Selection]:
    """One recipient's certificate has ended, and another one waits."""
    return facts(*known) | {held: Selection(held, (), Reason.HELD, "key 1234 expired; 5678 is held")}


HELD_CAROL, HELD_AND_NONE = changed(BOB, held=CAROL), facts(unknown=(BOB,)) | changed(held=CAROL)
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
    (HELD_CAROL, PREFER, PREFER, OWN, NoUsableCertificate),
    (HELD_CAROL, REQUIRE, PREFER, OWN, NoUsableCertificate),
    (HELD_AND_NONE, PREFER, PREFER, OWN, NoUsableCertificate),
    (HELD_CAROL, PREFER, PREFER, None, PLAIN),
    (HELD_CAROL, PREFER, SIGN, OWN, SIGNED),
    (HELD_CAROL, NEVER, PREFER, OWN, PLAIN),
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


def test_a_changed_certificate_is_named_with_its_reason() -> None:
    """Also for rules that encrypt where they can: the sender is to look before anything leaves."""
    with pytest.raises(NoUsableCertificate, match=f"<{CAROL}> has changed .*5678 is held") as refused:
        decide(HELD_CAROL)
    assert refused.value.enhanced_status == "5.7.5"
    held = {Scheme.OPENPGP: HELD_CAROL[CAROL], Scheme.SMIME: Selection(CAROL, (), Reason.NO_CERTIFICATE)}
    at_rcpt = recipient_refusal(CAROL, Rule(to=CAROL, protect=REQUIRE), held)
    assert at_rcpt == str(refused.value)
    assert recipient_refusal(CAROL, Rule(to=CAROL, protect=PREFER), held) is None


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
        assert f"<{address}> (OpenPGP: key 1234 expired 2026-01-02)" in refusal.value.text
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


def test_no_spelling_evades_a_rule_and_no_look_alike_is_covered() -> None:
    """Sharp s and "ss" are two domains (RFC 5891): the rule for one says nothing of the other."""
    for pattern in ("@stra\u00dfe.example", "@XN--STRAE-OQA.example"):
        for domain in ("stra\u00dfe.example", "xn--strae-oqa.example"):
            assert matches(pattern, f"bob@{domain}")
        assert not matches(pattern, "bob@strasse.example")
    assert not matches("bob@example.org", "b\u043eb@example.org")
    assert not matches("bob@example.org", "bob+tag@example.org")


@pytest.mark.parametrize(
    ("local", "other"),
    [("strau\u00df", "strauss"), ("\u212aate", "kate"), ("\ufb01nn", "finn"), ("jan\u017fen", "jansen")],
)
def test_a_rule_covers_what_servers_fold_but_it_is_no_spelling_of_the_address(local: str, other: str) -> None:
    """A rule cannot be evaded so; and nobody's certificate is another's."""
    for one in (local, local.upper() if local.upper().lower() == local else local):
        assert matches(f"{other}@example.org", f"{one}@example.org")
        assert matches(f"{one}@example.org", f"{other}@example.org")
        assert normal_address(f"{one}@example.org") == f"{local}@example.org"


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
        ('"b\\ ob"@example.org', '"b ob"@example.org'),
        ('"b\\"\\\\"@example.org', '"b\\"\\\\"@example.org'),
        ("jose\u0301@example.org", "jos\u00e9@example.org"),
        ("JOS\u00c9@example.org", "jos\u00e9@example.org"),
        ("bob@b\u00fccher.example", "bob@xn--bcher-kva.example"),
        ("bob@BU\u0308CHER\u3002example\uff0e", "bob@xn--bcher-kva.example"),
        ("bob@stra\u00dfe.example", "bob@xn--strae-oqa.example"),
        ("bob@STRA\u1e9eE.example.", "bob@xn--strae-oqa.example"),
        ("bob@fa\u00df\u00fc.example", "bob@xn--fa-hia0j.example"),
        ("bob@exa\u00admple\u3002org", BOB),
        ("@stra\u00dfe.example", "@xn--strae-oqa.example"),
        ("*.b\u00fccher.example", "*.xn--bcher-kva.example"),
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
    assert recipient_refusal(BOB, Rule(protect=REQUIRE), {Scheme.OPENPGP: facts(BOB)[BOB]}) is None
    for protect in (PREFER, SIGN, NEVER):
        assert recipient_refusal(BOB, Rule(protect=protect), {Scheme.OPENPGP: missing}) is None
    refusal = recipient_refusal(BOB, Rule(protect=REQUIRE), {Scheme.OPENPGP: missing})
    assert refusal == (
        "no encryption key for <bob@example.org> (OpenPGP: key 1234 expired 2026-01-02); "
        "import a certificate with: secmailproxy key import FILE"
    )


def test_smtp_06_the_refusal_tells_of_the_scheme_that_has_something_to_tell() -> None:
    none, expired = Selection(BOB, (), Reason.NO_CERTIFICATE), facts(unknown=(BOB,))[BOB]
    other = Selection(BOB, (), Reason.OTHER_SCHEME, "certificate 12: a certificate of the other scheme")
    pinned = Rule(protect=REQUIRE, fingerprints=(Fingerprint("12"),))
    for rule, openpgp, smime, why in (
        (Rule(protect=REQUIRE), none, none, "no certificate is known"),
        (Rule(protect=REQUIRE), expired, none, "OpenPGP: key 1234 expired 2026-01-02"),
        (Rule(protect=REQUIRE), none, expired, "S/MIME: key 1234 expired 2026-01-02"),
        (pinned, other, expired, "S/MIME: key 1234 expired 2026-01-02"),
    ):
        selections = {Scheme.OPENPGP: openpgp, Scheme.SMIME: smime}
        refusal = recipient_refusal(BOB, rule, selections)
        assert refusal is not None
        assert refusal.startswith(f"no encryption key for <bob@example.org> ({why}); import")


# Schemes.

OPENPGP, SMIME = Scheme.OPENPGP, Scheme.SMIME
SMIME_PRINTS = {one: Fingerprint(f"{number:064X}") for number, one in enumerate(PRINTS, 10)}
SMIME_OWN = Identity(ALICE, certificate(ALICE, SMIME_PRINTS[ALICE]))


def known_by(scheme: Scheme, *addresses: str, own: bool = True, of: tuple[str, ...] = (BOB, CAROL)) -> Facts:
    """Facts of one scheme: certificates for `addresses` out of `of`."""
    prints = PRINTS if scheme is OPENPGP else SMIME_PRINTS
    found = {
        one: Selection(one, (certificate(one, prints[one]),))
        if one in addresses
        else Selection(one, (), Reason.NO_CERTIFICATE)
        for one in of
    }
    return Facts((OWN if scheme is OPENPGP else SMIME_OWN) if own else None, found)


def decide_by(
    openpgp: Facts, smime: Facts, *rules: Rule, wish: Wish | None = None, account: str = ""
) -> Plan:
    """The plan for a message from alice to bob and carol."""
    question = Question(ALICE, (BOB, CAROL), frozenset((BOB, CAROL)), account, wish or Wish())
    chosen = {one: choose(ALICE, one, rules, account) for one in (BOB, CAROL)}
    return plan_outbound(question, chosen, {OPENPGP: openpgp, SMIME: smime}.__getitem__)


ALL, BOB_ONLY, CAROL_ONLY, NOBODY = (BOB, CAROL), (BOB,), (CAROL,), ()
SCHEMES: list[
    tuple[
        tuple[str, ...],
        tuple[str, ...],
        Scheme | None,
        Scheme | None,
        tuple[Protection, Scheme],
    ]
] = [
    # OpenPGP for, S/MIME for, rule for bob, rule for carol, what leaves
    (ALL, ALL, None, None, (ENCRYPTED, OPENPGP)),
    (BOB_ONLY, ALL, None, None, (ENCRYPTED, SMIME)),
    (BOB_ONLY, CAROL_ONLY, None, None, (SIGNED, OPENPGP)),
    (NOBODY, NOBODY, None, None, (SIGNED, OPENPGP)),
    (ALL, ALL, SMIME, None, (ENCRYPTED, SMIME)),
    (ALL, BOB_ONLY, SMIME, None, (SIGNED, SMIME)),
    (BOB_ONLY, ALL, OPENPGP, None, (SIGNED, OPENPGP)),
    (ALL, ALL, OPENPGP, SMIME, (SIGNED, OPENPGP)),
]


@pytest.mark.parametrize(("by_openpgp", "by_smime", "for_bob", "for_carol", "leaves"), SCHEMES)
def test_one_scheme_for_all_recipients_openpgp_first(
    by_openpgp: tuple[str, ...],
    by_smime: tuple[str, ...],
    for_bob: Scheme | None,
    for_carol: Scheme | None,
    leaves: tuple[Protection, Scheme],
) -> None:
    facts_of = (known_by(OPENPGP, *by_openpgp), known_by(SMIME, *by_smime))
    schemes = ((BOB, for_bob), (CAROL, for_carol))
    plan = decide_by(*facts_of, *(Rule(to=one, scheme=scheme) for one, scheme in schemes))
    assert (plan.protection, plan.scheme) == leaves
    assert plan.signer == (PRINTS if leaves[1] is OPENPGP else SMIME_PRINTS)[ALICE]
    strict = [Rule(to=one, scheme=scheme, protect=REQUIRE) for one, scheme in schemes]
    if plan.protection is ENCRYPTED:
        assert decide_by(*facts_of, *strict) == plan
    else:
        with pytest.raises((NoUsableCertificate, NotAllowed)):
            decide_by(*facts_of, *strict)


def test_rules_that_ask_for_two_schemes_are_told() -> None:
    both = (known_by(OPENPGP, *ALL), known_by(SMIME, *ALL))
    rules = (Rule(to=BOB, scheme=OPENPGP, protect=REQUIRE), Rule(to=CAROL, scheme=SMIME))
    with pytest.raises(NotAllowed, match=r"OpenPGP to <bob@example\.org>.*S/MIME to <carol@example\.org>"):
        decide_by(*both, *rules)
    assert "one message has one scheme" in decide_by(*both, Rule(to=BOB, scheme=OPENPGP), rules[1]).why


def test_an_own_key_that_cannot_sign_is_no_reason_to_encrypt_less() -> None:
    """The S/MIME key could sign, but the message could be encrypted if the OpenPGP key were put right."""
    expired = Facts(None, known_by(OPENPGP, *ALL).selections, "the own key has expired")
    with pytest.raises(SigningKeyUnusable, match="expired"):
        decide_by(expired, known_by(SMIME))
    assert decide_by(expired, known_by(SMIME, *ALL)).scheme is SMIME


def test_a_sender_whose_key_lacks_the_scheme_is_told_what_is_missing() -> None:
    with pytest.raises(SigningKeyUnusable, match=r"no encryption key for <bob.*no own S/MIME key for <alice"):
        decide_by(known_by(OPENPGP), known_by(SMIME, *ALL, own=False), Rule(protect=REQUIRE))


def test_a_sender_without_a_key_of_the_only_scheme_is_told_so_and_nothing_leaves_in_clear() -> None:
    facts_of = (known_by(OPENPGP, *ALL), known_by(SMIME, own=False))
    for protect in (PREFER, SIGN):
        with pytest.raises(SigningKeyUnusable, match=r"no own S/MIME key for <alice.*allows only S/MIME"):
            decide_by(*facts_of, Rule(scheme=SMIME, protect=protect))
    with pytest.raises(SigningKeyUnusable, match="no own S/MIME key"):
        decide_by(*facts_of, wish=Wish(protect=SIGN, scheme=SMIME))
    assert decide_by(known_by(OPENPGP, own=False), facts_of[1], Rule(scheme=SMIME)).protection is PLAIN


def test_a_wish_for_a_scheme_does_not_keep_the_other_from_encrypting() -> None:
    facts_of = (known_by(OPENPGP, *ALL), known_by(SMIME, BOB))
    with pytest.raises(NotAllowed, match=r'scheme "smime", which cannot encrypt it; OpenPGP can'):
        decide_by(*facts_of, wish=Wish(scheme=SMIME))
    with pytest.raises(NotAllowed, match="OpenPGP can"):
        decide_by(facts_of[0], known_by(SMIME, own=False), wish=Wish(scheme=SMIME))
    plan = decide_by(*facts_of, wish=Wish(scheme=SMIME, protect=SIGN))
    assert (plan.protection, plan.scheme) == (SIGNED, SMIME)
    assert decide_by(*facts_of, Rule(scheme=SMIME), wish=Wish(scheme=SMIME)).protection is SIGNED


def test_it_is_said_that_only_the_own_key_is_missing_for_the_other_scheme() -> None:
    why = decide_by(known_by(OPENPGP), known_by(SMIME, *ALL, own=False)).why
    assert "no own S/MIME key for <alice@example.org>" in why
    why = decide_by(known_by(OPENPGP, *ALL, own=False), known_by(SMIME)).why
    assert "no own OpenPGP key for <alice@example.org>" in why


# Aliases and accounts.


def test_an_alias_without_a_key_does_not_leave_in_clear_what_its_account_would_encrypt() -> None:
    def of(*addresses: str) -> Facts:
        return Facts(None, known_by(OPENPGP, *addresses).selections, account_has_key=True)

    with pytest.raises(SigningKeyUnusable, match=r"`aliases` of the account owner@example\.org"):
        decide_by(of(*ALL), known_by(SMIME, own=False), account="owner@example.org")
    assert decide_by(of(BOB), known_by(SMIME, own=False)).protection is PLAIN
    assert decide_by(of(*ALL), known_by(SMIME, own=False), Rule(protect=NEVER)).protection is PLAIN


def test_a_rule_for_an_account_holds_for_its_login_alone() -> None:
    rules = (Rule(account="Work@Example.org", protect=REQUIRE), Rule(protect=SIGN))
    assert choose(ALICE, BOB, rules, "work@example.org").number == 1
    assert choose(ALICE, BOB, rules, ALICE).number == 2
    assert choose(ALICE, BOB, rules).number == 2
    assert choose(ALICE, BOB, ()).number == 0


# Wishes.


def test_a_wish_is_for_all_recipients() -> None:
    facts_of = (known_by(OPENPGP, *ALL), known_by(SMIME))
    rules = (Rule(to=BOB, protect=SIGN), Rule(to=CAROL, protect=REQUIRE))
    with pytest.raises(NotAllowed, match="send two messages"):
        decide_by(*facts_of, *rules)
    assert decide_by(*facts_of, *rules, wish=Wish(protect=REQUIRE)).protection is ENCRYPTED
    assert decide_by(*facts_of, wish=Wish(protect=NEVER)).protection is PLAIN
    assert decide_by(*facts_of, wish=Wish(attach_key=True)).attach_key is True
    assert decide_by(*facts_of, wish=Wish(hide_subject=False)).hide_subject is False


def test_a_wish_for_the_key_is_not_ignored_where_nothing_can_be_attached() -> None:
    with pytest.raises(NotAllowed, match="key attached"):
        decide_by(known_by(OPENPGP), known_by(SMIME), wish=Wish(protect=NEVER, attach_key=True))


# Properties.

ADDRESSES = st.sampled_from([BOB, CAROL, DAVE])
RULES = st.lists(
    st.builds(
        Rule,
        to=st.sampled_from([BOB, CAROL, DAVE, "@example.org", "*"]),
        from_=st.sampled_from(["*", ALICE, BOB]),
        protect=st.sampled_from(Protect),
        fingerprints=st.sampled_from([(), (), (PRINTS[BOB],), (SMIME_PRINTS[BOB],)]),
        hide_subject=st.booleans(),
        scheme=st.sampled_from([None, None, *Scheme]),
        account=st.sampled_from(["", "", ALICE, "other@example.org"]),
    ),
    max_size=4,
).map(tuple)
WISHES = st.builds(
    Wish,
    protect=st.sampled_from([None, *Protect]),
    scheme=st.sampled_from([None, *Scheme]),
    hide_subject=st.sampled_from([None, True, False]),
    attach_key=st.sampled_from([None, True, False]),
)


def some_facts(scheme: Scheme) -> st.SearchStrategy[Facts]:
    return st.builds(
        lambda addresses, own, problem, account_has_key: Facts(
            (OWN if scheme is OPENPGP else SMIME_OWN) if own else None,
            known_by(scheme, *addresses, of=(BOB, CAROL, DAVE)).selections,
            "" if own else problem,
            account_has_key=account_has_key and not own,
        ),
        st.sets(ADDRESSES),
        st.booleans(),
        st.sampled_from(["", "", "expired"]),
        st.booleans(),
    )


@given(
    st.lists(ADDRESSES, min_size=1, unique=True).map(tuple),
    st.frozensets(ADDRESSES),
    RULES,
    WISHES,
    some_facts(OPENPGP),
    some_facts(SMIME),
)
def test_never_clear_to_one_and_encrypted_to_another_nor_clear_where_it_is_required(
    rcpt_tos: tuple[str, ...],
    named: frozenset[str],
    rules: tuple[Rule, ...],
    wish: Wish,
    openpgp: Facts,
    smime: Facts,
) -> None:
    """SMTP-05: whatever rules, wishes, keys, lists and aliases there are."""
    by_scheme = {OPENPGP: openpgp, SMIME: smime}
    question = Question(ALICE, rcpt_tos, named, ALICE, wish)
    chosen = {one: choose(ALICE, one, rules, ALICE) for one in rcpt_tos}
    try:
        plan = plan_outbound(question, chosen, by_scheme.__getitem__)
    except (NoUsableCertificate, SigningKeyUnusable, NotAllowed):
        return
    asked = {one.rule.protect for one in chosen.values()}
    if REQUIRE in asked or wish.protect is REQUIRE:
        assert plan.protection is ENCRYPTED
    if wish.protect in (SIGN, NEVER):
        assert plan.protection is not ENCRYPTED
    assert sorted(rcpt for copy in plan.copies for rcpt in copy.rcpt_tos) == sorted(rcpt_tos)
    if plan.protection is not ENCRYPTED:
        assert [copy.fingerprints for copy in plan.copies] == [()]
        return
    prints = PRINTS if plan.scheme is OPENPGP else SMIME_PRINTS
    assert all(one.rule.scheme in (None, plan.scheme) for one in chosen.values())
    for copy in plan.copies:
        assert set(copy.fingerprints) == {prints[ALICE], *(prints[one] for one in copy.rcpt_tos)}
        assert named.issuperset(copy.rcpt_tos) or len(copy.rcpt_tos) == 1


@given(RULES, ADDRESSES, st.sampled_from([ALICE, BOB]), st.sampled_from(["", ALICE]))
def test_the_first_match_wins(rules: tuple[Rule, ...], rcpt_to: str, sender: str, account: str) -> None:
    def holds(rule: Rule) -> bool:
        return (
            matches(rule.to, rcpt_to)
            and matches(rule.from_, sender)
            and rule.account in ("", account or None)
        )

    found = choose(sender, rcpt_to, rules, account)
    if found.number == 0:
        assert not any(map(holds, rules))
        assert found.rule == Rule()
    else:
        assert found.rule is rules[found.number - 1]
        assert holds(found.rule)
        assert not any(map(holds, rules[: found.number - 1]))


def test_a_rule_is_shown_as_it_can_be_written() -> None:
    print_ = PRINTS[BOB]
    rule = Rule(BOB, ALICE, REQUIRE, (print_,), hide_subject=False, scheme=SMIME, account=ALICE)
    assert rule.text == (
        f'to = "{BOB}", from = "{ALICE}", account = "{ALICE}", protect = "require", scheme = "smime", '
        f'fingerprints = ["{print_}"], hide_subject = false'
    )
    assert Rule().text == 'to = "*", protect = "prefer"'
