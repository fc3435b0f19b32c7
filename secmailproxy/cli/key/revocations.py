"""`secmailproxy key revocations`: lists of revoked S/MIME certificates (docs/keys.md)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from keystore.revocationtable import StoredList
from secmailproxy.cli.context import Passphrase, load_config_or_defaults, print_json
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import json_option, opened, store_passphrase
from secmailproxy.errors import UpstreamUnavailable

_NONE = "There are no lists of revoked certificates. --fetch asks the authorities for theirs."
_NONE_NAMED = (
    "There are no lists of revoked certificates: no certificate here for which a believed authority vouches "
    "names one."
)


@click.command(short_help="Show, or fetch, lists of revoked S/MIME certificates.")
@click.option("--fetch", is_flag=True, help="Ask the authorities for their lists first.")
@json_option
@store_passphrase
def command(fetch: bool, as_json: bool, secrets_passphrase: Passphrase) -> None:
    """Show which lists of revoked S/MIME certificates are here, or fetch them now.

    `serve` fetches them by itself, unless [smime] revocation = false.
    """
    from secmailproxy.revocationlists import fetch_all  # wanted for S/MIME only

    now = datetime.now(UTC)
    with opened(secrets_passphrase) as keystore:
        proxy = load_config_or_defaults(secrets_passphrase).discovery.proxy
        fetched = list(fetch_all(keystore, now, proxy)) if fetch else []
        lists = keystore.authorities.revocations.all()
    if as_json:
        print_json({"version": text.JSON_VERSION, "lists": [_values(one) for one in lists]})
    else:
        none = _NONE_NAMED if fetch else _NONE
        click.echo("\n".join(_text(one, now) for one in lists) or none)
    if any(one.failure for one in fetched):
        raise click.exceptions.Exit(UpstreamUnavailable.exit_status)


def _values(one: StoredList) -> dict[str, Any]:
    """One list, for JSON."""
    return {
        "address": one.address,
        "tried": _iso(one.tried),
        "failure": one.failure,
        "this_update": _iso(one.this_update),
        "next_update": _iso(one.next_update),
        "octets": one.size,
    }


def _text(one: StoredList, now: datetime) -> str:
    """One list, for people."""
    if one.next_update is None or one.this_update is None:
        state = "no list"
    elif one.next_update < now:
        state = f"out of date since {one.next_update:%Y-%m-%d}"
    else:
        state = f"of {one.this_update:%Y-%m-%d %H:%M}, counts until {one.next_update:%Y-%m-%d %H:%M}"
    why = f"; not fetched on {one.tried:%Y-%m-%d %H:%M}: {one.failure}" if one.failure else ""
    return f"{one.address}\n    {state}{why}"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
