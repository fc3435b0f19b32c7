"""Every message at hand: plain mail as the server has it, protected mail in one form.

It is opened with the keys that lie beside it, and judged as expected (IMAP-02, IMAP-05, IMAP-06, IMAP-08,
IMAP-09; MIME-02, MIME-03).
"""

from __future__ import annotations

import email
import email.policy
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from secmailproxy.imap import grammar
from secmailproxy.mime import entity, section, structure
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.section import Section
from tests.fixtures.corpora import Case, Outcome, cases, complaints, keys_of, message_in, table
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.odd_mail import OWN, corpora
from tests.fixtures.people import ProxyUser, proxy_user
from tests.fixtures.processes import service_folder
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.transcript import RawImap, direct, normal, proxied

ITEMS = [
    *b"RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT]".split(),
    *b"BODY.PEEK[1] BODY.PEEK[1.MIME] BODY.PEEK[]<10.100>".split(),
    b"BODY.PEEK[HEADER.FIELDS (Subject FROM x-none)]",
    b"BODY.PEEK[HEADER.FIELDS.NOT (Subject)]",
]


@dataclass(frozen=True)
class Corpora:
    """Somebody whose INBOX holds all mail, UID 1 and up, and who holds the keys."""

    user: ProxyUser
    paths: list[Path]
    """Of the message with UID n at n - 1."""


@pytest.fixture(scope="module")
def everything(dovecot: Dovecot, module_proxies: ProxyFactory) -> Corpora:
    """Our own corpus, and the public ones where they are at hand."""
    known = cases()
    paths = [case.path for case in known]
    paths += sorted(set(OWN.rglob("*.eml")).difference(paths))
    user = proxy_user(module_proxies, dovecot.mailbox("corpora"))
    with user.home.keystore() as keystore, service_folder("corpora") as scratch:
        for corpus in {case.corpus for case in known}:
            keys_of(corpus, scratch / corpus).fill(keystore)
    user.mailbox.fill(map(message_in, paths))
    return Corpora(user, paths)


def fetched(imap: RawImap, numbers: bytes, items: bytes) -> dict[int, dict[str, bytes]]:
    """The attributes of each message by UID."""
    responses = imap.ok(b"UID FETCH %b (%b)" % (numbers, items))
    answers = [grammar.parse_fetch_response(one) for one in responses if grammar.is_fetch(one)]
    return {answer.uid or 0: answer.attributes for answer in answers}


@pytest.fixture(scope="module")
def shown(everything: Corpora) -> dict[int, dict[str, bytes]]:
    """All items of all messages, asked for at once, through the proxy."""
    user = everything.user
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"EXAMINE INBOX")
        return fetched(imap, b"1:*", b" ".join(ITEMS))


def whole(attributes: dict[str, bytes]) -> bytes:
    """BODY[]."""
    return grammar.string_value(attributes["BODY[]"]) or b""


def test_verdicts_and_texts_are_the_expected_ones(
    everything: Corpora, shown: dict[int, dict[str, bytes]]
) -> None:
    """MIME-02, MIME-03: what a mail client reads of every line of the manifests."""
    found: list[tuple[Case, list[str]]] = []
    field = everything.user.verdict_field
    for case in cases():
        body = whole(shown[everything.paths.index(case.path) + 1])
        found.append((case, complaints(case, Outcome.of_presented(body, field))))
    sys.stdout.write(f"{table(found)}\n")
    wrong = [f"{case.path}: {', '.join(one)}" for case, one in found if one]
    assert not wrong, "\n".join(wrong)


def is_protected(user: ProxyUser, attributes: dict[str, bytes]) -> bool:
    """Whether the message has a verdict."""
    return whole(attributes).startswith(user.verdict_field.encode() + b":")


def test_all_mail_is_there_and_much_of_it_protected(
    everything: Corpora, shown: dict[int, dict[str, bytes]]
) -> None:
    assert sorted(shown) == list(range(1, len(everything.paths) + 1))
    protected = sum(is_protected(everything.user, one) for one in shown.values())
    assert protected > len(shown) // 3
    assert protected < len(shown)


def test_sizes_and_structures_are_those_of_the_body(
    everything: Corpora, shown: dict[int, dict[str, bytes]]
) -> None:
    """IMAP-02, IMAP-05."""
    for uid, attributes in shown.items():
        path = everything.paths[uid - 1]
        body = whole(attributes)
        assert int(attributes["RFC822.SIZE"]) == len(body), path
        if not is_protected(everything.user, attributes):
            continue
        root = entity.parse_or_leaf(body)
        assert attributes["ENVELOPE"] == structure.imap_envelope(root), path
        assert attributes["BODY"] == structure.body(root), path
        assert attributes["BODYSTRUCTURE"] == structure.bodystructure(root), path
        assert whole({"BODY[]": attributes["BODY[HEADER]"]}) == root.header, path
        assert whole({"BODY[]": attributes["BODY[TEXT]"]}) == root.body, path
        assert whole({"BODY[]": attributes["BODY[]<10>"]}) == body[10:110], path


def parts(root: Entity, path: tuple[int, ...] = ()) -> Iterator[Section]:
    """What can be asked of each part of a message."""
    for number in range(1, 100):
        part = section.find_part(root, (*path, number))
        if part is None:
            return
        yield Section((*path, number), "")
        yield Section((*path, number), "MIME")
        if part.is_rfc822:
            yield Section((*path, number), "HEADER")
            yield Section((*path, number), "TEXT")
        if part.is_multipart or part.is_rfc822:
            yield from parts(root, (*path, number))


def test_each_part_is_a_piece_of_the_body(everything: Corpora, shown: dict[int, dict[str, bytes]]) -> None:
    """IMAP-05: part numbers name the octets that they name in BODY[]; beyond the last there is nothing."""
    user = everything.user
    asked = 0
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"EXAMINE INBOX")
        for uid, attributes in shown.items():
            if not is_protected(user, attributes):
                continue
            root = entity.parse_or_leaf(whole(attributes))
            sections = list(parts(root))
            names = [".".join([*map(str, one.path), *filter(None, [one.text])]) for one in sections]
            items = b" ".join(b"BODY.PEEK[%b]" % name.encode() for name in [*names, "99"])
            answer = fetched(imap, b"%d" % uid, items + b" BODY.PEEK[1.MIME]<300.200>")[uid]
            header = section.section(root, Section((1,), "MIME")) or b""
            assert (grammar.string_value(answer["BODY[1.MIME]<300>"]) or b"") == header[300:500]
            for one, name in zip(sections, names, strict=True):
                value = grammar.string_value(answer[f"BODY[{name}]"])
                assert value == section.section(root, one), (everything.paths[uid - 1], name)
            assert not grammar.string_value(answer["BODY[99]"])
            asked += len(names)
    assert asked > 100 or corpora() is None


def test_chunks_make_up_the_body(everything: Corpora, shown: dict[int, dict[str, bytes]]) -> None:
    """IMAP-06."""
    user = everything.user
    size = 1500
    most = max(len(whole(attributes)) for attributes in shown.values())
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"EXAMINE INBOX")
        left = {uid: whole(attributes) for uid, attributes in shown.items()}
        for origin in range(0, most + size, size):
            numbers = b",".join(b"%d" % uid for uid in left)
            answers = fetched(imap, numbers, b"BODY.PEEK[]<%d.%d>" % (origin, size))
            assert sorted(answers) == sorted(left)
            for uid, attributes in answers.items():
                chunk = grammar.string_value(attributes[f"BODY[]<{origin}>"]) or b""
                assert chunk == left[uid][origin : origin + size], everything.paths[uid - 1]
            left = {uid: body for uid, body in left.items() if len(body) > origin}
            if not left:
                break
    assert not left


def test_the_protected_subject_is_everywhere(everything: Corpora, shown: dict[int, dict[str, bytes]]) -> None:
    """IMAP-08: what was decrypted has no outer subject, and each item tells the same one."""
    decrypted = 0
    for uid, attributes in shown.items():
        body = whole(attributes)
        if b"encrypted; " not in body[:200] or not is_protected(everything.user, attributes):
            continue
        decrypted += 1
        header = entity.parse_or_leaf(body).header
        assert b"\nSubject: [...]" not in header, everything.paths[uid - 1]
        assert b'"[...]"' not in attributes["ENVELOPE"]
        subjects = [
            email.message_from_bytes(octets, policy=email.policy.default).get_all("Subject")
            for octets in (body, whole({"BODY[]": attributes["BODY[HEADER.FIELDS FROM SUBJECT X-NONE]"]}))
        ]
        assert subjects[0] == subjects[1], everything.paths[uid - 1]
    assert decrypted > (5 if corpora() is None else 30)


def test_plain_mail_among_it_is_the_servers(everything: Corpora, shown: dict[int, dict[str, bytes]]) -> None:
    """IMAP-01: octet for octet."""
    user = everything.user
    plain = [uid for uid, attributes in shown.items() if not is_protected(user, attributes)]
    command = b"UID FETCH %b (%b)" % (b",".join(b"%d" % uid for uid in plain), b" ".join(ITEMS))
    with direct(user.mailbox) as imap:
        imap.ok(b"EXAMINE INBOX")
        expected = imap.ok(command)
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"EXAMINE INBOX")
        assert normal(imap.ok(command)) == normal(expected)


@pytest.mark.parametrize("item", [b"BODY[TEXT]", b"BODY[1]", b"RFC822", b"BODY[HEADER]"])
def test_reading_sets_seen_once_and_says_so(everything: Corpora, item: bytes) -> None:
    """IMAP-09, for all mail at once; looking sets nothing."""
    user = everything.user
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        imap.ok(b"STORE 1:* FLAGS.SILENT ()")
        looked = fetched(imap, b"1:*", b"FLAGS RFC822.SIZE ENVELOPE RFC822.HEADER BODY.PEEK[1]")
        assert not [uid for uid, one in looked.items() if rb"\Seen" in one["FLAGS"]]
        read = fetched(imap, b"1:*", item)
        assert not [uid for uid, one in read.items() if rb"\Seen" not in one.get("FLAGS", b"")]
        again = fetched(imap, b"1:*", item)
        assert not [uid for uid, one in again.items() if "FLAGS" in one]
