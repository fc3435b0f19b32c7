"""`secmailproxy key settle`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from keystore.model import Fingerprint
from keystore.selection import how_to_settle
from secmailproxy.cli.completing import known
from secmailproxy.cli.context import Passphrase, print_json
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import json_option, opened, store_passphrase
from secmailproxy.errors import UsageError

if TYPE_CHECKING:
    from keystore.keystore import Keystore
    from keystore.settling import Claimant

_ONLY_ONE = "the only one"
"""The value of --take without a fingerprint."""


@click.command(name="settle")
@click.argument("address", shell_complete=known)
@click.option(
    "--take",
    is_flag=False,
    flag_value=_ONLY_ONE,
    metavar="[FINGERPRINT]",
    help="Use this certificate from now on; without a fingerprint, the one that waits.",
)
@click.option("--keep", is_flag=True, help="Go on with the certificate in use.")
@json_option
@store_passphrase
def command(
    address: str, take: str | None, keep: bool, as_json: bool, secrets_passphrase: Passphrase
) -> None:
    """Decide which certificate of an address is right, when another one has come.

    Without an option it shows them. Ask the owner of the address for the fingerprint, by telephone for
    instance, before you take one: anybody can make a certificate with any address.
    """
    if keep and take is not None:
        raise UsageError("Give --take or --keep, not both.")
    now = datetime.now(UTC)
    with opened(secrets_passphrase) as keystore:
        taken = None
        if take is not None:
            taken = _chosen(keystore, address, take, now)
            keystore.settling.take(address, taken, now)
        kept = keystore.settling.keep(address, now) if keep else None
        claimants = keystore.settling.claimants(address, now)
        described = [_described(keystore, one, now) for one in claimants]
        waits = bool(keystore.settling.conflicts(address, now))
    if as_json:
        print_json(
            {"version": text.JSON_VERSION, "address": address, "waits": waits, "certificates": described}
        )
    elif taken is not None:
        click.echo(f"{taken} is used for {address} from now on")
    elif kept is not None:
        click.echo(
            f"nothing has changed for {address}" if kept else f"there is nothing to settle for {address}"
        )
    else:
        click.echo("\n".join(_lines(address, described, waits)))


def _chosen(keystore: Keystore, address: str, take: str, now: datetime) -> Fingerprint:
    if take != _ONLY_ONE:
        return Fingerprint("".join(take.split()).upper().removeprefix("0X"))
    waiting = [
        other.certificate.fingerprint
        for conflict in keystore.settling.conflicts(address, now)
        for other in conflict.others
    ]
    if len(waiting) != 1:
        found = f"{len(waiting)} certificates wait" if waiting else "no certificate waits"
        raise UsageError(f"{found} for {address}; say which one to use: --take FINGERPRINT")
    return waiting[0]


def _described(keystore: Keystore, one: Claimant, now: datetime) -> dict[str, Any]:
    return {
        **text.describe(keystore, one.certificate, now),
        "state": _state(one),
        "since": text.time(one.held.since) if one.held else None,
    }


def _state(one: Claimant) -> str:
    if one.held is None:
        return "in use"
    return "held" if one.held.settled is None else "set aside"


def _lines(address: str, described: list[dict[str, Any]], waits: bool) -> Iterator[str]:
    if not described:
        yield f"there is no certificate for {address}; {text.how_to_get(address)}"
        return
    for one in described:
        since = f" since {one['since'][:10]}" if one["since"] else ""
        yield f"{one['state']}{since}, from {text.plain(one['source'])}:"
        yield f"    {text.spaced(one['fingerprint'])}"
        yield text.short_text(one).partition("\n")[2]
        yield ""
    yield (
        f"Ask the owner of {address} which fingerprint is right, then: "
        f"{how_to_settle(address)} --take FINGERPRINT, or --keep"
        if waits
        else f"there is nothing to settle for {address}"
    )
