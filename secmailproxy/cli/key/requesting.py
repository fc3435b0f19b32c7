"""`secmailproxy key request` and `key requests`: S/MIME certificates that an authority is to issue."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from secmailproxy.cli.context import Passphrase, print_json
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import json_option, opened, store_passphrase

if TYPE_CHECKING:
    from keystore.requests import Request

KINDS = ("rsa3072", "rsa4096", "p256")
_NEXT = "Give it to your authority; then import what it sends: secmailproxy key import FILE"


@click.command()
@click.argument("addresses", nargs=-1, required=True, metavar="ADDRESS...")
@click.option("--name", default="", help="Your name; many authorities put in what they have checked instead.")
@click.option("--kind", type=click.Choice(KINDS), default="rsa3072", show_default=True)
@click.option("--another", is_flag=True, help="Make a new key although a request for these addresses waits.")
@json_option
@store_passphrase
def request(
    addresses: tuple[str, ...],
    name: str,
    kind: Any,
    another: bool,
    as_json: bool,
    secrets_passphrase: Passphrase,
) -> None:
    """Make an S/MIME key for addresses of yours, and print the request (PKCS #10) for its certificate.

    The key stays here, and the certificate finds it when you import it. A request that waits is printed
    again. Before a certificate ends, make a new request in time.
    """
    now = datetime.now(UTC)
    with opened(secrets_passphrase) as keystore:
        made = None if another else keystore.requests.of(addresses)
        made = made or keystore.requests.make(addresses, name, kind, now)
    if as_json:
        print_json({"version": text.JSON_VERSION, "request": _values(made)})
    else:
        click.echo(made.pem, nl=False)
        click.echo(_NEXT, err=True)


@click.command()
@json_option
@store_passphrase
def requests(as_json: bool, secrets_passphrase: Passphrase) -> None:
    """List the requests for S/MIME certificates that wait for their authority."""
    with opened(secrets_passphrase) as keystore:
        found = keystore.requests.all()
    if as_json:
        print_json({"version": text.JSON_VERSION, "requests": [_values(one) for one in found]})
    else:
        lines = [f"{one.made:%Y-%m-%d}  {', '.join(one.addresses)}" for one in found]
        click.echo("\n".join(lines) or "No request waits. To make one: secmailproxy key request ADDRESS")


def _values(one: Request) -> dict[str, Any]:
    return {
        "key": one.name,
        "addresses": list(one.addresses),
        "made": text.time(one.made),
        "pem": one.pem.decode("ascii"),
    }
