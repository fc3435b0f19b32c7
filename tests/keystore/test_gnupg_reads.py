"""Mail that only gpg can open, wholly or in part: keys in its agent, ciphers that are not ours (MIME-07)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from keystore import openpgp
from keystore.errors import NotReadable
from keystore.keystore import Keystore
from keystore.model import Holder, SignatureState
from keystore.openpgp.packet import packets
from tests.fixtures.gnupg import GnuPG, gnupg_home
from tests.fixtures.keystores import NOW, KeystoreFactory

__all__ = ["gnupg_home"]

LATER = NOW + timedelta(days=1)
TEXT = b"Meet me at the windmill.\r\n" * 40
ADDRESS = "carol@example.org"
ELGAMAL = (
    "Key-Type: EDDSA\nKey-Curve: Ed25519\nSubkey-Type: ELG-E\nSubkey-Length: 1024\n"
    "Name-Email: carol@example.org\nExpire-Date: 0\n%no-protection\n%commit\n"
)


def with_key(home: GnuPG, kind: str) -> GnuPG:
    """A home with a key of Carol's whose encryption subkey is of this kind."""
    if kind == "elgamal":
        home.run("--generate-key", data=ELGAMAL.encode())
        return home
    home.run("--quick-generate-key", ADDRESS, "ed25519", "sign,cert", "never")
    listing = home.run("--with-colons", "--list-keys").stdout.decode()
    fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
    home.run("--quick-add-key", fingerprint, kind, "encr", "never")
    return home


@pytest.mark.parametrize("kind", ["brainpoolP256r1", "secp256k1", "nistp384", "cv25519", "elgamal"])
def test_keys_of_every_kind_that_gnupg_holds(make_keystore: KeystoreFactory, gnupg_home, kind: str) -> None:
    home = with_key(gnupg_home(), kind)
    keystore = make_keystore("ours", home.home)
    [result] = keystore.holders.take_from_gnupg(ADDRESS, secret=True)
    assert result.fingerprint is not None
    assert keystore.certificate(result.fingerprint).holder is Holder.GNUPG
    for words in ([], ["--throw-keyids"], ["--symmetric", "--passphrase", "x"], ["--cipher-algo=TWOFISH"]):
        made = home.run(*words, "--sign", "--encrypt", "-r", ADDRESS, data=TEXT).stdout
        opened = keystore.decrypt(made, LATER)
        assert (opened.octets, opened.encrypted) == (TEXT, True)
        assert opened.signatures[0].fingerprint == result.fingerprint
        damaged = made[:-3] + bytes([made[-3] ^ 1]) + made[-2:]
        with pytest.raises(NotReadable):
            keystore.decrypt(damaged, LATER)


@pytest.fixture
def own(make_keystore: KeystoreFactory, gnupg_home) -> Iterator[tuple[Keystore, GnuPG]]:
    """A keystore with a key of its own, whose GnuPG home is empty, and a correspondent."""
    keystore = make_keystore("own", gnupg_home().home)
    made = keystore.generate(ADDRESS, now=NOW - timedelta(days=1))
    writer = gnupg_home()
    writer.generate("writer@example.org")
    writer.take(keystore.export(made.fingerprint))
    keystore.import_keys(writer.export("writer@example.org"), source="writer")
    return keystore, writer


@pytest.mark.parametrize("cipher", ["TWOFISH", "IDEA"])
def test_ciphers_of_gnupg_for_a_key_of_ours(own: tuple[Keystore, GnuPG], cipher: str) -> None:
    keystore, writer = own
    made = writer.run(f"--cipher-algo={cipher}", "--sign", "--encrypt", "-r", ADDRESS, data=TEXT).stdout
    opened = keystore.decrypt(made, LATER)
    assert opened.octets == TEXT
    assert [one.state for one in opened.signatures] == [SignatureState.GOOD]
    start = len(next(packets(made)).octets)
    for at in (start + 30, len(made) // 2, len(made) - 1):
        damaged = made[:at] + bytes([made[at] ^ 1]) + made[at + 1 :]
        with pytest.raises(NotReadable) as caught:
            keystore.decrypt(damaged, LATER)
        assert caught.value.reason == "damaged"


def test_without_gpg_such_a_message_stays_closed_and_nothing_is_locked(
    own: tuple[Keystore, GnuPG], monkeypatch: pytest.MonkeyPatch
) -> None:
    keystore, writer = own
    made = writer.run("--cipher-algo=TWOFISH", "--encrypt", "-r", ADDRESS, data=TEXT).stdout
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NotReadable) as caught:
        keystore.decrypt(made, LATER)
    assert caught.value.reason == "unsupported"


def test_what_is_only_signed_needs_no_key(
    make_keystore: KeystoreFactory, own: tuple[Keystore, GnuPG]
) -> None:
    _, writer = own
    reader = make_keystore("reader")
    reader.import_keys(writer.export("writer@example.org"), source="writer")
    opened = reader.decrypt(writer.run("--armor", "--sign", data=TEXT).stdout, LATER)
    assert (opened.octets, opened.encrypted) == (TEXT, False)
    assert [one.state for one in opened.signatures] == [SignatureState.GOOD]
    assert openpgp.BeyondUs().reason == "unsupported"
