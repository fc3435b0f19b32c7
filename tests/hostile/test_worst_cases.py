"""MIME-08: what the worst messages cost grows no faster than they do, and no other waits for them.

Time is compared with time at another size, and memory with the size of the message, or of what it may expand
to. `python -m bench hostile` opens the same messages at the sizes at which they are worst.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from keystore.openpgp.message import OpenLimits
from keystore.openpgp.packet import binary
from secmailproxy import inbound
from secmailproxy.model import Verdict
from tests.fixtures.desk import ALICE, BOB, FIELD, MADE, NOW, Desk, desk
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.growth import assert_linear
from tests.fixtures.people import letter, protect, proxy_user
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.transcript import proxied
from tests.fixtures.worst import HEADER, KIB, MIB, Worst
from tests.fixtures.worst.cms import CMS
from tests.fixtures.worst.mime import MIME
from tests.fixtures.worst.pgp import Keys, pgp

__all__ = ["desk"]

IN_HEADER, SIZE = 24 * KIB, 64 * KIB
TIMES = 14
"""How many times the message, or what it may expand to, its reader may hold at once."""


def peak(work: Callable[[], object]) -> int:
    """The most octets that it holds at once, beside what there was."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def size_of(name: str, one: Worst, most: int) -> int:
    """Bombs are small, and take what they become."""
    return min(one.most, most // 32 if "bomb" in name else most)


def read_at_length(desk: Desk, name: str, one: Worst) -> None:
    """Memory at one size, time at two."""

    def read(octets: bytes) -> None:
        summary = inbound.unprotect(octets, desk.keystore, NOW, FIELD).summary
        assert summary.verdict is not Verdict.VALID

    if one.most <= HEADER or "field" in name:
        # Objects for every octet, perhaps; of a header section there are few.
        assert_linear(one.make, read, IN_HEADER)
        return
    octets = one.make(size_of(name, one, 256 * KIB))
    most = OpenLimits().for_ciphertext(len(octets)) if "bomb" in name else len(octets)
    taken = peak(lambda: read(octets))
    assert taken < TIMES * most + 2 * MIB + one.beside, f"{name}: {taken} octets for {len(octets)}"
    assert_linear(one.make, read, size_of(name, one, SIZE))


@pytest.mark.parametrize("name", [*MIME, *CMS])
def test_structures_cost_no_more_than_their_size(desk: Desk, name: str) -> None:
    """MIME-08; and never valid, since nobody has signed any of them."""
    read_at_length(desk, name, {**MIME, **CMS}[name])


def test_packets_cost_no_more_than_their_size(desk: Desk) -> None:
    """MIME-08, OpenPGP."""
    own = binary(desk.keystore.export(desk.keys[BOB]), "PUBLIC KEY BLOCK")
    signature = desk.keystore.sign(b"something else", desk.keys[ALICE], MADE).armored
    for name, one in pgp(Keys((own,), signature)).items():
        read_at_length(desk, name, one)


def test_one_fetch_brings_the_worst_and_the_ordinary(proxies: ProxyFactory, dovecot: Dovecot) -> None:
    """MIME-08: each message has its answer, and what is ordinary is opened, in one FETCH of all."""
    user = proxy_user(proxies, dovecot.mailbox("worst"))
    with user.home.keystore() as store:
        own = binary(store.export(user.fingerprint), "PUBLIC KEY BLOCK")
        signature = store.sign(b"something else", user.fingerprint, datetime.now(UTC)).armored
    kinds = {**MIME, **CMS, **pgp(Keys((own,), signature))}
    ordinary = protect(user, letter(user.address, user.address))
    messages: list[bytes] = []
    for name, one in kinds.items():
        messages.append(one.make(size_of(name, one, SIZE // 2)))
        if len(messages) % 10 == 5:
            messages.append(ordinary)
    user.mailbox.fill(messages)
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        found = imap.ok(b"UID FETCH 1:* (UID RFC822.SIZE BODYSTRUCTURE ENVELOPE BODY.PEEK[])")
        assert len(found) == len(messages) + 1
        valid = [one for one in found if b"signature=valid" in one]
        assert len(valid) == messages.count(ordinary)
        assert all(b"windmill" in one for one in valid)
