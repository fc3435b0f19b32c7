"""A message as a pipe brings it. PURE: octets in, octets or a refusal out.

Mail programs hand a message over with LF line ends, perhaps with an mbox "From " line in front, and perhaps
without a last line end; Postfix's local(8) adds Return-Path, X-Original-To and Delivered-To.

Standards: RFC 4155 (the "From " line), RFC 5321 section 6.3 (loops), RFC 5322 section 3.4.1 (addresses).
"""

from __future__ import annotations

import hashlib
import re

from secmailproxy.errors import MalformedMessage, NotAllowed, UsageError
from secmailproxy.mime import header
from secmailproxy.mime.address import is_plain
from secmailproxy.mime.canonical import crlf
from secmailproxy.mime.entity import parse_or_leaf
from secmailproxy.mime.system import LOOP_FIELD

RECEIVED_MOST = 50
NULL_SENDERS = frozenset({"", "<>", "MAILER-DAEMON"})
"""How delivery programs write the null sender."""

_RECEIVED = re.compile(rb"^received[ \t]*:", re.IGNORECASE | re.MULTILINE)
_SEPARATOR = re.compile(rb"From (?![ \t]*:)[^\r\n]*\r?\n")
"""Not the field From with a blank before its colon (RFC 5322 section 4.5)."""


def from_pipe(octets: bytes) -> bytes:
    """The message with CRLF line ends; an mbox separator is dropped, only from the very beginning.

    Raises MalformedMessage when there is no message.
    """
    separator = _SEPARATOR.match(octets)
    message = crlf(octets[separator.end() :] if separator else octets)
    if not message.strip():
        raise MalformedMessage("there is no message on standard input")
    return message


def refuse_loop(message: bytes, rcpt_to: str, mark: str) -> None:
    """Raises NotAllowed for a message that has been here before, or comes from where it shall go.

    "" for `rcpt_to` or `mark` is not looked for.
    """
    root = parse_or_leaf(message)
    if mark and mark.encode() in header.values(root, LOOP_FIELD):
        raise NotAllowed("the message was forwarded by this host before (mail loop)")
    delivered = [value.decode("latin-1").lower() for value in header.values(root, "Delivered-To")]
    if rcpt_to and rcpt_to.lower() in delivered:
        raise NotAllowed("the message was delivered to the address it shall be sent to (mail loop)")
    if _received(message) > RECEIVED_MOST:
        raise NotAllowed(f"the message has more than {RECEIVED_MOST} Received fields (mail loop)")


def _received(message: bytes) -> int:
    """How many Received fields there are, also in a header that has too many fields to be parsed."""
    end = header.section_end(message, 0, len(message))
    return len(_RECEIVED.findall(message, 0, len(message) if end is None else end))


def loop_mark(token: str) -> str:
    """What the installation with this secret `token` writes into the loop field: stable, telling nothing."""
    return "secmailproxy-" + hashlib.sha256(b"forward loop mark\0" + token.encode()).hexdigest()[:20]


def envelope_sender(octets: bytes) -> str | None:
    """The envelope sender that a delivery program has written in front of what it gives to a pipe.

    That is Return-Path, else an mbox "From " line; "" is the null sender, None stands for neither.
    """
    separator = _SEPARATOR.match(octets)
    path = header.value(parse_or_leaf(octets[separator.end() :] if separator else octets), "Return-Path")
    if path is None and separator is None:
        return None
    said = path if path is not None else (separator[0].split(b" ", 2)[1] if separator else b"")
    address = said.decode("utf-8", "replace").strip().removeprefix("<").removesuffix(">")
    return "" if address in NULL_SENDERS else address


def return_path(message: bytes) -> str:
    """The envelope sender as the server wrote it into Return-Path at delivery; "" where there is none."""
    value = header.value(parse_or_leaf(message), "Return-Path") or b""
    address = value.decode("latin-1").strip().removeprefix("<").removesuffix(">")
    return address if is_plain(address) else ""


def checked_address(address: str, option: str) -> str:
    """`address` when it can stand in a header field and a command line; UsageError names the option."""
    # A hyphen in front would make an option of it.
    if not is_plain(address) or not address.isprintable() or address.startswith("-") or "@-" in address:
        raise UsageError(f"{option} needs an address such as root@example.org")
    return address
