"""What a program hands to sendmail, made a whole message. PURE: octets in, octets out.

The octets of the message stay, but for the line ends (CRLF) and what mail servers do with mail of their own
machine: lines "From " in front and the fields Bcc, Resent-Bcc, Return-Path and Content-Length go; From, Date
and Message-ID (of a resent message their Resent- forms) come where they are missing.

Standards: RFC 5322 sections 3.6 and 3.6.6, RFC 6409 section 8 (what a submission may complete); Postfix
sendmail(1), cleanup(8).
Security: what comes from arguments and from the user's entry in the password file cannot begin a line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from secmailproxy.errors import LimitExceeded
from secmailproxy.forward.recipients import mailboxes
from secmailproxy.mime import header

_SEPARATORS = re.compile(rb"(?:>*From [^\n]*\n)+")
# Tried at the first of a run of CR only: from each of them, a long run would cost its square.
_LINE_END = re.compile(rb"(?<!\r)\r*+\n")
_DOT = re.compile(rb"^\.\r*(?:\n|\Z)", re.MULTILINE)
_FIELDS = re.compile(rb"(?:[!-9;-~]++[ \t]*+:[^\n]*+(?:\n[ \t][^\n]*+)*+(?:\n|\Z))*+")
_HEADER_MOST = 256 * 1024
_DROPPED = ("Bcc", "Resent-Bcc", "Return-Path", "Content-Length")
_RECIPIENTS = ("To", "Cc", "Bcc")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Missing:
    """What is put in where the message does not have it."""

    author: str
    """An address, checked."""
    full_name: str
    """Any text."""
    date: datetime
    """Aware."""
    message_id: str
    """With its angle brackets, checked."""


def collected(octets: bytes, *, ends_at_dot: bool) -> bytes:
    """The message on standard input, with CRLF line ends; up to a lone "." where that ends it."""
    start = _SEPARATORS.match(octets)
    begin = start.end() if start else 0
    dot = _DOT.search(octets, begin) if ends_at_dot else None
    return _LINE_END.sub(b"\r\n", octets[begin : dot.start() if dot else len(octets)])


def header_recipients(message: bytes) -> tuple[str, ...]:
    """Whom To, Cc and Bcc name; of a resent message only Resent-To, Resent-Cc and Resent-Bcc.

    Raises MalformedMessage for what is no address, LimitExceeded for a header that is too large.
    """
    section = _section(message)
    found: dict[bool, list[str]] = {True: [], False: []}
    is_resent = False
    for field in header.scan(section, 0, len(section)):
        name = field.name.lower()
        resent = name.startswith("resent-")
        if name.removeprefix("resent-").title() in _RECIPIENTS:
            is_resent = is_resent or resent
            found[resent] += mailboxes(field.value(section))
    return tuple(dict.fromkeys(found[is_resent]))


def completed(message: bytes, missing: Missing) -> bytes:
    """`message` (CRLF) with the fields it must have, and without those that are not for its readers.

    A line that is no field ends the header, as if a blank line stood before it. Raises LimitExceeded.
    """
    section = _section(message)
    body = message[len(section) :]
    kept = header.remove_fields(section, _DROPPED)
    names = {field.name.lower() for field in header.scan(kept, 0, len(kept))}
    prefix = "Resent-" if any(name.startswith("resent-") for name in names) else ""
    fields = {
        "From": f"{_mailbox(missing)}\r\n".encode(),
        "Date": f"{date_text(missing.date)}\r\n".encode("ascii"),
        "Message-ID": f"{missing.message_id}\r\n".encode(),
    }
    if kept and not kept.endswith(b"\n"):
        kept += b"\r\n"
    added = b"".join(
        f"{prefix}{name}: ".encode() + value
        for name, value in fields.items()
        if f"{prefix}{name}".lower() not in names
    )
    return kept + added + (b"" if body.startswith(b"\r\n") else b"\r\n") + body


def _section(message: bytes) -> bytes:
    """The fields at the beginning, without the blank line."""
    fields = _FIELDS.match(message)
    section = fields[0] if fields else b""
    if len(section) > _HEADER_MOST:
        raise LimitExceeded(f"the header has more than {_HEADER_MOST} octets")
    return section


def _mailbox(missing: Missing) -> str:
    name = "".join(one if one.isprintable() else " " for one in missing.full_name).strip()
    if not name:
        return missing.author
    if not name.isascii():
        from secmailproxy.mime.encodedword import encoded_words  # rarely wanted, and slow to import

        name = encoded_words(name).decode("ascii")
    elif _ATOMS.fullmatch(name) is None:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        name = f'"{escaped}"'
    return f"{name} <{missing.author}>"


def date_text(date: datetime) -> str:
    """As a Date field has it (RFC 5322 section 3.3), whatever the locale."""
    day, month = _DAYS[date.weekday()], _MONTHS[date.month - 1]
    return f"{day}, {date.day:02} {month} {date.year:04} {date:%H:%M:%S %z}"
