"""A mailbox of mail in clear, and a proxy in front of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures.certificates import TestCA
from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.fake_imap import FakeImap, fake_imap
from tests.fixtures.people import ProxyUser, proxy_user
from tests.fixtures.proxy import ProxyFactory, Upstream


@pytest.fixture(scope="module")
def reader(dovecot: Dovecot, module_proxies: ProxyFactory) -> ProxyUser:
    """Somebody with an empty mailbox, a key and a proxy; shared by a module."""
    return proxy_user(module_proxies, dovecot.mailbox("reader"))


@pytest.fixture
def mailbox(dovecot: Dovecot) -> Mailbox:
    """An empty mailbox of its own."""
    return dovecot.mailbox("box")


@pytest.fixture(scope="module")
def fake(ca: TestCA) -> Iterator[FakeImap]:
    """A server that does as a test says."""
    with fake_imap(ca) as server:
        yield server


@pytest.fixture(scope="module")
def fake_user(fake: FakeImap, ca: TestCA, dovecot: Dovecot, module_proxies: ProxyFactory) -> ProxyUser:
    """Somebody with a key whose mail server is `fake`."""
    mailbox = Mailbox("ann@example.test", "secret", dovecot)
    upstream = Upstream(ca.ca_file, fake.port, 1)
    # What the fake has left unanswered shall not hold up the end.
    return proxy_user(module_proxies, mailbox, upstream=upstream, config="[service]\ngrace_seconds = 0\n")
