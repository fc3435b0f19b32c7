"""getmail hands mail to a delivery agent, and may delete it at the server."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.fixtures.clients import Account, Workplace, crlf

CONFIG = """[retriever]
type = SimpleIMAPRetriever
server = 127.0.0.1
port = {account.proxy.imap_port}
username = {account.address}
password = {account.password}
mailboxes = ("INBOX", "Archive")

[destination]
type = MDA_external
path = {home}/deliver

[options]
delete = {delete}
read_all = false
delivered_to = false
received = false
verbose = 2
"""
# getmail hangs when a delivery ends before it has begun to wait for that (a wake-up that is lost).
DELIVER = """#!/bin/sh
cat >"$(mktemp {home}/mail/XXXXXXXX)"
until grep -q '^State:.S' /proc/$PPID/status; do :; done
"""


def fetch(account: Account, workplace: Workplace, *, delete: bool = False) -> str:
    """As docs/clients.md says."""
    (workplace.folder / "mail").mkdir(exist_ok=True)
    workplace.write("deliver", DELIVER.format(home=workplace.folder)).chmod(0o700)
    text = CONFIG.format(account=account, home=workplace.folder, delete=str(delete).lower())
    config = workplace.write("getmail/rc", text)
    return workplace.run("getmail", f"--getmaildir={config.parent}", "--rcfile=rc")


def unfolded(octets: bytes) -> bytes:
    """A message with each field on one line: getmail folds long ones."""
    return re.sub(rb"\r\n[ \t]", b" ", octets)


def fetched(workplace: Workplace) -> list[bytes]:
    """What the delivery agent was given (CRLF), unfolded, without the fields that getmail adds, sorted."""
    added = rb"(?m)^(?:Return-Path: <unknown>|X-getmail-retrieved-from-mailbox: \w+)\r\n"
    return sorted(unfolded(re.sub(added, b"", crlf(one))) for one in workplace.tree("mail").values())


@pytest.mark.client("getmail6", "reads", "deletes", "again")
def test_each_message_is_fetched_once_and_deleted_when_asked(
    accounts: Callable[[], Account], workplace: Workplace
) -> None:
    account = accounts()
    presented = account.presented() + account.presented("Archive")

    said = fetch(account, workplace)

    assert fetched(workplace) == sorted(map(unfolded, presented))
    for octets in presented:
        assert f"({len(octets)} bytes)" in said
    account.assert_nothing_leaked()
    before = account.state(), fetched(workplace)
    fetch(account, workplace)
    assert (account.state(), fetched(workplace)) == before

    fetch(account, workplace, delete=True)
    assert fetched(workplace) == before[1]
    assert account.mailbox.stored() == account.mailbox.stored("Archive") == []
