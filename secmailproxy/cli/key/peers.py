"""`secmailproxy key peers`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from keystore.model import Scheme
from keystore.selection import how_to_settle
from secmailproxy.cli.completing import known
from secmailproxy.cli.context import Passphrase, print_json
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import NotFound, json_option, opened, store_passphrase

if TYPE_CHECKING:
    from keystore.keystore import Keystore
    from keystore.peers import Peer

_NOBODY = "There are no correspondents yet: they are noted as protected mail is read, and as mail is sent."


@click.command(name="peers")
@click.argument("query", shell_complete=known, nargs=-1)
@json_option
@store_passphrase
def command(query: tuple[str, ...], as_json: bool, secrets_passphrase: Passphrase) -> None:
    """List your correspondents, and what was seen of them; last seen first.

    The address book writes itself, from protected mail that is read and all mail that is sent.
    """
    now = datetime.now(UTC)
    with opened(secrets_passphrase) as keystore:
        described = [_described(keystore, one, now) for one in keystore.peers.search(" ".join(query))]
    if query and not described:
        raise NotFound(f"No correspondent matches {' '.join(query)!r}.")
    if as_json:
        print_json({"version": text.JSON_VERSION, "peers": described})
    else:
        click.echo("\n\n".join("\n".join(_lines(one)) for one in described) or _NOBODY)


def _described(keystore: Keystore, peer: Peer, now: datetime) -> dict[str, Any]:
    used = {scheme: keystore.select(peer.address, now, scheme=scheme) for scheme in Scheme}
    return {
        "address": peer.address,
        "first_seen": text.time(peer.first_seen),
        "last_seen": text.time(peer.last_seen),
        "count": peer.count,
        "written": text.time(peer.written) if peer.written else None,
        "encrypted": text.time(peer.encrypted) if peer.encrypted else None,
        "signer": peer.signer,
        "certificates": [
            {"scheme": scheme.value, "fingerprint": one.fingerprint, "trust": one.trust.value}
            for scheme, selection in used.items()
            for one in selection.certificates
        ],
        "conflict": keystore.settling.is_waiting(peer.address),
    }


def _lines(described: dict[str, Any]) -> Iterator[str]:
    yield text.plain(described["address"])
    messages = "1 message" if described["count"] == 1 else f"{described['count']} messages"
    first, last = described["first_seen"][:10], described["last_seen"][:10]
    yield f"    {messages}, first seen {first}, last seen {last}"
    details = [
        f"{name} {described[field][:10]}"
        for name, field in (("last written to", "written"), ("last encrypted from there", "encrypted"))
        if described[field]
    ]
    if details:
        yield f"    {', '.join(details)}"
    for one in described["certificates"]:
        yield f"    {text.scheme_name(Scheme(one['scheme']))} {one['fingerprint']}, {one['trust']}"
    if not described["certificates"]:
        yield "    no certificate to encrypt to"
    if described["conflict"]:
        yield f"    another certificate than before waits: {how_to_settle(described['address'])}"
