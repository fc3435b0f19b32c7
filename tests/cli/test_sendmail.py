"""FWD-04, FWD-07: `secmailproxy-sendmail` as programs of the machine call it, by themselves and for real."""

from __future__ import annotations

import io
import os
import pwd
import re
import stat
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from email import message_from_bytes
from email.mime.text import MIMEText
from pathlib import Path

import pytest

from secmailproxy.cli import sendmail
from secmailproxy.folders import HOME_VARIABLE
from secmailproxy.forward.sender import mail_name
from secmailproxy.mime.assemble import openpgp_ciphertext
from secmailproxy.mime.entity import parse
from tests.fixtures.postfix import as_root
from tests.fixtures.processes import running, service_folder, wait_until
from tests.fixtures.proxy import SOURCES, ProxyHome, empty_home, serving

ADMIN = "admin@example.org"
SECRETS = (b"treasure", b"windmill")
USER = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> ProxyHome:
    """A machine whose mail goes to one administrator; the program that takes it keeps what it gets."""
    made = empty_home(tmp_path_factory.mktemp("sendmail") / "home")
    hop = made.folder / "hop"
    hop.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {made.folder}/words; cat > {made.folder}/sent\n')
    hop.chmod(0o755)
    with made.keystore() as keystore:
        fingerprint = keystore.generate(ADMIN).fingerprint
    (made.folder / "aliases").write_text(f"root: admin, {ADMIN}\nadmin: {ADMIN}\npipe: |cat\n")
    made.add_config(
        f'[forward]\nvia = "sendmail"\nsendmail = "{hop}"\nsender = "bounce@host.example"\n'
        f'aliases = "{made.folder}/aliases"\n'
        f'[[forward.targets]]\naddress = "{ADMIN}"\nfingerprint = "{fingerprint}"\n'
    )
    script = made.folder / "sendmail"
    script.write_text(f"#!{sys.executable}\nfrom secmailproxy.__main__ import sendmail\nsendmail()\n")
    script.chmod(0o755)
    return made


@pytest.fixture(autouse=True)
def nothing_sent(home: ProxyHome) -> None:
    for name in ("sent", "words"):
        (home.folder / name).unlink(missing_ok=True)


def inside(home: ProxyHome) -> bytes:
    """The message as the administrator reads it; what left shows nothing of it."""
    sent = (home.folder / "sent").read_bytes()
    assert not [word for word in SECRETS if word in sent]
    assert (home.folder / "words").read_text().split()[-1] == ADMIN
    ciphertext = openpgp_ciphertext(parse(sent))
    assert ciphertext is not None
    with home.keystore() as keystore:
        return parse(keystore.decrypt(ciphertext, datetime.now(UTC)).octets).body


def called(
    home: ProxyHome, *words: str, octets: bytes = b"Subject: treasure\n\nwindmill\n"
) -> subprocess.CompletedProcess[bytes]:
    """One real process; it prints nothing of the message."""
    done = subprocess.run(
        [home.folder / "sendmail", *words],
        input=octets,
        env=home.environment,
        capture_output=True,
        check=False,
    )
    assert not [word for word in SECRETS if word in done.stdout + done.stderr]
    return done


@pytest.mark.parametrize(
    ("name", "function"), [("secmailproxy", "main"), ("secmailproxy-sendmail", "sendmail")]
)
def test_the_installed_scripts_are_this_program_and_import_nothing_else(name: str, function: str) -> None:
    """`#!python` is what installers replace with the path of their Python."""
    settings = tomllib.loads((SOURCES / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert f"secmailproxy/scripts/{name}" in settings["script-files"]
    lines = [line for line in (SOURCES / "secmailproxy" / "scripts" / name).read_text().splitlines() if line]
    assert lines == [
        "#!python",
        "import sys",
        f"from secmailproxy.__main__ import {function}",
        f"sys.exit({function}())",
    ]


def test_fwd_07_cron(home: ProxyHome) -> None:
    """As cron of Debian pipes the output of a job into it, whole and without -t."""
    report = (
        b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@host> backup -p treasure\n"
        b"MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n"
        b"X-Cron-Env: <SHELL=/bin/sh>\n\nwindmill \xc3\xbc\n.\nlast line"
    )
    done = called(home, "-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root", octets=report)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    message = inside(home)
    assert message.endswith(b"\r\n\r\nwindmill \xc3\xbc\r\n.\r\nlast line")
    assert message.startswith(b"From: root (Cron Daemon)\r\nTo: root\r\n")
    assert re.search(rb"\r\nDate: [^\r]+\r\nMessage-ID: <[0-9a-f]{24}@[^\r]+>\r\n\r\n", message)


@pytest.fixture
def caller(home: ProxyHome, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, as the owner of that home."""
    monkeypatch.setenv(HOME_VARIABLE, str(home.folder))


def status(monkeypatch: pytest.MonkeyPatch, *words: str, octets: bytes = b"Subject: treasure\n\nx\n") -> int:
    """How one call ends."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(octets)))
    with pytest.raises(SystemExit) as ended:
        sendmail.run("/usr/sbin/sendmail", words)
    assert isinstance(ended.value.code, int)
    return ended.value.code


STATUSES: list[tuple[list[str], bytes, int, str]] = [
    (["root"], b"x", 0, ""),
    (["admin@example.org"], b"x", 0, ""),
    (["-t"], b"To: Root <root>\n\nx", 0, ""),
    (["-t", "root"], b"Subject: x\n\nx", 0, ""),
    (["root"], b"", 0, ""),
    (["-q5m"], b"", 0, ""),
    ([], b"x", 64, "there is no recipient"),
    (["-t"], b"Subject: treasure\n\nx", 64, "To, Cc and Bcc name no recipient"),
    (["--", "-t"], b"x", 64, "a recipient cannot be read"),
    (["-f", "-oQ/tmp", "root"], b"x", 64, "the sender"),
    (["-bd"], b"", 64, "there is no daemon"),
    (["-bi"], b"", 64, "-bi is not supported"),
    (["-t"], b"To: treasure chest\n\nx", 65, "an address cannot be read"),
    (["-t"], b"A: b\n" * 1001 + b"To: root\n\nx", 65, "more than 1000 fields"),
    (["somebody@example.net"], b"x", 78, "there is no [[forward.targets]]"),
    (["root"], b"Delivered-To: admin@example.org\n\nx", 77, "mail loop"),
]


@pytest.mark.parametrize(("words", "octets", "expected", "said"), STATUSES)
def test_fwd_07_statuses(
    words: list[str],
    octets: bytes,
    expected: int,
    said: str,
    home: ProxyHome,
    caller: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status(monkeypatch, *words, octets=octets) == expected
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == (expected != 0)
    assert said in err
    assert "treasure" not in err
    assert (home.folder / "sent").exists() == (expected == 0 and words != ["-q5m"])


def test_fwd_04_hostile_everything(home: ProxyHome, caller: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell, no option, no header field comes of what strangers write; Bcc is nobody's to read."""
    hostile = (
        b"To: root\nBcc: admin@example.org\nSubject: $(touch /tmp/treasure) `id`; -oQ/tmp\n\n"
        b"From x\nBcc: evil@example.net\n"
    )
    words = ["-t", "-F", 'x\nBcc: evil@example.net\n"', "-f", "mallory"]
    assert status(monkeypatch, *words, octets=hostile) == 0
    message = message_from_bytes(inside(home))
    assert message.get_all("Bcc") is None
    assert message["Subject"] == "$(touch /tmp/treasure) `id`; -oQ/tmp"
    assert message.get_payload() == "From x\r\nBcc: evil@example.net\r\n"
    assert len(message.get_all("From", [])) == 1
    assert (home.folder / "words").read_text().splitlines()[2] == "bounce@host.example"


def test_fwd_07_who_calls_is_the_sender(
    home: ProxyHome, caller: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    monkeypatch.setenv("NAME", "The Machine")
    assert status(monkeypatch, "root") == 0
    author = message_from_bytes(inside(home))["From"]
    assert author == f"The Machine <{USER}@{mail_name()}>"
    assert status(monkeypatch, "-f", "", "root") == 0
    assert message_from_bytes(inside(home))["From"] == f"MAILER-DAEMON@{mail_name()}"
    assert (home.folder / "words").read_text().splitlines()[2] == "<>"


def test_a_machine_without_a_proxy_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.setenv(sendmail.SOCKET_VARIABLE, str(tmp_path / "none"))
    assert status(monkeypatch, "root") == 78
    assert "nobody listens at" in capsys.readouterr().err


def test_sudo(home: ProxyHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It calls the mailer as `sendmail -t` with HOME=/, and looks at no exit status."""
    for folder, place in ((home.folder, ".config"), (home.folders.state, ".local/state")):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "secmailproxy").symlink_to(folder)
    entry = pwd.getpwuid(os.getuid())
    monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd((*entry[:5], str(tmp_path), entry[6])))
    for name in (HOME_VARIABLE, "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/")
    report = (
        b"To: root\nFrom: bob\nAuto-Submitted: auto-generated\n"
        b"Subject: *** SECURITY information for host ***\n\nhost : bob : user NOT in sudoers ; windmill\n\n"
    )
    assert status(monkeypatch, "-t", octets=report) == 0
    message = inside(home)
    assert b"\r\nSubject: *** SECURITY information for host ***\r\n" in message
    assert message.endswith(b"\r\n\r\nhost : bob : user NOT in sudoers ; windmill\r\n\r\n")


def test_mutt_with_an_attachment(home: ProxyHome, tmp_path: Path) -> None:
    """It calls sendmail as -oem -oi -f SENDER -B8BITMIME -- ADDRESS."""
    (tmp_path / "windmill.bin").write_bytes(bytes(range(256)))
    (tmp_path / "muttrc").write_text(
        f'set sendmail="{home.folder}/sendmail -oem -oi"\nset from="root@host.example"\n'
        "set use_envelope_from=yes\nset copy=no\nset charset=utf-8\nset send_charset=utf-8\n"
    )
    subprocess.run(
        ["mutt", "-F", tmp_path / "muttrc", "-s", "treasure", "-a", tmp_path / "windmill.bin", "--", "root"],
        input="ü\n.\nFrom here\n".encode(),
        env={**home.environment, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        check=True,
    )
    text, attachment = message_from_bytes(inside(home)).get_payload()
    assert text.get_payload(decode=True) == "ü\r\n.\r\nFrom here\r\n".encode()
    assert attachment.get_payload(decode=True) == bytes(range(256))


def test_bsd_mailx(home: ProxyHome) -> None:
    """As smartd and apticron call it: mail -s SUBJECT ADDRESS, with more fields by -a."""
    (home.folder / "mailrc").write_text(f"set sendmail={home.folder}/sendmail\n")
    done = subprocess.run(
        ["mail", "-a", "Content-type: text/plain; charset=UTF-8", "-s", "SMART error treasure", "root"],
        input="windmill ü\n".encode(),
        env={**home.environment, "MAILRC": f"{home.folder}/mailrc"},
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    message = inside(home)
    assert b"\r\nSubject: SMART error treasure\r\n" in message
    assert b"\r\nContent-type: text/plain; charset=UTF-8\r\n" in message
    assert message.endswith("windmill ü\r\n".encode())


def test_unattended_upgrades_and_logwatch(
    home: ProxyHome, caller: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-oi -t with what the email package prints; -t with a header that a script has written."""
    report = MIMEText("windmill ü", "plain", "utf-8")
    report["Subject"], report["From"], report["To"] = "unattended-upgrades treasure", "root", "root"
    report["Auto-Submitted"] = "auto-generated"
    assert status(monkeypatch, "-oi", "-t", octets=report.as_bytes()) == 0
    assert message_from_bytes(inside(home)).get_payload(decode=True) == "windmill ü".encode()
    report_of_logwatch = (
        b"To: root\nFrom: Logwatch <root@host>\nSubject: Logwatch for host (Linux)\nMIME-Version: 1.0\n"
        b'Content-Transfer-Encoding: 8bit\nContent-Type: text/plain; charset="iso-8859-1"\n\n'
        b" ################### Logwatch 7.7 ####################\n windmill \xfc\n\n"
    )
    assert status(monkeypatch, "-t", octets=report_of_logwatch) == 0
    assert inside(home).endswith(b"####\r\n windmill \xfc\r\n\r\n")


def test_git_send_email(home: ProxyHome, tmp_path: Path) -> None:
    """git calls it as PROGRAM -i ADDRESS..., with the message and its header on standard input."""
    (tmp_path / "0001.patch").write_text(
        "From 0123 Mon Sep 17 00:00:00 2001\nFrom: Dev <dev@example.org>\n"
        "Date: Thu, 1 Jan 2026 00:00:00 +0000\nSubject: [PATCH] treasure\n\nwindmill\n---\n a | 1 +\n\n"
        "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -0,0 +1 @@\n"
        "+From here\n-- \n2.39\n"
    )
    environment = {**home.environment, "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    for who in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{who}_NAME": "Dev", f"GIT_{who}_EMAIL": "dev@example.org"}
    subprocess.run(
        [
            *("git", "send-email", "--quiet", "--confirm=never", "--suppress-cc=all"),
            *("--from=dev@example.org", f"--to={ADMIN}", f"--smtp-server={home.folder}/sendmail"),
            tmp_path / "0001.patch",
        ],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    message = inside(home)
    assert b"Subject: [PATCH] treasure\r\n" in message
    assert b"\r\n+From here\r\n-- \r\n2.39\r\n" in message
    assert b"X-Mailer: git-send-email" in message


CRON = """
set -e
mount --bind "$1/run" /run
mount --bind "$1/spool" /var/spool/cron
mount --bind "$1/crontab" /etc/crontab
mount --bind "$1/cron.d" /etc/cron.d
mount --bind "$2" /usr/sbin/sendmail
exec cron -f
"""


def test_cron_itself(home: ProxyHome, tmp_path: Path) -> None:
    """A job that writes something: cron of Debian calls /usr/sbin/sendmail, which is ours."""
    for name in ("run", "cron.d", "spool", "spool/crontabs"):
        (tmp_path / name).mkdir(mode=0o755)
    (tmp_path / "crontab").touch(mode=0o644)
    table = tmp_path / "spool" / "crontabs" / "root"
    table.write_text(
        f"MAILTO=root\nSECMAILPROXY_HOME={home.folder}\nPYTHONPATH={SOURCES}\n"
        "@reboot echo windmill # treasure\n"
    )
    table.chmod(0o600)
    # The program is bound over a file: it must name its interpreter, not be found beside it.
    argv = ["unshare", *as_root()[1:], "--mount", "sh", "-c", CRON, "sh", tmp_path, home.folder / "sendmail"]
    with running(argv, ports=[], log=tmp_path / "log", env=home.environment):
        wait_until((home.folder / "sent").exists, lambda: (tmp_path / "log").read_text())
        wait_until(lambda: (home.folder / "sent").read_bytes().endswith(b"--\n"), "the message")
    message = message_from_bytes(inside(home))
    assert message["Subject"].endswith("> echo windmill # treasure")
    assert message.get_payload() == "windmill\r\n"


def test_fwd_07_bs_with_a_real_client(home: ProxyHome) -> None:
    done = subprocess.run(
        [
            *("swaks", "--pipe", f"{home.folder}/sendmail -bs", "--to", ADMIN, "--from", "a@b.example"),
            *("--header", "Subject: treasure", "--body", "windmill", "--silent", "2"),
        ],
        env=home.environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert b"\r\nSubject: treasure\r\n" in inside(home)


def test_fwd_07_the_queue_under_other_names(
    home: ProxyHome, caller: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """mailq, -bp and -q are those of `secmailproxy queue`."""
    (home.folder / "mailq").unlink(missing_ok=True)
    (home.folder / "mailq").symlink_to(home.folder / "sendmail")
    done = subprocess.run([home.folder / "mailq"], env=home.environment, capture_output=True, check=True)
    assert done.stdout.startswith(b"The queue is empty"), done.stdout
    assert status(monkeypatch, "-q") == 0
    assert status(monkeypatch, "-qInone") == 64
    assert "no message with the id" in capsys.readouterr().err


def test_fwd_07_users_without_a_configuration_hand_over_to_the_proxy(
    home: ProxyHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They cannot read the keystore: the proxy runs as another user, with a socket for everyone."""
    with service_folder("everyone") as folder:
        socket = folder / "sendmail"
        monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "none"))
        monkeypatch.setenv(sendmail.SOCKET_VARIABLE, str(socket))
        before = home.folders.config_file.read_text()
        home.add_config(f'[forward.listen]\nsmtp = "{socket}"\neveryone = true\n')
        try:
            with serving(home):
                assert stat.S_IMODE(socket.stat().st_mode) == 0o666
                assert (
                    status(monkeypatch, "-i", "root", octets=b"Subject: treasure\n\nwindmill 9%\r99%\n.\n")
                    == 0
                )
                assert inside(home).endswith(b"\r\n\r\nwindmill 9%\r99%\r\n.\r\n")
                assert status(monkeypatch, "a@elsewhere.example") == 67
                assert "no recipient a@elsewhere.example" in capsys.readouterr().err
        finally:
            home.folders.config_file.write_text(before)
        assert status(monkeypatch, "root") == 78
        socket.touch()
        assert status(monkeypatch, "root") == 75
        assert "is secmailproxy running?" in capsys.readouterr().err
