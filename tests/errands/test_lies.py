"""Servers that are wrong about UIDs, and journals that are: no message is deleted that was not replaced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from secmailproxy.errands.journal import Entry, journal_of
from secmailproxy.errands.plan import Errand, Left, State
from secmailproxy.errors import UpstreamUnavailable, UsageError
from tests.errands.conftest import Place
from tests.errands.test_replacing import KEPT, ODD, expunge, flag, mail
from tests.fixtures.relay import Relay

NEW = b"Subject: just arrived\r\n\r\nNobody has read this.\r\n"


def contents(place: Place) -> list[bytes]:
    return sorted(map(place.opened, place.stored()))


@pytest.mark.parametrize("told", [b"1", b"2", b"3", b"99", b"3:4", b""])
@pytest.mark.parametrize("errand", [Errand.ENCRYPT, Errand.DECRYPT])
async def test_a_wrong_uid_of_a_copy_deletes_nothing(
    errand: Errand, told: bytes, place: Place, relay: Relay
) -> None:
    """Of an older message, of the original, of one that arrived just before, of none."""
    letters = [mail(place)[0], ODD]
    for octets in letters:
        place.append(octets)
    first = 1
    if errand is Errand.DECRYPT:
        await place.run(Errand.ENCRYPT)
        first = 3
    # What arrives gets the next UID, and the copy of the first message the one after that.
    right = b" %d] Append completed" % (first + 3)
    wrong = b"%d" % (first + int(told) - 1) if told.isdigit() else told
    relay.rewrites = {right: b" %b] Append completed" % wrong}
    relay.meanwhile[b" APPEND "] = lambda: place.append(NEW)
    with pytest.raises(UpstreamUnavailable):
        await place.run(errand, port=relay.port)
    assert set(contents(place)) == {*letters, NEW}
    await place.run(errand)
    assert set(contents(place)) == {*letters, NEW}


@pytest.mark.parametrize("code", [b"", b" 9:10", b" 1 4"])
async def test_a_copy_of_which_the_server_does_not_tell_everything_is_looked_for(
    code: bytes, place: Place, relay: Relay
) -> None:
    place.append(ODD)
    relay.rewrites = {b" 2] Append completed": code + b"] Append completed"}
    with pytest.raises(UpstreamUnavailable, match="does not tell the UID"):
        await place.run(Errand.ENCRYPT, port=relay.port)
    assert (await place.run(Errand.ENCRYPT)).resumed == 1
    assert contents(place) == [ODD]


async def test_a_uid_of_another_mailbox_is_not_believed(place: Place, relay: Relay) -> None:
    place.append(ODD)
    relay.rewrites = {b"[APPENDUID ": b"[APPENDUID 9"}
    with pytest.raises(UpstreamUnavailable, match="does not tell the UID"):
        await place.run(Errand.ENCRYPT, port=relay.port)
    assert (await place.run(Errand.ENCRYPT)).resumed == 1
    (after,) = place.stored()
    assert (place.opened(after), after.flags) == (ODD, KEPT)


def journal_with(place: Place, entry: Entry) -> Path:
    """As of a run that was interrupted."""
    place.imap.ok(b"EXAMINE %b" % place.box.encode())
    status = b"".join(place.imap.ok(b"STATUS %b (UIDVALIDITY)" % place.box.encode()))
    place.imap.ok(b"UNSELECT")
    uidvalidity = int(status.split(b"UIDVALIDITY ")[1].split(b")")[0])
    address = place.user.mailbox.address
    with journal_of(place.user.home.folders.state, address, place.box.encode()) as journal:
        journal.begin(Errand.ENCRYPT, uidvalidity)
        journal.note(entry)
        return journal.path


@pytest.mark.parametrize("state", State)
async def test_a_journal_of_a_backup_loses_nothing(state: State, place: Place) -> None:
    """Its errand has gone on since: the copy is the only one there is."""
    place.append(ODD)
    await place.run(Errand.ENCRYPT)
    (only,) = place.stored()
    sign = "boundary:" + only.octets.split(b'boundary="')[1].split(b'"')[0].decode()
    entry = Entry(1, state, sign, 2, KEPT, None if state is State.COPYING else 2)
    if state is State.WITHDRAWING:
        entry = replace(entry, copy=1)  # it was withdrawn then, and copied again
    journal_with(place, entry)
    outcome = await place.run(Errand.ENCRYPT)
    assert outcome.resumed == 1
    assert [place.opened(one) for one in place.stored()] == [ODD]
    assert outcome.left[Left.KEPT] == (state in (State.COPYING, State.COPIED))


@pytest.mark.parametrize("state", State)
async def test_a_journal_with_wrong_uids_deletes_nothing(state: State, place: Place) -> None:
    place.append(ODD)
    place.append(NEW)
    entry = Entry(1, state, "boundary:=-none", 1, KEPT, None if state is State.COPYING else 2)
    journal_with(place, entry)
    if state in (State.COPIED,):
        with pytest.raises(UpstreamUnavailable, match="another message"):
            await place.run(Errand.ENCRYPT)
    else:
        outcome = await place.run(Errand.ENCRYPT)
        assert outcome.failed == ([1] if state is not State.COPYING else [])
    assert contents(place) == sorted([ODD, NEW])


async def test_an_original_that_is_marked_while_interrupted_keeps_its_copy(
    place: Place, relay: Relay
) -> None:
    place.append(ODD)
    relay.arm("client", before=b"NOOP")
    with pytest.raises(UpstreamUnavailable):
        await place.run(Errand.ENCRYPT, port=relay.port)
    flag(place, rb"+FLAGS (\Deleted)", 1)
    outcome = await place.run(Errand.ENCRYPT)
    assert outcome.left == {Left.KEPT: 1, Left.DELETED: 1, Left.PROTECTED: 1}
    assert contents(place) == [ODD, ODD]


async def test_a_copy_that_somebody_deletes_before_its_original_is_keeps_the_original(
    place: Place, relay: Relay
) -> None:
    place.append(ODD)
    relay.meanwhile[b"NOOP"] = lambda: expunge(place, 2)
    outcome = await place.run(Errand.ENCRYPT, port=relay.port)
    assert not relay.meanwhile
    assert (outcome.replaced, outcome.left) == (0, {Left.GONE: 1})
    assert [(one.uid, one.octets, one.flags) for one in place.stored()] == [(1, ODD, KEPT)]


async def test_flags_that_the_server_refuses_leave_the_original(place: Place, relay: Relay) -> None:
    place.append(ODD)
    before = place.stored()
    relay.rewrites = {rb"* 2 FETCH (UID 2 FLAGS (\Seen": b"* 2 FETCH (UID 2 FLAGS ("}
    relay.refusals = {b"UID STORE 2 +FLAGS": b"NO [LIMIT] Too many keywords."}
    outcome = await place.run(Errand.ENCRYPT, port=relay.port)
    assert (outcome.replaced, outcome.left) == (0, {Left.CHANGED: 1})
    assert place.stored() == before


def test_a_journal_changed_anywhere_is_refused_or_says_less(tmp_path: Path) -> None:
    entry = Entry(5, State.COPYING, "boundary:=-0a", 17, frozenset({rb"\Seen"}))
    steps: list[dict[int, Entry]] = [{}]
    with journal_of(tmp_path, "a@example.test", b"INBOX") as journal:
        journal.begin(Errand.ENCRYPT, 7)
        for one in (entry, replace(entry, state=State.COPIED, copy=18), replace(entry, state=State.DELETING)):
            journal.note(one)
            steps.append(dict(journal.entries))
        path = journal.path
    whole = path.read_bytes()
    for at in range(len(whole)):
        for octet in {10, whole[at] ^ 1} - {whole[at]}:
            path.write_bytes(whole[:at] + bytes([octet]) + whole[at + 1 :])
            try:
                with journal_of(tmp_path, "a@example.test", b"INBOX") as journal:
                    assert journal.entries in steps[:-1]
            except UsageError:
                assert path.read_bytes() != whole
            else:
                assert at > whole.rindex(b"\n", 0, -1), "only at the end it may have been torn"
