"""Real clients over TLS between them and the proxy, trusting the certificate that it made and no other."""

from __future__ import annotations

import imaplib
import signal
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.people import letter
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import Proxy, ProxyFactory

LISTEN = '[listen]\nimaps = "127.0.0.1:0"\nsubmissions = "127.0.0.1:0"\n'


@dataclass
class Served:
    """A proxy with TLS, and its certificate as it was exported."""

    proxy: Proxy
    mailbox: Mailbox
    certificate: Path

    @property
    def context(self) -> ssl.SSLContext:
        """What a client trusts."""
        return ssl.create_default_context(cafile=self.certificate)


@pytest.fixture(scope="module")
def served(module_proxies: ProxyFactory, dovecot: Dovecot) -> Served:
    mailbox = dovecot.mailbox("tls")
    home = module_proxies.home(mailbox)
    file = home.folders.config_file
    file.write_text(file.read_text().replace("[listen]\n", LISTEN))
    refused = home.run("serve", check=False)
    assert refused.returncode == 78
    assert b"listen.imaps needs a certificate; run: secmailproxy certificate create" in refused.stderr
    home.run("certificate", "create")
    certificate = home.folder / "exported.pem"
    home.run("certificate", "export", "--output", certificate)
    return Served(module_proxies.serve(home), mailbox, certificate)


def _run(argv: list[str | Path], message: bytes) -> str:
    done = subprocess.run(argv, input=message, capture_output=True, check=False, timeout=60)
    output = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, output
    return output


def by_smtplib_starttls(served: Served, message: bytes) -> None:
    with smtplib.SMTP("localhost", served.proxy.submission_port) as client:
        client.starttls(context=served.context)
        _send(served, client, message)


def by_smtplib(served: Served, message: bytes) -> None:
    port = served.proxy.submissions_port
    with smtplib.SMTP_SSL("localhost", port, context=served.context) as client:
        _send(served, client, message)


def _send(served: Served, client: smtplib.SMTP, message: bytes) -> None:
    client.login(served.mailbox.address, served.mailbox.password)
    assert client.sendmail(served.mailbox.address, [served.mailbox.address], message) == {}


def by_swaks(served: Served, message: bytes, *, starttls: bool = False) -> None:
    port = served.proxy.submission_port if starttls else served.proxy.submissions_port
    address = served.mailbox.address
    login = ["--auth", "PLAIN", "--auth-user", address, "--auth-password", served.mailbox.password]
    # The name that swaks compares is that of --server.
    trust = ["--tls-verify", "--tls-ca-path", served.certificate, "--tls-protocol", "tlsv1_3"]
    mode = "--tls" if starttls else "--tls-on-connect"
    server = ["--server", f"127.0.0.1:{port}", mode, "--pipeline"]
    output = _run(["swaks", *server, *trust, *login, "-f", address, "-t", address, "-d", "-"], message)
    assert "TLS started" in output


def by_swaks_starttls(served: Served, message: bytes) -> None:
    by_swaks(served, message, starttls=True)


def by_msmtp(served: Served, message: bytes, *, starttls: bool = False) -> None:
    port = served.proxy.submission_port if starttls else served.proxy.submissions_port
    address = served.mailbox.address
    tls = [
        "--tls=on",
        f"--tls-starttls={'on' if starttls else 'off'}",
        f"--tls-trust-file={served.certificate}",
    ]
    login = ["--auth=plain", f"--user={address}", f"--passwordeval=echo '{served.mailbox.password}'"]
    server = ["--file=/dev/null", "--host=localhost", f"--port={port}"]
    _run(["msmtp", *server, *tls, *login, f"--from={address}", address], message)


def by_msmtp_starttls(served: Served, message: bytes) -> None:
    by_msmtp(served, message, starttls=True)


CLIENTS = [by_smtplib, by_smtplib_starttls, by_swaks, by_swaks_starttls, by_msmtp, by_msmtp_starttls]


@pytest.mark.parametrize("send", CLIENTS)
def test_a_message_sent_over_tls_is_read_over_tls(
    send: Callable[[Served, bytes], None], served: Served
) -> None:
    subject = f"by {send.__name__}"
    message = letter(served.mailbox.address, served.mailbox.address, subject=subject)
    send(served, message.replace(b"\r\n", b"\n") if "smtplib" not in send.__name__ else message)
    with imaplib.IMAP4_SSL("localhost", served.proxy.imaps_port, ssl_context=served.context) as client:
        client.login(served.mailbox.address, served.mailbox.password)

        def found() -> bool:
            client.select("INBOX")
            return client.search(None, "SUBJECT", f'"{subject}"')[1] != [b""]

        wait_until(found, served.proxy.log)


@pytest.mark.parametrize("protocol", ["smtp", "submissions", "imaps"])
def test_openssl_verifies_the_name(protocol: str, served: Served) -> None:
    """The certificate alone is enough, for the name and for the address."""
    proxy = served.proxy
    port = {"smtp": proxy.submission_port, "submissions": proxy.submissions_port, "imaps": proxy.imaps_port}
    how = ["-starttls", "smtp"] if protocol == "smtp" else []
    for name in (["-verify_hostname", "localhost"], ["-verify_ip", "127.0.0.1"]):
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port[protocol]}", *how, "-quiet"]
        trust = ["-CAfile", served.certificate, "-verify_return_error", *name]
        goodbye = b"a LOGOUT\r\n" if protocol == "imaps" else b"QUIT\r\n"
        output = _run([*command, *trust], goodbye)
        assert ("a OK" if protocol == "imaps" else "221 2.0.0") in output


def test_without_it_there_is_no_trust(served: Served) -> None:
    """The reason for all this: a program that took the port would not have the key."""
    port = served.proxy.submissions_port
    with pytest.raises(ssl.SSLCertVerificationError):
        smtplib.SMTP_SSL("localhost", port, context=ssl.create_default_context())
    with pytest.raises(ssl.SSLCertVerificationError):
        imaplib.IMAP4_SSL("localhost", served.proxy.imaps_port, ssl_context=ssl.create_default_context())


def test_a_renewed_certificate_is_shown_after_sighup(served: Served) -> None:
    """Sessions that have begun go on."""
    home = served.proxy.home
    with smtplib.SMTP_SSL("localhost", served.proxy.submissions_port, context=served.context) as client:
        home.run("certificate", "renew")
        home.run("certificate", "export", "--output", served.certificate)
        served.proxy.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "was read again" in served.proxy.log(), served.proxy.log)
        assert client.noop()[0] == 250
    with smtplib.SMTP_SSL("localhost", served.proxy.submissions_port, context=served.context) as client:
        assert client.noop()[0] == 250
    imaplib.IMAP4_SSL("localhost", served.proxy.imaps_port, ssl_context=served.context).logout()


def test_a_listener_that_is_taken_out_of_the_configuration_ends(served: Served) -> None:
    """The others keep their sockets."""
    file = served.proxy.home.folders.config_file
    file.write_text(file.read_text().replace('imaps = "127.0.0.1:0"\n', ""))

    def is_closed() -> bool:
        try:
            socket.create_connection(("127.0.0.1", served.proxy.imaps_port)).close()
        except ConnectionRefusedError:
            return True
        return False

    assert not is_closed()
    served.proxy.process.send_signal(signal.SIGHUP)
    wait_until(is_closed, served.proxy.log)
    with smtplib.SMTP_SSL("localhost", served.proxy.submissions_port, context=served.context) as client:
        assert client.noop()[0] == 250
