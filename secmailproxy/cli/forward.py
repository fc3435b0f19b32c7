"""`secmailproxy forward`: one message from a pipe, encrypted whole, handed on.

The end is 0 when the next hop has the message, and 75 (try later) whatever else happens: a mail program keeps
the message then, and tries again. One line on stderr says why, beginning with a status of class 4, which
Postfix obeys over any exit status.

Standards: sysexits (EX_TEMPFAIL), RFC 3463, Postfix local(8) and pipe(8).
Security: nothing of the message is ever printed. No other way out of this program exists for it than
encrypted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import click

from secmailproxy.cli.context import LateSecrets, Passphrase, load_config, passphrase_options
from secmailproxy.errors import (
    ConfigError,
    LimitExceeded,
    SecMailProxyError,
    UsageError,
)
from secmailproxy.folders import Folders
from secmailproxy.forward.complaint import complaint
from secmailproxy.forward.message import NULL_SENDERS, checked_address, envelope_sender, from_pipe
from secmailproxy.forward.model import Entrance, ForwardSettings, Outlet, SystemMail, Target
from secmailproxy.forward.outlets import outlet_of
from secmailproxy.forward.processing import Desk, desk_of
from secmailproxy.forward.sender import with_sender
from secmailproxy.forward.target import fingerprint_of
from secmailproxy.forward.wake import see_to_delivery

if TYPE_CHECKING:
    from keystore.keystore import Keystore
    from secmailproxy.config import Config
    from secmailproxy.config_accounts import AccountSection
    from secmailproxy.forward.preparing import Before

TRY_LATER = 75


SUBCOMMANDS = {
    "test": "secmailproxy.cli.forwardtest:command",
    "report": "secmailproxy.cli.forwardreport:command",
}
"""Name -> "module:attribute", imported when it is called."""


class Pipe(click.Group):
    """A command that ends with 0 or 75 and one short line; its subcommands end as all others do."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the table."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imported now; None for an unknown name."""
        if cmd_name not in SUBCOMMANDS:
            return None
        module, _, attribute = SUBCOMMANDS[cmd_name].partition(":")
        found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, click.Command)
        return found

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """As click does; wrong options end with 75 too, for a mail program would return the message."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.exceptions.Exit:
            raise
        except click.ClickException as error:
            _give_up(error)

    def invoke(self, ctx: click.Context) -> None:
        """Runs the command and exits; a subcommand ends like all others."""
        try:
            super().invoke(ctx)
        except click.exceptions.Exit:
            raise
        except BaseException as error:
            if ctx.invoked_subcommand:
                raise
            _give_up(error)  # the message must come back to its queue
        if not ctx.invoked_subcommand:
            raise SystemExit(0)


def _give_up(error: BaseException) -> NoReturn:
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        line = "4.3.0 interrupted"
    elif isinstance(error, click.ClickException):
        # The text of click quotes arguments, which a recipe may take from the message.
        param = getattr(error, "param", None)
        wrong = (
            f"--{param.name.replace('_', '-')} is missing or wrong" if param is not None else "wrong options"
        )
        line = f"4.3.0 {wrong}; see: secmailproxy forward --help"
    else:
        line = complaint(error)
    try:
        click.echo(line, err=True)
    finally:
        raise SystemExit(TRY_LATER)  # also when nobody listens on stderr


def way_options(function: Callable[..., None]) -> Callable[..., None]:
    """The options that say whom a message goes to, how, and what its envelope was."""
    options = (
        click.option(
            "--to", metavar="ADDRESS", help="Send it to ADDRESS (default: the only [[forward.targets]])."
        ),
        click.option(
            "--fingerprint", metavar="FPR", help="Encrypt to this certificate (default: the pinned one)."
        ),
        click.option(
            "--via",
            type=click.Choice(["smarthost", "sendmail", "smtp"]),
            help="Hand it to whom (default: forward.via).",
        ),
        click.option("--sendmail", metavar="PATH", help="The sendmail program (default: forward.sendmail)."),
        click.option("--from", "from_", metavar="ADDRESS", help="Sender of the encrypted message."),
        click.option("--account", metavar="ADDRESS", help="The account whose smarthost is used."),
        click.option(
            "--mail-from", metavar="ADDRESS", help="The envelope sender that the message came with."
        ),
        click.option(
            "--rcpt-to",
            metavar="ADDRESS",
            multiple=True,
            help="An envelope recipient that it came for; aliases and targets are chosen by it.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.group(cls=Pipe, name="forward", invoke_without_command=True)
@way_options
@passphrase_options
@click.pass_context
def command(context: click.Context, /, **options: Any) -> None:
    """Encrypt a message from standard input and send it on.

    The whole message, header included, goes inside an encrypted one with a fixed subject. The status is 0
    when the next server or the queue on disk has it, and 75 on anything else; nothing is ever sent in clear.
    """
    import logging

    # Records of libraries must not reach stderr, from where mail programs copy them into bounces.
    logging.getLogger().addHandler(logging.NullHandler())
    if context.invoked_subcommand:
        return
    before = _look()
    config = configuration()
    settings = chosen_settings(config, options)
    octets = sys.stdin.buffer.read(settings.max_octets + 1)
    mail = incoming(octets, settings, options)
    with opened_desk(config, settings, options["passphrase"]) as (desk, keystore):
        desk.process(mail)
        if before is not None and sys.argv[1:2] == ["forward"]:
            _prepare(config, settings, keystore, before)


def incoming(octets: bytes, settings: ForwardSettings, options: Mapping[str, Any]) -> SystemMail:
    """The message as the pipe brings it. Raises LimitExceeded, MalformedMessage."""
    if len(octets) > settings.max_octets:
        raise LimitExceeded("the message is larger than submission.max_octets")
    came_from: str | None = options["mail_from"]
    if came_from is None:
        came_from = envelope_sender(octets)
    elif came_from in NULL_SENDERS:
        came_from = ""
    mail_from = settings.sender if came_from is None else came_from
    return SystemMail(from_pipe(octets), mail_from, tuple(options["rcpt_to"]), Entrance.PIPE)


def _look() -> Before | None:
    """What a plan for the next message depends on; None where there can be none."""
    from secmailproxy.forward.preparing import look

    with suppress(ValueError, SecMailProxyError):
        return look(Folders.of_user())
    return None


def _prepare(config: Config, settings: ForwardSettings, keystore: Keystore, before: Before) -> None:
    """A plan for the next message of this call."""
    from secmailproxy.forward.preparing import prepare

    with suppress(Exception):  # the message is where it should be, whatever becomes of the plan
        prepare(config.folders, sys.argv[2:], settings, keystore, before)


def configuration() -> Config:
    """The one of this user, or its defaults. Raises ConfigError."""
    # Looking for plugins of pydantic costs a pipe a tenth of its time.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from secmailproxy.config import Config

    return load_config() if Folders.of_user().config_file.exists() else Config()


def chosen_settings(config: Config, options: Mapping[str, Any]) -> ForwardSettings:
    """Those of the configuration, and what the options put in their place; addresses are checked.

    Raises ConfigError or UsageError when something is missing or wrong.
    """
    settings = config.forward_settings()
    via = options["via"] or settings.via
    account = "" if via != "smarthost" else _account(config, options["account"] or settings.account).address
    settings = with_sender(
        replace(
            settings,
            via=via,
            sendmail=options["sendmail"] or settings.sendmail,
            account=account,
            sender=options["from_"] or settings.sender,
        )
    )
    checked_address(settings.sender, "--from")
    only = settings.targets[0].address if len(settings.targets) == 1 else ""
    if rcpt_to := options["to"] or settings.to or only:
        target = _target(checked_address(rcpt_to, "--to"), settings, options["fingerprint"])
        others = tuple(one for one in settings.targets if one.address.lower() != rcpt_to.lower())
        settings = replace(settings, targets=(target, *others), to=target.address)
    elif options["fingerprint"]:
        raise UsageError("--fingerprint needs --to, to say whose certificate it is")
    if settings.to and (options["to"] or not options["rcpt_to"]):
        return replace(settings, default=replace(settings.default, rcpt_tos=(settings.to,)))
    return settings


def _target(rcpt_to: str, settings: ForwardSettings, fingerprint: str | None) -> Target:
    known = (one for one in settings.targets if one.address.lower() == rcpt_to.lower())
    target = next(known, Target(rcpt_to, ()))
    return Target(target.address, (fingerprint_of(fingerprint),)) if fingerprint else target


def _account(config: Config, address: str) -> AccountSection:
    if not address:
        if not config.folders.config_file.exists():
            raise ConfigError(
                f"there is no configuration at {config.folders.config_file}; write it, or run this as the "
                "user to whom it belongs, or set SECMAILPROXY_HOME, or use --via sendmail"
            )
        if not config.accounts:
            raise ConfigError(
                'there is no account to send through; set forward.via = "sendmail", or run: '
                "secmailproxy setup"
            )
        raise ConfigError("--via smarthost needs --account, or forward.account in the configuration")
    account = config.account(address)
    if account is None:
        raise ConfigError(f"there is no account {address} in the configuration")
    return account


@contextmanager
def opened_desk(
    config: Config, settings: ForwardSettings, passphrase: Passphrase
) -> Iterator[tuple[Desk, Keystore]]:
    """The desk, and the keystore it works with. Raises KeystoreError."""
    from keystore.keystore import Keystore

    keystore = Keystore.open(config.keystore_settings(), LateSecrets(config, passphrase))
    try:
        yield desk_of(config.folders, settings, keystore, _outlet(config, settings, passphrase)), keystore
    finally:
        # A message that is through must not be brought again because of it.
        with suppress(Exception):
            keystore.close()


def _outlet(config: Config, settings: ForwardSettings, passphrase: Passphrase) -> Outlet:
    spool = config.folders.spool
    file = passphrase.file
    options = ["--passphrase-file", str(file.absolute())] if file is not None else []
    return outlet_of(settings, spool, partial(see_to_delivery, spool, options))
