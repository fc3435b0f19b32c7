"""What a draft, sent mail or a mailbox at rest shows outside, and that its octets are inside."""

from __future__ import annotations

import pytest

from secmailproxy.mime.entity import parse
from secmailproxy.mime.kept import original
from secmailproxy.mime.owncopy import for_owner, for_rest

HEAD = (
    b"From: <alice@example.org>\r\nTo: <bob@example.com>\r\nBcc: <carol@example.net>\r\n"
    b"Subject: The treasure\r\nMessage-ID: <1@example.org>\r\nX-Mozilla-Status: 0001\r\n"
)
PLAIN = HEAD + b"Content-Type: text/plain\r\n\r\nUnder the windmill.\r\n"
SIGNED = (
    HEAD + b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; boundary="s"\r\n\r\n'
    b"--s\r\nContent-Type: text/plain\r\n\r\nUnder the windmill.\r\n"
    b"--s\r\nContent-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"MAA=\r\n--s--\r\n"
)


@pytest.mark.parametrize("message", [PLAIN, SIGNED, PLAIN[:-40], HEAD.removesuffix(b"\r\n")])
def test_a_message_at_rest_comes_back(message: bytes) -> None:
    ready = for_rest(parse(message))
    assert original(ready.payload) == message
    assert b"".join(ready.outer) == (
        b"From: <alice@example.org>\r\nTo: <bob@example.com>\r\nSubject: [...]\r\n"
        b"Message-ID: <1@example.org>\r\n"
    )


def test_what_was_signed_for_others_shows_what_they_were_shown() -> None:
    """Its header is as it left, without the blind recipient; the signature stays next to what it covers."""
    ready = for_owner(parse(SIGNED))
    assert ready.payload == SIGNED
    shown = b"".join(ready.outer)
    assert b"Subject: The treasure\r\n" in shown
    assert b"carol" not in shown
    assert b"Content-Type" not in shown


def test_a_draft_is_kept_like_a_message_at_rest() -> None:
    assert for_owner(parse(PLAIN)) == for_rest(parse(PLAIN))
