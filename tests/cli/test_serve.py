"""`secmailproxy serve` as a process: readiness, signals, reload, one instance, logs."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import imaplib
import os
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from keystore.secretsfile import FileSecrets
from secmailproxy.accounts import local_password_secret, password_secret
from secmailproxy.supervision import LOCK, only_instance
from tests.fixtures.certificates import TestCA
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.processes import die_with_parent, free_port, listening, wait_until
from tests.fixtures.quicksecrets import quick_secrets
from tests.fixtures.sink import smtp_sink

ADDRESS = "alice@example.test"
PASSWORD = "upstream secret"
LOCAL = "local secret"


@dataclass
class Proxy:
    """One SECMAILPROXY_HOME and the processes that serve it."""

    home: Path
    ca: TestCA
    imap_port: int = 1
    smtp_port: int = 1
    extra: str = ""
    address: str = ADDRESS
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def configure(self, imap: str = "127.0.0.1:0", submission: str = "127.0.0.1:0", extra: str = "") -> None:
        """Write the configuration."""
        path = self.home / "config.toml"
        path.write_text(
            f"""{extra}
            [listen]
            imap = "{imap}"
            submission = "{submission}"
            [secrets]
            backend = "file"
            passphrase_file = "passphrase"
            [[accounts]]
            address = "{self.address}"
            login = "local"
            imap = {{ host = "127.0.0.1", port = {self.imap_port}, ca_file = "{self.ca.ca_file}" }}
            smtp = {{ host = "127.0.0.1", port = {self.smtp_port}, ca_file = "{self.ca.ca_file}" }}
            """
        )
        path.chmod(0o600)

    def start(self) -> tuple[subprocess.Popen[bytes], dict[str, tuple[str, int]]]:
        """Serve; the process and where it listens, once it says READY."""
        reading, writing = os.pipe()
        process = self.spawn("--ready-fd", str(writing), pass_fds=(writing,))
        os.close(writing)
        with os.fdopen(reading) as stream:
            line = stream.readline()
        if not line:
            pytest.fail(f"not ready: {process.communicate()}")
        places = dict(word.split("=") for word in line.split()[1:])
        return process, {name: split(place) for name, place in places.items()}

    def spawn(self, *words: str, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        with (self.home / "stdout").open("wb") as stdout, (self.home / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "secmailproxy", "serve", *words],
                env={**os.environ, "SECMAILPROXY_HOME": str(self.home), **self.environment},
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                preexec_fn=die_with_parent,
            )
        self.processes.append(process)
        return process

    def log(self) -> str:
        """What the last process has logged."""
        return (self.home / "stderr").read_text()


def split(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    return host.strip("[]"), int(port)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with secrets; made once, for the passphrase takes its time."""
    home = tmp_path_factory.mktemp("template") / "home"
    (home / "state").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    (home / "passphrase").write_text("open\n")
    (home / "passphrase").chmod(0o600)
    quick_secrets(home / "state" / "secrets.json", "open")
    secrets = FileSecrets(home / "state" / "secrets.json", lambda: "open")
    secrets.set(password_secret(ADDRESS), PASSWORD)
    secrets.set(local_password_secret(ADDRESS), LOCAL)
    return home


@pytest.fixture
def proxy(tmp_path: Path, template: Path, ca: TestCA) -> Iterator[Proxy]:
    """A home of its own; whatever serves it at the end is killed."""
    made = Proxy(Path(shutil.copytree(template, tmp_path / "home")), ca)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
        process.wait()


def finish(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(20)


def test_it_reports_listens_and_stops(proxy: Proxy) -> None:
    proxy.configure(submission="[::1]:0")
    process, places = proxy.start()
    with smtplib.SMTP(*places["submission"]) as client:
        assert client.ehlo()[0] == 250
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(ADDRESS, "wrong")
    with contextlib.closing(socket.create_connection(places["imap"])) as imap:
        assert imap.recv(100).startswith(b"* OK")
    assert finish(process) == 0
    report = (proxy.home / "stdout").read_text()
    assert f"IMAP        {places['imap'][0]}:{places['imap'][1]}" in report
    assert f"submission  [::1]:{places['submission'][1]}" in report
    assert f"{ADDRESS} (IMAP 127.0.0.1:1, SMTP 127.0.0.1:1); log in with the local password" in report
    assert "no key" in report
    lines = proxy.log().splitlines()
    assert all(line.split()[1].startswith("level=") for line in lines), lines
    assert lines[-1].endswith("event=stopped")
    for secret in (PASSWORD, LOCAL, "wrong"):
        assert secret not in proxy.log()


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
async def test_submissions_in_flight_finish(proxy: Proxy, ca: TestCA, kind: signal.Signals) -> None:
    async with smtp_sink(ca, ADDRESS, PASSWORD) as sink:
        proxy.smtp_port = sink.port
        proxy.configure()
        process, places = await asyncio.to_thread(proxy.start)

        def submit() -> dict[str, tuple[int, bytes]]:
            # Closed without QUIT, for the server may say 421 and go first once it is told to stop.
            with contextlib.closing(smtplib.SMTP(*places["submission"], timeout=30)) as client:
                client.login(ADDRESS, LOCAL)
                message = f"From: {ADDRESS}\r\nTo: bob@example.test\r\nSubject: hi\r\n\r\nhello\r\n"
                return client.sendmail(ADDRESS, ["bob@example.test"], message)

        submitting = asyncio.create_task(asyncio.to_thread(submit))
        await asyncio.wait_for(sink.arrived.wait(), 30)
        process.send_signal(kind)
        await asyncio.to_thread(wait_until, lambda: "event=stopping" in proxy.log(), proxy.log)
        port = int(places["submission"][1])
        await asyncio.to_thread(wait_until, lambda: not listening(port), "the port is closed to new clients")
        assert process.poll() is None
        sink.release.set()
        assert await submitting == {}
        assert await asyncio.to_thread(process.wait, 20) == 0
        assert len(sink.messages) == 1


async def test_a_second_signal_ends_the_grace(proxy: Proxy, ca: TestCA) -> None:
    async with smtp_sink(ca, ADDRESS, PASSWORD) as sink:
        proxy.smtp_port = sink.port
        proxy.configure()
        process, places = await asyncio.to_thread(proxy.start)

        def submit() -> None:
            with smtplib.SMTP(*places["submission"], timeout=30) as client:
                client.login(ADDRESS, LOCAL)
                client.sendmail(ADDRESS, ["bob@example.test"], f"From: {ADDRESS}\r\n\r\nhello\r\n")

        submitting = asyncio.create_task(asyncio.to_thread(submit))
        await asyncio.wait_for(sink.arrived.wait(), 30)
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(wait_until, lambda: "event=stopping" in proxy.log(), proxy.log)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 10) == 0
        with pytest.raises((smtplib.SMTPException, ConnectionError)):
            await submitting
        assert "a second signal" in proxy.log()
        sink.release.set()


def test_reload(proxy: Proxy) -> None:
    proxy.configure()
    process, places = proxy.start()
    client = smtplib.SMTP(*places["submission"])
    client.ehlo()

    proxy.configure(extra="mistake = 1")
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the old one stays in force" in proxy.log(), proxy.log)
    assert "there is no such option" in proxy.log()
    assert client.noop()[0] == 250

    taken = socket.create_server(("127.0.0.1", 0))
    proxy.configure(imap=f"127.0.0.1:{taken.getsockname()[1]}")
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: "Cannot listen on" in proxy.log(), proxy.log)
    taken.close()
    with contextlib.closing(socket.create_connection(places["imap"])) as imap:
        assert imap.recv(100).startswith(b"* OK")

    port = free_port()
    proxy.configure(imap=f"127.0.0.1:{port}")
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: "was read again" in proxy.log(), proxy.log)
    with contextlib.closing(socket.create_connection(("127.0.0.1", port))) as imap:
        assert imap.recv(100).startswith(b"* OK")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(places["imap"])
    # The submission listener kept its socket, and its session.
    assert client.noop()[0] == 250

    for path in (proxy.home / "state" / "keystore").iterdir():
        if path.is_file():
            path.write_bytes(b"damaged")
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: "send SIGHUP again" in proxy.log(), proxy.log)
    assert client.noop()[0] == 250
    client.quit()
    with smtplib.SMTP(*places["submission"]) as again:
        assert again.ehlo()[0] == 250
    assert finish(process) == 0


def test_reload_serves_new_accounts(proxy: Proxy, dovecot: Dovecot) -> None:
    mailbox = dovecot.mailbox("reload")
    proxy.configure()
    process, places = proxy.start()
    before = imaplib.IMAP4(*places["imap"])
    with pytest.raises(imaplib.IMAP4.error):
        before.login(mailbox.address, mailbox.password)
    before.shutdown()
    path = proxy.home / "config.toml"
    path.write_text(
        f"""{path.read_text()}
[[accounts]]
address = "{mailbox.address}"
imap = {{ host = "127.0.0.1", port = {dovecot.imaps_port}, ca_file = "{proxy.ca.ca_file}" }}
smtp = {{ host = "127.0.0.1" }}
"""
    )
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: "was read again" in proxy.log(), proxy.log)
    with imaplib.IMAP4(*places["imap"]) as client:
        client.login(mailbox.address, mailbox.password)
        assert client.select("INBOX")[0] == "OK"
    assert finish(process) == 0


def test_only_one_instance_serves(proxy: Proxy) -> None:
    proxy.configure()
    process, _ = proxy.start()
    second = proxy.spawn()
    assert second.wait(20) == 78
    assert f"already serves this configuration (process {process.pid})" in proxy.log()
    assert finish(process) == 0


def test_whoever_asks_for_its_status_does_not_keep_it_from_starting(tmp_path: Path) -> None:
    """`secmailproxy status` takes the lock for a moment; a monitor does so all the time."""
    with (tmp_path / LOCK).open("w") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        gone = threading.Timer(0.05, fcntl.flock, (asking, fcntl.LOCK_UN))
        gone.start()
        with only_instance(tmp_path):
            assert (tmp_path / LOCK).read_text() == f"{os.getpid()}\n"
        gone.join()


def test_a_port_in_use_is_explained(proxy: Proxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        proxy.configure(submission=place)
        process = proxy.spawn()
        assert process.wait(20) == 78
    assert f"Cannot listen on {place}" in proxy.log()
    assert "change listen.submission in" in proxy.log()
    assert "Traceback" not in proxy.log()


def test_a_wrong_passphrase_ends_it_with_status_75(proxy: Proxy) -> None:
    proxy.configure()
    (proxy.home / "passphrase").write_text("shut\n")
    process = proxy.spawn()
    assert process.wait(20) == 75
    assert "Traceback" not in proxy.log()
    assert "passphrase" in proxy.log()


def test_systemd_is_told(proxy: Proxy, tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(path)
        supervisor.settimeout(30)
        proxy.environment = {"NOTIFY_SOCKET": path}
        proxy.configure()
        process, _ = proxy.start()
        told = [supervisor.recv(100)]
        process.send_signal(signal.SIGHUP)
        told += [supervisor.recv(100), supervisor.recv(100)]
        assert finish(process) == 0
        told.append(supervisor.recv(100))
    assert told == [b"READY=1", b"RELOADING=1", b"READY=1", b"STOPPING=1"]


def test_the_process_leaves_no_core_and_no_open_files(proxy: Proxy) -> None:
    proxy.configure()
    process, _ = proxy.start()
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    assert finish(process) == 0
    private = [path for path in (proxy.home / "state").rglob("*") if path.stat().st_mode & 0o077]
    assert private == []
