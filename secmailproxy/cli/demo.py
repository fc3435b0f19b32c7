"""`secmailproxy demo`: see the proxy at work, without a mail account and without a network."""

from __future__ import annotations

import asyncio
import logging
import os

import click

from secmailproxy.cli.context import print_json
from secmailproxy.errors import UsageError

_EXTRA = ("pymap", "proxyprotocol", "pysasl")


@click.command("demo")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON, and nothing else.")
@click.option("--keep", is_flag=True, help="Leave all running and print the settings for a mail client.")
def command(*, as_json: bool, keep: bool) -> None:
    """Show the proxy at work: a mail server, two people with keys, and a proxy for each, on this machine.

    Alice sends, the server stores ciphertext, Bob reads; then tampered, plain, refused and system mail. Ends
    with 0 only when every step held. Nothing is left behind.
    """
    try:
        from secmailproxy.demo import show
        from secmailproxy.demo.run import run_demo
        from secmailproxy.demo.steps import Outcome, Stage
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise UsageError(
            "The demo needs pymap, an IMAP server in Python. In the clone run: pip install '.[demo]'"
        ) from None
    from rich.console import Console

    _quieten()
    console = Console(quiet=as_json, soft_wrap=False)

    def closing(stage: Stage, outcomes: tuple[Outcome, ...], seconds: float) -> None:
        if as_json:
            print_json(show.as_json(outcomes, seconds, stage if keep else None))
        show.show_summary(console, outcomes, seconds)
        if keep:
            show.show_settings(console, stage)

    held = asyncio.run(
        run_demo(
            lambda stage: show.show_opening(console, stage),
            lambda outcome: show.show_outcome(console, outcome),
            closing,
            keep=keep,
        )
    )
    if not held:
        raise SystemExit(1)


def _quieten() -> None:
    """Keep the servers' own chatter out of the story; SECMAILPROXY_DEBUG=1 brings it back."""
    if not os.environ.get("SECMAILPROXY_DEBUG"):
        logging.getLogger().addHandler(logging.NullHandler())
