"""The file of a backup: what is written is read back whole, or not at all."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keystore import backup
from keystore.backup import Contents, Passphrase, Table
from keystore.errors import KeystoreError, NotReadable, StoreDamaged
from keystore.wrap import PassphraseKdf

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
OPENS = Passphrase("crooked windmill")
CONTENTS = Contents(
    NOW,
    3,
    {"facts": Table(("name", "value"), (("one", b"\0\xff"), ("two", None), ("three", 3)))},
    {"keystore-key": "a2V5"},
    {"config.toml": b"# \xc3\xa4\n"},
)


def quickly(patch: pytest.MonkeyPatch) -> None:
    """The parameters that people get are tried below, once."""
    fresh = classmethod(lambda cls: cls(os.urandom(16), iterations=1, lanes=1, memory_kib=8))
    patch.setattr(PassphraseKdf, "fresh", fresh)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quickly(monkeypatch)


with pytest.MonkeyPatch.context() as _patch:
    quickly(_patch)
    SEALED = backup.seal(CONTENTS, OPENS)


def test_what_is_sealed_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    octets = backup.seal(CONTENTS, OPENS)
    assert backup.is_backup(octets)
    assert b'"memory_kib": 65536' in octets.partition(b"\n")[0]
    assert backup.unseal(octets, OPENS.text) == CONTENTS
    for hidden in (b"keystore-key", b"a2V5", b"config.toml", b"facts"):
        assert hidden not in octets


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_file_is_never_opened(at: int, difference: int) -> None:
    sealed = bytearray(SEALED)
    sealed[at % len(sealed)] ^= difference
    with pytest.raises((StoreDamaged, NotReadable)):
        backup.unseal(bytes(sealed), OPENS.text)


def test_another_passphrase_or_another_file_is_refused() -> None:
    with pytest.raises(NotReadable, match="passphrase"):
        backup.unseal(SEALED, "crooked Windmill")
    for other in (b"", b"{}", SEALED[:40], b"-----BEGIN PGP MESSAGE-----\n", SEALED[5:]):
        with pytest.raises((StoreDamaged, NotReadable)):
            backup.unseal(other, OPENS.text)
    odd = SEALED.replace(b'"iterations": 1,', b'"iterations": 1e400,')
    with pytest.raises(StoreDamaged, match="first line"):
        backup.unseal(odd, OPENS.text)
    with pytest.raises(NotReadable, match="passphrase"):
        backup.unseal(SEALED, "no UTF-8 \udcff")
    newer = SEALED.replace(b'"secmailproxy backup": 1', b'"secmailproxy backup": 2')
    with pytest.raises(StoreDamaged, match="newer version"):
        backup.unseal(newer, OPENS.text)


def test_a_code_is_read_as_people_write_it() -> None:
    """125 bits; without case, blanks, and letters that look like others."""
    code = backup.new_code()
    assert len(code.text.replace("-", "")) * 5 == 125
    assert code.text != backup.new_code().text
    octets = backup.seal(CONTENTS, code)
    assert backup.is_under_code(octets)
    typed = code.text.lower().replace("-", " ").replace("1", "l").replace("0", "o")
    assert backup.unseal(octets, f" {typed}\n") == CONTENTS
    with pytest.raises(NotReadable, match="code"):
        backup.unseal(octets, typed[:-1])


def test_the_file_is_there_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "mail.backup"
    path.write_bytes(b"an older backup")
    backup.write(path, CONTENTS, OPENS)
    assert backup.unseal(path.read_bytes(), OPENS.text) == CONTENTS
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_what_cannot_be_written_leaves_the_older_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mail.backup"
    path.write_bytes(b"an older backup")
    monkeypatch.setattr(Path, "read_bytes", lambda self: SEALED[:-1] + b"\0")
    with pytest.raises(KeystoreError):
        backup.write(path, CONTENTS, OPENS)
    monkeypatch.undo()
    assert path.read_bytes() == b"an older backup"
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    with pytest.raises(KeystoreError, match="cannot be written"):
        backup.write(tmp_path / "missing" / "mail.backup", CONTENTS, OPENS)
