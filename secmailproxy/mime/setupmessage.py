"""The message around an Autocrypt Setup Message: what a person sees of it, and what programs take out.

Standards: Autocrypt Level 1 section 4.4.
"""

from __future__ import annotations

from datetime import datetime

from secmailproxy.mime import transfer
from secmailproxy.mime.entity import Entity, parse_or_leaf

_TEXT = (
    "This message holds a copy of your secret key for mail, for another mail program of yours. It is\r\n"
    "encrypted: open it in that program, and type the setup code that was shown when it was made.\r\n"
    "\r\n"
    "Keep the message if you like; without the code nobody can use it.\r\n"
)
_PAGE = (
    "<html><body>\r\n<p>This is the attachment of an Autocrypt Setup Message. Open it in a mail program\r\n"
    "that knows Autocrypt, and type the setup code.</p>\r\n<pre>\r\n{}</pre>\r\n</body></html>\r\n"
)
_MESSAGE = (
    "From: {address}\r\nTo: {address}\r\nSubject: Autocrypt Setup Message\r\nDate: {date}\r\n"
    "Message-ID: <{reference}>\r\nAutocrypt-Setup-Message: v1\r\nMIME-Version: 1.0\r\n"
    'Content-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n'
    "--{boundary}\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n{text}\r\n"
    "--{boundary}\r\nContent-Type: application/autocrypt-setup\r\n"
    'Content-Disposition: attachment; filename="autocrypt-setup-message.html"\r\n'
    "Content-Transfer-Encoding: 7bit\r\n\r\n{page}\r\n--{boundary}--\r\n"
)


def setup_message(address: str, armored: bytes, now: datetime, reference: str) -> bytes:
    """The whole message (CRLF); `armored` is the encrypted key, `reference` a word that is in no other."""
    from email.utils import format_datetime  # it brings sockets along

    return _MESSAGE.format(
        address=address,
        date=format_datetime(now),
        reference=f"{reference}@{address.rpartition('@')[2]}",
        boundary=f"setup-{reference}",
        text=_TEXT,
        page=_PAGE.format(armored.decode("ascii")),
    ).encode("ascii")


def setup_attachment(octets: bytes) -> bytes:
    """What is encrypted in a Setup Message, or `octets` themselves where they are no message with one."""
    found = _attachment(parse_or_leaf(octets))
    return octets if found is None else transfer.decoded_body(found)


def _attachment(part: Entity) -> Entity | None:
    if part.content_type.full == "application/autocrypt-setup":
        return part
    return next((found for one in part.parts if (found := _attachment(one)) is not None), None)
