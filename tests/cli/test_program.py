"""The command line as a whole: lazy commands, exit statuses, and no traceback, ever."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import click.testing
import pytest

from keystore.errors import KeyRefused, KeystoreError, NotReadable, StoreDamaged, StoreLocked
from secmailproxy import __version__
from secmailproxy.cli import COMMANDS, program
from secmailproxy.cli.context import Passphrase, friendly_errors, secret_options
from secmailproxy.errors import ConfigError, KeystoreLocked, LoginRefused, SecMailProxyError, UsageError
from tests.fixtures.processes import wait_until

PYTHON = [sys.executable, "-m", "secmailproxy"]


def run(*words: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(program, list(words))


def test_help_names_every_command_and_imports_none() -> None:
    code = (
        "import sys, click.testing, secmailproxy.cli as c;"
        "r = click.testing.CliRunner().invoke(c.program, ['--help']);"
        "print(r.output);"
        "heavy = {'pydantic', 'aiosmtpd', 'aiosmtplib', 'aioimaplib', 'httpx', 'keyring', 'openpgp', 'rich'};"
        "sys.exit(str(sorted(heavy & set(sys.modules)) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "\n"
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_what_serve_needs_not_at_start_is_not_imported() -> None:
    code = (
        "import sys, secmailproxy.cli.serve, secmailproxy.service, secmailproxy.supervision;"
        "later = {'aioimaplib', 'httpx', 'dns', 'keyring', 'rich', 'tomlkit', 'defusedxml', 'gnupg',"
        "'secmailproxy.errands.client', 'secmailproxy.autoconfig', 'secmailproxy.checkup', 're2'};"
        "sys.exit(str(sorted(later & set(sys.modules)) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "\n"


def test_version() -> None:
    done = subprocess.run([*PYTHON, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"secmailproxy, version {__version__}\n"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name: str) -> None:
    done = run(name, "--help")
    assert done.exit_code == 0, done.output
    assert done.output.startswith(f"Usage: secmailproxy {name}")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["serv"], "There is no command 'serv'. Did you mean 'serve'?"),
        (["nonsense!"], "There is no command 'nonsense!'. The commands: setup, serve"),
        (["--nonsense"], "No such option"),
        (["config", "nonsense"], "No such command"),
        (["serve", "--ready-fd", "x"], "--ready-fd"),
        (["serve", "--passphrase-file", "x", "--passphrase-fd", "3"], "not both"),
    ],
)
def test_usage_errors(words: list[str], text: str) -> None:
    done = run(*words)
    assert done.exit_code == 64, done.output
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ConfigError("a\nb   c"), 78, "secmailproxy: a\nb c\n"),
        (UsageError("x"), 64, "secmailproxy: x\n"),
        (LoginRefused("x"), 77, "secmailproxy: x\n"),
        (KeystoreLocked("x"), 75, "secmailproxy: x\n"),
        (SecMailProxyError("x"), 75, "secmailproxy: x\n"),
        (StoreLocked("x"), 75, "secmailproxy: x\n"),
        (StoreDamaged("x"), 70, "secmailproxy: x\n"),
        (KeyRefused("x"), 65, "secmailproxy: x\n"),
        (NotReadable("x"), 65, "secmailproxy: x\n"),
        (KeystoreError("x"), 69, "secmailproxy: x\n"),
        (KeyboardInterrupt(), 130, "secmailproxy: interrupted\n"),
        (click.Abort(), 130, "secmailproxy: interrupted\n"),
        (click.exceptions.Exit(3), 3, ""),
        (SystemExit(4), 4, ""),
    ],
)
def test_errors_become_a_line_and_a_status(
    error: BaseException, status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught, friendly_errors():
        raise error
    assert caught.value.code == status
    assert capsys.readouterr().err == text


def test_an_internal_error_shows_its_type_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SECMAILPROXY_DEBUG", raising=False)
    with pytest.raises(SystemExit) as caught, friendly_errors():
        raise ValueError("Subject: private")
    assert caught.value.code == 70
    shown = capsys.readouterr().err
    assert "internal error (ValueError)" in shown
    assert "SECMAILPROXY_DEBUG=1" in shown
    assert "private" not in shown
    assert len(shown.splitlines()) == 1
    monkeypatch.setenv("SECMAILPROXY_DEBUG", "1")
    with pytest.raises(SystemExit), friendly_errors():
        raise ValueError("Subject: private")
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_has_gone_is_no_error(tmp_path: Path) -> None:
    environment = {**os.environ, "SECMAILPROXY_HOME": str(tmp_path)}
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*PYTHON, "config", "path"], stdout=writing, stderr=subprocess.PIPE, env=environment, check=False
    )
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode not in (0, 70)


def test_interrupt_at_a_prompt(tmp_path: Path) -> None:
    import pty

    environment = {**os.environ, "SECMAILPROXY_HOME": str(tmp_path / "home")}
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [*PYTHON, "setup", "a@example.test", "--no-discovery", "--secrets", "file"],
        stdin=child,
        stdout=child,
        stderr=child,
        env=environment,
        start_new_session=True,
    )
    os.close(child)
    shown = b""
    while b"Your name" not in shown:
        shown += os.read(parent, 1000)
    # A signal between the prompt and the read would be noticed with the next key only.
    wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "S", "not waiting")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    os.close(parent)
    assert not (tmp_path / "home").exists()


@click.command()
@secret_options("passphrase", "passphrase")
@click.option("--times", type=int, default=2)
def say(passphrase: Passphrase, times: int) -> None:
    """Print the passphrase."""
    for _ in range(times):
        click.echo(passphrase())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"one\n", "one\none\n"),
        (b"one two \r\nthree\n", "one two \none two \n"),
        ("gr\u00fcn".encode(), "gr\u00fcn\ngr\u00fcn\n"),
    ],
)
@pytest.mark.parametrize("way", ["file", "fd"])
def test_passphrases_from_files_and_descriptors(
    tmp_path: Path, content: bytes, expected: str, way: str
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    descriptor = os.open(path, os.O_RDONLY)
    source = str(path) if way == "file" else str(descriptor)
    done = click.testing.CliRunner().invoke(say, [f"--passphrase-{way}", source])
    assert done.stdout == expected
    if way == "file":
        os.close(descriptor)


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"\nx", "is empty"), (b"", "is empty"), (b"\xff\n", "is not UTF-8"), (None, "Cannot read")],
)
def test_passphrases_that_cannot_be(tmp_path: Path, content: bytes | None, text: str) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=text):
        Passphrase(path)()


def test_without_a_terminal_the_option_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(UsageError, match="--passphrase-file or --passphrase-fd"):
        Passphrase()()


def test_a_passphrase_does_not_show_in_repr(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("hidden\n")
    passphrase = Passphrase(tmp_path / "s")
    assert passphrase() == "hidden"
    assert "hidden" not in repr(passphrase)


def test_commands_receive_named_options() -> None:
    decorate: Callable[[Callable[..., None]], Callable[..., None]] = secret_options("a-b", "word")
    command = click.command()(decorate(lambda a_b: None))
    assert {option for one in command.params for option in one.opts} == {"--a-b-file", "--a-b-fd"}


@pytest.mark.parametrize("words", ["--help", "config path"])
def test_a_full_disk_is_named(tmp_path: Path, words: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*PYTHON, *words.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "SECMAILPROXY_HOME": str(tmp_path)},
            check=False,
        )
    assert done.returncode == 74
    assert done.stderr == "secmailproxy: cannot read or write: No space left on device\n"


@pytest.mark.parametrize(
    ("redirection", "words", "status"),
    [(">&-", "key list", 0), ("<&-", "message inspect", 65), ("2>&-", "key show nobody", 69)],
)
def test_closed_standard_streams(tmp_path: Path, redirection: str, words: str, status: int) -> None:
    """Their descriptors must not go to the next file that is opened, such as the keystore's."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *PYTHON, *words.split()],
        capture_output=True,
        text=True,
        env={**os.environ, "SECMAILPROXY_HOME": str(tmp_path)},
        check=False,
    )
    assert done.returncode == status
    assert "internal error" not in done.stderr
