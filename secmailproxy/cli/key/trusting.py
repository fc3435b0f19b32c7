"""`secmailproxy key trust`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from keystore.model import Certificate, Holder, Reason, Scheme, Trust
from secmailproxy.cli.completing import known
from secmailproxy.cli.context import Passphrase, print_json
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import json_option, only, opened, store_passphrase

if TYPE_CHECKING:
    from keystore.keystore import Keystore


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
        bare = _without(keystore, certificate) if Trust(level) is Trust.REJECTED else []
    if as_json:
        print_json({"version": text.JSON_VERSION, "fingerprint": certificate.fingerprint, "trust": level})
    else:
        click.echo(f"{certificate.fingerprint} is now {level}")
    if bare:
        click.echo(
            f"No certificate is left for {', '.join(bare)}: mail there leaves signed and in clear, unless a "
            'rule demands encryption (protect = "require").',
            err=True,
        )


def _without(keystore: Keystore, rejected: Certificate) -> list[str]:
    """The addresses of somebody else's certificate to which mail is not refused, and not encrypted either."""
    now = datetime.now(UTC)
    if rejected.holder is not Holder.NONE:
        return []
    return [
        text.plain(address)
        for address in rejected.addresses
        if all(
            not found.usable and found.reason is not Reason.HELD
            for found in (keystore.select(address, now, scheme=scheme) for scheme in Scheme)
        )
    ]
