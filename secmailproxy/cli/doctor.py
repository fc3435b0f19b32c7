"""`secmailproxy doctor`: is everything as it must be, and if not, what to do."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from secmailproxy.cli.context import Passphrase, load_config, passphrase_options, print_json
from secmailproxy.errors import ConfigError

if TYPE_CHECKING:
    from secmailproxy.checkup import Check

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command("doctor")
@passphrase_options
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def command(context: click.Context, /, passphrase: Passphrase, as_json: bool) -> None:
    """Check configuration, secrets, keys and their expiry, servers, TLS, logins, and a round trip.

    Exit status 0 when no check fails (warnings do not count), 1 otherwise. The passphrase is that of the
    encrypted secrets file ([secrets] backend = "file").
    """
    from secmailproxy.checkup import Check, check_all, worst
    from secmailproxy.config_errors import ConfigProblems

    checks: list[Check] = []
    try:
        for check in check_all(load_config(), passphrase, datetime.now(UTC)):
            checks.append(check)
            if not as_json:
                _print(check)
    except ConfigError as error:
        remedy = (
            "correct it, then run: secmailproxy config check" if isinstance(error, ConfigProblems) else ""
        )
        checks.append(Check("config", "", "fail", str(error), remedy))
        if not as_json:
            _print(checks[-1])
    state = worst(checks)
    if as_json:
        print_json({"version": 1, "state": state, "checks": [dataclasses.asdict(one) for one in checks]})
    context.exit(1 if state == "fail" else 0)


def _print(check: Check) -> None:
    mark = click.style(f"{check.state:4}", fg=_COLOURS[check.state])
    place = f"{check.name}, {check.account}" if check.account else check.name
    click.echo(f"{mark}  {place}: {check.text}")
    if check.remedy and check.state != "ok":
        click.echo(f"      -> {check.remedy}")
