"""Recipients become targets: through aliases first, by address then (issue: aliases before keys)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore.model import Fingerprint
from secmailproxy.errors import ConfigError, LimitExceeded
from secmailproxy.forward.aliases import Resolved, read_aliases, resolve
from secmailproxy.forward.destinations import destinations
from secmailproxy.forward.model import Entrance, Forward, ForwardSettings, SystemMail, Target

ADMIN = Target("admin@example.org", (Fingerprint("A" * 40),))
OPS = Target("Ops@example.org", (Fingerprint("B" * 40),))
ALIASES = read_aliases(
    """
    root: sysmail, admin@example.org
    sysmail: ops@example.org
    root+cron: admin@example.org
    postmaster: root@localhost
    backup: "|/usr/bin/log", /var/mail/backup
    bob: bob
    alice: \\alice, ops@example.org
    one: two
    two: one
    stranger: someone@elsewhere.example
    many: root, backup
    none:
    """.replace("\n    ", "\n")
)
SETTINGS = ForwardSettings(
    targets=(ADMIN, OPS), to="admin@example.org", aliases="/etc/aliases", local_domains=("localhost", "host")
)


def by_alias(name: str) -> Resolved:
    def no_file(path: str) -> str:
        raise FileNotFoundError(path)

    return resolve(name, ALIASES, no_file)


def found(*rcpt_tos: str, settings: ForwardSettings = SETTINGS, action: Forward | None = None) -> list[str]:
    mail = SystemMail(b"A: b\r\n\r\n", "", rcpt_tos, Entrance.SENDMAIL)
    return [one.address for one in destinations(mail, action or Forward(), settings, by_alias)]


@pytest.mark.parametrize(
    ("rcpt_tos", "expected"),
    [
        ((), [ADMIN]),
        (("admin@example.org",), [ADMIN]),
        (("OPS@example.org",), [OPS]),
        (('"ops"@EXAMPLE.org.',), [OPS]),
        (("root",), [ADMIN, OPS]),
        (("ROOT@LOCALHOST.",), [ADMIN, OPS]),
        (("sysmail",), [OPS]),
        (("sysmail+disk",), [OPS]),
        (("Sysmail+Disk+sda@HOST",), [OPS]),
        (("root+cron",), [ADMIN]),
        (("+sysmail",), [ADMIN]),
        (("nobody+sysmail",), [ADMIN]),
        (("postmaster@host",), [ADMIN, OPS]),
        (("backup",), [ADMIN]),
        (("bob",), [ADMIN]),
        (("alice",), [ADMIN, OPS]),
        (("nobody@host",), [ADMIN]),
        (("one",), [ADMIN]),
        (("many",), [ADMIN, OPS]),
        (("sysmail", "ops@example.org", "sysmail"), [OPS]),
    ],
)
def test_recipients_become_targets(rcpt_tos: tuple[str, ...], expected: list[Target]) -> None:
    assert sorted(found(*rcpt_tos)) == sorted(one.address for one in expected)


@pytest.mark.parametrize(
    ("rcpt_to", "expected"),
    [
        ("ops@example.org", ["Ops@example.org"]),
        ("OPS@example.org", ["Ops@example.org"]),
        ("ops", ["admin@example.org"]),
        ("bob@example.org", ["admin@example.org"]),
        ("root@example.org", ["Ops@example.org", "admin@example.org"]),
        ("sysmail+disk@example.org", ["Ops@example.org"]),
        ("none@example.org", ["admin@example.org"]),
    ],
)
def test_a_target_may_be_at_this_machine(rcpt_to: str, expected: list[str]) -> None:
    """An alias comes first; what has none and is a target gets its own mail."""
    settings = replace(SETTINGS, local_domains=("example.org",))
    assert sorted(found(rcpt_to, settings=settings)) == expected


def test_an_action_that_names_targets_asks_for_no_alias() -> None:
    assert found("root", action=Forward(("ops@example.org",))) == ["Ops@example.org"]


@pytest.mark.parametrize(
    "rcpt_tos", [("x@elsewhere.example",), ("root", "x@elsewhere.example"), ("stranger",)]
)
def test_fwd_03_an_address_without_a_target_is_named_and_keeps_all_back(rcpt_tos: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"no \[\[forward.targets\]\] for (x|someone)@elsewhere.example"):
        found(*rcpt_tos)


def test_what_is_no_address_is_not_repeated() -> None:
    with pytest.raises(ConfigError, match="for a recipient;"):
        found("x\r\nSubject: y@elsewhere.example")


def test_local_mail_needs_one_who_gets_it() -> None:
    several = ForwardSettings(targets=(ADMIN, OPS), local_domains=("host",))
    for rcpt_tos in ((), ("root",), ("root@host",)):
        with pytest.raises(ConfigError, match=r"use --to, set forward\.to, or have exactly one"):
            found(*rcpt_tos, settings=several)
    only = ForwardSettings(targets=(OPS,))
    assert found("root", settings=only) == ["Ops@example.org"]
    with pytest.raises(ConfigError, match=r"for root@host"):
        found("root@host", settings=only)


def test_without_an_aliases_file_names_are_local_users() -> None:
    settings = ForwardSettings(targets=(ADMIN, OPS), to="ops@example.org")
    assert found("root", settings=settings) == ["Ops@example.org"]


def test_a_crowd_of_names_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        found(*(f"user{number}" for number in range(101)))


NAMES = st.sampled_from([*ALIASES, "root@host", "ops@example.org", "nobody", "x@elsewhere.example"])


@given(st.lists(NAMES, max_size=4))
def test_fwd_03_every_message_has_a_target_or_stays(rcpt_tos: list[str]) -> None:
    """One that is pinned in the configuration, never one that only the message names."""
    try:
        addresses = found(*rcpt_tos)
    except ConfigError:
        assert {"stranger", "x@elsewhere.example"} & set(rcpt_tos)
    else:
        assert addresses
        assert set(addresses) <= {ADMIN.address, OPS.address}
        assert len(set(addresses)) == len(addresses)
