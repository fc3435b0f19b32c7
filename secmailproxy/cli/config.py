"""`secmailproxy config`: where the configuration is, whether it is right, what is in force, and what of it
mail clients need to know.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import click

from secmailproxy.cli.context import load_config, print_json
from secmailproxy.errors import ConfigError, UsageError


@click.group("config")
def command() -> None:
    """Look at the configuration. Every option is explained in docs/configuration.md."""


@command.command("path")
@click.option("--json", "as_json", is_flag=True, help="Print all folders as JSON.")
def path(as_json: bool) -> None:
    """Print where the configuration file is, or will be."""
    from secmailproxy.folders import Folders

    folders = Folders.of_user()
    if as_json:
        print_json(
            {
                "version": 1,
                "config": str(folders.config_file),
                "exists": folders.config_file.exists(),
                "state": str(folders.state),
                "cache": str(folders.cache),
            }
        )
    else:
        click.echo(folders.config_file)


@command.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
@click.pass_context
def check(context: click.Context, /, as_json: bool) -> None:
    """Check the whole configuration. Exit status 78 when something is wrong."""
    from secmailproxy.config_errors import ConfigProblems

    try:
        config = load_config()
    except ConfigError as error:
        if not as_json:
            raise
        problems = (
            [{"key": one.key, "line": one.line or None, "text": one.text} for one in error.problems]
            if isinstance(error, ConfigProblems)
            else [{"key": None, "line": None, "text": error.text}]
        )
        print_json({"version": 1, "ok": False, "problems": problems})
        context.exit(error.exit_status)
    if as_json:
        print_json({"version": 1, "ok": True, "problems": []})
    else:
        counts = [_count(config.accounts, "account"), _count(config.rules, "rule")]
        if config.forward.targets or config.forward.rules:
            counts.append(f"system mail: {_count(config.forward.targets, 'target')}")
            counts.append(_count(config.forward.rules, "rule"))
        click.echo(f"{config.folders.config_file} is right: {', '.join(counts)}.")


def _count(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'s' if len(things) != 1 else ''}"


@command.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def show(as_json: bool) -> None:
    """Print the configuration in force, every default filled in. There are no secrets in it."""
    document = load_config().as_json()
    if as_json:
        print_json(document)
        return
    import tomlkit

    click.echo(tomlkit.dumps(_without_none(document)), nl=False)


@command.command("autoconfig")
def autoconfig() -> None:
    """Print the XML by which Thunderbird finds this proxy.

    As root, put it where Thunderbird looks first, under the domain of your address:
    /usr/lib/thunderbird/isp/your.domain.xml on Debian. It names the listeners with TLS where there are any.
    """
    from secmailproxy.autoconfig import published
    from secmailproxy.autoconfig.discovery import ascii_domain

    config = load_config()
    listen = config.listen
    for name, listener in listen.addresses.items():
        if not listener.port:
            raise UsageError(
                f"listen.{name} is {listener}, so its port changes at every start; give it a port that stays."
            )
    if not config.accounts:
        raise UsageError("There is no account yet; run: secmailproxy setup you@your.domain")
    # In the order of the accounts, each once.
    domains = list(dict.fromkeys(ascii_domain(account.address) for account in config.accounts))
    imap, submission = (
        published.Endpoint(address.host, address.port, tls)
        for address, tls in (listen.reading, listen.sending)
    )
    click.echo(published.document(domains, imap, submission), nl=False)


def _without_none(value: Any) -> Any:
    """TOML has no null: an absent file or address is left out."""
    if isinstance(value, dict):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_without_none(one) for one in value]
    return value
