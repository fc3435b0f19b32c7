"""Mail that a client appends: what passes, and what we have presented and comes back (IMAP-14, IMAP-16)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.errors import KeystoreLocked
from secmailproxy.imap import streaming
from secmailproxy.imap.appending import Planner, upload_so_far
from secmailproxy.imap.commands import Settings
from secmailproxy.imap.grammar import parse_verb
from secmailproxy.imap.sending import Sender
from secmailproxy.imap.session import Actions, Session
from secmailproxy.imap.specialuse import SpecialUse
from secmailproxy.imap.steps import EncryptToSelf
from secmailproxy.imap.wire import Command, CommandReader, LiteralAhead
from tests.fixtures.people import TEXT, ProxyUser, leaked, letter, protect
from tests.fixtures.transcript import RawImap, direct, proxied

FIELD = b"Secmail-Verdict-123"
MESSAGE = b"Subject: a\r\nX: \r\n b\r\n\r\nbody\r\n" + FIELD + b": encrypted; not in the header section\r\n"


def append(imap: RawImap, folder: bytes, octets: bytes, *, waits: bool) -> bytes:
    """APPEND with a literal that waits for "+", or not; the UID."""
    if waits:
        answer = imap.command(b"APPEND %b {%d}" % (folder, len(octets)), octets)[-1]
    else:
        answer = imap.command(b"APPEND %b {%d+}\r\n" % (folder, len(octets)) + octets)[-1]
    assert b"[APPENDUID " in answer
    return answer.split(b"]")[0].split()[-1]


def stored(user: ProxyUser, folder: bytes, uid: bytes) -> bytes:
    with direct(user.mailbox) as plain:
        plain.ok(b"SELECT " + folder)
        return plain.ok(b"UID FETCH %b BODY.PEEK[]" % uid)[0]


@pytest.mark.parametrize("waits", [True, False])
def test_a_decrypted_message_that_comes_back_is_encrypted_anywhere(reader: ProxyUser, waits: bool) -> None:
    reader.mailbox.append(protect(reader, letter(reader.address, reader.address)))
    presented = reader.read()[-1]
    assert TEXT.encode() in presented
    assert len(presented) < 4096
    moved = b"X-OfflineIMAP: 77\r\n" + presented.replace(b"\r\n\r\n", b"\r\nX-TUID: abc\r\n\r\n", 1)
    with proxied(reader.proxy, reader.mailbox) as imap:
        uid = append(imap, b"INBOX", moved, waits=waits)
        imap.ok(b"SELECT INBOX")
        (seen, _) = imap.ok(b"UID FETCH %b BODY.PEEK[]" % uid)
        assert re.sub(rb"(?s)Secmail-Verdict-.*?\)\r\n", b"", moved) in seen
    octets = stored(reader, b"INBOX", uid)
    assert b"multipart/encrypted" in octets
    assert b"X-TUID: abc" in octets
    assert b"X-OfflineIMAP: 77" in octets
    assert b"Secmail-Verdict" not in octets
    assert not leaked(octets)
    assert not any(leaked(one) for one in reader.mailbox.files())


@pytest.mark.parametrize("waits", [True, False])
def test_a_signed_message_that_comes_back_is_stored_as_it_was_sent(reader: ProxyUser, waits: bool) -> None:
    status = f"{reader.verdict_field}: signed; signature=valid\r\n (..)\r\n".encode()
    original = b"From: a@example.org\r\nContent-Type: text/plain\r\n\r\nFor all to see.\r\n"
    with proxied(reader.proxy, reader.mailbox) as imap:
        uid = append(imap, b"INBOX", status + original, waits=waits)
    assert stored(reader, b"INBOX", uid).endswith(b"{%d}\r\n%b)\r\n" % (len(original), original))


def test_a_refusal_reaches_the_client_after_its_message(reader: ProxyUser) -> None:
    """IMAP-14: the next command is understood."""
    octets = letter(reader.address, "b@example.org") * 300
    with proxied(reader.proxy, reader.mailbox) as imap:
        assert imap.command(b"APPEND nowhere {%d}" % len(octets), octets)[-1].startswith(b"T NO [TRYCREATE]")
        assert imap.command(b"APPEND nowhere {0}", b"")[-1].startswith(b"T NO [TRYCREATE]")
        imap.ok(b"NOOP")


def session() -> Session:
    return Session(Settings(FIELD, 384, tag_prefix=b"ours"))


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=30))
def test_what_is_not_ours_passes_octet_for_octet_at_any_segmentation(tail: bytes, cuts: list[int]) -> None:
    message = MESSAGE + tail
    one = session()
    assert one.from_client(b"a APPEND INBOX {%d}\r\n" % len(message)).to_client == b"+ OK\r\n"
    octets, sent, asked = message + b"\r\nb NOOP\r\n", b"", False
    for cut in [*cuts, len(octets)]:
        sent += one.from_client(octets[:cut]).to_upstream
        octets = octets[cut:]
        if not asked and sent:
            asked = True
            assert sent == b"a APPEND INBOX {%d}\r\n" % len(message)
            answer = one.from_upstream(b"+ go ahead\r\n")
            assert answer.to_client == b""
            sent = answer.to_upstream
    assert asked
    assert sent == message + b"\r\nb NOOP\r\n"


@given(st.lists(st.integers(1, 40), max_size=30), st.sampled_from([b"", b"Received: x\r\n", b"X:\r\n y\r\n"]))
def test_what_is_ours_never_passes_at_any_segmentation(cuts: list[int], before: bytes) -> None:
    message = before + FIELD.lower() + b":\r\n encrypted; a\r\nSubject: s\r\n\r\nsecret"
    one = session()
    octets, works = b"a APPEND INBOX {%d}\r\n%b\r\n" % (len(message), message), []
    for cut in [*cuts, len(octets)]:
        actions = one.from_client(octets[:cut])
        octets = octets[cut:]
        assert actions.to_upstream == b""
        works += actions.work
    ((_, work),) = works
    assert work.message == before + b"Subject: s\r\n\r\nsecret"
    assert not work.sign


class Server:
    """Takes each literal and says OK to each command, unless it shall refuse the literal `refuses`."""

    def __init__(self, refuses: int = 0) -> None:
        self.commands: list[Command] = []
        self._reader = CommandReader()
        self._literals = 0
        self._refuses = refuses
        self.tells = b""
        """Before each completion."""

    def hears(self, octets: bytes) -> bytes:
        """Its answers."""
        self._reader.feed(octets)
        answers = b""
        while (event := self._reader.next_event()) is not None:
            if isinstance(event, Command):
                self.commands.append(event)
                tag = event.fragments[0].split()[0]
                empty = b"" in event.literals
                answers += self.tells + tag + (b" NO nothing kept\r\n" if empty else b" OK kept\r\n")
                continue
            assert isinstance(event, LiteralAhead)
            assert event.synchronising
            self._literals += 1
            if self._literals == self._refuses:
                answers += event.command.fragments[0].split()[0] + b" NO [OVERQUOTA] full\r\n"
                self._reader.refuse()
            else:
                answers += b"+ go\r\n"
                self._reader.collect()
        return answers


@dataclass
class Scene:
    """A session between a client that is scripted by the test and a server; encrypting takes no time."""

    server: Server = field(default_factory=Server)
    session: Session = field(default_factory=session)
    heard: bytes = b""
    broken: bool = False
    """Whether encrypting fails."""

    def say(self, octets: bytes) -> bytes:
        """What the client hears in answer."""
        before = len(self.heard)
        self._carry_out(self.session.from_client(octets))
        return self.heard[before:]

    def _carry_out(self, actions: Actions) -> None:
        self.heard += actions.to_client
        answers = self.server.hears(actions.to_upstream)
        if answers:
            self._carry_out(self.session.from_upstream(answers))
        for number, work in actions.work:
            assert isinstance(work, EncryptToSelf)
            if self.broken:
                self._carry_out(self.session.work_failed([number], KeystoreLocked("No key.")))
            else:
                self._carry_out(self.session.work_done([number], seal(work.message)))


def seal(message: bytes) -> bytes:
    return b"sealed " + hashlib.sha256(message).hexdigest().encode()


PLAIN = b"Subject: plain\r\n\r\nfor all\r\n"
OURS = FIELD + b": encrypted\r\nSubject: ours\r\n\r\nsecret\r\n"
KINDS = {
    "plain": (b"", PLAIN, PLAIN),
    "dated": (b' (\\Seen) "17-Jul-2026 02:44:25 +0200"', PLAIN * 40, PLAIN * 40),
    "ours": (b"", OURS, seal(OURS.partition(b"\r\n")[2])),
    "draft": (b" (\\Draft)", PLAIN, seal(PLAIN)),
}


@given(
    st.lists(st.tuples(st.sampled_from(sorted(KINDS)), st.booleans()), min_size=1, max_size=5),
    st.sampled_from([b"INBOX", b"{5}\r\nINBOX", b"{5+}\r\nINBOX"]),
    st.lists(st.integers(1, 60), max_size=40),
)
def test_each_message_of_a_command_is_treated_for_itself(
    messages: list[tuple[str, bool]], mailbox: bytes, cuts: list[int]
) -> None:
    octets = b"a APPEND " + mailbox
    for kind, waits in messages:
        options, message, _ = KINDS[kind]
        octets += options + (b" {%d}\r\n" if waits else b" {%d+}\r\n") % len(message) + message
    octets += b"\r\nb NOOP\r\n"
    scene = Scene()
    for cut in [*cuts, len(octets)]:
        scene.say(octets[:cut])
        octets = octets[cut:]
    append, noop = scene.server.commands
    assert append.literals[-len(messages) :] == [KINDS[kind][2] for kind, _ in messages]
    lines = [re.sub(rb"\{\d+\}\r\n", b"", line) for line in append.fragments[-len(messages) - 1 : -1]]
    assert [line[-len(KINDS[kind][0]) - 1 :] for line, (kind, _) in zip(lines, messages, strict=True)] == [
        KINDS[kind][0] + b" " for kind, _ in messages
    ]
    assert noop.fragments == [b"b NOOP\r\n"]
    assert scene.heard.endswith(b"a OK kept\r\nb OK kept\r\n")
    assert scene.heard.count(b"+ OK") == sum(waits for _, waits in messages) + (mailbox == b"{5}\r\nINBOX")


@pytest.mark.parametrize("refuses", [1, 2, 3])
@pytest.mark.parametrize("kind", ["plain", "draft"])
@pytest.mark.parametrize("plus", [b"", b"+"])
def test_the_server_refuses_one_of_three(refuses: int, kind: str, plus: bytes) -> None:
    """The client hears of it once, after the message; what comes after is not taken for a command."""
    scene = Scene(Server(refuses))
    options, message, _ = KINDS[kind]
    scene.say(b"a APPEND INBOX {%d}\r\n" % len(PLAIN))
    tagged = b""
    for announced in (options, b""):
        tagged = scene.say(PLAIN + announced + b" {%d%b}\r\n" % (len(message), plus))
        if b"a NO" in tagged:
            break
    else:
        tagged = scene.say(message + b"\r\n")
    assert tagged == b"a NO [OVERQUOTA] full\r\n"
    assert scene.say(b"b NOOP\r\n") == b"b OK kept\r\n"
    assert len(scene.server.commands) == 1


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b" (\\Draft) {%d}\r\n", b"a NO"),
        (b" CATENATE (TEXT {%d}\r\n", b"a BAD"),
        (b" nonsense {%d}\r\n", b"a BAD"),
        (b" CATENATE (TEXT {%d+}\r\n", b"a BAD"),
    ],
)
@pytest.mark.parametrize("verb", [b"APPEND INBOX", b"REPLACE 1 INBOX"])
def test_what_cannot_be_stored_cancels_the_command(verb: bytes, line: bytes, answer: bytes) -> None:
    """RFC 3502: an empty message makes the server forget those before."""
    scene = Scene(broken=True)
    scene.say(b"a %b {%d}\r\n" % (verb, len(PLAIN)))
    heard = scene.say(PLAIN + line % len(PLAIN))
    if b"a " not in heard:
        heard += scene.say(PLAIN + b"\r\n")
    assert re.findall(rb"(?m)^a .*", heard) == [heard[heard.index(b"a ") :].rstrip(b"\n")]
    assert heard[heard.index(b"a ") :].startswith(answer if verb.startswith(b"APPEND") else b"a BAD")
    assert scene.say(b"b NOOP\r\n") == b"b OK kept\r\n"
    cancelled, _ = scene.server.commands
    assert cancelled.literals == [PLAIN, b""]


@pytest.mark.parametrize("verb", [b"REPLACE 4", b"uid replace 2000", b"REPLACE *"])
@pytest.mark.parametrize(("folder", "sealed"), [(b"Drafts", True), (b"INBOX", False)])
@pytest.mark.parametrize("plus", [b"", b"+"])
def test_a_draft_replaces_another(verb: bytes, folder: bytes, sealed: bool, plus: bytes) -> None:
    """RFC 8508: the new one is encrypted as one that is appended, and all that the server tells passes."""
    scene = Scene()
    octets = b"a %b %b (\\Seen) {%d%b}\r\n" % (verb, folder, len(PLAIN), plus)
    assert scene.say(octets) == (b"" if plus else b"+ OK\r\n")
    told = b"* OK [APPENDUID 1 2001] Ready.\r\n* 5 EXISTS\r\n* 4 EXPUNGE\r\n"
    scene.server.tells = told
    heard = scene.say(PLAIN + b"\r\n")
    assert heard.startswith(told + b"a OK")
    (replaced,) = scene.server.commands
    assert replaced.literals[-1] == (seal(PLAIN) if sealed else PLAIN)
    line = b"".join(replaced.fragments)
    assert line.split(b" ", 1)[1].upper().startswith(verb.upper() + b" ")
    assert b" (\\Seen) {" in line


def test_a_client_may_cancel() -> None:
    scene = Scene()
    scene.say(b"a APPEND INBOX {%d}\r\n" % len(PLAIN))
    assert scene.say(PLAIN + b" {0}\r\n") == b"+ OK\r\n"
    assert scene.say(b"\r\n") == b"a NO nothing kept\r\n"
    assert scene.say(b"b NOOP\r\n") == b"b OK kept\r\n"


def test_junk_after_a_message_is_for_the_server_to_refuse() -> None:
    scene = Scene()
    scene.say(b"a APPEND INBOX {%d}\r\n" % len(PLAIN))
    scene.say(PLAIN + b" junk\r\n")
    assert scene.server.commands[0].fragments[-1] == b" junk\r\n"


def test_of_messages_that_pass_nothing_is_kept() -> None:
    scene, chunk = session(), b"x" * 65536
    scene.from_client(b"a APPEND INBOX")
    sent = 0
    for number in range(3):
        scene.from_client(b" {%d}\r\n" % (20 * len(chunk)))
        sent += len(scene.from_client(chunk).to_upstream)
        sent += len(scene.from_upstream(b"+ go\r\n").to_upstream)
        for more in range(1, 20):
            sent += len(scene.from_client(chunk).to_upstream)
            assert sent > (number * 20 + more) * len(chunk)


def begun(
    message: bytes, size: int, keeps_at_most: int
) -> tuple[CommandReader, streaming.Stream, list[bytes], list[bytes]]:
    reader, up, out = CommandReader(), [], []
    reader.feed(b"a APPEND INBOX {%d}\r\n" % size + message)
    ahead = reader.next_event()
    assert isinstance(ahead, LiteralAhead)
    planner = Planner(SpecialUse(), FIELD)
    sender = Sender(up, literal_plus=False)
    stream = streaming.Stream(reader, sender, up, out, planner, {}, keeps_at_most)
    upload = upload_so_far(ahead.command, parse_verb(ahead.command))
    assert upload is not None
    stream.begin(b"a", ahead, upload)
    return reader, stream, up, out


def test_a_message_of_ours_that_is_too_large_to_encrypt_is_refused() -> None:
    message = FIELD + b": encrypted\r\n\r\n" + b"x" * 100
    reader, stream, up, out = begun(message + b"\r\n", len(message), 50)
    while (event := reader.next_event()) is not None:
        assert stream.take(event) is None
    assert out == [b"+ OK\r\n", b"a NO [TOOBIG] the message is too large to encrypt\r\n"]
    assert not stream.takes
    assert up == []


def test_a_header_section_without_end_is_looked_at_no_further_than_the_limit() -> None:
    message = b"x" * streaming.LOOKED_AT
    reader, stream, up, _ = begun(message, 10 * len(message), 50)
    event = reader.next_event()
    assert event is not None
    assert stream.take(event) is None
    assert stream.waits
    assert up == [b"a APPEND INBOX {%d}\r\n" % (10 * len(message))]


def uids_of(answer: bytes) -> bytes:
    assert b"[APPENDUID " in answer
    return answer.split(b"]")[0].split()[-1]


@pytest.mark.parametrize("folder", [b"INBOX", b"Drafts"])
@pytest.mark.parametrize("plus", [b"", b"+"])
def test_several_messages_in_one_command(reader: ProxyUser, folder: bytes, plus: bytes) -> None:
    """IMAP-16: each is plain or ciphertext on the server as it would be alone, and reads back as it was."""
    with proxied(reader.proxy, reader.mailbox) as imap:
        mail = [letter(reader.address, "b@example.org", subject=f"{n} of 3") for n in range(3)]
        flags = [b" (\\Seen)", b" (\\Draft)", b""]
        pieces: list[bytes] = []
        for octets, options in zip(mail, flags, strict=True):
            pieces += [options + b" {%d%b}" % (len(octets), plus), octets]
        if plus:
            text = b"".join(piece + (b"\r\n" if n % 2 == 0 else b"") for n, piece in enumerate(pieces))
            answer = imap.command(b"APPEND " + folder + text)[-1]
        else:
            answer = imap.command(b"APPEND " + folder + pieces[0], *pieces[1:])[-1]
        first, _, last = uids_of(answer).partition(b":")
        assert int(last) - int(first) == 2
        imap.ok(b"SELECT " + folder)
        *seen, _ = imap.ok(b"UID FETCH %b:%b (FLAGS BODY.PEEK[])" % (first, last))
        seen.sort(key=lambda response: int(response.split()[1]))
        for octets, options, response in zip(mail, flags, seen, strict=True):
            assert octets in response
            assert options.strip(b" ()") in response
    with direct(reader.mailbox) as plain:
        plain.ok(b"SELECT " + folder)
        for n, octets in enumerate(mail):
            kept = plain.ok(b"UID FETCH %d BODY.PEEK[]" % (int(first) + n))[0]
            assert (octets in kept) == (folder == b"INBOX" and n != 1)
            assert bool(leaked(kept)) == (folder == b"INBOX" and n != 1)
