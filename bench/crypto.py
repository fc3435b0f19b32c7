"""Sign and encrypt, decrypt and verify: the keystore against gpg, with the same keys and message sizes."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import Row, alternating, faster, seconds
from keystore.keystore import Keystore, KeystoreSettings
from keystore.model import Fingerprint
from keystore.secrets import SecretsSettings, open_secrets
from tests.fixtures.gnupg import GnuPG

RUNS = 5
SIZE = 5 * 1024


@dataclass(frozen=True)
class Keys:
    """One keystore that holds alice's and bob's secret keys, and a GnuPG home with the same keys."""

    keystore: Keystore
    alice: Fingerprint
    bob: Fingerprint
    gnupg: GnuPG


@contextmanager
def keys(kind: str = "ed25519") -> Iterator[Keys]:
    """Fresh keys without passphrase on both sides; gpg's agent is running."""
    with tempfile.TemporaryDirectory(prefix="smp-bench-", dir="/tmp") as folder:
        passphrase = secrets.token_urlsafe(16)
        settings = SecretsSettings("file", Path(folder) / "secrets.json", lambda: passphrase)
        home = Path(folder) / "gnupg"
        home.mkdir(mode=0o700)
        gnupg = GnuPG(home)
        with closing(
            Keystore.open(KeystoreSettings(Path(folder) / "keystore"), open_secrets(settings))
        ) as store:
            alice, bob = (
                store.generate(address, kind=kind).fingerprint  # type: ignore[arg-type]  # from a table
                for address in ("alice@example.org", "bob@example.org")
            )
            for one in (alice, bob):
                gnupg.take(store.export(one, secret=True))
            try:
                yield Keys(store, alice, bob, gnupg)
            finally:
                gnupg.end()


def entity(size: int = SIZE) -> bytes:
    """A text entity of about `size` octets that does not compress to nothing."""
    lines = [b"Content-Type: text/plain; charset=utf-8\r\n\r\n"]
    while sum(map(len, lines)) < size:
        lines.append(secrets.token_hex(35).encode() + b"\r\n")
    return b"".join(lines)


def rows() -> Iterator[Row]:
    """One row for each operation and kind of key."""
    for kind, aim, many in (("ed25519", 20.0, 400), ("rsa3072", None, 60)):
        with keys(kind) as both:
            yield from _operations(both, kind, aim, many)


def _operations(both: Keys, kind: str, aim: float | None, many: int) -> Iterator[Row]:
    plain = entity()
    now = datetime.now(UTC)
    ciphertext = both.keystore.encrypt(plain, [both.bob], both.alice, now)
    assert both.keystore.decrypt(ciphertext, now).octets == plain
    sign_encrypt = ("--armor", "-z0", "--sign", "-u", both.alice, "--encrypt", "-r", both.bob)
    by_gpg = both.gnupg.run(*sign_encrypt, data=plain).stdout
    assert both.keystore.decrypt(by_gpg, now).octets == plain
    label = f"{len(plain) / 1024:.0f} KB {kind}"
    names = ("keystore", "gpg")
    yield faster(
        f"sign and encrypt {label}",
        names,
        alternating(
            RUNS,
            lambda: seconds(lambda: both.keystore.encrypt(plain, [both.bob], both.alice, now), many),
            lambda: seconds(lambda: both.gnupg.run(*sign_encrypt, data=plain), 15),
        ),
        aim,
    )
    yield faster(
        f"decrypt and verify {label}",
        names,
        alternating(
            RUNS,
            lambda: seconds(lambda: both.keystore.decrypt(ciphertext, now), many),
            lambda: seconds(lambda: both.gnupg.run("--decrypt", data=ciphertext), 15),
        ),
        aim,
    )
