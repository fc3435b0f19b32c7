"""`secmailproxy forward report`: what became of system mail, counted."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta

import click

from keystore.errors import KeystoreError, NotReadable, StoreDamaged
from secmailproxy.cli.context import load_config, open_keystore, passphrase_options, print_json
from secmailproxy.errors import UsageError

_SPAN = re.compile(r"(\d{1,4})([hd])")
_HOURS = {"h": 1, "d": 24}


@click.command("report")
@click.option(
    "--since",
    metavar="WHEN",
    default="7d",
    show_default=True,
    help="Count from then on: 24h, 7d, or a date such as 2026-11-21 (at most 35 days are kept).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@passphrase_options
def command(since: str, as_json: bool, passphrase: Callable[[], str]) -> None:
    """Count what became of system mail: by outcome, rule, host, sender and subject.

    Hosts, senders and subjects are sealed on the disk. While the keystore is locked, only the rest is told.
    """
    from secmailproxy.forward.collected import collected_of
    from secmailproxy.forward.digestmail import local_time
    from secmailproxy.forward.digests import local_zone
    from secmailproxy.forward.journal import journal_of
    from secmailproxy.forward.tally import counted, tables, tally

    config = load_config()
    start = _start(since, datetime.now(UTC))
    with closing(open_keystore(config, passphrase)) as keystore:
        try:
            letterbox = keystore.letterbox()
        except (StoreDamaged, NotReadable):
            raise
        except KeystoreError:  # locked, or without any secrets on this machine
            letterbox = None
        counts = tally(journal_of(config.folders).records(start, letterbox))
        collected = collected_of(config.folders, keystore)
    waiting = {name: len(entries) for name in collected.digests() if (entries := collected.entries(name))}
    if as_json:
        print_json({"since": start.isoformat(timespec="seconds"), **counts.as_json(), "waiting": waiting})
        return
    click.echo(f"System mail since {local_time(start, local_zone(config.forward.time_zone))}\n")
    for line in tables(counts):
        click.echo(line)
    if waiting:
        click.echo("\nCollected, waiting for a digest\n")
        for line in counted(waiting.items()):
            click.echo(line)


def _start(text: str, now: datetime) -> datetime:
    """Raises UsageError for what is neither a span nor a date."""
    if span := _SPAN.fullmatch(text):
        return now - timedelta(hours=int(span[1]) * _HOURS[span[2]])
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone() if moment.tzinfo is None else moment
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"--since {text!r} is no time; write 24h, 7d or 2026-11-21") from None
