"""`secmailproxy key export`."""

from __future__ import annotations

import sys

import click

from keystore.model import Holder, Scheme
from secmailproxy.cli.completing import known
from secmailproxy.cli.context import Passphrase, print_json
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import json_option, key_passphrase, only, opened, store_passphrase
from secmailproxy.errors import UsageError


@click.command(short_help="Write one certificate, or your secret key.")
@click.argument("query", shell_complete=known, nargs=-1, required=True)
@click.option("--secret", is_flag=True, help="Export the secret key, protected by a passphrase.")
@click.option("--no-passphrase", is_flag=True, help="With --secret: leave the secret key in clear.")
@json_option
@key_passphrase
@store_passphrase
def command(
    query: tuple[str, ...],
    secret: bool,
    no_passphrase: bool,
    as_json: bool,
    passphrase: Passphrase,
    secrets_passphrase: Passphrase,
) -> None:
    """Write one certificate, armored, to stdout; with --secret, your secret key (S/MIME: as PKCS #12)."""
    if no_passphrase and (not secret or passphrase.given):
        raise UsageError("--no-passphrase goes with --secret, and without a passphrase.")
    with opened(secrets_passphrase) as keystore:
        certificate = only(keystore, query)
        # What is not ours is refused below, before anybody is asked for a passphrase.
        protects = secret and not no_passphrase and certificate.holder is Holder.OWN
        protection = _new_passphrase(passphrase) if protects else None
        exported = keystore.export(certificate.fingerprint, secret=secret, passphrase=protection)
    binary = secret and certificate.scheme is Scheme.SMIME
    if as_json:
        print_json(text.export_values(certificate, exported, secret=secret))
    elif binary and sys.stdout.isatty():
        raise UsageError("PKCS #12 is binary: send it to a file, such as > mail.p12")
    else:
        click.echo(exported if binary else exported.replace(b"\r\n", b"\n"), nl=False)


def _new_passphrase(passphrase: Passphrase) -> str:
    passphrase.prompt = "Passphrase for the exported key"
    first = passphrase()
    if not passphrase.given and click.prompt("Again", hide_input=True, err=True) != first:
        raise UsageError("The two passphrases differ.")
    if not first:
        raise UsageError("The passphrase is empty; use --no-passphrase to export the secret key in clear.")
    return first
