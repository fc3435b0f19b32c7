"""What is kept comes back octet for octet, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.errors import LimitExceeded
from secmailproxy.mime.entity import parse
from secmailproxy.mime.kept import kept, original
from secmailproxy.mime.protected import own_copy
from secmailproxy.mime.shown import wrapped_message

HEAD = b"From: a@example.org\r\nSubject: windmill\r\nReceived: by mx\r\n"
SIGNED = (
    b'Content-Type: multipart/signed; boundary=s; protocol="application/pgp-signature"\r\n\r\n'
    b"--s\r\n\r\ntext\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\n-\r\n--s--\r\n"
)


def fields_of(octets: bytes) -> list[bytes]:
    root = parse(octets)
    return [field.raw(octets).rstrip(b"\r\n") + b"\r\n" for field in root.fields]


def payload_of(octets: bytes) -> bytes:
    return kept(parse(octets), fields_of(octets), own_copy).payload


@pytest.mark.parametrize(
    ("octets", "embedded"),
    [
        (HEAD + b"\r\nbody", False),
        (HEAD + b"Content-Type: text/plain; charset=utf-8\r\n\r\n\xc3\xbc\r\n", False),
        (HEAD + b"Content-Type: text/plain\r\nX-After: y\r\n\r\nbody\r\n", False),
        (HEAD + b"Secmail-Original: sha256=" + b"0" * 64 + b"\r\n\r\nnot ours\r\n", False),
        # What protecting the header would change:
        (HEAD + b"Content-Type: text/plain ;\r\n\r\nbody\r\n", True),
        (HEAD + b"Content-Type: text/plain; hp=clear\r\n\r\nbody\r\n", True),
        (HEAD + b"HP-Outer: Subject: x\r\n\r\nbody\r\n", True),
        (HEAD + b"stray line\n with a bare line end\n\nbody\r\n", True),
        (HEAD + b"Subject: another\r\n\r\nbody\r\n", True),
        (HEAD, True),
        (b"", True),
        (b"\r\nno header\r\n", False),
        (HEAD + SIGNED, True),
    ],
)
def test_the_original_comes_back(octets: bytes, embedded: bool) -> None:
    ready = kept(parse(octets), fields_of(octets), own_copy)
    assert original(ready.payload) == octets
    assert (wrapped_message(parse(ready.payload)) is not None) is embedded
    assert not [raw for raw in ready.outer if b"windmill" in raw or b"Received" in raw]
    assert len({raw.partition(b":")[0].lower() for raw in ready.outer}) == len(ready.outer)


@given(
    st.lists(st.sampled_from([*HEAD.splitlines(True), b"\r\n", b"\n", b"\r", b" x", b":", b"a: b", b"\x80"]))
)
def test_any_octets_come_back(pieces: list[bytes]) -> None:
    octets = b"".join(pieces)
    assert original(payload_of(octets)) == octets


@pytest.mark.parametrize(
    "change",
    [
        lambda payload: payload.replace(b"windmill", b"watermill"),
        lambda payload: payload[:-1],
        lambda payload: payload.replace(b"Secmail-Original", b"X-Original"),
        lambda payload: payload.replace(b"sha256=", b"sha256=0"),
        lambda payload: b"\r\n" + payload,
    ],
)
def test_what_was_changed_does_not_come_back(change: object) -> None:
    assert callable(change)
    assert original(change(payload_of(HEAD + b"\r\nthe windmill\r\n"))) is None


def test_what_is_beyond_the_limits_is_not_kept() -> None:
    with pytest.raises(LimitExceeded):
        payload_of(b"A: b\r\n" * 2000 + b"\r\nbody")
