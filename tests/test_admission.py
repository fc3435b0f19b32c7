"""How many connections one address may have, and what is logged of those beyond."""

from __future__ import annotations

import logging

import pytest

from secmailproxy.admission import Admission, Limits, LoginGuard, Refusal
from secmailproxy.logs import KeyValueFormatter


def test_each_address_has_its_share() -> None:
    admission = Admission("imap", Limits(connections=2))
    assert admission.enter("127.0.0.1")
    assert admission.enter("127.0.0.1")
    assert not admission.enter("127.0.0.1")
    assert admission.enter("::1")
    admission.leave("127.0.0.1")
    assert admission.enter("127.0.0.1")


def test_a_changed_limit_binds_those_who_come() -> None:
    admission = Admission("imap", Limits(connections=2))
    assert admission.enter("127.0.0.1")
    assert admission.enter("127.0.0.1")
    admission.change(Limits(connections=1))
    admission.leave("127.0.0.1")
    assert not admission.enter("127.0.0.1")
    admission.change(Limits(connections=2))
    assert admission.enter("127.0.0.1")


def test_a_refusal_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    admission = Admission("submission", Limits(connections=1))
    with caplog.at_level(logging.WARNING, "secmailproxy"):
        assert admission.enter("::1")
        assert not admission.enter("::1")
    (line,) = [KeyValueFormatter().format(record) for record in caplog.records]
    assert line.endswith(
        ' level=warning from=admission event="submission too many connections" client=::1 limit=1'
    )


def test_connections_have_a_rate_for_each_address(caplog: pytest.LogCaptureFixture) -> None:
    """Those that have left count, too; a flood of refusals does not fill the log."""
    now = 0.0
    admission = Admission("imap", Limits(connections_per_minute=3), clock=lambda: now)
    entered = []
    with caplog.at_level(logging.WARNING, "secmailproxy"):
        for _ in range(1000):
            entered.append(admission.enter("127.0.0.1"))
            if entered[-1]:
                admission.leave("127.0.0.1")
        assert entered == [True] * 3 + [False] * 997
        assert admission.enter("127.0.0.2")
        now = 20.0
        assert admission.enter("127.0.0.1")
    assert len(caplog.records) == 60


def test_messages_and_mistakes_have_a_rate_for_each_address() -> None:
    admission = Admission(
        "submission", Limits(messages_per_minute=2, mistakes_per_minute=20), clock=lambda: 0
    )
    assert [admission.may_send("::1") for _ in range(3)] == [True, True, False]
    assert admission.may_send("127.0.0.1")
    assert [admission.may_err("::1", before) for before in range(11)] == [True] * 10 + [False]
    assert [admission.may_err("::1", 0) for _ in range(10)] == [True] * 9 + [False]
    assert admission.may_err("127.0.0.1", 0)


def test_what_is_guessed_at_one_listener_is_locked_at_all() -> None:
    """For the address that guesses, and by whatever case of letters the account is called."""
    now = 0.0
    limits = Limits(login_failures=4, lock_seconds=60)
    logins = LoginGuard(limits, lambda: now)
    imap, submission = Admission("imap", limits, logins), Admission("submission", limits, logins)
    tries = [one.may_try("127.0.0.1", "alice@example.org", f"{one}") for one in (imap, submission)]
    tries += [one.may_try("127.0.0.1", "Alice@Example.ORG", f"{one}2") for one in (imap, submission, imap)]
    assert tries == [True] * 4 + [False]
    assert submission.may_try("127.0.0.2", "alice@example.org", "right")
    assert submission.may_try("127.0.0.1", "carol@example.org", "right")
    now = 60.0
    assert imap.may_try("127.0.0.1", "alice@example.org", "right")
    logins.succeeded("127.0.0.1", "alice@example.org")
    assert submission.may_try("127.0.0.1", "alice@example.org", "right")


def test_a_user_who_guesses_is_locked_out_alone() -> None:
    """All users of a machine share its loopback addresses; a reload that changes the limits frees nobody."""
    admission = Admission("imap", Limits(login_failures=3), clock=lambda: 0)
    for number in range(3):
        assert admission.may_try("127.0.0.1", "alice", f"{number}", "127.0.0.1 user 1001")
    admission.change(Limits(login_failures=4))
    assert not admission.may_try("127.0.0.1", "alice", "right", "127.0.0.1 user 1001")
    assert admission.may_try("127.0.0.1", "alice", "right", "127.0.0.1 user 1000")
    assert admission.may_try("127.0.0.1", "alice", "right")


@pytest.mark.parametrize("name", ["", "\ud800", "x" * 1_000_000, "a\0b\n", "\N{RIGHT-TO-LEFT OVERRIDE}"])
def test_any_name_can_be_counted(name: str) -> None:
    """Surrogates come from octets that are not UTF-8."""
    admission = Admission("imap", Limits(login_failures=3))
    assert [admission.may_try("::1", name, name + str(n)) for n in range(4)] == [True] * 3 + [False]


REFUSED = {
    Refusal.CONNECTIONS: ({"limit": 100}, "too many connections", "limit=100"),
    Refusal.LOGIN: ({"account": "a@example.org"}, "authentication failed", "account=a@example.org"),
    Refusal.LOCKED: ({"seconds": 60}, "login locked", "seconds=60"),
    Refusal.NO_LOGIN: ({}, "no login in time", ""),
    Refusal.RELAY: ({}, "relay access denied", ""),
    Refusal.ABUSE: ({"why": "an HTTP request"}, "protocol abuse", 'why="an HTTP request"'),
    Refusal.MESSAGES: ({"limit": 9}, "too many messages", "limit=9"),
}


@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "unknown"])
@pytest.mark.parametrize("refusal", Refusal)
def test_the_lines_do_not_change(refusal: Refusal, client: str, caplog: pytest.LogCaptureFixture) -> None:
    """As docs/abuse.md has them: guards go by them."""
    facts, event, rest = REFUSED[refusal]
    with caplog.at_level(logging.WARNING, "secmailproxy"):
        Admission("imap").refuse(refusal, client if client != "unknown" else "", **facts)
    line = KeyValueFormatter().format(caplog.records[0])
    expected = f' level=warning from=admission event="imap {event}" client={client} {rest}'.rstrip()
    assert line.partition("Z")[2] == expected
