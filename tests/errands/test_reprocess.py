"""Messages that became readable get a new UID, and nothing that was seen changes (IMAP-03)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from secmailproxy.errands.plan import Errand
from secmailproxy.errors import UpstreamUnavailable
from secmailproxy.imap.rendering import form_of
from secmailproxy.policy import Protect
from secmailproxy.views import Kind, View, message_hash
from tests.errands.conftest import Place, place_of
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import SUBJECT, TEXT, ProxyUser, letter, protect, proxy_user
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.relay import Relay
from tests.fixtures.transcript import proxied


@dataclass
class Late:
    """Somebody who got the key and the certificate of another only after the mail."""

    place: Place
    other: ProxyUser
    messages: dict[str, bytes]

    def learn(self) -> None:
        """Both come now: the secret key of an address of before, and with it the certificate."""
        with self.other.home.keystore() as theirs:
            armored = theirs.export(self.other.fingerprint, secret=True)
        with self.place.user.home.keystore() as own:
            results = own.import_keys(armored, source="the tests")
        assert not [one.reason for one in results if one.reason]

    def seen(self, folder: str = "INBOX") -> dict[int, bytes]:
        """What a mail client sees, by UID."""
        with proxied(self.place.user.proxy, self.place.user.mailbox) as imap:
            imap.ok(b"EXAMINE %b" % folder.encode())
            found = imap.ok(b"UID FETCH 1:* (RFC822.SIZE BODY.PEEK[])")[:-1]
        return {int(one.split(b"UID ")[1].split()[0]): one.partition(b"\r\n")[2] for one in found}


@pytest.fixture
def late(dovecot: Dovecot, proxies: ProxyFactory) -> Iterator[Late]:
    # What this mail says by Autocrypt of its author is not heard: keys come when the test brings them.
    user = proxy_user(proxies, dovecot.mailbox("late"), config="[autocrypt]\nharvest = false\n")
    other = proxy_user(proxies, dovecot.mailbox("former"))
    clear = letter(other.address, user.address)
    messages = {
        "plain": clear,
        "sealed to the former key": protect(other, clear),
        "signed by the former key": protect(other, clear, Protect.SIGN),
        "sealed to the present key": protect(user, letter(user.address, user.address)),
    }
    with place_of(user) as place:
        for octets in messages.values():
            place.append(octets)
        yield Late(place, other, messages)


async def test_what_became_readable_gets_a_new_uid_and_what_was_seen_stays(late: Late) -> None:
    """IMAP-03."""
    place = late.place
    place.imap.ok(b"CREATE Seen")
    place.imap.ok(b"CREATE Unseen")
    place.select()
    place.imap.ok(b"COPY 1:* Seen")
    place.imap.ok(b"COPY 1:* Unseen")
    place.imap.ok(b"UNSELECT")
    before, elsewhere = late.seen(), late.seen("Seen")
    assert b"not decrypted" in before[2]
    assert b"signature=unknown-key" in before[3]

    assert (await place.run(Errand.REPROCESS)).replaced == 0
    late.learn()
    assert late.seen() == before
    dry = await place.run(Errand.REPROCESS, dry_run=True)
    assert dry.replaced == 2
    stored = place.stored()
    outcome = await place.run(Errand.REPROCESS)
    assert (outcome.replaced, outcome.failed) == (2, [])

    anew = place.stored()
    assert [one.uid for one in anew] == [1, 4, 5, 6]
    assert [one.octets for one in anew[2:]] == [one.octets for one in stored[1:3]]
    assert {(one.flags, one.date) for one in anew} == {(stored[0].flags, stored[0].date)}
    now = late.seen()
    assert (now[1], now[4]) == (before[1], before[4])
    assert TEXT.encode() in now[5]
    assert SUBJECT.encode() in now[5]
    assert b"signature=unknown-key" not in now[6]
    assert b"signature=valid" in now[6]
    # The same messages elsewhere: those that were seen stay as they were seen.
    assert late.seen("Seen") == elsewhere
    assert TEXT.encode() in late.seen("Unseen")[2]
    assert (await place.run(Errand.REPROCESS)).replaced == 0


@pytest.mark.parametrize("kind", [Kind.OPAQUE, Kind.SIGNED], ids=lambda kind: kind.name)
async def test_what_a_former_version_did_not_read_is_judged_anew(late: Late, kind: Kind) -> None:
    """It is shown as then until somebody asks for more; where nothing is known of the signer, that is new."""
    place = late.place
    place.select()
    uidvalidity = int(place.imap.ok(b"STATUS INBOX (UIDVALIDITY)")[0].split()[-1].strip(b")\r\n"))
    place.imap.ok(b"UNSELECT")
    field = b"%b: not verified; signature=unacceptable; reason=received\r\n S/MIME is not read yet\r\n"
    views = place.tools.views
    box = views.mailbox(place.user.address, b"INBOX", uidvalidity)
    views.classify(box, b"1:4", {3: kind})
    form = replace(form_of(field % place.tools.field_name.encode(), place.stored()[2].octets), kind=kind)
    # Of what was opaque only the field was kept.
    former = form if kind is Kind.SIGNED else View(kind, form.verdict)
    views.fix(box, {3: (message_hash(place.stored()[2].octets), former)})
    assert b"not read yet" in late.seen()[3]
    outcome = await place.run(Errand.REPROCESS)
    assert (outcome.replaced, outcome.failed) == (1, [])
    assert b"signature=unknown-key" in late.seen()[5]
    assert (await place.run(Errand.REPROCESS)).replaced == 0


async def test_where_the_server_copies_nothing_into_the_same_mailbox_it_is_appended(
    late: Late, relay: Relay
) -> None:
    late.seen()
    late.learn()
    relay.refusals = {b" UID COPY ": b"NO [CANNOT] Not into itself."}
    outcome = await late.place.run(Errand.REPROCESS, port=relay.port)
    assert not relay.refusals
    assert (outcome.replaced, outcome.failed) == (2, [])
    assert TEXT.encode() in late.seen()[5]
    assert len({(one.flags, one.date) for one in late.place.stored()}) == 1


async def test_an_interrupted_reprocess_leaves_one_of_each(late: Late, relay: Relay) -> None:
    """The copy is there, and its UID was never told."""
    await asyncio.to_thread(late.seen)
    late.learn()
    before = sorted(one.octets for one in late.place.stored())
    relay.arm("server", 4)
    with pytest.raises(UpstreamUnavailable):
        await late.place.run(Errand.REPROCESS, port=relay.port)
    await asyncio.to_thread(late.seen)
    await late.place.run(Errand.REPROCESS)
    assert sorted(one.octets for one in late.place.stored()) == before
    now = await asyncio.to_thread(late.seen)
    assert not [octets for octets in now.values() if b"not decrypted" in octets or b"unknown-key" in octets]
