"""`secmailproxy key revoke` and `key revocation-certificate`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import click

from keystore.model import Certificate, Holder
from keystore.openpgp import RevocationReason
from secmailproxy.cli.completing import known
from secmailproxy.cli.context import INTERRUPTED, Passphrase, print_json, read_input
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import json_option, only, opened, store_passphrase
from secmailproxy.cli.key.renewing import own
from secmailproxy.errors import UsageError

_NEXT = (
    "Tell correspondents: publish it again where you have published it, and send it to those who have it "
    "from you: secmailproxy key export. For a new key: secmailproxy key generate {address}"
)


@click.command()
@click.argument("query", shell_complete=known, nargs=-1, required=True)
@click.option(
    "--reason", type=click.Choice(get_args(RevocationReason)), default="none", help="What others are told."
)
@click.option(
    "--certificate", "file", metavar="FILE", help="By this revocation certificate, without the secret key."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@store_passphrase
def revoke(
    query: tuple[str, ...],
    reason: RevocationReason,
    file: str | None,
    yes: bool,
    as_json: bool,
    secrets_passphrase: Passphrase,
) -> None:
    """End your key for everybody who learns of it, for ever. Old mail can still be read with it.

    superseded: another key takes its place. retired: you use none any more. Both leave older signatures
    good for some programs. compromised: somebody else may have it. With --certificate a correspondent's key
    is ended too, by a file from its owner.
    """
    octets = read_input(file) if file is not None else None
    with opened(secrets_passphrase) as keystore:
        certificate = only(keystore, query, own)
        if not yes:
            _confirm(certificate)
        now, fingerprint = datetime.now(UTC), certificate.fingerprint
        if octets is None:
            changed = keystore.own_keys.revoke(fingerprint, reason, now)
        else:
            changed = keystore.own_keys.revoke_by(fingerprint, octets, now)
        described = text.describe(keystore, changed, now)
    if as_json:
        print_json({"version": text.JSON_VERSION, "key": described})
        return
    click.echo(text.long_text(described))
    if changed.holder is not Holder.NONE:
        click.echo(f"\n{_NEXT.format(address=(*changed.addresses, *certificate.addresses, 'ADDRESS')[0])}")


def _confirm(certificate: Certificate) -> None:
    if not sys.stdin.isatty():
        raise UsageError(f"To revoke {certificate.fingerprint} cannot be undone. Use --yes to do it.")
    click.echo(f"To revoke {certificate.fingerprint} cannot be undone.", err=True)
    if not click.confirm("Revoke it?", err=True):
        click.echo("Nothing was changed.", err=True)
        raise click.exceptions.Exit(INTERRUPTED)


@click.command(name="revocation-certificate")
@click.argument("query", shell_complete=known, nargs=-1, required=True)
@json_option
@store_passphrase
def revocation(query: tuple[str, ...], as_json: bool, secrets_passphrase: Passphrase) -> None:
    """Print the revocation certificate of your key, which was made with it, to keep it elsewhere.

    It is in a file of its own beside the keystore; of a key that was imported it is made now. Whoever has it
    can end the key.
    """
    with opened(secrets_passphrase) as keystore:
        certificate = only(keystore, query, own)
        path = keystore.own_keys.revocation_file(certificate.fingerprint, datetime.now(UTC))
    told = Path(path).read_text(encoding="utf-8")
    if as_json:
        print_json(
            {
                "version": text.JSON_VERSION,
                "fingerprint": certificate.fingerprint,
                "file": str(path),
                "text": told,
            }
        )
    else:
        click.echo(told, nl=False)
