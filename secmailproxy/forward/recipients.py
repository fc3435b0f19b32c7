"""Lists of mailboxes as programs of the machine write them: addresses, and bare local names such as "root".

PURE. Unlike `mime.address`, which shows whatever there is, this gives an address only where every reader
finds the same one: mail is sent there. Display names may be what no standard allows, such as an address
("a@b <a@b>") or a word in brackets: many programs write them so.

Standards: RFC 5322 section 3.4 (mailbox-list, group), without obsolete routes.
Security: no address begins with "-", "/" or "|", or holds a blank, a quote, a control character, or what
has a meaning in an address list.
"""

from __future__ import annotations

import re

from secmailproxy.errors import MalformedMessage
from secmailproxy.mime.lexical import Broken, Lexer

_WORD = r"[^\s\x00-\x20\x7f-\x9f\"(),:;<>@\[\\\]|/!%-][^\s\x00-\x20\x7f-\x9f\"(),:;<>@\[\\\]|]*"
_ADDRESS = re.compile(rf"{_WORD}(?:@{_WORD})?")
_BARE_NAME = re.compile(rb"[^\x00-\x1f\x7f\"(),:;<>\\]++(?=<)")
"""A display name without quotes, of words and marks that mean nothing in a list."""


def mailboxes(value: bytes) -> tuple[str, ...]:
    """Every mailbox in `value`, groups taken apart, display names and comments dropped; () for none.

    Raises MalformedMessage when any of it is no address; the text quotes nothing.
    """
    lexer = Lexer(value)
    found: list[str] = []
    try:
        lexer.skip()
        _list(lexer, found, within_group=False)
    except Broken:
        raise MalformedMessage("an address cannot be read") from None
    return tuple(found)


def _list(lexer: Lexer, found: list[str], *, within_group: bool) -> None:
    while not lexer.at_end():
        if within_group and lexer.peek() == b";":
            return
        if lexer.accept(b","):
            lexer.skip()
            continue
        _one(lexer, found, within_group=within_group)
        if lexer.at_end() or (within_group and lexer.peek() == b";"):
            return
        if not lexer.accept(b","):
            raise Broken
        lexer.skip()


def _one(lexer: Lexer, found: list[str], *, within_group: bool) -> None:
    """One mailbox or one group."""
    start = lexer.position
    if name := _BARE_NAME.match(lexer.value, start):
        lexer.position = name.end()
    if lexer.peek() == b"<":
        _angle(lexer, found)
        return
    words = lexer.phrase()
    if lexer.peek() == b"<":
        _angle(lexer, found)
    elif lexer.peek() == b":" and not within_group:
        lexer.accept(b":")
        lexer.skip()
        _list(lexer, found, within_group=True)
        if not lexer.accept(b";"):
            raise Broken
        lexer.skip()
    else:
        if not words:
            raise Broken
        lexer.position = start
        found.append(_address(lexer))


def _angle(lexer: Lexer, found: list[str]) -> None:
    lexer.accept(b"<")
    lexer.skip()
    if lexer.peek() != b">":
        found.append(_address(lexer))
    if not lexer.accept(b">"):
        raise Broken
    lexer.skip()


def _address(lexer: Lexer) -> str:
    """local-part, and "@" with a domain where there is one. Raises Broken."""
    octets = lexer.dot_atom()
    if lexer.peek() == b"@":
        octets += b"@" + lexer.domain()
    try:
        address = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise Broken from None
    if _ADDRESS.fullmatch(address) is None:
        raise Broken
    return address
