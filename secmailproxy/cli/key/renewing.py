"""`secmailproxy key rotate` and `key extend`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from keystore.keystore import Keystore
from keystore.model import Certificate, Holder, Scheme
from secmailproxy.cli.completing import known
from secmailproxy.cli.context import Passphrase, print_json
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import json_option, only, opened, store_passphrase
from secmailproxy.cli.key.generating import expires_option, lifetime

PUBLISH = (
    "Your next messages carry it (Autocrypt). Where you have published the key, publish it again; programs "
    "of correspondents that take it from nowhere else need it from you: secmailproxy key export ADDRESS"
)


def own(certificate: Certificate) -> bool:
    """Whether it is an own OpenPGP key."""
    return certificate.holder is not Holder.NONE and certificate.scheme is Scheme.OPENPGP


def show(keystore: Keystore, certificate: Certificate, as_json: bool) -> None:
    """Print a key that has been changed."""
    described = text.describe(keystore, certificate, datetime.now(UTC))
    if as_json:
        print_json({"version": text.JSON_VERSION, "key": described})
    else:
        click.echo(f"{text.long_text(described)}\n\n{PUBLISH}")


@click.command()
@click.argument("query", shell_complete=known, nargs=-1, required=True)
@click.option(
    "--overlap",
    default="90d",
    show_default=True,
    help="For how long the subkey before may still be encrypted to; never: without end.",
)
@click.option("--expires", default="never", show_default=True, help="Its own end; else that of the key.")
@json_option
@store_passphrase
def rotate(
    query: tuple[str, ...], overlap: str, expires: str, as_json: bool, secrets_passphrase: Passphrase
) -> None:
    """Give your key a new subkey for encryption, which correspondents' programs use from then on.

    The one before goes on to open all mail that was encrypted to it. The fingerprint stays, so nobody has to
    compare it anew.
    """
    now = datetime.now(UTC)
    life, after = lifetime(expires), lifetime(overlap, "--overlap")
    with opened(secrets_passphrase) as keystore:
        certificate = only(keystore, query, own)
        end = now + life if life else None
        changed = keystore.own_keys.rotate(certificate.fingerprint, now, expires=end, overlap=after)
        show(keystore, changed, as_json)


@click.command()
@click.argument("query", shell_complete=known, nargs=-1, required=True)
@expires_option
@json_option
@store_passphrase
def extend(query: tuple[str, ...], expires: str, as_json: bool, secrets_passphrase: Passphrase) -> None:
    """Give your key another end, counted from now. One that has expired lives again."""
    now = datetime.now(UTC)
    life = lifetime(expires)
    with opened(secrets_passphrase) as keystore:
        certificate = only(keystore, query, own)
        end = now + life if life else None
        changed = keystore.own_keys.extend(certificate.fingerprint, end, now)
        show(keystore, changed, as_json)
