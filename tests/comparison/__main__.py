"""`python -m tests.comparison`: the rows of the table in docs/classic-recipe.md, made anew."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.comparison.judging import compare, table

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(table(compare(Path(folder))))
