"""`secmailproxy key holders`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from secmailproxy.cli.context import Passphrase, print_json
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import json_option, opened, store_passphrase

if TYPE_CHECKING:
    from keystore.holders import HolderReport

_NOT_NOW = 75
_NAMES = {"own": "this keystore", "gnupg": "GnuPG's agent", "pkcs11": "the token"}


@click.command(name="holders", short_help="Who holds your secret keys, and who answers.")
@json_option
@store_passphrase
def command(as_json: bool, secrets_passphrase: Passphrase) -> None:
    """Say who holds your secret keys (this keystore, GnuPG's agent, a token), and whether each answers now.

    Nobody is asked for a passphrase or PIN, but for that of the secrets file. Exit status 75 when one
    does not answer.
    """
    from keystore.holders import reports

    with opened(secrets_passphrase) as keystore:
        found = reports(keystore)
    if as_json:
        print_json({"version": text.JSON_VERSION, "holders": [_values(one) for one in found]})
    else:
        click.echo("\n".join(_lines(one) for one in found))
    if not all(one.answers for one in found):
        sys.exit(_NOT_NOW)


def _values(report: HolderReport) -> dict[str, Any]:
    keys = [
        {"fingerprint": one.fingerprint, "addresses": list(one.addresses), "card": one.card or None}
        for one in report.keys
    ]
    return {"holder": report.holder.value, "answers": report.answers, "reason": report.reason, "keys": keys}


def _lines(report: HolderReport) -> str:
    state = "answers" if report.answers else f"does not answer: {text.plain(report.reason)}"
    lines = [f"{_NAMES[report.holder.value]}: {state if report.keys else 'holds no key'}"]
    for one in report.keys:
        card = f", on the card {one.card}" if one.card else ""
        lines.append(f"  {one.fingerprint} {text.plain(', '.join(one.addresses))}{card}")
    return "\n".join(lines)
