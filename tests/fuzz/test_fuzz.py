"""MIME-08: mutated octets at every door, a bounded number of them from a fixed seed (docs/testing.md)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import doors

ROOT = Path(__file__).parents[2]


def fuzz(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", f"-artifact_prefix={folder}/", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_mutated_octets_do_no_harm_at_any_door(tmp_path: Path) -> None:
    done = fuzz(tmp_path, "-runs=2000", "-seed=8", "-timeout=60", "-rss_limit_mb=1024")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "DONE" in done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "tests/fuzz/found").glob("*/*")), ids=lambda path: path.name)
def test_what_was_found_once_is_mended(path: Path, found_doors: dict[str, object]) -> None:
    """Findings lie in a folder named after their door."""
    found_doors[path.parent.name](path.read_bytes())


@pytest.fixture(scope="module")
def found_doors() -> dict[str, object]:
    return doors.doors()
