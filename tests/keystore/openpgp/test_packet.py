"""Framing and armor: what is written is read back, what does not add up is malformed."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpgp.packet import Packet as EnginePacket

from keystore.openpgp.packet import (
    Malformed,
    Packet,
    Tag,
    binary,
    dearmor,
    length_octets,
    packets,
    read_length,
    write,
)

TAGS = st.sampled_from([Tag.SIGNATURE, Tag.LITERAL, Tag.USER_ID, 60])


@given(st.lists(st.tuples(TAGS, st.binary(max_size=300)), max_size=5))
def test_packets_are_read_back(content: list[tuple[int, bytes]]) -> None:
    octets = b"".join(write(tag, body) for tag, body in content)
    assert list(packets(octets)) == [Packet(tag, body) for tag, body in content]


@pytest.mark.parametrize("length", [0, 191, 192, 8383, 8384, 70000])
def test_every_form_of_length(length: int) -> None:
    body = bytes(length)
    written = write(Tag.USER_ID, body)
    assert list(packets(written)) == [Packet(Tag.USER_ID, body)]
    assert read_length(length_octets(length), 0) == (length, len(length_octets(length)))
    assert EnginePacket.from_bytes(written).header.length == length


LITERAL = b"b\0\0\0\0\0" + bytes(1024)


@pytest.mark.parametrize(
    "octets",
    [
        b"\xae" + len(LITERAL).to_bytes(4, "big") + LITERAL,  # old format, four octets
        b"\xad" + len(LITERAL).to_bytes(2, "big") + LITERAL,  # old format, two octets
        b"\xaf" + LITERAL,  # old format, to the end
        b"\xcb\xe9"
        + LITERAL[:512]
        + b"\xe9"
        + LITERAL[512:1024]
        + b"\x06"
        + LITERAL[1024:],  # partial lengths
    ],
)
def test_old_and_partial_lengths(octets: bytes) -> None:
    assert list(packets(octets)) == [Packet(Tag.LITERAL, LITERAL)]


@pytest.mark.parametrize(
    "octets",
    [
        b"\x3f",
        b"\xc2",
        b"\xc2\x05abcd",
        b"\xc2\xc0",
        b"\xc2\xff\0\0",
        b"\x8b" + LITERAL,  # a signature of indeterminate length
        b"\xc2\xe9" + bytes(512) + b"\0",  # a signature of partial lengths
        b"\xcb\xe8" + bytes(256) + b"\0",  # a first chunk that is too short
        b"\xcb\xe9" + bytes(512),  # no last chunk
    ],
)
def test_what_does_not_add_up(octets: bytes) -> None:
    with pytest.raises(Malformed):
        list(packets(octets))


@given(st.binary(max_size=200))
def test_any_octets_are_packets_or_malformed(octets: bytes) -> None:
    try:
        found = list(packets(octets))
    except Malformed:
        return
    assert all(isinstance(packet, Packet) for packet in found)


def armored(octets: bytes, *, headers: bytes = b"", checksum: bytes = b"", end: bytes = b"\n") -> bytes:
    text = base64.encodebytes(octets).replace(b"\n", end)
    mark = b"-----%s PGP MESSAGE-----" + end
    return mark % b"BEGIN" + headers + end + text + checksum + mark % b"END"


@given(st.binary(max_size=300), st.sampled_from([b"\n", b"\r\n", b"  \r\n"]))
def test_armor_is_read(octets: bytes, end: bytes) -> None:
    for checksum in (b"", b"=abcd" + end):
        for headers in (b"", b"Version: 1" + end, b"Comment: a=b" + end + b"Hash: x" + end):
            text = b"before" + end + armored(octets, headers=headers, checksum=checksum, end=end) + b"after"
            assert dearmor(text) == [("MESSAGE", octets)]
            assert binary(text, "MESSAGE") == octets


@pytest.mark.parametrize(
    "octets",
    [
        armored(b"abc").replace(b"YWJj", b"Y!Jj"),
        armored(b"abc").replace(b"YWJj", b"YWJ"),
        armored(b"abc")[:-12],
        armored(b"abc").replace(b"END PGP MESSAGE", b"END PGP SIGNATURE"),
        b"-----BEGIN PGP MESSAGE-----",
    ],
)
def test_damaged_armor_is_malformed(octets: bytes) -> None:
    with pytest.raises(Malformed):
        dearmor(octets)


def test_armor_counts_at_the_start_of_a_line_only() -> None:
    assert dearmor(b"> " + armored(b"quoted")) == []
    with pytest.raises(Malformed):
        binary(b"> " + armored(b"quoted"), "MESSAGE")
    with pytest.raises(Malformed):
        binary(armored(b"abc"), "SIGNATURE")
