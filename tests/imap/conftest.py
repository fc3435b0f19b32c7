"""A mailbox of mail in clear, and a proxy in front of it."""

from __future__ import annotations

import pytest

from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.people import ProxyUser, proxy_user
from tests.fixtures.proxy import ProxyFactory


@pytest.fixture(scope="module")
def reader(dovecot: Dovecot, module_proxies: ProxyFactory) -> ProxyUser:
    """Somebody with an empty mailbox, a key and a proxy; shared by a module."""
    return proxy_user(module_proxies, dovecot.mailbox("reader"))


@pytest.fixture
def mailbox(dovecot: Dovecot) -> Mailbox:
    """An empty mailbox of its own."""
    return dovecot.mailbox("box")
