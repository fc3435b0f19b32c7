"""A person's first day, with commands alone: setup, key import, serve, send, read, inspect, doctor."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.gnupg import GnuPG, encrypted_by, opened_by
from tests.fixtures.people import TEXT, gnupg_user, leaked, letter
from tests.fixtures.postfix import Postfix
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import ProxyFactory, ProxyHome, serving

ENTITY = f"Content-Type: text/plain; charset=utf-8\r\n\r\n{TEXT}\r\n".encode()


def test_from_setup_to_an_answer(
    proxies: ProxyFactory, dovecot: Dovecot, postfix: Postfix, gnupg_home: Callable[..., GnuPG]
) -> None:
    alice = dovecot.mailbox("alice")
    bob = gnupg_user(gnupg_home(), dovecot.mailbox("bob"))
    home = ProxyHome(proxies.folder / "alice")
    files = {"mailbox": alice.password, "local": "only here", "passphrase": "of the secrets file"}
    for name, text in files.items():
        path = proxies.folder / name
        path.write_text(text + "\n")
        path.chmod(0o600)

    home.run(
        *("setup", alice.address, "--name", "Alice", "--non-interactive", "--no-discovery"),
        *("--imap-host", "localhost", "--imap-port", str(dovecot.imaps_port)),
        *("--smtp-host", "localhost", "--smtp-port", str(postfix.submission_port), "--smtp-tls", "starttls"),
        *("--ca-file", postfix.ca.ca_file, "--password-file", proxies.folder / "mailbox"),
        *("--login", "local", "--local-password-file", proxies.folder / "local"),
        *("--secrets", "file", "--secrets-passphrase-file", proxies.folder / "passphrase"),
        *("--listen-imap", "127.0.0.1:0", "--listen-submission", "127.0.0.1:0"),
    )
    (imported,) = json.loads(home.run("key", "import", "-", "--json", data=bob.certificate()).stdout)[
        "results"
    ]
    assert imported["fingerprint"] == bob.fingerprint
    bob.learn(home.run("key", "export", alice.address).stdout)

    client = Mailbox(alice.address, files["local"], dovecot)
    header = f"From: {bob.address}\nTo: {alice.address}\nSubject: answer"
    with serving(home) as proxy:
        proxy.send(client, [bob.address], letter(alice.address, bob.address))
        (stored,) = wait_until(bob.mailbox.stored, "delivery")
        assert not leaked(stored)
        plaintext, status = opened_by(bob.gnupg, stored)
        assert TEXT.encode() in plaintext
        assert "GOODSIG" in status
        alice.append(encrypted_by(bob.gnupg, header, ENTITY, "--sign", "-r", alice.address))
        (presented,) = proxy.messages(client)
        assert TEXT.encode() in presented
        assert b"signature=valid" in presented
        assert alice.password not in proxy.log()

    (ciphertext,) = alice.stored()
    summary = json.loads(home.run("message", "inspect", "--json", data=ciphertext).stdout)
    assert summary["protection"] == "signed+encrypted"
    assert summary["decryption"]["state"] == "ok"
    assert summary["signature"]["verdict"] == "valid"
    assert summary["signature"]["signer"] == bob.address
    assert TEXT.encode() in home.run("message", "open", data=ciphertext).stdout
    doctor = json.loads(home.run("doctor", "--json").stdout)
    assert {check["state"] for check in doctor["checks"]} == {"ok"}
