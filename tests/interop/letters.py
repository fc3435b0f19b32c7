"""Letters of every kind, as mail clients write them, and what a reader should find in them."""

from __future__ import annotations

import base64
import email
import email.policy
import random
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate

TEXT = "The treasure is buried beneath the crooked windmill."
IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
LARGE = random.Random(4).randbytes(1_000_000)


@dataclass(frozen=True)
class Letter:
    """One kind of message. `subject` is decoded; `fields` and `entity` have CRLF line ends."""

    entity: bytes
    """From Content-Type on: header fields, blank line and body."""
    subject: str
    fields: bytes = b""
    """The subject and what stands beside it."""

    def written(self, name: str, sender: str, to: str, *, hidden: str = "") -> bytes:
        """The message `<name>` from `sender` to `to`, `hidden` a blind recipient."""
        fields = self.fields or f"Subject: {self.subject}\r\n".encode()
        head = f"From: Alice <{sender}>\r\nTo: {to}\r\n" + (f"Bcc: {hidden}\r\n" if hidden else "")
        # Thunderbird takes no signature that was made an hour before or after the date of its message.
        head += f"Date: {formatdate(localtime=True)}\r\nMessage-ID: <{name}>\r\n"
        return head.encode() + fields + b"MIME-Version: 1.0\r\n" + self.entity


def part(kind: str, body: bytes | str, *fields: str, encoding: str = "7bit") -> bytes:
    """An entity of these octets, which are in `encoding` already; LF becomes CRLF in a text."""
    octets = body.replace("\n", "\r\n").encode() if isinstance(body, str) else body
    head = [f"Content-Type: {kind}", f"Content-Transfer-Encoding: {encoding}", *fields]
    return "".join(f"{field}\r\n" for field in head).encode() + b"\r\n" + octets


def several(kind: str, boundary: str, parts: Sequence[bytes]) -> bytes:
    """A multipart entity."""
    mark = b"--" + boundary.encode()
    pieces = b"".join(mark + b"\r\n" + one + b"\r\n" for one in parts)
    return (
        f'Content-Type: multipart/{kind}; boundary="{boundary}"\r\n\r\n'.encode() + pieces + mark + b"--\r\n"
    )


def base64_lines(octets: bytes) -> bytes:
    """As clients write it: 76 columns, CRLF."""
    return base64.encodebytes(octets).replace(b"\n", b"\r\n")


FLOWED = (
    "A paragraph that goes on \nin the next line, \nand ends here.\n"
    "> quoted, and \n> flowed too.\n   \n-- \nAlice \n"
)
CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
METHOD:REQUEST
BEGIN:VEVENT
UID:dig@example.test
SUMMARY:Graben an der Windmühle
DESCRIPTION:Bring a spade\\, a lamp and something to eat\\; we shall be there
  the whole night.
DTSTART:20260302T220000Z
END:VEVENT
END:VCALENDAR
"""
FORWARDED = (
    "From: Old Friend <friend@example.net>\nTo: alice@example.test\n"
    "Subject: =?utf-8?q?=C3=9Cber_die_M=C3=BChle?=\n"
    "Date: Sun, 01 Mar 2026 10:00:00 +0100\nMessage-ID: <friend@example.net>\nMIME-Version: 1.0\n"
    "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
    "From what I heard \nit lies under the mühle.\n"
)
_LOOSE = several(
    "alternative", "alternative=_7", [part("text/plain", TEXT), part("text/html", "<p>")]
).rstrip()
"""Its close-delimiter is followed by that of what it is in."""

LETTERS = {
    "plain text": Letter(part("text/plain; charset=us-ascii", f"{TEXT}\n\nAlice\n"), "Plain text"),
    "format=flowed": Letter(
        part("text/plain; charset=utf-8; format=flowed; delsp=no", FLOWED), "Flowing text"
    ),
    "8-bit text": Letter(
        part("text/plain; charset=utf-8", "Schöne Grüße aus Köln, дорогой друг.\n", encoding="8bit"),
        "Eight bits",
    ),
    "HTML with an image": Letter(
        several(
            "alternative",
            "alternative=_1",
            [
                part("text/plain; charset=utf-8", f"{TEXT}\n"),
                several(
                    "related",
                    "related=_2",
                    [
                        part("text/html; charset=utf-8", f'<p>{TEXT} <img src="cid:map@example.test"></p>\n'),
                        part(
                            "image/png; name=map.png",
                            base64_lines(IMAGE),
                            "Content-ID: <map@example.test>",
                            "Content-Disposition: inline; filename=map.png",
                            encoding="base64",
                        ),
                    ],
                ),
            ],
        ),
        "With a picture",
    ),
    "attachment of 1 MB": Letter(
        several(
            "mixed",
            "mixed=_3",
            [
                part("text/plain; charset=us-ascii", f"{TEXT}\n"),
                part(
                    "application/octet-stream",
                    base64_lines(LARGE),
                    "Content-Disposition: attachment; filename*=utf-8''Gel%C3%A4nde.bin",
                    encoding="base64",
                ),
            ],
        ),
        "With the terrain",
    ),
    "forwarded message": Letter(
        several(
            "mixed",
            "mixed=_4",
            [
                part("text/plain; charset=us-ascii", f"{TEXT}\n"),
                part("message/rfc822", FORWARDED, "Content-Disposition: inline", encoding="8bit"),
            ],
        ),
        "Fwd: about the mill",
    ),
    "invitation": Letter(
        several(
            "alternative",
            "alternative=_5",
            [
                part("text/plain; charset=us-ascii", f"{TEXT}\n"),
                part("text/calendar; charset=utf-8; method=REQUEST", CALENDAR, encoding="8bit"),
            ],
        ),
        "Invitation",
    ),
    "From lines and trailing blanks": Letter(
        part("text/plain", "From here on \nblanks \t\n \n>From there\n.\n..\n-- \nAlice\n"), "From the mill"
    ),
    "long line": Letter(part("text/plain", "x" * 900 + " " + "y" * 97 + f"\n{TEXT}\n"), "At length"),
    "no final newline": Letter(part("text/plain", TEXT), "Without an end"),
    "blank lines round boundaries": Letter(
        several("mixed", "mixed=_6", [part("text/plain", f"{TEXT}\n"), _LOOSE]).replace(
            b"\r\n\r\n--", b"\r\n\r\n\r\n--", 1
        )
        + b"\r\n\r\n",
        "Loosely set",
    ),
    "UTF-8 subject": Letter(
        part("text/plain; charset=utf-8", f"{TEXT}\n"),
        "Größe und Lage der Schatzkiste, für alle Fälle noch einmal ganz genau — дорогой друг",
        b"Subject: =?utf-8?q?Gr=C3=B6=C3=9Fe_und_Lage_der_Schatzkiste=2C_f=C3=BCr_alle?=\r\n"
        b" =?utf-8?q?_F=C3=A4lle_noch_einmal_ganz_genau_=E2=80=94_?=\r\n"
        b" =?utf-8?b?0LTQvtGA0L7Qs9C+0Lkg0LTRgNGD0LM=?=\r\n"
        b"References: <one@example.test>\r\n <two@example.test>\r\nIn-Reply-To: <two@example.test>\r\n",
    ),
    "blind copy": Letter(part("text/plain; charset=us-ascii", f"{TEXT}\n"), "Between us"),
}
"""Kind -> letter."""
BLIND = "blind copy"
"""The one that has a blind recipient beside."""

SIGNATURES = ("application/pgp-signature", "application/pkcs7-signature")
"""Types of parts that are no content."""

Leaf = tuple[str, str | None, bytes]


def leaves(octets: bytes) -> list[Leaf]:
    """Type, file name and decoded content of every leaf of a message or entity (CRLF, or LF throughout)."""
    found: list[Leaf] = []
    for one in email.message_from_bytes(octets, policy=email.policy.SMTP).walk():
        if not one.is_multipart():
            content = one.get_payload(decode=True)
            assert isinstance(content, bytes)
            found.append(leaf(one.get_content_type(), one.get_filename(), content))
    return found


def leaf(kind: str, filename: str | None, content: bytes) -> Leaf:
    """A leaf. Texts have LF and end in one: clients and transports add line ends at the end of a message."""
    if kind.startswith("text/"):
        content = content.replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n"
    return kind, filename, content


def subject(octets: bytes) -> str:
    """The decoded subject of a message or entity."""
    return str(email.message_from_bytes(octets, policy=email.policy.SMTP)["Subject"] or "")
