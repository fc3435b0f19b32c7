"""GnuPG users and proxy users write to each other: kinds of keys, passphrases, compression, agents."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fixtures.dovecot import Dovecot
from tests.fixtures.gnupg import GnuPG, encrypted_by, opened_by, signed_by
from tests.fixtures.people import (
    TEXT,
    ProxyUser,
    gnupg_user,
    introduce,
    letter,
    proxy_user,
)
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import ProxyFactory

ENTITY = f"Content-Type: text/plain; charset=utf-8\r\n\r\n{TEXT}\r\n".encode()
COMPRESSION = [(), ("--compress-algo=none",), ("--compress-algo=zip",), ("--compress-algo=bzip2",)]


def verdict(reader: ProxyUser, octets: bytes) -> str:
    """The value of the verdict field, on one line."""
    value = octets.partition(f"{reader.verdict_field}: ".encode())[2].partition(b"(")[0]
    return " ".join(value.decode().split())


@pytest.mark.parametrize("passphrase", ["", "open sesame"], ids=["no-passphrase", "passphrase"])
@pytest.mark.parametrize("rsa", [False, True], ids=["ed25519", "rsa"])
def test_both_directions(
    rsa: bool,
    passphrase: str,
    proxies: ProxyFactory,
    dovecot: Dovecot,
    gnupg_home: Callable[..., GnuPG],
) -> None:
    alice = proxy_user(proxies, dovecot.mailbox("alice"), rsa=rsa)
    bob = gnupg_user(gnupg_home(passphrase), dovecot.mailbox("bob"), rsa=rsa)
    introduce(alice, bob)

    alice.send(bob.address, letter(alice.address, bob.address))
    (stored,) = wait_until(bob.mailbox.stored, "delivery")
    plaintext, status = opened_by(bob.gnupg, stored)
    assert TEXT.encode() in plaintext
    assert f"GOODSIG {alice.fingerprint[-16:]}" in status

    header = f"From: {bob.address}\nTo: {alice.address}\nSubject: answer"
    for options in COMPRESSION:
        octets = encrypted_by(bob.gnupg, header, ENTITY, "--sign", "-r", alice.address, *options)
        alice.mailbox.append(octets)
    alice.mailbox.append(signed_by(bob.gnupg, header, ENTITY))
    presented = alice.read()
    assert len(presented) == len(COMPRESSION) + 1
    for octets in presented:
        assert TEXT.encode() in octets
        assert "signature=valid" in verdict(alice, octets)
        assert f"signer={bob.address}" in verdict(alice, octets)


def test_a_signature_by_somebody_else_or_by_nobody_known_is_not_valid(
    proxies: ProxyFactory, dovecot: Dovecot, gnupg_home: Callable[..., GnuPG]
) -> None:
    alice = proxy_user(proxies, dovecot.mailbox("alice"))
    bob = gnupg_user(gnupg_home(), dovecot.mailbox("bob"))
    mallory = gnupg_user(gnupg_home(), dovecot.mailbox("mallory"))
    stranger = gnupg_user(gnupg_home(), dovecot.mailbox("stranger"))
    introduce(alice, bob)
    introduce(alice, mallory)
    stranger.learn(alice.certificate())

    header = f"From: {bob.address}\nTo: {alice.address}\nSubject: answer"
    to_alice = ("-r", alice.address)
    alice.mailbox.append(encrypted_by(mallory.gnupg, header, ENTITY, "--sign", *to_alice))
    alice.mailbox.append(encrypted_by(stranger.gnupg, header, ENTITY, "--sign", *to_alice))
    alice.mailbox.append(encrypted_by(bob.gnupg, header, ENTITY, *to_alice))
    alice.mailbox.append(signed_by(bob.gnupg, header, ENTITY).replace(b"crooked", b"upright"))

    as_another, unknown, unsigned, altered = (verdict(alice, octets) for octets in alice.read())
    assert "signature=mismatch" in as_another
    assert "signature=unknown-key" in unknown
    assert "signature=none" in unsigned
    assert "signature=invalid" in altered


@pytest.mark.parametrize("rsa", [False, True], ids=["ed25519", "rsa"])
def test_a_key_that_only_the_agent_may_use(
    rsa: bool, proxies: ProxyFactory, dovecot: Dovecot, gnupg_home: Callable[..., GnuPG]
) -> None:
    """The secret key never leaves GnuPG: the proxy signs and decrypts through the agent."""
    mailbox = dovecot.mailbox("alice")
    agent = gnupg_home()
    fingerprint = agent.generate(mailbox.address, rsa=rsa)
    home = proxies.home(mailbox, config=f'[keystore]\ngnupg_home = "{agent.home}"\n')
    with home.keystore() as keystore:
        keystore.holders.take_from_gnupg(mailbox.address, secret=True)
        identity = keystore.identity(mailbox.address)
        assert identity is not None
        assert identity.certificate.fingerprint == fingerprint
    alice = ProxyUser(mailbox, home, proxies, identity.certificate.fingerprint)
    bob = gnupg_user(gnupg_home(), dovecot.mailbox("bob"))
    introduce(alice, bob)

    alice.send(bob.address, letter(alice.address, bob.address))
    (stored,) = wait_until(bob.mailbox.stored, "delivery")
    assert "GOODSIG" in opened_by(bob.gnupg, stored)[1]

    header = f"From: {bob.address}\nTo: {alice.address}\nSubject: answer"
    alice.mailbox.append(encrypted_by(bob.gnupg, header, ENTITY, "--sign", "-r", alice.address))
    (presented,) = alice.read()
    assert TEXT.encode() in presented
    assert "signature=valid" in verdict(alice, presented)
    secret = agent.export_secret(fingerprint)
    kept = b"".join(path.read_bytes() for path in home.folders.keystore.rglob("*") if path.is_file())
    assert secret not in kept
