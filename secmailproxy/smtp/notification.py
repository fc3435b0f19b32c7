"""The delivery status notification about copies that failed after the message was accepted for others. PURE.

It names blind recipients, so it is for the sender's own INBOX alone. What comes back of the message is a few
fields of its header, never its body. It goes through no mail server: there is no envelope sender that could
be answered, and Return-Path says so.

Standards: RFC 3464 (multipart/report, message/delivery-status), RFC 6522 (text/rfc822-headers), RFC 6533
section 3 (addresses that are not ASCII), RFC 3834 section 3.1 (Auto-Submitted, In-Reply-To), RFC 6761
section 6.3 (.localhost: an address that is this machine's and nobody else's).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import TypeAdapter

from secmailproxy.mime import header
from secmailproxy.mime.canonical import clean_field, crlf, is_safe
from secmailproxy.mime.encodedword import ascii_field
from secmailproxy.mime.entity import parse_or_leaf
from secmailproxy.model import Reply
from secmailproxy.smtp.replies import clean, split_status

DOMAIN = "secmailproxy.localhost"
AUTHOR = f"secmailproxy on your computer <mailer-daemon@{DOMAIN}>"
"""Of what nobody sent: the From field."""
_SUBJECT = "Not delivered to some of the recipients"
_RETURNED = ("From", "To", "Cc", "Date", "Message-ID", "Subject")
_PLAINLY_RETURNED = frozenset({"date", "message-id"})
"""What is said where the notification cannot be encrypted: nothing that an encrypted message would hide."""
_LINE_MOST = 900
_XTEXT = re.compile(r"\+([0-9A-F]{2})")


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody who did not get the message, or of whom that is not known."""

    address: str
    original: str
    """ORCPT as the client wrote it (RFC 3461 section 4.2); "" for none."""
    code: int
    text: str
    """Of the smarthost's reply, as it came but for octets that are no UTF-8."""
    unknown: bool
    """The connection broke after the message was sent: it may have arrived."""


@dataclass(frozen=True, slots=True)
class Notification:
    """All that a notification says. Times as Date fields have them; `message_id` with its angle brackets."""

    account: str
    """The address whose INBOX it goes to."""
    message_id: str
    date: str
    arrived: str
    boundary: str
    envelope_id: str
    """ENVID as the client wrote it; "" for none."""
    recipients: tuple[Recipient, ...]
    header: str
    """The fields that are returned, ASCII with CRLF."""

    def to_octets(self) -> bytes:
        """For keeping; `from_octets` gives it back."""
        return _FORM.dump_json(self)

    @classmethod
    def from_octets(cls, octets: bytes) -> Notification:
        """Raises ValueError for what `to_octets` did not write."""
        return _FORM.validate_json(octets)


_FORM = TypeAdapter(Notification)


def recipient(address: str, options: tuple[str, ...], reply: Reply, *, unknown: bool) -> Recipient:
    """One recipient with the ESMTP parameters of RCPT, and what became of the copy."""
    # Some servers speak Latin-1; what stands for their octets could not be written to the spool.
    text = reply.text.encode("utf-8", "replace").decode("utf-8")
    return Recipient(address, option("ORCPT", options), reply.code, text, unknown)


def option(name: str, options: tuple[str, ...]) -> str:
    """The value of an ESMTP parameter; "" where it is not given."""
    found = (one.partition("=") for one in options)
    return next((value for keyword, _, value in found if keyword.upper() == name), "")


def returned_header(message: bytes) -> str:
    """The fields of a submitted message (LF or CRLF) that its sender knows it by; no blind recipients."""
    root = parse_or_leaf(crlf(message))
    raws = (
        ascii_field(clean_field(field.raw(root.octets)))
        for name in _RETURNED
        for field in header.find_all(root, name)[:1]
    )
    return b"".join(raw for raw in raws if raw.isascii() and is_safe(raw)).decode("ascii")


def render(notification: Notification, *, plainly: bool) -> bytes:
    """The message, 8-bit with CRLF. `plainly`: it will be stored in clear, so it returns less."""
    boundary = f"--{notification.boundary}\r\n"
    parts = (
        'Content-Type: text/plain; charset="utf-8"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n'
        + "\r\n".join(_explanation(notification)),
        "Content-Type: message/delivery-status\r\n\r\n" + "\r\n".join(_status(notification)),
        "Content-Type: text/rfc822-headers\r\n\r\n" + _returned(notification, plainly=plainly),
    )
    body = "".join(f"{boundary}{part}\r\n" for part in parts)
    return f"{_head(notification)}\r\n{body}--{notification.boundary}--\r\n".encode()


def _head(notification: Notification) -> str:
    answered = _message_id(notification)
    fields = [
        "Return-Path: <>",
        f"From: {AUTHOR}",
        f"To: <{notification.account}>",
        f"Date: {notification.date}",
        f"Message-ID: {notification.message_id}",
        f"Subject: {_SUBJECT}",
        "Auto-Submitted: auto-replied",
        *([f"In-Reply-To: {answered}", f"References: {answered}"] if answered else []),
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f' boundary="{notification.boundary}"',
    ]
    return "".join(f"{field}\r\n" for field in fields)


def _message_id(notification: Notification) -> str:
    root = parse_or_leaf(notification.header.encode() + b"\r\n")
    value = (header.value(root, "Message-ID") or b"").decode("ascii")
    return value if re.fullmatch(r"<[^<>\s]{1,500}>", value) else ""


def _explanation(notification: Notification) -> Iterator[str]:
    yield "Your mail server has accepted a message of yours for some of its"
    yield "recipients. Its copies for these, who are not named in it (Bcc), were sent"
    yield "apart, and failed or may have failed:"
    for one in notification.recipients:
        yield ""
        yield f"  {one.address}"
        if one.unknown:
            yield "    The connection broke before the server had answered. The copy may"
            yield "    have arrived, or not. It is not sent again by itself; ask this"
            yield "    recipient."
        else:
            yield "    The copy was refused. The server said:"
            yield f"    {one.code} {_line(one.text)}"
    yield ""
    yield "Do not send the message to everybody again. Send it to these recipients"
    yield "alone. Nobody else has got this report; secmailproxy on your computer has"
    yield "put it into your INBOX. The message is named below."
    yield ""


def _status(notification: Notification) -> Iterator[str]:
    if notification.envelope_id:
        yield f"Original-Envelope-Id: {_line(_unxtext(notification.envelope_id))}"
    yield "Reporting-MTA: dns; localhost"
    yield f"Arrival-Date: {notification.arrived}"
    for one in notification.recipients:
        status = split_status(one.text)[0]
        yield ""
        if one.original:
            kind, _, address = one.original.partition(";")
            yield f"Original-Recipient: {_line(kind)}; {_address(_unxtext(address))}"
        yield final_recipient(one.address)
        yield "Action: failed"
        yield f"Status: {status if status[:1] in {'4', '5'} else f'{one.code // 100}.0.0'}"
        yield f"Diagnostic-Code: smtp; {one.code} {_line(one.text)}"
    yield ""


def final_recipient(address: str) -> str:
    """The field that names somebody who did not get a message (RFC 3464 section 2.3.2, RFC 6533)."""
    return f"Final-Recipient: {'rfc822' if address.isascii() else 'utf-8'}; {_address(address)}"


def _returned(notification: Notification, *, plainly: bool) -> str:
    if not plainly:
        return notification.header
    root = parse_or_leaf(notification.header.encode() + b"\r\n")
    kept = header.filter_fields(root.header, lambda field: field.name.lower() in _PLAINLY_RETURNED)
    return kept.decode("ascii").removesuffix("\r\n\r\n") + "\r\n"


def _line(text: str) -> str:
    return clean(text)[:_LINE_MOST]


def _address(address: str) -> str:
    """An address in ASCII, other characters as RFC 6533 section 3 has them (utf-8-addr-xtext)."""
    return _line("".join(one if one.isascii() and one != "\\" else f"\\x{{{ord(one):X}}}" for one in address))


def _unxtext(xtext: str) -> str:
    """The text that xtext stands for (RFC 3461 section 4)."""
    return _XTEXT.sub(lambda match: chr(int(match[1], 16)), xtext)
