"""Errands at a real server: octets, dates, flags and keywords stay; interruptions lose and double nothing."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from secmailproxy.errands.journal import MailboxRenewed
from secmailproxy.errands.plan import Errand, Left
from secmailproxy.errors import UpstreamUnavailable
from secmailproxy.policy import Protect
from tests.errands.conftest import FLAGS, Place
from tests.fixtures.desk import container
from tests.fixtures.gnupg import GnuPG, gnupg_home
from tests.fixtures.people import leaked, letter, protect
from tests.fixtures.relay import Relay

__all__ = ["gnupg_home"]

ODD = b"Subject: a  * b (c \r\nFrom: x@example.test\r\nContent-Type: text/plain; hp=clear\r\n\r\n\xff {5}\r\n"
KEPT = frozenset(FLAGS.strip(b"()").split())


def mail(place: Place) -> list[bytes]:
    address = place.user.address
    return [letter(address, address), ODD, letter(address, address, text="* ( )\r\n" * 3000)]


async def mixed(place: Place) -> tuple[list[bytes], bytes, bytes]:
    """Put plain mail, the first of it signed, and the first of it sealed, into the mailbox, in this order."""
    originals = mail(place)
    signed = await asyncio.to_thread(protect, place.user, originals[0], Protect.SIGN)
    sealed = await asyncio.to_thread(protect, place.user, originals[0])
    for octets in (*originals, signed, sealed):
        place.append(octets)
    return originals, signed, sealed


async def test_a_mailbox_is_encrypted_and_decrypted_in_place(place: Place) -> None:
    originals, signed, sealed = await mixed(place)
    before = place.stored()
    outcome = await place.run(Errand.ENCRYPT)
    assert (outcome.replaced, outcome.left, outcome.failed) == (4, {Left.PROTECTED: 1}, [])
    after = place.stored()
    assert [one.uid for one in after] == [5, 6, 7, 8, 9]
    assert {one.flags for one in after} == {KEPT}
    assert {one.date for one in after} == {one.date for one in before}
    assert [place.opened(one) for one in after[1:]] == [*originals, signed]
    assert not [one for one in after if leaked(one.octets)]
    assert not [path.name for path in files(place) if leaked(path.read_bytes())]

    assert (await place.run(Errand.ENCRYPT)).left == {Left.PROTECTED: 5}
    assert place.stored() == after, "a second run changes nothing"

    outcome = await place.run(Errand.DECRYPT)
    assert (outcome.replaced, outcome.left, outcome.failed) == (4, {Left.NOT_OURS: 1}, [])
    restored = place.stored()
    assert [one.octets for one in restored] == [sealed, *originals, signed]
    assert {(one.flags, one.date) for one in restored} == {(KEPT, before[0].date)}
    assert set(place.journals()) == {b""}


@pytest.mark.parametrize("side", ["client", "server"])
async def test_wherever_encrypting_is_interrupted_one_of_each_is_left(
    side: str, place: Place, relay: Relay
) -> None:
    originals = mail(place)[:2]
    states: set[bytes] = set()
    for cut in range(100):
        folder = place.folder(f"{side}{cut}", *originals)
        date = place.stored(folder)[0].date
        relay.arm(side, cut)
        try:
            await place.run(Errand.ENCRYPT, folder, port=relay.port)
        except UpstreamUnavailable:
            assert relay.broken.is_set()
        states |= set(
            re.findall(rb'"state": "(\w+)"', b"".join(journal[-200:] for journal in place.journals()))
        )
        found = place.stored(folder)
        assert {place.opened(one) for one in found} == set(originals), "nothing is lost at any time"
        again = await place.run(Errand.ENCRYPT, folder)
        assert not again.failed
        after = place.stored(folder)
        assert sorted(map(place.opened, after)) == sorted(originals), cut
        assert not [one for one in after if leaked(one.octets)]
        assert {(one.flags, one.date) for one in after} == {(KEPT, date)}
        if not relay.broken.is_set():
            break
    assert cut > 15
    assert states == {b"copying", b"copied", b"deleting"}
    assert set(place.journals()) == {b""}


async def test_a_decryption_that_is_interrupted_goes_on(place: Place, relay: Relay) -> None:
    original = ODD
    for cut in range(100):
        folder = place.folder(f"d{cut}", original)
        await place.run(Errand.ENCRYPT, folder)
        relay.arm("server", cut)
        try:
            await place.run(Errand.DECRYPT, folder, port=relay.port)
        except UpstreamUnavailable:
            assert relay.broken.is_set()
        if cut % 2:
            await place.run(Errand.DECRYPT, folder)
            assert [one.octets for one in place.stored(folder)] == [original], cut
        else:
            # Another errand finishes what this one had begun.
            await place.run(Errand.ENCRYPT, folder)
            (after,) = place.stored(folder)
            assert place.opened(after) == original != after.octets
        if not relay.broken.is_set():
            break
    assert cut > 8
    assert set(place.journals()) == {b""}


def flag(place: Place, change: bytes, uid: int) -> None:
    """Another client changes flags."""
    place.select()
    place.imap.ok(b"UID STORE %d %b" % (uid, change))
    place.imap.ok(b"UNSELECT")


def expunge(place: Place, uid: int) -> None:
    """Another client deletes a message."""
    place.select()
    place.imap.ok(rb"UID STORE %d +FLAGS (\Deleted)" % uid)
    place.imap.ok(b"UID EXPUNGE %d" % uid)
    place.imap.ok(b"UNSELECT")


MOVED: dict[bytes, Callable[[Place], object]] = {
    b"APPEND": lambda place: expunge(place, 1),
    b"NOOP": lambda place: place.imap.ok(b"CREATE Elsewhere") and move(place),
}


def move(place: Place) -> None:
    place.select()
    place.imap.ok(b"UID MOVE 1 Elsewhere")
    place.imap.ok(b"UNSELECT")


@pytest.mark.parametrize("at", MOVED)
async def test_what_somebody_else_deletes_or_moves_meanwhile_does_not_come_back(
    at: bytes, place: Place, relay: Relay
) -> None:
    place.append(ODD)
    relay.meanwhile[at] = lambda: MOVED[at](place)
    outcome = await place.run(Errand.ENCRYPT, port=relay.port)
    assert not relay.meanwhile
    assert (outcome.replaced, outcome.left) == (0, {Left.GONE: 1})
    assert place.stored() == []
    if at == b"NOOP":
        assert [one.octets for one in place.stored("Elsewhere")] == [ODD]


async def test_what_is_marked_as_deleted_is_left_alone(place: Place, relay: Relay) -> None:
    place.append(ODD, flags=rb"(\Deleted)")
    place.append(ODD)
    relay.meanwhile[b"APPEND"] = lambda: flag(place, rb"+FLAGS (\Deleted)", 2)
    outcome = await place.run(Errand.ENCRYPT, port=relay.port)
    assert (outcome.replaced, outcome.left) == (0, {Left.DELETED: 2})
    assert [(one.uid, one.octets, rb"\Deleted" in one.flags) for one in place.stored()] == [
        (1, ODD, True),
        (2, ODD, True),
    ]


@pytest.mark.parametrize("at", [b"APPEND", b"NOOP", b"STORE", b"EXPUNGE"])
async def test_flags_that_change_meanwhile_are_kept(at: bytes, place: Place, relay: Relay) -> None:
    """Up to the moment in which the original is expunged."""
    place.append(ODD)

    def change() -> None:
        flag(place, rb"+FLAGS (\Flagged Soon)", 1)
        flag(place, rb"-FLAGS (\Seen)", 1)

    # The flags of the original are read for the last time right before it is expunged.
    relay.meanwhile[at if at != b"EXPUNGE" else rb"+FLAGS.SILENT (\Deleted)"] = change
    await place.run(Errand.ENCRYPT, port=relay.port)
    assert not relay.meanwhile
    (after,) = place.stored()
    assert after.flags == (KEPT - {rb"\Seen"}) | {rb"\Flagged", b"Soon"}


async def test_an_original_that_somebody_undeletes_is_deleted_again(place: Place, relay: Relay) -> None:
    place.append(ODD)
    relay.meanwhile[b"UID EXPUNGE"] = lambda: flag(place, rb"-FLAGS (\Deleted)", 1)
    await place.run(Errand.ENCRYPT, port=relay.port)
    assert not relay.meanwhile
    assert [one.uid for one in place.stored()] == [2]


async def test_a_copy_that_somebody_deletes_before_the_original_is_gone_loses_nothing(
    place: Place, relay: Relay
) -> None:
    place.append(ODD)
    relay.arm("client", before=b"UID EXPUNGE")
    relay.meanwhile[b"UID EXPUNGE"] = lambda: expunge(place, 2)
    with pytest.raises(UpstreamUnavailable):
        await place.run(Errand.ENCRYPT, port=relay.port)
    assert not relay.meanwhile
    assert [(one.uid, rb"\Deleted" in one.flags) for one in place.stored()] == [(1, True)]
    await place.run(Errand.ENCRYPT)
    (after,) = place.stored()
    assert place.opened(after) == ODD
    assert after.flags == KEPT


async def test_a_dry_run_counts_what_is_half_done_once(place: Place, relay: Relay) -> None:
    folder = place.folder("half", ODD, ODD)
    relay.arm("server", 6)
    with pytest.raises(UpstreamUnavailable):
        await place.run(Errand.ENCRYPT, folder, port=relay.port)
    looked = await place.run(Errand.ENCRYPT, folder, dry_run=True)
    assert (looked.replaced, looked.resumed) == (1, 1)
    done = await place.run(Errand.ENCRYPT, folder)
    assert (done.replaced, done.resumed) == (1, 1)


async def test_a_mailbox_that_was_renewed_stops_the_errand(place: Place, relay: Relay) -> None:
    folder = place.folder("renewed", ODD)
    relay.arm("server", 5)
    with pytest.raises(UpstreamUnavailable):
        await place.run(Errand.ENCRYPT, folder, port=relay.port)
    place.imap.ok(b"DELETE renewed")
    place.imap.ok(b"CREATE renewed")
    place.imap.ok(b"SELECT renewed")
    place.imap.ok(b"UNSELECT")
    with pytest.raises(MailboxRenewed, match=r"Look for doubles, remove .*\.journal"):
        await place.run(Errand.ENCRYPT, folder)


async def test_a_form_that_the_server_does_not_keep_is_withdrawn(place: Place, relay: Relay) -> None:
    place.append(ODD)
    before = place.stored()

    def spoil() -> None:
        """The server's disk changes a character of the ciphertext."""
        for path in place.disk.glob("*/*"):
            octets = path.read_bytes() if path.is_file() else b""
            if b"BEGIN PGP MESSAGE" in octets and path.parent.name in ("cur", "new"):
                at = octets.index(b"BEGIN PGP MESSAGE") + 200
                path.write_bytes(octets[:at] + (b"A" if octets[at] != 65 else b"B") + octets[at + 1 :])

    relay.meanwhile[b"UID FETCH 2 (UID FLAGS RFC822.SIZE INTERNALDATE BODY"] = spoil
    outcome = await place.run(Errand.ENCRYPT, port=relay.port)
    assert not relay.meanwhile
    assert (outcome.replaced, outcome.left, outcome.failed) == (0, {Left.CHANGED: 1}, [1])
    assert place.stored() == before


async def test_a_server_may_keep_words_in_its_cache_until_it_cleans_up(place: Place) -> None:
    place.append(mail(place)[0])
    place.append(mail(place)[0])
    place.select()
    place.imap.ok(b"FETCH 1:* (ENVELOPE BODYSTRUCTURE BODY.PEEK[HEADER.FIELDS (SUBJECT FROM)])")
    place.imap.ok(b"UNSELECT")
    await place.run(Errand.ENCRYPT)
    assert {path.name for path in files(place) if leaked(path.read_bytes())} == {"dovecot.index.cache"}
    config = place.user.mailbox.server.folder / "dovecot.conf"
    purge = ["doveadm", "-c", str(config), "mailbox", "cache", "purge", "-u", place.user.address, place.box]
    subprocess.run(purge, check=True, capture_output=True)
    assert not [path.name for path in files(place) if leaked(path.read_bytes())]


def files(place: Place) -> list[Path]:
    """Every file that the server keeps for the mailbox."""
    return [path for path in place.disk.rglob("*") if path.is_file()]


async def test_what_is_only_signed_keeps_its_signature(
    place: Place, gnupg_home: Callable[..., GnuPG]
) -> None:
    """In the form of an encrypted message there may be one that is not; decrypting would strip its signer."""
    gnupg = gnupg_home()
    gnupg.generate("writer@example.org")
    signed = gnupg.run("--armor", "--sign", data=b"Content-Type: text/plain\r\n\r\nwords\r\n").stdout
    octets = b"From: <writer@example.org>\r\n" + container(signed.replace(b"\n", b"\r\n"))
    place.append(octets)
    outcome = await place.run(Errand.DECRYPT, any_sender=True)
    assert (outcome.replaced, outcome.left) == (0, {Left.UNREADABLE: 1})
    assert [one.octets for one in place.stored()] == [octets]
