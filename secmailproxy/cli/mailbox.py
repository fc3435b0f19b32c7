"""`secmailproxy mailbox`: encrypt a mailbox on its server, decrypt it again, present messages anew."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from keystore.errors import KeystoreError
from secmailproxy.cli.context import (
    INTERRUPTED,
    Passphrase,
    describe,
    load_config,
    open_keystore,
    open_secrets,
    passphrase_options,
    print_json,
    secret_options,
)
from secmailproxy.cli.progress import Progress
from secmailproxy.errors import ConfigError, LoginRefused, SecMailProxyError, UsageError

if TYPE_CHECKING:
    from secmailproxy.accounts import ImapLogin
    from secmailproxy.config import Config
    from secmailproxy.errands.replacing import Outcome
    from secmailproxy.errands.work import Job, Observer

R = TypeVar("R")
INCOMPLETE = 75


@click.group(name="mailbox")
def command() -> None:
    """Encrypt a mailbox at its server, decrypt it again, or have messages presented anew."""


def _options(function: Callable[..., R]) -> Callable[..., R]:
    """What the three commands share."""
    wrapped = secret_options("password", "password of the mailbox")(passphrase_options(function))
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print what became of each mailbox as JSON."),
        click.option("--dry-run", is_flag=True, help="Say what would be done; change nothing on the server."),
        click.option("--all", "all_", is_flag=True, help="All mailboxes of the account."),
        click.option("--account", metavar="ADDRESS", help="The account (default: the only one)."),
        click.argument("mailboxes", nargs=-1, metavar="[MAILBOX]..."),
    ):
        wrapped = option(wrapped)
    return wrapped


@dataclass(frozen=True)
class _Wish:
    """The options that all three commands take."""

    mailboxes: tuple[str, ...]
    all_: bool
    account: str | None
    dry_run: bool
    as_json: bool
    password: Passphrase
    passphrase: Passphrase


@command.command()
@_options
def encrypt(**options: Any) -> None:
    """Encrypt the messages of mailboxes in place, to your own key.

    Dates, flags and keywords stay, and mail clients that read through the proxy see what they saw before.
    Each message is read back, decrypted and compared before the original is deleted. After an interruption
    run it again. Messages that are encrypted already are left alone.
    """
    _run("encrypt", _Wish(**options))


@command.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--any-sender", is_flag=True, help="Decrypt what others have encrypted to you, too.")
@_options
def decrypt(yes: bool, any_sender: bool, **options: Any) -> None:
    """Undo `mailbox encrypt`: the original messages, octet for octet, are in clear on the server again.

    Also own drafts and sent mail that the proxy has encrypted. Dates, flags and keywords stay. With
    --any-sender signatures that were inside the encryption are lost.
    """
    wish = _Wish(**options)
    if not yes and not wish.dry_run:
        _confirm()
    _run("decrypt", wish, any_sender=any_sender)


@command.command()
@_options
def reprocess(**options: Any) -> None:
    """Present messages anew that could not be read, or judged, when they were first seen, and can be now.

    Such as after the import of a key. What a mail client has seen under a UID never changes; so each of
    these messages gets a new UID, as if it had arrived again. Dates, flags and keywords stay.
    """
    _run("reprocess", _Wish(**options))


def _confirm() -> None:
    if not sys.stdin.isatty():
        raise UsageError("There is no terminal to ask: give --yes to have messages in clear on the server.")
    question = "The mail server, and whoever can read its disks, will see these messages in clear. Go on?"
    if not click.confirm(question, err=True):
        click.echo("Nothing was changed.", err=True)
        raise click.exceptions.Exit(INTERRUPTED)


def _run(errand: str, wish: _Wish, *, any_sender: bool = False) -> None:
    from secmailproxy.errands.plan import Errand
    from secmailproxy.errands.work import Job

    if wish.all_ == bool(wish.mailboxes):
        raise UsageError("Name the mailboxes, such as INBOX, or give --all.")
    job = Job(Errand(errand), wish.mailboxes, wish.dry_run, any_sender)
    report = _Report(errand, wish)
    try:
        _reported(job, wish, report)
    except KeyboardInterrupt:
        click.echo(f"secmailproxy: {report.error}", err=True)
        raise click.exceptions.Exit(INTERRUPTED) from None
    if any(outcome.failed for _, outcome in report.outcomes):
        click.get_current_context().exit(INCOMPLETE)


def _reported(job: Job, wish: _Wish, report: _Report) -> None:
    """Carry it out; the report ends however that ends, for a bar has to give the terminal back."""
    report.error = "internal error"
    try:
        _carry_out(job, wish, report)
        report.error = None
    except (SecMailProxyError, KeystoreError) as error:
        report.error = describe(error)
        raise
    except KeyboardInterrupt:
        report.error = "interrupted; no message is lost. Run the command again to go on where it ended."
        raise
    finally:
        report.end()


def _carry_out(job: Job, wish: _Wish, report: _Report) -> None:
    from secmailproxy.errands.forms import Tools
    from secmailproxy.errands.work import carry_out
    from secmailproxy.outbound import Outbound
    from secmailproxy.supervision import keep_private
    from secmailproxy.verdict import field_name
    from secmailproxy.views import Views

    keep_private()
    config = load_config()
    config.folders.prepare()
    login = _login(config, wish)
    report.account = login.account.address
    with ExitStack() as stack:
        keystore = stack.enter_context(closing(open_keystore(config, wish.passphrase)))
        keystore.unlock()
        if keystore.database.is_shared:
            config.folders.agree_on_verdict_token(keystore.agreed)
        views = stack.enter_context(
            closing(Views.open(config.folders.views, keystore, keystore.database.beside))
        )
        tools = Tools(
            login.account.address,
            keystore,
            Outbound(keystore, config.outbound_settings()),
            views,
            field_name(config.folders.verdict_token()),
            lambda: datetime.now(UTC),
            login.account.inline_pgp,
        )
        try:
            asyncio.run(carry_out(job, login, tools, config.folders.state, report.observer()))
        except LoginRefused:
            raise _refused(login) from None


def _login(config: Config, wish: _Wish) -> ImapLogin:
    """The account and its password: given, else stored, else asked for."""
    from secmailproxy.accounts import ImapLogin, password_secret

    accounts = config.account_values()
    if wish.account is not None:
        accounts = tuple(one for one in accounts if one.address.lower() == wish.account.lower())
    if len(accounts) != 1:
        known = ", ".join(one.address for one in config.accounts) or "none"
        raise (
            UsageError(f"Name one account with --account (configured: {known}).")
            if config.accounts
            else ConfigError("There is no account; run: secmailproxy setup you@your.domain")
        )
    account = accounts[0]
    stored = None
    if not wish.password.given:
        stored = open_secrets(config, wish.passphrase).get(password_secret(account.address))
    return ImapLogin(account, account.imap_username or account.address, stored or wish.password())


def _refused(login: ImapLogin) -> LoginRefused:
    address = login.account.address
    return LoginRefused(
        f"{login.account.imap.host} refuses the login of {login.username}: check the password. "
        f"To store another: secmailproxy setup {address}"
    )


@dataclass
class _Report:
    """What is shown while it runs and in the end."""

    errand: str
    wish: _Wish
    account: str = ""
    error: str | None = None
    outcomes: list[tuple[str, Outcome]] = field(default_factory=list)
    _bar: Progress = field(default_factory=lambda: Progress(""))

    def observer(self) -> Observer:
        """For the one who does it."""
        from secmailproxy.errands.work import Observer

        return Observer(self._begin, self._progress, self._ended)

    def _begin(self, name: str) -> None:
        self._bar = Progress(name)

    def _progress(self, done: int, total: int) -> None:
        self._bar(done, total)

    def _ended(self, name: str, outcome: Outcome) -> None:
        self._bar.end()
        self.outcomes.append((name, outcome))
        if not self.wish.as_json:
            click.echo("\n".join(_lines(self.errand, name, outcome, dry_run=self.wish.dry_run)))

    def end(self) -> None:
        """Print the JSON, if that was wanted."""
        self._bar.end()
        if self.wish.as_json:
            print_json(
                {
                    "version": 1,
                    "errand": self.errand,
                    "account": self.account,
                    "dry_run": self.wish.dry_run,
                    "error": self.error,
                    "mailboxes": [_described(name, outcome) for name, outcome in self.outcomes],
                }
            )


def _described(name: str, outcome: Outcome) -> dict[str, Any]:
    return {
        "name": name,
        "replaced": outcome.replaced,
        "resumed": outcome.resumed,
        "left": {reason.value: count for reason, count in sorted(outcome.left.items(), key=_by_value)},
        "failed": outcome.failed,
    }


def _by_value(item: tuple[Any, int]) -> str:
    return str(item[0].value)


def _lines(errand: str, name: str, outcome: Outcome, *, dry_run: bool) -> list[str]:
    past = {"encrypt": "encrypted", "decrypt": "decrypted", "reprocess": "presented anew"}[errand]
    lines = [f"{name}: {outcome.replaced} message(s) {'would be ' if dry_run else ''}{past}"]
    if outcome.resumed:
        begun = "are half done and would be finished" if dry_run else "were half done and are finished"
        lines.append(f"  {outcome.resumed} from an interrupted run {begun}")
    lines += [
        f"  {count} left alone: {reason.value}"
        for reason, count in sorted(outcome.left.items(), key=_by_value)
    ]
    if outcome.failed:
        lines.append(f"  not done, and as they were: UID {', '.join(map(str, outcome.failed))}")
    return lines
