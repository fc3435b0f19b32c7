"""Which account a login chooses, and with which password it goes on upstream."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from keystore.secretsfile import FileSecrets
from secmailproxy.accounts import (
    Account,
    Accounts,
    Credentials,
    ImapUpstream,
    Login,
    local_password_secret,
    password_secret,
)
from secmailproxy.errors import KeystoreLocked, LoginRefused, NotAllowed, UpstreamUnavailable
from secmailproxy.smtp.smarthost import Smarthost, SmarthostSettings
from tests.fixtures.certificates import TestCA
from tests.fixtures.quicksecrets import quick_secrets
from tests.fixtures.sink import smtp_sink

UPSTREAM = ImapUpstream("imap.example.org", 993)
ALICE = Account(
    "Alice@example.org",
    UPSTREAM,
    aliases=("Info@example.org",),
    imap_username="al-imap",
    smtp_username="shared",
)
BOB = Account("bob@example.org", UPSTREAM, login=Login.LOCAL, imap_username="shared")
CAROL = Account("carol@example.org", UPSTREAM, login=Login.LOCAL, imap_username="alice@example.org")


@pytest.fixture
def secrets(tmp_path: Path) -> FileSecrets:
    quick_secrets(tmp_path / "secrets", "passphrase")
    return FileSecrets(tmp_path / "secrets", lambda: "passphrase")


@pytest.fixture
def accounts(secrets: FileSecrets) -> Accounts:
    secrets.set(password_secret("bob@example.org"), "upstream")
    secrets.set(local_password_secret("bob@example.org"), "lokål")
    secrets.set(local_password_secret("carol@example.org"), "local")
    nowhere = Smarthost(SmarthostSettings("127.0.0.1", 1, "implicit", None, timeout=5))
    return Accounts([ALICE, BOB, CAROL], {one.address: nowhere for one in (ALICE, BOB, CAROL)}, secrets)


@pytest.mark.parametrize(
    ("username", "password", "expected"),
    [
        ("alice@example.org", "hers", (ALICE, "al-imap", "hers")),
        ("ALICE@EXAMPLE.ORG", "hers", (ALICE, "al-imap", "hers")),
        ("AL-imap", "", (ALICE, "al-imap", "")),
        ("bob@example.org", "lokål", (BOB, "shared", "upstream")),
    ],
)
def test_logins(accounts: Accounts, username: str, password: str, expected: tuple[Account, str, str]) -> None:
    login = accounts.imap_login(username, password)
    assert (login.account, login.username, login.password) == expected


@pytest.mark.parametrize(
    ("username", "password", "text"),
    [
        ("", "", "No account has this user name"),
        ("alice", "hers", "No account has this user name"),
        ("shared", "lokål", "Several accounts have this user name"),
        ("bob@example.org", "upstream", "Wrong password"),
        ("bob@example.org", "lokål ", "Wrong password"),
        ("bob@example.org", "LOKÅL", "Wrong password"),
        ("bob@example.org", "", "Wrong password"),
        ("bob@example.org", "\udcff", "Wrong password"),
    ],
)
def test_refused_logins_say_nothing_secret(
    accounts: Accounts, username: str, password: str, text: str
) -> None:
    with pytest.raises(LoginRefused, match=text) as caught:
        accounts.imap_login(username, password)
    assert "upstream" not in str(caught.value)
    assert "lokål" not in str(caught.value)


def test_a_local_login_without_a_stored_password_is_temporary(accounts: Accounts) -> None:
    with pytest.raises(KeystoreLocked, match=r"run: secmailproxy setup carol@example\.org"):
        accounts.imap_login("carol@example.org", "local")


def test_secrets_do_not_show_in_repr(accounts: Accounts) -> None:
    assert "upstream" not in repr(accounts.imap_login("bob@example.org", "lokål"))


def test_replace_serves_the_new_accounts(accounts: Accounts) -> None:
    accounts.replace([BOB], {})
    assert list(accounts) == [BOB]
    assert accounts.smarthosts() == ()
    with pytest.raises(LoginRefused):
        accounts.imap_login("alice@example.org", "hers")


async def test_a_local_submission_login_needs_no_server(accounts: Accounts) -> None:
    account = await accounts.authenticate_submission("bob@example.org", "lokål")
    assert account.others() == {"alice@example.org", "info@example.org", "carol@example.org"}
    assert account.address == "bob@example.org"
    assert account.credentials == Credentials("bob@example.org", "upstream")


async def test_a_login_follows_the_accounts_as_they_change(accounts: Accounts) -> None:
    """It never speaks for an account that came later, nor for itself when it is none any more (SIGHUP)."""
    account = await accounts.authenticate_submission("bob@example.org", "lokål")
    accounts.replace([replace(BOB, aliases=("bobby@example.org",)), CAROL], {})
    assert account.others() == {"carol@example.org"}
    accounts.replace([ALICE], {})
    with pytest.raises(NotAllowed, match=r"<bob@example\.org> is no account here any more"):
        account.others()


async def test_a_mailbox_password_is_proven_at_the_smarthost_first(accounts: Accounts) -> None:
    with pytest.raises(UpstreamUnavailable):
        await accounts.authenticate_submission("alice@example.org", "hers")


@pytest.mark.parametrize(("password", "is_right"), [("hers", True), ("not hers", False)])
async def test_the_smarthost_judges_a_mailbox_password(
    ca: TestCA, secrets: FileSecrets, password: str, is_right: bool
) -> None:
    async with smtp_sink(ca, "shared", "hers") as sink:
        smarthost = Smarthost(SmarthostSettings("127.0.0.1", sink.port, "implicit", ca.ca_file, timeout=5))
        accounts = Accounts([ALICE], {ALICE.address: smarthost}, secrets)
        try:
            if is_right:
                account = await accounts.authenticate_submission("alice@example.org", password)
                assert account.credentials == Credentials("shared", "hers")
            else:
                with pytest.raises(LoginRefused):
                    await accounts.authenticate_submission("alice@example.org", password)
        finally:
            await smarthost.close()
