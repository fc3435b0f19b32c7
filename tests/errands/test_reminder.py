"""What is kept of a reminder, and the message that it becomes."""

from __future__ import annotations

import email
import email.policy

from secmailproxy.errands.reminder import Reminder, is_reminder
from secmailproxy.smtp.notification import Notification

DATE = "Sun, 22 Nov 2026 02:00:00 +0000"
REMINDER = Reminder("zo\u00eb@example.org", "<1@example.org>", DATE, "It ends.", "do this")


def test_it_is_a_message() -> None:
    octets = REMINDER.render()
    assert b"\n" not in octets.replace(b"\r\n", b"")
    parsed = email.message_from_bytes(octets, policy=email.policy.default)
    assert (parsed["Message-ID"], parsed["Auto-Submitted"]) == ("<1@example.org>", "auto-generated")
    assert "zo\u00eb@example.org" in parsed["To"]
    assert parsed.get_content().splitlines()[0] == "It ends."
    assert "  do this" in parsed.get_content().splitlines()
    assert parsed.defects == []


def test_it_is_told_from_a_notification() -> None:
    assert is_reminder(REMINDER.to_octets())
    assert Reminder.from_octets(REMINDER.to_octets()) == REMINDER
    other = Notification("a@example.org", "<1@b>", "", "", "", "", (), "X: reminder\r\n").to_octets()
    assert not is_reminder(other)
    assert not is_reminder(b"text")
