"""The message that tells of the end of an own key, in the INBOX of its address. PURE.

Standards: RFC 5322, RFC 3834 section 5 (Auto-Submitted).
Security: nothing of any message is in it, and nothing of the key but what its certificate tells everybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import TypeAdapter

from secmailproxy.mime.encodedword import ascii_field
from secmailproxy.smtp.notification import AUTHOR


@dataclass(frozen=True, slots=True)
class Reminder:
    """All that a reminder says. `date` as Date fields have it; `message_id` with its angle brackets."""

    account: str
    """The address whose INBOX it goes to."""
    message_id: str
    date: str
    sentence: str
    """What ends, and when."""
    remedy: str
    """The command that helps."""
    kind: Literal["reminder"] = "reminder"

    def to_octets(self) -> bytes:
        """For keeping; `from_octets` gives it back."""
        return _FORM.dump_json(self)

    @classmethod
    def from_octets(cls, octets: bytes) -> Reminder:
        """Raises ValueError for what `to_octets` did not write."""
        return _FORM.validate_json(octets)

    def render(self) -> bytes:
        """The message, 8-bit with CRLF."""
        fields = (
            f"Return-Path: <>\r\nFrom: {AUTHOR}\r\nTo: <{self.account}>\r\nDate: {self.date}\r\n"
            f"Message-ID: {self.message_id}\r\nSubject: Your key for this address ends\r\n"
            "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
        )
        text = "\r\n".join(
            [
                self.sentence,
                "",
                "After that nobody can encrypt to you with it, and mail from this address is",
                "not signed with it. What was encrypted to it can still be read. To go on, run",
                "on the computer of secmailproxy:",
                "",
                f"  {self.remedy}",
                "",
                "secmailproxy on your computer has put this message into your INBOX.",
                "",
            ]
        )
        head = b"".join(map(ascii_field, fields.encode().splitlines(keepends=True)))
        return head + b"\r\n" + text.encode()


_FORM = TypeAdapter(Reminder)


def is_reminder(octets: bytes) -> bool:
    """Whether `Reminder.to_octets` wrote this, or what else is kept beside reminders."""
    try:
        Reminder.from_octets(octets)
    except ValueError:
        return False
    return b'"kind":"reminder"' in octets
