"""`secmailproxy key delete`."""

from __future__ import annotations

import sys

import click

from keystore.model import Certificate, Holder
from secmailproxy.cli.completing import known
from secmailproxy.cli.context import INTERRUPTED, Passphrase, print_json
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import json_option, only, opened, store_passphrase
from secmailproxy.errors import UsageError


@click.command(short_help="Delete one certificate or key.")
@click.argument("query", shell_complete=known, nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Delete a secret key without asking.")
@json_option
@store_passphrase
def command(query: tuple[str, ...], yes: bool, as_json: bool, secrets_passphrase: Passphrase) -> None:
    """Delete one certificate, and the secret key with it if it is yours.

    A key that GnuPG holds is only forgotten here; GnuPG keeps it.
    """
    with opened(secrets_passphrase) as keystore:
        certificate = only(keystore, query)
        if certificate.holder is Holder.OWN and not yes:
            _confirm_loss(certificate)
        keystore.delete(certificate.fingerprint)
    if as_json:
        print_json(
            {
                "version": text.JSON_VERSION,
                "deleted": certificate.fingerprint,
                "secret": certificate.holder is Holder.OWN,
            }
        )
    else:
        click.echo(f"deleted {certificate.fingerprint}")


def _confirm_loss(certificate: Certificate) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            f"{certificate.fingerprint} has its secret key here; mail encrypted to it could never be read "
            "again. Use --yes to delete it all the same."
        )
    click.echo(
        f"Mail encrypted to {certificate.fingerprint} can never be read again without this key.", err=True
    )
    if not click.confirm("Delete the secret key?", err=True):
        click.echo("Nothing was deleted.", err=True)
        raise click.exceptions.Exit(INTERRUPTED)
