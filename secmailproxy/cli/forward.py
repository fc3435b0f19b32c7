"""`secmailproxy forward`: one message from a pipe, encrypted whole, handed on.

The end is 0 when the next hop has the message, and 75 (try later) whatever else happens: a mail program keeps
the message then, and tries again. One line on stderr says why, beginning with a status of class 4, which
Postfix obeys over any exit status.

Standards: sysexits (EX_TEMPFAIL), RFC 3463, Postfix local(8) and pipe(8).
Security: nothing of the message is ever printed. No other way out of this program exists for it than
encrypted.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import click

from keystore.errors import KeystoreError, StoreLocked
from secmailproxy.cli.context import LateSecrets, Passphrase, load_config, passphrase_options
from secmailproxy.errors import (
    ConfigError,
    LimitExceeded,
    SecMailProxyError,
    UsageError,
)
from secmailproxy.folders import Folders
from secmailproxy.forward.message import checked_address, from_pipe, has_null_sender
from secmailproxy.forward.model import Entrance, ForwardSettings, Outlet, SystemMail, Target
from secmailproxy.forward.outlets import outlet_of
from secmailproxy.forward.processing import Desk
from secmailproxy.forward.seals import KeystoreSeals
from secmailproxy.forward.target import fingerprint_of
from secmailproxy.forward.wake import see_to_delivery

if TYPE_CHECKING:
    from secmailproxy.config import AccountSection, Config
    from secmailproxy.forward.preparing import Before

TRY_LATER = 75
_CRYPTO_STATUSES = frozenset({"5.7.5", "4.7.5"})


class PipeCommand(click.Command):
    """A command that ends with 0 or 75 and one short line, whatever happens."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """As click does; wrong options end with 75 too, for a mail program would return the message."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.exceptions.Exit:
            raise
        except click.ClickException as error:
            # The text of click quotes arguments, which a recipe may take from the message.
            param = getattr(error, "param", None)
            wrong = f"--{param.name} is missing or wrong" if param is not None else "wrong options"
            _give_up(UsageError(f"{wrong}; see: secmailproxy forward --help"))

    def invoke(self, ctx: click.Context) -> None:
        """Runs the command and exits."""
        try:
            super().invoke(ctx)
        except click.exceptions.Exit:
            raise
        except BaseException as error:  # noqa: BLE001  # the message must come back to its queue
            _give_up(error)
        raise SystemExit(0)


def _give_up(error: BaseException) -> NoReturn:
    status, text = "4.3.0", f"internal error ({type(error).__name__})"
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        text = "interrupted"
    elif isinstance(error, OSError) and error.strerror:
        text = f"cannot read or write: {error.strerror}"
    elif isinstance(error, KeystoreError):
        status, text = "4.7.5" if isinstance(error, StoreLocked) else status, " ".join(str(error).split())
    elif isinstance(error, SecMailProxyError):
        status, text = "4.7.5" if error.enhanced_status in _CRYPTO_STATUSES else status, error.text
    try:
        click.echo(f"{status} {text}", err=True)
    finally:
        raise SystemExit(TRY_LATER)  # also when nobody listens on stderr


@click.command(cls=PipeCommand, name="forward")
@click.option("--to", metavar="ADDRESS", help="Send it to ADDRESS (default: the only [[forward.targets]]).")
@click.option("--fingerprint", metavar="FPR", help="Encrypt to this certificate (default: the pinned one).")
@click.option(
    "--via",
    type=click.Choice(["smarthost", "sendmail", "smtp"]),
    help="Hand it to whom (default: forward.via).",
)
@click.option("--sendmail", metavar="PATH", help="The sendmail program (default: forward.sendmail).")
@click.option("--from", "from_", metavar="ADDRESS", help="Sender of the encrypted message.")
@click.option("--account", metavar="ADDRESS", help="The account whose smarthost is used.")
@passphrase_options
def command(**options: Any) -> None:
    """Encrypt a message from standard input and send it on.

    The whole message, header included, goes inside an encrypted one with a fixed subject. The status is 0
    when the next server or the queue on disk has it, and 75 on anything else; nothing is ever sent in clear.
    """
    import logging

    # Records of libraries must not reach stderr, from where mail programs copy them into bounces.
    logging.getLogger().addHandler(logging.NullHandler())
    before = _look()
    config = _config()
    settings = _settings(config, options)
    octets = sys.stdin.buffer.read(settings.max_octets + 1)
    if len(octets) > settings.max_octets:
        raise LimitExceeded("the message is larger than submission.max_octets")
    message = from_pipe(octets)
    mail = SystemMail(message, "" if has_null_sender(message) else settings.sender, (), Entrance.PIPE)
    _process(config, settings, options["passphrase"], mail, before)


def _look() -> Before | None:
    """What a plan for the next message depends on; None where there can be none."""
    from secmailproxy.forward.preparing import look

    with suppress(ValueError, SecMailProxyError):
        return look(Folders.of_user())
    return None


def _config() -> Config:
    # Looking for plugins of pydantic costs a pipe a tenth of its time.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from secmailproxy.config import Config

    return load_config() if Folders.of_user().config_file.exists() else Config()


def _settings(config: Config, options: dict[str, Any]) -> ForwardSettings:
    """Those of the configuration, and what the options put in their place; addresses are checked.

    Raises ConfigError or UsageError when something is missing or wrong.
    """
    chosen = config.forward_settings()
    rcpt_to = options["to"] or (chosen.targets[0].address if len(chosen.targets) == 1 else "")
    if not rcpt_to:
        raise UsageError("the recipient is not known: use --to, or have exactly one [[forward.targets]]")
    rcpt_to = checked_address(rcpt_to, "--to")
    target = Target(rcpt_to, ())
    target = next((one for one in chosen.targets if one.address.lower() == rcpt_to.lower()), target)
    if options["fingerprint"]:
        target = Target(target.address, (fingerprint_of(options["fingerprint"]),))
    others = tuple(one for one in chosen.targets if one.address.lower() != rcpt_to.lower())
    via = options["via"] or chosen.via
    account = "" if via != "smarthost" else _account(config, options["account"] or chosen.account).address
    return replace(
        chosen,
        targets=(target, *others),
        default=replace(chosen.default, rcpt_tos=(target.address,)),
        via=via,
        sendmail=options["sendmail"] or chosen.sendmail,
        account=account,
        sender=checked_address(options["from_"] or chosen.sender or account or _local_sender(), "--from"),
    )


def _account(config: Config, address: str) -> AccountSection:
    if not address:
        if not config.accounts:
            raise ConfigError(
                "there is no account to send through; use --via sendmail, or run: secmailproxy setup"
            )
        raise ConfigError("--via smarthost needs --account, or forward.account in the configuration")
    account = config.account(address)
    if account is None:
        raise ConfigError(f"there is no account {address} in the configuration")
    return account


def _local_sender() -> str:
    """The user who runs this, at this machine: a fixed local address for bounces."""
    import getpass
    import socket

    return f"{getpass.getuser()}@{socket.getfqdn()}"


def _process(
    config: Config, settings: ForwardSettings, passphrase: Passphrase, mail: SystemMail, before: Before | None
) -> None:
    from keystore.keystore import Keystore
    from secmailproxy.forward.preparing import prepare

    keystore = Keystore.open(config.keystore_settings(), LateSecrets(config, passphrase))
    try:
        Desk(settings, KeystoreSeals(keystore, settings), _outlet(config, settings, passphrase)).process(mail)
        if before is not None and sys.argv[1:2] == ["forward"]:
            with suppress(Exception):  # the message is where it should be, whatever becomes of the plan
                prepare(config.folders, sys.argv[2:], settings, keystore, before)
    finally:
        keystore.close()


def _outlet(config: Config, settings: ForwardSettings, passphrase: Passphrase) -> Outlet:
    spool = config.folders.spool
    file = passphrase.file
    options = ["--passphrase-file", str(file.absolute())] if file is not None else []
    return outlet_of(settings, spool, partial(see_to_delivery, spool, options))
