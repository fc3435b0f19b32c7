"""What every database does: the same tests for a file of SQLite and for a real PostgreSQL server."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace

import pytest

from keystore.database import Database, Place, Tables
from keystore.errors import KeystoreError, StoreDamaged, StoreLocked
from tests.fixtures.processes import wait_until

TABLES = Tables(
    "secmailproxy_test",
    "test store",
    (
        """
        CREATE TABLE parents (name TEXT PRIMARY KEY, octets BLOB, number INTEGER NOT NULL DEFAULT 0) STRICT;
        CREATE TABLE children (
            name TEXT NOT NULL, parent TEXT NOT NULL REFERENCES parents (name) ON DELETE CASCADE,
            PRIMARY KEY (name, parent)
        ) STRICT, WITHOUT ROWID;
        """,
        "CREATE INDEX children_by_parent ON children (parent)",
    ),
    application_id=7,
)
_NUMBERS = itertools.count()

Open = Callable[..., Database]


@pytest.fixture(params=["sqlite", "postgresql"])
def opened(request, tmp_path) -> Iterator[Open]:
    """Opens one and the same place, as often as it is called."""
    shared = request.param == "postgresql"
    place = Place(
        tmp_path / "own" / "file.sqlite3", request.getfixturevalue("postgresql").server if shared else None
    )
    name = f"contract{next(_NUMBERS)}"
    with ExitStack() as stack:

        def open_one(tables: Tables = TABLES) -> Database:
            return stack.enter_context(closing(place.open(replace(tables, name=name), lambda: None)))

        yield open_one


@pytest.fixture
def database(opened: Open) -> Database:
    return opened()


def add(database: Database, name: str, **values: object) -> None:
    database.write(
        "INSERT INTO parents VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET octets = excluded.octets",
        name,
        values.get("octets"),
        values.get("number", 0),
    )


def names(database: Database) -> list[str]:
    return [name for (name,) in database.rows("SELECT name FROM parents ORDER BY name")]


def test_values_come_back_as_they_were(database):
    octets = bytes(range(256))
    add(database, "it's 100 %\u20ac", octets=octets, number=2**62)
    add(database, "b", octets=None, number=True)
    assert database.rows("SELECT name, octets, number FROM parents WHERE octets IS NOT NULL") == [
        ("it's 100 %\u20ac", octets, 2**62)
    ]
    assert database.rows("SELECT octets, number FROM parents WHERE name = ?", "b") == [(None, 1)]


def test_text_is_ordered_by_its_octets(database):
    for name in ("b", "a", "B", "\u00e4", "_"):
        add(database, name)
    assert names(database) == ["B", "_", "a", "b", "\u00e4"]


def test_deleting_cascades_and_a_parent_must_be_there(database):
    with pytest.raises(StoreDamaged):
        database.write("INSERT INTO children VALUES (?, ?)", "x", "nobody")
    add(database, "a")
    database.write("INSERT INTO children VALUES (?, ?) ON CONFLICT DO NOTHING", "x", "a")
    database.write("INSERT INTO children VALUES (?, ?) ON CONFLICT DO NOTHING", "x", "a")
    assert database.rows("SELECT count(*) FROM children") == [(1,)]
    database.write("DELETE FROM parents WHERE name = ?", "a")
    assert database.rows("SELECT count(*) FROM children") == [(0,)]


def test_a_transaction_is_all_or_nothing_and_may_be_nested(database, opened):
    def fails_late() -> None:
        with database.transaction():
            add(database, "a")
            with database.transaction():
                add(database, "b")
            assert names(database) == ["a", "b"]
            assert names(other) == []
            raise ZeroDivisionError

    other = opened()
    with pytest.raises(ZeroDivisionError):
        fails_late()
    assert names(database) == names(other) == []


def test_the_version_tells_of_every_change(database, opened):
    other = opened()
    add(database, "first")
    wait_until(lambda: names(other) == ["first"], "the first change is seen")
    seen, theirs = database.version(), other.version()
    assert database.version() == seen
    add(database, "a")
    assert database.version()[0] != seen[0]
    assert database.version()[1] == seen[1], "our own changes are not those of others"
    wait_until(lambda: other.version()[1] != theirs[1], "the other one is told")
    seen = database.version()
    with pytest.raises(ZeroDivisionError), database.transaction():
        raise ZeroDivisionError
    assert database.version() != seen, "whoever has cached what was rolled back must forget it"


def test_one_writes_at_a_time_and_readers_go_on(database, opened):
    other = opened()
    with database.transaction():
        add(database, "a")
        with pytest.raises(StoreLocked, match="busy"), other.transaction(patient=False):
            raise AssertionError("two are writing")
        assert names(other) == []
    with other.transaction(patient=False):
        add(other, "b")
    assert names(database) == ["a", "b"]


def test_what_is_read_in_a_transaction_is_still_so_when_it_is_written(opened):
    """Four installations add one to a number, ten times each: none gets lost."""

    def add_ten(database: Database) -> None:
        for _ in range(10):
            with database.transaction():
                ((number,),) = database.rows("SELECT number FROM parents WHERE name = 'a'")
                database.write("UPDATE parents SET number = ? WHERE name = 'a'", number + 1)

    several = [opened() for _ in range(4)]
    add(several[0], "a")
    threads = [threading.Thread(target=add_ten, args=(one,)) for one in several]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert several[0].rows("SELECT number FROM parents") == [(40,)]


def test_several_make_the_tables_at_once(opened):
    made: list[Database] = []
    threads = [threading.Thread(target=lambda: made.append(opened())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [names(one) for one in made] == [[]] * 4


def test_older_tables_become_newer_ones_with_what_they_hold(opened):
    older = Tables(TABLES.name, TABLES.what, TABLES.migrations[:1], TABLES.application_id)
    add(opened(older), "kept")
    newer = opened()
    assert names(newer) == ["kept"]
    newer.check()
    with pytest.raises(KeystoreError, match="upgrade secmailproxy"):
        opened(older)


def test_what_is_closed_is_closed(database):
    database.close()
    with pytest.raises(StoreLocked, match="closed"):
        database.rows("SELECT 1")
    with pytest.raises(StoreLocked, match="closed"):
        database.version()
