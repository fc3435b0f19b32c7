"""Content transfer encodings: what is written decodes to the same octets and survives relays."""

from __future__ import annotations

import binascii
import quopri

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secmailproxy.mime import transfer
from secmailproxy.mime.entity import parse

PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r",
        b"From ",
        b" ",
        b"\t",
        b"a",
        b"=",
        b".",
        b"\xc3\xbc",
        b"\xff",
        b"\0",
        b"x" * 75,
        b"=41",
    ]
)
OCTETS = st.lists(PIECES, max_size=40).map(b"".join)


@given(OCTETS)
def test_quoted_printable_loses_nothing_and_is_safe(octets: bytes) -> None:
    encoded = transfer.encode_quoted_printable(octets)
    assert transfer.decode(encoded, "quoted-printable") == octets
    assert quopri.decodestring(encoded) == octets
    for line in encoded.split(b"\r\n"):
        assert len(line) <= 76
        assert line.isascii()
        assert not line.startswith(b"From ")
        assert not line.endswith((b" ", b"\t"))
        assert not set(line) & set(b"\r\n\0")


@given(OCTETS)
def test_base64_loses_nothing(octets: bytes) -> None:
    encoded = transfer.encode_base64(octets)
    assert transfer.decode(encoded, "base64") == octets == binascii.a2b_base64(encoded)
    assert all(len(line) <= 76 for line in encoded.split(b"\r\n"))


@given(OCTETS)
@example(b"From \r \n")
def test_repaired_quoted_printable_means_the_same(octets: bytes) -> None:
    repaired = transfer.repair_quoted_printable(octets)
    assert transfer.decode(repaired, "quoted-printable") == transfer.decode(octets, "quoted-printable")
    assert all(len(line) <= 76 and not line.endswith(b" ") for line in repaired.split(b"\r\n"))


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        (b"From me", b"=46rom me"),
        (b"flowed \r\ntext", b"flowed=20\r\ntext"),
        (b"-- \r\n", b"--=20\r\n"),
        (b".", b"=2E"),
        ("Gr\u00fc\u00dfe".encode(), b"Gr=C3=BC=C3=9Fe"),
        (b"a=b \n", b"a=3Db =0A"),
        (b"From " + b"x" * 80, b"=46=\r\nrom " + b"x" * 70 + b"=\r\n" + b"x" * 10),
    ],
)
def test_quoted_printable_of_known_lines(text: bytes, encoded: bytes) -> None:
    assert transfer.encode_quoted_printable(text) == encoded


@pytest.mark.parametrize(
    ("body", "encoding", "octets"),
    [
        (b"aGk=", "base64", b"hi"),
        (b"aGk=aGk=", "base64", b"hihi"),
        (b"aGk", "base64", b"hi"),
        (b"a G-k\r\n", "base64", b"hi"),
        (b"aGkh!\r\nA", "base64", b"hi!"),
        (b"soft=\r\nbreak=  \r\n end", "quoted-printable", b"softbreak end"),
        (b"stray = and =zz", "quoted-printable", b"stray = and =zz"),
        (b"as=is", "x-uuencode", b"as=is"),
        (b"as=20is", "7bit", b"as=20is"),
    ],
)
def test_decoding_is_tolerant(body: bytes, encoding: str, octets: bytes) -> None:
    assert transfer.decode(body, encoding) == octets


def test_repaired_base64_has_lines_of_76() -> None:
    digits = binascii.b2a_base64(bytes(range(256)) * 9, newline=False)
    repaired = transfer.repair_base64(digits[:1000] + b" \xff\t\r\n\r\n" + digits[1000:])
    assert [len(line) for line in repaired.split(b"\r\n")][:-2] == [76] * (len(digits) // 76)
    assert transfer.decode(repaired, "base64") == bytes(range(256)) * 9


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"", "7bit"),
        (b"Content-Transfer-Encoding:\r\n", "7bit"),
        (b"Content-Transfer-Encoding: BASE64 (of what?)\r\n", "base64"),
        (b"content-transfer-encoding:\r\n\tQuoted-Printable ; x=y\r\n", "quoted-printable"),
        (b"Content-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: 8bit\r\n", "base64"),
        (b"Content-Transfer-Encoding: x-gr\xfc\xdfe\r\n", "x-gr\xfc\xdfe"),
    ],
)
def test_the_encoding_of_a_part(field: bytes, expected: str) -> None:
    assert transfer.encoding_of(parse(field + b"\r\nbody")) == expected


def test_the_content_of_a_part() -> None:
    part = parse(b"Content-Transfer-Encoding: base64 (RFC 2045)\r\n\r\n" + transfer.encode_base64(b"content"))
    assert transfer.decoded_body(part) == b"content"


_LONG = 2_000_000


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b" " * _LONG + b"x", b" " * _LONG + b"x"),
        (b"x\t" + b" \t" * _LONG + b"\r\n", b"x\r\n"),
        ((b" " * 1000 + b"x") * 1000, (b" " * 1000 + b"x") * 1000),
        (b"\r" * _LONG, b"\r" * _LONG),
        (b"=" * _LONG, b"=" * (_LONG - 1)),
    ],
    ids=["blanks and a letter", "blanks and a line end", "many runs of blanks", "lone CR", "equals signs"],
)
def test_hostile_quoted_printable_costs_no_more_than_its_length(body: bytes, expected: bytes) -> None:
    """A cost that is the square of the length would be hours, in which no thread of the program runs."""
    assert transfer.decode(body, "quoted-printable") == expected


def test_one_long_line_costs_no_more_than_its_length() -> None:
    line = b"\xe4 and so on; " * (_LONG // 14)
    assert transfer.decode(transfer.encode_quoted_printable(line), "quoted-printable") == line
    assert transfer.decode(b"=" * _LONG + b"QUJD", "base64") == b"ABC"


QUOTED = st.lists(
    st.sampled_from(
        [b"=", b"\r", b"\n", b"\r\n", b" ", b"\t", b" " * 20, b"=41", b"a", b"\0", b"=\r\n", b"=0D"]
    ),
    max_size=40,
).map(b"".join)


@given(QUOTED, st.sampled_from([1, 7, 1000]))
def test_quoted_printable_is_decoded_in_pieces_as_in_one(body: bytes, piece: int) -> None:
    """MIME-08: what is fast where a sender wants it slow means the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer, "_PIECE", piece)
        assert transfer.decode(body, "quoted-printable") == binascii.a2b_qp(transfer._regular(body))


@given(st.lists(st.sampled_from([b"A", b"QUJD", b"=", b"==", b"\r\n", b"!"]), max_size=30).map(b"".join))
def test_base64_goes_on_after_padding(body: bytes) -> None:
    digits = bytes(one for one in body if one in b"ABCDJQU=")
    groups = [one[: len(one) - (len(one) % 4 == 1)] for one in digits.split(b"=")]
    decoded = [binascii.a2b_base64(one + b"=" * (-len(one) % 4)) for one in groups]
    assert transfer.decode(body, "base64") == b"".join(decoded)
