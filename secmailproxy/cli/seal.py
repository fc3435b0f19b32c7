"""`secmailproxy message seal`: what the proxy does to a message on its way out, offline."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from datetime import UTC, datetime

import click

from keystore.model import Scheme
from secmailproxy.cli.context import (
    Passphrase,
    load_config_or_defaults,
    open_keystore,
    passphrase_options,
    read_input,
)
from secmailproxy.forward.message import checked_address, from_pipe
from secmailproxy.mime.assemble import Made, made
from secmailproxy.mime.entity import parse
from secmailproxy.model import Envelope
from secmailproxy.outbound import Outbound
from secmailproxy.rules import Protect, Rule, normal_address


@click.command(name="seal")
@click.argument("file", default="-", metavar="[FILE|-]")
@click.option("--from", "from_", required=True, metavar="ADDRESS", help="The sender; signs with its key.")
@click.option("--to", multiple=True, required=True, metavar="ADDRESS", help="A recipient; may be repeated.")
@click.option(
    "--protect",
    "--rule",
    "protect",
    type=click.Choice([one.value for one in Protect]),
    help="Do this instead of what the rules of the configuration say.",
)
@passphrase_options
def command(file: str, from_: str, to: tuple[str, ...], protect: str | None, passphrase: Passphrase) -> None:
    """Write the message as it would be submitted: signed, or signed and encrypted.

    All recipients are named ones; Bcc fields are removed. Line ends are CRLF, those of mail. Where neither is
    possible or wanted, the message is written in clear, as the proxy would send it, and stderr says so.
    """
    message = from_pipe(read_input(file))
    config = load_config_or_defaults(passphrase)
    settings = config.outbound_settings()
    if protect is not None:
        settings = replace(settings, rules=(Rule(protect=Protect(protect)),))
    envelope = Envelope(
        checked_address(from_, "--from"), tuple(dict.fromkeys(checked_address(one, "--to") for one in to))
    )
    keystore = open_keystore(config, passphrase)
    try:
        outbound, account = Outbound(keystore, settings), config.account_of(envelope.mail_from)
        named = frozenset(map(normal_address, envelope.rcpt_tos))
        (copy,) = asyncio.run(outbound.protect(envelope, message, account=account, named=named))
        now = datetime.now(UTC)
        is_own = any(keystore.identity(envelope.mail_from, now, scheme=scheme) for scheme in Scheme)
    finally:
        keystore.close()
    if made(parse(copy.octets)) is Made.NOTHING and made(parse(message)) is Made.NOTHING:
        why = "a rule or wish says so" if is_own else f"there is no usable key for {envelope.mail_from}"
        click.echo(f"secmailproxy: the message is in clear: {why}", err=True)
    sys.stdout.buffer.write(copy.octets)
    sys.stdout.buffer.flush()
