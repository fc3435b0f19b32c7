"""The desktop's keyring, by a real Secret Service: kept, locked, absent."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator

import keyring
import pytest
from keyring.backends.SecretService import Keyring

from keystore.errors import StoreLocked
from keystore.keystore import Keystore, KeystoreSettings
from keystore.secrets import SecretsSettings, open_secrets
from tests.fixtures.processes import service_folder
from tests.fixtures.secretservice import Desktop, desktop

# The backend leaves its connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

VALUE = "Sw0rdfish-schlüssel"
DESKTOP = SecretsSettings("keyring")


@pytest.fixture(scope="module")
def session() -> Iterator[Desktop]:
    """A session, in which this process takes part."""
    before, chosen = dict(os.environ), keyring.get_keyring()
    with desktop() as session:
        os.environ.update(session.environment)
        keyring.set_keyring(Keyring())
        try:
            yield session
        finally:
            keyring.set_keyring(chosen)
            os.environ.clear()
            os.environ.update(before)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()


def test_kept_for_the_next_session_and_never_in_clear(session: Desktop) -> None:
    session.log_in()
    secrets = open_secrets(DESKTOP)
    assert secrets.get("password:alice@example.org") is None
    secrets.set("password:alice@example.org", VALUE)
    secrets.set("keystore-key", "other")
    session.log_in()
    assert open_secrets(DESKTOP).get("password:alice@example.org") == VALUE
    secrets.delete("keystore-key")
    assert secrets.get("keystore-key") is None
    files = [path for path in session.folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".keyring" for path in files)
    assert not [path for path in files if VALUE.encode() in path.read_bytes()]


def test_a_keystore_opens_with_it_and_waits_while_it_is_locked_or_absent(session: Desktop) -> None:
    session.log_in()
    with service_folder("store") as folder:
        settings = KeystoreSettings(folder / "keystore")
        first = Keystore.open(settings, open_secrets(DESKTOP))
        made = first.generate("alice@example.org")
        first.close()
        session.start_locked()
        waiting = Keystore.open(settings, open_secrets(DESKTOP))
        assert waiting.locked
        with pytest.raises(StoreLocked, match="the keyring cannot read the secret 'keystore-key'"):
            waiting.unlock()
        assert waiting.certificate(made.fingerprint), "what is public can be read"
        session.stop()
        with pytest.raises(StoreLocked, match="the keyring cannot read the secret 'keystore-key'"):
            waiting.unlock()
        with pytest.raises(StoreLocked, match="the keyring configured on this machine cannot start"):
            open_secrets(DESKTOP)
        session.log_in()
        waiting.unlock()
        waiting.close()
        again = Keystore.open(settings, open_secrets(DESKTOP))
        assert b"PRIVATE KEY" in again.export(made.fingerprint, secret=True)
        again.close()
