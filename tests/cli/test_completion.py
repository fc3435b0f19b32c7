"""`secmailproxy completion` in bash, zsh and fish."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from secmailproxy.cli import program
from secmailproxy.cli.completing import VARIABLE
from tests.fixtures.processes import end

BOB = Path("tests/corpus/openpgp/alice.asc")
ADDRESS = "alice@example.org"


def environment(home: Path) -> dict[str, str]:
    """Of a shell that finds the program of this installation, and nothing of whoever runs the tests."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "SECMAILPROXY_HOME": str(home),
        "HOME": str(home),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }


def run(home: Path, *argv: str) -> str:
    done = subprocess.run(argv, env=environment(home), capture_output=True, check=True, text=True)
    assert not done.stderr, done.stderr
    return done.stdout


def test_bash_completes(home: Path) -> None:
    """The words of the line are handed over as bash does it, and COMPREPLY is what it offers."""
    script = """
        eval "$(secmailproxy completion bash)"
        complete -p secmailproxy
        COMP_WORDS=(secmailproxy key li) COMP_CWORD=2
        _secmailproxy_completion secmailproxy
        echo "${COMPREPLY[*]}"
    """
    registered, offered = run(home, "bash", "--norc", "-c", script).splitlines()
    assert "_secmailproxy_completion" in registered
    assert offered == "list"


def test_fish_completes(home: Path) -> None:
    script = 'secmailproxy completion fish | source; complete -C "secmailproxy key li"'
    (line,) = run(home, "fish", "--no-config", "-c", script).splitlines()
    assert line.split("\t") == ["list", "List keys and certificates."]


def test_zsh_completes(home: Path) -> None:
    """At a terminal, for zsh completes nowhere else: the tab key, then the line is shown by echo."""
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"],
        env=environment(home) | {"PS1": "ready> "},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        expect(ours, "ready> ")
        os.write(ours, b"autoload -U compinit && compinit -u -D\n")
        expect(ours, "ready> ")
        os.write(ours, b'eval "$(secmailproxy completion zsh)"\n')
        expect(ours, "ready> ")
        os.write(ours, b"secmailproxy key li\t")
        expect(ours, "key list")
        os.write(ours, b"\x01print -r -- whole: \n")
        expect(ours, "\nwhole: secmailproxy key list")
    finally:
        os.close(ours)  # it hangs up, which an interactive shell heeds more than a signal
        end(shell)


def expect(terminal: int, text: str, deadline: float = 30) -> None:
    """Read until `text` was shown."""
    shown, last = "", time.monotonic() + deadline
    while text not in shown:
        readable, _, _ = select.select([terminal], [], [], max(0.0, last - time.monotonic()))
        assert readable, f"not shown: {text!r}, but {shown!r}"
        shown += os.read(terminal, 65536).decode(errors="replace").replace("\r", "")


def offered(args: list[str], incomplete: str) -> list[str]:
    """What any shell is told."""
    completion = ShellComplete(program, {}, "secmailproxy", VARIABLE)
    return [item.value for item in completion.get_completions(args, incomplete)]


@pytest.mark.parametrize(
    ("args", "incomplete", "expected"),
    [
        ([], "com", ["completion"]),
        (["completion"], "", ["bash", "zsh", "fish"]),
        (["key"], "sh", ["show"]),
        (["key", "list"], "--j", ["--json"]),
        (["nonsense"], "", []),
        (["key", "nonsense"], "x", []),
    ],
)
def test_commands_options_and_choices(args: list[str], incomplete: str, expected: list[str]) -> None:
    found = offered(args, incomplete)
    assert found == expected or (args == ["nonsense"] and "key" in found)


def test_addresses_and_fingerprints_of_the_keystore(home: Path, key: Callable[..., str]) -> None:
    assert offered(["key", "show"], "") == []
    assert not (home / "state" / "keystore").exists()  # a question makes none
    key("import", str(BOB))
    assert offered(["key", "show"], "ali") == [ADDRESS]
    assert offered(["key", "export"], "") == [ADDRESS]
    (fingerprint,) = offered(["key", "delete"], "fc2e")
    assert fingerprint.startswith("FC2E")
    assert offered(["key", "show"], "zzz") == []


def test_a_broken_configuration_completes_nothing(home: Path, key: Callable[..., str]) -> None:
    key("import", str(BOB))
    (home / "config.toml").write_text("[")
    assert offered(["key", "show"], "") == []
