"""Folders and files for the owner alone, written whole or not at all."""

from __future__ import annotations

import pwd
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from secmailproxy.errors import ConfigError
from secmailproxy.folders import Folders, make_private, write_privately


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def folders_in(path: Path) -> Folders:
    return Folders(path / "c" / "config.toml", path / "s", path / "k")


def test_prepare_makes_private_folders_and_repairs_open_ones(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir(mode=0o755)
    (tmp_path / "s").chmod(0o755)
    folders_in(tmp_path).prepare()
    assert [mode(tmp_path / name) for name in "csk"] == [0o700] * 3


def test_a_folder_that_cannot_be_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ConfigError, match=r"Cannot use the folder .*/file/x as user \S+: .* SECMAILPROXY_HOME"
    ):
        make_private(tmp_path / "file" / "x")


def test_a_shared_folder_is_refused_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared, home = tmp_path / "tmp", tmp_path / "home" / "alice"
    shared.mkdir()
    shared.chmod(0o1777)
    home.mkdir(parents=True)
    home.chmod(0o755)
    monkeypatch.setenv("HOME", str(home))
    for folder in (shared, home, home.parent):
        before = mode(folder)
        with pytest.raises(ConfigError, match="is shared; set SECMAILPROXY_HOME to a folder for this alone"):
            make_private(folder)
        assert mode(folder) == before
    make_private(home / "secmailproxy")


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    for name in ("HOME", "SECMAILPROXY_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(ConfigError, match="no home folder; set HOME, or SECMAILPROXY_HOME"):
        Folders.of_user()


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_privately(path, b"new")
    assert path.read_bytes() == b"new"
    assert mode(path) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["f"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(ConfigError, match="Cannot write"):
        write_privately(tmp_path / "f", b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["f"]


def test_the_verdict_token_is_made_once(tmp_path: Path) -> None:
    folders = folders_in(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: folders.verdict_token(), range(8)))
    assert folders.verdict_token() in tokens
    assert folders.verdict_token() == folders.verdict_token()
    assert folders_in(tmp_path / "other").verdict_token() not in tokens
    (tmp_path / "s" / "verdict-token").write_text("x")
    with pytest.raises(ConfigError, match="is damaged"):
        folders.verdict_token()


def test_what_others_could_open_is_closed_and_told(tmp_path: Path) -> None:
    folders = folders_in(tmp_path)
    folders.prepare()
    inner = folders.state / "keystore"
    inner.mkdir(mode=0o700)
    right, wrong, outside = inner / "right", inner / "wrong", tmp_path / "outside"
    for path, permissions in ((right, 0o600), (wrong, 0o640), (outside, 0o644)):
        path.write_text("x")
        path.chmod(permissions)
    (folders.state / "link").symlink_to(outside)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folders.state / "s"))
        (folders.state / "s").chmod(0o666)
        inner.chmod(0o755)
        assert set(folders.closed()) == {inner, wrong}
        assert mode(folders.state / "s") == 0o666, "a listener says itself for whom it is"
    assert [mode(path) for path in (inner, right, wrong, outside)] == [0o700, 0o600, 0o600, 0o644]
    assert folders.closed() == []
