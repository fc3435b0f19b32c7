"""Peers and messages that mean harm: what they can do to one connection, they cannot do to others."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from keystore.errors import KeystoreError, StoreLocked
from keystore.keystore import Keystore
from keystore.model import Opened
from secmailproxy.imap.front import Front
from secmailproxy.imap.presenter import Presenter
from secmailproxy.imap.specialuse import SpecialUse
from secmailproxy.imap.steps import Present
from secmailproxy.outbound import Outbound, OutboundSettings
from secmailproxy.views import Kind, Views
from tests.fixtures.desk import FIELD, NOW, TEXT, Desk, desk, message
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import ProxyUser, letter, proxy_user
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.transcript import direct, proxied

__all__ = ["desk"]


@pytest.mark.parametrize("start", [b"POST / HTTP/1.1", b"GET /a%0Ab HTTP/1.0", b"CONNECT x:1 HTTP/1.1"])
def test_a_web_page_cannot_log_in(start: bytes) -> None:
    front = Front()
    front.feed(start + b"\r\nHost: 127.0.0.1:1143\r\n\r\na LOGIN alice secret\r\n")
    assert front.next() is None
    assert front.closing
    assert front.out == b""


def test_the_clients_id_brings_no_lines_of_its_own_to_the_server() -> None:
    front = Front()
    front.feed(b'a ID ("name" {9+}\r\n\r\nx NOOP\r)\r\n')
    assert front.next() is None
    assert front.client_id == b""
    front.feed(b'b ID ("name" "mutt")\r\n')
    assert front.next() is None
    assert front.client_id == b'("name" "mutt")'


@pytest.mark.parametrize(
    ("mailbox", "sent", "drafts"),
    [
        (b"Sent/2026", True, False),
        (b"INBOX.Sent Items.old", True, False),
        (b"Drafts/", False, True),
        (b"Gesendete Objekte", True, False),
        (b"&BCcENQRABD0EPgQyBDgEOgQ4-", False, True),
        (b"Entwu&Awg-rfe", False, True),
        (b"Templates", False, True),
        (b"INBOX.Templates.letters", False, True),
        (b"Mod&AOg-les", False, True),
        (b"Presents", False, False),
    ],
)
def test_drafts_and_sent_mail_are_known_at_every_level(mailbox: bytes, sent: bool, drafts: bool) -> None:
    known = SpecialUse()
    assert (known.is_sent(mailbox), known.is_drafts(mailbox)) == (sent, drafts)


@pytest.fixture
def views(desk: Desk, tmp_path: Path) -> Iterator[Views]:
    with closing(Views.open(tmp_path / "views.sqlite3", desk.keystore)) as views:
        yield views


def test_what_was_learned_of_a_mailbox_that_is_gone_is_not_said_of_its_successor(views: Views) -> None:
    """A session that still has the old one selected writes while another one opens the new one."""
    old = views.mailbox("alice@example.org", b"INBOX", 1)
    new = views.mailbox("alice@example.org", b"INBOX", 2)
    assert new.id != old.id
    with pytest.raises(StoreLocked, match="another UIDVALIDITY now; select it again"):
        views.classify(old, b"1:9", {3: Kind.SEALED})
    with pytest.raises(StoreLocked, match="another UIDVALIDITY now; select it again"):
        views.classify(old, b"1:9", {})
    assert views.mailbox("alice@example.org", b"INBOX", 2).covered == b""


class Faulty(Keystore):
    """Fails as no keystore should, on what is marked so."""

    def decrypt(self, ciphertext: bytes, now: object) -> Opened:
        """Raises ZeroDivisionError."""
        raise ZeroDivisionError


async def test_a_message_that_we_fail_on_does_not_keep_others_from_being_read(
    desk: Desk, views: Views
) -> None:
    """IMAP-22: shown as it is, with nothing claimed of it."""
    faulty = Faulty(
        desk.keystore._store,
        desk.keystore._vault,
        desk.keystore._gnupg,
        desk.keystore.roots,
        desk.keystore._folder,
    )
    outbound = Outbound(desk.keystore, OutboundSettings())
    presenter = Presenter("bob@example.org", views, faulty, outbound, FIELD, lambda: NOW)
    box = views.mailbox("bob@example.org", b"INBOX", 1)
    bad, forged = message(desk.encrypt(TEXT)), f"{FIELD}: signed\r\n".encode() + message(desk.encrypt(TEXT))
    good = message(desk.sign(TEXT))
    views.classify(box, b"1:3", {1: Kind.SEALED, 2: Kind.SIGNED, 3: Kind.SEALED})
    await presenter.carry_out(Present(box, {1: bad, 2: good, 3: forged}))
    failed, signed = views.view(box, 1, octets=True), views.view(box, 2)
    assert failed is not None
    assert failed.stayed_closed
    assert (failed.octets or b"").endswith(bad)
    assert b"not decrypted" in (failed.verdict or b"")
    assert signed is not None
    assert b"signature=valid" in (signed.verdict or b"")
    form = views.view(box, 3, octets=True)
    assert form is not None
    assert form.octets is not None
    assert len(re.findall(FIELD.encode(), form.octets)) == 1
    assert b"not decrypted" in form.octets


async def test_a_disk_that_is_full_is_named_and_fixes_nothing(desk: Desk, views: Views) -> None:
    """IMAP-04: read as soon as there is room, as if nothing had been."""
    presenter = Presenter(
        "bob@example.org",
        views,
        desk.keystore,
        Outbound(desk.keystore, OutboundSettings()),
        FIELD,
        lambda: NOW,
    )
    box = views.mailbox("bob@example.org", b"INBOX", 1)
    views.classify(box, b"1", {1: Kind.SEALED})
    sealed = Present(box, {1: message(desk.encrypt(TEXT))})
    views._db.write("PRAGMA query_only = ON")
    with pytest.raises(KeystoreError, match=r"views\.sqlite3 cannot be used"):
        await presenter.carry_out(sealed)
    views._db.write("PRAGMA query_only = OFF")
    assert views.view(box, 1) is None
    await presenter.carry_out(sealed)
    form = views.view(box, 1, octets=True)
    assert form is not None
    assert TEXT in (form.octets or b"")


@pytest.fixture(scope="module")
def reader(dovecot: Dovecot, module_proxies: ProxyFactory) -> ProxyUser:
    return proxy_user(module_proxies, dovecot.mailbox("hostile"))


@pytest.mark.parametrize("announced", [b"{5}", b"{5+}"])
def test_a_mailbox_named_by_a_literal_gets_a_streamed_message(reader: ProxyUser, announced: bytes) -> None:
    """One "+" for each literal of the client; a stray one would be taken for the next command's."""
    octets = letter(reader.address, "b@example.org") * 400
    with proxied(reader.proxy, reader.mailbox) as imap, direct(reader.mailbox) as plain:
        imap.send(b"a APPEND " + announced + b"\r\n")
        if announced == b"{5}":
            assert imap.response().startswith(b"+")
        imap.send(b"INBOX {%d}\r\n" % len(octets))
        assert imap.response().startswith(b"+")
        imap.send(octets + b"\r\nb NOOP\r\n")
        answers = [imap.response() for _ in range(2)]
        assert answers[0].startswith(b"a OK [APPENDUID ")
        assert answers[1].startswith(b"b OK")
        uid = answers[0].split(b"]")[0].split()[-1]
        plain.ok(b"SELECT INBOX")
        assert octets in plain.ok(b"UID FETCH %b BODY.PEEK[]" % uid)[0]


def test_a_mailbox_name_is_no_response_code(reader: ProxyUser) -> None:
    with proxied(reader.proxy, reader.mailbox) as imap:
        imap.ok(b'CREATE "x [UIDVALIDITY 7]"')
        imap.ok(b"SELECT INBOX")
        imap.ok(b'LIST "" "*"')
        imap.ok(b"NOOP")


def test_stopping_says_nothing_in_the_middle_of_a_message(proxies: ProxyFactory, dovecot: Dovecot) -> None:
    user = proxy_user(proxies, dovecot.mailbox("midway"), config="[service]\ngrace_seconds = 1\n")
    user.mailbox.append(letter(user.address, user.address, text="word " * 6_000_000))
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        imap.send(b"f FETCH 1 BODY.PEEK[]\r\n")
        first = imap.connection.recv(4096)
        assert first.startswith(b"* 1 FETCH")
        assert user.proxy.stop() == 0
        rest = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := imap.connection.recv(1 << 20):
                rest += piece
        assert len(rest) < 30_000_000
        assert b"BYE" not in rest
