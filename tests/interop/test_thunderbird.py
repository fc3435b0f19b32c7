"""MIME-01: Thunderbird opens, verifies and shows what leaves, with its own OpenPGP and its own key store."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from keystore.model import Scheme
from secmailproxy.model import Envelope
from secmailproxy.outbound import Outbound, OutboundSettings
from secmailproxy.rules import Protect, Rule
from tests.fixtures.processes import service_folder
from tests.fixtures.thunderbird import Running, Thunderbird
from tests.fixtures.x509 import PASSPHRASE, Authority, Issued
from tests.interop.ciphers import CIPHERS, Sealed
from tests.interop.letters import LETTERS, TEXT, leaves
from tests.interop.matrix import row, said, table, written_by
from tests.interop.post import SMIME, Delivery, People, Post, Protection
from tests.interop.writers import found


@pytest.fixture(scope="module")
def running(post: Post, sealed: dict[str, Sealed], mail_authority: Authority) -> Iterator[Running]:
    """With an account that has every letter, Bob's key, and Alice's certificate, which it accepts."""
    people = post.people
    mailbox = people.bob.mailbox.server.mailbox("thunderbird")
    for protection in Protection:
        for delivery in post.of(protection):
            mailbox.append(delivery.octets)
    for one in sealed.values():
        mailbox.append(one.octets)
    mailbox.append(introduction(people, mailbox.address))
    authority = "".join(mailbox.server.ca.ca_file.read_text().splitlines()[1:-1])
    with service_folder("thunderbird") as folder, Thunderbird(folder).started() as run:
        run.call(
            *("createDirectAccount", mailbox.address, mailbox.password),
            *("localhost", mailbox.server.imaps_port, authority),
        )
        secret = people.bob.gnupg.export_secret(people.bob.fingerprint).decode()
        run.call("importKeys", secret, people.bob.fingerprint, people.alice.certificate().decode())
        own = mail_authority.person(mailbox.address, "rsa2048", 62)
        run.call("importSmime", *smime_files(folder, mail_authority, own, people.doras, *readers(sealed)))
        run.call("getMessages")
        run.call("open", "INBOX", len(Protection) * len(LETTERS) + len(sealed) + 1)
        yield run


def introduction(people: People, to: str) -> bytes:
    """A message that Fay has signed, and the proxy of hers sends."""
    written = LETTERS["plain text"].written("introduction@example.test", people.fay.address, to)
    rule = Rule(protect=Protect.SIGN, scheme=Scheme.SMIME)
    with people.reader.home.keystore() as keystore:
        outbound = Outbound(keystore, OutboundSettings((rule,)))
        (copy,) = asyncio.run(outbound.protect(Envelope(people.fay.address, (to,)), written))
    return copy.octets


def readers(sealed: dict[str, Sealed]) -> list[Issued]:
    """Whose keys open them."""
    return [one.reader for one in sealed.values()]


def smime_files(folder: Path, authority: Authority, *own: Issued) -> tuple[str, list[str], str]:
    """A root to believe (DER, base64), files with own keys, and their passphrase."""
    files = [folder / f"{number}.p12" for number, _ in enumerate(own)]
    for path, one in zip(files, own, strict=True):
        path.write_bytes(one.pkcs12())
    root = base64.b64encode(authority.above[0].public_bytes(Encoding.DER)).decode()
    return root, list(map(str, files)), PASSPHRASE


def blocks(text: str) -> list[str]:
    """The lines of a text without blanks at their ends, and without empty ones."""
    return [line for line in map(str.strip, text.splitlines()) if line]


def shows_content(shown: dict[str, Any], delivery: Delivery) -> bool:
    """Whether every line of a text is there, and every attachment with its name and size.

    Thunderbird lays out text that flows, quotes and invitations in its own way.
    """
    laid_out = ("format=flowed", "invitation")
    found = leaves(delivery.written)
    lines = [line for kind, _, text in found if kind == "text/plain" for line in blocks(text.decode())]
    names = {(name, len(content)) for kind, name, content in found if name and not kind.startswith("image/")}
    complete = delivery.kind in laid_out or all(line in shown["text"] for line in lines)
    return complete and names <= {(one["name"], one["size"]) for one in shown["attachments"]}


@pytest.mark.parametrize("protection", Protection)
def test_thunderbird_finds_what_the_document_says(
    protection: Protection, running: Running, post: Post
) -> None:
    first = list(Protection).index(protection) * len(LETTERS) + 1
    fingerprint = post.people.signer(protection)[0]
    deliveries = post.of(protection)
    display = "displaySmime" if protection in SMIME else "display"
    shown = [running.call(display, "INBOX", uid) for uid, _ in enumerate(deliveries, first)]
    pairs = list(zip(shown, deliveries, strict=True))
    facts = {
        "decrypts": all(one["encrypted"] == "ok" for one in shown),
        "verifies": all(
            one["signed"] == "verified" and one["signer"] and fingerprint.endswith(one["signer"])
            for one in shown
        ),
        "content": all(shows_content(one, delivery) for one, delivery in pairs),
        "subject": all(
            one["subject"] == f"Subject:{LETTERS[delivery.kind].subject}" for one, delivery in pairs
        ),
    }
    assert said(facts) == row("Thunderbird", protection.value)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_thunderbird_opens_the_ciphers_that_the_document_says(cipher: str, running: Running) -> None:
    uid = len(Protection) * len(LETTERS) + list(CIPHERS).index(cipher) + 1
    shown = running.call("displaySmime", "INBOX", uid)
    opened = (shown["encrypted"], shown["signed"]) == ("ok", "verified") and TEXT in shown["text"]
    assert table("key and cipher")[list(CIPHERS).index(cipher)]["Thunderbird"] == ("yes" if opened else "-")


def test_we_read_what_thunderbird_writes(running: Running, post: Post) -> None:
    """Signed, encrypted and both; it has Fay's certificate from a message that she has signed."""
    people = post.people
    uid = len(Protection) * len(LETTERS) + len(CIPHERS) + 1
    assert running.call("displaySmime", "INBOX", uid)["signed"] == "verified"
    ways = {"signed": (True, False), "encrypted": (False, True), "signed and encrypted": (True, True)}
    for sign, encrypt in ways.values():
        outbox = running.call("composeSmime", people.fay.address, "From the bird", f"{TEXT}\n", sign, encrypt)
    octets = re.sub(rb"\r?\n", b"\r\n", Path(outbox).read_bytes())
    messages = re.split(rb"^From - [^\r]*\r\n", octets, flags=re.MULTILINE)[1:]
    assert found(people, list(zip(ways, messages, strict=True))) == written_by("Thunderbird")
