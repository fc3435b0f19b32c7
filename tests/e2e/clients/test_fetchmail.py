"""fetchmail hands mail to a delivery agent, keeps it at the server or not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fixtures.clients import Account, Workplace, crlf

CONFIG = """set no bouncemail
poll 127.0.0.1 protocol IMAP port {account.proxy.imap_port} auth password
  username "{account.address}" password "{account.password}"
  sslproto '' folder INBOX {options}
  mda "{home}/deliver"
"""
DELIVER = """#!/bin/sh
exec cat >"$(mktemp {home}/mail/XXXXXXXX)"
"""


def configure(account: Account, workplace: Workplace, options: str) -> None:
    """As docs/clients.md says."""
    (workplace.folder / "mail").mkdir(exist_ok=True)
    workplace.write("rc", CONFIG.format(account=account, home=workplace.folder, options=options))
    workplace.write("deliver", DELIVER.format(home=workplace.folder)).chmod(0o700)
    workplace.own(workplace.folder)


def fetch(workplace: Workplace, expect: int = 0) -> str:
    rc = workplace.folder / "rc"
    return workplace.run(
        "fetchmail",
        "-v",
        "--nosyslog",
        "--invisible",
        "--pidfile",
        rc.with_suffix(".pid"),
        "-f",
        rc,
        expect=expect,
    )


def fetched(workplace: Workplace) -> list[bytes]:
    """What the delivery agent was given (CRLF), sorted."""
    return sorted(map(crlf, workplace.tree("mail").values()))


@pytest.mark.client("fetchmail", "reads", "flags", "again")
def test_mail_is_kept_and_fetched_once(accounts: Callable[[], Account], workplace: Workplace) -> None:
    account = accounts()
    presented = account.presented()
    configure(account, workplace, "keep")

    fetch(workplace)
    assert fetched(workplace) == sorted(presented)
    assert account.flags() == [{"\\Seen"}] * 5
    account.assert_nothing_leaked()
    before = account.state()

    fetch(workplace, expect=1)
    assert account.state() == before
    assert len(fetched(workplace)) == 5


@pytest.mark.client("fetchmail", "reads", "deletes")
def test_mail_is_fetched_and_deleted(accounts: Callable[[], Account], workplace: Workplace) -> None:
    account = accounts()
    presented = account.presented()
    configure(account, workplace, "no keep fetchall")

    fetch(workplace)

    assert fetched(workplace) == sorted(presented)
    assert account.mailbox.stored() == []
