"""Two installations on one PostgreSQL, serving the same account through Dovecot and Postfix."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from keystore import openpgp
from keystore.keystore import Keystore
from keystore.model import Fingerprint, Purpose
from keystore.openpgp.packet import dearmor
from keystore.secrets import open_secrets
from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.people import ProxyUser, leaked, letter, proxy_user
from tests.fixtures.postgresql import Postgresql
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import ProxyFactory

KEY = "keystore-key"


@pytest.fixture
def offices(
    proxies: ProxyFactory, postgresql: Postgresql, dovecot: Dovecot
) -> Iterator[tuple[ProxyUser, ProxyUser]]:
    """The same person's, in two places."""
    schemas = "secmailproxy_keystore", "secmailproxy_views"
    postgresql.forget(*schemas)
    config = f'[store]\nurl = "{postgresql.server.url}"\n[[rules]]\nto = "*"\nprotect = "require"\n'
    one = proxy_user(proxies, dovecot.mailbox("alice"), config=config)
    home = proxies.home(one.mailbox, config=config)
    home.set_secret(KEY, open_secrets(one.home._secrets()).get(KEY) or "")
    yield one, ProxyUser(one.mailbox, home, proxies, one.fingerprint)
    proxies.stack.close()
    postgresql.forget(*schemas)


def subkey(keystore: Keystore, fingerprint: str) -> bytes:
    """The identifier of the subkey to encrypt to, the newest."""
    usable = keystore.usability(Fingerprint(fingerprint), Purpose.ENCRYPT, datetime.now(UTC))
    return bytes.fromhex(usable.keys[0])[-8:]


def sent(office: ProxyUser, to: Mailbox) -> tuple[str, bytes]:
    """Submit a message; the reply, and the encrypted message that arrives."""
    before = len(to.stored())
    with office.proxy.smtp(office.mailbox) as client:
        client.mail(office.address)
        client.rcpt(to.address)
        code, reply = client.data(letter(office.address, to.address))
    assert code == 250, reply
    (arrived,) = wait_until(lambda: to.stored()[before:], "delivery")
    assert not leaked(arrived)
    ((_, encrypted),) = dearmor(arrived[arrived.index(b"-----BEGIN PGP MESSAGE") :])
    return reply.decode(), encrypted


def test_two_installations_are_one(offices: tuple[ProxyUser, ProxyUser], dovecot: Dovecot) -> None:
    """What is done at one the others know at once: a changed certificate, its settling, a new subkey."""
    one, other = offices
    assert one.proxy.home.verdict_field == other.proxy.home.verdict_field
    bob, then = dovecot.mailbox("bob"), datetime.now(UTC) - timedelta(1)
    first, second = (openpgp.generate(bob.address, now=then).certificate_octets for _ in range(2))
    used, new = (openpgp.certificate(octets).fingerprint for octets in (first, second))
    with one.home.keystore() as third:
        third.import_keys(first, source="a file")
        reply, encrypted = sent(other, bob)
        assert subkey(third, used) in encrypted
        assert "settle" not in reply
        third.import_keys(second, source="a file")
        reply, encrypted = sent(other, bob)
        assert subkey(third, used) in encrypted
        assert f"key settle {bob.address}" in reply
        third.settling.take(bob.address, new, datetime.now(UTC))
        reply, encrypted = sent(one, bob)
        assert subkey(third, new) in encrypted
        assert "settle" not in reply

        before = subkey(third, one.fingerprint)
        assert before in sent(other, other.mailbox)[1]
        third.own_keys.rotate(one.fingerprint, datetime.now(UTC))
        after = subkey(third, one.fingerprint)
        assert after != before
        assert after in sent(other, other.mailbox)[1]
    presented = other.read()
    assert [leaked(octets) != set() for octets in presented] == [True, True]
    assert one.read() == presented
