"""Which rule speaks: a truth table, and what holds for all rules and all messages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.forward.model import (
    Action,
    Collect,
    Conditions,
    Disposition,
    Drop,
    Entrance,
    Forward,
    ForwardSettings,
    Keep,
    PassOn,
    Rule,
    SubjectMode,
    SystemMail,
)
from secmailproxy.forward.reading import TEXT_MOST
from secmailproxy.forward.rules import decide, explain
from tests.fixtures.growth import assert_linear

CRON = (
    b"From: root (Cron Daemon)\r\nTo: root\r\n"
    b"Subject: =?UTF-8?Q?Cron_=3Croot=40host=3E?= =?UTF-8?Q?_b=C3=A4ckup?=\r\n"
    b"X-Cron-Env: <SHELL=/bin/sh>\r\nX-Cron-Env: <LANG=\r\n de_DE>\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\nAll is w=\r\nell.\r\nPlatte 1: gr=FCn\r\n"
    b"--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"PGI+d2luZG1pbGw8L2I+\r\n"
    b"--b\r\nContent-Type: application/octet-stream\r\n\r\nexecutable\r\n--b--\r\n"
)
MAIL = SystemMail(CRON, "root@host.example", ("root", "ops@host.example"), Entrance.SMTP)
KEEP, DAILY = Keep("/var/mail/copy", "maildir"), Collect("daily")
ALL = Conditions()


def mail(octets: bytes, mail_from: str = "root@host.example") -> SystemMail:
    return SystemMail(octets, mail_from, ("root",), Entrance.PIPE)


def rule(
    *actions: Action,
    match: Conditions = ALL,
    unless: Conditions = ALL,
    name: str = "one",
    goes_on: bool = False,
) -> Rule:
    return Rule(name, match, unless, actions, goes_on)


def holds(match: Conditions = ALL, unless: Conditions = ALL, message: SystemMail = MAIL) -> bool:
    """Whether a rule with these conditions speaks for `message`."""
    settings = ForwardSettings(rules=(rule(Drop(), match=match, unless=unless),), urgent_words=("FAILED",))
    spoke = decide(message, settings).rule == "one"
    _, (opinion,) = explain(message, settings)
    assert spoke == (not opinion.why_not)
    return spoke


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        (ALL, True),
        (Conditions(header=(("Subject", "^cron .*bäckup$"),)), True),
        (Conditions(header=(("subject", "BÄCKUP"),)), True),
        (Conditions(header=(("Subject", "(?-i)^cron"),)), False),
        (Conditions(header=(("Subject", "=[?]UTF"),)), False),
        (Conditions(header=(("X-Cron-Env", "^<SHELL="),)), True),
        (Conditions(header=(("X-Cron-Env", "^<LANG= de_DE>$"),)), True),
        (Conditions(header=(("X-Cron-Env", "SHELL.*LANG"),)), False),
        (Conditions(header=(("X-None", ""),)), False),
        (Conditions(header=(("To", "^root$"), ("From", "cron daemon"))), True),
        (Conditions(header=(("To", "^root$"), ("From", "nobody"))), False),
        (Conditions(mail_from=("^root@",)), True),
        (Conditions(mail_from=("^$",)), False),
        (Conditions(rcpt_to=("^root$",)), True),
        (Conditions(rcpt_to=("@host[.]example$",)), True),
        (Conditions(rcpt_to=("^root$", "@host[.]example$")), True),
        (Conditions(rcpt_to=("sysmail",)), False),
        (Conditions(larger=len(CRON) - 1), True),
        (Conditions(larger=len(CRON)), False),
        (Conditions(smaller=len(CRON) + 1), True),
        (Conditions(smaller=len(CRON)), False),
        (Conditions(body=("^all is well[.]$",)), True),
        (Conditions(body=("grün", "windmill")), True),
        (Conditions(body=("grün", "waterwheel")), False),
        (Conditions(body=("w=$",)), False),
        (Conditions(body=("executable",)), False),
        (Conditions(body=("Content-Type",)), False),
        (Conditions(urgent=True), False),
    ],
)
def test_a_condition_holds_or_not_and_an_exception_the_other_way_round(
    conditions: Conditions, expected: bool
) -> None:
    assert holds(match=conditions) is expected
    if conditions != ALL and len(conditions.header + conditions.rcpt_to + conditions.body) < 2:
        assert holds(unless=conditions) is not expected


def test_one_exception_of_several_is_enough() -> None:
    assert not holds(unless=Conditions(body=("waterwheel", "windmill")))
    assert not holds(unless=Conditions(smaller=1, mail_from=("^root",)))
    assert holds(unless=Conditions(smaller=1, mail_from=("^nobody",)))


def test_the_null_sender_and_unknown_recipients() -> None:
    bounce = SystemMail(CRON, "", (), Entrance.PIPE)
    assert holds(Conditions(mail_from=("^$",)), message=bounce)
    assert not holds(Conditions(rcpt_to=("",)), message=bounce)


FORWARD = Forward(("admin@example.org",), SubjectMode.KEPT)
ELSE = Forward()
YES, NO = Conditions(mail_from=("root",)), Conditions(mail_from=("nobody",))


@pytest.mark.parametrize(
    ("rules", "name", "actions"),
    [
        ((), "", [ELSE]),
        ((rule(Drop(), match=NO),), "", [ELSE]),
        ((rule(Drop(), match=YES),), "one", [Drop()]),
        ((rule(KEEP, FORWARD),), "one", [KEEP, FORWARD]),
        ((rule(KEEP),), "one", [KEEP]),
        ((rule(PassOn()),), "one", [PassOn()]),
        # As after ":0 c" the rules below are asked; when none ends it, the default does.
        ((rule(KEEP, goes_on=True),), "one", [KEEP, ELSE]),
        ((rule(KEEP, goes_on=True), rule(Drop(), name="two")), "one, two", [KEEP, Drop()]),
        ((rule(KEEP, goes_on=True), rule(Drop(), match=NO)), "one", [KEEP, ELSE]),
        ((rule(KEEP, goes_on=True, match=NO), rule(DAILY, name="two")), "two", [DAILY]),
        ((rule(FORWARD), rule(Drop(), name="two")), "one", [FORWARD]),
        # What two rules ask for is done once.
        ((rule(KEEP, goes_on=True), rule(KEEP, FORWARD, name="two")), "one, two", [KEEP, FORWARD]),
        ((rule(ELSE, goes_on=True),), "one", [ELSE]),
    ],
)
def test_the_first_rule_that_holds_speaks(rules: tuple[Rule, ...], name: str, actions: list[Action]) -> None:
    assert decide(MAIL, ForwardSettings(rules=rules)) == Disposition(name, tuple(actions))


def test_our_own_messages_pass_all_rules() -> None:
    settings = ForwardSettings(rules=(rule(DAILY),))
    own = SystemMail(CRON, "", ("admin@example.org",), Entrance.OWN)
    assert decide(own, settings) == Disposition("", (ELSE,))


def test_what_is_urgent_is_not_collected() -> None:
    settings = ForwardSettings(rules=(rule(KEEP, DAILY),), urgent_words=("degraded",))
    assert decide(mail(b"Subject: raid degraded\r\n\r\nx\r\n"), settings).actions == (KEEP, ELSE)
    assert decide(mail(b"Subject: raid in order\r\n\r\nx\r\n"), settings).actions == (KEEP, DAILY)


def test_what_cannot_be_read_is_sent_encrypted_at_once() -> None:
    crowded = mail(b"Subject: backup\r\n" + b"X: y\r\n" * 1001 + b"\r\ntext\r\n")
    for conditions in (Conditions(header=(("Subject", "backup"),)), Conditions(body=("text",))):
        assert not holds(match=conditions, message=crowded)
        assert not holds(unless=conditions, message=crowded)
        assert not holds(unless=Conditions(header=(("Subject", "treasure"),)), message=crowded)
    assert holds(Conditions(mail_from=("root",)), message=crowded)
    assert decide(crowded, ForwardSettings(rules=(rule(DAILY),))).actions == (ELSE,)


def test_an_exception_that_could_not_be_looked_for_counts() -> None:
    """Mail that is passed on "unless secret" must not hide the word behind a megabyte of blanks."""
    exception = Conditions(body=("treasure",))
    for size, expected in ((TEXT_MOST - 100, True), (TEXT_MOST + 1, False)):
        assert holds(unless=exception, message=mail(b"A: b\r\n\r\n" + b"x" * size)) is expected
    unknown = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: x-uue\r\n\r\nabc"
    assert not holds(unless=exception, message=mail(unknown))
    assert not holds(match=exception, message=mail(b"A: b\r\n\r\n" + b"x" * TEXT_MOST + b" treasure"))


@pytest.mark.parametrize("expression", ["(a+)+$", "(a|a)*$", "^(a*)*b", r"\s*\s*\s*\s*\s*$|(a?){30}a{30}$"])
def test_no_text_makes_an_expression_slow(expression: str) -> None:
    settings = ForwardSettings(rules=(rule(Drop(), match=Conditions(body=(expression + "x",))),))

    assert_linear(
        lambda size: mail(b"A: b\r\n\r\n" + b"a" * size + b"!"),
        lambda message: decide(message, settings),
        200_000,
    )


TEXTS = st.sampled_from(["", "^", "root", "cron", "(?i)x|y", "bäckup", "."])
CONDITIONS = st.builds(
    Conditions,
    header=st.lists(st.tuples(st.sampled_from(["Subject", "To", "X-None"]), TEXTS), max_size=2).map(tuple),
    mail_from=st.lists(TEXTS, max_size=1).map(tuple),
    rcpt_to=st.lists(TEXTS, max_size=1).map(tuple),
    body=st.lists(TEXTS, max_size=1).map(tuple),
    larger=st.sampled_from([0, 10, 10_000]),
    smaller=st.sampled_from([0, 10, 10_000]),
    urgent=st.booleans(),
)
ACTIONS = st.lists(st.sampled_from([KEEP, DAILY, FORWARD, ELSE, Drop(), PassOn()]), min_size=1, max_size=3)
RULES = st.lists(
    st.builds(Rule, st.just("r"), CONDITIONS, CONDITIONS, ACTIONS.map(tuple), st.booleans()), max_size=4
).map(tuple)
MESSAGES = st.binary(max_size=300) | st.sampled_from([CRON, b"Subject: cron\r\n\r\nFAILED\r\n"])
DEFAULTS = st.builds(Forward, sign=st.booleans())


@given(RULES, MESSAGES, DEFAULTS)
def test_every_message_gets_a_disposition_and_leaves_in_clear_only_by_a_rule_that_says_so(
    rules: tuple[Rule, ...], octets: bytes, default: Forward
) -> None:
    settings = ForwardSettings(rules=rules, default=default, urgent_words=("FAILED",))
    disposition, opinions = explain(mail(octets), settings)
    assert disposition.actions
    spoke = [one.rule for one in opinions if not one.why_not]
    asked_for = _actions(spoke)
    assert set(disposition.actions) <= {*asked_for, default}
    assert (PassOn() in disposition.actions) == (PassOn() in asked_for)
    assert (Drop() in disposition.actions) == (Drop() in asked_for)
    if all(one.goes_on for one in spoke):
        assert default in disposition.actions
    # Rules are asked from the top until one ends it, and each that speaks but the last goes on.
    assert [one.rule for one in opinions] == list(rules[: len(opinions)])
    assert all(one.goes_on for one in spoke[:-1])
    assert len(opinions) == len(rules) or not spoke[-1].goes_on


def _actions(rules: Iterable[Rule]) -> list[Action]:
    return [action for one in rules for action in one.actions]


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=5))
def test_actions_come_in_the_order_of_the_rules(numbers: list[tuple[int, bool]]) -> None:
    rules = tuple(rule(Keep(f"/{number}", "mbox"), goes_on=True) for number, _ in numbers)
    wanted = [Keep(f"/{number}", "mbox") for number in dict.fromkeys(number for number, _ in numbers)]
    assert decide(MAIL, ForwardSettings(rules=rules)).actions == (*wanted, ELSE)


def test_the_subject_of_our_own_messages_is_never_shown() -> None:
    """A digest's says how many messages there were."""
    own = SystemMail(CRON, "", (), Entrance.OWN)
    for mode, shown in ((SubjectMode.KEPT, SubjectMode.HIDDEN), (SubjectMode.REPLACED, SubjectMode.REPLACED)):
        (action,) = decide(own, ForwardSettings(default=Forward(subject=mode, subject_text="x"))).actions
        assert action == Forward(subject=shown, subject_text="x")


def test_without_rules_nothing_is_imported_that_they_need() -> None:
    code = (
        "import sys; from secmailproxy.forward.processing import decide;"
        "from secmailproxy.forward.model import *;"
        "decide(SystemMail(b'', '', (), Entrance.PIPE), ForwardSettings());"
        "later = {'re2', 'email', 'asyncio', 'secmailproxy.forward.reading',"
        "'secmailproxy.forward.aliases'};"
        "sys.exit(str(sorted(later & set(sys.modules)) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "\n"
