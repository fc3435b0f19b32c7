"""Setup Messages: what GnuPG opens with the code alone, and what it makes (Autocrypt Level 1 section 4.4)."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from keystore import openpgp
from keystore.errors import KeyRefused
from keystore.openpgp.ascii_armor import armor
from keystore.openpgp.setup import Setup, new_code, normal_code, open_setup, seal_setup
from tests.fixtures.gnupg import GnuPG
from tests.fixtures.keystores import NOW

KEY = openpgp.generate("alice@example.org", now=NOW)
CODE = "1742-0185-6197-1303-7016-8412-3581-4441-0597"


@pytest.fixture(scope="module")
def sealed() -> bytes:
    return seal_setup(KEY, CODE, mutual=True)


def test_gnupg_opens_it_and_takes_the_key(sealed: bytes, gnupg_home: Callable[..., GnuPG]) -> None:
    """An independent reader, which has nothing but the code."""
    gnupg = gnupg_home(passphrase=CODE)
    payload = gnupg.run("--decrypt", data=sealed).stdout
    assert re.search(rb"^Autocrypt-Prefer-Encrypt: mutual\r?$", payload, re.MULTILINE)
    packets = gnupg.run("--list-packets", data=sealed, check=False)
    assert b"cipher 7, aead 0,s2k 3, hash 8" in packets.stdout
    other = gnupg_home()
    other.take(payload)
    assert KEY.fingerprint.encode() in other.run("--list-secret-keys", "--with-colons").stdout


def test_the_armor_says_what_kind_of_code_opens_it(sealed: bytes) -> None:
    assert sealed.startswith(
        b"-----BEGIN PGP MESSAGE-----\r\nPassphrase-Format: numeric9x4\r\nPassphrase-Begin: 17\r\n\r\n"
    )


@pytest.mark.parametrize("cipher", ["AES", "AES256"])
def test_what_gnupg_makes_is_opened(cipher: str, gnupg_home: Callable[..., GnuPG]) -> None:
    """Also with a session key of its own, and compressed."""
    block = armor(KEY.to_octets(), "PRIVATE KEY BLOCK")
    made = gnupg_home(passphrase=CODE).run(
        "--armor", "--symmetric", f"--cipher-algo={cipher}", "--s2k-count=65536", data=block
    )
    assert open_setup(made.stdout, CODE.replace("-", " ")) == Setup(block, mutual=False)


def test_nothing_else_is_opened(sealed: bytes) -> None:
    wrong = CODE[:-1] + "8"
    broken = sealed.replace(sealed.split(b"\r\n")[-6], sealed.split(b"\r\n")[-6][::-1])
    others = (b"", b"text", bytes(2**20 + 1), broken)
    for octets, code in ((sealed, wrong), *((one, CODE) for one in others)):
        with pytest.raises(KeyRefused):
            open_setup(octets, code)
    keys = openpgp.key_fingerprints(KEY.certificate_octets)[1:]
    to_key = openpgp.encrypt(b"x", [(KEY.certificate_octets, keys)], None, NOW)
    with pytest.raises(KeyRefused):
        open_setup(to_key, CODE)


def test_codes() -> None:
    assert normal_code(f" {CODE.replace('-', '')}\n") == normal_code(CODE) == CODE
    assert re.fullmatch(r"(\d{4}-){8}\d{4}", new_code())
    assert new_code() != new_code()
    for wrong in ("", CODE[:-1], CODE + "1", CODE.replace("1", "l")):
        with pytest.raises(KeyRefused, match="36 digits"):
            normal_code(wrong)
