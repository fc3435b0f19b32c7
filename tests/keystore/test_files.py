"""Replacing a file: the new content is there whole, or the old one is, with nothing left beside it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from keystore.files import replace_file


def test_new_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for octets in (b"old", b"", b"new" * 100_000):
        replace_file(path, octets)
        assert path.read_bytes() == octets
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["file"]


def test_what_cannot_be_replaced_stays(tmp_path: Path) -> None:
    folder = tmp_path / "file"
    (folder / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        replace_file(folder, b"new")
    assert os.listdir(folder) == ["inside"]
    assert os.listdir(tmp_path) == ["file"]


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "none" / "file", b"new")
