"""A mailbox of mail in clear, and a proxy in front of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from secmailproxy import inbound
from secmailproxy.mime import entity
from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.people import ProxyUser, proxy_user
from tests.fixtures.proxy import ProxyFactory


def corpora() -> Path | None:
    """The folder of public test mail, when it is at hand (see docs/testing.md)."""
    named = os.environ.get("SECMAILPROXY_CORPORA")
    folder = Path(named) if named else Path(__file__).parents[3] / "shared" / "corpora"
    return folder if folder.is_dir() else None


OWN = Path(__file__).parents[1] / "corpus"


@pytest.fixture(scope="module")
def odd_mail() -> list[bytes]:
    """Ordinary, odd and malformed messages in clear: our own, and the public ones where they are at hand."""
    folder = corpora()
    paths = sorted(OWN.rglob("*.eml"))
    if folder is not None:
        paths += sorted(path for path in (folder / "identity").rglob("*") if path.is_file())
    messages = [path.read_bytes() for path in paths]
    headers = [entity.parse(octets).header for octets in messages]
    return [
        octets
        for octets, header in zip(messages, headers, strict=True)
        if inbound.classify(header, "x") is inbound.MessageClass.PLAIN
    ]


@pytest.fixture(scope="module")
def reader(dovecot: Dovecot, module_proxies: ProxyFactory) -> ProxyUser:
    """Somebody with an empty mailbox, a key and a proxy; shared by a module."""
    return proxy_user(module_proxies, dovecot.mailbox("reader"))


@pytest.fixture
def mailbox(dovecot: Dovecot) -> Mailbox:
    """An empty mailbox of its own."""
    return dovecot.mailbox("box")
