"""fail2ban, really run, against the log of the program under attack (docs/abuse.md, examples/fail2ban).

Each attacker has an address of its own in 127.0.0.0/8. The names that they give try to pass for other lines
and other addresses; whom fail2ban finds must be the attackers and nobody else.
"""

from __future__ import annotations

import base64
import contextlib
import re
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from tests.fixtures.alone import ALICE, PASSWORD, alone
from tests.fixtures.certificates import TestCA
from tests.fixtures.processes import free_port, running, service_folder, wait_until
from tests.fixtures.proxy import SOURCES, Proxy, serving

T = TypeVar("T")
EXAMPLES = SOURCES / "examples/fail2ban"
FILTER = EXAMPLES / "filter.d/secmailproxy.conf"
LINE = '2026-01-02T03:04:05Z level=warning from=admission event="imap authentication failed" client=192.0.2.1'
NAMES = [
    "nobody@example.test",
    "192.0.2.2",
    'x" client=192.0.2.3',
    "x client=192.0.2.4 from=192.0.2.5",
    f"x\r\n{LINE}",
    f"x\n{LINE}\n",
    f"x\u2028{LINE}\u2028",
    f"x\u0085{LINE}\u0085",
    f"\x1b[2K\r{LINE}",
    "x" * 3000 + LINE,
    "\u202e1.2.0.291",
    "<HOST> %(x)s {x}",
    "\\",
    '"',
]
"""User names; also what is said as host name and sender."""
LIMITS = """
[listen]
connections_per_client = 8
login_failures = 5
lock_seconds = 3
"""
LOCAL = "the local password"
FORWARD = """
[forward.listen]
smtp = "127.0.0.1:{port}"
"""


def talk(proxy_port: int, source: str, *pieces: bytes) -> bytes:
    """Say all pieces, each after an answer to the one before; everything that was heard."""
    heard = b""
    with socket.create_connection(("127.0.0.1", proxy_port), 30, (source, 0)) as connection:
        for piece in (b"", *pieces):
            with contextlib.suppress(ConnectionError):
                connection.sendall(piece)
                heard += connection.recv(65536)
        with contextlib.suppress(ConnectionError):
            connection.shutdown(socket.SHUT_WR)
            while octets := connection.recv(65536):
                heard += octets
    return heard


def plain(name: str, password: str = "guess") -> bytes:
    """AUTH PLAIN."""
    return b"AUTH PLAIN " + base64.b64encode(b"\0%b\0%b" % (name.encode(), password.encode())) + b"\r\n"


def literal(octets: bytes) -> bytes:
    """A literal that need not be waited for."""
    return b"{%d+}\r\n%b" % (len(octets), octets)


def log_in(port: int, source: str, password: str) -> bytes:
    """The answers of the IMAP listener to a login of the account."""
    return talk(port, source, b"a LOGIN %b %b\r\n" % (ALICE.encode(), literal(password.encode())))


LATE = "127.0.3.1"
"""Attacks when fail2ban is already there."""


def at_once(attempt: Callable[[T], object], values: Sequence[T]) -> int:
    """Try all values, a few at a time: who fails is answered late. How many they are."""
    with ThreadPoolExecutor(7) as pool:
        return len(list(pool.map(attempt, values)))


def by_imap(proxy: Proxy, source: str) -> int:
    """Wrong user names, also in what the client says of itself."""

    def attempt(name: str) -> None:
        octets = name.encode()
        client_id = b'i ID ("name" "%b")\r\n' % re.sub(rb'[\r\n"\\]', b" ", octets)
        heard = talk(proxy.imap_port, source, client_id, b"a LOGIN " + literal(octets) + b" x\r\n")
        assert b"NO [AUTHENTICATIONFAILED]" in heard

    return at_once(attempt, NAMES)


def by_submission(proxy: Proxy, source: str) -> int:
    """Wrong user names, also as host name."""

    def attempt(name: str) -> None:
        hello = b"EHLO " + re.sub(r"[\x00-\x1f]", " ", name).encode() + b"\r\n"
        assert b"\r\n535 5.7.8 " in talk(proxy.submission_port, source, hello, plain(name))

    return at_once(attempt, NAMES)


def by_swaks(proxy: Proxy, source: str) -> int:
    """Mail without a login."""

    def attempt(name: str) -> None:
        sender = re.sub(r"[\x00-\x1f\s<>]", "_", name)
        done = subprocess.run(
            [
                *("swaks", "--server", "127.0.0.1", "--port", str(proxy.submission_port)),
                *("--local-interface", source, "--helo", "client.example"),
                *("--from", f"{sender}@example.test", "--to", f"{sender}@example.net"),
            ],
            capture_output=True,
            check=False,
        )
        assert b"530 5.7.0" in done.stdout, done

    return at_once(attempt, NAMES[:5])


def by_http(proxy: Proxy, source: str) -> int:
    request = b"POST /?client=192.0.2.6 HTTP/1.1\r\nHost: localhost\r\n\r\n" + LINE.encode() + b"\r\n"
    assert b"no web server" in talk(proxy.submission_port, source, request)
    talk(proxy.imap_port, source, request)
    return 2


def by_long_lines(proxy: Proxy, source: str) -> int:
    line = LINE.encode() + b" x" * 40_000 + b"\r\n"
    assert b"500 5.5.2 line too long" in talk(proxy.submission_port, source, line)
    assert b"BYE" in talk(proxy.imap_port, source, line)
    return 2


def by_junk(proxy: Proxy, source: str) -> int:
    junk = b"".join(re.sub(r"[\x00-\x1f]", " ", name).encode() + b"\r\n" for name in NAMES)
    assert b"too many errors" in talk(proxy.submission_port, source, junk)
    assert b"BYE Too many errors" in talk(proxy.imap_port, source, junk)
    return 2


def by_bare_line_ends(proxy: Proxy, source: str) -> int:
    assert b"500 5.5.2" in talk(proxy.submission_port, source, f"EHLO x\n{LINE}\r\n".encode())
    return 1


def by_many_connections(proxy: Proxy, source: str) -> int:
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            one = stack.enter_context(
                socket.create_connection(("127.0.0.1", proxy.imap_port), 30, (source, 0))
            )
            assert one.recv(1000).startswith(b"* OK")
        assert talk(proxy.imap_port, source).startswith(b"* BYE [UNAVAILABLE]")
    return 1


def by_guessing(proxy: Proxy, source: str) -> int:
    """At both listeners; the sixth guess is not tried, whatever it is, nor is it by another name."""
    for number in range(2):
        heard = talk(proxy.submission_port, source, b"EHLO x\r\n", plain(ALICE.upper(), f"guess {number}"))
        assert b"\r\n535 5.7.8 " in heard
    for number in range(2, 5):
        assert b"NO [AUTHENTICATIONFAILED]" in log_in(proxy.imap_port, source, f"guess {number}")
    assert b"a NO [UNAVAILABLE] Too many failed logins" in log_in(proxy.imap_port, source, LOCAL)
    heard = talk(proxy.submission_port, source, b"EHLO x\r\n", plain(ALICE, LOCAL))
    assert b"\r\n454 4.7.0 too many failed logins" in heard
    return 7


def by_system_mail(proxy: Proxy, source: str) -> int:
    """System mail for others."""
    sender = b"EHLO x\r\n", b"MAIL FROM:<>\r\n"
    names = [b"192.0.2.7@example.org", b'"client=192.0.2.8"@example.org', b"nobody@[192.0.2.9]"]
    (port,) = re.findall(r'(?m)^smtp = "127.0.0.1:(\d+)"', proxy.home.folders.config_file.read_text())
    heard = talk(int(port), source, *sender, *[b"RCPT TO:<%b>\r\n" % name for name in names])
    assert heard.count(b"550 5.7.1 relay access denied\r\n") == 3
    return 3


ATTACKS = {
    f"127.0.1.{number}": attack
    for number, attack in enumerate(
        [
            by_imap,
            by_submission,
            by_swaks,
            by_http,
            by_long_lines,
            by_junk,
            by_bare_line_ends,
            by_many_connections,
            by_guessing,
            by_system_mail,
        ],
        1,
    )
}


def enters(proxy: Proxy, source: str) -> bool:
    """Whether the owner's password is taken at submission."""
    heard = talk(proxy.submission_port, source, b"EHLO x\r\n", plain(ALICE, LOCAL))
    return b"\r\n235 " in heard


@pytest.fixture(scope="module")
def proxy(ca: TestCA) -> Iterator[Proxy]:
    """For an account with a local password; there is no server behind it."""
    with alone(ca, free_port(), config=FORWARD.format(port=free_port())) as home:
        config_file = home.folders.config_file
        limited = config_file.read_text().replace("[listen]", LIMITS)
        config_file.write_text(f'{limited}\nlogin = "local"\n')
        home.set_secret(f"local-password:{ALICE}", LOCAL)
        home.set_secret(f"password:{ALICE}", PASSWORD)
        with serving(home) as proxy:
            yield proxy


@pytest.fixture(scope="module")
def attacked(proxy: Proxy) -> Counter[str]:
    """How many lines each attacker has left in the log of `proxy`."""
    with ThreadPoolExecutor() as pool:
        counts = pool.map(lambda source: ATTACKS[source](proxy, source), ATTACKS)
        lines = Counter(dict(zip(ATTACKS, counts, strict=True)))
    assert enters(proxy, "127.0.2.1"), "the owner is not disturbed"
    guesser = next(source for source, attack in ATTACKS.items() if attack is by_guessing)
    wait_until(lambda: enters(proxy, guesser), "a right password is taken after the lock")
    found = Counter(re.findall(r'event="\S+ login locked" client=(\S+)', proxy.log()))
    assert set(found) == {guesser}
    lines[guesser] += found[guesser] - 2
    return lines


def matched(log: Path) -> Counter[str]:
    """The addresses that fail2ban-regex finds in a log by the example filter."""
    done = subprocess.run(
        ["fail2ban-regex", "--out", "ip", str(log), str(FILTER)], capture_output=True, check=True
    )
    return Counter(done.stdout.decode().split())


def test_the_filter_finds_the_attackers_and_nobody_else(proxy: Proxy, attacked: Counter[str]) -> None:
    """Junk and long lines leave a line for each, and one for the end; the rest as many as attempts."""
    found = matched(proxy.log_file)
    assert set(found) == set(attacked)
    assert found == attacked


def test_the_journal_gives_the_same(proxy: Proxy, attacked: Counter[str], tmp_path: Path) -> None:
    """As fail2ban puts its records together: host name, identifier and process number before the line."""
    log = tmp_path / "journal"
    log.write_text("".join(f"host secmailproxy[4711]: {line}\n" for line in proxy.log().splitlines()))
    assert matched(log) == attacked


def test_no_line_is_forged_and_no_name_is_logged(proxy: Proxy, attacked: Counter[str]) -> None:
    text = proxy.log_file.read_bytes().decode("ascii")
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ level=\w+ from=\S+ event="
    lines = [line for line in text.split("\n") if " level=" in line]
    assert all(re.match(stamp, line) for line in lines)
    assert "192.0.2." not in text
    assert "nobody@example.test" not in text
    for refused in (line for line in lines if "from=admission" in line):
        assert refused.partition(" client=")[2].split()[0] in attacked


CONFIG = """
[DEFAULT]
ignoreself = false
banaction = record
action = record
[secmailproxy]
backend = polling
logpath = {log}
bantime = 2
findtime = 1h
maxretry = 1
"""
ACTION = """
[Definition]
actionban = printf 'ban %%s\\n' <ip> >> {record}
actionunban = printf 'unban %%s\\n' <ip> >> {record}
"""


def test_a_running_fail2ban_bans_and_unbans(proxy: Proxy, attacked: Counter[str]) -> None:
    """The example jail and filter as they are, with a log file and an action that only takes notes."""
    with service_folder("fail2ban") as folder:
        record = folder / "record"
        record.touch()
        shutil.copytree(EXAMPLES, folder, dirs_exist_ok=True)
        shutil.copy("/etc/fail2ban/fail2ban.conf", folder)
        (folder / "action.d").mkdir()
        (folder / "action.d/record.conf").write_text(ACTION.format(record=record))
        (folder / "jail.conf").write_text("")
        (folder / "jail.local").write_text(CONFIG.format(log=proxy.log_file))
        (folder / "fail2ban.local").write_text(f"[Definition]\ndbfile = {folder}/bans\n")
        command = ["fail2ban-server", "-f", "-x", "-c", folder, "-s", folder / "socket", "-p", folder / "pid"]
        command += ["--logtarget", "stdout", "start"]

        def noted(word: str) -> set[str]:
            return {
                line.split()[1] for line in record.read_text().splitlines() if line.startswith(f"{word} ")
            }

        def told() -> str:
            return record.read_text() + (folder / "out").read_text()

        with running(command, ports=[], log=folder / "out"):
            wait_until(lambda: "Jail 'secmailproxy' started" in told(), told)
            by_http(proxy, LATE)
            wait_until(lambda: LATE in noted("ban"), told)
            wait_until(lambda: LATE in noted("unban"), told)
            assert noted("ban") <= {LATE, *attacked}
