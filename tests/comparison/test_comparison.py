"""The classic recipe and ours, side by side: the table of docs/classic-recipe.md is what comes out."""

from __future__ import annotations

from tests.comparison.judging import KEPT, WHOLE, compare, table
from tests.comparison.recipes import CLASSIC
from tests.fixtures.processes import service_folder
from tests.fixtures.proxy import SOURCES


def test_the_table_is_what_comes_out() -> None:
    with service_folder("comparison") as folder:
        rows = compare(folder)
    page = (SOURCES / "docs" / "classic-recipe.md").read_text()
    assert table(rows) in page, table(rows)
    assert all(ours in (WHOLE, KEPT) for _, _, ours in rows)
    assert all(classic != WHOLE for _, classic, _ in rows)


def test_the_page_shows_the_recipe_that_was_run() -> None:
    page = (SOURCES / "docs" / "classic-recipe.md").read_text()
    assert CLASSIC.strip() in page
