"""What is fixed stays fixed, sealed, across processes and races (IMAP-03)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keystore.errors import StoreLocked
from keystore.model import Trust
from secmailproxy.errors import ConfigError
from secmailproxy.views import Kind, View, Views, message_hash


class Aead:
    """The real construction behind the door that the keystore offers, without a keystore."""

    def __init__(self) -> None:
        self._aead = AESGCM(bytes(32))
        self._count = 0

    def seal(self, octets: bytes, context: bytes) -> bytes:
        self._count += 1
        nonce = self._count.to_bytes(12)
        return nonce + self._aead.encrypt(nonce, octets, context)

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        return self._aead.decrypt(sealed[:12], sealed[12:], context)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "views.sqlite3"


@pytest.fixture
def views(path: Path) -> Iterator[Views]:
    views = Views.open(path, Aead())
    yield views
    views.close()


FORM = View(
    Kind.FORM,
    b"V: x\r\n",
    30,
    b"V: x\r\nSubject: secretword\r\n\r\n",
    b"(envelope)",
    b"(body)",
    b"(structure)",
    b"V: x\r\nSubject: secretword\r\n\r\nhidden",
)
HASH = message_hash(b"ciphertext")


def test_a_form_is_kept_whole_and_sealed(views: Views, path: Path) -> None:
    box = views.mailbox("a@example.test", b"INBOX", 7)
    views.classify(box, b"1:5", {3: Kind.SEALED})
    assert views.view(box, 3) is None
    views.fix(box, {3: (HASH, FORM)})
    assert views.view(box, 3) == replace(FORM, octets=None)
    assert views.view(box, 3, octets=True) == FORM
    assert box.kinds == {3: Kind.FORM}
    views.close()
    again = Views.open(path, Aead())
    box = again.mailbox("a@example.test", b"INBOX", 7)
    assert (box.covered, box.kinds) == (b"1:5", {3: Kind.FORM})
    assert again.view(box, 3, octets=True) == FORM
    again.close()
    stored = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert b"secretword" not in stored
    assert b"hidden" not in stored
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_first_view_wins(views: Views) -> None:
    box = views.mailbox("a", b"INBOX", 7)
    views.fix(box, {1: (HASH, FORM), 2: (b"h", View(Kind.OPAQUE, b"first"))})
    views.fix(
        box, {1: (message_hash(b"other"), replace(FORM, octets=b"later")), 2: (b"h", View(Kind.SIGNED, b"x"))}
    )
    assert views.view(box, 1, octets=True) == FORM
    assert views.view(box, 2) == View(Kind.OPAQUE, b"first")
    views.classify(box, b"1:2", {1: Kind.SIGNED})
    assert box.kinds == {1: Kind.FORM, 2: Kind.OPAQUE}


def test_copies_share_one_form(views: Views) -> None:
    inbox, other = views.mailbox("a", b"INBOX", 7), views.mailbox("a", b"Other", 9)
    views.fix(inbox, {1: (HASH, FORM)})
    assert views.forms("a", [HASH, b"x"]) == {HASH}
    assert views.forms("b", [HASH]) == set()
    views.fix(other, {5: (HASH, None)})
    assert views.view(other, 5, octets=True) == FORM


def test_a_form_that_does_not_exist_fixes_nothing(views: Views) -> None:
    box = views.mailbox("a", b"INBOX", 7)
    with pytest.raises(LookupError):
        views.fix(box, {1: (HASH, FORM), 2: (b"unknown", None)})
    assert views.view(box, 1) is None


def test_a_new_uidvalidity_forgets_the_old_mailbox(views: Views) -> None:
    box = views.mailbox("a", b"INBOX", 7)
    views.classify(box, b"1:3", {})
    views.fix(box, {1: (HASH, FORM)})
    new = views.mailbox("a", b"INBOX", 8)
    assert (new.covered, new.kinds) == (b"", {})
    assert views.view(new, 1) is None
    assert views.mailbox("a", b"INBOX", 8) is new


def test_a_sealed_verdict_cannot_be_moved_to_another_message(views: Views) -> None:
    box = views.mailbox("a", b"INBOX", 7)
    views.fix(box, {1: (b"h", View(Kind.SIGNED, b"valid")), 2: (b"h", View(Kind.SIGNED, b"invalid"))})
    database = views._db
    database.write("UPDATE message SET verdict = (SELECT verdict FROM message WHERE uid = 1) WHERE uid = 2")
    assert views.view(box, 1) == View(Kind.SIGNED, b"valid")
    with pytest.raises(InvalidTag):
        views.view(box, 2)


def test_a_form_that_is_set_aside_stays_with_those_who_have_it(views: Views, path: Path) -> None:
    """IMAP-03: a message that is presented anew gets another form under another UID only."""
    other = Views.open(path, views._sealer)  # another process, with the form in its memory and without
    boxes = [one.mailbox("a@example.test", b"INBOX", 7) for one in (views, other)]
    views.classify(boxes[0], b"1:5", {1: Kind.SEALED, 2: Kind.SEALED})
    views.fix(boxes[0], {1: (HASH, FORM)})
    assert views.view(boxes[0], 1) is not None
    views.set_aside("a@example.test", HASH)
    views.set_aside("a@example.test", message_hash(b"never seen"))
    assert views.forms("a@example.test", [HASH]) == set()
    anew = replace(FORM, octets=b"V: y\r\n\r\nreadable", size=17)
    views.fix(boxes[0], {2: (HASH, anew)})
    for one, box in zip((views, other), boxes, strict=True):
        assert one.view(box, 1, octets=True) == FORM
        assert one.view(box, 2, octets=True) == anew
    assert b"secretword" not in path.read_bytes()
    other.close()


def test_mailboxes_of_a_special_use_are_remembered(views: Views, path: Path) -> None:
    views.keep_special_uses("a@example.test", {"entw\u00fcrfe"}, {"foo"})
    views.keep_special_uses("a@example.test", set(), {"foo", "bar"})
    views.keep_special_uses("b@example.test", {"foo"}, set())
    other = Views.open(path, Aead())
    assert other.special_uses("a@example.test") == ({"entw\u00fcrfe"}, {"foo", "bar"})
    assert other.special_uses("c@example.test") == (set(), set())
    other.close()


def test_what_is_no_store_is_told_of(path: Path) -> None:
    path.write_bytes(b"no database" * 100)
    with pytest.raises(ConfigError, match=f"{path} is damaged"):
        Views.open(path, Aead())
    with pytest.raises(ConfigError, match="cannot be opened"):
        Views.open(path / "below", Aead())


class Flaky(Aead):
    """A keystore that is locked for a while."""

    locked = False

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        if self.locked:
            raise StoreLocked("locked")
        return super().unseal(sealed, context)


def test_keywords_are_looked_for_again_only_where_something_was_written_elsewhere(path: Path) -> None:
    """A mailbox may hold a hundred thousand messages, and clients poll."""
    sealer = Flaky()
    with closing(Views.open(path, sealer)) as views, closing(Views.open(path, Aead())) as others:
        box, elsewhere = (one.mailbox("a@example.test", b"INBOX", 7) for one in (views, others))
        views.classify(box, b"1:5", dict.fromkeys(range(1, 6), Kind.SEALED))
        views.fix(box, {uid: (HASH, FORM) for uid in (1, 2)})
        views.fix(box, {3: (b"", View(Kind.OPAQUE, b"V: x\r\n"))})
        sealer.locked = True
        views.mark(box, lambda _: Trust.KNOWN)
        assert box.marks.words == {}
        sealer.locked = False
        views.mark(box, lambda _: Trust.KNOWN)
        assert sorted(box.marks.words) == [1, 2, 3]
        asked: list[str] = []
        views._db._connection.set_trace_callback(asked.append)
        views.mark(box, lambda _: Trust.KNOWN)
        assert not any("message" in one for one in asked)
        others.fix(elsewhere, {4: (HASH, FORM)})
        views.mark(box, lambda _: Trust.KNOWN)
        assert sorted(box.marks.words) == [1, 2, 3, 4]
        sealer.locked = True
        views.fix(box, {5: (HASH, None)})
        views.mark(box, lambda _: Trust.KNOWN, uids=[5])
        sealer.locked = False
        views.mark(box, lambda _: Trust.KNOWN)
        assert sorted(box.marks.words) == [1, 2, 3, 4, 5]
