"""`secmailproxy mailbox`: beside a running proxy, with STARTTLS, killed at any time, and what it says."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from secmailproxy.accounts import password_secret
from secmailproxy.policy import Protect
from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.people import ProxyUser, leaked, letter, protect, proxy_user
from tests.fixtures.proxy import ProxyFactory, Upstream
from tests.fixtures.relay import Relay


@pytest.fixture
def user(dovecot: Dovecot, proxies: ProxyFactory) -> ProxyUser:
    """As `unchanged`, for one test."""
    return keeper(dovecot, proxies)


@pytest.fixture(scope="module")
def unchanged(dovecot: Dovecot, module_proxies: ProxyFactory) -> ProxyUser:
    """Somebody with mail, for tests after which it is as before."""
    return keeper(dovecot, module_proxies)


def keeper(dovecot: Dovecot, proxies: ProxyFactory) -> ProxyUser:
    """Somebody whose password is stored, with three messages that the server can read, and one it cannot."""
    user = proxy_user(proxies, dovecot.mailbox("keeper"))
    user.home.set_secret(password_secret(user.address), user.mailbox.password)
    for octets in (
        letter(user.address, user.address),
        protect(user, letter(user.address, user.address, subject="third")),
        letter(user.address, user.address, subject="second", text="windmill " * 9000),
        protect(user, letter(user.address, user.address, subject="fourth"), Protect.SIGN),
    ):
        user.mailbox.append(octets, flags=r"(\Flagged $Label2)")
    return user


def tree(mailbox: Mailbox) -> dict[Path, str]:
    """Every file of the account with its digest, its log of reads excepted."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in mailbox.folder.rglob("*")
        if path.is_file() and not path.name.startswith("dovecot.list.index.log")
    }


def test_a_dry_run_changes_nothing(unchanged: ProxyUser) -> None:
    user = unchanged
    with user.mailbox.imap() as client:  # the server's files settle
        client.select("INBOX", readonly=True)
        client.fetch("1:*", "(FLAGS BODY.PEEK[])")
    before, seen = tree(user.mailbox), user.mailbox.stored()
    done = user.home.run("mailbox", "encrypt", "--dry-run", "INBOX")
    assert done.stdout.decode().splitlines() == [
        "INBOX: 3 message(s) would be encrypted",
        "  1 left alone: encrypted already",
    ]
    assert {
        path for path in tree(user.mailbox).items() ^ before.items() if "index" not in path[0].name
    } == set()
    assert user.mailbox.stored() == seen


def test_beside_a_running_proxy_mail_clients_see_what_they_saw(user: ProxyUser) -> None:
    seen = user.read()
    done = json.loads(user.home.run("mailbox", "encrypt", "--all", "--json").stdout)
    assert {box["name"]: box["replaced"] for box in done.pop("mailboxes")} == {
        "INBOX": 3,
        "Drafts": 0,
        "Sent": 0,
        "Trash": 0,
    }
    assert done == {
        "version": 1,
        "errand": "encrypt",
        "account": user.address,
        "dry_run": False,
        "error": None,
    }
    assert not [octets for octets in user.mailbox.stored() if leaked(octets)]
    assert sorted(user.read()) == sorted(seen)
    assert user.home.run("mailbox", "encrypt", "INBOX").stdout.startswith(b"INBOX: 0 message(s) encrypted")

    refused = user.home.run("mailbox", "decrypt", "INBOX", check=False)
    assert refused.returncode == 64
    assert b"give --yes" in refused.stderr
    assert not [octets for octets in user.mailbox.stored() if leaked(octets)]
    done = json.loads(user.home.run("mailbox", "decrypt", "--yes", "--json", "INBOX").stdout)
    assert done["mailboxes"][0]["replaced"] == 3
    assert done["mailboxes"][0]["left"] == {"not encrypted by secmailproxy": 1}
    assert sorted(user.read()) == sorted(seen)
    done = json.loads(user.home.run("mailbox", "decrypt", "--yes", "--any-sender", "--json", "INBOX").stdout)
    assert done["mailboxes"][0]["replaced"] == 1
    assert len([octets for octets in user.mailbox.stored() if leaked(octets)]) == 4


def test_by_starttls_and_with_a_password_from_a_file(
    dovecot: Dovecot, proxies: ProxyFactory, upstream: Upstream, tmp_path: Path
) -> None:
    plain = Upstream(upstream.ca_file, dovecot.imap_port, upstream.smtp_port, imap_tls="starttls")
    user = proxy_user(proxies, dovecot.mailbox("starttls"), upstream=plain)
    with user.mailbox.imap() as client:
        client.create('"Entw&APw-rfe"')
    user.mailbox.append(letter(user.address, user.address), '"Entw&APw-rfe"')
    password = tmp_path / "password"
    for text, status, words in [("wrong", 77, b"secmailproxy setup"), (user.mailbox.password, 0, b"")]:
        password.write_text(text + "\n")
        done = user.home.run("mailbox", "encrypt", "--password-file", password, "Entwürfe", check=False)
        assert (done.returncode, words in done.stderr) == (status, True), done.stderr
    assert done.stdout.decode() == "Entwürfe: 1 message(s) encrypted\n"
    (stored,) = user.mailbox.stored("Entw&APw-rfe")
    assert not leaked(stored)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["encrypt"], 64, "Name the mailboxes"),
        (["encrypt", "--all", "INBOX"], 64, "Name the mailboxes"),
        (["encrypt", "--account", "nobody@example.test", "INBOX"], 64, "Name one account with --account"),
        (["encrypt", "INBOX", "No such"], 64, 'localhost has no mailbox "No such"; it has: '),
        (["decrypt", "INBOX"], 64, "give --yes"),
    ],
)
def test_what_cannot_be_done_says_why(unchanged: ProxyUser, words: list[str], status: int, said: str) -> None:
    done = unchanged.home.run("mailbox", *words, check=False)
    assert (done.returncode, done.stdout) == (status, b"")
    assert said in done.stderr.decode()


def test_the_wrong_port_is_said_to_be_that(user: ProxyUser, dovecot: Dovecot) -> None:
    config = user.home.folders.config_file
    config.write_text(
        config.read_text().replace(f"port = {dovecot.imaps_port}", f"port = {dovecot.imap_port}")
    )
    done = user.home.run("mailbox", "encrypt", "INBOX", check=False)
    assert done.returncode == 75
    assert "does not answer in TLS (WRONG_VERSION_NUMBER). Check port and tls" in done.stderr.decode()


def test_without_a_key_a_dry_run_says_so_too(dovecot: Dovecot, proxies: ProxyFactory) -> None:
    mailbox = dovecot.mailbox("keyless")
    home = proxies.home(mailbox)
    home.set_secret(password_secret(mailbox.address), mailbox.password)
    done = home.run("mailbox", "encrypt", "--dry-run", "INBOX", check=False)
    assert (done.returncode, done.stdout) == (69, b"")
    assert f"secmailproxy key generate {mailbox.address}" in done.stderr.decode()


async def test_killed_it_is_finished_by_the_next_run(user: ProxyUser, relay: Relay, dovecot: Dovecot) -> None:
    """What the server says last, that it has stored a message, is lost with the process."""
    config = user.home.folders.config_file
    whole = config.read_text()
    config.write_text(whole.replace(f"port = {dovecot.imaps_port}", f"port = {relay.port}"))
    originals = user.mailbox.stored()
    relay.arm("server", 5, stall=True)
    process = await asyncio.create_subprocess_exec(
        *user.home.command("mailbox", "encrypt", "INBOX"),
        env=user.home.environment,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
    )
    await asyncio.wait_for(relay.broken.wait(), 30)
    config.write_text(whole)
    busy = await asyncio.to_thread(user.home.run, "mailbox", "encrypt", "INBOX", check=False)
    assert (busy.returncode, b"Another secmailproxy works on this mailbox" in busy.stderr) == (64, True)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await asyncio.to_thread(user.home.run, "mailbox", "encrypt", "INBOX")
    assert len(await asyncio.to_thread(user.mailbox.stored)) == len(originals)
    await asyncio.to_thread(user.home.run, "mailbox", "decrypt", "--yes", "INBOX")
    assert sorted(await asyncio.to_thread(user.mailbox.stored)) == sorted(originals)


async def test_ctrl_c_gives_the_terminal_back(user: ProxyUser, relay: Relay, dovecot: Dovecot) -> None:
    config = user.home.folders.config_file
    whole = config.read_text()
    config.write_text(whole.replace(f"port = {dovecot.imaps_port}", f"port = {relay.port}"))
    relay.arm("client", before=b" APPEND ", stall=True)
    terminal, end = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *user.home.command("mailbox", "encrypt", "INBOX"),
        env=user.home.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=end,
    )
    os.close(end)
    await asyncio.wait_for(relay.broken.wait(), 30)
    process.send_signal(signal.SIGINT)
    stdout, _ = await asyncio.wait_for(process.communicate(), 30)
    said = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while octets := os.read(terminal, 65536):
            said += octets
    os.close(terminal)
    assert (process.returncode, stdout) == (130, b"")
    assert b"interrupted; no message is lost. Run the command again" in said
    hidden, shown = b"\x1b[?25l", b"\x1b[?25h"
    assert said.rindex(shown) > said.rindex(hidden), "the cursor is there again"


def test_who_says_no_is_told_that_nothing_was_changed(unchanged: ProxyUser) -> None:
    terminal, end = pty.openpty()
    with subprocess.Popen(
        unchanged.home.command("mailbox", "decrypt", "INBOX"),
        env=unchanged.home.environment,
        stdin=end,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(end)
        os.write(terminal, b"n\n")
        stdout, stderr = process.communicate()
    os.close(terminal)
    assert (process.returncode, stdout) == (130, b"")
    assert stderr.endswith(b"[y/N]: Nothing was changed.\n")


def test_a_terminal_is_shown_a_bar_and_asked(user: ProxyUser) -> None:
    terminal, end = pty.openpty()
    arguments = user.home.command("mailbox", "decrypt", "--any-sender", "INBOX")
    with subprocess.Popen(
        arguments, env=user.home.environment, stdin=end, stdout=subprocess.PIPE, stderr=end
    ) as process:
        os.close(end)
        os.write(terminal, b"y\n")
        said = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while octets := os.read(terminal, 65536):
                said += octets
        assert process.stdout is not None
        assert process.stdout.read().startswith(b"INBOX: 1 message(s) decrypted\n")
    os.close(terminal)
    assert process.returncode == 0
    assert b"will see these messages in clear. Go on? [y/N]:" in said
    assert b"INBOX  [" in said
    assert b"1/1" in said
    assert not leaked(said)


def test_a_process_that_holds_keys_leaves_no_core(unchanged: ProxyUser) -> None:
    script = """
import resource, sys
from secmailproxy.cli import program
try:
    program.main(sys.argv[1:])
finally:
    print(resource.getrlimit(resource.RLIMIT_CORE))
"""
    command = [sys.executable, "-c", script, "mailbox", "encrypt", "--dry-run", "INBOX"]
    done = subprocess.run(command, env=unchanged.home.environment, capture_output=True, check=True)
    assert done.stdout.endswith(b"(0, 0)\n")
