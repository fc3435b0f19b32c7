"""Wraps and seals open with what they were made with, and with nothing else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore.errors import StoreDamaged
from keystore.wrap import PassphraseKdf, derive, new_key, seal, unseal, unwrap, wrap

KEY = bytes(range(32))
PAIRS = [(wrap, unwrap), (seal, unseal)]
SMALL = PassphraseKdf(b"sixteen octets..", iterations=1, lanes=1, memory_kib=8)


@pytest.mark.parametrize(("close", "open_"), PAIRS)
@given(octets=st.binary(max_size=200), context=st.binary(max_size=20))
def test_round_trip(close, open_, octets, context):
    closed = close(KEY, octets, context)
    assert open_(KEY, closed, context) == octets
    assert len(octets) < 8 or octets not in closed


@pytest.mark.parametrize(("close", "open_"), PAIRS)
@given(data=st.data())
def test_any_changed_octet_is_noticed(close, open_, data):
    closed = bytearray(close(KEY, b"a secret", b"context"))
    at = data.draw(st.integers(0, len(closed) - 1))
    closed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StoreDamaged):
        open_(KEY, bytes(closed), b"context")


@pytest.mark.parametrize(("close", "open_"), PAIRS)
def test_every_cut_is_noticed(close, open_):
    closed = close(KEY, b"a secret", b"context")
    for length in range(len(closed)):
        with pytest.raises(StoreDamaged):
            open_(KEY, closed[:length], b"context")


@pytest.mark.parametrize(("close", "open_"), PAIRS)
@pytest.mark.parametrize(("key", "context"), [(KEY[::-1], b"context"), (KEY, b"other"), (KEY, b"")])
def test_other_key_or_context(close, open_, key, context):
    with pytest.raises(StoreDamaged):
        open_(key, close(KEY, b"a secret", b"context"), context)


@pytest.mark.parametrize(("close", "open_"), PAIRS)
def test_a_wrap_is_no_seal(close, open_):
    other = unseal if open_ is unwrap else unwrap
    with pytest.raises(StoreDamaged):
        other(KEY, close(KEY, b"a secret", b""), b"")


@pytest.mark.parametrize("close", [wrap, seal])
def test_the_same_octets_never_look_the_same(close):
    assert len({close(KEY, b"a secret", b"") for _ in range(100)}) == 100


def test_derived_keys_differ_by_label_salt_and_key():
    keys = {derive(KEY, "a"), derive(KEY, "b"), derive(KEY, "a", b"salt"), derive(new_key(), "a"), KEY}
    assert len(keys) == 5
    assert derive(KEY, "a") == derive(KEY, "a")


def test_passphrase_key_depends_on_passphrase_and_every_parameter():
    variants = [
        SMALL,
        PassphraseKdf(b"another 16 octet", iterations=1, lanes=1, memory_kib=8),
        PassphraseKdf(SMALL.salt, iterations=2, lanes=1, memory_kib=8),
        PassphraseKdf(SMALL.salt, iterations=1, lanes=2, memory_kib=16),
        PassphraseKdf(SMALL.salt, iterations=1, lanes=1, memory_kib=16),
    ]
    keys = [kdf.key("passphrase") for kdf in variants] + [SMALL.key("Passphrase")]
    assert len(set(keys)) == len(keys)
    assert SMALL.key("passphrase") == keys[0]


def test_argon2id_known_answer():
    # RFC 9106 has only a vector with secret and associated data; this one is of the reference
    # implementation's test.c: argon2id, v 0x13, t 2, m 2^8 KiB, p 1, "password", "somesalt".
    kdf = PassphraseKdf(b"somesalt", iterations=2, lanes=1, memory_kib=256)
    assert kdf.key("password").hex() == "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe"


def test_fresh_parameters_are_memory_hard():
    kdf = PassphraseKdf.fresh()
    assert kdf.memory_kib >= 64 * 1024
    assert kdf.salt != PassphraseKdf.fresh().salt


@pytest.mark.parametrize(
    "kdf",
    [
        PassphraseKdf(b"short", 1, 1, 8),
        PassphraseKdf(SMALL.salt, 0, 1, 8),
        PassphraseKdf(SMALL.salt, 10**9, 1, 8),
        PassphraseKdf(SMALL.salt, 1, 0, 8),
        PassphraseKdf(SMALL.salt, 1, 1, 2**31),
        PassphraseKdf(SMALL.salt, 1, 4, 8),
    ],
)
def test_parameters_out_of_range(kdf):
    with pytest.raises(StoreDamaged):
        kdf.key("passphrase")


def test_parameters_come_back_from_a_file_and_others_are_refused():
    written = json.loads(json.dumps(SMALL.values()))
    assert PassphraseKdf.of(written) == SMALL
    for wrong in (
        {"name": "scrypt"},
        {"salt": "no base64"},
        {"salt": 5},
        {"lanes": None},
        {"iterations": float("inf")},
    ):
        with pytest.raises((ValueError, TypeError)):
            PassphraseKdf.of({**written, **wrong})
    with pytest.raises(KeyError):
        PassphraseKdf.of({})
