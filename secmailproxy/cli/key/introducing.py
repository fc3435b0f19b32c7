"""`secmailproxy key introducer`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from secmailproxy.cli.context import Passphrase, print_json
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import json_option, only, opened, store_passphrase
from secmailproxy.errors import UsageError


@click.command(name="introducer")
@click.argument("query", nargs=-1)
@click.option("--domain", multiple=True, help="Only for addresses of this domain; may be repeated.")
@click.option("--remove", is_flag=True, help="No longer take its word.")
@json_option
@store_passphrase
def command(
    query: tuple[str, ...],
    domain: tuple[str, ...],
    remove: bool,
    as_json: bool,
    secrets_passphrase: Passphrase,
) -> None:
    """Take the word of an OpenPGP key, such as your organisation's, for others' certificates.

    Whom it has certified is verified, for the addresses that it has certified. Compare its fingerprint first.
    Without an argument, those whose word is taken are listed.
    """
    if not query and (remove or domain):
        raise UsageError("Give the fingerprint of the introducer.")
    now = datetime.now(UTC)
    with opened(secrets_passphrase) as keystore:
        if query:
            certificate = only(keystore, query)
            if remove:
                keystore.introducers.remove(certificate.fingerprint)
            else:
                keystore.introducers.add(certificate, domain, now)
        listed = [
            {"fingerprint": one.fingerprint, "domains": list(one.domains), "since": text.time(one.since)}
            for one in keystore.introducers.all()
        ]
    if as_json:
        print_json({"version": text.JSON_VERSION, "introducers": listed})
        return
    for one in listed:
        click.echo(f"{one['fingerprint']} for {', '.join(one['domains']) or 'everybody'}")
    if not listed:
        click.echo("nobody's word is taken for others' certificates")
