"""docs/clients.md claims what the tests of the clients do, no more and no less.

A test says what it shows by the mark `client`: `@pytest.mark.client("mbsync", "reads", "flags")`.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")


def table() -> Iterator[dict[str, str]]:
    """The rows of the table of clients: column -> cell."""
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in DOCUMENT.splitlines() if line[:1] == "|"
    ]
    start = next(number for number, cells in enumerate(lines) if cells[0] == "client")
    for cells in lines[start + 2 :]:
        if len(cells) != len(lines[start]):
            return
        yield dict(zip(lines[start], cells, strict=True))


def claims(path: Path) -> Iterator[tuple[str, set[str]]]:
    """Client and deeds of each mark in a file of tests."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.client":
            name, *deeds = (ast.literal_eval(argument) for argument in node.args)
            yield name, set(deeds)


def test_the_table_is_what_the_tests_do() -> None:
    done: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests" / "e2e").rglob("test_*.py")):
        for name, deeds in claims(path):
            done[name, f"`{path.relative_to(ROOT)}`"] |= deeds

    written = {
        (row["client"], row["tests"]): {column for column, cell in row.items() if cell == "yes"}
        for row in table()
    }
    assert written == done


def test_every_cell_says_yes_or_not() -> None:
    deeds = [
        cell
        for row in table()
        for column, cell in row.items()
        if column not in ("client", "version", "tests")
    ]
    assert set(deeds) <= {"yes", "-"}


def test_every_client_has_its_section() -> None:
    titles = [line.removeprefix("## ") for line in DOCUMENT.splitlines() if line.startswith("## ")]
    for row in table():
        assert any(row["client"] in title for title in titles), row["client"]
        assert row["version"]
