"""Fixtures of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from keystore.store import Store
from tests.fixtures.keystores import credentials, keystore, make_keystore

__all__ = ["credentials", "keystore", "make_keystore"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store may be made."""
    return tmp_path / "keys" / "store.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """A store in a file, with nothing in it."""
    with closing(Store.open(path)) as opened:
        yield opened
