"""`secmailproxy key list` and `show`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import click

from secmailproxy.cli.completing import known
from secmailproxy.cli.context import Passphrase, print_json
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import NotFound, json_option, no_match, opened, store_passphrase

_NO_KEYS = "There are no keys yet. `secmailproxy setup` makes yours, `secmailproxy key import` takes others'."


@click.command(name="list", short_help="List keys and certificates.")
@click.argument("query", shell_complete=known, nargs=-1)
@json_option
@store_passphrase
def list_(query: tuple[str, ...], as_json: bool, secrets_passphrase: Passphrase) -> None:
    """List keys and certificates: all, or those that match an address, a fingerprint or words."""
    _print_keys(query, as_json, secrets_passphrase, text.short_text)


@click.command(short_help="Show everything about a key.")
@click.argument("query", shell_complete=known, nargs=-1, required=True)
@json_option
@store_passphrase
def show(query: tuple[str, ...], as_json: bool, secrets_passphrase: Passphrase) -> None:
    """Show everything that is known of the keys and certificates that match."""
    _print_keys(query, as_json, secrets_passphrase, text.long_text)


def _print_keys(
    query: tuple[str, ...], as_json: bool, passphrase: Passphrase, shown: Callable[[dict[str, Any]], str]
) -> None:
    now = datetime.now(UTC)
    with opened(passphrase) as keystore:
        found = keystore.certificates(" ".join(query))
        waiting = defaultdict(list)
        for held in keystore.settling.waiting():
            waiting[held.fingerprint].append(held.address)
        described = [text.describe(keystore, one, now, waiting.get(one.fingerprint, ())) for one in found]
    if query and not found:
        raise NotFound(no_match(query))
    if as_json:
        print_json({"version": text.JSON_VERSION, "keys": described})
    else:
        click.echo("\n\n".join(map(shown, described)) or _NO_KEYS)
