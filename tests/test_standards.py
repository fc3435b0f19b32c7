"""docs/standards.md is held to its word: each requirement's tests exist and name it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = re.findall(
    r"(?m)^\| ((?:IMAP|SMTP|MIME|FWD)-\d\d) \|.*\| (.*) \|$", (ROOT / "docs/standards.md").read_text()
)


def test_there_is_a_table() -> None:
    assert len(ROWS) > 40
    assert len({name for name, _ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("requirement", "files"), ROWS)
def test_the_tests_of_a_requirement_name_it(requirement: str, files: str) -> None:
    paths = re.findall(r"`([^`]+)`", files)
    assert paths
    prefix, number = requirement.split("-")
    named = re.compile(rf"{prefix}[-_]{number}|{prefix}-\d\d[^\n]*-{number}", re.IGNORECASE)
    for path in paths:
        assert named.search((ROOT / path).read_text()), path
