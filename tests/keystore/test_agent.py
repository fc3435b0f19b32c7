"""GnuPG's agent as the holder of secret keys: a real one, which has the only copy of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from keystore import openpgp
from keystore.agent import Agent, plain_number
from keystore.agentmessages import AgentMessages, HolderInDoubt
from keystore.errors import KeyRefused, StoreLocked
from keystore.model import Certificate, Fingerprint, key_id
from keystore.openpgp import elsewhere
from keystore.openpgp.packet import Tag, write
from tests.fixtures.keystores import NOW
from tests.keystore.oracle import Oracle, oracle

LATER = NOW + timedelta(minutes=10)
TEXT = b"Meet me at the windmill.\r\n" * 40
KINDS = {"ed25519": "cv25519", "rsa2048": "rsa2048", "nistp256": "nistp256", "nistp521": "brainpoolP256r1"}
"""Keys that sign, with their subkeys that read."""


class Person:
    """Somebody whose keys are all in one agent."""

    def __init__(self, gnupg: Oracle) -> None:
        self.gnupg = gnupg
        self.agent = Agent(gnupg.home, seconds=30)
        self.messages = AgentMessages(self.agent)
        self.certificates = {kind: self._made(kind) for kind in KINDS}

    def _made(self, kind: str) -> Certificate:
        address = f"{kind}@example.org"
        self.gnupg.run("--quick-generate-key", address, kind, "sign,cert", "never")
        fingerprint = self.gnupg.fingerprints(address)[0]
        self.gnupg.run("--quick-add-key", fingerprint, KINDS[kind], "encr", "never")
        return openpgp.certificate(self.gnupg.binary(address))

    def subkey(self, kind: str) -> Fingerprint:
        """The one that reads."""
        return openpgp.key_fingerprints(self.certificates[kind].octets)[1]

    def sealed(self, kind: str, *options: str) -> bytes:
        """A message to one of the keys, binary, as gpg makes it."""
        return self.gnupg.run(*options, "--encrypt", "-r", f"{kind}@example.org", data=TEXT).stdout

    def opened(self, message: bytes, *kinds: str) -> bytes:
        held = [self.certificates[kind] for kind in kinds]
        for session_key in self.messages.session_keys(message, held):
            return openpgp.open_with_session_key(message, session_key, lambda issuer: (), LATER).octets
        raise AssertionError("the agent opened nothing")


@pytest.fixture(scope="module")
def person() -> Iterator[Person]:
    with oracle() as gnupg:
        yield Person(gnupg)


@pytest.mark.parametrize("kind", KINDS)
def test_signs_what_gpg_finds_good(person: Person, kind: str) -> None:
    signer = person.certificates[kind]
    made = person.messages.sign(TEXT, signer, signer.fingerprint, LATER)
    assert made.micalg == "pgp-sha512"
    assert b"\n" not in made.armored.replace(b"\r\n", b"")
    said = person.gnupg.says(TEXT, made.armored, LATER)
    assert f"VALIDSIG {signer.fingerprint} " in said
    assert "BADSIG" in person.gnupg.says(TEXT + b".", made.armored, LATER)


@pytest.mark.parametrize("kind", KINDS)
def test_signs_and_encrypts_what_gpg_reads(person: Person, kind: str) -> None:
    signer = person.certificates[kind]
    reader = openpgp.recipient_key(person.certificates["ed25519"].octets, person.subkey("ed25519"))
    message = person.messages.sign_and_encrypt(TEXT, [reader], signer, signer.fingerprint, LATER)
    assert openpgp.key_ids(message) == (key_id(reader.fingerprint),)
    clock = f"--faked-system-time={LATER:%Y%m%dT%H%M%S}!"
    read = person.gnupg.run(clock, "--decrypt", data=message)
    assert read.stdout == TEXT
    assert f"VALIDSIG {signer.fingerprint} ".encode() in read.stderr
    assert b"GOODMDC" in read.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [[], ["--throw-keyids"]])
def test_opens_what_gpg_encrypts(person: Person, kind: str, options: list[str]) -> None:
    assert person.opened(person.sealed(kind, *options), *KINDS) == TEXT


def test_no_key_is_asked_that_was_not_made_to_read(person: Person) -> None:
    """For a hidden recipient a person would be asked for the passphrases of all keys."""
    message = person.sealed("rsa2048", "--throw-keyids")
    asked = []

    class Listening(AgentMessages):
        def _opened(self, question, key):  # type: ignore[no-untyped-def]
            asked.append(key.fingerprint)
            return super()._opened(question, key)

    held = [person.certificates["rsa2048"]]
    assert list(Listening(person.agent).session_keys(message, held))
    assert asked == [person.subkey("rsa2048")]


def test_a_key_that_the_agent_has_not(person: Person) -> None:
    with oracle() as other:
        elsewhere_held = Agent(other.home)
        signer = person.certificates["ed25519"]
        messages = AgentMessages(elsewhere_held)
        with pytest.raises(StoreLocked, match="lost the key"):
            messages.sign(TEXT, signer, signer.fingerprint, LATER)
        with pytest.raises(HolderInDoubt, match="lost the key") as caught:
            list(messages.session_keys(person.sealed("ed25519"), [signer]))
        assert [one.fingerprint for one in caught.value.keys] == [person.subkey("ed25519")]
        # Whom a hidden recipient is, nobody knows: that one is not missed.
        assert list(messages.session_keys(person.sealed("ed25519", "--throw-keyids"), [signer])) == []


def test_one_key_that_is_not_there_beside_another(person: Person) -> None:
    """Doubts come after all that opens."""
    recipients = ["-r", "rsa2048@example.org", "-r", "nistp256@example.org"]
    message = person.gnupg.run("--encrypt", *recipients, data=TEXT).stdout
    lost = Agent(person.gnupg.home)
    number = plain_number(
        elsewhere.public_number(
            elsewhere.public_key(person.certificates["rsa2048"].octets, person.subkey("rsa2048"))
        )
    )
    lost.held()
    lost._grips[number] = "0" * 40
    held = [person.certificates["rsa2048"], person.certificates["nistp256"]]
    found = AgentMessages(lost).session_keys(message, held)
    opened = openpgp.open_with_session_key(message, next(found), lambda issuer: (), LATER)
    assert opened.octets == TEXT
    with pytest.raises(HolderInDoubt):
        next(found)


@pytest.mark.parametrize("remembered", [0, 1])
def test_of_several_keys_one_that_needs_no_passphrase_opens(tmp_path: Path, remembered: int) -> None:
    """Whoever cancels the prompt for one key could not read what another opens."""
    asked = tmp_path / "asked"
    pinentry = tmp_path / "pinentry"
    pinentry.write_text(f"#!/bin/sh\ntouch {asked}\necho OK\nread -r line\necho ERR 83886179 cancelled\n")
    pinentry.chmod(0o700)
    addresses = ["one@example.org", "two@example.org"]
    with oracle() as gnupg:
        # An agent tries the passphrase that it was told last for every key.
        people = [replace(gnupg, passphrase=address) for address in addresses]
        for person, address in zip(people, addresses, strict=True):
            person.generate(address)
        held = [openpgp.certificate(gnupg.binary(address)) for address in addresses]
        recipients = [word for address in addresses for word in ("-r", address)]
        message = gnupg.run("--encrypt", *recipients, data=TEXT).stdout
        only = gnupg.run("--encrypt", "-r", addresses[remembered], data=TEXT).stdout
        gnupg.end()
        with (gnupg.home / "gpg-agent.conf").open("a") as settings:
            settings.write(f"pinentry-program {pinentry}\n")
        assert people[remembered].run("--decrypt", data=only).stdout == TEXT
        session_key = next(AgentMessages(Agent(gnupg.home, seconds=30)).session_keys(message, held))
        opened = openpgp.open_with_session_key(message, session_key, lambda issuer: (), LATER)
    assert opened.octets == TEXT
    assert not asked.exists()


def test_lists_its_keys(person: Person) -> None:
    found = {one.number: one for one in person.agent.held()}
    assert len(found) == 2 * len(KINDS)
    for certificate in person.certificates.values():
        for fingerprint in openpgp.key_fingerprints(certificate.octets):
            public = elsewhere.public_key(certificate.octets, fingerprint)
            held = found[plain_number(elsewhere.public_number(public))]
            assert (held.card, held.protected) == ("", False)


class TestHostileSessionKeys:
    """libgcrypt 1.10 aborts on points that are cut short, and the agent with it."""

    @pytest.mark.parametrize("kind", ["ed25519", "nistp256", "nistp521"])
    def test_points(self, person: Person, kind: str) -> None:
        public = elsewhere.public_key(person.certificates[kind].octets, person.subkey(kind))
        own = public.integers[0]
        points = [own[:2], own + b"\1", b"\x04" + own[1:-2], b"\x02" + own[1:], b"", own[:1]]
        points += [own[:1] + bytes(len(own) - 1), own[:1] + b"\xff" * (len(own) - 1)]
        for point in points:
            fields = _integer(point) + b"\x30" + bytes(48)
            self.demand_harmless(person, kind, 18, fields)

    @pytest.mark.parametrize("number", [b"", b"\1", b"\xff" * 256, b"\x7f" * 256, b"\1" * 300])
    def test_numbers(self, person: Person, number: bytes) -> None:
        self.demand_harmless(person, "rsa2048", 1, _integer(number))

    def demand_harmless(self, person: Person, kind: str, algorithm: int, fields: bytes) -> None:
        named = bytes.fromhex(key_id(person.subkey(kind)))
        hostile = write(Tag.PKESK, b"\3" + named + bytes([algorithm]) + fields)
        hostile += write(Tag.SEIPD, b"\1" + bytes(80))
        running = self.process(person)
        assert list(person.messages.session_keys(hostile, [person.certificates[kind]])) == []
        assert self.process(person) == running

    def process(self, person: Person) -> bytes:
        with person.agent._conversation() as agent:
            return agent.ask("GETINFO pid").octets


def _integer(octets: bytes) -> bytes:
    number = int.from_bytes(octets)
    return number.bit_length().to_bytes(2) + number.to_bytes((number.bit_length() + 7) // 8)


def test_an_agent_that_is_ended_is_asked_again(person: Person) -> None:
    message = person.sealed("nistp256")
    with person.agent._conversation() as agent:
        process = int(agent.ask("GETINFO pid").octets)
    os.kill(process, signal.SIGKILL)
    assert person.opened(message, "nistp256") == TEXT


def test_what_is_no_signature_is_not_used(person: Person) -> None:
    signer, other = person.certificates["ed25519"], person.certificates["nistp256"]

    class Wrong(Agent):
        def sign(self, public, digest, prompt):  # type: ignore[no-untyped-def]
            return super().sign(public, bytes(64), prompt)

    class Odd(Agent):
        def sign(self, public, digest, prompt):  # type: ignore[no-untyped-def]
            return (b"sig-val", (b"eddsa", (b"r", b"1")))

    for agent in (Wrong(person.gnupg.home), Odd(person.gnupg.home)):
        # Of the holder, and so for a while: no message is refused for good by it.
        with pytest.raises(StoreLocked, match="no signature by it"):
            AgentMessages(agent).sign(TEXT, signer, signer.fingerprint, LATER)
    draft = elsewhere.draft(elsewhere.public_key(other.octets, other.fingerprint), TEXT, LATER)
    with pytest.raises(KeyRefused, match="no ecdsa signature"):
        draft.completed((b"sig-val", (b"ecdsa", (b"r", b"1"))))
