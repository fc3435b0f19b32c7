"""`secmailproxy queue`: what waits can be seen and changed by its id, without a key or a configuration."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from secmailproxy.cli import program
from secmailproxy.folders import HOME_VARIABLE
from secmailproxy.forward.queue import Queue
from secmailproxy.forward.wake import POKE, lock
from tests.fixtures.queued import ADMIN, SENDER, put, sealed


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty queue of a home that has nothing else; no runner starts."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    folder = tmp_path / "state" / "spool"
    folder.mkdir(0o700, parents=True)
    held = lock(folder)
    assert held is not None
    yield folder
    os.close(held)


def run(*words: str, data: str = "") -> Result:
    return CliRunner().invoke(program, ["queue", *words], input=data)


def test_an_empty_queue_says_so(spool: Path) -> None:
    assert run("list").output == f"The queue is empty ({spool}).\n"
    assert json.loads(run("list", "--json").output) == []


def test_list_and_show_tell_ages_ways_and_reasons(spool: Path) -> None:
    name = put(spool, sealed(5, (ADMIN, "b@example.org")))
    queue = Queue(spool)
    with queue.taken(name) as taken:
        progress = taken.progress
        object.__setattr__(progress, "why", "451 later")
        object.__setattr__(progress, "tries", 3)
        object.__setattr__(progress, "settled", frozenset({(0, ADMIN)}))
        object.__setattr__(progress, "again", taken.queued.arrived + 3600)
        taken.save(progress)
    (row,) = json.loads(run("list", "--json").output)
    assert row["age_seconds"] in range(60)
    assert row["again"] > row["arrived"]
    expected = {
        "id": name, "state": "waiting", "octets": len(sealed(5).octets), "from": [f"<{SENDER}>"],
        "to": ["b@example.org"], "via": "smarthost", "next_hop": "host@example.org", "tries": 3,
        "reason": "451 later",
    }  # fmt: skip
    assert {key: row[key] for key in expected} == expected
    told = run("list").output
    assert told.startswith(f"{name}  waiting  ")
    assert "to b@example.org\n    451 later; again at " in told
    shown = run("show", name).output
    assert "Subject: Encrypted system mail\n" in shown
    assert "PGP MESSAGE" not in shown
    assert "Message-ID: <5@host.example>" in json.loads(run("show", name, "--json").output)["headers"][0]


def test_hold_release_and_drop(spool: Path) -> None:
    one, other = put(spool, sealed(1)), put(spool, sealed(2))
    assert run("hold", one, one, other).output == "2 held\n"
    rows = json.loads(run("list", "--json").output)
    assert [(row["state"], row["reason"]) for row in rows] == [("held", "held by hand")] * 2
    assert run("flush").output == "0 to be tried now\n"
    assert run("release", one).output == "1 released\n"
    assert run("flush").output == "1 to be tried now\n"
    refused = run("drop", other, data="n\n")
    assert (refused.exit_code, Queue(spool).names()) == (130, [one, other])
    assert run("drop", other, data="y\n").exit_code == 0
    assert run("drop", "--yes", one).output == "1 deleted\n"
    assert os.listdir(spool) == [".runner.lock"]


@pytest.mark.parametrize("command", ["show", "flush", "hold", "release", "drop"])
@pytest.mark.parametrize("wrong", ["nothing", "../../state/spool/x", ".runner", "", "x\ny"])
def test_a_wrong_id_is_an_error_and_nothing_is_done(command: str, wrong: str, spool: Path) -> None:
    name = put(spool)
    more = [] if command == "show" else [name]
    result = run(command, *more, wrong)
    assert result.exit_code == 64
    assert "no message with the id" in result.stderr
    assert "secmailproxy queue list" in result.stderr
    (row,) = json.loads(run("list", "--json").output)
    assert row["state"] == "new"


def test_what_is_being_delivered_cannot_be_changed(spool: Path) -> None:
    name = put(spool)
    with Queue(spool).taken(name):
        for command in (["hold"], ["release"], ["drop", "--yes"], ["flush"]):
            result = run(*command, name)
            assert result.exit_code == 64
            assert f"the message {name} is being delivered at this moment; try again" in result.stderr
    assert run("drop", "--yes", name).exit_code == 0


@pytest.mark.parametrize("command", ["flush", "release"])
def test_what_could_be_changed_is_told_to_the_runner_all_the_same(command: str, spool: Path) -> None:
    busy, free = put(spool), put(spool, sealed(1))
    os.mkfifo(spool / POKE)
    reader = os.open(spool / POKE, os.O_RDONLY | os.O_NONBLOCK)
    with Queue(spool).taken(busy):
        assert run(command, busy, free).exit_code == 64
    assert os.read(reader, 10)
    os.close(reader)


def test_a_damaged_file_is_named(spool: Path) -> None:
    (spool / "broken.mail").write_bytes(b"x")
    assert "broken.mail is damaged" in run("list").output
    assert "broken.mail is damaged" in json.loads(run("list", "--json").output)[0]["damaged"]
    result = run("drop", "--yes", "broken")
    assert result.exit_code != 0
    assert (spool / "broken.mail").exists()


def test_a_terminal_is_told_nothing_that_it_would_obey(spool: Path) -> None:
    name = put(spool, sealed(1, ("\x1b[31ma@example.org",)))
    for words in (["list"], ["show", name]):
        assert "\x1b" not in run(*words).output
        assert "[31ma@example.org" in run(*words).output


def test_run_tells_the_runner_that_works(spool: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    (tmp_path / "config.toml").chmod(0o600)
    assert run("run").output == "A runner is at work; it was told to look.\n"
