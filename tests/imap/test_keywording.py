"""Keywords that only the proxy sets, in every answer that tells flags, behind a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from keystore.model import Trust
from secmailproxy.imap import grammar
from secmailproxy.imap.keywording import Keywords
from secmailproxy.imap.selected import Selected
from secmailproxy.imap.wire import Fragment
from secmailproxy.policy import Protect
from secmailproxy.views import Kind, Mailbox
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import ProxyUser, letter, protect_all, proxy_user
from tests.fixtures.proxy import ProxyFactory, Upstream
from tests.fixtures.transcript import RawImap, direct, proxied

PLAIN, SEALED, SIGNED, BROKEN, MORE = 1, 2, 3, 4, 5
"""UIDs, and sequence numbers at first."""
BOTH = {b"$SecmailSigned", b"$SecmailVerified", b"$SecmailEncrypted"}
OURS = [b"$SecmailSigned", b"$SecmailVerified", b"$SecmailEncrypted", b"$SecmailBad"]


@dataclass
class Scene:
    """A user, mail of each kind, and a mailbox for each test."""

    user: ProxyUser
    mail: list[bytes]
    serial: int = 0

    def mailbox(self) -> bytes:
        """A new mailbox with the messages, in the order of their UIDs."""
        self.serial += 1
        name = b"Box%d" % self.serial
        with direct(self.user.mailbox) as imap:
            imap.ok(b"CREATE " + name)
            for octets in self.mail:
                imap.ok(b"APPEND %b {%d}" % (name, len(octets)), octets)
        return name

    @property
    def session(self) -> AbstractContextManager[RawImap]:
        """Through the proxy."""
        return proxied(self.user.proxy, self.user.mailbox)


@pytest.fixture(scope="module")
def scene(rich_dovecot: Dovecot, module_proxies: ProxyFactory) -> Scene:
    """All extensions that pass, so that CONDSTORE, ESEARCH and SORT are there."""
    upstream = Upstream(rich_dovecot.ca.ca_file, rich_dovecot.imaps_port, 1)
    user = proxy_user(module_proxies, rich_dovecot.mailbox("keywords"), upstream=upstream)
    clear = letter(user.address, user.address)
    sealed, signed = protect_all(user, [(clear, Protect.REQUIRE), (clear, Protect.SIGN)])
    broken = signed.replace(b"treasure", b"measures")
    return Scene(user, [clear, sealed, signed, broken, sealed])


def told(responses: list[bytes]) -> dict[int, set[bytes]]:
    """Sequence number to flags, of the FETCH responses that tell flags."""
    out = {}
    for response in responses:
        if grammar.is_fetch(response):
            answer = grammar.parse_fetch_response(response)
            if "FLAGS" in answer.attributes:
                flags = set(answer.attributes["FLAGS"].strip(b"()").split())
                out[answer.number] = flags - {b"\\Recent", b"\\Seen"}
    return out


@pytest.mark.parametrize(
    "response",
    [
        b"*  7 FETCH (FLAGS ($SecmailSigned))\r\n",
        b"* 7\tFETCH (FLAGS ($SecmailSigned))\r\n",
        b"* 7 FETCH  (UID 7 FLAGS ($secmailVERIFIED))\r\n",
        b"* 7 FETCH (UID 7\tFLAGS\t($SecmailBad))\r\n",
        b"*  7 FETCH (BODY[] {2}\r\n|\r\n FLAGS ($SecmailSigned))\r\n",
        b"* 7 FETCH (BODY[] {2}\r\n|\r\n\tFLAGS\t($SecmailSigned))\r\n",
        b"* 7 FETCH (FLAGS {0}\r\n| ($SecmailSigned))\r\n",
    ],
)
def test_a_server_that_answers_oddly_sets_no_keyword(response: bytes) -> None:
    """Mail clients read what no grammar allows: more blanks, tabs, literals."""
    (first, *rest) = response.split(b"|")
    keywords = Keywords(shown=True)
    pieces = [Fragment(first, first=True, last=not rest)]
    pieces += [Fragment(one.removeprefix(b"\r\n"), first=False, last=True) for one in rest]
    told = b"".join(keywords.rewritten(one, None) for one in pieces)
    assert b"$SECMAIL" not in told.upper()
    assert b"7" in told


def test_a_number_that_is_another_messages_has_no_keyword() -> None:
    """A server that says one thing to us and another to the client: what the client hears counts."""
    box = Mailbox(1, "a", b"INBOX", 1, b"1:9", {7: Kind.FORM})
    box.marks.words[7] = b"$SecmailSigned"
    selected = Selected(box)
    selected.places.learn(3, 7)
    keywords = Keywords(shown=True)
    flags_of_3 = Fragment(b"* 3 FETCH (FLAGS ())\r\n", first=True, last=True)
    assert b"$SecmailSigned" in keywords.rewritten(flags_of_3, selected)
    keywords.rewritten(Fragment(b"* 3 FETCH (UID 5)\r\n", first=True, last=True), selected)
    assert b"$SecmailSigned" not in keywords.rewritten(flags_of_3, selected)


def opened(imap: RawImap, box: bytes) -> RawImap:
    """The mailbox selected, and all of its messages opened."""
    imap.ok(b"SELECT " + box)
    imap.ok(b"UID FETCH 1:* (FLAGS BODY.PEEK[])")
    return imap


EVERYTHING = {1: set(), 2: BOTH, 3: BOTH - {b"$SecmailEncrypted"}, 4: {b"$SecmailBad"}, 5: BOTH}


def test_the_keywords_are_offered_and_never_the_servers(scene: Scene) -> None:
    box = scene.mailbox()
    with direct(scene.user.mailbox) as imap:
        imap.ok(b"SELECT " + box)
        imap.ok(rb"STORE 1:* +FLAGS ($secmailverified $SecmailBad Mine)")
    with scene.session as imap:
        for verb in (b"SELECT ", b"EXAMINE "):
            lines = imap.ok(verb + box)
            (flags,) = [line for line in lines if line.startswith(b"* FLAGS ")]
            assert flags.strip().rstrip(b")").split()[-4:] == OURS
            assert b"Mine" in flags
            assert len(re.findall(rb"(?i)\$secmail", flags)) == 4
            (permanent,) = [line for line in lines if b"[PERMANENTFLAGS" in line]
            listed = permanent[permanent.index(b"(") + 1 : permanent.index(b")")].split()
            assert listed[-4:] == (OURS if verb == b"SELECT " else [])
            assert len(re.findall(rb"(?i)\$secmail", permanent)) in (0, 4)
        assert told(imap.ok(b"FETCH 1:* (FLAGS)")) == {n: {b"Mine"} for n in range(1, 6)}
        got = imap.ok(b"UID FETCH 1:* (UID FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
        assert told(got)[PLAIN] == {b"Mine"}


def test_the_first_sight_of_a_message_brings_its_keywords(scene: Scene) -> None:
    """Encrypted mail is opened for a list of messages, signed mail when it is read."""
    box = scene.mailbox()
    with scene.session as imap:
        imap.ok(b"SELECT " + box)
        header = b"(UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])"
        expected = {1: set(), 2: BOTH, 3: set(), 4: set(), 5: BOTH}
        assert told(imap.ok(b"UID FETCH 1:* " + header)) == expected
        assert told(imap.ok(b"FETCH 1:* (FLAGS)")) == expected
        assert told(imap.ok(b"UID FETCH 3 (BODY.PEEK[])")) == {3: EVERYTHING[3]}, "told in the same answer"
        assert told(imap.ok(b"UID FETCH 3 (BODY.PEEK[])")) == {}, "and once"
        assert told(imap.ok(b"FETCH 4 (BODY.PEEK[1])")) == {4: EVERYTHING[4]}
        for items in (b"FLAGS", b"(FLAGS)", b"FAST", b"(UID FLAGS INTERNALDATE)", b"ALL"):
            assert told(imap.ok(b"FETCH 1:* " + items)) == EVERYTHING, items
            assert told(imap.ok(b"UID FETCH 1:* " + items)) == EVERYTHING, items
    with scene.session as imap:
        imap.ok(b"EXAMINE " + box)
        assert told(imap.ok(b"FETCH 1:* (FLAGS)")) == EVERYTHING
        imap.ok(b"CLOSE")


def test_a_store_changes_no_keyword_of_ours(scene: Scene) -> None:
    box = scene.mailbox()
    with scene.session as imap, direct(scene.user.mailbox) as plain:
        opened(imap, box)
        for command, expected in [
            (rb"STORE 1:2 +FLAGS ($SecmailSigned \Flagged)", {1: {rb"\Flagged"}, 2: BOTH | {rb"\Flagged"}}),
            (rb"STORE 1:2 -FLAGS ($SecmailSigned \Flagged)", {1: set(), 2: BOTH}),
            (rb"STORE 1:2 +FLAGS ($SecmailVerified)", {1: set(), 2: BOTH}),
            (rb"UID STORE 1:2 -FLAGS.SILENT $SECMAILVERIFIED", {1: set(), 2: BOTH}),
            (rb"UID STORE 2 FLAGS.SILENT (\Answered)", {2: BOTH | {rb"\Answered"}}),
            (rb"STORE 2 FLAGS ($SecmailBad)", {2: BOTH}),
        ]:
            assert told(imap.ok(command)) == expected, command
        assert imap.command(rb'STORE 1 +FLAGS ("$SecmailSigned")')[-1].startswith(b"T BAD")
        lines = plain.ok(b"SELECT " + box)
        assert not re.search(rb"(?i)\$secmail", b"".join(lines + plain.ok(b"FETCH 1:* (FLAGS)")))


def test_uploads_take_no_keyword_of_ours_to_the_server(scene: Scene) -> None:
    box = scene.mailbox()
    clear = scene.mail[0]
    with scene.session as imap, direct(scene.user.mailbox) as plain:
        flags = rb" (\Flagged $secmailsigned)"
        imap.ok(b"APPEND %b%b {%d}" % (box, flags, len(clear)), clear)
        again = b"%b {%d}" % (flags, len(clear))
        imap.ok(b"APPEND %b%b" % (box, again), clear, again, clear)
        imap.ok(b"APPEND {%d}" % len(box), box, again, clear)
        draft = rb" (\Draft $SecmailVerified)"
        imap.ok(b"APPEND %b%b {%d}" % (box, draft, len(clear)), clear)
        imap.ok(b"SELECT " + box)
        imap.ok(b"UID FETCH 2 (BODY.PEEK[])")
        imap.ok(b"UID COPY 2 " + box)
        lines = plain.ok(b"SELECT " + box) + plain.ok(b"FETCH 1:* (FLAGS)")
        assert not re.search(rb"(?i)\$secmail", b"".join(lines))
        assert told(lines)[6] == {rb"\Flagged"}
        assert told(imap.ok(b"UID FETCH 6:* (FLAGS RFC822.SIZE)"))[11] == BOTH, "a copy was opened before"


@pytest.mark.parametrize(
    ("keys", "uids"),
    [
        (b"KEYWORD $SecmailSigned", [2, 3, 5]),
        (b"keyword $SECMAILENCRYPTED", [2, 5]),
        (b'KEYWORD "$SecmailBad"', [4]),
        (b"UNKEYWORD $SecmailSigned", [1, 4]),
        (b"UNKEYWORD $SecmailBad UNDELETED", [1, 2, 3, 5]),
        (b"OR KEYWORD $SecmailBad NOT KEYWORD $SecmailSigned", [1, 4]),
        (b"KEYWORD $SecmailSigned KEYWORD $SecmailBad", []),
        (b"KEYWORD $SecmailSigned SMALLER 1", []),
        (b"(KEYWORD $SecmailVerified UID 3:*)", [3, 5]),
    ],
)
def test_searches_for_keywords(scene: Scene, searched: RawImap, keys: bytes, uids: list[int]) -> None:
    with direct(scene.user.mailbox) as plain:
        # Nobody else's word counts.
        plain.ok(b"SELECT Box1")
        plain.ok(b"STORE 1 +FLAGS ($SecmailSigned $SecmailBad)")
    text = b"".join(b" %d" % uid for uid in uids)
    assert searched.ok(b"UID SEARCH " + keys)[0].rstrip() == b"* SEARCH" + text
    assert searched.ok(b"SEARCH " + keys)[0].rstrip() == b"* SEARCH" + text
    assert searched.ok(b"UID SORT (ARRIVAL) UTF-8 " + keys)[0].rstrip() == b"* SORT" + text
    (count, *_) = searched.ok(b"UID SEARCH RETURN (COUNT SAVE) " + keys)
    assert count.rstrip().endswith(b" COUNT %d" % len(uids))
    saved = [line for line in searched.ok(b"UID FETCH $ (UID)") if b"FETCH" in line[:12]]
    assert len(saved) == len(uids)


@pytest.fixture(scope="module")
def searched(scene: Scene) -> Iterator[RawImap]:
    """A session in a mailbox whose messages have been opened."""
    with scene.session as imap:
        yield opened(imap, scene.mailbox())


def test_other_sessions_and_new_trust_are_told_when_the_client_polls(scene: Scene) -> None:
    """The keywords are live: the certificate's trust counts as it is now."""
    box = scene.mailbox()
    with scene.session as first, scene.session as second:
        second.ok(b"SELECT " + box)
        opened(first, box)
        assert told(second.ok(b"SEARCH ALL")) == {}, "numbers must not change before they are used"
        news = second.ok(b"NOOP")
        assert told(news) == {n: flags for n, flags in EVERYTHING.items() if n != PLAIN}
        assert told(second.ok(b"NOOP")) == {}
        for trust, signed in [
            (Trust.KNOWN, {b"$SecmailSigned"}),
            (Trust.REJECTED, {b"$SecmailBad"}),
            (Trust.VERIFIED, {b"$SecmailSigned", b"$SecmailVerified"}),
        ]:
            with scene.user.home.keystore() as keystore:
                keystore.set_trust(scene.user.fingerprint, trust)
            sealed = signed | {b"$SecmailEncrypted"}
            changed = {2: sealed, 3: signed, 4: {b"$SecmailBad"}, 5: sealed}
            assert told(second.ok(b"CHECK")) == changed
            second.send(b"i IDLE\r\n")
            assert second.response().startswith(b"+"), "nothing is left to tell"
            second.send(b"DONE\r\n")
            assert second.response().startswith(b"i OK")
            assert told(first.ok(b"UID SEARCH ALL")) == changed
            assert told(first.ok(b"NOOP")) == {}
        assert told(first.ok(b"FETCH 1:* FLAGS")) == EVERYTHING


def test_numbers_that_change(scene: Scene) -> None:
    """Flags told by number alone find their message after others are gone (IMAP-11)."""
    box = scene.mailbox()
    with scene.session as imap:
        opened(imap, box)
    with scene.session as imap, direct(scene.user.mailbox) as plain:
        imap.ok(b"SELECT " + box)
        plain.ok(b"SELECT " + box)
        plain.ok(rb"STORE 1,4 +FLAGS.SILENT (\Deleted)")
        plain.ok(b"EXPUNGE")
        plain.ok(rb"STORE 3 +FLAGS (\Flagged)")
        lines = imap.ok(b"NOOP")
        assert [line.split()[1] for line in lines if b"EXPUNGE" in line]
        assert BOTH | {rb"\Flagged"} in told(lines).values()
        assert told(imap.ok(b"FETCH 1:* (FLAGS)")) == {1: BOTH, 2: EVERYTHING[3], 3: BOTH | {rb"\Flagged"}}
    with scene.session as imap:
        # What is gone is still remembered here; its number is nobody's.
        imap.ok(b"SELECT " + box)
        assert told(imap.ok(rb"STORE 1:3 +FLAGS (\Answered)"))[2] == EVERYTHING[3] | {rb"\Answered"}


def test_a_client_that_goes_by_modseq_is_told_all_once(scene: Scene) -> None:
    box = scene.mailbox()
    with scene.session as imap:
        opened(imap, box)
        imap.ok(b"SELECT %b (CONDSTORE)" % box)
        news = imap.ok(b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 100000)")
        assert told(news) == {n: flags for n, flags in EVERYTHING.items() if n != PLAIN}
        assert all(b"MODSEQ (" in line for line in news[:-1])
        assert told(imap.ok(b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 100000)")) == {}
        imap.ok(b"ENABLE QRESYNC")
        lines = imap.ok(b"SELECT %b" % box)
        validity = re.search(rb"UIDVALIDITY (\d+)", b"".join(lines))
        assert validity is not None
        imap.ok(b"SELECT %b (QRESYNC (%b 1))" % (box, validity[1]))
        assert told(imap.ok(b"NOOP"))[2] == BOTH
        imap.ok(rb"UID STORE 1 +FLAGS.SILENT (\Deleted)")
        assert b"VANISHED 1" in b"".join(imap.ok(b"UID EXPUNGE 1"))
        assert told(imap.ok(b"UID FETCH 2:* (FLAGS)"))[1] == BOTH
        assert told(imap.ok(rb"UID STORE 2 +FLAGS (\Flagged)")) == {1: BOTH | {rb"\Flagged"}}
        with direct(scene.user.mailbox) as plain:
            plain.ok(b"SELECT " + box)
            plain.ok(rb"STORE 1 -FLAGS (\Flagged)")
        assert told(imap.ok(b"NOOP")) == {1: BOTH}, "what the server says by itself tells the UID now"


def test_switched_off_there_are_none_and_none_of_others(
    rich_dovecot: Dovecot, module_proxies: ProxyFactory, scene: Scene
) -> None:
    upstream = Upstream(rich_dovecot.ca.ca_file, rich_dovecot.imaps_port, 1)
    user = proxy_user(module_proxies, rich_dovecot.mailbox("none"), upstream=upstream)
    user.home.add_config("verdict_keywords = false")
    clear = letter(user.address, user.address)
    with direct(user.mailbox) as plain:
        for octets in (clear, *protect_all(user, [(clear, Protect.REQUIRE)])):
            plain.ok(b"APPEND INBOX {%d}" % len(octets), octets)
        plain.ok(b"SELECT INBOX")
        plain.ok(b"STORE 1:2 +FLAGS ($SecmailSigned)")
    with proxied(user.proxy, user.mailbox) as imap:
        lines = imap.ok(b"SELECT INBOX") + imap.ok(b"UID FETCH 1:* (FLAGS BODY.PEEK[])")
        lines += imap.ok(b"FETCH 1:* (FLAGS)") + imap.ok(b"NOOP")
        assert not re.search(rb"(?i)\$secmail", b"".join(lines))
        assert imap.ok(b"SEARCH KEYWORD $SecmailSigned")[0].rstrip() == b"* SEARCH"


def test_a_copy_of_the_field_in_a_signed_part_breaks_the_signature(scene: Scene) -> None:
    """MIME-05: what is signed cannot be shown without the copy, so it is shown with the name struck out."""
    user = scene.user
    name = user.verdict_field.encode()
    with direct(user.mailbox) as plain, user.home.keystore() as keystore:
        plain.ok(b"CREATE Forwarded")
        for forged in (b"X-Other", name):
            part = b"Content-Type: message/rfc822\r\n\r\n" + forged + b": signed\r\n\r\ntext\r\n"
            made = keystore.sign(part, user.fingerprint, datetime.now(UTC))
            octets = (
                f"From: <{user.address}>\r\nContent-Type: multipart/signed; boundary=s; micalg={made.micalg};"
                ' protocol="application/pgp-signature"\r\n\r\n--s\r\n'
            ).encode()
            octets += part + b"\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\n"
            octets += made.armored + b"\r\n--s--\r\n"
            plain.ok(b"APPEND Forwarded {%d}" % len(octets), octets)
    with scene.session as imap:
        imap.ok(b"SELECT Forwarded")
        (unharmed, forged, _) = imap.ok(b"UID FETCH 1:2 (FLAGS BODY.PEEK[])")
        assert b"signature=valid" in unharmed
        assert b"signature=invalid" in forged
        assert told([forged]) == {2: {b"$SecmailBad"}}
        assert forged.count(name) == 1, "our own"
        assert name not in imap.ok(b"UID FETCH 2 (BODY.PEEK[1])")[0]
