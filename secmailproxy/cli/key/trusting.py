"""`secmailproxy key trust`."""

from __future__ import annotations

import click

from keystore.model import Trust
from secmailproxy.cli.completing import known
from secmailproxy.cli.context import Passphrase, print_json
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import json_option, only, opened, store_passphrase


@click.command(name="trust")
@click.argument("query", shell_complete=known, nargs=-1, metavar="QUERY...")
@click.argument("level", type=click.Choice([one.value for one in Trust]))
@json_option
@store_passphrase
def command(query: tuple[str, ...], level: str, as_json: bool, secrets_passphrase: Passphrase) -> None:
    """Say how far a certificate is trusted.

    verified: you compared its fingerprint with its owner. rejected: never used.
    """
    with opened(secrets_passphrase) as keystore:
        certificate = only(keystore, query)
        keystore.set_trust(certificate.fingerprint, Trust(level))
    if as_json:
        print_json({"version": text.JSON_VERSION, "fingerprint": certificate.fingerprint, "trust": level})
    else:
        click.echo(f"{certificate.fingerprint} is now {level}")
