"""What a client has seen of a message stays, whatever happens to keys or to this program (IMAP-03)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from secmailproxy.imap.presenter import Presenter
from secmailproxy.imap.rendering import form_of
from secmailproxy.imap.steps import Classify, LoadViews, OpenMailbox, Present
from secmailproxy.outbound import Outbound, OutboundSettings
from secmailproxy.policy import Protect
from secmailproxy.verdict import VERDICT_LENGTH
from secmailproxy.views import Kind, Mailbox, View, Views, message_hash
from tests.fixtures.desk import ALICE, BOB, FIELD, KEYS_MADE, Desk, desk, message
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.gnupg import GnuPG
from tests.fixtures.people import ProxyUser, gnupg_user, letter, protect, proxy_user
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.transcript import RawImap, proxied

__all__ = ["desk"]  # a fixture, found by its name

ITEMS = (
    b"(UID RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT] BODY.PEEK[1]"
    b" FLAGS BODY.PEEK[1.MIME] BODY.PEEK[]<10.100> BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)])"
)
TEXT = b"Content-Type: text/plain\r\n\r\nMeet me at the windmill.\r\n"


def seen(imap: RawImap, mailbox: bytes = b"INBOX") -> list[bytes]:
    """Every item of every message, newly selected."""
    imap.ok(b"EXAMINE " + mailbox)
    return [line for uid in (1, 2, 3) for line in imap.ok(b"UID FETCH %d " % uid + ITEMS)[:-1]]


@pytest.fixture
def stranger(proxies: ProxyFactory, dovecot: Dovecot) -> ProxyUser:
    return proxy_user(proxies, dovecot.mailbox("stranger"))


def test_a_key_that_comes_later_changes_nothing_seen(
    proxies: ProxyFactory, dovecot: Dovecot, stranger: ProxyUser, gnupg_home: Callable[..., GnuPG]
) -> None:
    """In the session that saw it, in a new one, and after a restart; mail not seen before is opened."""
    # What this mail says by Autocrypt of its author would come in between, sooner or later.
    user = proxy_user(proxies, dovecot.mailbox("late-key"), config="[autocrypt]\nharvest = false\n")
    second = gnupg_user(gnupg_home(), user.mailbox)
    to_stranger = protect(stranger, letter(stranger.address, user.address))
    signed = protect(stranger, letter(stranger.address, user.address), Protect.SIGN)
    for octets in (to_stranger, signed, letter(stranger.address, user.address)):
        user.mailbox.append(octets)
    with proxied(user.proxy, user.mailbox) as imap:
        first = seen(imap)
        assert len(first) == 3
        assert b"not decrypted" in first[0]
        with stranger.home.keystore() as keystore:
            secret = keystore.export(stranger.fingerprint, secret=True)
        user.learn(secret)
        with user.home.keystore() as keystore:
            keystore.import_keys(second.certificate(), source="the tests")  # kept beside the first
        assert seen(imap) == first
    with proxied(user.proxy, user.mailbox) as imap:
        assert seen(imap) == first
    user.proxy.stop()
    with proxied(proxies.serve(user.home), user.mailbox) as imap:
        assert seen(imap) == first
        new = protect(stranger, letter(stranger.address, user.address, subject="seen never before"))
        imap.ok(b"APPEND INBOX {%d}" % len(new), new)
        imap.ok(b"EXAMINE INBOX")
        assert b"seen never before" in imap.ok(b"UID FETCH 4 (ENVELOPE)")[0]


def test_what_an_older_program_presented_is_served_as_it_was(proxies: ProxyFactory, dovecot: Dovecot) -> None:
    """An upgrade that would make other forms of the same mail makes them of new mail alone."""
    user = proxy_user(proxies, dovecot.mailbox("upgrade"))
    sealed = protect(user, letter(user.address, user.address))
    user.mailbox.append(sealed)
    old = form_of(
        b"Old-Field: fixed by another version\r\n", b"Subject: as it was\r\n\r\nwritten otherwise\r\n"
    )
    with proxied(user.proxy, user.mailbox) as imap:
        validity = int(imap.ok(b"STATUS INBOX (UIDVALIDITY)")[0].rsplit(b" ", 1)[1].rstrip(b")\r\n"))
    user.proxy.stop()
    path = user.home.folders.views
    with user.home.keystore() as keystore, closing(Views.open(path, keystore)) as views:
        box = views.mailbox(user.address, b"INBOX", validity)
        views.classify(box, b"1", {1: Kind.SEALED})
        views.fix(box, {1: (message_hash(sealed), old)})
    with proxied(proxies.serve(user.home), user.mailbox) as imap:
        imap.ok(b"EXAMINE INBOX")
        answer = imap.ok(b"UID FETCH 1 (RFC822.SIZE BODY.PEEK[])")[0]
    assert old.octets is not None
    assert answer == (
        b"* 1 FETCH (UID 1 RFC822.SIZE %d BODY[] {%d}\r\n" % (old.size, old.size) + old.octets + b")\r\n"
    )


@dataclass
class Clock:
    """A clock that tests turn."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def presenter(desk: Desk, clock: Clock, tmp_path: Path) -> Iterator[Presenter]:
    with closing(Views.open(tmp_path / "views.sqlite3", desk.keystore)) as views:
        outbound = Outbound(desk.keystore, OutboundSettings(()), clock)
        yield Presenter(BOB, views, desk.keystore, outbound, FIELD, clock)


async def opened(presenter: Presenter, kinds: dict[int, Kind]) -> Mailbox:
    box = await presenter.carry_out(OpenMailbox(b"INBOX", 7))
    assert isinstance(box, Mailbox)
    await presenter.carry_out(Classify(box, b"1:9", kinds))
    return box


async def view(presenter: Presenter, box: Mailbox, uid: int) -> View:
    loaded = await presenter.carry_out(LoadViews(box, [uid], True))
    assert isinstance(loaded, dict)
    found = loaded[uid]
    assert isinstance(found, View)
    return found


async def test_the_expiry_of_a_key_changes_nothing_seen(
    desk: Desk, presenter: Presenter, clock: Clock
) -> None:
    carol = desk.keystore.generate("carol@example.org", now=KEYS_MADE, expires=timedelta(days=310))
    desk.keys["carol@example.org"] = carol.fingerprint
    part = desk.encrypt(desk.sign(TEXT, "carol@example.org"))
    octets = message(part).replace(b"Alice <alice@", b"Carol <carol@")
    box = await opened(presenter, {1: Kind.SEALED, 2: Kind.SEALED})
    await presenter.carry_out(Present(box, {1: octets}))
    first = await view(presenter, box, 1)
    assert first.octets is not None
    assert b"windmill" in first.octets
    clock.now += timedelta(days=400)
    await presenter.carry_out(Present(box, {1: octets, 2: octets}))
    assert await view(presenter, box, 1) == first
    # A copy of the same octets in another place was seen by nobody, yet it is the same mail.
    assert (await view(presenter, box, 2)).octets == first.octets


@pytest.mark.parametrize("days", [0, 400])
async def test_the_size_announced_before_verifying_is_the_size_after(
    desk: Desk, presenter: Presenter, clock: Clock, days: int
) -> None:
    """Header sync adds a constant to the server's size; whatever the verdict is later, it has that length."""
    octets = message(desk.sign(TEXT, ALICE))
    clock.now += timedelta(days=days)
    box = await opened(presenter, {1: Kind.SIGNED})
    await presenter.carry_out(Present(box, {1: octets}))
    found = await view(presenter, box, 1)
    assert found.size == len(octets) + VERDICT_LENGTH
    assert found.octets is not None
    assert found.octets[VERDICT_LENGTH:] == octets
    assert replace(found, octets=None).verdict == found.octets[:VERDICT_LENGTH]
