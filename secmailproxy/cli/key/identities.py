"""`secmailproxy key identity`: several addresses of one key."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from keystore import policy
from keystore.model import Certificate
from secmailproxy.cli.completing import known
from secmailproxy.cli.context import Passphrase
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import NotFound, json_option, only, opened, store_passphrase
from secmailproxy.cli.key.renewing import own, show
from secmailproxy.errors import UsageError


@click.group(name="identity")
def command() -> None:
    """The addresses of your key: user IDs, each with a name of its own."""


@command.command()
@click.argument("query", shell_complete=known, metavar="KEY")
@click.argument("address")
@click.option("--name", default="", help="Your name beside this address.")
@click.option("--primary", is_flag=True, help="The one that other programs show first.")
@json_option
@store_passphrase
def add(
    query: str, address: str, name: str, primary: bool, as_json: bool, secrets_passphrase: Passphrase
) -> None:
    """Add an address to your key, or one back that you took away.

    KEY is another address of it, or its fingerprint. Whoever gets the key sees all its addresses,
    but for those who get it with your mail: that names one.
    """
    with opened(secrets_passphrase) as keystore:
        fingerprint = only(keystore, (query,), own).fingerprint
        now = datetime.now(UTC)
        changed = keystore.own_keys.add_user_id(fingerprint, address, name, now, first=primary)
        show(keystore, changed, as_json)


@command.command()
@click.argument("query", shell_complete=known, metavar="KEY")
@click.argument("identity")
@json_option
@store_passphrase
def remove(query: str, identity: str, as_json: bool, secrets_passphrase: Passphrase) -> None:
    """Take an address away from your key.

    IDENTITY is the address, or the user ID as `key show` has it. It is revoked, not erased:
    who has it sees that it holds no more. Mail to it can still be read.
    """
    with opened(secrets_passphrase) as keystore:
        certificate = only(keystore, (query,), own)
        user_id = _named(certificate, identity)
        changed = keystore.own_keys.remove_user_id(certificate.fingerprint, user_id, datetime.now(UTC))
        show(keystore, changed, as_json)


def _named(certificate: Certificate, identity: str) -> str:
    """The user ID that reads so, or the only one of this address."""
    if identity in certificate.user_ids:
        return identity
    found = [one for one in certificate.user_ids if policy.addresses([one]) == (identity.lower(),)]
    if not found:
        raise NotFound(f"{certificate.fingerprint} has no user ID {identity!r}; see secmailproxy key show.")
    if len(found) > 1:
        shown = "\n".join(map(text.plain, found))
        raise UsageError(f"Several user IDs have the address {identity}; give one whole:\n{shown}")
    return found[0]
