"""Mail of other programs through `message inspect --json`: every line of the manifests (MIME-02, MIME-03)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from click.testing import CliRunner

from secmailproxy.cli import program
from tests.fixtures.corpora import Case, Outcome, cases, complaints, keys_of, table
from tests.fixtures.processes import service_folder
from tests.fixtures.proxy import ProxyHome, empty_home

NO_MESSAGE = 65
"""EX_DATAERR."""


@contextmanager
def homes() -> Iterator[Callable[[str], ProxyHome]]:
    """A home for each corpus, with its keys."""
    with service_folder("inspect") as folder:
        made: dict[str, ProxyHome] = {}

        def home(corpus: str) -> ProxyHome:
            if corpus not in made:
                made[corpus] = empty_home(folder / corpus)
                with made[corpus].keystore() as keystore:
                    keys_of(corpus, folder / f"{corpus}-keys").fill(keystore)
            return made[corpus]

        yield home


def inspected(case: Case, home: ProxyHome) -> dict[str, Any] | None:
    """What the command prints; None for a file without a message."""
    words = ["message", "inspect", "--json", "--now", case.now(datetime.now(UTC)).isoformat(), str(case.path)]
    done = CliRunner(env={"SECMAILPROXY_HOME": str(home.folder)}).invoke(
        program, words, prog_name="secmailproxy"
    )
    if done.exit_code == NO_MESSAGE and not case.octets.strip():
        return None
    assert done.exit_code == 0, (case.path, done.output)
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_every_line_holds() -> None:
    """MIME-02, MIME-03: hard lines hold, those of policy are on the safe side, the rest do not crash."""
    found: list[tuple[Case, list[str]]] = []
    with homes() as home:
        for case in cases():
            told = inspected(case, home(case.corpus))
            found.append((case, complaints(case, Outcome.of_json(told)) if told else []))
    sys.stdout.write(f"{table(found)}\n")
    wrong = [f"{case.path}: {', '.join(one)}" for case, one in found if one]
    assert not wrong, "\n".join(wrong)
    assert len(found) >= 12
