"""SMTP-10: what the notification about copies that failed says, and what it never says."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from email.message import EmailMessage

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from secmailproxy.model import Reply
from secmailproxy.smtp.notification import Notification, Recipient, recipient, render, returned_header
from secmailproxy.smtp.replies import ReplyReader

SUBMITTED = (
    b"From: Alice <alice@example.org>\nTo: bob@example.org\nBcc: dave@example.org\nReceived: from here\n"
    b"Subject: the windmill\nDate: Fri, 20 Nov 2026 12:00:00 +0000\nMessage-ID: <1@example.org>\n"
    b"X-Secmailproxy-Protect: require\n\nthe treasure\n"
)
DAVE = Recipient(
    "dave@example.org", "rfc822;Dave+2Bx@Example.org", 554, "5.7.1 spam\nsee there", unknown=False
)
ERIN = Recipient("erin@example.org", "", 451, "4.4.2 it broke", unknown=True)
NOTIFICATION = Notification(
    account="alice@example.org",
    message_id="<n1@secmailproxy.localhost>",
    date="Fri, 20 Nov 2026 12:00:05 +0000",
    arrived="Fri, 20 Nov 2026 12:00:04 +0000",
    boundary="=-b",
    envelope_id="a+2Bb",
    recipients=(DAVE, ERIN),
    header=returned_header(SUBMITTED),
)


def read(octets: bytes) -> EmailMessage:
    """As any program reads it."""
    return email.message_from_bytes(octets, policy=email.policy.default)


def test_it_is_a_delivery_status_notification() -> None:
    """RFC 3464: three parts; RFC 3834: an answer that nothing answers; from an address of this machine."""
    message = read(render(NOTIFICATION, plainly=False))
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert {name: message[name] for name in ("Return-Path", "Auto-Submitted", "To", "In-Reply-To")} == {
        "Return-Path": "<>",
        "Auto-Submitted": "auto-replied",
        "To": "alice@example.org",
        "In-Reply-To": "<1@example.org>",
    }
    assert message["From"].addresses[0].addr_spec == "mailer-daemon@secmailproxy.localhost"
    assert message["Message-ID"] == "<n1@secmailproxy.localhost>"
    text, status, returned = message.iter_parts()
    assert [part.get_content_type() for part in (text, status, returned)] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    whole, *each = status.get_payload()
    assert dict(whole.items()) == {
        "Original-Envelope-Id": "a+b",
        "Reporting-MTA": "dns; localhost",
        "Arrival-Date": "Fri, 20 Nov 2026 12:00:04 +0000",
    }
    assert [dict(one.items()) for one in each] == [
        {
            "Original-Recipient": "rfc822; Dave+x@Example.org",
            "Final-Recipient": "rfc822; dave@example.org",
            "Action": "failed",
            "Status": "5.7.1",
            "Diagnostic-Code": "smtp; 554 5.7.1 spam see there",
        },
        {
            "Final-Recipient": "rfc822; erin@example.org",
            "Action": "failed",
            "Status": "4.4.2",
            "Diagnostic-Code": "smtp; 451 4.4.2 it broke",
        },
    ]


def test_people_are_told_what_is_not_known() -> None:
    text, *_ = read(render(NOTIFICATION, plainly=False)).iter_parts()
    of_dave, of_erin = text.get_content().partition("erin@example.org")[::2]
    assert "554 5.7.1 spam see there" in of_dave
    assert "may have arrived" not in of_dave
    assert "may have arrived" in " ".join(of_erin.split())
    assert all(len(line) < 79 for line in text.get_content().splitlines()), "a terminal breaks longer lines"


@pytest.mark.parametrize("plainly", [False, True])
def test_no_body_and_no_field_of_others_comes_back(plainly: bool) -> None:
    octets = render(NOTIFICATION, plainly=plainly)
    assert b"treasure" not in octets
    assert b"Bcc" not in octets.replace(b"(Bcc)", b"")
    assert b"X-Secmailproxy" not in octets
    assert b"Received" not in octets
    *_, returned = read(octets).iter_parts()
    fields = read(returned.get_payload(decode=True) or b"")
    assert fields["Message-ID"] == "<1@example.org>"
    assert fields["Subject"] == (None if plainly else "the windmill")
    assert fields["To"] == (None if plainly else "bob@example.org")


def test_addresses_that_are_not_ascii() -> None:
    """RFC 6533 section 3: in 7 bit, and for people as they are."""
    one = Recipient("döra@exämple.org", "utf-8;d\\x{F6}ra@example.org", 550, "5.1.1 no", unknown=False)
    message = read(render(replace(NOTIFICATION, recipients=(one,)), plainly=False))
    text, status, _ = message.iter_parts()
    assert "döra@exämple.org" in text.get_content()
    assert status.get_payload()[1]["Final-Recipient"] == "utf-8; d\\x{F6}ra@ex\\x{E4}mple.org"


_TEXTS = st.text(st.characters(codec="utf-8"), max_size=60)


@settings(max_examples=60)
@example(reply="", original="", envelope_id="", header=b"\r\x00")
@given(reply=_TEXTS, original=_TEXTS, envelope_id=_TEXTS, header=st.binary(max_size=200))
def test_nothing_that_others_say_adds_a_field_or_a_part(
    reply: str, original: str, envelope_id: str, header: bytes
) -> None:
    """Of the smarthost's reply, of ESMTP parameters and of the message."""
    one = recipient("dave@example.org", (f"ORCPT={original}",), Reply(554, reply), unknown=False)
    told = replace(
        NOTIFICATION,
        recipients=(one,),
        envelope_id=envelope_id,
        header=returned_header(b"Subject: " + header + b"\n" + SUBMITTED),
    )
    assert Notification.from_octets(told.to_octets()) == told
    octets = render(told, plainly=False)
    assert octets.count(b"\r\n") == octets.count(b"\n")
    assert octets.count(b"\r") == octets.count(b"\n")
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    _, status, _ = read(octets).iter_parts()
    whole, person = status.get_payload()
    assert set(whole.keys()) <= {"Original-Envelope-Id", "Reporting-MTA", "Arrival-Date"}
    assert set(person.keys()) <= {
        "Original-Recipient", "Final-Recipient", "Action", "Status", "Diagnostic-Code",
    }  # fmt: skip


@pytest.mark.parametrize("octets", [b"", b"{}", b"[]", b'{"recipients": [[1]]}', b"\xff"])
def test_what_was_not_kept_is_not_read(octets: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Notification.from_octets(octets)


@given(octets=st.binary(max_size=60))
@example("5.7.1 unerw\xfcnscht".encode("latin-1"))
def test_any_reply_can_be_kept_and_reported(octets: bytes) -> None:
    """Whatever the server speaks; what cannot be kept would be lost with the process."""
    (reply,) = ReplyReader().feed(b"554 " + octets.translate(None, b"\n") + b"\r\n")
    failed = replace(NOTIFICATION, recipients=(recipient("dave@example.org", (), reply, unknown=False),))
    kept = Notification.from_octets(failed.to_octets())
    assert kept == failed
    assert b"dave@example.org" in render(kept, plainly=True)
