"""The delivery status notification about a queued message that could not be delivered. PURE.

What comes back of the message are fields of its header, which is that of the encrypted message: they tell
what every server on the way has seen already. Its text holds what the next hop said, and addresses.

Standards: RFC 3464 (multipart/report, message/delivery-status), RFC 6522 (text/rfc822-headers), RFC 3834
(Auto-Submitted).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from secmailproxy.forward.attempts import Fate
from secmailproxy.forward.model import Product
from secmailproxy.model import Envelope
from secmailproxy.smtp.notification import final_recipient, returned_header
from secmailproxy.smtp.replies import clean, split_status
from secmailproxy.stamp import Stamp

_AUTHOR = "Mail queue of secmailproxy <mailer-daemon@secmailproxy.localhost>"
_SUBJECT = "Encrypted system mail was not delivered"
_LINE_MOST = 900


@dataclass(frozen=True, slots=True)
class Undelivered:
    """One message of the queue and for whom it is given up."""

    name: str
    """The id in the queue."""
    arrived: str
    """As a Date field has it."""
    product: Product
    fates: Mapping[str, Fate]


def notice(undelivered: Undelivered, bounces: str, stamp: Stamp) -> Product:
    """The notification to `bounces`, with the null sender so that nobody answers it."""
    boundary = f"--{stamp.boundary}\r\n"
    parts = (
        'Content-Type: text/plain; charset="utf-8"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n'
        + "\r\n".join(_explanation(undelivered)),
        "Content-Type: message/delivery-status\r\n\r\n" + "\r\n".join(_status(undelivered)),
        "Content-Type: text/rfc822-headers\r\n\r\n" + returned_header(undelivered.product.octets),
    )
    body = "".join(f"{boundary}{part}\r\n" for part in parts)
    octets = f"{_head(bounces, stamp)}\r\n{body}--{stamp.boundary}--\r\n".encode()
    return Product(octets, Envelope("", (bounces,)), is_notice=True)


def _head(bounces: str, stamp: Stamp) -> str:
    fields = [
        f"From: {_AUTHOR}",
        f"To: <{bounces}>",
        f"Date: {stamp.date}",
        f"Message-ID: {stamp.message_id}",
        f"Subject: {_SUBJECT}",
        "Auto-Submitted: auto-replied",
        "MIME-Version: 1.0",
        "Content-Type: multipart/report; report-type=delivery-status;",
        f' boundary="{stamp.boundary}"',
    ]
    return "".join(f"{field}\r\n" for field in fields)


def _explanation(undelivered: Undelivered) -> Iterator[str]:
    yield "An encrypted message of this machine could not be delivered, and is deleted"
    yield f"from its queue, where it was {undelivered.name}. The next server said:"
    for address, fate in undelivered.fates.items():
        yield ""
        yield f"  {clean(address)}"
        yield f"    {fate.code or ''} {_line(fate.text)}".rstrip()
    yield ""
    yield "What the message says was encrypted before it was queued; nothing of it is here."
    yield "The fields below are those of its outside."
    yield ""


def _status(undelivered: Undelivered) -> Iterator[str]:
    yield "Reporting-MTA: dns; localhost"
    yield f"Arrival-Date: {undelivered.arrived}"
    for address, fate in undelivered.fates.items():
        status = split_status(fate.text)[0]
        yield ""
        yield final_recipient(address)
        yield "Action: failed"
        yield f"Status: {status if status[:1] in {'4', '5'} else '5.0.0'}"
        if fate.code:
            yield f"Diagnostic-Code: smtp; {fate.code} {_line(fate.text)}"
    yield ""


def _line(text: str) -> str:
    return clean(text)[:_LINE_MOST]
