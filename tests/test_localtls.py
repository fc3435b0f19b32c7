"""The certificate of the listeners: what it says, who can use it, and that clients can trust it."""

from __future__ import annotations

import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keystore.secretsfile import FileSecrets
from secmailproxy.errors import ConfigError
from secmailproxy.localtls import KEY_SECRET, VALID_FOR, LocalTls, read_certificate
from tests.fixtures.quicksecrets import quick_secrets

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> FileSecrets:
    """A backend that asks nobody."""
    path = tmp_path_factory.mktemp("secrets") / "secrets.json"
    quick_secrets(path, "open")
    return FileSecrets(path, lambda: "open")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the certificate will be."""
    return tmp_path / "state" / "localhost.pem"


@pytest.fixture
def tls(path: Path, secrets: FileSecrets) -> LocalTls:
    """Without a certificate as yet."""
    return LocalTls(path, secrets)


def shaken(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> bytes:
    """The certificate (DER) that a client accepts as that of `name`; raises what it raises."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    pending = [0, 1]
    while pending:
        for end in list(pending):
            try:
                ends[end].do_handshake()
                pending.remove(end)
            except ssl.SSLWantReadError:
                continue
    found = ends[0].getpeercert(binary_form=True)
    assert found is not None
    return found


def trusting(path: Path) -> ssl.SSLContext:
    """A client that trusts the certificate in `path` and nothing else."""
    return ssl.create_default_context(cadata=read_certificate(path).pem)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_who_trusts_it_reaches_this_machine_and_no_other(tls: LocalTls, path: Path, name: str) -> None:
    made = tls.make(NOW)
    tls.load()
    context = tls.context()
    assert context is not None
    assert shaken(context, trusting(path), name) == made.der
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(context, trusting(path), "mail.example.org")
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(context, ssl.create_default_context(), name)


def test_what_it_says(tls: LocalTls, path: Path) -> None:
    made = tls.make(NOW)
    assert made.names == ("localhost", "127.0.0.1", "::1")
    assert made.expires == NOW + VALID_FOR
    assert made.begins < NOW
    shown = subprocess.run(
        ["openssl", "x509", "-in", path, "-noout", "-fingerprint", "-sha256"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert shown.stdout.strip().partition("=")[2] == made.fingerprint


def test_openssl_accepts_it_by_its_strictest_rules(tls: LocalTls, path: Path, tmp_path: Path) -> None:
    """Among them that it may not sign others: who trusts it trusts nothing else by that."""
    pem = tmp_path / "exported.pem"
    pem.write_text(tls.make(NOW).pem)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", pem, pem]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    text = subprocess.run(
        ["openssl", "x509", "-in", pem, "-noout", "-text"], capture_output=True, check=True, text=True
    ).stdout
    assert "CA:FALSE" in text
    assert "Certificate Sign" not in text


def test_the_key_is_private_and_encrypted(tls: LocalTls, path: Path, secrets: FileSecrets) -> None:
    made = tls.make(NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    octets = path.read_bytes()
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in octets
    assert b"BEGIN PRIVATE KEY" not in octets
    assert "PRIVATE" not in made.pem
    secret = secrets.get(KEY_SECRET)
    assert secret
    assert secret.encode() not in octets
    for password in ("", "wrong"):
        with pytest.raises((ssl.SSLError, ValueError)):
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(path, password=password)


def test_a_renewed_one_is_shown_by_the_listeners_that_hold_the_old(tls: LocalTls, path: Path) -> None:
    tls.load()
    assert tls.context() is None
    old = tls.make(NOW - timedelta(days=1))
    tls.load()
    held = tls.context()
    assert held is not None
    new = tls.make(NOW)
    assert new.fingerprint != old.fingerprint
    tls.load()
    assert shaken(held, trusting(path), "localhost") == new.der
    assert tls.context() is held


@pytest.mark.parametrize("damage", ["empty", "half", "another secret", "no secret"])
def test_one_that_cannot_be_used(
    damage: str, tls: LocalTls, path: Path, secrets: FileSecrets, capfd: pytest.CaptureFixture[str]
) -> None:
    """The remedy is named, nothing is asked at the terminal, and what was loaded before stays in force."""
    made = tls.make(NOW)
    tls.load()
    before = secrets.get(KEY_SECRET)
    assert before
    if damage == "another secret":
        secrets.set(KEY_SECRET, "another")
    elif damage == "no secret":
        secrets.delete(KEY_SECRET)
    else:
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:-200])
    with pytest.raises(ConfigError, match="secmailproxy certificate renew") as error:
        tls.load()
    assert before not in str(error.value)
    secrets.set(KEY_SECRET, before)
    context = tls.context()
    assert context is not None
    assert shaken(context, ssl.create_default_context(cadata=made.pem), "localhost") == made.der
    assert capfd.readouterr() == ("", "")


def test_one_that_is_gone_though_it_is_needed_is_shown_further(tls: LocalTls, path: Path) -> None:
    """Such as after a restored backup: SIGHUP changes nothing then, and the listeners go on."""
    made = tls.make(NOW)
    tls.load("listen.imaps")
    held = path.rename(path.parent / "elsewhere")
    with pytest.raises(ConfigError, match=r"listen\.imaps needs a certificate; run: secmailproxy"):
        tls.load("listen.imaps")
    context = tls.context()
    assert context is not None
    assert shaken(context, trusting(held), "localhost") == made.der
    tls.load()
    assert tls.context() is None


def test_none_at_all(path: Path) -> None:
    with pytest.raises(ConfigError, match="run: secmailproxy certificate create"):
        read_certificate(path)
