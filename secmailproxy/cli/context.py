"""What the commands share: configuration, keystore, passphrases, JSON, and errors as text.

Security: passphrases come from a prompt, a file or a file descriptor, never from an argument, which every
user of the machine can read. Exceptions that are not ours are shown as "internal error" without their text.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from keystore.errors import KeyRefused, KeystoreError, NotReadable, StoreDamaged, StoreLocked
from secmailproxy.errors import SecMailProxyError, UsageError

if TYPE_CHECKING:
    from keystore.keystore import Keystore
    from keystore.secrets import Secrets
    from secmailproxy.config import Config

R = TypeVar("R")

INTERNAL_ERROR = 70
INPUT_OUTPUT_ERROR = 74
INTERRUPTED = 130
READER_GONE = 141
_KEYSTORE_EXIT = {StoreLocked: 75, StoreDamaged: INTERNAL_ERROR, KeyRefused: 65, NotReadable: 65}
_SECRET_LIMIT = 64 * 1024


@contextmanager
def friendly_errors(*, exits: bool = False) -> Iterator[None]:
    """Turn every exception inside into one line on stderr and SystemExit with the right status.

    With `exits`, normal completion raises SystemExit(0) too, as click's standalone mode does. Set
    SECMAILPROXY_DEBUG=1 to see the traceback of an internal error.
    """
    try:
        yield
        sys.stdout.flush()
    except (click.exceptions.Exit, SystemExit) as exit_:
        raise SystemExit(getattr(exit_, "exit_code", getattr(exit_, "code", 0))) from None
    except click.ClickException as error:
        error.show()
        raise SystemExit(64 if isinstance(error, click.UsageError) else error.exit_code) from None
    except (click.Abort, KeyboardInterrupt):
        _complain("interrupted")
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader has gone; a second attempt to flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(READER_GONE) from None
    except (SecMailProxyError, KeystoreError) as error:
        _complain(describe(error))
        raise SystemExit(exit_status(error)) from None
    except OSError as error:
        _input_output(error)
        raise SystemExit(INPUT_OUTPUT_ERROR) from None
    except Exception as error:  # noqa: BLE001  # the border of the program: nothing may leave as a traceback
        _internal(error)
        raise SystemExit(INTERNAL_ERROR) from None
    if exits:
        raise SystemExit(0)


def describe(error: SecMailProxyError | KeystoreError) -> str:
    """The text of one of our own errors; lines of a list of problems are kept."""
    return "\n".join(" ".join(line.split()) for line in str(error).splitlines())


def exit_status(error: SecMailProxyError | KeystoreError) -> int:
    """The exit status (sysexits) of one of our own errors."""
    if isinstance(error, SecMailProxyError):
        return error.exit_status
    otherwise = INPUT_OUTPUT_ERROR if isinstance(error.__cause__, OSError) else 69
    return next((status for kind, status in _KEYSTORE_EXIT.items() if isinstance(error, kind)), otherwise)


def _complain(text: str) -> None:
    click.echo(f"secmailproxy: {text}", err=True)


def _input_output(error: OSError) -> None:
    """A full disk, a limit of the system: its own words hold a path at most."""
    _show_traceback(error)
    where = f" ({error.filename})" if error.filename else ""
    _complain(f"cannot read or write{where}: {error.strerror or type(error).__name__}")
    # What could not be written is still buffered; at exit Python would complain of it again.
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_traceback(error: Exception) -> None:
    if os.environ.get("SECMAILPROXY_DEBUG"):
        traceback.print_exception(error)


def _internal(error: Exception) -> None:
    _show_traceback(error)
    _complain(
        f"internal error ({type(error).__name__}). Nothing more is shown here because it could hold message "
        "text; run the command again with SECMAILPROXY_DEBUG=1 for the details."
    )


def load_config() -> Config:
    """The configuration of this user, checked. Raises ConfigError naming file, key and remedy."""
    from secmailproxy.config import Config  # pydantic is not imported by --help and --version

    return Config.load()


def load_config_or_defaults(passphrase: Passphrase) -> Config:
    """The configuration; where there is none yet, its defaults without accounts.

    Then secrets are in the encrypted file if that exists, or if a passphrase option chooses it; else in the
    keyring of the desktop, which says what to do where there is none.
    """
    from secmailproxy.config import Config
    from secmailproxy.folders import Folders

    folders = Folders.of_user()
    if folders.config_file.exists():
        return load_config()
    return Config.defaults("file" if passphrase.given or folders.secrets_file.exists() else "keyring")


@dataclass
class Passphrase:
    """A passphrase that is fetched once, when it is first needed: from a file, a descriptor or a prompt."""

    file: Path | None = None
    descriptor: int | None = None
    prompt: str = "Passphrase"
    options: str = "--passphrase-file or --passphrase-fd"
    _value: str | None = field(default=None, repr=False)

    @property
    def given(self) -> bool:
        """Whether an option named a source, so that no prompt is needed."""
        return self.file is not None or self.descriptor is not None

    def __call__(self) -> str:
        """The passphrase as text. Raises UsageError when it cannot be had."""
        if self._value is None:
            self._value = self._fetch()
        return self._value

    def _fetch(self) -> str:
        if self.descriptor is not None:
            return _first_line(self.descriptor, f"file descriptor {self.descriptor}")
        if self.file is not None:
            return _first_line(self.file, str(self.file))
        if not sys.stdin.isatty():
            raise UsageError(
                f"A {self.prompt.lower()} is needed and there is no terminal to ask: use {self.options}."
            )
        answer: str = click.prompt(self.prompt, hide_input=True, err=True)
        return answer


def _first_line(source: Path | int, name: str) -> str:
    try:
        with open(source, "rb") as stream:
            line = stream.read(_SECRET_LIMIT).partition(b"\n")[0].rstrip(b"\r")
    except OSError as error:
        raise UsageError(f"Cannot read {name}: {error.strerror}.") from None
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not UTF-8 text.") from None
    if not text:
        raise UsageError(f"The first line of {name} is empty; it must be the passphrase or password.")
    return text


def passphrase_options(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command --passphrase-file and --passphrase-fd, for the secrets file alone.

    It receives `passphrase`, a `Passphrase`.
    """
    return secret_options("passphrase", "passphrase of the secrets file")(command)


def secret_options(name: str, words: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a command --NAME-file and --NAME-fd; it receives NAME, a `Passphrase` (never its text).

    `words` is what to call it in prompts and help. Raises UsageError when both options are given.
    """
    argument = name.replace("-", "_")

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        def called_by_click(**arguments: Any) -> R:
            file, descriptor = arguments.pop(f"{argument}_file"), arguments.pop(f"{argument}_fd")
            if file is not None and descriptor is not None:
                raise UsageError(f"Give --{name}-file or --{name}-fd, not both.")
            arguments[argument] = Passphrase(
                file, descriptor, words.capitalize(), f"--{name}-file or --{name}-fd"
            )
            return command(**arguments)

        options = (
            click.option(
                f"--{name}-fd",
                type=click.IntRange(min=0),
                metavar="N",
                help=f"Read the {words} from file descriptor N.",
            ),
            click.option(
                f"--{name}-file",
                type=click.Path(path_type=Path),
                metavar="FILE",
                help=f"Read the {words} from the first line of FILE.",
            ),
        )
        wrapped = update_wrapper(called_by_click, command)
        for option in options:
            wrapped = option(wrapped)
        return wrapped

    return decorate


def open_secrets(config: Config, passphrase: Callable[[], str] | None = None) -> Secrets:
    """The store of passwords that the configuration names.

    For the file backend, `secrets.passphrase_file` of the configuration comes first, then `passphrase`, then
    a prompt. Raises KeystoreError with the remedy.
    """
    from keystore import secrets

    return secrets.open_secrets(
        config.secrets_settings(passphrase or Passphrase(prompt="Passphrase of the secrets file"))
    )


@dataclass(slots=True)
class LateSecrets:
    """Secrets that are opened when one is first asked for: what needs none works where there are none."""

    config: Config
    passphrase: Callable[[], str] | None
    _opened: Secrets | None = None

    def get(self, name: str) -> str | None:
        """Raises KeystoreError when there are no secrets to be had."""
        return self._open().get(name)

    def set(self, name: str, value: str) -> None:
        """Raises KeystoreError when there are no secrets to be had."""
        self._open().set(name, value)

    def delete(self, name: str) -> None:
        """Raises KeystoreError when there are no secrets to be had."""
        self._open().delete(name)

    def _open(self) -> Secrets:
        if self._opened is None:
            self._opened = open_secrets(self.config, self.passphrase)
        return self._opened


def open_keystore(config: Config, passphrase: Callable[[], str] | None = None) -> Keystore:
    """The opened keystore; close it (or use `closing`). Raises KeystoreLocked or KeystoreError."""
    from keystore.keystore import Keystore

    return Keystore.open(config.keystore_settings(), LateSecrets(config, passphrase))


def read_input(file: str) -> bytes:
    """The octets of `file`, "-" for standard input. Raises UsageError when it cannot be read."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"Cannot read {file}: {error.strerror}.") from None


def print_json(value: object) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))
