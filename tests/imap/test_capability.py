"""What a server can do, as the client hears it: the allow-list and nothing else."""

from __future__ import annotations

import pytest

from secmailproxy.imap import capability


@pytest.mark.parametrize(
    ("line", "heard"),
    [
        (
            b"* CAPABILITY IMAP4rev1 COMPRESS=DEFLATE IDLE CATENATE UIDPLUS STARTTLS AUTH=PLAIN\r\n",
            b"* CAPABILITY IMAP4rev1 IDLE UIDPLUS LITERAL-\r\n",
        ),
        (
            b"* capability imap4rev1 quota=storage CATENATE\r\n",
            b"* CAPABILITY imap4rev1 quota=storage LITERAL-\r\n",
        ),
        (
            b"OK [CAPABILITY IMAP4rev1 OBJECTID UTF8=ACCEPT] Logged in.\r\n",
            b"OK [CAPABILITY IMAP4rev1 OBJECTID LITERAL-] Logged in.\r\n",
        ),
        (b"OK [ALERT] CAPABILITY is a word\r\n", b"OK [ALERT] CAPABILITY is a word\r\n"),
        (b"* 3 FETCH (FLAGS ())\r\n", b"* 3 FETCH (FLAGS ())\r\n"),
    ],
)
def test_lists_are_cut_to_what_passes(line: bytes, heard: bytes) -> None:
    assert capability.rewrite(line) == heard


@pytest.mark.parametrize(
    ("arguments", "admitted"),
    [
        (b" CONDSTORE", b"CONDSTORE"),
        (b" utf8=accept qresync X", b"qresync"),
        (b" UTF8=ACCEPT", b""),
        (b"", b""),
    ],
)
def test_what_may_be_enabled(arguments: bytes, admitted: bytes) -> None:
    assert capability.admit_enable(arguments) == admitted


def test_commands_that_pass_are_not_those_that_touch_content_or_state() -> None:
    assert not capability.PASSED_COMMANDS & capability.STATE_COMMANDS
    for name in ("FETCH", "UID FETCH", "APPEND", "STARTTLS", "COMPRESS", "AUTHENTICATE", "NOTIFY", "SORT"):
        assert name not in capability.PASSED_COMMANDS | capability.STATE_COMMANDS
