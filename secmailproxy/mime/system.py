"""A message of this machine about itself, whole inside a new message whose outside tells nothing.

The original is an embedded message: its header and body arrive as they were, and every client shows them. The
new message has its own protected header, with the original's subject inside only.

    outside   From, To, Date, Message-ID, Subject (always the same), Auto-Submitted, loop mark, MIME fields
    inside    the same fields with the original's subject, then message/rfc822: the original

Standards: RFC 2046 section 5.2.1 (message/rfc822), RFC 9788, RFC 3834 section 5 (Auto-Submitted).
"""

from __future__ import annotations

from dataclasses import dataclass

from secmailproxy.mime import header
from secmailproxy.mime.canonical import clean_field, embedding, is_safe
from secmailproxy.mime.encodedword import ascii_field
from secmailproxy.mime.entity import parse
from secmailproxy.mime.protected import ProtectedMessage, Protects, protect_header

SUBJECT = b"Subject: Encrypted system mail\r\n"
LOOP_FIELD = "X-Loop"
_SUBJECT_MOST = 500


@dataclass(frozen=True, slots=True)
class SystemHeader:
    """What the outside of a system message says: addresses, and the mark of this host ("" for none)."""

    author: str
    rcpt_to: str
    loop: str = ""


def system_message(octets: bytes, head: SystemHeader, *, date: str, message_id: str) -> ProtectedMessage:
    """The payload and the outer fields for the message `octets` (CRLF), ready to be encrypted.

    The addresses of `head` must be checked: they stand in header fields as they are.
    """
    fields = [
        f"From: {head.author}\r\n".encode(),
        f"To: {head.rcpt_to}\r\n".encode(),
        f"Date: {date}\r\n".encode("ascii"),
        f"Message-ID: {message_id}\r\n".encode("ascii"),
        _subject(octets),
        b"Auto-Submitted: auto-generated\r\n",
        *([f"{LOOP_FIELD}: {head.loop}\r\n".encode("ascii")] if head.loop else []),
        b"MIME-Version: 1.0\r\n",
        b"Content-Type: message/rfc822\r\n",
        f"Content-Transfer-Encoding: {embedding(octets)}\r\n".encode("ascii"),
    ]
    return protect_header(fields, octets, Protects.CIPHER, _fixed_subject)


def _fixed_subject(name: str, raw: bytes) -> bytes | None:
    return SUBJECT if name == "subject" else raw


def _subject(octets: bytes) -> bytes:
    """The original's subject, for inside; the fixed one where it has none that fits into a field."""
    field = header.find(parse(octets), "Subject")
    if field is None:
        return SUBJECT
    raw = ascii_field(clean_field(field.raw(octets)))
    return raw if is_safe(raw) and len(raw) <= _SUBJECT_MOST else SUBJECT
