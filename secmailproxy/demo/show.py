"""The demonstration on a terminal, or as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from secmailproxy.demo.homes import Proxy
from secmailproxy.demo.steps import Outcome, Stage


def show_opening(console: Console, stage: Stage) -> None:
    """Who takes part."""
    console.print("[bold]secmailproxy demo[/bold]: a mail server, two people, and a proxy for each of them\n")
    for proxy in (stage.alice, stage.bob):
        console.print(f"  {proxy.address}  key {proxy.home.fingerprint}", highlight=False)
    console.print()


def show_outcome(console: Console, outcome: Outcome) -> None:
    """One step, as soon as it is over."""
    yes, no = ("✔", "✘") if console.encoding.startswith("utf") else ("ok", "NO")
    mark = f"[green]{yes}[/green]" if outcome.held else f"[bold red]{no}[/bold red]"
    console.print(f"{mark} [bold]{outcome.title}[/bold]", highlight=False)
    # Text, not markup: what is shown may hold square brackets.
    console.print(Text("  " + outcome.shown.sentence))
    if outcome.shown.exhibit:
        console.print(Panel(Text(outcome.shown.exhibit), border_style="dim", expand=False))


def show_summary(console: Console, outcomes: tuple[Outcome, ...], seconds: float) -> None:
    """The table at the end."""
    table = Table(title="Summary", title_justify="left")
    table.add_column("step")
    table.add_column("held")
    table.add_column("ms", justify="right")
    for outcome in outcomes:
        held = "[green]yes[/green]" if outcome.held else "[bold red]NO[/bold red]"
        table.add_row(outcome.title, held, f"{outcome.seconds * 1000:.0f}")
    console.print()
    console.print(table)
    failed = sum(not one.held for one in outcomes)
    if failed:
        console.print(f"[bold red]{failed} of {len(outcomes)} steps did not hold.[/bold red]")
    else:
        console.print(f"[bold green]All {len(outcomes)} steps held[/bold green] in {seconds:.1f} s.")


def show_settings(console: Console, stage: Stage) -> None:
    """What to type into a real mail client while the servers are kept running."""
    for proxy in (stage.alice, stage.bob):
        table = Table(
            title=f"{proxy.home.person.name}'s mail client", title_justify="left", show_header=False
        )
        for name, value in settings_of(proxy).items():
            table.add_row(name.replace("_", " "), str(value))
        console.print(table)
    console.print("Everything runs until you press Ctrl-C.")


def settings_of(proxy: Proxy) -> dict[str, Any]:
    """The settings of a mail client, ready for JSON."""
    return {
        "address": proxy.address,
        "user_name": proxy.client.username,
        "password": proxy.client.password,
        "imap_server": "127.0.0.1",
        "imap_port": proxy.client.imap_port,
        "smtp_server": "127.0.0.1",
        "smtp_port": proxy.client.submission_port,
        "security": "none (this machine only)",
        "authentication": "normal password",
    }


def as_json(outcomes: tuple[Outcome, ...], seconds: float, kept: Stage | None) -> dict[str, Any]:
    """The whole demonstration as plain values; `settings` while it is kept running."""
    document: dict[str, Any] = {
        "version": 1,
        "held": all(one.held for one in outcomes),
        "seconds": round(seconds, 2),
        "steps": [
            {"name": one.name, "title": one.title, "held": one.held, "text": one.shown.sentence}
            for one in outcomes
        ],
    }
    if kept is not None:
        document["settings"] = [settings_of(one) for one in (kept.alice, kept.bob)]
    return document
