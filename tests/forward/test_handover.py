"""FWD-04: the sendmail program gets an argument list and the octets, and its failure is ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from secmailproxy.errors import UpstreamUnavailable
from secmailproxy.forward import handover
from secmailproxy.forward.handover import Unanswered, by_sendmail
from tests.fixtures.proxy import SOURCES


def program(folder: Path, script: str) -> Path:
    path = folder / "sendmail"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("sender", "given"), [("a@host", "a@host"), ("", "<>"), ("$(id)@x;y", "$(id)@x;y")])
def test_arguments_and_octets(sender: str, given: str, tmp_path: Path) -> None:
    sendmail = program(tmp_path, f'printf "%s\\n" "$@" > {tmp_path}/words; cat > {tmp_path}/message')
    by_sendmail(sendmail, sender, ["admin@example.org"], b"A: b\r\n\r\n.\r\nc\r\n")
    words = (tmp_path / "words").read_text().splitlines()
    assert words == ["-i", "-f", given, "--", "admin@example.org"]
    assert (tmp_path / "message").read_bytes() == b"A: b\n\n.\nc\n"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("cat >/dev/null; echo secret >&2; exit 69", "ended with status 69"),
        ("kill -9 $$", "ended with status -9"),
    ],
)
def test_a_failing_program_is_an_error_without_its_output(
    script: str, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UpstreamUnavailable, match=said):
        by_sendmail(program(tmp_path, script), "a@b", ["c@d"], b"x" * 200_000)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("script", ["exec sleep 3", "sleep 3 & cat >/dev/null; wait"])
@pytest.mark.parametrize("how", ["told", "looked for"])
def test_a_program_that_does_not_end_is_given_up(
    how: str, script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it takes the message or not, and where the system cannot tell of its end."""
    monkeypatch.setattr(handover, "_PATIENCE", 0.2)
    if how == "looked for":
        monkeypatch.delattr(os, "pidfd_open")
    with pytest.raises(Unanswered, match="did not end within"):
        by_sendmail(program(tmp_path, f"echo $$ >{tmp_path}/pid; {script}"), "a@b", ["c@d"], b"x" * 200_000)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_program_that_wants_nothing_may_succeed(tmp_path: Path) -> None:
    by_sendmail(program(tmp_path, "exec <&-"), "a@b", ["c@d"], b"x" * 200_000)


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(UpstreamUnavailable, match=r"cannot run .*/none: No such file"):
        by_sendmail(tmp_path / "none", "a@b", ["c@d"], b"x")


def test_death_in_the_middle_does_not_cut_the_message(tmp_path: Path) -> None:
    """FWD-06: what was begun arrives whole, or not at all: a cut ciphertext would look like a message."""
    for name in ("begun", "go"):
        os.mkfifo(tmp_path / name)
    sendmail = program(
        tmp_path, f"cd {tmp_path}; echo >begun; read _ <go; cat >message; mv message done; echo >begun"
    )
    code = (
        "import sys; from pathlib import Path; from secmailproxy.forward.handover import by_sendmail\n"
        "by_sendmail(Path(sys.argv[1]), 'a@b', ['c@d'], b'x' * 300_000)"
    )
    with subprocess.Popen([sys.executable, "-c", code, sendmail], cwd=SOURCES) as pipe:
        assert (tmp_path / "begun").read_bytes() == b"\n"
        pipe.kill()
    (tmp_path / "go").write_bytes(b"\n")
    assert (tmp_path / "begun").read_bytes() == b"\n"
    assert (tmp_path / "done").read_bytes() == b"x" * 300_000


def test_a_system_without_files_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    by_sendmail(program(tmp_path, f"cat > {tmp_path}/message"), "a@b", ["c@d"], b"x\r\n")
    assert (tmp_path / "message").read_bytes() == b"x\n"
