"""The tables of docs/interoperability.md, which say what the tests must find, no more and no less."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "interoperability.md"


def table(first: str) -> list[Mapping[str, str]]:
    """The rows of the table whose first column is `first`: column -> cell."""
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] if line.startswith("|") else []
        for line in DOCUMENT.read_text(encoding="utf-8").splitlines()
    ]
    start = next(number for number, cells in enumerate(lines) if cells[:1] == [first])
    return list(_rows(lines[start], lines[start + 2 :]))


def _rows(columns: list[str], lines: list[list[str]]) -> Iterator[Mapping[str, str]]:
    for cells in lines:
        if not cells:
            return
        yield dict(zip(columns, cells, strict=True))


def row(reader: str, protection: str) -> dict[str, str]:
    """What the document says of a reader: column -> cell."""
    (found,) = (one for one in table("reader") if (one["reader"], one["protection"]) == (reader, protection))
    return {column: found[column] for column in ("decrypts", "verifies", "content", "subject")}


def written_by(program: str) -> dict[str, dict[str, str]]:
    """What the document says of the S/MIME mail of a program: what was done -> column -> cell."""
    rows = [one for one in table("writer") if one["writer"] == program]
    return {one["what"]: {column: one[column] for column in ("verdict", "content")} for one in rows}


def said(facts: Mapping[str, bool]) -> dict[str, str]:
    """Facts as a row says them."""
    return {name: "yes" if fact else "-" for name, fact in facts.items()}
