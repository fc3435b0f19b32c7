"""Several clients at once change one mailbox; what each of them knows stays right (IMAP-10, IMAP-11).

The scripts are random, and the same in every run. Times are not: which client sees a change first is up to
the server, and whatever it is must be right.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from secmailproxy.policy import Protect
from tests.fixtures.bookkeeper import Bookkeeper, Truth
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import ProxyUser, letter, protect_all, proxy_user
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.transcript import direct, proxied

ITEMS = (
    b"(UID FLAGS)",
    b"(FLAGS)",
    b"(BODY.PEEK[])",
    b"(UID RFC822.SIZE BODY.PEEK[])",
    b"(UID RFC822.SIZE ENVELOPE)",
    b"(BODY[] FLAGS)",
    b"(UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])",
    b"(UID BODYSTRUCTURE RFC822.SIZE)",
)
KINDS = (Protect.NEVER, Protect.REQUIRE, Protect.NEVER, Protect.SIGN, Protect.REQUIRE, Protect.NEVER)
CLIENTS = (("reader", True, False), ("quick", True, True), ("other", True, False), ("direct", False, True))
"""Name, proxied, QRESYNC."""
_boxes = itertools.count(1)


class Mail:
    """Whose mailbox it is, and messages to put into it, each with a mark of its own in the subject."""

    def __init__(self, user: ProxyUser) -> None:
        self.user = user
        self.messages: list[tuple[bytes, bytes]] = []
        """Octets as they are stored, and the mark."""


@pytest.fixture(scope="module")
def mail(dovecot: Dovecot, module_proxies: ProxyFactory) -> Mail:
    """Plain, encrypted and signed messages, mixed."""
    user = proxy_user(module_proxies, dovecot.mailbox("sequence"))
    found = Mail(user)
    marks = [f"mark-{number:03}-" for number in range(48)]
    clear = [
        letter(user.address, user.address, subject=f"Subject {mark}", text=f"Text {mark}") for mark in marks
    ]
    stored = protect_all(user, list(zip(clear, itertools.cycle(KINDS), strict=False)))
    found.messages += zip(stored, (mark.encode() for mark in marks), strict=True)
    return found


@dataclass
class Room:
    """One mailbox and those who have it selected."""

    box: bytes
    mail: Mail
    truth: Truth
    clients: list[Bookkeeper]
    stored: Iterator[tuple[bytes, bytes]]

    def act(self, client: Bookkeeper, verb: str, pick: int, how: int) -> None:
        """Let a client do something; whether it waits for the answer depends on `how`."""
        ACTIONS[verb](self, client, pick, how)
        if how % 2 and not client.idling:
            client.settle()

    def send(self, client: Bookkeeper, name: bytes, arguments: bytes = b"", **notes: object) -> None:
        """A command, after those that it must not overtake or disturb."""
        if not client.may_send(name):
            client.settle()
        client.send(name, arguments, **notes)  # type: ignore[arg-type]  # passed through


def append(room: Room, client: Bookkeeper, pick: int, how: int) -> None:
    octets, mark = next(room.stored)
    client.append(room.box, octets, mark)


def _a_uid(client: Bookkeeper, pick: int) -> int:
    return client.known[pick % len(client.known)] if client.known else 1


def _a_range(client: Bookkeeper, pick: int, how: int) -> tuple[int, int]:
    """Of message numbers; the second may lie before the first, as the protocol allows."""
    count = len(client.numbers)
    return 1 + pick % count, 1 + (pick + how) % count


def fetch(room: Room, client: Bookkeeper, pick: int, how: int) -> None:
    if not client.may_send(b"FETCH"):
        client.settle()
    if not client.numbers:
        return
    low, high = sorted(_a_range(client, pick, how))
    text = b"%d:*" % low if how == 5 else b"%d:%d" % (low, high)
    last = len(client.numbers) if how == 5 else high
    wanted = [uid for uid in client.numbers[low - 1 : last] if uid is not None]
    client.send(b"FETCH", text + b" " + ITEMS[(pick + how) % len(ITEMS)], wanted=wanted)


def uid_fetch(room: Room, client: Bookkeeper, pick: int, how: int) -> None:
    uid = _a_uid(client, pick)
    text, last = {3: (b"%d:*" % uid, 2**32), 4: (b"1:%d" % uid, uid)}.get(how, (b"%d" % uid, uid))
    first = 1 if how == 4 else uid
    if not client.may_send(b"UID FETCH"):
        client.settle()
    wanted = [one for one in client.known if first <= one <= last]
    client.send(b"UID FETCH", text + b" " + ITEMS[(pick + how) % len(ITEMS)], wanted=wanted)


def store(room: Room, client: Bookkeeper, pick: int, how: int) -> None:
    if not client.may_send(b"STORE"):
        client.settle()
    if client.numbers:
        low, high = _a_range(client, pick, how % 3)
        flag = rb"\Flagged" if how > 3 else rb"\Deleted"
        client.send(b"STORE", b"%d:%d +FLAGS (%b)" % (low, high, flag))


def uid_store(room: Room, client: Bookkeeper, pick: int, how: int) -> None:
    silent = b".SILENT" if how > 3 else b""
    room.send(client, b"UID STORE", b"%d +FLAGS%b (\\Deleted)" % (_a_uid(client, pick), silent))


def search(room: Room, client: Bookkeeper, pick: int, how: int) -> None:
    client.settle()
    uid = _a_uid(client, pick)
    client.send(b"SEARCH", b"UID %d" % uid, looked_for=uid)
    client.settle()


def expunge(room: Room, client: Bookkeeper, pick: int, how: int) -> None:
    room.send(client, b"EXPUNGE")


def uid_expunge(room: Room, client: Bookkeeper, pick: int, how: int) -> None:
    room.send(client, b"UID EXPUNGE", b"1:%d" % _a_uid(client, pick))


def move(room: Room, client: Bookkeeper, pick: int, how: int) -> None:
    """To where it is already, which gives it a new UID at the end."""
    client.settle()
    if client.numbers:
        client.send(b"MOVE", b"%d %b" % (_a_range(client, pick, how)[0], room.box))
        client.settle()


def uid_move(room: Room, client: Bookkeeper, pick: int, how: int) -> None:
    client.settle()
    client.send(b"UID MOVE", b"%d %b" % (_a_uid(client, pick), room.box))
    client.settle()


def uid_copy(room: Room, client: Bookkeeper, pick: int, how: int) -> None:
    client.settle()
    client.send(b"UID COPY", b"%d %b" % (_a_uid(client, pick), room.box))
    client.settle()


def noop(room: Room, client: Bookkeeper, pick: int, how: int) -> None:
    room.send(client, b"NOOP")


def idle(room: Room, client: Bookkeeper, pick: int, how: int) -> None:
    client.idle()


ACTIONS: dict[str, Callable[[Room, Bookkeeper, int, int], None]] = {
    one.__name__: one
    for one in (
        *(append, fetch, uid_fetch, store, uid_store, search, expunge),
        *(uid_expunge, move, uid_move, uid_copy, noop, idle),
    )
}
OFTEN = ("fetch", "fetch", "uid_fetch", "append", "uid_store", "expunge", "noop", "idle")

STEPS = st.tuples(
    st.integers(0, len(CLIENTS) - 1),
    st.sampled_from([*OFTEN, *ACTIONS]),
    st.integers(0, 9),
    st.integers(0, 7),
)


@contextlib.contextmanager
def room_of(mail: Mail) -> Iterator[Room]:
    """A new mailbox with some messages, selected by everybody."""
    box, truth = b"room%d" % next(_boxes), Truth()
    stored = itertools.cycle(mail.messages)
    user = mail.user
    with contextlib.ExitStack() as stack:
        clients = []
        for name, is_proxied, qresync in CLIENTS:
            session = proxied(user.proxy, user.mailbox) if is_proxied else direct(user.mailbox)
            imap = stack.enter_context(session)
            clients.append(Bookkeeper(name, imap, truth, is_proxied, qresync))
        room = Room(box, mail, truth, clients, stored)
        clients[0].imap.ok(b"CREATE " + box)
        for _ in range(6):
            append(room, clients[-1], 0, 0)
        for client in clients:
            if client.qresync:
                client.send(b"ENABLE", b"QRESYNC")
                client.settle()
            client.send(b"SELECT", box)
            client.settle()
        yield room


def check_at_rest(room: Room) -> None:
    """Once all are told everything, all know the same, and nothing was kept from anybody."""
    for client in room.clients:
        client.settle()
    left: frozenset[int] = frozenset()

    def agreed() -> bool:
        nonlocal left
        views = []
        for client in room.clients:
            client.send(b"NOOP")
            client.settle()
            if client.numbers:
                client.send(b"FETCH", b"1:* (UID)")
                client.settle()
            views.append(client.known)
        left = frozenset(views[0])
        return all(view == views[0] for view in views)

    def told() -> str:
        return "\n".join(client.story() for client in room.clients)

    wait_until(agreed, told)
    for client in room.clients:
        client.send(b"UID FETCH", b"1:* (UID RFC822.SIZE BODY.PEEK[])", wanted=left)
        client.settle()
    # At times Dovecot tells everybody, the direct client too, of a message whose file is gone already.
    wait_until(agreed, told)
    assert [one for one in room.truth.owed if one[1] in left] == []
    for client in room.clients:
        for uid in left:
            assert room.truth.sizes[client.proxied, uid] == len(room.truth.octets[client.proxied, uid])


@pytest.mark.timeout(600)  # to shrink a script that fails takes some minutes
@settings(
    max_examples=16,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(script=st.lists(STEPS, min_size=30, max_size=90))
def test_every_clients_numbers_stay_right(mail: Mail, script: list[tuple[int, str, int, int]]) -> None:
    """IMAP-10, IMAP-11."""
    with room_of(mail) as room:
        for who, verb, pick, how in script:
            room.act(room.clients[who], verb, pick, how)
        check_at_rest(room)
