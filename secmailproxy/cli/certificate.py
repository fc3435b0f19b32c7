"""`secmailproxy certificate`: TLS between the mail clients of this machine and the proxy."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from secmailproxy.cli.context import Passphrase, load_config, open_secrets, passphrase_options, print_json
from secmailproxy.errors import UsageError

if TYPE_CHECKING:
    from secmailproxy.localtls import LocalCertificate

_JSON = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")


@click.group("certificate")
def command() -> None:
    """The certificate for TLS between mail clients and this proxy: make it, show it, hand it to clients.

    It speaks for localhost, 127.0.0.1 and ::1. With it, submission offers STARTTLS, and listen.imaps and
    listen.submissions can be set. A running proxy takes it after SIGHUP.
    """


@command.command("create")
@passphrase_options
@_JSON
def create(passphrase: Passphrase, as_json: bool) -> None:
    """Make a certificate, where there is none.

    The passphrase is that of the encrypted secrets file ([secrets] backend = "file").
    """
    config = load_config()
    if config.folders.certificate.exists():
        raise UsageError(
            f"There is a certificate already ({config.folders.certificate}); to replace it, run: "
            "secmailproxy certificate renew"
        )
    _make(passphrase, as_json=as_json)


@command.command("renew")
@passphrase_options
@_JSON
def renew(passphrase: Passphrase, as_json: bool) -> None:
    """Make a new certificate, with a new key, in the place of the old one. Clients must be given it anew.

    The passphrase is that of the encrypted secrets file ([secrets] backend = "file").
    """
    _make(passphrase, as_json=as_json)


@command.command("show")
@_JSON
def show(as_json: bool) -> None:
    """Print the names, the end of validity and the fingerprint, to compare with what a client shows."""
    from secmailproxy.localtls import read_certificate

    _print(read_certificate(load_config().folders.certificate), as_json=as_json)


@command.command("export")
@click.option(
    "--format",
    "form",
    type=click.Choice(["pem", "der"]),
    default="pem",
    show_default=True,
    help="The form that the client wants.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write to FILE, in place of standard output.",
)
def export(form: str, output: Path | None) -> None:
    """Write the certificate, without its key, for a mail client to trust."""
    from secmailproxy.localtls import read_certificate

    certificate = read_certificate(load_config().folders.certificate)
    octets = certificate.der if form == "der" else certificate.pem.encode("ascii")
    if output is not None:
        output.write_bytes(octets)
    elif form == "der" and sys.stdout.isatty():
        raise UsageError("A terminal cannot show DER; give --output FILE, or redirect it.")
    else:
        sys.stdout.buffer.write(octets)


def _make(passphrase: Passphrase, *, as_json: bool) -> None:
    from secmailproxy.localtls import LocalTls

    config = load_config()
    config.folders.prepare()
    tls = LocalTls(config.folders.certificate, open_secrets(config, passphrase))
    made = tls.make(datetime.now(UTC))
    _print(made, as_json=as_json)
    if not as_json:
        click.echo(
            "\nGive it to the mail clients of this machine (secmailproxy certificate export; see "
            "docs/clients.md),\nthen restart the proxy, or send it SIGHUP."
        )


def _print(certificate: LocalCertificate, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "version": 1,
                "fingerprint": certificate.fingerprint,
                "names": list(certificate.names),
                "begins": certificate.begins.isoformat(),
                "expires": certificate.expires.isoformat(),
            }
        )
        return
    click.echo(
        f"Names        {', '.join(certificate.names)}\n"
        f"Expires      {certificate.expires:%Y-%m-%d}\n"
        f"SHA-256      {certificate.fingerprint}"
    )
