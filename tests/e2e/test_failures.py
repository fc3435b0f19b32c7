"""When something fails: nothing leaves in clear, nothing is lost, and the client is told what to do."""

from __future__ import annotations

import imaplib
import signal
import smtplib
import socket
from collections.abc import Callable

import pytest
import trustme

from tests.fixtures.certificates import TestCA
from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.people import ProxyUser, introduce, leaked, letter, proxy_user
from tests.fixtures.postfix import REFUSAL, REFUSED, Postfix
from tests.fixtures.processes import free_port, wait_until
from tests.fixtures.proxy import ProxyFactory, Upstream
from tests.fixtures.recorder import Recorder


def refused(sender: ProxyUser, to: str, message: bytes) -> tuple[int, str]:
    """The reply that ends an attempt to send, wherever it came."""
    with smtplib.SMTP("127.0.0.1", sender.proxy.submission_port) as client:
        try:
            client.login(sender.address, sender.mailbox.password)
            client.sendmail(sender.address, [to], message)
        except smtplib.SMTPRecipientsRefused as error:
            code, text = error.recipients[to]
        except smtplib.SMTPResponseException as error:
            code, text = error.smtp_code, error.smtp_error
        else:
            raise AssertionError("the message was accepted")
    return code, text.decode() if isinstance(text, bytes) else text


def login_answer(person: ProxyUser, password: str | None = None) -> str:
    """How LOGIN fails, or how the session ends."""
    with (
        imaplib.IMAP4("127.0.0.1", person.proxy.imap_port) as client,
        pytest.raises(imaplib.IMAP4.error) as failure,
    ):
        client.login(person.address, person.mailbox.password if password is None else password)
    return str(failure.value)


@pytest.fixture
def alice_mailbox(dovecot: Dovecot) -> Mailbox:
    return dovecot.mailbox("alice")


def test_a_server_that_is_down_is_a_temporary_failure(
    proxies: ProxyFactory, alice_mailbox: Mailbox, ca: TestCA
) -> None:
    nowhere = Upstream(ca.ca_file, free_port(), free_port())
    alice = proxy_user(proxies, alice_mailbox, upstream=nowhere)
    code, text = refused(alice, "bob@example.test", letter(alice.address, "bob@example.test"))
    assert (code, text[:3]) in {(451, "4.4"), (454, "4.7"), (454, "4.4")}
    assert "UNAVAILABLE" in login_answer(alice)


def test_a_server_with_an_unknown_certificate_gets_no_password(
    proxies: ProxyFactory, alice_mailbox: Mailbox, dovecot: Dovecot, postfix: Postfix
) -> None:
    other = trustme.CA()
    home = proxies.folder / "other.pem"
    other.cert_pem.write_to_path(str(home))
    alice = proxy_user(
        proxies, alice_mailbox, upstream=Upstream(home, dovecot.imaps_port, postfix.submission_port)
    )
    code, _ = refused(alice, "bob@example.test", letter(alice.address, "bob@example.test"))
    assert 400 <= code < 500
    assert "UNAVAILABLE" in login_answer(alice)
    assert alice.address not in (dovecot.folder / "dovecot.log").read_text()
    assert alice.address not in postfix.log()


def test_a_wrong_password_is_the_servers_to_refuse(proxies: ProxyFactory, alice_mailbox: Mailbox) -> None:
    alice = proxy_user(proxies, alice_mailbox)
    assert "AUTHENTICATIONFAILED" in login_answer(alice, "wrong")
    with (
        smtplib.SMTP("127.0.0.1", alice.proxy.submission_port) as client,
        pytest.raises(smtplib.SMTPAuthenticationError) as failure,
    ):
        client.login(alice.address, "wrong")
    assert failure.value.smtp_code == 535
    assert "wrong" not in alice.proxy.log()


def test_the_smarthosts_refusal_comes_through(proxies: ProxyFactory, alice_mailbox: Mailbox) -> None:
    alice = proxy_user(proxies, alice_mailbox)
    code, text = refused(alice, REFUSED, letter(alice.address, REFUSED))
    assert code == 550
    assert REFUSAL in text


def test_a_rule_that_requires_encryption_refuses_at_rcpt(
    proxies: ProxyFactory,
    alice_mailbox: Mailbox,
    dovecot: Dovecot,
    postfix: Postfix,
    record: Callable[[int], Recorder],
) -> None:
    smtp = record(postfix.submissions_port)
    upstream = Upstream(dovecot.ca.ca_file, dovecot.imaps_port, smtp.port, smtp_tls="implicit")
    rule = '[[rules]]\nto = "*"\nprotect = "require"\n'
    alice = proxy_user(proxies, alice_mailbox, config=rule, upstream=upstream)
    carol = dovecot.mailbox("carol")
    code, text = refused(alice, carol.address, letter(alice.address, carol.address))
    assert code == 550
    assert text.startswith("5.7.5")
    assert carol.address in text
    assert b"DATA" not in smtp.sent
    assert not leaked(smtp.octets)
    assert carol.stored() == []


def test_sigterm_finishes_and_ends_with_0_and_the_next_start_reads_the_same(
    proxies: ProxyFactory, dovecot: Dovecot
) -> None:
    alice = proxy_user(proxies, dovecot.mailbox("alice"))
    bob = proxy_user(proxies, dovecot.mailbox("bob"))
    introduce(alice, bob)
    alice.send(bob.address, letter(alice.address, bob.address))
    wait_until(bob.mailbox.stored, "delivery")
    before = bob.read()
    assert bob.proxy.stop() == 0
    assert "Traceback" not in bob.proxy.log()
    bob.proxy = proxies.serve(bob.home)
    assert bob.read() == before


def test_a_killed_proxy_leaves_nothing_broken(proxies: ProxyFactory, dovecot: Dovecot) -> None:
    """SIGKILL in the middle of DATA: the recipient gets nothing, and the next start serves as before."""
    alice = proxy_user(proxies, dovecot.mailbox("alice"))
    bob = proxy_user(proxies, dovecot.mailbox("bob"))
    introduce(alice, bob)
    message = letter(alice.address, bob.address)
    with (
        socket.create_connection(("127.0.0.1", alice.proxy.submission_port)) as raw,
        raw.makefile("rwb") as lines,
    ):

        def say(line: bytes) -> bytes:
            lines.write(line + b"\r\n")
            lines.flush()
            while (answer := lines.readline())[3:4] == b"-":
                pass
            return answer

        lines.readline()
        say(b"EHLO localhost")
        import base64

        plain = base64.b64encode(f"\0{alice.address}\0{alice.mailbox.password}".encode())
        assert say(b"AUTH PLAIN " + plain).startswith(b"235")
        assert say(f"MAIL FROM:<{alice.address}>".encode()).startswith(b"250")
        assert say(f"RCPT TO:<{bob.address}>".encode()).startswith(b"250")
        assert say(b"DATA").startswith(b"354")
        lines.write(message)
        lines.flush()
        alice.proxy.process.send_signal(signal.SIGKILL)
        alice.proxy.process.wait(10)
        assert not any(leaked(path.read_bytes()) for path in alice.home.folder.rglob("*") if path.is_file())
    assert bob.mailbox.stored() == []
    alice.proxy = proxies.serve(alice.home)
    alice.send(bob.address, message)
    assert len(wait_until(bob.mailbox.stored, "delivery")) == 1
