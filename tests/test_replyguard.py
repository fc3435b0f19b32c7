"""SMTP-20: what answers an encrypted message does not leave in clear; by values alone."""

from __future__ import annotations

import base64
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secmailproxy.mime.entity import parse
from secmailproxy.model import Protection
from secmailproxy.replyguard import REFUSAL, Leaving, is_in_clear, must_not_be_known, named_ids, own_ids
from secmailproxy.smtp.replies import LINE_LIMIT

IN_CLEAR = {Protection.NONE, Protection.SIGNED}


@pytest.mark.parametrize(
    ("protection", "guarded", "wished"), list(product(Protection, [True, False], [True, False]))
)
def test_the_whole_table(protection: Protection, guarded: bool, wished: bool) -> None:
    named = frozenset({b"a@x", b"b@x"})
    is_held = (protection in IN_CLEAR, guarded, wished) == (True, True, False)
    assert must_not_be_known(Leaving(protection, guarded, wished, named)) == (named if is_held else set())
    assert is_in_clear(protection) is (protection in IN_CLEAR)


def test_the_refusal_fits_a_reply_and_names_the_remedies() -> None:
    assert len(f"554 5.7.1 {REFUSAL}\r\n") <= LINE_LIMIT
    assert REFUSAL.isascii()
    assert "certificates" in REFUSAL
    assert "X-Secmailproxy-Protect: never" in REFUSAL


@pytest.mark.parametrize(
    "fields",
    [
        b"In-Reply-To: <A.1@Example.org>\r\n",
        b"in-reply-to:<a.1@example.org>\r\n",
        b"In-Reply-To: your mail of Monday <a.1@example.org>\r\n",
        b"In-Reply-To: a.1@example.org\r\n",
        b"In-Reply-To: \xff (<x@y>) <a.1@\r\n example.org>\r\n",
        b"References: <0@x> <a.1@example.org>\r\n",
        b"References: <0@x>,<a.1@example.org>\r\n",
        b"References: <0@x><a.1@example.org>\r\n",
        b"References: <0@x>\r\n\t<a.1@example.org>\r\n",
        b"References: <0@x>\r\nReferences: <a.1@example.org>\r\n",
        b"X-Forwarded-Message-Id: <a.1@example.org>\r\n",
        b"Original-Message-ID: <a.1@example.org>\r\n",
        b"In-Reply-To: <a.1 (hidden) @example.org>\r\n",
        b"In-Reply-To: <<a.1@example.org>>\r\n",
        b"In-Reply-To: =?utf-8?q?=3Ca=2E1=40example=2Eorg=3E?=\r\n",
        b"References: =?us-ascii?Q?=3C0=40x=3E_=3Ca=2E1?=\r\n =?us-ascii?Q?=40example=2Eorg=3E?=\r\n",
    ],
)
def test_every_spelling_names_it(fields: bytes) -> None:
    message = b"From: a@b\r\n" + fields + b"Subject: Re\r\n\r\n> text\r\n"
    assert b"a.1@example.org" in named_ids(parse(message))
    assert own_ids(b"Subject: x\r\nMessage-Id:\r\n <a.1@EXAMPLE.org> \r\n\r\n") == {b"a.1@example.org"}


@pytest.mark.parametrize(
    "written", [b"number-17", b"<number-17>", b"<Number-17", b'"number-17"', b"number\t-17"]
)
def test_what_is_no_message_id_is_compared_whole(written: bytes) -> None:
    own = own_ids(b"Message-ID: number-17\r\n\r\n")
    assert own == named_ids(parse(b"In-Reply-To: " + written + b"\r\n\r\n")) == {b"number-17"}


EMBEDDED = (
    b'Subject: Fwd\r\nContent-Type: multipart/mixed; boundary="m"\r\n\r\n--m\r\n\r\nlook\r\n'
    b"--m\r\nContent-Type: message/rfc822\r\n\r\nMessage-ID: <a@x>\r\n%b\r\ntext\r\n--m--\r\n"
)


@pytest.mark.parametrize("others", [0, 3000], ids=["few", "thousands"])
@pytest.mark.parametrize("end", [b"", b"\r\n"], ids=["no blank line", "blank line"])
def test_smtp_20_the_own_id_is_found_among_any_fields(others: int, end: bytes) -> None:
    """To miss it would let an answer leave in clear."""
    assert own_ids(b"X: y\r\n" * others + b"Message-ID: <a@x>\r\n" + end) == {b"a@x"}


def test_what_is_forwarded_as_an_attachment_is_named() -> None:
    assert named_ids(parse(EMBEDDED % b"")) == {b"a@x"}
    assert named_ids(parse(b"Subject: x\r\n\r\nIn-Reply-To: <a@x>\r\n")) == frozenset()


ATTACHED = b"Message-ID: <a@x>\r\nSubject: x\r\n\r\ntext\r\n"


@pytest.mark.parametrize(
    ("kind", "encoding", "body"),
    [
        (b"message/rfc822", b"base64", base64.encodebytes(ATTACHED)),
        (b"message/rfc822", b"quoted-printable", ATTACHED.replace(b"<", b"=3C")),
        (b"message/global", b"8bit", ATTACHED),
        (b"message/global", b"base64", base64.encodebytes(ATTACHED)),
        (b"text/rfc822-headers", b"7bit", ATTACHED.partition(b"\r\n\r\n")[0] + b"\r\n"),
    ],
)
def test_an_attached_message_is_found_in_every_encoding(kind: bytes, encoding: bytes, body: bytes) -> None:
    """Clients encode attached messages against RFC 2046, and RFC 6532 allows it."""
    part = b"Content-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (kind, encoding, body)
    message = b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n" + part + b"\r\n--m--\r\n"
    assert b"a@x" in named_ids(parse(message))


def test_messages_in_messages_without_end_are_read_to_a_depth() -> None:
    """Of thousands, each encoded, only the first few are decoded."""
    inside = b"Content-Type: message/global\r\n\r\n" * 5000
    message = b"In-Reply-To: <a@x>\r\n" + inside + ATTACHED
    assert named_ids(parse(message)) == {b"a@x"}


def test_a_message_that_is_sent_on_as_it_was_names_itself() -> None:
    message = b"Resent-To: c@x\r\nResent-Message-ID: <b@x>\r\nMessage-ID: <a@x>\r\n\r\ntext\r\n"
    assert named_ids(parse(message)) == {b"a@x"}


def test_an_attached_message_that_is_encrypted_itself_may_go() -> None:
    kind = b'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary="e"\r\n'
    assert named_ids(parse(EMBEDDED % kind)) == frozenset()


_WORDS = st.text("abcdefgh0123456789.-+$_", min_size=1, max_size=20).map(str.encode)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(_WORDS, _WORDS), min_size=1, max_size=30), st.sampled_from([b" ", b"\r\n ", b"", b","])
)
def test_every_id_of_a_thread_is_named(pairs: list[tuple[bytes, bytes]], between: bytes) -> None:
    ids = [b"%b@%b" % pair for pair in pairs]
    fields = b"References: " + between.join(b"<%b>" % one for one in ids) + b"\r\n"
    assert named_ids(parse(fields + b"\r\nx")) == set(ids)


@settings(max_examples=50)
@given(st.binary(max_size=300))
def test_nothing_that_clients_write_is_an_error(octets: bytes) -> None:
    named_ids(parse(b"References: " + octets + b"\r\n\r\nx"))
    own_ids(b"Message-ID: " + octets)
