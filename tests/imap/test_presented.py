"""Protected mail: all items of one message agree, for ever (IMAP-02, -03, -05, -06, -07, -08, -09, -22)."""

from __future__ import annotations

import email
import email.policy
import random
import re
from collections.abc import Iterator

import pytest

from secmailproxy.imap import grammar
from secmailproxy.mime import entity, section, structure
from secmailproxy.policy import Protect
from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.people import SUBJECT, ProxyUser, letter, protect, proxy_user
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.transcript import RawImap, direct, proxied

LARGE = 200_000


def flipped(sealed: bytes) -> bytes:
    """A character of the armor changed, in the middle of a line of ciphertext."""
    line = sealed.index(b"\r\n", len(sealed) // 2) + 20
    return sealed[:line] + (b"A" if sealed[line : line + 1] != b"A" else b"B") + sealed[line + 1 :]


def nested(depth: int) -> bytes:
    """Multiparts in multiparts, deeper than we follow."""
    heads = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(depth)
    )
    return b"Subject: deep\r\n" + heads + b"\r\nbottom\r\n"


def messages(user: ProxyUser, stranger: ProxyUser) -> dict[str, bytes]:
    """One message of each kind."""
    clear = letter(user.address, user.address)
    large = letter(
        user.address, user.address, text="x" * 70 + "\r\n" * 1 + ("y" * 70 + "\r\n") * (LARGE // 72)
    )
    sealed = protect(user, clear)
    signed = protect(user, clear, Protect.SIGN)
    field = user.verdict_field.encode()
    forged = field + b": signed; signature=valid; signer=ceo@example.org\r\n"
    wrapped = signed.replace(signed[signed.index(b"\r\n\r\n") :], b"")
    inner = sealed[sealed.index(b"Content-Type:") :]
    return {
        "encrypted": sealed,
        "plain": clear,
        "signed": signed,
        "large": protect(user, large),
        "opaque": protect(stranger, letter(stranger.address, user.address)),
        "forged": forged + clear.replace(b"Subject:", forged.upper() + b"Subject:", 1),
        "forged signed": forged + signed,
        "forged encrypted": forged + sealed,
        "tampered": flipped(sealed),
        "tampered signed": signed.replace(b"treasure", b"measures"),
        "signed around encrypted": (
            b"From: <%b>\r\nSubject: around\r\nContent-Type: multipart/signed; boundary=s; micalg=pgp-sha512;"
            b' protocol="application/pgp-signature"\r\n\r\n--s\r\n%b\r\n--s\r\n'
            b"Content-Type: application/pgp-signature\r\n\r\nnothing\r\n--s--\r\n"
        )
        % (user.address.encode(), inner),
        "malformed": b"Subject: odd\r\nContent-Type: multipart/encrypted; boundary=x\r\n\r\n--x\r\n\r\nno",
        "header alone": wrapped,
        "forged too deep": forged + nested(30),
    }


KINDS = [
    "encrypted",
    "plain",
    "signed",
    "large",
    "opaque",
    "forged",
    "forged signed",
    "forged encrypted",
    "tampered",
    "tampered signed",
    "signed around encrypted",
    "malformed",
    "header alone",
    "forged too deep",
]
UID = {kind: uid for uid, kind in enumerate(KINDS, 1)}


@pytest.fixture(scope="module")
def user(dovecot: Dovecot, module_proxies: ProxyFactory) -> ProxyUser:
    """Somebody whose INBOX holds one message of each kind, UID 1 and up, not seen by the proxy yet."""
    user = proxy_user(module_proxies, dovecot.mailbox("presented"))
    stranger = proxy_user(module_proxies, dovecot.mailbox("stranger"))
    made = messages(user, stranger)
    assert list(made) == KINDS
    with direct(user.mailbox) as imap:
        for octets in made.values():
            imap.ok(b"APPEND INBOX {%d}" % len(octets), octets)
    return user


@pytest.fixture
def imap(user: ProxyUser) -> Iterator[RawImap]:
    """A session through the proxy with INBOX open for reading only."""
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"EXAMINE INBOX")
        yield imap


def fetch(imap: RawImap, uid: int, items: bytes) -> dict[str, bytes]:
    """The attributes of one message, raw."""
    responses = imap.ok(b"UID FETCH %d (%b)" % (uid, items))
    answers = [grammar.parse_fetch_response(r) for r in responses if grammar.is_fetch(r)]
    assert [answer.uid for answer in answers] == [uid]
    return answers[0].attributes


def value(imap: RawImap, uid: int, item: bytes) -> bytes:
    """The octets of one string item."""
    attributes = fetch(imap, uid, item)
    (raw,) = [raw for key, raw in attributes.items() if key not in {"UID", "FLAGS"}]
    return grammar.string_value(raw) or b""


@pytest.mark.parametrize("kind", KINDS)
def test_size_is_that_of_the_body_before_and_after(user: ProxyUser, imap: RawImap, kind: str) -> None:
    """IMAP-02."""
    before = fetch(imap, UID[kind], b"RFC822.SIZE")["RFC822.SIZE"]
    body = value(imap, UID[kind], b"BODY.PEEK[]")
    assert int(before) == len(body)
    assert fetch(imap, UID[kind], b"RFC822.SIZE")["RFC822.SIZE"] == before
    assert value(imap, UID[kind], b"BODY.PEEK[]") == body


# Too deep for us to say what a server makes of it: plain mail, answered by the server.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "forged too deep"])
def test_all_items_come_from_one_form(imap: RawImap, kind: str) -> None:
    """IMAP-05: structure, sections and sizes are those of BODY[] parsed."""
    uid = UID[kind]
    whole = entity.parse_or_leaf(value(imap, uid, b"BODY.PEEK[]"))
    items = fetch(imap, uid, b"ENVELOPE BODYSTRUCTURE BODY")
    assert items["ENVELOPE"] == structure.imap_envelope(whole)
    assert items["BODYSTRUCTURE"] == structure.bodystructure(whole)
    assert items["BODY"] == structure.body(whole)
    assert value(imap, uid, b"BODY.PEEK[HEADER]") == whole.header
    assert value(imap, uid, b"BODY.PEEK[TEXT]") == whole.body
    for asked in [
        "1",
        "1.MIME",
        "2",
        "2.MIME",
        "1.1",
        "1.1.MIME",
        "2.1",
        "3",
        "HEADER.FIELDS (Subject From)",
    ]:
        item = grammar.FetchItem("BODY[]")
        parsed = grammar.parse_fetch(
            command := grammar.Command([b"a FETCH 1 BODY.PEEK[%b]\r\n" % asked.encode()]),
            grammar.parse_verb(command),
        )
        item = parsed.items[0]
        expected = section.section(whole, section.Section(item.path, item.text, item.names))
        assert value(imap, uid, b"BODY.PEEK[%b]" % asked.encode()) == (expected or b""), asked


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_of_any_size_make_up_the_body(imap: RawImap, kind: str) -> None:
    """IMAP-06, and IMAP-07 for the large one."""
    uid = UID[kind]
    whole = value(imap, uid, b"BODY.PEEK[]")
    for size in (65536, 1000) if kind == "large" else (997, 100):
        chunks = []
        while not chunks or len(chunks[-1]) == size:
            attributes = fetch(imap, uid, b"BODY.PEEK[]<%d.%d>" % (size * len(chunks), size))
            (raw,) = [raw for key, raw in attributes.items() if key.endswith(f"<{size * len(chunks)}>")]
            chunks.append(grammar.string_value(raw) or b"")
            if len(chunks) > 300:
                break
        assert b"".join(chunks) == whole[: sum(map(len, chunks))]
        assert len(chunks) > 300 or b"".join(chunks) == whole
    assert value(imap, uid, b"BODY.PEEK[]<%d.10>" % len(whole)) == b""
    random.seed(1)
    for _ in range(10):
        at, length = random.randrange(500), random.randrange(1, 500)
        assert value(imap, uid, b"BODY.PEEK[]<%d.%d>" % (at, length)) == whole[at : at + length]
        header = whole[: whole.index(b"\r\n\r\n") + 4] if b"\r\n\r\n" in whole else whole
        assert value(imap, uid, b"BODY.PEEK[HEADER]<%d.%d>" % (at, length)) == header[at : at + length]


def test_the_protected_subject_is_the_only_one(imap: RawImap) -> None:
    """IMAP-08."""
    for kind in ("encrypted", "forged encrypted"):
        whole = value(imap, UID[kind], b"BODY.PEEK[]")
        parsed = email.message_from_bytes(whole, policy=email.policy.default)
        assert parsed.get_all("Subject") == [SUBJECT]
        assert SUBJECT.encode() in fetch(imap, UID[kind], b"ENVELOPE")["ENVELOPE"]
        assert SUBJECT.encode() in value(imap, UID[kind], b"BODY.PEEK[HEADER.FIELDS (SUBJECT)]")
        assert b"[...]" not in whole


def verdicts(user: ProxyUser, octets: bytes) -> list[str]:
    """The values of our field anywhere in a message, unfolded."""
    name = re.escape(user.verdict_field.encode())
    found = re.findall(rb"(?im)^" + name + rb":((?:.*\r\n[ \t])*.*)\r\n", octets)
    return [" ".join(one.decode().split()) for one in found]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("encrypted", "signed+encrypted; signature=valid"),
        ("large", "signed+encrypted; signature=valid"),
        ("signed", "signed; signature=valid"),
        ("forged signed", "signed; signature=valid"),
        ("forged encrypted", "signed+encrypted; signature=valid"),
        ("opaque", "not decrypted; signature=none"),
        ("tampered", "not decrypted; signature=none"),
        ("tampered signed", "not verified; signature=invalid"),
    ],
)
def test_each_message_has_one_true_verdict_first(
    user: ProxyUser, imap: RawImap, kind: str, expected: str
) -> None:
    whole = value(imap, UID[kind], b"BODY.PEEK[]")
    assert whole.startswith(user.verdict_field.encode() + b": ")
    (verdict,) = verdicts(user, whole)
    assert verdict.startswith(expected), verdict
    assert value(imap, UID[kind], b"BODY.PEEK[HEADER]").startswith(user.verdict_field.encode())
    named = value(imap, UID[kind], b"BODY.PEEK[HEADER.FIELDS (%b)]" % user.verdict_field.upper().encode())
    assert verdicts(user, named) == [verdict]
    unnamed = value(imap, UID[kind], b"BODY.PEEK[HEADER.FIELDS.NOT (%b)]" % user.verdict_field.encode())
    assert verdicts(user, unnamed) == []


@pytest.mark.parametrize("kind", ["plain", "forged", "forged too deep"])
def test_plain_mail_has_no_verdict(user: ProxyUser, imap: RawImap, kind: str) -> None:
    """A copy of our field is struck out, digit by digit; nothing else of the message changes."""
    token = user.home.folders.verdict_token().encode()
    stored = user.mailbox.stored()[UID[kind] - 1]
    whole = value(imap, UID[kind], b"BODY.PEEK[]")
    assert verdicts(user, whole) == []
    assert whole == stored.replace(token, b"0" * len(token))
    for item in (b"BODY.PEEK[HEADER]", b"BODY.PEEK[HEADER.FIELDS (%b)]" % user.verdict_field.encode()):
        assert token not in value(imap, UID[kind], item).replace(b"[HEADER.FIELDS", b"")


def test_what_was_verified_is_what_is_shown(dovecot: Dovecot, proxies: ProxyFactory) -> None:
    """Whoever changes a signed message on the server afterwards changes nothing that has a verdict."""
    user = proxy_user(proxies, dovecot.mailbox("altered"))
    user.mailbox.append(protect(user, letter(user.address, user.address), Protect.SIGN))
    items = [b"BODY.PEEK[]", b"BODY.PEEK[TEXT]", b"BODY.PEEK[1]", b"RFC822", b"BODY.PEEK[]<300.900>"]
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        first = [value(imap, 1, item) for item in items]
        assert verdicts(user, first[0])[0].startswith("signed; signature=valid")
        (path,) = [p for p in user.mailbox.folder.rglob("cur/*")]
        path.write_bytes(path.read_bytes().replace(b"treasure", b"measures"))
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        assert [value(imap, 1, item) for item in items] == first
    # Asked for in parts only, the message is verified whole before the first of them.
    user.mailbox.append(
        protect(user, letter(user.address, user.address), Protect.SIGN).replace(b"windmill", b"cottages")
    )
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        part = value(imap, 2, b"BODY.PEEK[1]")
        whole = value(imap, 2, b"BODY.PEEK[]")
        assert part in whole
        assert verdicts(user, whole)[0].startswith("not verified; signature=invalid")


def test_undecryptable_and_malformed_mail_is_the_original_after_the_verdict(
    user: ProxyUser, imap: RawImap
) -> None:
    """IMAP-22."""
    stored = user.mailbox.stored()
    for kind in ("opaque", "malformed", "tampered", "signed", "tampered signed"):
        whole = value(imap, UID[kind], b"BODY.PEEK[]")
        assert whole.endswith(stored[UID[kind] - 1]), kind


def test_everything_at_once_is_the_same_as_one_by_one(imap: RawImap) -> None:
    items = (
        b"UID RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[] BODY.PEEK[1] BODY.PEEK[HEADER.FIELDS (Subject)]"
    )
    for verb in (b"UID FETCH 1:*", b"FETCH 1:*"):
        responses = imap.ok(b"%b (%b)" % (verb, items))
        answers = {a.uid: a.attributes for a in map(grammar.parse_fetch_response, responses[:-1])}
        assert sorted(answers) == sorted(UID.values())
        for uid, attributes in answers.items():
            assert attributes == fetch(imap, uid, items)


def test_the_same_in_every_session_and_after_a_restart(dovecot: Dovecot, proxies: ProxyFactory) -> None:
    """IMAP-03: also when the key that signed it is gone."""
    user = proxy_user(proxies, dovecot.mailbox("restart"))
    for how in (Protect.REQUIRE, Protect.SIGN):
        user.mailbox.append(protect(user, letter(user.address, user.address), how))
    items = b"RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[]"
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        imap.ok(b"UID FETCH 1:2 (FLAGS BODY.PEEK[])")
        first = [fetch(imap, uid, items) for uid in (1, 2)]
    user.proxy.stop()
    with user.home.keystore() as keystore:
        keystore.delete(user.fingerprint)
    again = proxies.serve(user.home)
    with proxied(again, user.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        assert [fetch(imap, uid, items) for uid in (1, 2)] == first


@pytest.mark.parametrize(
    ("item", "seen"),
    [
        (b"BODY[]", True),
        (b"BODY[1]", True),
        (b"BODY[HEADER]", True),
        (b"BODY[]<0.5>", True),
        (b"RFC822", True),
        (b"RFC822.TEXT", True),
        (b"BODY.PEEK[]", False),
        (b"RFC822.HEADER", False),
        (b"RFC822.SIZE", False),
        (b"ENVELOPE", False),
        (b"BODYSTRUCTURE", False),
        (b"BINARY[]", True),
        (b"BINARY[1]<0.5>", True),
        (b"BINARY.PEEK[1]", False),
        (b"BINARY.SIZE[1]", False),
        (b"PREVIEW", False),
        (b"PREVIEW (LAZY)", False),
    ],
)
@pytest.mark.parametrize("kind", ["encrypted", "signed", "opaque"])
def test_seen_is_set_as_for_plain_mail(user: ProxyUser, kind: str, item: bytes, seen: bool) -> None:
    """IMAP-09."""
    uid = UID[kind]
    with direct(user.mailbox) as plain, proxied(user.proxy, user.mailbox) as imap:
        plain.ok(b"SELECT INBOX")
        plain.ok(b"UID STORE %d FLAGS ()" % uid)
        imap.ok(b"SELECT INBOX")
        attributes = fetch(imap, uid, item)
        assert (rb"\Seen" in attributes.get("FLAGS", b"")) == seen
        (flags,) = plain.ok(b"UID FETCH %d (FLAGS)" % uid)[-2:-1]
        assert (rb"\Seen" in flags) == seen


def test_examine_never_sets_seen(user: ProxyUser, imap: RawImap) -> None:
    with direct(user.mailbox) as plain:
        plain.ok(b"SELECT INBOX")
        plain.ok(b"UID STORE 1 FLAGS ()")
        value(imap, 1, b"BODY[]")
        assert rb"\Seen" not in plain.ok(b"UID FETCH 1 (FLAGS)")[0]


@pytest.mark.parametrize("line", [b"SELECT INBOX (", b"SELECT", b"EXAMINE ("])
def test_a_mailbox_that_stays_open_stays_presented(imap: RawImap, line: bytes) -> None:
    """After BAD the server goes on with the mailbox that was open, and so must we."""
    before = fetch(imap, UID["encrypted"], b"BODY.PEEK[]")
    assert imap.command(line)[-1].startswith(b"T BAD")
    assert fetch(imap, UID["encrypted"], b"BODY.PEEK[]") == before


def test_uid_is_told_only_to_who_asks(imap: RawImap) -> None:
    """A FETCH by sequence number that does not ask for the UID does not get it."""
    for kind in ("encrypted", "signed", "plain"):
        (response, _) = imap.ok(b"FETCH %d (RFC822.SIZE)" % UID[kind])
        assert set(grammar.parse_fetch_response(response).attributes) == {"RFC822.SIZE"}


def test_new_mail_while_selected_is_presented_from_the_first_sight(user: ProxyUser, mailbox: Mailbox) -> None:
    """A message that arrives during a session is never shown as ciphertext, by UID or number."""
    home_user = user
    with proxied(home_user.proxy, home_user.mailbox) as imap:
        imap.ok(b"CREATE later")
        imap.ok(b"SELECT later")
        for verb in (b"FETCH", b"UID FETCH"):
            sealed = protect(user, letter(user.address, user.address))
            home_user.mailbox.append(sealed, folder="later")
            imap.ok(b"NOOP")
            responses = imap.ok(b"%b * (BODY.PEEK[HEADER.FIELDS (Subject)])" % verb)
            assert SUBJECT.encode() in responses[0]
        imap.ok(b"CLOSE")
        imap.ok(b"DELETE later")


def test_many_reads_at_once_are_the_same_as_one_by_one(user: ProxyUser, imap: RawImap) -> None:
    """Pipelined: protected and plain mail side by side, the same message twice, and what may not overtake."""
    items = [b"BODY.PEEK[]", b"RFC822.SIZE", b"BODY.PEEK[HEADER]", b"ENVELOPE"]
    asked = [(uid, item) for item in items for uid in [*UID.values(), UID["encrypted"], UID["plain"]]]
    expected = [fetch(imap, uid, item) for uid, item in asked]
    for attributes in expected:
        attributes.pop("FLAGS", None)  # told with whichever answer is first
    lines = [b"p%d UID FETCH %d (%b)\r\n" % (n, uid, item) for n, (uid, item) in enumerate(asked)]
    imap.send(b"".join(lines) + b"end NOOP\r\n")
    answers: list[bytes] = []
    done: set[bytes] = set()
    while b"end" not in done:
        response = imap.response()
        assert response
        if response.startswith((b"p", b"end")):
            assert response.split()[1] == b"OK"
            done.add(response.split()[0])
        elif grammar.is_fetch(response):
            answers.append(response)
    assert len(done) == len(asked) + 1
    told = [grammar.parse_fetch_response(answer).attributes for answer in answers]
    for attributes in told:
        attributes.pop("FLAGS", None)
    got = sorted(repr(sorted(attributes.items())) for attributes in told)
    assert got == sorted(repr(sorted(attributes.items())) for attributes in expected)


def test_a_command_does_not_overtake_the_reads_before_it(dovecot: Dovecot, proxies: ProxyFactory) -> None:
    user = proxy_user(proxies, dovecot.mailbox("order"))
    for _ in range(3):
        user.mailbox.append(protect(user, letter(user.address, user.address)))
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        imap.ok(b"UID FETCH 1:3 (UID BODY.PEEK[HEADER.FIELDS (X)])")
        imap.send(
            b"a UID FETCH 1 (BODY.PEEK[TEXT])\r\nb UID FETCH 2 (BODY.PEEK[TEXT])\r\n"
            b"c UID STORE 1:2 +FLAGS (\\Deleted)\r\nd EXPUNGE\r\ne UID FETCH 3 (BODY.PEEK[TEXT])\r\n"
        )
        responses: list[bytes] = []
        while not responses or not responses[-1].startswith(b"e "):
            responses.append(imap.response())
    bodies = [r for r in responses if b"BODY[TEXT]" in r]
    assert [re.search(rb"UID (\d+)", body)[1] for body in bodies] == [b"1", b"2", b"3"]  # type: ignore[index]
    assert b"".join(responses).index(b"b OK") < b"".join(responses).index(b"EXPUNGE")


def test_a_subject_that_looks_like_a_uid_confuses_nothing(dovecot: Dovecot, proxies: ProxyFactory) -> None:
    user = proxy_user(proxies, dovecot.mailbox("uid"))
    user.mailbox.append(
        protect(user, letter(user.address, user.address, subject="( UID 99 (x)"), Protect.SIGN)
    )
    user.mailbox.append(protect(user, letter(user.address, user.address, subject=") FETCH (UID 99 {5}")))
    items = b"ENVELOPE UID RFC822.SIZE BODY.PEEK[]"
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        for uid in (1, 2):
            attributes = fetch(imap, uid, items)
            whole = grammar.string_value(attributes["BODY[]"]) or b""
            assert len(whole) == int(attributes["RFC822.SIZE"])
            assert len(verdicts(user, whole)) == 1
