"""`secmailproxy key verify`."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from keystore.comparing import as_scanned, from_scan
from keystore.errors import KeyRefused
from keystore.model import Certificate, Fingerprint, Scheme, Trust
from keystore.selection import how_to_settle
from secmailproxy.cli.context import Passphrase, load_config_or_defaults, print_json
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import NotFound, json_option, opened, store_passphrase
from secmailproxy.errors import UsageError

if TYPE_CHECKING:
    from keystore.keystore import Keystore


@click.command(name="verify")
@click.argument("address")
@click.option(
    "--scanned",
    metavar="OPENPGP4FPR:...",
    help="What you have scanned, or were told: the whole fingerprint of the other one.",
)
@click.option(
    "--own", metavar="ADDRESS", help="Show the key of this address of yours; else the first account's."
)
@json_option
@store_passphrase
def command(
    address: str, scanned: str | None, own: str | None, as_json: bool, secrets_passphrase: Passphrase
) -> None:
    """Compare fingerprints with a correspondent, and mark the certificate as verified when they match.

    Shows both fingerprints, yours as a QR code too, for the other one's telephone. Then read them to each
    other, or scan theirs and give it with --scanned. OpenPGP only.
    """
    now = datetime.now(UTC)
    with opened(secrets_passphrase) as keystore:
        mine = _own(keystore, own, secrets_passphrase, now)
        theirs = _in_use(keystore, address, now)
        verified: Fingerprint | None = None
        if scanned is not None:
            verified = _matched(keystore, address, scanned, now)
        elif not as_json:
            click.echo("\n".join(_lines(address, mine, theirs)))
            verified = _confirmed(theirs)
        if verified is not None:
            keystore.settling.verify(address, verified, now)
    if as_json:
        print_json(
            {
                "version": text.JSON_VERSION,
                "own": mine.fingerprint if mine else None,
                "own_qr": as_scanned(mine.fingerprint) if mine else None,
                "other": verified or (theirs.fingerprint if theirs else None),
                "verified": verified is not None,
            }
        )
    elif verified is not None:
        click.echo(f"{verified} is verified, and used for {address}")


def _own(keystore: Keystore, own: str | None, passphrase: Passphrase, now: datetime) -> Certificate | None:
    accounts = [one.address for one in load_config_or_defaults(passphrase).accounts]
    for address in [own] if own else accounts:
        if identity := keystore.identity(address, now):
            return identity.certificate
    if own:
        raise NotFound(f"There is no usable OpenPGP key of yours for {own}.")
    return None


def _in_use(keystore: Keystore, address: str, now: datetime) -> Certificate | None:
    claimants = keystore.settling.claimants(address, now)
    found = [one for one in claimants if one.certificate.scheme is Scheme.OPENPGP]
    if not found:
        raise NotFound(f"There is no OpenPGP certificate for {address}; {text.how_to_get(address)}")
    return next((one.certificate for one in found if one.held is None), None)


def _matched(keystore: Keystore, address: str, scanned: str, now: datetime) -> Fingerprint:
    """The certificate of the address that has the fingerprint: one that is held may be the right one."""
    fingerprint = from_scan(scanned)
    if fingerprint is None:
        raise UsageError("--scanned needs a whole fingerprint of 40 or 64 digits, or OPENPGP4FPR: with it.")
    known = {one.certificate.fingerprint for one in keystore.settling.claimants(address, now)}
    if fingerprint not in known:
        raise KeyRefused(
            f"{fingerprint} is none of the certificates for {address} here: do not write to {address} "
            "anything secret before you know why"
        )
    return fingerprint


def _lines(address: str, mine: Certificate | None, theirs: Certificate | None) -> Iterator[str]:
    if mine is not None:
        yield f"yours:  {text.spaced(mine.fingerprint)}"
        yield _qr(as_scanned(mine.fingerprint))
    if theirs is not None:
        yield f"{address}:  {text.spaced(theirs.fingerprint)}"
    else:
        yield f"no certificate is in use for {address}; see: {how_to_settle(address)}"


def _qr(content: str) -> str:
    """For a terminal with light text on a dark ground; nothing where the blocks cannot be written."""
    import segno  # many commands have no use for it

    drawn = io.StringIO()
    segno.make(content, error="m", micro=False).terminal(out=drawn, compact=True, border=2)
    try:
        drawn.getvalue().encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return content
    return drawn.getvalue()


def _confirmed(theirs: Certificate | None) -> Fingerprint | None:
    """What a person has compared; where none is there to ask, nothing."""
    if theirs is None:
        return None
    if theirs.trust is Trust.VERIFIED:
        click.echo("it is verified already")
        return None
    if not sys.stdin.isatty():
        click.echo("when they have told you the same: give it with --scanned")
        return None
    same = click.confirm("Have they told you just this fingerprint, by a way other than mail?")
    return theirs.fingerprint if same else None
