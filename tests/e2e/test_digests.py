"""Digests, heartbeats and reports as an administrator meets them: real processes, a real queue, real gpg."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from keystore.model import Trust
from secmailproxy.cli import program
from secmailproxy.folders import HOME_VARIABLE
from secmailproxy.mime import header
from secmailproxy.mime.canonical import crlf
from secmailproxy.mime.entity import parse
from tests.fixtures.digests import cron, taken_out, text_of
from tests.fixtures.gnupg import GnuPG, opened_by
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import ProxyHome, empty_home, serving

Run = Callable[..., Result]
ADMIN = "admin@example.org"
FORWARD = """
[forward]
via = "sendmail"
sendmail = "{folder}/sendmail"
sender = "host@example.org"
{more}
[[forward.targets]]
address = "{admin}"
fingerprint = "{fingerprint}"

[[forward.digests]]
name = "nightly"
every = "hourly"

[[forward.rules]]
name = "cron"
match = {{ header = {{ Subject = "^Cron <" }} }}
do = {{ collect = "nightly" }}
"""


@pytest.fixture
def gnupg(gnupg_home: Callable[..., GnuPG]) -> GnuPG:
    return gnupg_home()


@pytest.fixture
def home(tmp_path: Path, gnupg: GnuPG) -> ProxyHome:
    """A machine whose sendmail keeps each message in a file of its own."""
    made = empty_home(tmp_path / "home")
    sendmail = made.folder / "sendmail"
    sent = f"{made.folder}/sent-$$"
    sendmail.write_text(f"#!/bin/sh\ncat > {sent}.new && mv {sent}.new {sent}\n")
    sendmail.chmod(0o755)
    fingerprint = gnupg.generate(f"<{ADMIN}>")
    made.add_config(FORWARD.format(folder=made.folder, admin=ADMIN, fingerprint=fingerprint, more=""))
    with made.keystore() as keystore:
        keystore.import_keys(gnupg.export(fingerprint), source="test", trust=Trust.VERIFIED)
    return made


def configure(home: ProxyHome, more: str) -> None:
    path = home.folders.config_file
    path.write_text(path.read_text().replace("[forward]\n", f"[forward]\n{more}\n"))


@pytest.fixture
def run(home: ProxyHome, monkeypatch: pytest.MonkeyPatch) -> Run:
    """One command in this process: that it works in one of its own is shown elsewhere."""
    monkeypatch.setenv(HOME_VARIABLE, str(home.folder))

    def command(*words: str, data: bytes = b"") -> Result:
        return CliRunner().invoke(program, words, input=data)

    return command


def forward(run: Run, octets: bytes) -> Result:
    """As a pipe gets it."""
    return run("forward", data=octets.replace(b"\r\n", b"\n"))


def arrived(home: ProxyHome, gnupg: GnuPG) -> list[bytes]:
    """What was sent, decrypted by gpg; of the ciphertext nothing tells."""
    mails = []
    for path in sorted(home.folder.glob("sent-*[0-9]")):
        sent = path.read_bytes()
        assert b"\nSubject: Encrypted system mail\n" in sent
        assert not [word for word in (b"igest", b"Heartbeat", b"Cron", b"web1", b"full") if word in sent]
        mails.append(opened_by(gnupg, crlf(sent))[0])
    return mails


def test_fwd_06_collected_at_once_and_sent_in_one_encrypted_mail(
    home: ProxyHome, gnupg: GnuPG, run: Run
) -> None:
    originals = [
        cron("95% full", number=1),
        cron("done at 07:00:01", number=2),
        cron("done at 07:15:09", number=3),
    ]
    for octets in originals:
        assert forward(run, octets).exit_code == 0
    assert forward(run, originals[0]).exit_code == 0  # tried again by a mail program that was not told
    assert arrived(home, gnupg) == []
    assert not leaks(home)

    urgent = cron("write error: No space left on device", number=4)
    assert forward(run, urgent).exit_code == 0
    (at_once,) = arrived(home, gnupg)
    assert parse(at_once).body == urgent
    (home.folder / next(iter(home.folder.glob("sent-*[0-9]"))).name).unlink()

    # The full hour passes by giving the digest another name: one that is not configured waits for nothing.
    home.folders.config_file.write_text(home.folders.config_file.read_text().replace("nightly", "weekly"))
    assert run("queue", "run").exit_code == 0
    (digest,) = arrived(home, gnupg)
    assert Counter(taken_out(digest)) == Counter(originals)
    assert "2 times, first " in text_of(digest)
    assert run("queue", "run").exit_code == 0
    assert len(arrived(home, gnupg)) == 1


def test_collecting_takes_no_secret_once_the_slot_is_known(home: ProxyHome, gnupg: GnuPG, run: Run) -> None:
    assert forward(run, cron("one", number=1)).exit_code == 0
    secrets = home.folder / "state" / "secrets.json"
    kept = secrets.read_bytes()
    secrets.unlink()
    assert forward(run, cron("two", number=2)).exit_code == 0
    home.folders.slot.unlink()
    refused = forward(run, cron("three", number=3))
    assert refused.exit_code == 75
    assert "three" not in refused.output
    secrets.write_bytes(kept)
    assert forward(run, cron("three", number=3)).exit_code == 0
    home.folders.config_file.write_text(home.folders.config_file.read_text().replace("nightly", "weekly"))
    assert run("queue", "run").exit_code == 0
    (digest,) = arrived(home, gnupg)
    assert len(taken_out(digest)) == 3


def test_the_running_proxy_sends_what_is_due(home: ProxyHome, gnupg: GnuPG, run: Run) -> None:
    """Also what was collected while it did not run, and of a digest that is no longer configured."""
    assert forward(run, cron("95% full")).exit_code == 0
    home.folders.config_file.write_text(home.folders.config_file.read_text().replace("nightly", "weekly"))
    with serving(home):
        wait_until(lambda: arrived(home, gnupg), "a digest")
        (digest,) = arrived(home, gnupg)
        assert taken_out(digest) == [cron("95% full")]
        waiting = home.folders.collected / "nightly"
        wait_until(lambda: not list(waiting.iterdir()), "the end of what was collected")
    assert not leaks(home)


def leaks(home: ProxyHome) -> list[str]:
    """Files in which something of the messages stands in clear."""
    places = (home.folders.state.rglob("*"), home.folder.glob("serve.log"))
    files = [path for place in places for path in place if path.is_file()]
    return [path.name for path in files if any(word in path.read_bytes() for word in (b"% full", b"web1"))]


def test_a_heartbeat_and_a_report(home: ProxyHome, gnupg: GnuPG, run: Run) -> None:
    configure(home, 'heartbeat = "daily"')
    _, _, fingerprint = home.folders.config_file.read_text().partition('fingerprint = "')
    gnupg.run("--quick-set-expire", fingerprint[:40], "7d")
    assert run("key", "import", "-", data=gnupg.export(fingerprint[:40])).exit_code == 0
    forward(run, cron("one"))
    forward(run, b"From: root@db1\nSubject: disk FAILED\n\nx\n")
    assert run("queue", "run").exit_code == 0
    assert run("queue", "run").exit_code == 0
    mails = [mail for mail in arrived(home, gnupg) if b"Heartbeat" in mail]
    (heartbeat,) = mails
    assert (header.text(parse(heartbeat), "Subject") or "").endswith(": 1 to look at")
    text = text_of(heartbeat)
    assert "      1  collected" in text
    assert "      1  forwarded" in text
    assert "db1" not in text
    assert f"target <{ADMIN}>, certificate " in text  # it ends in a week
    assert "Certificates that end, or have ended\r\n\r\n  target" in text

    report = json.loads(run("forward", "report", "--json").stdout)
    assert report["messages"] == 2
    assert report["outcomes"] == {"collected": 1, "forwarded": 1}
    assert report["rules"] == {"": {"forwarded": 1}, "cron": {"collected": 1}}
    assert report["subjects"] == {"Cron <root@web1> backup": 1, "disk FAILED": 1}
    assert report["waiting"] == {"nightly": 1}
    table = run("forward", "report", "--since", "24h").stdout
    assert "      1  web1\n" in table
    (home.folder / "state" / "secrets.json").unlink()
    table = run("forward", "report").stdout
    assert "      2  (unknown), sealed\n" in table
    assert "web1" not in table
    wrong = run("forward", "report", "--since", "yesterday")
    assert wrong.exit_code == 64
