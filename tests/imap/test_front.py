"""Before the login: what a client may say, what it hears, and that only a whole login is handed on."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.imap.capability import BEFORE_LOGIN
from secmailproxy.imap.front import Front, LoginAttempt

ATTEMPT = LoginAttempt(b"a", "alice@example.org", "correct horse")
TOKEN = base64.b64encode(b"\0alice@example.org\0correct horse")

LOGINS = {
    "quoted": (b'a LOGIN alice@example.org "correct horse"\r\n', b""),
    "any case": (b'a login "alice@example.org" "correct horse"\r\n', b""),
    "literal": (b"a LOGIN {17}\r\nalice@example.org {13}\r\ncorrect horse\r\n", b"+ OK\r\n+ OK\r\n"),
    "literal that does not wait": (b"a LOGIN {17+}\r\nalice@example.org {13+}\r\ncorrect horse\r\n", b""),
    "initial response": (b"a AUTHENTICATE plain " + TOKEN + b"\r\n", b""),
    "two steps": (b"a AUTHENTICATE PLAIN\r\n" + TOKEN + b"\r\n", b"+ \r\n"),
    "after others": (
        b"b NOOP\r\na LOGIN alice@example.org {13+}\r\ncorrect horse\r\n",
        b"b OK NOOP completed.\r\n",
    ),
}
REFUSED = {
    b"a LOGIN alice\r\n": b"a BAD ",
    b"a LOGIN alice b c\r\n": b"a BAD ",
    b"a LOGIN\r\n": b"a BAD ",
    b'a LOGIN alice "a \\wrong escape"\r\n': b"a BAD ",
    b"a AUTHENTICATE PLAIN *\r\n": b"a BAD Authentication cancelled.\r\n",
    b"a AUTHENTICATE PLAIN =\r\n": b"a BAD Malformed PLAIN response.\r\n",
    b"a AUTHENTICATE PLAIN !!!!\r\n": b"a BAD Malformed PLAIN response.\r\n",
    b"a AUTHENTICATE PLAIN x y\r\n": b"a BAD ",
    b"a AUTHENTICATE PLAIN\r\n*\r\n": b"+ \r\na BAD Authentication cancelled.\r\n",
    b"a AUTHENTICATE CRAM-MD5\r\n": b"a NO [CANNOT] ",
    b"a STARTTLS\r\n": b"a BAD Log in first.\r\n",
    b"a SELECT INBOX\r\n": b"a BAD Log in first.\r\n",
    b"\r\n": b"* BAD ",
    b"a\r\n": b"* BAD ",
}


def said(octets: bytes, step: int = 0) -> tuple[LoginAttempt | None, bytes, Front]:
    """The login attempt and what the client hears; the octets come in pieces of `step`."""
    front, attempt = Front(), None
    pieces = [octets[at : at + step] for at in range(0, len(octets), step)] if step else [octets]
    for piece in pieces:
        front.feed(piece)
        attempt = attempt or front.next()
    return attempt, bytes(front.out), front


@pytest.mark.parametrize("name", LOGINS)
@pytest.mark.parametrize("step", [0, 1, 7])
def test_logins(name: str, step: int) -> None:
    octets, heard = LOGINS[name]
    assert said(octets, step)[:2] == (ATTEMPT, heard)


@pytest.mark.parametrize(("octets", "heard"), REFUSED.items())
def test_what_is_no_login(octets: bytes, heard: bytes) -> None:
    attempt, out, front = said(octets)
    assert attempt is None
    assert out.startswith(heard)
    assert not front.closing
    assert said(octets + LOGINS["quoted"][0])[0] == ATTEMPT


def test_what_can_be_asked_without_a_login() -> None:
    _, out, front = said(b'a CAPABILITY\r\nb ID ("name" "x")\r\nc LOGOUT\r\nd NOOP\r\n')
    assert out == (
        b"* CAPABILITY " + BEFORE_LOGIN + b"\r\na OK CAPABILITY completed.\r\n"
        b'* ID ("name" "secmailproxy")\r\nb OK ID completed.\r\n'
        b"* BYE Logging out.\r\nc OK LOGOUT completed.\r\n"
    )
    assert front.client_id == b'("name" "x")'
    assert front.closing


def test_a_long_literal_ends_it() -> None:
    attempt, out, front = said(b"a LOGIN {5000}\r\n")
    assert attempt is None
    assert out == b"* BYE The literal is too long.\r\n"
    assert front.closing


def test_the_octets_after_the_login_are_kept() -> None:
    front = Front()
    front.feed(LOGINS["quoted"][0] + b"b SELECT INBOX\r\nc ")
    assert front.next() == ATTEMPT
    assert front.rest() == b"b SELECT INBOX\r\nc "


def test_a_password_is_not_in_the_text_form() -> None:
    assert "horse" not in repr(ATTEMPT)


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_names_and_passwords_of_any_octets_survive(username: bytes, password: bytes) -> None:
    command = b"a LOGIN {%d+}\r\n%b {%d+}\r\n%b\r\n" % (len(username), username, len(password), password)
    attempt = said(command)[0]
    assert attempt is not None
    assert attempt.username.encode("utf-8", "surrogateescape") == username
    assert attempt.password.encode("utf-8", "surrogateescape") == password


@pytest.mark.parametrize("mistake", [b"a FROB\r\n", b"\r\n", b"a LOGIN x\r\n", b"a AUTHENTICATE PLAIN !\r\n"])
def test_too_many_mistakes_end_it(mistake: bytes) -> None:
    attempt, out, front = said(mistake * 20 + LOGINS["quoted"][0])
    assert attempt is None
    assert front.closing
    assert out.count(b" BAD ") == 11
    assert out.endswith(b"\r\n* BYE Too many errors.\r\n")


def test_too_many_commands_before_a_login_end_it() -> None:
    assert said(b"a NOOP\r\n" * 99 + LOGINS["quoted"][0])[0] == ATTEMPT
    attempt, out, front = said(b"a NOOP\r\n" * 100 + LOGINS["quoted"][0])
    assert attempt is None
    assert (front.closing, front.abuse) == (True, "too many commands before a login")
    assert out.endswith(b"\r\n* BYE Too many commands before a login.\r\n")
