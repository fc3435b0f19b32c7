"""`secmailproxy key generate`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import click

from keystore.openpgp.halves import KeyKind
from secmailproxy.cli.context import Passphrase, passphrase_options, print_json
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import BACKUP, json_option, opened
from secmailproxy.errors import UsageError

_DAYS = {"d": 1, "w": 7, "m": 30, "y": 365}

expires_option = click.option(
    "--expires", default="3y", show_default=True, help="never, or a time from now such as 90d, 18m, 2y."
)


@click.command(name="generate")
@click.argument("address")
@click.option("--name", default="", help="Your name, for the user ID.")
@click.option("--kind", type=click.Choice(get_args(KeyKind)), default="ed25519", show_default=True)
@expires_option
@click.option("--another", is_flag=True, help="Make one even though the address has a key already.")
@json_option
@passphrase_options
def command(
    address: str, name: str, kind: Any, expires: str, another: bool, as_json: bool, passphrase: Passphrase
) -> None:
    """Make a key for an address of yours, and its revocation certificate in a file of its own.

    ed25519-v6 is of OpenPGP's version 6, which many programs cannot read yet, gpg among them.
    """
    life = lifetime(expires)
    now = datetime.now(UTC)
    with opened(passphrase) as keystore:
        known = keystore.identity(address, now)
        if known is not None and not another:
            raise UsageError(
                f"{address} has the key {known.certificate.fingerprint} already; --another makes one more, "
                "which is then used for new mail."
            )
        made = keystore.generate(address, name=name, kind=kind, now=now, expires=life)
        described = text.describe(keystore, made, now)
    if as_json:
        print_json({"version": text.JSON_VERSION, "key": described})
    else:
        click.echo(text.long_text(described))
        click.echo(f"\n{BACKUP}")
        click.echo(f"To end it should it be lost: secmailproxy key revocation-certificate {made.fingerprint}")


def lifetime(text: str, option: str = "--expires") -> timedelta | None:
    """The time that an option names; None for "never". Raises UsageError."""
    if text == "never":
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,4})([dwmy])", text)
    days = int(match[1]) * _DAYS[match[2]] if match else 0
    # OpenPGP counts a key's life in 32 bits of seconds (RFC 9580 section 5.2.3.13).
    if not 0 < days < 2**32 // 86400:
        raise UsageError(f"{option} {text}: give never, or a number with d, w, m or y, such as 90d or 2y.")
    return timedelta(days=days)
