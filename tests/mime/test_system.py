"""FWD-02, FWD-08: the whole original inside, an outside of fixed fields only."""

from __future__ import annotations

import pytest

from secmailproxy.mime import header
from secmailproxy.mime.entity import parse
from secmailproxy.mime.system import SystemHeader, system_message

HEAD = SystemHeader("root@host.example", "admin@example.org", "mark")
OUTSIDE = ["From", "To", "Date", "Message-ID", "Subject", "Auto-Submitted", "X-Loop"]


@pytest.mark.parametrize(
    ("original", "encoding", "subject"),
    [
        (b"Subject: cron\r\n\r\nfailed\r\n", "7bit", b"cron"),
        (b"Subject: a\r\n b\r\n\r\n\xfc no line end", "8bit", b"a b"),
        (b"X-Cron-Env: <SECRET=1>\r\n\r\nbare\nline\rfeeds\0", "binary", b"Encrypted system mail"),
        (b"Subject: x\r\n\r\n" + b"y" * 2000, "binary", b"x"),
        (b"Subject: " + b"x" * 900 + b"\r\n\r\n", "7bit", b"Encrypted system mail"),
        (b"Subject: a\0b\r\n\r\n", "binary", b"Encrypted system mail"),
        (b"no header at all", "7bit", b"Encrypted system mail"),
        ("Subject: Gr\u00fc\u00dfe\r\n\r\n".encode(), "8bit", b"=?utf-8?B?R3LDvMOfZQ==?="),
    ],
)
def test_the_original_is_inside_as_it_is(original: bytes, encoding: str, subject: bytes) -> None:
    made = system_message(
        original, HEAD, date="Sat, 21 Nov 2026 12:00:00 +0000", message_id="<1@host.example>"
    )
    inside = parse(made.payload)
    assert inside.body == original
    assert inside.content_type.full == "message/rfc822"
    assert inside.content_type.param("hp") == "cipher"
    assert header.value(inside, "Content-Transfer-Encoding") == encoding.encode()
    assert header.value(inside, "Subject") == subject
    assert [raw.split(b":")[0].decode() for raw in made.outer] == OUTSIDE
    assert made.outer[4] == b"Subject: Encrypted system mail\r\n"


def test_without_a_mark_there_is_no_loop_field() -> None:
    made = system_message(b"a: b\r\n\r\n", SystemHeader("a@b", "c@d"), date="now", message_id="<1@x>")
    assert not any(raw.startswith(b"X-Loop") for raw in made.outer)
