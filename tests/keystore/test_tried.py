"""docs/keystore.md has a line for each source, holder and secrets backend, and names tests that there are."""

from __future__ import annotations

from typing import get_args, get_type_hints

from keystore.discovery.model import SourceKind
from keystore.model import Holder
from keystore.secrets import SecretsSettings
from tests.keystore.tried import DOCUMENT, ROOT, rows

TABLE = list(rows(DOCUMENT.read_text(encoding="utf-8")))


def named(word: str) -> set[str]:
    """What the table has of sources, holders or backends."""
    return {
        name.strip("` ,")
        for row in TABLE
        if row.what.startswith(word)
        for name in row.what.split(" ", 1)[1].replace(" and ", ",").split(",")
    }


def test_each_source_holder_and_backend_is_there() -> None:
    # What is pinned or in the store already needs nobody to answer; signed mail is the older harvest.
    asked = {kind.value for kind in SourceKind} - {SourceKind.PINNED, SourceKind.LOCAL}
    assert named("source") == asked
    assert named("holder") == {holder.value for holder in Holder} - {"none"}
    assert named("backend") == set(get_args(get_type_hints(SecretsSettings)["backend"]))


def test_the_tests_are_there_and_came_out_well() -> None:
    for row in TABLE:
        for path in row.paths:
            assert (ROOT / path).exists(), path
        assert row.passed.isdigit(), row
        assert int(row.passed) > 0, row
