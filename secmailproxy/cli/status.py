"""`secmailproxy status`: does it run, what was verified, what waits."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from secmailproxy.cli.context import load_config, print_json

if TYPE_CHECKING:
    from secmailproxy.status import AccountStatus, Status

NOT_RUNNING = 3
"""As that of `systemctl status` and of init scripts (LSB)."""


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_context
def command(context: click.Context, /, as_json: bool) -> None:
    """Say whether the proxy runs, how its accounts stand, what was verified, and what waits or is wrong.

    Asks neither the network nor for a passphrase. Exit status 0 when `secmailproxy serve` runs, 3 when not.
    """
    from secmailproxy.status import status_of

    status = status_of(load_config(), datetime.now(UTC))
    if as_json:
        since = status.since.isoformat(timespec="seconds") if status.since else None
        print_json({"version": 1, **dataclasses.asdict(status), "since": since})
    else:
        _print(status)
    context.exit(0 if status.process is not None else NOT_RUNNING)


def _print(status: Status) -> None:
    since = f" since {status.since:%Y-%m-%d %H:%M} UTC" if status.since else ""
    click.echo(f"serve     {f'runs, process {status.process}{since}' if status.process else 'does not run'}")
    if status.listeners:
        click.echo("listens   " + ", ".join(f"{name} {where}" for name, where in status.listeners.items()))
    click.echo(f"keystore  {status.keystore}")
    if status.system_mail:
        click.echo(f"system    mail {status.system_mail}")
        click.echo(f"          {status.queue}")
    if status.verdict_field and status.accounts:
        click.echo(f"verdicts  {status.verdict_field}")
    for account in status.accounts:
        click.echo(f"account   {account.address}{_about(account)}")
    for problem in status.problems:
        click.echo(f"problem   {problem}")


def _about(account: AccountStatus) -> str:
    lines = [account.key] if account.key else []
    if account.opened is not None:
        counts = ", ".join(
            f"{count} {name.removeprefix('$Secmail').lower()}" for name, count in account.verdicts.items()
        )
        lines.append(f"{account.opened} protected message(s) opened: {counts}")
    return "".join(f"\n          {line}" for line in lines)
