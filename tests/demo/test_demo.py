"""`secmailproxy demo`, as a process of its own: what the README's first command ends with."""

from __future__ import annotations

import json
import signal
import smtplib
import subprocess
import sys
import time

PROGRAM = [sys.executable, "-m", "secmailproxy", "demo"]
STEPS = ["send", "stored", "read", "tampered-ciphertext", "tampered-text", "plain", "refused", "forward"]


def test_every_step_holds_and_json_says_so() -> None:
    began = time.monotonic()
    done = subprocess.run([*PROGRAM, "--json"], capture_output=True, check=False, timeout=60)
    assert done.stderr == b""
    document = json.loads(done.stdout)
    assert [(step["name"], step["held"]) for step in document["steps"]] == [(name, True) for name in STEPS]
    assert document["held"] is True
    assert done.returncode == 0
    assert time.monotonic() - began < 15


def test_for_people_it_shows_ciphertext_plaintext_and_a_summary() -> None:
    done = subprocess.run(PROGRAM, capture_output=True, check=False, timeout=60)
    text = done.stdout.decode()
    assert done.returncode == 0, text
    assert "-----BEGIN PGP MESSAGE-----" in text
    assert "Subject: [...]" in text
    assert "Surprise celebration on Thursday" in text
    assert "signed by alice@example.org, valid" in text
    assert "550 5.7.5" in text
    assert f"All {len(STEPS)} steps held" in text


def test_keep_prints_settings_that_work_and_ends_when_told() -> None:
    with subprocess.Popen([*PROGRAM, "--json", "--keep"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = []
        # The document is complete with its closing brace at the margin.
        for line in process.stdout:
            lines.append(line)
            if line == b"}\n":
                break
        settings = {one["address"]: one for one in json.loads(b"".join(lines))["settings"]}
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
    assert b"pip install 'secmailproxy[demo]'" in done.stderr
    assert b"Traceback" not in done.stderr
