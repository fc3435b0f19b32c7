"""The command line. Each command lives in a file of its own and is imported when it is called.

The table below is all that `secmailproxy` knows at start, so that pipe commands such as `forward` start fast
and a command that is not called costs nothing. Errors become text and an exit status in `context`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import click

from secmailproxy import __version__
from secmailproxy.cli.context import friendly_errors

COMMANDS: dict[str, tuple[str, str]] = {
    "setup": ("secmailproxy.cli.setup:command", "Set up an account: servers, password, key."),
    "serve": ("secmailproxy.cli.serve:command", "Serve the mail clients of this machine."),
    "status": ("secmailproxy.cli.status:command", "Say whether it runs, what was verified, what waits."),
    "doctor": ("secmailproxy.cli.doctor:command", "Check everything that the proxy needs to work."),
    "config": ("secmailproxy.cli.config:command", "Look at the configuration."),
    "certificate": ("secmailproxy.cli.certificate:command", "TLS between mail clients and the proxy."),
    "key": ("secmailproxy.cli.key:command", "Keys and certificates."),
    "policy": ("secmailproxy.cli.policy:command", "See how mail would be protected, and why."),
    "message": ("secmailproxy.cli.message:command", "Protect, open or inspect one message."),
    "mailbox": ("secmailproxy.cli.mailbox:command", "Encrypt a mailbox at its server, or undo that."),
    "sendmail": ("secmailproxy.cli.sendmail:command", "Do as /usr/sbin/sendmail does, encrypted."),
    "forward": ("secmailproxy.cli.forward:command", "Encrypt a message from a pipe and send it on."),
    "queue": ("secmailproxy.cli.queue:command", "Encrypted system mail that waits to be delivered."),
    "demo": ("secmailproxy.cli.demo:command", "Show the proxy at work, without a mail account."),
}
"""Command -> ("module:attribute", the line that --help shows)."""


class Program(click.Group):
    """A group that imports a command only when it runs, and shows every error as one line of text."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of the table, which is the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is no click command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, naming the nearest command when there is none of that name."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in COMMANDS:
            ctx.fail(f"There is no command {name!r}.{_nearest(name)} The commands: {', '.join(COMMANDS)}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands from the table, so that --help imports none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def main(  # type: ignore[override]  # click overloads the return type by standalone_mode, a flag we do not offer
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> None:
        """Run and exit the process (SystemExit). No exception of any kind leaves as a traceback."""
        extra.pop("standalone_mode", None)
        with friendly_errors(exits=True):
            # Outside its standalone mode click returns the status of `Context.exit`.
            status = super().main(
                list(args) if args is not None else None,
                prog_name or "secmailproxy",
                standalone_mode=False,
                **extra,
            )
            if isinstance(status, int) and status:
                raise SystemExit(status)


def _nearest(name: str) -> str:
    from difflib import get_close_matches  # only wanted after a typing error

    near = get_close_matches(name, COMMANDS, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


@click.command(cls=Program, name="secmailproxy", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="secmailproxy")
def program() -> None:
    """Point any mail client at localhost, and your mail is secure.

    Start with `secmailproxy demo` to see it work, or `secmailproxy setup you@your.domain`.
    Settings are kept in a configuration file; `secmailproxy config path` says where.
    """
