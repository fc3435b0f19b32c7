"""Packets inside an encryption, or where one should be, that no honest program puts together so."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from openpgp.composed import MessageBuilder

from keystore import openpgp
from keystore.errors import NotReadable
from keystore.model import Opened, SignatureState
from keystore.openpgp.packet import Malformed, Packet, Tag, binary, packets, sole, write
from tests.keystore.openpgp import craft
from tests.keystore.openpgp.test_message import knows, states

MADE = datetime.now(UTC)
NOW = MADE + timedelta(days=1)
TEXT = b"Content-Type: text/plain\r\n\r\nplain words\r\n"
GOOD, BAD = SignatureState.GOOD, SignatureState.BAD


@pytest.fixture(scope="module")
def own() -> openpgp.SecretKey:
    return openpgp.generate("own@example.org", now=MADE)


@pytest.fixture(scope="module")
def pieces(own: openpgp.SecretKey) -> list[Packet]:
    """One-pass signature, literal, signature."""
    builder = MessageBuilder.from_bytes("", TEXT)
    builder.sign(next(iter(own.signing_keys.values())), None, "sha512")
    found = list(packets(builder.to_vec()))
    assert [one.tag for one in found] == [Tag.ONE_PASS_SIGNATURE, Tag.LITERAL, Tag.SIGNATURE]
    return found


def opened(own: openpgp.SecretKey, plain: bytes) -> Opened:
    """The same content, encrypted and bare, must be judged the same."""
    inside = openpgp.open_message(craft.encrypted(own.certificate_octets, plain), [own], knows(own), NOW)
    bare = openpgp.open_message(plain, [], knows(own), NOW)
    assert (inside.octets, inside.signatures) == (bare.octets, bare.signatures)
    assert (inside.encrypted, bare.encrypted) == (True, False)
    return inside


def changed(one: Packet, at: int) -> bytes:
    return write(one.tag, one.body[:at] + bytes([one.body[at] ^ 1]) + one.body[at + 1 :])


COMPOSED: list[tuple[str, Callable[[Packet, Packet, Packet], bytes], list[SignatureState]]] = [
    ("as it was", lambda o, t, s: o.octets + t.octets + s.octets, [GOOD]),
    ("the old way, in front", lambda o, t, s: s.octets + t.octets, [GOOD]),
    ("announced twice, there twice", lambda o, t, s: o.octets * 2 + t.octets + s.octets * 2, [GOOD, GOOD]),
    ("announced twice, there once", lambda o, t, s: o.octets * 2 + t.octets + s.octets, [GOOD]),
    ("announced once, there twice", lambda o, t, s: o.octets + t.octets + s.octets * 2, [GOOD, BAD]),
    ("not announced", lambda o, t, s: t.octets + s.octets, [BAD]),
    ("of another kind", lambda o, t, s: changed(o, 1) + t.octets + s.octets, [BAD]),
    ("of another hash", lambda o, t, s: changed(o, 2) + t.octets + s.octets, [BAD]),
    ("of another key", lambda o, t, s: changed(o, 5) + t.octets + s.octets, [BAD]),
    ("another signature", lambda o, t, s: o.octets + t.octets + changed(s, -5), [BAD]),
    (
        "marker, padding and the unknown between",
        lambda o, t, s: (
            write(10, b"PGP") + o.octets + write(21, b"xyz") + t.octets + write(60, b"?") + s.octets
        ),
        [GOOD],
    ),
    (
        "signature around compression",
        lambda o, t, s: o.octets + write(8, b"\2" + zlib.compress(t.octets)) + s.octets,
        [GOOD],
    ),
    (
        "a literal in pieces",
        lambda o, t, s: o.octets + b"\xcb\xe9" + t.body.ljust(512, b"!") + b"\x01?" + s.octets,
        [BAD],
    ),
]


@pytest.mark.parametrize(("compose", "expected"), [row[1:] for row in COMPOSED], ids=[r[0] for r in COMPOSED])
def test_signatures_and_their_announcements(
    own: openpgp.SecretKey,
    pieces: list[Packet],
    compose: Callable[[Packet, Packet, Packet], bytes],
    expected: list[SignatureState],
) -> None:
    found = opened(own, compose(*pieces))
    assert states(found) == expected
    assert found.octets.startswith(TEXT)


def test_several_signers_are_judged_each_in_any_nesting(own: openpgp.SecretKey, pieces: list[Packet]) -> None:
    """One good, one of a key that is not known, one over another text."""
    stranger, liar = (openpgp.generate(f"{name}@example.org", now=MADE) for name in ("stranger", "liar"))

    def signed_by(key: openpgp.SecretKey, text: bytes) -> list[bytes]:
        builder = MessageBuilder.from_bytes("", text)
        builder.sign(next(iter(key.signing_keys.values())), None, "sha512")
        return [one.octets for one in packets(builder.to_vec())]

    good, unknown, bad = (
        [one.octets for one in pieces], signed_by(stranger, TEXT), signed_by(liar, TEXT + b"or not"),
    )  # fmt: skip
    text = good[1]
    for order in permutations((good, unknown, bad)):
        nested = [one[0] for one in order] + [text] + [one[2] for one in reversed(order)]
        crossed = [one[0] for one in order] + [text] + [one[2] for one in order]
        for plain in (nested, crossed):
            found = openpgp.open_message(b"".join(plain), [], knows(own, liar), NOW)
            assert found.octets == TEXT
            assert sorted(state.value for state in states(found)) == ["bad", "good", "unknown-key"]
            assert {one.fingerprint for one in found.signatures if one.state is GOOD} == {own.fingerprint}


def test_no_changed_octet_of_a_signed_message_changes_what_is_valid(
    own: openpgp.SecretKey, pieces: list[Packet]
) -> None:
    whole = b"".join(one.octets for one in pieces)
    for at in range(len(whole)):
        damaged = whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :]
        try:
            found = openpgp.open_message(damaged, [], knows(own), NOW)
        except NotReadable:
            continue
        assert found.octets == TEXT or GOOD not in states(found), at


REFUSED: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("a second literal", lambda m: m + craft.literal(b"other")),
    ("an announcement behind", lambda m: m + next(packets(m)).octets),
    ("two compressions", lambda m: write(8, b"\2" + zlib.compress(write(8, b"\2" + zlib.compress(m))))),
    ("something behind the compressed", lambda m: write(8, b"\2" + zlib.compress(m) + b"x")),
    ("an unknown critical packet", lambda m: write(25, b"?") + m),
    ("garbage behind", lambda m: m + b"garbage"),
]


@pytest.mark.parametrize("change", [row[1] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_readers_could_see_differently_is_not_read(
    own: openpgp.SecretKey, pieces: list[Packet], change: Callable[[bytes], bytes]
) -> None:
    plain = change(b"".join(one.octets for one in pieces))
    for octets in (plain, craft.encrypted(own.certificate_octets, plain)):
        with pytest.raises(NotReadable):
            openpgp.open_message(octets, [own], knows(own), NOW)


# --- armor


BLOCK = b"-----BEGIN PGP MESSAGE-----\r\nVersion: any\r\n\r\nowFC\r\n-----END PGP MESSAGE-----\r\n"
KEY_BLOCK = BLOCK.replace(b"PGP MESSAGE", b"PGP SIGNATURE")


@pytest.mark.parametrize("text", [BLOCK, b"\r\n \t\n" + BLOCK + b"\n\n", BLOCK.replace(b"\r\n", b"\n")])
def test_one_block_with_blanks_around_it(text: bytes) -> None:
    assert sole(text, "MESSAGE") == binary(BLOCK, "MESSAGE")


@pytest.mark.parametrize(
    "text",
    [
        BLOCK + BLOCK,
        BLOCK + KEY_BLOCK,
        KEY_BLOCK + BLOCK,
        KEY_BLOCK,
        b"words\r\n" + BLOCK,
        BLOCK + b"words\r\n",
        BLOCK + b"-----END PGP MESSAGE-----",
        BLOCK.replace(b"owFC", b"owFC\r\n-----END PGP MESSAGE-----\r\nowFC"),
        BLOCK.replace(b"-----END", b"----END"),
        BLOCK.replace(b"owFC", b"ow=FC"),
    ],
)
def test_anything_else_is_not_one_message(text: bytes) -> None:
    with pytest.raises(Malformed):
        sole(text, "MESSAGE")


# --- which session key belongs to which encryption


def test_session_keys_of_another_version_are_passed_over(own: openpgp.SecretKey) -> None:
    """RFC 9580 section 10.3.2.1: version 6 before SEIPD version 2, version 3 before the others."""
    right = next(iter(packets(craft.session_key_packet(own.certificate_octets))))
    data = craft.seipd(craft.literal(TEXT))
    assert openpgp.open_message(right.octets + data, [own], knows(own), NOW).octets == TEXT
    key_id, rest = right.body[1:9], right.body[9:]
    newer = write(Tag.PKESK, b"\6\x15\4" + bytes(12) + key_id + rest)
    with pytest.raises(NotReadable) as caught:
        openpgp.open_message(newer + data, [own], knows(own), NOW)
    assert caught.value.reason == "no-secret-key"


def test_ways_of_encryption_that_nobody_here_knows(own: openpgp.SecretKey) -> None:
    start = craft.session_key_packet(own.certificate_octets)
    for body in (b"\3" + bytes(99), b"", b"\2\x0a\2\6" + bytes(99)):
        with pytest.raises(NotReadable) as caught:
            openpgp.open_message(start + write(Tag.SEIPD, body), [own], knows(own), NOW)
        assert caught.value.reason in ("unsupported", "no-secret-key")
