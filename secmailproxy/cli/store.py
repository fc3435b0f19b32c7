"""`secmailproxy store`: the server that several installations share."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from secmailproxy.cli.context import (
    Passphrase,
    load_config,
    open_keystore,
    open_secrets,
    passphrase_options,
    print_json,
    secret_options,
)
from secmailproxy.errors import UsageError

if TYPE_CHECKING:
    from keystore.database import Server
    from secmailproxy.config import Config


@click.group("store")
def command() -> None:
    """Where certificates, keys and presented messages are kept: in files here, or on a server."""


@command.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@passphrase_options
def check(passphrase: Passphrase, as_json: bool) -> None:
    """Read through the tables, or see that the server answers.

    Exit status 70 for damage, 75 for a server that cannot be reached.
    """
    config = load_config()
    with closing(open_keystore(config, passphrase)) as keystore:
        keystore.database.check()
        where = keystore.database.where
    shared = config.store.server is not None
    if as_json:
        print_json({"version": 1, "where": where, "shared": shared})
    else:
        click.echo(
            f"{where}: {'a server that others may share, it answers' if shared else 'read through'}, ok"
        )


@command.command("password")
@secret_options("password", "password of the server")
@passphrase_options
def password(passphrase: Passphrase, password: Passphrase) -> None:
    """Try the password of the server that [store] url names, and keep it among the secrets."""
    from keystore.database import PASSWORD
    from keystore.keystore import DATABASE
    from keystore.store import Store

    config = load_config()
    server, answer = _server(config), password()
    with closing(Store.open(config.folders.keystore / DATABASE, server, lambda: answer)) as store:
        wanted, where = PASSWORD in store.database.secrets_used, store.database.where
    open_secrets(config, passphrase).set(PASSWORD, answer)
    remark = "" if wanted else " It wanted none now: another way in comes first."
    click.echo(f"The password of {where} is kept.{remark}")


def _server(config: Config) -> Server:
    if config.store.server is None:
        raise UsageError("There is no server: the configuration has no [store] url, so all is in files here.")
    return config.store.server
