"""Each backend keeps secrets, and refuses when it cannot keep them safely."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import chainer, fail, null
from keyring.errors import KeyringLocked, PasswordDeleteError

from keystore.errors import KeystoreError, StoreDamaged, StoreLocked
from keystore.secrets import SecretsSettings, open_secrets
from tests.fixtures.quicksecrets import quick_secrets

PASSPHRASE = "correct horse battery staple"
VALUE = "Sw0rdfish-schlüssel"


class Asked:
    """A person who answers, counted."""

    def __init__(self, answer: str = PASSPHRASE) -> None:
        self.answer = answer
        self.times = 0

    def __call__(self) -> str:
        self.times += 1
        return self.answer


class MemoryKeyring(KeyringBackend):
    """A keyring backend as other packages provide them."""

    priority = 5  # type: ignore[assignment]  # keyring declares a property of the class

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[tuple[str, str], str] = {}

    def get_password(self, service, username):
        return self.values.get((service, username))

    def set_password(self, service, username, password):
        self.values[service, username] = password

    def delete_password(self, service, username):
        if (service, username) not in self.values:
            raise PasswordDeleteError(username)
        del self.values[service, username]


class PlaintextKeyring(MemoryKeyring):
    """By its name and kind what keyrings.alt offers."""


class UnlikelyKeyring(MemoryKeyring):
    """Not recommended by its own word."""

    priority = 0.5  # type: ignore[assignment]  # keyring declares a property of the class


class LockedKeyring(MemoryKeyring):
    """A keyring that nobody has unlocked."""

    def get_password(self, service, username):
        raise KeyringLocked("locked")


class ForgetfulKeyring(MemoryKeyring):
    """Drops what it is given."""

    def set_password(self, service, username, password):
        pass


@pytest.fixture
def use_keyring():
    before = keyring.get_keyring()
    yield keyring.set_keyring
    keyring.set_keyring(before)


@pytest.fixture(params=["file", "keyring"])
def secrets(request, tmp_path, use_keyring):
    use_keyring(MemoryKeyring())
    return open_secrets(SecretsSettings(request.param, tmp_path / "secrets.json", Asked()))


def test_get_set_delete(secrets):
    assert secrets.get("password:alice@example.org") is None
    secrets.set("password:alice@example.org", VALUE)
    secrets.set("keystore-key", "other")
    assert secrets.get("password:alice@example.org") == VALUE
    secrets.set("password:alice@example.org", "new")
    assert secrets.get("password:alice@example.org") == "new"
    secrets.delete("password:alice@example.org")
    secrets.delete("password:alice@example.org")
    assert secrets.get("password:alice@example.org") is None
    assert secrets.get("keystore-key") == "other"


class TestFile:
    def test_asked_once_and_read_by_another(self, tmp_path):
        path = tmp_path / "secrets.json"
        first, second = Asked(), Asked()
        writer = open_secrets(SecretsSettings("file", path, first))
        assert writer.get("a") is None
        assert first.times == 0, "nothing to open, so nobody is asked"
        writer.set("a", VALUE)
        writer.set("b", "two")
        assert writer.get("a") == VALUE
        reader = open_secrets(SecretsSettings("file", path, second))
        assert [reader.get("a"), reader.get("b"), reader.get("c")] == [VALUE, "two", None]
        assert (first.times, second.times) == (1, 1)

    def test_changes_of_another_process_are_seen(self, tmp_path):
        path = tmp_path / "secrets.json"
        quick_secrets(path, PASSPHRASE)
        one = open_secrets(SecretsSettings("file", path, Asked()))
        one.set("a", "1")
        script = (
            "import sys; from pathlib import Path; from keystore.secrets import *\n"
            "s = open_secrets(SecretsSettings('file', Path(sys.argv[1]), lambda: sys.argv[2]))\n"
            "s.set('b', '2')"
        )
        subprocess.run([sys.executable, "-c", script, str(path), PASSPHRASE], check=True)
        assert one.get("b") == "2"
        one.set("c", "3")
        assert [one.get(name) for name in "abc"] == ["1", "2", "3"]

    def test_two_processes_lose_nothing(self, tmp_path):
        path = tmp_path / "secrets.json"
        quick_secrets(path, PASSPHRASE)
        open_secrets(SecretsSettings("file", path, Asked())).set("start", "x")
        script = (
            "import sys; from pathlib import Path; from keystore.secrets import *\n"
            "s = open_secrets(SecretsSettings('file', Path(sys.argv[1]), lambda: sys.argv[2]))\n"
            "[s.set(f'{sys.argv[3]}{n}', 'x') for n in range(20)]"
        )
        running = [
            subprocess.Popen([sys.executable, "-c", script, str(path), PASSPHRASE, name]) for name in "ab"
        ]
        assert [process.wait() for process in running] == [0, 0]
        merged = open_secrets(SecretsSettings("file", path, Asked()))
        assert all(merged.get(f"{name}{n}") == "x" for name in "ab" for n in range(20))

    def test_nothing_in_clear_and_closed_to_others(self, tmp_path):
        path = tmp_path / "made" / "secrets.json"
        open_secrets(SecretsSettings("file", path, Asked())).set("password:alice@example.org", VALUE)
        for file in path.parent.iterdir():
            content = file.read_bytes()
            for word in (VALUE.encode(), b"alice", PASSPHRASE.encode()):
                assert word not in content
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    def test_wrong_passphrase(self, tmp_path):
        path = tmp_path / "secrets.json"
        quick_secrets(path, PASSPHRASE)
        open_secrets(SecretsSettings("file", path, Asked())).set("a", VALUE)
        before = path.read_bytes()
        wrong = open_secrets(SecretsSettings("file", path, Asked("guess")))
        for action in (lambda: wrong.get("a"), lambda: wrong.set("a", "x"), lambda: wrong.delete("a")):
            with pytest.raises(StoreLocked, match=r"passphrase does not open .*secrets\.json"):
                action()
        assert path.read_bytes() == before

    def test_no_passphrase_to_be_had(self, tmp_path):
        with pytest.raises(StoreLocked, match="--passphrase-file"):
            open_secrets(SecretsSettings("file", tmp_path / "s", None)).set("a", "b")
        with pytest.raises(KeystoreError, match="must not be empty"):
            open_secrets(SecretsSettings("file", tmp_path / "s", Asked(""))).set("a", "b")
        assert not (tmp_path / "s").exists()

    @pytest.mark.parametrize(
        "change",
        [
            lambda document: b"",
            lambda document: b"not JSON",
            lambda document: b"[]",
            lambda document: json.dumps({**document, "version": 2}).encode(),
            lambda document: json.dumps({**document, "secrets": "%%"}).encode(),
            lambda document: json.dumps(
                {**document, "kdf": {**document["kdf"], "memory_kib": 2**40}}
            ).encode(),
            lambda document: json.dumps({**document, "kdf": {**document["kdf"], "name": "none"}}).encode(),
        ],
    )
    def test_damaged_file(self, tmp_path, change):
        path = tmp_path / "secrets.json"
        quick_secrets(path, PASSPHRASE)
        open_secrets(SecretsSettings("file", path, Asked())).set("a", VALUE)
        path.write_bytes(change(json.loads(path.read_bytes())))
        with pytest.raises(StoreDamaged):
            open_secrets(SecretsSettings("file", path, Asked())).get("a")

    def test_weakened_parameters_do_not_open(self, tmp_path):
        path = tmp_path / "secrets.json"
        open_secrets(SecretsSettings("file", path, Asked())).set("a", VALUE)
        document = json.loads(path.read_bytes())
        document["kdf"]["iterations"] = 1
        path.write_text(json.dumps(document))
        with pytest.raises(StoreLocked):
            open_secrets(SecretsSettings("file", path, Asked())).get("a")

    def test_a_path_that_cannot_be(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(KeystoreError, match="cannot be"):
            open_secrets(SecretsSettings("file", tmp_path / "file" / "secrets", Asked())).set("a", "b")
        with pytest.raises(KeystoreError, match="needs a path"):
            open_secrets(SecretsSettings("file"))


class TestKeyring:
    @pytest.mark.parametrize(
        "backend",
        [null.Keyring(), fail.Keyring(), chainer.ChainerBackend(), PlaintextKeyring(), UnlikelyKeyring()],
    )
    def test_refused_with_the_remedy(self, use_keyring, backend):
        use_keyring(backend)
        with pytest.raises(KeystoreError, match=r'backend = "file"') as caught:
            open_secrets(SecretsSettings("keyring"))
        assert type(backend).__qualname__ in str(caught.value)

    def test_locked(self, use_keyring):
        use_keyring(LockedKeyring())
        with pytest.raises(StoreLocked, match="unlock it"):
            open_secrets(SecretsSettings("keyring")).get("keystore-key")

    def test_a_keyring_that_drops_secrets_is_noticed(self, use_keyring):
        use_keyring(ForgetfulKeyring())
        with pytest.raises(KeystoreError, match="did not keep") as caught:
            open_secrets(SecretsSettings("keyring")).set("keystore-key", VALUE)
        assert VALUE not in str(caught.value)

    def test_a_configured_backend_that_is_absent(self):
        script = "from keystore.secrets import *; open_secrets(SecretsSettings('keyring'))"
        environment = {**os.environ, "PYTHON_KEYRING_BACKEND": "keyrings.absent.Keyring"}
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
        )
        assert "StoreLocked: the keyring configured on this machine cannot start" in done.stderr

    def test_keyring_is_not_searched_for_other_backends(self, tmp_path):
        script = (
            "import sys; from pathlib import Path; from keystore.secrets import *\n"
            "open_secrets(SecretsSettings('file', Path(sys.argv[1]))).get('a')\n"
            "assert 'keyring' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", script, str(tmp_path / "s")], check=True)


class TestSystemd:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch) -> Path:
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        return tmp_path

    def test_reads_without_the_final_line_feed(self, folder):
        (folder / "keystore-key").write_text("value\n")
        (folder / "password.alice@example.org").write_text("pass word\n\n")
        secrets = open_secrets(SecretsSettings("systemd"))
        assert secrets.get("keystore-key") == "value"
        assert secrets.get("password:alice@example.org") == "pass word\n"
        assert secrets.get("password:bob@example.org") is None

    def test_read_only_with_the_remedy(self, folder):
        (folder / "keystore-key").write_text("value\n")
        secrets = open_secrets(SecretsSettings("systemd"))
        with pytest.raises(KeystoreError, match="systemd-creds encrypt --name=keystore-key"):
            secrets.set("keystore-key", VALUE)
        with pytest.raises(KeystoreError, match="LoadCredentialEncrypted"):
            secrets.delete("keystore-key")
        secrets.set("keystore-key", "value")
        secrets.delete("absent")
        assert (folder / "keystore-key").read_text() == "value\n"

    @pytest.mark.parametrize("name", ["../keystore-key", "a/b", "..", ""])
    def test_names_stay_inside_the_folder(self, folder, name):
        with pytest.raises(KeystoreError, match="cannot be named"):
            open_secrets(SecretsSettings("systemd")).get(name)

    def test_unreadable(self, folder):
        (folder / "keystore-key").write_bytes(b"\xff\xfe")
        (folder / "folder").mkdir()
        for name in ("keystore-key", "folder"):
            with pytest.raises(StoreLocked, match=name):
                open_secrets(SecretsSettings("systemd")).get(name)

    def test_outside_of_a_unit(self, monkeypatch):
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
        with pytest.raises(KeystoreError, match="CREDENTIALS_DIRECTORY"):
            open_secrets(SecretsSettings("systemd"))
