"""What is learned of messages that are going, and of those that cannot be opened now."""

from __future__ import annotations

import re

import pytest

from secmailproxy.views import Kind
from tests.fixtures.bookkeeper import numbers_of
from tests.fixtures.staged import FIELD, VERDICT, Staged

SEALED = b'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary="x"\r\n\r\n'
SIGNED = b'Content-Type: multipart/signed; protocol="application/pgp-signature"; boundary="x"\r\n\r\n'


def _literal(octets: bytes) -> bytes:
    return b"{%d}\r\n%b" % (len(octets), octets)


class Server:
    """Messages 1 to n, whose UIDs are their numbers; what is in `gone` has been expunged by somebody else."""

    def __init__(self, *headers: bytes) -> None:
        self.headers = dict(enumerate(headers, 1))
        self.gone: set[int] = set()
        self.bodies: dict[int, bytes] = {}
        """The values of BODY[TEXT], NIL where there is none."""

    def __call__(self, command: bytes) -> bytes:
        match = re.fullmatch(rb"(?:UID )?FETCH ([\d:,]+) (.*)", command)
        assert match is not None, command
        uids = [uid for uid in numbers_of(match[1]) if uid in self.headers]
        return b"".join(self._tell(uid, match[2]) for uid in uids) + b"T OK done\r\n"

    def _tell(self, uid: int, items: bytes) -> bytes:
        told = [b"UID %d" % uid]
        whole = self.headers[uid] + self.bodies.get(uid, b"body\r\n")
        if b"FLAGS" in items:
            told.append(b"FLAGS ()")
        if b"RFC822.SIZE" in items:
            told.append(b"RFC822.SIZE %d" % (0 if uid in self.gone else len(whole)))
        for section, value in (
            (rb"BODY(?:\.PEEK)?(\[HEADER\.FIELDS \(CONTENT-TYPE CONTENT-DISPOSITION\)\])", self.headers[uid]),
            (rb"BODY(?:\.PEEK)?(\[HEADER\])", self.headers[uid]),
            (rb"BODY(?:\.PEEK)?(\[\](?:<0)?)", whole),
        ):
            named = re.search(section, items)
            if named is not None:
                said = b"NIL" if uid in self.gone else _literal(value)
                told.append(b"BODY" + named[1].replace(b"<0", b"<0>") + b" " + said)
        if b"1.MIME" in items:
            told.append(b"BODY[1.MIME] NIL")
        part = re.search(rb"BODY\.PEEK\[TEXT\]<0\.(\d+)>", items)
        if part is not None:
            body = self.bodies.get(uid)
            told.append(b"BODY[TEXT]<0> " + (b"NIL" if body is None else _literal(body[: int(part[1])])))
        return b"* %d FETCH (%b)\r\n" % (uid, b" ".join(told))


@pytest.mark.parametrize("verb", [b"FETCH", b"UID FETCH"])
def test_what_is_gone_is_not_judged_by_that(verb: bytes) -> None:
    """Dovecot says NIL of a message that it may not yet call expunged."""
    server = Server(SEALED, SEALED, b"Subject: x\r\n\r\n")
    server.gone = {2}
    stage = Staged(server)
    stage.select(uid_next=4)
    heard = stage.client(b"a " + verb + b" 1:3 (UID BODY.PEEK[])\r\n")
    assert b"Subject: opened 1" in heard
    assert b"* 3 FETCH" in heard
    assert heard.endswith(b"a OK done\r\n")
    assert 2 not in stage.store.presented
    assert b"opened 2" not in heard
    server.gone.clear()
    assert b"Subject: opened 2" in stage.client(b"b " + verb + b" 2 (UID BODY.PEEK[])\r\n")


def test_a_known_message_that_is_gone_gets_no_form() -> None:
    """Classified before it went; its form would have been an empty one, for good."""
    server = Server(SEALED, SEALED)
    stage = Staged(server)
    stage.select(uid_next=3)
    stage.store.mailbox.covered = b"1:2"
    stage.store.mailbox.kinds.update({1: Kind.SEALED, 2: Kind.SEALED})
    server.gone = {2}
    heard = stage.client(b"a UID FETCH 1:2 (BODY.PEEK[])\r\n")
    assert b"opened 1" in heard
    assert heard.endswith(b"a OK done\r\n")
    assert set(stage.store.presented) == {1}


def test_nil_and_a_size_of_nothing_stay_what_they_are() -> None:
    """Nothing of ours is put before what is not there."""
    server = Server(SIGNED, SIGNED)
    stage = Staged(server)
    stage.select(uid_next=3)
    stage.store.mailbox.covered = b"1:2"
    stage.store.mailbox.kinds.update({1: Kind.SIGNED, 2: Kind.OPAQUE})
    stage.store.views[2] = stage.store.views[1] = type("V", (), {"verdict": VERDICT})()  # type: ignore[assignment]  # only that is read
    server.gone = {1, 2}
    heard = stage.client(b"a UID FETCH 1:2 (RFC822.SIZE)\r\nb UID FETCH 2 (BODY.PEEK[HEADER])\r\n")
    assert heard.count(b"RFC822.SIZE 0)") == 2
    assert b"BODY[HEADER] NIL)" in heard
    assert FIELD not in heard


def test_a_message_that_is_locked_does_not_keep_others_from_the_client() -> None:
    """IMAP-04, IMAP-22: they are answered; then the command fails, and is never answered with ciphertext."""
    stage = Staged(Server(SEALED, SEALED, SEALED, b"Subject: x\r\n\r\n"))
    stage.select(uid_next=5)
    stage.store.locked = {2}
    heard = stage.client(b"a UID FETCH 1:4 (BODY.PEEK[])\r\n")
    assert [number for number in b"1234" if b"* %c FETCH" % number in heard] == list(b"134")
    assert b"opened 1" in heard
    assert b"opened 3" in heard
    assert b"multipart/encrypted" not in heard
    assert heard.endswith(b"a NO locked\r\n")
    stage.store.locked.clear()
    assert b"opened 2" in stage.client(b"b UID FETCH 2 (BODY.PEEK[])\r\n")


@pytest.mark.parametrize("verb", [b"FETCH", b"UID FETCH"])
def test_what_was_multipart_encrypted_on_its_way_is_opened_too(verb: bytes) -> None:
    """Exchange makes it multipart/mixed; a message without a body is not taken for one that is gone."""
    mixed = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n"
    server = Server(mixed, mixed, mixed, mixed, b"Content-Type: text/plain\r\n\r\n")
    parts = b"--x\r\nContent-Type: text/plain\r\n\r\n%b\r\n--x\r\nContent-Type: %b\r\n\r\nVersion: 1\r\n"
    end = b"--x\r\nContent-Type: application/octet-stream\r\n\r\nDATA\r\n--x--\r\n"
    server.bodies = {
        1: parts % (b"", b"Application/PGP-Encrypted") + end,
        2: parts % (b"", b"application/pdf") + end,
        3: parts % (b"words", b"application/pgp-encrypted") + end,
    }
    stage = Staged(server)
    stage.select(uid_next=6)
    heard = stage.client(b"a " + verb + b" 1:5 (UID BODY.PEEK[])\r\n")
    assert set(stage.store.presented) == {1}
    assert b"Subject: opened 1" in heard
    assert b"words" in heard
    assert stage.store.mailbox.covered == b"1:5"
    assert [one for one in stage.asked if b"TEXT" in one] == [verb + b" 1:4 (UID BODY.PEEK[TEXT]<0.1000>)"]


@pytest.mark.parametrize("inline_pgp", [False, True])
def test_texts_are_looked_at_only_where_inline_pgp_is_wanted(inline_pgp: bool) -> None:
    server = Server(
        b"Content-Type: text/plain\r\n\r\n", b"Subject: x\r\n\r\n", b"Content-Type: text/html\r\n\r\n"
    )
    block = b"\r\n-----BEGIN PGP MESSAGE-----\r\n\r\nowFC\r\n-----END PGP MESSAGE-----\r\n"
    server.bodies = {1: block + b"words\r\n", 2: block, 3: block}
    stage = Staged(server)
    stage.select(uid_next=4)
    selected = stage.session.selection.selected
    assert selected is not None
    selected.inline_pgp = inline_pgp
    stage.client(b"a UID FETCH 1:3 (UID BODY.PEEK[])\r\n")
    assert set(stage.store.presented) == ({2} if inline_pgp else set())
    looked = [one for one in stage.asked if b"TEXT" in one]
    assert looked == ([b"UID FETCH 1:2 (UID BODY.PEEK[TEXT]<0.200>)"] if inline_pgp else [])
