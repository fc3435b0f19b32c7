"""`secmailproxy forward`: one message from a pipe, encrypted whole, handed on.

The end is 0 when the next hop has the message, and 75 (try later) whatever else happens: a mail program keeps
the message then, and tries again. One line on stderr says why, beginning with a status of class 4, which
Postfix obeys over any exit status.

Standards: sysexits (EX_TEMPFAIL), RFC 3463, Postfix local(8) and pipe(8).
Security: nothing of the message is ever printed. No other way out of this program exists for it than
encrypted.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from keystore.errors import KeystoreError, StoreLocked
from secmailproxy.cli.context import LateSecrets, load_config, passphrase_options
from secmailproxy.errors import (
    ConfigError,
    LimitExceeded,
    SecMailProxyError,
    UpstreamUnavailable,
    UsageError,
)
from secmailproxy.folders import Folders
from secmailproxy.forward.handover import by_sendmail
from secmailproxy.forward.message import checked_address, from_pipe, has_null_sender, refuse_loop
from secmailproxy.forward.target import fingerprint_of, pinned

if TYPE_CHECKING:
    from keystore.model import Fingerprint
    from secmailproxy.config import AccountSection, Config

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


@dataclass(frozen=True, slots=True)
class Job:
    """What the options and the configuration ask for; addresses are checked."""

    config: Config
    rcpt_to: str
    fingerprints: tuple[Fingerprint, ...]
    mail_from: str
    sendmail: Path | None
    """The program to hand over to; None for the smarthost of `account`."""
    account: AccountSection | None
    mark: str


@click.command(cls=PipeCommand, name="forward")
@click.option("--to", metavar="ADDRESS", help="Send it to ADDRESS (default: the only [[forward.targets]]).")
@click.option("--fingerprint", metavar="FPR", help="Encrypt to this certificate (default: the pinned one).")
@click.option(
    "--via", type=click.Choice(["smarthost", "sendmail"]), help="Hand it to whom (default: forward.via)."
)
@click.option("--sendmail", metavar="PATH", help="The sendmail program (default: forward.sendmail).")
@click.option("--from", "from_", metavar="ADDRESS", help="Sender of the encrypted message.")
@click.option("--account", metavar="ADDRESS", help="The account whose smarthost is used.")
@passphrase_options
def command(**options: Any) -> None:
    """Encrypt a message from standard input and send it on.

    The whole message, header included, goes inside an encrypted one with a fixed subject. The status is 0
    when it was accepted by the next server, and 75 on anything else; nothing is ever sent in clear.
    """
    import logging

    # Records of libraries must not reach stderr, from where mail programs copy them into bounces.
    logging.getLogger().addHandler(logging.NullHandler())
    job = _job(options)
    octets = sys.stdin.buffer.read(job.config.submission.max_octets + 1)
    if len(octets) > job.config.submission.max_octets:
        raise LimitExceeded("the message is larger than submission.max_octets")
    asyncio.run(_forward(job, LateSecrets(job.config, options["passphrase"]), octets))


def _job(options: dict[str, Any]) -> Job:
    """Raises ConfigError or UsageError when something is missing or wrong."""
    # Looking for plugins of pydantic costs a pipe a tenth of its time.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from secmailproxy.config import Config

    config = load_config() if Folders.of_user().config_file.exists() else Config()
    chosen = config.forward
    targets = {one.address.lower(): one.address for one in chosen.targets}
    rcpt_to = options["to"] or (next(iter(targets.values())) if len(targets) == 1 else "")
    if not rcpt_to:
        raise UsageError("the recipient is not known: use --to, or have exactly one [[forward.targets]]")
    fingerprints = [one.fingerprint for one in chosen.targets if one.address.lower() == rcpt_to.lower()]
    if options["fingerprint"]:
        fingerprints = [options["fingerprint"]]
    by_sendmail = (options["via"] or chosen.via) == "sendmail"
    account = None if by_sendmail else _account(config, options["account"] or chosen.account)
    sender = options["from_"] or chosen.sender or (account.address if account else "")
    return Job(
        config=config,
        rcpt_to=checked_address(rcpt_to, "--to"),
        fingerprints=tuple(map(fingerprint_of, fingerprints)),
        mail_from=checked_address(sender or _local_sender(), "--from"),
        sendmail=Path(options["sendmail"] or chosen.sendmail) if by_sendmail else None,
        account=account,
        mark=_mark(config),
    )


def _account(config: Config, address: str | None) -> AccountSection:
    if address is None:
        if len(config.accounts) == 1:
            return config.accounts[0]
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


def _mark(config: Config) -> str:
    """What this installation writes into the loop field: stable, and telling nobody anything."""
    import hashlib

    token = config.folders.verdict_token()
    return "secmailproxy-" + hashlib.sha256(b"forward loop mark\0" + token.encode()).hexdigest()[:20]


async def _forward(job: Job, secrets: LateSecrets, octets: bytes) -> None:
    from keystore.keystore import Keystore
    from secmailproxy.outbound import Outbound, OutboundSettings

    message = from_pipe(octets)
    refuse_loop(message, job.rcpt_to, job.mark)
    keystore = Keystore.open(job.config.keystore_settings(), secrets)
    try:
        fingerprint = pinned(keystore, job.rcpt_to, job.fingerprints, datetime.now(UTC))
        protected = await Outbound(keystore, OutboundSettings()).protect_system(
            message, job.rcpt_to, fingerprint, job.mail_from, loop=job.mark
        )
    finally:
        keystore.close()
    if job.sendmail is not None:
        mail_from = "" if has_null_sender(message) else job.mail_from
        await asyncio.to_thread(by_sendmail, job.sendmail, mail_from, job.rcpt_to, protected)
    else:
        await _submit(job, secrets, protected)


async def _submit(job: Job, secrets: LateSecrets, octets: bytes) -> None:
    """To the account's smarthost, with its stored password. A submission server wants its user as sender."""
    from secmailproxy.accounts import password_secret
    from secmailproxy.model import Envelope
    from secmailproxy.outbound import Copy
    from secmailproxy.smtp.delivery import deliver
    from secmailproxy.smtp.smarthost import Credentials, Smarthost

    assert job.account is not None
    password = await asyncio.to_thread(secrets.get, password_secret(job.account.address))
    if password is None:
        raise ConfigError(f"no password is stored for {job.account.address}; run: secmailproxy setup")
    smarthost = Smarthost(job.config.smarthost_settings(job.account))
    try:
        envelope = Envelope(job.mail_from, (job.rcpt_to,))
        credentials = Credentials(job.account.smtp_username, password)
        reply = await deliver(smarthost, credentials, envelope, (Copy(envelope.rcpt_tos, octets),))
    finally:
        await smarthost.close()
    if not reply.positive:
        raise UpstreamUnavailable(f"{job.account.smtp.host} refused the message with {reply.code}")
