"""MIME-01: the canonical form is safe to sign, changes only what it must, and decodes to the same octets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secmailproxy.errors import MalformedMessage
from secmailproxy.mime import transfer
from secmailproxy.mime.canonical import canonical, clean_field, crlf, is_safe
from secmailproxy.mime.compare import difference
from secmailproxy.mime.entity import Entity, parse

MIXED = (
    b"From: a@example.org\r\nContent-Type: multipart/mixed; boundary=b1\r\n\r\n"
    b"preamble\r\n--b1\r\n%s\r\n--b1\r\nContent-Type: image/png\r\n\r\n%s\r\n--b1--\r\nepilogue\r\n"
)


def leaves(entity: Entity) -> Iterator[Entity]:
    """The leaves in order."""
    if not entity.parts:
        yield entity
    for part in entity.parts:
        yield from leaves(part)


def parts(entity: Entity) -> int:
    """How many entities there are in it, itself counted."""
    return 1 + sum(map(parts, entity.parts))


def contents(entity: Entity) -> list[bytes]:
    """The decoded content of each leaf."""
    return [transfer.decoded_body(leaf) for leaf in leaves(entity)]


def signable(message: bytes) -> bytes:
    """The canonical form, proven to be safe and to say the same."""
    before = parse(message)
    octets = canonical(before).octets
    assert is_safe(octets)
    assert difference(before, parse(octets)) is None
    return octets


@given(st.lists(st.one_of(st.integers(0, 5), st.integers(990, 1005)), min_size=1, max_size=6))
def test_no_line_longer_than_998_is_safe(lengths: list[int]) -> None:
    """RFC 5322 section 2.1.1."""
    octets = b"\r\n".join(b"x" * length for length in lengths)
    assert is_safe(octets) == (max(lengths) <= 998)


@pytest.mark.parametrize(
    "message",
    [
        b"Subject: x\r\n\r\nplain\r\n",
        b"Subject: x\r\n\r\nno final newline",
        b"Subject: x\r\n\r\n",
        b"Subject: folded\r\n value\r\n\t more\r\nX-Empty:\r\n\r\n",
        b"In-Reply-To:\r\n <id@x>\r\nContent-Type:text/plain;charset=us-ascii\r\n\r\na\r\n",
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe=20\r\n",
        b"Content-Transfer-Encoding: base64\r\nContent-Type: a/b\r\n\r\nAAEC\r\n",
        MIXED % (b"Content-Type: text/plain\r\n\r\ntext\r\n", b"ascii"),
        MIXED % (b"\r\n", b""),
        MIXED % (b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nbody", b""),
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nnever closed\r\n",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\nno part at all\r\n",
        b"Content-Type: multipart/signed; boundary=x\r\n\r\n--x\r\n\r\na\r\n--x\r\n\r\nb\r\n--x--\r\n",
    ],
)
def test_a_safe_message_keeps_every_octet(message: bytes) -> None:
    assert signable(message) == message


@pytest.mark.parametrize(
    ("body", "encoded"),
    [
        ("Gr\u00fc\u00dfe\r\n".encode(), b"Gr=C3=BC=C3=9Fe\r\n"),
        (b"flowed \r\ntext\r\n", b"flowed=20\r\ntext\r\n"),
        (b"-- \r\nA. Lice\r\n", b"--=20\r\nA. Lice\r\n"),
        (b"From here on\r\n", b"=46rom here on\r\n"),
        (b"bare\nline feed", b"bare=0Aline feed"),
        (b"bare\rreturn", b"bare=0Dreturn"),
        (b"x" * 1200, b"x" * 75 + b"=\r\n" + (b"x" * 75 + b"=\r\n") * 14 + b"x" * 75),
    ],
)
def test_text_becomes_quoted_printable_where_it_must(body: bytes, encoded: bytes) -> None:
    for field in (b"", b"Content-Transfer-Encoding: 8bit\r\n"):
        made = signable(b"Subject: x\r\nContent-Type: text/plain; format=flowed\r\n" + field + b"\r\n" + body)
        header, _, rest = made.partition(b"\r\n\r\n")
        assert rest == encoded
        assert header.endswith(b"format=flowed\r\nContent-Transfer-Encoding: quoted-printable")


def test_other_types_become_base64() -> None:
    made = signable(
        b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: binary\r\nX-A: 1\r\n\r\n%PDF\xff\n\0"
    )
    assert made == (
        b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\nX-A: 1\r\n\r\n"
        b"JVBERv8KAA==\r\n"
    )


def test_text_with_nul_becomes_base64() -> None:
    text = "\u00fcber\r\n".encode("utf-16-le")
    made = parse(signable(b"Content-Type: text/plain; charset=utf-16le\r\n\r\n" + text))
    assert transfer.encoding_of(made) == "base64"
    assert contents(made) == [text]


def test_only_the_unsafe_leaf_is_touched() -> None:
    safe, unsafe = b"Content-Type:  text/plain\r\n\r\nsafe\r\n", b"\xff\xd8"
    made = signable(MIXED % (safe, unsafe))
    assert b"--b1\r\n" + safe + b"\r\n--b1\r\n" in made
    assert b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n/9g=\r\n" in made
    assert made.startswith(
        b"From: a@example.org\r\nContent-Type: multipart/mixed; boundary=b1\r\n\r\npreamble\r\n"
    )
    assert made.endswith(b"--b1--\r\nepilogue\r\n")


def test_a_container_no_longer_claims_8bit() -> None:
    made = signable(
        b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        b"--b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xc3\xbc\r\n--b--\r\n"
    )
    assert b"8bit" not in made
    assert made.startswith(
        b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
    )


def test_unsafe_preamble_and_epilogue_are_dropped() -> None:
    made = signable(
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n\xfcber alles\r\n--b  \r\n\r\na\r\n"
        b"--b-- \r\nFrom \xff\r\n"
    )
    assert made == b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\na\r\n--b--\r\n"


@pytest.mark.parametrize("start", [b"", b"\r\n", b" \r\n\r\n"])
@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n\r\n", b" \r\n\t\r\n\r\n"])
def test_blank_lines_round_boundaries_are_the_same_for_every_reader(start: bytes, end: bytes) -> None:
    """MIME-01: GMime hashes a blank preamble or epilogue as something else than it is."""
    inner = b"Content-Type: multipart/mixed; boundary=in\r\n\r\n%b--in\r\n\r\na\r\n\r\n--in--%b"
    outer = b"Content-Type: multipart/mixed; boundary=out\r\n\r\n%b--out\r\n%b\r\n--out--%b"
    regular = outer % (b"", inner % (b"", b"\r\n"), b"\r\n")
    assert signable(outer % (start, inner % (start, end), end)) == regular
    forwarded = b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\n"
    assert signable(forwarded + outer % (start, inner % (start, end), end)) == forwarded + regular


def test_leaves_of_an_embedded_message_are_encoded_in_place() -> None:
    inner = b"Subject: inner\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xc3\xbc \r\n"
    made = signable(
        MIXED % (b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + inner, b"")
    )
    assert b"Subject: inner\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=BC=20\r\n" in made
    assert b"message/rfc822\r\nContent-Transfer-Encoding: 7bit\r\n" in made


@pytest.mark.parametrize(
    "inner",
    [
        b"Subject: \xfcber\r\n\r\nbody\r\n",
        b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\n-- \r\n--s\r\n\r\nsig\r\n--s--\r\n",
        b"Subject: x\r\nContent-Transfer-Encoding: x-unknown\r\n\r\n\xff",
        b"Subject: " + b"x" * 1000 + b"\r\n\r\nbody",
    ],
)
def test_an_embedded_message_that_must_not_change_is_carried_whole(inner: bytes) -> None:
    made = parse(signable(MIXED % (b"Content-Type: Message/RFC822; x=y\r\n\r\n" + inner, b"")))
    part = made.parts[0]
    assert part.content_type.full == "message/global"
    assert part.content_type.param("x") == "y"
    assert transfer.decoded_body(part) == inner


def test_a_digest_part_that_must_not_change_gets_a_type() -> None:
    inner = b"Subject: \xfcber\r\n\r\nbody"
    made = parse(
        signable(b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\n" + inner + b"\r\n--b--\r\n")
    )
    assert made.parts[0].content_type.full == "message/global"
    assert contents(made) == [inner]


@pytest.mark.parametrize(
    "message",
    [
        MIXED
        % (
            b"Content-Type: multipart/signed; boundary=s\r\n\r\n--s\r\n\r\n-- \r\n--s\r\n\r\nsig\r\n--s--",
            b"",
        ),
        b"Subject: x\r\nContent-Transfer-Encoding: x-unknown\r\n\r\n\xff",
        b"Subject: " + b"x" * 1000 + b"\r\n\r\nbody",
        b"Subject: a\rb\r\n\r\nbody",
        b"Subject: a\0b\r\n\r\nbody",
        b"From a@example.org Thu Jan  1 00:00:00 2026\r\nSubject: x\r\n\r\nbody",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\nno part, \xff\r\n",
    ],
)
def test_what_has_no_safe_form_is_refused_without_its_text(message: bytes) -> None:
    with pytest.raises(MalformedMessage) as refusal:
        canonical(parse(message))
    assert "cannot be signed without changing it" in refusal.value.text
    assert "body" not in refusal.value.text


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        (b"Subject: a\r\n", b"Subject: a\r\n"),
        (b"Subject: a\n b\n", b"Subject: a\r\n b\r\n"),
        (b"Subject: a  \r\n", b"Subject: a\r\n"),
        (b"Subject: a  \r\n b\r\n", b"Subject: a\r\n   b\r\n"),
        (b"Subject: a\r\n \t\r\n b \r\n", b"Subject: a\r\n \t b\r\n"),
        (b"Subject: a\r\n \r\n", b"Subject: a\r\n"),
        (b"X-Empty: \r\n", b"X-Empty:\r\n"),
        (b"In-Reply-To:\r\n <a@b>", b"In-Reply-To:\r\n <a@b>\r\n"),
    ],
)
def test_fields_lose_blanks_at_line_ends_only(raw: bytes, cleaned: bytes) -> None:
    assert clean_field(raw) == cleaned
    unfolded = raw.replace(b"\r\n", b"").replace(b"\n", b"")
    assert cleaned.replace(b"\r\n", b"") == unfolded.rstrip()


def test_raw_8bit_fields_are_written_in_ascii() -> None:
    made = signable(
        'Subject: Gr\u00fc\u00dfe\r\nContent-Disposition: inline; filename="\u00fc.txt"\r\n\r\na\r\n'.encode()
    )
    assert made == (
        b"Subject: =?utf-8?B?R3LDvMOfZQ==?=\r\n"
        b"Content-Disposition: inline; filename*=utf-8''%C3%BC.txt\r\n\r\na\r\n"
    )


@pytest.mark.parametrize(
    ("octets", "made"),
    [
        (b"A: b\n\nc\nd", b"A: b\r\n\r\nc\r\nd"),
        (b"A: b\n\nc\r\nd\n", b"A: b\r\n\r\nc\r\nd\r\n"),
        (b"A: b\r\n\r\nbare\nstays", b"A: b\r\n\r\nbare\nstays"),
        (b"no line end", b"no line end"),
        (b"\nbody", b"\r\nbody"),
        (b"", b""),
    ],
)
def test_files_get_crlf(octets: bytes, made: bytes) -> None:
    assert crlf(octets) == made


PIECES = st.sampled_from(
    [
        *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"From ", b" ", b"\t", b"a", b"=", b"\xc3\xbc", b"\xff", b"\0"),
        *(b"--b", b"--c", b"--b--", b"x" * 80, b"y" * 999, b"=\r\n", b"=C3", b"Zm9v"),
        b"Content-Type: text/plain\r\n",
    ]
)
BODY = st.lists(PIECES, max_size=12).map(b"".join)
ENCODINGS = st.sampled_from([b"", b"7bit", b"8bit", b"binary", b"base64", b"Quoted-Printable (comment)"])
TYPES = st.sampled_from([b"text/plain", b"image/png", b"message/delivery-status", b"message/global"])


@st.composite
def leaf_parts(draw: st.DrawFn) -> bytes:
    encoding = draw(ENCODINGS)
    field = b"Content-Transfer-Encoding: " + encoding + b"\r\n" if encoding else b""
    return b"Content-Type: " + draw(TYPES) + b"\r\n" + field + b"\r\n" + draw(BODY)


def containers(children: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    def multipart(parts: list[bytes], boundary: bytes, subtype: bytes, preamble: bytes) -> bytes:
        inside = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
        head = b"Content-Type: multipart/" + subtype + b"; boundary=" + boundary + b"\r\n\r\n"
        return head + preamble + b"\r\n" + inside + b"--" + boundary + b"--\r\n"

    return st.builds(
        multipart,
        st.lists(children, min_size=1, max_size=3),
        st.sampled_from([b"b", b"c", b"bb"]),
        st.sampled_from([b"mixed", b"alternative", b"digest"]),
        BODY,
    ) | st.builds(lambda inner: b"Content-Type: message/rfc822\r\n\r\nSubject: x \r\n" + inner, children)


@settings(max_examples=300)
@given(st.recursive(leaf_parts(), containers, max_leaves=4))
def test_any_message_is_made_safe_and_says_the_same(message: bytes) -> None:
    before = parse(message)
    try:
        form = canonical(before)
    except MalformedMessage:
        return
    after = parse(form.octets)
    assert is_safe(form.octets)
    assert difference(before, after) is None
    assert canonical(after).octets == form.octets
    assert len(form.octets) <= 78 / 57 * len(message) + 120 * parts(after)
    if "message/global" not in [leaf.content_type.full for leaf in leaves(after)]:
        assert contents(after) == contents(before)


@given(BODY)
def test_only_header_trouble_or_signed_parts_make_a_single_leaf_unsignable(body: bytes) -> None:
    before = parse(b"Content-Type: text/plain\r\n\r\n" + body)
    assert contents(parse(canonical(before).octets)) == [body]


def test_long_runs_of_blanks_cost_no_more_than_their_length() -> None:
    """In a preamble, and in the folds of a field."""
    blanks = b" \t" * 500_000 + b"x \r\n"
    message = parse(
        b"X-Field: a\r\n "
        + b" " * 200_000
        + b"x \r\n y\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        + blanks
        + b"--b\r\n\r\ntext\r\n--b--\r\n"
    )
    with pytest.raises(MalformedMessage):
        canonical(message)
    assert canonical(parse(message.octets[message.fields[1].start :])).body.startswith(b"--b\r\n")
