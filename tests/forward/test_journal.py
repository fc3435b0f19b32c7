"""Counts of what became of system mail: no content on the disk in clear, and no message stopped for them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keystore.errors import StoreLocked
from keystore.letterbox import Letterbox, Slot
from secmailproxy.forward.facts import Facts
from secmailproxy.forward.journal import DAYS_KEPT, Journal
from secmailproxy.forward.model import Action, Collect, Drop, Forward, Keep, PassOn, Receipt
from secmailproxy.forward.tally import Outcome, Record, outcomes_of, summary, tables, tally
from tests.fixtures.digests import cron, system

BOX = Letterbox(bytes(range(32)))
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FORWARDED = (Outcome.FORWARDED,)


def journal(folder: Path, now: datetime = NOW) -> Journal:
    return Journal(folder / "journal", lambda: BOX.slot, lambda: now)


def test_what_became_of_a_message_is_told_where_the_keystore_is_open(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    kept.note(system(cron("the windmill", number=1)), (Outcome.KEPT, Outcome.FORWARDED), "cron")
    kept.note(system(cron("x", host="database")), (Outcome.DEFERRED,), "", "NoUsableCertificate")
    (path,) = kept.folder.iterdir()
    assert path.name == "2026-11-21.journal"
    assert path.stat().st_mode & 0o777 == 0o600
    octets = path.read_bytes()
    assert not [word for word in (b"web1", b"root", b"backup", b"windmill", b"database") if word in octets]
    first, second = kept.records(NOW - timedelta(days=1), BOX)
    facts = Facts("root@web1", "web1", "Cron <root@web1> backup")
    assert first == Record(NOW, (Outcome.KEPT, Outcome.FORWARDED), "cron", "", facts)
    assert (second.why, second.rule) == ("NoUsableCertificate", "")
    assert [record.facts for record in kept.records(NOW, None)] == [None, None]
    assert [record.facts for record in kept.records(NOW, Letterbox(bytes(32)))] == [None, None]
    assert list(kept.records(NOW + timedelta(seconds=1), BOX)) == []
    assert list(kept.records(NOW + timedelta(days=1), BOX)) == []


def test_a_report_stops_no_message(tmp_path: Path) -> None:
    """Neither a locked keystore nor a full disk."""

    def locked() -> Slot:
        raise StoreLocked("the keyring is locked")

    Journal(tmp_path / "journal", locked, lambda: NOW).note(system(cron("x")), FORWARDED, "cron")
    (record,) = journal(tmp_path).records(NOW, BOX)
    assert (record.rule, record.facts) == ("cron", None)
    (tmp_path / "file").write_bytes(b"")
    Journal(tmp_path / "file", lambda: BOX.slot).note(system(cron("x")), FORWARDED, "")


def test_lines_that_are_none_are_passed_over(tmp_path: Path) -> None:
    kept = journal(tmp_path)
    kept.note(system(cron("x")), FORWARDED, "")
    path = kept.folder / "2026-11-21.journal"
    good = path.read_bytes()
    told = json.loads(good)
    others = [
        told | {"at": "2026-11-21T12:00:00"},
        told | {"outcomes": ["eaten"]},
        [],
        7,
        {},
        told | {"at": 7},
    ]
    path.write_bytes(good[:40] + b"\n" + b"".join(json.dumps(one).encode() + b"\n" for one in others) + good)
    assert len(list(kept.records(NOW, BOX))) == 1
    moved = told | {"at": "2026-11-21T12:00:01+00:00"}
    bent = told | {"letter": "!"}
    path.write_bytes(b"".join(json.dumps(one).encode() + b"\n" for one in (moved, bent)))
    assert [record.facts for record in kept.records(NOW, BOX)] == [None, None]


def test_old_days_are_forgotten(tmp_path: Path) -> None:
    for days in (0, 1, DAYS_KEPT, DAYS_KEPT + 1):
        journal(tmp_path, NOW + timedelta(days=days)).note(system(cron("x")), FORWARDED, "")
    (tmp_path / "journal" / "notes.journal").write_bytes(b"")
    names = sorted(path.name for path in (tmp_path / "journal").iterdir())
    assert names == ["2026-11-22.journal", "2026-12-26.journal", "2026-12-27.journal", "notes.journal"]


def record(*outcomes: Outcome, rule: str = "", why: str = "", facts: Facts | None = None) -> Record:
    return Record(NOW, outcomes, rule, why, facts)


def test_counts_add_up_and_tell_what_failed() -> None:
    facts = Facts("root@web1", "web1", "backup of 2026-11-21")
    counts = tally(
        [
            record(Outcome.FORWARDED, Outcome.KEPT, rule="cron", facts=facts),
            record(Outcome.FORWARDED, rule="cron", facts=Facts("root@web1", "web1", "backup of 2026-11-22")),
            record(Outcome.DEFERRED, why="UpstreamUnavailable"),
        ]
    )
    assert counts.as_json() == {
        "messages": 3,
        "outcomes": {"forwarded": 2, "deferred": 1, "kept": 1},
        "rules": {"": {"deferred": 1}, "cron": {"forwarded": 2, "kept": 1}},
        "failures": {"UpstreamUnavailable": 1},
        "hosts": {"web1": 2},
        "senders": {"root@web1": 2},
        "subjects": {"backup of *": 2},
        "sealed": 1,
    }
    lines = list(tables(counts))
    assert "      2  cron: forwarded" in lines
    assert "      1  no rule: deferred" in lines
    assert "      1  UpstreamUnavailable" in lines
    assert "      2  backup of *" in lines
    assert lines.count("      1  (unknown), sealed") == 3
    assert not [line for line in summary(counts) if "web1" in line or "backup" in line]


def test_nothing_is_said_of_nothing() -> None:
    assert list(summary(tally([]))) == ["  nothing"]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_is_a_word_of_the_journal(outcome: Outcome, tmp_path: Path) -> None:
    kept = journal(tmp_path)
    kept.note(system(cron("x")), (outcome,), "")
    (found,) = kept.records(NOW, BOX)
    assert found.outcomes == (outcome,)


@pytest.mark.parametrize(
    ("actions", "sent", "held", "outcomes"),
    [
        ((Drop(),), 0, 0, "dropped"),
        ((Keep("/x", "mbox"), Collect("nightly")), 0, 0, "kept collected"),
        ((Forward(), Forward(("a@b",))), 2, 0, "forwarded"),
        ((Forward(), PassOn()), 3, 1, "forwarded passed-on held"),
        ((Forward(),), 2, 2, "held"),
    ],
)
def test_what_was_held_alone_was_not_forwarded(
    actions: tuple[Action, ...], sent: int, held: int, outcomes: str
) -> None:
    assert " ".join(outcomes_of(actions, Receipt("", sent, 0, 0, held))) == outcomes
