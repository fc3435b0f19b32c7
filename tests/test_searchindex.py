"""The kept texts: sealed, made once, gone with their forms, bounded in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag

from secmailproxy import searchindex
from secmailproxy.searchable import Key, fold
from secmailproxy.searchindex import SearchIndex
from secmailproxy.views import Kind, Mailbox, View, Views, message_hash
from tests.test_views import Aead

FORMS = frozenset({Kind.FORM})
ALL = frozenset({Kind.FORM, Kind.SIGNED, Kind.OPAQUE})


def view(number: int, kind: Kind = Kind.FORM) -> View:
    octets = b"X-Verdict: fine\r\nSubject: number %d\r\n\r\nhidden words %d\r\n" % (number, number)
    return View(kind, b"X-Verdict: fine\r\n", len(octets), octets[:40], octets=octets)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "views.sqlite3"


@pytest.fixture
def views(path: Path) -> Iterator[Views]:
    with closing(Views.open(path, Aead())) as views:
        yield views


@pytest.fixture
def box(views: Views) -> Mailbox:
    """Forms 1 to 3, a signed message 4 and an opaque one 5; 6 signed and 7 sealed are not fixed."""
    box = views.mailbox("a@example.test", b"INBOX", 7)
    kinds = {1: Kind.SEALED, 2: Kind.SEALED, 3: Kind.SEALED, 4: Kind.SIGNED, 5: Kind.SEALED, 6: Kind.SIGNED}
    views.classify(box, b"1:9", {**kinds, 7: Kind.SEALED})
    for uid in (1, 2, 3):
        views.fix(box, {uid: (message_hash(b"%d" % uid), view(uid))})
    views.fix(box, {4: (message_hash(b"4"), view(4, Kind.SIGNED))})
    views.fix(box, {5: (message_hash(b"5"), View(Kind.OPAQUE, b"X-Verdict: not decrypted\r\n"))})
    return box


@pytest.fixture
def index(path: Path, views: Views) -> Iterator[SearchIndex]:
    with closing(SearchIndex(path, views, Aead())) as index:
        yield index


def text(term: str) -> Key:
    return Key("TEXT", fold(term))


def test_what_matches_and_what_is_missing(index: SearchIndex, box: Mailbox) -> None:
    found = index.search(
        box, ALL, [text("words 2"), text("hidden"), Key("BODY", b"X-VERDICT"), text("decrypted")]
    )
    assert found.uids == [[2], [1, 2, 3, 4], [], [5]]
    assert found.missing == [6]
    assert index.search(box, FORMS, [text("hidden")]).uids == [[1, 2, 3]]
    assert index.search(box, FORMS, [Key("LARGER", number=40), Key("SMALLER", number=40)]).uids == [
        [1, 2, 3],
        [],
    ]


def test_nothing_of_the_text_is_on_the_disk(index: SearchIndex, box: Mailbox, path: Path) -> None:
    index.search(box, ALL, [text("hidden")])
    index.close()
    for file in path.parent.iterdir():
        octets = file.read_bytes().upper()
        assert b"HIDDEN" not in octets
        assert b"NUMBER" not in octets


def test_texts_go_with_their_forms_and_are_made_again(index: SearchIndex, box: Mailbox, path: Path) -> None:
    index.search(box, FORMS, [text("hidden")])
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("DELETE FROM message WHERE uid = 3")
        database.execute("DELETE FROM form WHERE hash = ?", (message_hash(b"3"),))
        database.execute(
            "UPDATE searchable SET version = version - 1"
            " WHERE form = (SELECT form FROM message WHERE uid = 2)"
        )
        database.commit()
        assert index.search(box, FORMS, [text("hidden")]).uids == [[1, 2]]
        versions = database.execute("SELECT DISTINCT version FROM searchable").fetchall()
    assert versions == [(searchindex.VERSION,)]


def test_a_text_moved_to_another_message_is_not_read(index: SearchIndex, box: Mailbox, path: Path) -> None:
    index.search(box, FORMS, [text("hidden")])
    index.close()
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "UPDATE searchable SET text = (SELECT text FROM searchable WHERE form = (SELECT form FROM message"
            " WHERE uid = 1)) WHERE form = (SELECT form FROM message WHERE uid = 2)"
        )
        database.commit()
    with closing(SearchIndex(path, index._views, Aead())) as again, pytest.raises(InvalidTag):
        again.search(box, FORMS, [text("hidden")])


def test_memory_is_bounded(index: SearchIndex, box: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searchindex, "CACHE_OCTETS", 1500)
    for _ in range(3):
        assert index.search(box, FORMS, [text("hidden")]).uids == [[1, 2, 3]]
        assert index._kept_octets <= 1500
        assert index._kept_octets == sum(one.octets for one in index._kept.values())
