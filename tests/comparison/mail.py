"""Ten messages that a machine gets about itself, as an MTA hands them over: LF, without a "From " line."""

from __future__ import annotations

import base64
from dataclasses import dataclass

TEXT = "The treasure is buried beneath the crooked windmill, southwest corner."
SECRETS = (b"treasure", b"crooked", b"windmill", b"southwest", b"whereabouts", b"fiftyseven")
"""Words that only the administrator may see; long enough not to occur in base64 by chance."""
_CSV = base64.encodebytes(b"latitude\nfiftyseven, by the crooked windmill\n").decode()


@dataclass(frozen=True)
class Sample:
    """One message, and what is special about the machine when it comes."""

    name: str
    octets: bytes = b""
    expired: bool = False
    """The administrator's certificate has expired."""
    returned: bool = False
    """What left for a message before comes back to root, as it does where an alias points in a circle."""


def _message(body: str, *, subject: str = "report", to: str = "root", head: str = "", **fields: str) -> bytes:
    author = fields.get("author", "Cron Daemon <root@machine.example>")
    lines = f"From: {author}\nTo: {to}\nDate: Sat, 21 Nov 2026 04:00:00 +0000\nSubject: {subject}\n{head}"
    return f"{lines}\n{body}".encode()


def _mime(kind: str, encoding: str) -> str:
    return f"MIME-Version: 1.0\nContent-Type: {kind}\nContent-Transfer-Encoding: {encoding}\n"


_ATTACHMENT = f"""--=-limit
Content-Type: text/plain; charset=us-ascii

{TEXT}
--=-limit
Content-Type: text/csv; name=places.csv
Content-Disposition: attachment; filename=places.csv
Content-Transfer-Encoding: base64

{_CSV}--=-limit--
"""
_BOUNCE = f"""--=-limit
Content-Type: text/plain; charset=us-ascii

Not delivered.
--=-limit
Content-Type: message/delivery-status

Reporting-MTA: dns; machine.example

Final-Recipient: rfc822; gone@example.net
Action: failed
Status: 5.1.1

--=-limit
Content-Type: message/rfc822

From: root@machine.example
Subject: whereabouts

{TEXT}
--=-limit--
"""

SAMPLES = (
    Sample(
        "cron, with a command line and a password in it",
        _message(
            f"{TEXT}\n",
            subject="Cron <root@machine> backup --password=whereabouts",
            head="X-Cron-Env: <TOKEN=fiftyseven>\n",
        ),
    ),
    Sample(
        "a report with an attachment",
        _message(_ATTACHMENT, head=_mime('multipart/mixed; boundary="=-limit"', "7bit")),
    ),
    Sample(
        "a page of HTML, quoted-printable",
        _message(
            f"<p>{TEXT.replace('is', '=69s')}=\n</p>\n",
            head=_mime("text/html; charset=utf-8", "quoted-printable"),
        ),
    ),
    Sample(
        "Latin-1 text",
        _message(f"S\xfcdwest: {TEXT}\n", head=_mime("text/plain; charset=iso-8859-1", "8bit")).replace(
            "\xfc".encode(), b"\xfc"
        ),
    ),
    Sample("to postmaster, an alias of root", _message(f"{TEXT}\n", to="postmaster@machine.example")),
    Sample("a sender that looks like an option", _message(f"{TEXT}\n", author="-oQ/tmp/whereabouts")),
    Sample(
        "a bounce",
        b"Return-Path: <>\n"
        + _message(
            _BOUNCE,
            author="MAILER-DAEMON@machine.example",
            head=_mime('multipart/report; report-type=delivery-status; boundary="=-limit"', "7bit"),
        ),
    ),
    Sample("encrypted by its sender"),
    Sample("any, and the certificate has expired", _message(f"{TEXT}\n"), expired=True),
    Sample("its own product, come back", returned=True),
)
