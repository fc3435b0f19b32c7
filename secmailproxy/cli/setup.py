"""`secmailproxy setup ADDRESS`: the one command between installing and using."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from secmailproxy.cli.context import describe, print_json, secret_options
from secmailproxy.cli.key.common import BACKUP

if TYPE_CHECKING:
    from secmailproxy.cli.questions import Answers
    from secmailproxy.config_values import ListenAddress
    from secmailproxy.enrol import Outcome, Wish
    from secmailproxy.folders import Folders

R = TypeVar("R")


def server_options(kind: str, words: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """--KIND-host, --KIND-port, --KIND-tls and --KIND-user."""
    options = (
        click.option(f"--{kind}-host", metavar="HOST", help=f"The {words}."),
        click.option(f"--{kind}-port", type=click.IntRange(1, 65535), help=f"Port of the {words}."),
        click.option(
            f"--{kind}-tls", type=click.Choice(["implicit", "starttls"]), help="How TLS begins there."
        ),
        click.option(f"--{kind}-user", metavar="NAME", help="User name there, if it is not the address."),
    )

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.command("setup")
@click.argument("address")
@click.option("--name", metavar="TEXT", help="Your name, for the new key's user ID.")
@server_options("imap", "IMAP server")
@server_options("smtp", "submission server (smarthost)")
@click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Trust this authority (PEM) for both servers, in place of the system's.",
)
@secret_options("password", "password of the mailbox")
@click.option(
    "--login",
    type=click.Choice(["mailbox", "local"]),
    help="What mail clients give as password: the mailbox's own, or a local one that is exchanged for it.",
)
@secret_options("local-password", "local password")
@click.option(
    "--secrets",
    type=click.Choice(["keyring", "file", "systemd"]),
    help="Where passwords and the keystore's key are kept.",
)
@click.option(
    "--secrets-passphrase-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Passphrase of the encrypted secrets file, read at every start too (put it in the configuration).",
)
@click.option("--generate-key", is_flag=True, help="Make a new OpenPGP key, even if there is one.")
@click.option("--adopt-key", metavar="FPR", help="Use this key, which the keystore has already.")
@click.option("--key-from-gnupg", is_flag=True, help="Use the key that GnuPG has; it stays there.")
@click.option("--no-key", is_flag=True, help="Do without a key for now.")
@click.option("--listen-imap", metavar="HOST:PORT", help="Where mail clients read (loopback only).")
@click.option("--listen-submission", metavar="HOST:PORT", help="Where mail clients submit (loopback only).")
@click.option(
    "--local-tls", is_flag=True, help="TLS between mail clients and the proxy too: make its certificate."
)
@click.option("--listen-imaps", metavar="HOST:PORT", help="Where they read with TLS from the first octet.")
@click.option("--listen-submissions", metavar="HOST:PORT", help="The same for submission.")
@click.option("--no-discovery", is_flag=True, help="Do not look for servers in the network.")
@click.option("--non-interactive", is_flag=True, help="Ask nothing; fail where an answer is missing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON (implies no questions).")
@click.pass_context
def command(context: click.Context, /, address: str, **flags: Any) -> None:
    """Set up the account ADDRESS, or change it: find its servers, log in, store the password, see to a key.

    Whatever is not given and cannot be found is asked. Both logins are tried over verified TLS first; nothing
    is written unless they succeed. Run it again to change an answer.
    """
    from secmailproxy.autoconfig.discovery import Discovery
    from secmailproxy.cli.questions import Answers
    from secmailproxy.folders import Folders

    discovery = context.obj if isinstance(context.obj, Discovery) else Discovery()
    as_json = flags.pop("as_json")
    asks = not (flags.pop("non_interactive") or as_json) and sys.stdin.isatty()
    folders = Folders.of_user()
    answers = Answers(address, flags, folders, asks=asks)
    asyncio.run(answers.discover(discovery))
    _finish(answers, as_json=as_json)


def _finish(answers: Answers, *, as_json: bool) -> None:
    from secmailproxy.enrol import enrol
    from secmailproxy.errors import LoginRefused

    wish = answers.wish()
    _check(wish, answers.folders)
    outcome = None
    while outcome is None:
        password = answers.password()
        if not as_json:
            account = wish.account
            click.echo(f"Trying {account.imap.host} and {account.smtp.host} ...", err=True)
        local_password, passphrase = answers.local_password(), answers.secrets_passphrase()
        try:
            outcome = enrol(wish, answers.folders, password, local_password, passphrase)
        except LoginRefused as error:
            if not answers.may_ask_password_again:
                raise
            click.echo(f"secmailproxy: {describe(error)}", err=True)
    if as_json:
        print_json(as_document(wish, outcome))
    else:
        click.echo(as_text(wish, outcome))


def _check(wish: Wish, folders: Folders) -> None:
    """Raise UsageError, naming options, for answers that cannot stand in a configuration."""
    from secmailproxy.config import Config
    from secmailproxy.config_errors import ConfigProblems
    from secmailproxy.config_writer import changed, read_text
    from secmailproxy.errors import UsageError

    try:
        Config.parse(changed(read_text(folders), wish.tables, wish.account).encode(), folders)
    except ConfigProblems as problems:
        texts = dict.fromkeys(f"{_option(one.key)}: {one.text}" for one in problems.problems)
        raise UsageError("\n".join(texts)) from None


def _option(key: str) -> str:
    """The option that sets a key of the configuration, such as "listen.imap"; else the key itself."""
    words = key.split(".")
    match words[-2:]:
        case [_, "ca_file"]:
            return "--ca-file"
        case ["imap" | "smtp" as server, "host" | "port" | "tls" as option]:
            return f"--{server}-{option}"
        case ["imap" | "smtp" as server, "username"]:
            return f"--{server}-user"
        case ["secrets", "passphrase_file"]:
            return "--secrets-passphrase-file"
    return f"--listen-{words[1]}" if words[0] == "listen" and len(words) > 1 else key


def as_document(wish: Wish, outcome: Outcome) -> dict[str, Any]:
    """The result for machines. `local_password` is null unless one was made or changed just now."""
    account, listen = wish.account, outcome.config.listen
    return {
        "version": 1,
        "address": account.address,
        "config": str(outcome.config.folders.config_file),
        "login": account.login,
        "local_password": outcome.local_password,
        "client": {
            "imap": _client(account.address, *listen.reading),
            "submission": _client(account.address, *listen.sending),
        },
        "certificate": outcome.certificate.fingerprint if outcome.certificate else None,
        "servers": {"imap": _server(account.imap), "smtp": _server(account.smtp)},
        "key": {"fingerprint": outcome.fingerprint, "action": outcome.key_action},
    }


def _client(address: str, listener: ListenAddress, tls: bool) -> dict[str, Any]:
    return {
        "host": listener.host,
        "port": listener.port,
        "username": address,
        "security": "tls" if tls else "none",
        "authentication": "password",
    }


def _server(server: Any) -> dict[str, Any]:
    values = dataclasses.asdict(server)
    values["ca_file"] = str(server.ca_file) if server.ca_file else None
    return values


def as_text(wish: Wish, outcome: Outcome) -> str:
    """The result for people: what to type into the mail client."""
    account, listen = wish.account, outcome.config.listen
    password = "the mailbox's own password"  # noqa: S105  # words about a password
    if account.login == "local":
        password = outcome.local_password or "the local password, unchanged"
    (imap, imap_tls), (submission, submission_tls) = listen.reading, listen.sending
    security = {True: "SSL/TLS", False: "none (this machine)"}
    rows = [
        ("", "IMAP (reading)", "SMTP (sending)"),
        ("Server", imap.host, submission.host),
        ("Port", str(imap.port), str(submission.port)),
        ("Security", security[imap_tls], security[submission_tls]),
        ("Authentication", "password", "password"),
        ("User name", account.address, account.address),
        ("Password", password, "the same"),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    key = {"generated": "A new key", "adopted": "The key", "kept": "The key"}
    no_key = (
        f"No key: mail leaves unprotected. To make one: secmailproxy key generate {account.address}; to take "
        "yours: secmailproxy key import FILE"
    )
    lines = [
        f"{account.address} is set up ({outcome.config.folders.config_file}).",
        f"{key[outcome.key_action]}: {outcome.fingerprint}" if outcome.fingerprint else no_key,
        "",
        "Type this into your mail client:",
        "",
        *(f"  {line}".rstrip() for line in table),
        "",
        *_of_certificate(outcome),
        "Then start the proxy: secmailproxy serve (if it runs already, send it SIGHUP).",
        *([BACKUP] if outcome.key_action == "generated" else []),
    ]
    return "\n".join(lines)


def _of_certificate(outcome: Outcome) -> list[str]:
    if outcome.certificate is None:
        return []
    return [
        "The client must trust the certificate of the proxy (docs/clients.md), which this writes to a file:",
        "  secmailproxy certificate export --output secmailproxy.pem",
        f"Its SHA-256 fingerprint: {outcome.certificate.fingerprint}",
        "",
    ]
