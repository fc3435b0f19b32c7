"""The command line. Each command lives in a file of its own and is imported when it is called.

The table below is all that `secmailproxy` knows at start, so that pipe commands such as `forward` start fast
and a command that is not called costs nothing. Errors become text and an exit status in `context`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from secmailproxy import __version__
from secmailproxy.cli.context import friendly_errors
from secmailproxy.cli.lazy import LazyGroup

COMMANDS: dict[str, tuple[str, str]] = {
    "setup": ("secmailproxy.cli.setup:command", "Set up an account: servers, password, key."),
    "serve": ("secmailproxy.cli.serve:command", "Serve the mail clients of this machine."),
    "status": ("secmailproxy.cli.status:command", "Say whether it runs, what was verified, what waits."),
    "doctor": ("secmailproxy.cli.doctor:command", "Check everything that the proxy needs to work."),
    "config": ("secmailproxy.cli.config:command", "Look at the configuration."),
    "certificate": ("secmailproxy.cli.certificate:command", "TLS between mail clients and the proxy."),
    "passphrase": ("secmailproxy.cli.passphrase:command", "Change the passphrase of the secrets file."),
    "key": ("secmailproxy.cli.key:command", "Keys and certificates."),
    "store": ("secmailproxy.cli.store:command", "Files or a server that several installations share."),
    "policy": ("secmailproxy.cli.policy:command", "See how mail would be protected, and why."),
    "message": ("secmailproxy.cli.message:command", "Protect, open or inspect one message."),
    "mailbox": ("secmailproxy.cli.mailbox:command", "Encrypt a mailbox at its server, or undo that."),
    "sendmail": ("secmailproxy.cli.sendmail:command", "Do as /usr/sbin/sendmail does, encrypted."),
    "forward": ("secmailproxy.cli.forward:command", "Encrypt a message from a pipe and send it on."),
    "queue": ("secmailproxy.cli.queue:command", "Encrypted system mail that waits to be delivered."),
    "completion": ("secmailproxy.cli.completion:command", "Print what makes a shell complete words."),
    "man": ("secmailproxy.cli.manual:command", "Write the manual pages into a folder."),
    "demo": ("secmailproxy.cli.demo:command", "Show the proxy at work, without a mail account."),
}
"""Command -> ("module:attribute", the line that --help shows)."""


class Program(LazyGroup):
    """The whole program; it shows every error as one line of text."""

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


@click.command(
    cls=Program, name="secmailproxy", table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="secmailproxy")
def program() -> None:
    """Point any mail client at localhost, and your mail is secure.

    Start with `secmailproxy demo` to see it work, or `secmailproxy setup you@your.domain`.
    Settings are kept in a configuration file; `secmailproxy config path` says where.
    """
