"""`secmailproxy demo`, as a process of its own: what the README's first command ends with."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import smtplib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from secmailproxy.demo.run import stage_in
from secmailproxy.demo.show import as_json, show_outcome
from secmailproxy.demo.steps import Outcome, Shown, tell

PROGRAM = [sys.executable, "-m", "secmailproxy", "demo"]
STEPS = ["send", "stored", "read", "tampered-ciphertext", "tampered-text", "plain", "refused", "forward"]


def test_for_people_it_shows_ciphertext_plaintext_and_a_summary() -> None:
    """On a terminal that lacks the signs that it likes best."""
    encoding = "latin-1"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(PROGRAM, capture_output=True, check=False, timeout=60, env=environment)
    text = done.stdout.decode(encoding)
    assert done.returncode == 0, text
    assert "-----BEGIN PGP MESSAGE-----" in text
    assert "Subject: [...]" in text
    assert "Surprise celebration on Thursday" in text
    assert "signed by alice@example.org, valid" in text
    assert "550 5.7.5" in text
    assert f"All {len(STEPS)} steps held" in text
    assert done.stderr == b""
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time: there is hardly any waiting in it, and a busy machine must not count.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 15


@pytest.mark.parametrize(("encoding", "sign"), [("utf-8", "\N{HEAVY CHECK MARK}"), ("latin-1", "ok")])
def test_a_terminal_gets_signs_that_it_has(encoding: str, sign: str) -> None:
    octets = io.BytesIO()
    with io.TextIOWrapper(octets, encoding=encoding, write_through=True) as stream:
        show_outcome(Console(file=stream), Outcome("send", "Alice sends", True, Shown("It left."), 0.1))
        assert f"{sign} Alice sends\n  It left.\n" == octets.getvalue().decode(encoding)


def test_every_step_holds_json_says_so_and_kept_settings_work() -> None:
    """With --keep it ends when it is told to."""
    with subprocess.Popen([*PROGRAM, "--json", "--keep"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = []
        # The document is complete with its closing brace at the margin.
        for line in process.stdout:
            lines.append(line)
            if line == b"}\n":
                break
        document = json.loads(b"".join(lines))
        assert [(step["name"], step["held"]) for step in document["steps"]] == [
            (name, True) for name in STEPS
        ]
        assert document["held"] is True
        settings = {one["address"]: one for one in document["settings"]}
        alice = settings["alice@example.org"]
        with smtplib.SMTP(alice["smtp_server"], alice["smtp_port"]) as client:
            client.login(alice["user_name"], alice["password"])
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_without_the_extra_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['pymap'] = None; sys.argv = ['secmailproxy', 'demo']; "
        "from secmailproxy.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=60)
    assert done.returncode == 64
    assert b"pip install '.[demo]'" in done.stderr
    assert b"Traceback" not in done.stderr


async def test_a_step_that_does_not_hold_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    async with stage_in(tmp_path) as stage:
        locked_out = replace(stage.alice.client, password="wrong")
        stage.alice = replace(stage.alice, client=locked_out)
        outcomes = {one.name: one for one in await tell(stage, lambda outcome: None)}
    assert list(outcomes) == STEPS
    assert not outcomes["send"].held
    assert "535" in outcomes["send"].shown.sentence
    assert not outcomes["stored"].held
    assert outcomes["plain"].held
    document = as_json(tuple(outcomes.values()), 1.0, None)
    assert document["held"] is False
