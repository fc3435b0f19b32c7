"""MIME-01: Thunderbird opens, verifies and shows what leaves, with its own OpenPGP and its own key store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.processes import service_folder
from tests.fixtures.thunderbird import Running, Thunderbird
from tests.interop.letters import LETTERS, leaves
from tests.interop.matrix import row, said
from tests.interop.post import OPENPGP, Delivery, Post, Protection


@pytest.fixture(scope="module")
def running(post: Post) -> Iterator[Running]:
    """With an account that has every letter, Bob's key, and Alice's certificate, which it accepts."""
    people = post.people
    mailbox = people.bob.mailbox.server.mailbox("thunderbird")
    for protection in OPENPGP:
        for delivery in post.of(protection):
            mailbox.append(delivery.octets)
    authority = "".join(mailbox.server.ca.ca_file.read_text().splitlines()[1:-1])
    with service_folder("thunderbird") as folder, Thunderbird(folder).started() as run:
        run.call(
            *("createDirectAccount", mailbox.address, mailbox.password),
            *("localhost", mailbox.server.imaps_port, authority),
        )
        secret = people.bob.gnupg.export_secret(people.bob.fingerprint).decode()
        run.call("importKeys", secret, people.bob.fingerprint, people.alice.certificate().decode())
        run.call("getMessages")
        run.call("open", "INBOX", 2 * len(LETTERS))
        yield run


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


@pytest.mark.parametrize("protection", OPENPGP)
def test_thunderbird_finds_what_the_document_says(
    protection: Protection, running: Running, post: Post
) -> None:
    first = OPENPGP.index(protection) * len(LETTERS) + 1
    (fingerprint,) = post.people.signer(protection)
    deliveries = post.of(protection)
    shown = [running.call("display", "INBOX", uid) for uid, _ in enumerate(deliveries, first)]
    pairs = list(zip(shown, deliveries, strict=True))
    facts = {
        "decrypts": all(one["encrypted"] == "ok" for one in shown),
        "verifies": all(one["signed"] == "verified" and fingerprint.endswith(one["signer"]) for one in shown),
        "content": all(shows_content(one, delivery) for one, delivery in pairs),
        "subject": all(
            one["subject"] == f"Subject:{LETTERS[delivery.kind].subject}" for one, delivery in pairs
        ),
    }
    assert said(facts) == row("Thunderbird", protection.value)
