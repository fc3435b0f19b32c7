"""Inline OpenPGP and mangled PGP/MIME in a mailbox: found by their first octets, and fixed for good."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from secmailproxy.imap import grammar
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.gnupg import GnuPG
from tests.fixtures.people import ProxyUser, proxy_user
from tests.fixtures.processes import service_folder
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.transcript import RawImap, direct, proxied

WORDS = b"The treasure is buried beneath the crooked windmill.\r\n"
FIELDS = b"From: <writer@example.org>\r\nSubject: %b\r\nMessage-ID: <%b@example.org>\r\nMIME-Version: 1.0\r\n"
PLAIN = b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
PROTECTED = ("encrypted", "clear", "mixed")
LEFT = ("two", "quoted", "plain", "attached")
UID = {name: uid for uid, name in enumerate((*PROTECTED, *LEFT), 1)}


@pytest.fixture(scope="module")
def stored(dovecot: Dovecot, module_proxies: ProxyFactory) -> tuple[ProxyUser, list[bytes]]:
    """Somebody whose account reads inline OpenPGP, and the messages in INBOX, UID 1 and up."""
    user = proxy_user(module_proxies, dovecot.mailbox("inline"))
    user.home.add_config('inline_pgp = true\nsearch = "presented"\n')
    with service_folder("writer") as folder:
        folder.chmod(0o700)
        gpg = GnuPG(folder)
        gpg.generate("Writer <writer@example.org>")
        user.learn(gpg.export("writer@example.org"))
        gpg.take(user.certificate())
        try:
            messages = _messages(gpg, user.address)
        finally:
            gpg.end()
    octets = [
        FIELDS % (name.encode(), name.encode())
        + messages[name].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        for name in UID
    ]
    with direct(user.mailbox) as imap:
        for one in octets:
            imap.ok(b"APPEND INBOX {%d}" % len(one), one)
    return user, octets


def _messages(gpg: GnuPG, address: str) -> dict[str, bytes]:
    to_user = ["--armor", "--sign", "--encrypt", "-r", address]
    block = gpg.run(*to_user, data=WORDS).stdout
    clear = gpg.run("--clearsign", data=WORDS).stdout
    mime = gpg.run(*to_user, data=PLAIN + WORDS).stdout
    mixed = b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n%b\r\n--m\r\n%b\r\n--m--\r\n"
    control = b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
    data = b"Content-Type: application/octet-stream; name=encrypted.asc\r\n\r\n"
    return {
        "encrypted": PLAIN + block,
        "clear": PLAIN + clear,
        "mixed": mixed % (control, data + mime),
        "two": PLAIN + block + block,
        "quoted": PLAIN + b"See:\r\n\r\n" + clear,
        "plain": PLAIN + WORDS,
        "attached": mixed % (PLAIN + b"My notes:\r\n", data + mime),
    }


@pytest.fixture
def imap(stored: tuple[ProxyUser, list[bytes]]) -> Iterator[RawImap]:
    user = stored[0]
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"EXAMINE INBOX")
        yield imap


def attributes(imap: RawImap, uid: int, items: bytes) -> dict[str, bytes]:
    answers = [
        grammar.parse_fetch_response(one)
        for one in imap.ok(b"UID FETCH %d (%b)" % (uid, items))
        if grammar.is_fetch(one)
    ]
    return answers[0].attributes


@pytest.mark.parametrize("name", PROTECTED)
def test_a_list_says_what_the_body_will_be(
    stored: tuple[ProxyUser, list[bytes]], imap: RawImap, name: str
) -> None:
    """IMAP-02, IMAP-05: size and structure are those of the text inside, before and after it is read."""
    uid = UID[name]
    before = attributes(imap, uid, b"RFC822.SIZE BODYSTRUCTURE")
    body = grammar.string_value(attributes(imap, uid, b"BODY.PEEK[]")["BODY[]"]) or b""
    assert body.startswith(stored[0].verdict_field.encode() + b": signed")
    assert b"signature=valid" in body
    assert body.endswith(b"\r\n\r\n" + WORDS)
    assert int(before["RFC822.SIZE"]) == len(body)
    assert before["BODYSTRUCTURE"].upper().startswith(b'("TEXT" "PLAIN"')
    text = grammar.string_value(attributes(imap, uid, b"BODY.PEEK[1]")["BODY[1]"])
    assert text == WORDS
    after = attributes(imap, uid, b"RFC822.SIZE BODYSTRUCTURE")
    assert all(after[item] == before[item] for item in ("RFC822.SIZE", "BODYSTRUCTURE"))


@pytest.mark.parametrize("name", LEFT)
def test_what_is_not_exactly_that_is_what_the_server_has(
    stored: tuple[ProxyUser, list[bytes]], imap: RawImap, name: str
) -> None:
    uid = UID[name]
    items = b"RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[] BODY.PEEK[TEXT] BODY.PEEK[1]"
    with direct(stored[0].mailbox) as server:
        server.ok(b"EXAMINE INBOX")
        assert attributes(imap, uid, items) == attributes(server, uid, items)


def test_search_finds_what_is_inside(imap: RawImap) -> None:
    found = imap.ok(b'UID SEARCH TEXT "crooked windmill"')
    uids = {int(word) for word in found[0].split()[2:]}
    assert uids == {UID[name] for name in (*PROTECTED, "quoted", "plain")}
