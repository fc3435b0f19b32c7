"""Servers that refuse, and servers that say things on which aioimaplib alone would stumble."""

from __future__ import annotations

import pytest

from secmailproxy.errands import client
from secmailproxy.errands.client import Refused
from secmailproxy.errands.facts import same_moment
from secmailproxy.errands.plan import Errand, Left
from secmailproxy.errors import NotAllowed, UpstreamUnavailable
from tests.errands.conftest import FLAGS, Place
from tests.errands.test_replacing import KEPT, ODD
from tests.fixtures.relay import Relay

NOISE = {
    "a number in braces after a text": {b" completed": b" completed {5}"},
    "an announcement with a number in braces": {b"* SEARCH": b"* OK note {5}\r\n* SEARCH"},
    "small letters": {b" OK Search": b" ok Search", b" OK Fetch": b" Ok Fetch"},
    "parentheses and asterisks in a string": {b"* SEARCH": b'* LIST () "/" "a * b* (c"\r\n* SEARCH'},
    "a thousand lines at once": {b"* SEARCH": b"* 0 RECENT\r\n" * 3000 + b"* SEARCH"},
    "updates in between": {b"* SEARCH": rb"* 1 FETCH (UID 77 FLAGS (\Seen))" + b"\r\n* 3 EXISTS\r\n* SEARCH"},
    "no text at all": {b" OK Search completed": b" OK"},
}


@pytest.mark.parametrize("kind", NOISE)
async def test_whatever_is_said_around_it_is_understood(kind: str, place: Place, relay: Relay) -> None:
    place.append(ODD)
    relay.rewrites = NOISE[kind]
    outcome = await place.run(Errand.ENCRYPT, port=relay.port)
    assert (outcome.replaced, outcome.failed) == (1, [])
    (after,) = place.stored()
    assert (after.uid, after.flags, place.opened(after)) == (2, KEPT, ODD)


async def test_hundreds_of_messages_and_flags_beyond_the_grammar(place: Place, relay: Relay) -> None:
    for _ in range(3):
        place.append(ODD)
    place.select()
    for _ in range(7):
        place.imap.ok(b"COPY 1:* %b" % place.box.encode())
    place.imap.ok(b"UNSELECT")
    relay.rewrites = {b"Later": b"La* r"}
    outcome = await place.run(Errand.ENCRYPT, port=relay.port)
    assert (outcome.replaced, outcome.left) == (0, {Left.ODD_FLAGS: 384})
    assert len(place.stored()) == 384


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"NO [OVERQUOTA] Quota exceeded.", "Quota exceeded"),
        (b"NO [NOPERM] Not here {5}", "Not here"),
        (b"BAD", "no reason given"),
    ],
)
async def test_a_refusal_stops_it_with_nothing_changed(
    answer: bytes, said: str, place: Place, relay: Relay
) -> None:
    place.append(ODD)
    before = place.stored()
    relay.refusals = {b" APPEND ": answer}
    with pytest.raises(Refused, match=said):
        await place.run(Errand.ENCRYPT, port=relay.port)
    assert place.stored() == before
    assert (await place.run(Errand.ENCRYPT)).resumed == 0


async def test_a_full_mailbox_is_freed_of_what_was_replaced(place: Place, relay: Relay) -> None:
    for _ in range(3):
        place.append(ODD)
    # The third message finds no room while the first two are there twice.
    relay.meanwhile[b"UID FETCH 3 (UID FLAGS RFC822.SIZE INTERNALDATE BODY"] = lambda: relay.refusals.update(
        {b" APPEND ": b"NO [OVERQUOTA] Full."}
    )
    outcome = await place.run(Errand.ENCRYPT, port=relay.port)
    assert not relay.refusals
    assert (outcome.replaced, outcome.failed) == (3, [])
    assert [one.uid for one in place.stored()] == [4, 5, 6]


async def test_a_message_too_large_for_the_server_is_left_alone(place: Place, relay: Relay) -> None:
    place.append(ODD)
    place.append(ODD)
    relay.refusals = {b" APPEND ": b"NO [TOOBIG] Too big."}
    outcome = await place.run(Errand.ENCRYPT, port=relay.port)
    assert (outcome.replaced, outcome.left) == (1, {Left.TOO_LARGE: 1})
    relay.rewrites = {b"UIDPLUS": b"UIDPLUS APPENDLIMIT=10"}
    place.append(ODD)
    outcome = await place.run(Errand.ENCRYPT, port=relay.port)
    assert outcome.left == {Left.TOO_LARGE: 2, Left.PROTECTED: 1}


@pytest.mark.parametrize(
    ("rewrites", "error", "said"),
    [
        ({b"UIDPLUS": b"XXXXXXX"}, UpstreamUnavailable, "does not offer UIDPLUS"),
        ({b"UIDPLUS": b"UIDPLUS X-GM-EXT-1"}, UpstreamUnavailable, "is Gmail"),
        ({b"[READ-WRITE]": b"[READ-ONLY]"}, NotAllowed, "lets us only read"),
        ({rb"PERMANENTFLAGS (\Answered": rb"PERMANENTFLAGS (\*) (\Answered"}, None, ""),
        ({rb"\Deleted \Seen \Draft Later": rb"\Seen \Draft Later"}, None, ""),
        ({b"[UIDVALIDITY": b"[UIDSURELY"}, UpstreamUnavailable, "no lasting UIDs"),
        ({b"[UIDNEXT": b"[UIDFIRST"}, UpstreamUnavailable, "does not tell the next UID"),
        ({b"[APPENDUID": b"[APPENDED"}, UpstreamUnavailable, "does not tell the UID"),
        ({b"* SEARCH": b"nonsense\r\n* SEARCH"}, UpstreamUnavailable, "no response"),
    ],
)
async def test_a_server_that_cannot_be_trusted_with_it_is_refused(
    rewrites: dict[bytes, bytes], error: type[Exception] | None, said: str, place: Place, relay: Relay
) -> None:
    place.append(ODD, flags=FLAGS)
    relay.rewrites = rewrites
    if error is None:
        assert (await place.run(Errand.ENCRYPT, port=relay.port)).replaced == 1
        return
    with pytest.raises(error, match=said):
        await place.run(Errand.ENCRYPT, port=relay.port)
    assert place.stored()[0].octets == ODD


def test_one_moment_in_two_zones() -> None:
    assert same_moment(b'"17-Jul-2021 02:44:25 +0700"', b'"16-Jul-2021 19:44:25 +0000"')
    assert same_moment(b'" 1-Jul-2021 02:44:25 +0700"', b'"30-Jun-2021 19:44:25 +0000"')
    assert not same_moment(b'"17-Jul-2021 02:44:25 +0700"', b'"17-Jul-2021 02:44:25 +0000"')
    assert not same_moment(b"nonsense", b"other")


async def test_a_server_that_keeps_no_copy_as_it_is_is_left_alone(place: Place, relay: Relay) -> None:
    for _ in range(5):
        place.append(ODD)
    before = place.stored()
    # Of each copy, which is withdrawn before the next comes, one flag is lost.
    told = b"* 6 FETCH (UID %d FLAGS ("
    relay.rewrites = {told % uid + rb"\Seen": told % uid for uid in range(6, 9)}
    with pytest.raises(UpstreamUnavailable, match="kept none of 3 messages"):
        await place.run(Errand.ENCRYPT, port=relay.port)
    assert place.stored() == before


async def test_a_server_that_falls_silent_is_given_up(
    place: Place, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "SILENCE_SECONDS", 0.3)
    place.append(ODD)
    relay.arm("server", 5, stall=True)
    with pytest.raises(UpstreamUnavailable, match="has not answered"):
        await place.run(Errand.ENCRYPT, port=relay.port)
    assert place.stored()[0].octets == ODD
    relay.arm("server")
    await place.run(Errand.ENCRYPT, port=relay.port)
    assert len(place.stored()) == 1
