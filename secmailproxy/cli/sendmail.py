"""`secmailproxy sendmail`, and the same program under the names sendmail and mailq.

A drop-in for /usr/sbin/sendmail on machines without a mail server. What programs of the machine send comes to
the same desk as everything else, in one of two ways:

    own configuration     the user who calls has [[forward.targets]]: the message is processed here
    no such thing         the message goes to the socket of the proxy that runs for all users of the machine

The end is 0 when the message cannot be lost any more; else a status of sysexits and one line on stderr.

Standards: Postfix sendmail(1), sysexits, Filesystem Hierarchy Standard (/usr/sbin/sendmail), LSB sendmail.
Security: nothing of the message is ever printed; arguments are never shown again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from keystore.errors import KeystoreError
from secmailproxy.errors import ConfigError, LimitExceeded, SecMailProxyError, UsageError
from secmailproxy.folders import HOME_VARIABLE, Folders
from secmailproxy.forward.model import Entrance, SystemMail
from secmailproxy.forward.sender import mail_name
from secmailproxy.forward.sendmailinput import Missing, collected, completed, header_recipients
from secmailproxy.forward.sendmailoptions import CommandLine, Mode, command_line

if TYPE_CHECKING:
    from secmailproxy.config import Config
    from secmailproxy.model import Envelope, Reply

SOCKET_VARIABLE = "SECMAILPROXY_SOCKET"
SOCKET = "/run/secmailproxy/sendmail"
"""Where the proxy of the machine listens for everybody (`forward.listen.smtp`)."""
TRY_LATER = 75
MAX_OCTETS = 50 * 1024 * 1024
"""Where no configuration of one's own says how much is too much."""
_PIECE = 65536


@click.command(
    "sendmail",
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Take a message as /usr/sbin/sendmail does, encrypt it and send it on.

    ARGUMENTS are those of sendmail: recipients, and options such as -t, -i, -f SENDER, -F NAME, -bs, -bp, -q.
    """
    run("sendmail", arguments)


def run(program: str, arguments: Sequence[str]) -> NoReturn:
    """Do what `arguments` ask of the program called `program`, and exit."""
    try:
        line = command_line(program, arguments)
        match line.mode:
            case Mode.DELIVER:
                _deliver(line)
            case Mode.SMTP:
                _speak_smtp()
            case Mode.LIST:
                _queue("list")
            case Mode.FLUSH:
                _queue("flush", *([line.queue_id] if line.queue_id else []))
            case Mode.NOTHING:
                pass
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001  # the caller must learn that the message is still theirs
        _give_up(error)
    raise SystemExit(0)


def _give_up(error: BaseException) -> NoReturn:
    text, status = f"internal error ({type(error).__name__})", TRY_LATER
    if isinstance(error, KeyboardInterrupt):
        text = "interrupted"
    elif isinstance(error, OSError) and error.strerror:
        text = f"cannot read or write: {error.strerror}"
    elif isinstance(error, KeystoreError):
        text = " ".join(str(error).split())
    elif isinstance(error, SecMailProxyError):
        text, status = error.text, error.exit_status
    try:
        click.echo(f"sendmail: {text}", err=True)
    finally:
        raise SystemExit(status)  # also when nobody listens on stderr


def _queue(*words: str) -> NoReturn:
    from secmailproxy.cli import program

    program.main(["queue", *words])
    raise SystemExit(0)


def _deliver(line: CommandLine) -> None:
    desk = _Desk()
    octets = sys.stdin.buffer.read(desk.max_octets + 1)
    if len(octets) > desk.max_octets:
        raise LimitExceeded(f"the message has more than {desk.max_octets} octets")
    message = collected(octets, ends_at_dot=line.ends_at_dot)
    rcpt_tos = (*line.rcpt_tos, *(header_recipients(message) if line.from_header else ()))
    if not rcpt_tos:
        raise UsageError("To, Cc and Bcc name no recipient")
    mail_from = _sender(line.sender)
    whole = completed(message, _missing(mail_from, line.full_name or _full_name(mail_from)))
    desk.process(SystemMail(whole, mail_from, tuple(dict.fromkeys(rcpt_tos)), Entrance.SENDMAIL))


def _sender(given: str | None) -> str:
    """The envelope sender with a domain; "" stays the null sender."""
    name = _user() if given is None else given
    return f"{name}@{mail_name()}" if name and "@" not in name else name


def _missing(mail_from: str, full_name: str) -> Missing:
    host = mail_name()
    return Missing(
        author=mail_from or f"MAILER-DAEMON@{host}",
        full_name=full_name,
        date=datetime.now().astimezone(),
        message_id=f"<{os.urandom(12).hex()}@{host}>",
    )


def _user() -> str:
    """Who calls, whatever the environment says."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid{os.getuid()}"


def _full_name(mail_from: str) -> str:
    """What NAME or the password file calls the user; of the null sender there is none."""
    import pwd

    if not mail_from:
        return ""
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        return os.environ.get("NAME", "")
    own = entry.pw_gecos.partition(",")[0].replace("&", entry.pw_name.capitalize())
    return os.environ.get("NAME", own)


class _Desk:
    """Where the message goes: the user's own configuration, else the socket of the machine's proxy."""

    def __init__(self) -> None:
        """Raises ConfigError when there is neither."""
        self._config = _own_config()
        self._socket = "" if self._config else _socket()
        self.max_octets = self._config.submission.max_octets if self._config else MAX_OCTETS

    def process(self, mail: SystemMail) -> None:
        """Returns when the message cannot be lost any more. Raises as `Desk.process`."""
        if self._config is not None:
            _process(self._config, mail)
            return
        from secmailproxy.model import Envelope
        from secmailproxy.smtp.handing import hand_over

        hand_over(self._socket, Envelope(mail.mail_from, mail.rcpt_tos), mail.octets)


def _own_config() -> Config | None:
    """The configuration of the user who calls, if it says where system mail goes."""
    # Looking for plugins of pydantic costs a pipe a tenth of its time.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    folders = _own_folders()
    if not os.access(folders.config_file, os.R_OK):
        # It may be that of the machine, which others cannot read: then its socket is for them.
        return None
    from secmailproxy.config import Config

    config = Config.load(folders)
    return config if config.forward.targets else None


def _own_folders() -> Folders:
    """Those of the user who calls, also where HOME names another folder: sudo has its mailer run with "/"."""
    import pwd

    folders = Folders.of_user()
    if HOME_VARIABLE not in os.environ and not os.path.lexists(folders.config_file):
        with suppress(KeyError):
            os.environ["HOME"] = pwd.getpwuid(os.getuid()).pw_dir
            return Folders.of_user()
    return folders


def _socket() -> str:
    path = os.environ.get(SOCKET_VARIABLE) or SOCKET
    if not Path(path).exists():
        raise ConfigError(
            f"{_user()} has no configuration with [[forward.targets]], and nobody listens at {path}; "
            "start the service (secmailproxy serve), or write a configuration: docs/system-mail-debian.md"
        )
    return path


def _process(config: Config, mail: SystemMail) -> None:
    import logging

    from secmailproxy.cli.context import Passphrase
    from secmailproxy.cli.forward import opened_desk
    from secmailproxy.forward.sender import with_sender

    # Records of libraries must not reach stderr, which programs show or mail.
    logging.getLogger().addHandler(logging.NullHandler())
    with opened_desk(config, with_sender(config.forward_settings()), Passphrase()) as (desk, _):
        desk.process(mail)


def _speak_smtp() -> None:
    from secmailproxy.smtp.standalone import StandAlone

    desk = _Desk()
    session = StandAlone(
        mail_name(), lambda octets, envelope: _reply(desk, octets, envelope), desk.max_octets
    )
    out, octets = session.greeting(), b""
    while True:
        sys.stdout.buffer.write(out)
        sys.stdout.buffer.flush()
        if session.is_over or not (octets := os.read(0, _PIECE)):
            return
        out = session.receive(octets)


def _reply(desk: _Desk, octets: bytes, envelope: Envelope) -> Reply:
    """What becomes of one message of a session."""
    from secmailproxy.model import Reply
    from secmailproxy.smtp.replies import reply_for

    try:
        mail_from = _sender(envelope.mail_from)
        whole = completed(octets, _missing(mail_from, _full_name(mail_from)))
        desk.process(SystemMail(whole, mail_from, envelope.rcpt_tos, Entrance.SENDMAIL))
        return Reply(250, "2.0.0 taken")
    except Exception as error:  # noqa: BLE001  # every message has a reply, without the text of strangers
        return reply_for(error, f"{os.getpid()}")
