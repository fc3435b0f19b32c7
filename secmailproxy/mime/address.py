"""Address lists: the mailboxes and groups of From, To and the like.

Malformed lists give the same addresses that Dovecot's ENVELOPE shows, marked as not `valid`: what decides
whom a signature is bound to uses only valid ones.

Standards: RFC 5322 section 3.4 with the obsolete forms of section 4.4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from secmailproxy.mime.lexical import Broken, Lexer

MISSING_MAILBOX = b"MISSING_MAILBOX"
MISSING_DOMAIN = b"MISSING_DOMAIN"
SYNTAX_ERROR = b"SYNTAX_ERROR"
INVALID_ROUTE = b"INVALID_ROUTE"

_PLAIN = re.compile(r"[^\s@<>()\[\],;:\\\"\x00-\x20\x7f-\x9f]+@[^\s@<>()\[\],;:\\\"\x00-\x20\x7f-\x9f]+")
_ATOMS = rb"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~\x80-\xff]+(?:\.[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~\x80-\xff]+)*"
_SIMPLE = re.compile(rb"(" + _ATOMS + rb")@(" + _ATOMS + rb")[ \t\r\n]*(?=,|\Z)")
"""A bare addr-spec, for speed: it needs none of the care below."""


@dataclass(frozen=True, slots=True)
class Address:
    """One address as IMAP's ENVELOPE has it: the start of a group has only a mailbox, its end has nothing."""

    name: bytes | None = None
    route: bytes | None = None
    mailbox: bytes | None = None
    domain: bytes | None = None
    valid: bool = True

    @property
    def is_mailbox(self) -> bool:
        """False for the marks around a group."""
        return self.domain is not None

    @property
    def addr_spec(self) -> str:
        """Such as "alice@example.org", as written."""
        return f"{(self.mailbox or b'').decode('latin-1')}@{(self.domain or b'').decode('latin-1')}"


def is_plain(address: str) -> bool:
    """Whether `address` is a local part, "@" and a domain, with nothing in them that would need quotes."""
    return _PLAIN.fullmatch(address) is not None


def address_list(value: bytes) -> tuple[Address, ...]:
    """The addresses of a field's value; never fails."""
    return tuple(_List(value).read())


class _List:
    def __init__(self, value: bytes) -> None:
        self.lexer = Lexer(value)
        self.found: list[Address] = []

    def read(self) -> list[Address]:
        lexer = self.lexer
        try:
            lexer.skip()
        except Broken:
            return []
        while not lexer.at_end():
            if not self._simple() and not self._group():
                self._mailbox()
            if lexer.at_end():
                break
            if not lexer.accept(b","):
                self._spoil()
                break
            try:
                lexer.skip()
            except Broken:
                self._add(Address(valid=False))
                break
        return self.found

    def _simple(self) -> bool:
        match = _SIMPLE.match(self.lexer.value, self.lexer.position)
        if match is None:
            return False
        self.lexer.position = match.end()
        self.found.append(Address(mailbox=match[1], domain=match[2]))
        return True

    def _spoil(self) -> None:
        """Garbage follows: the list means different things to different readers."""
        self.found = [
            Address(one.name, one.route, one.mailbox, one.domain, valid=False) for one in self.found
        ]

    def _add(self, address: Address) -> None:
        self.found.append(
            Address(
                address.name,
                address.route,
                address.mailbox if address.mailbox is not None else MISSING_MAILBOX,
                address.domain if address.domain is not None else MISSING_DOMAIN,
                address.valid and bool(address.mailbox) and bool(address.domain),
            )
        )

    def _group(self) -> bool:
        lexer = self.lexer
        start = lexer.position
        try:
            name = lexer.phrase()
        except Broken:
            name = None
        if name is None or not lexer.accept(b":"):
            lexer.position = start
            return False
        self.found.append(Address(mailbox=name))
        try:
            lexer.skip()
            more = not lexer.at_end() and lexer.peek() != b";"
            while more:
                more = self._mailbox() and lexer.accept(b",")
                lexer.skip()
            if lexer.accept(b";"):
                lexer.skip()
            else:
                self._spoil()
        except Broken:
            self._spoil()
        self.found.append(Address())
        return True

    def _mailbox(self) -> bool:
        """Read one mailbox; False when the value ends or breaks after it."""
        start = self.lexer.position
        address = self._name_addr()
        if address is None:
            self.lexer.position = start
            address = self._addr_spec()
        self._add(address)
        return address.valid and not self.lexer.at_end()

    def _name_addr(self) -> Address | None:
        lexer = self.lexer
        try:
            name = lexer.phrase()
        except Broken:
            return None
        if not lexer.accept(b"<"):
            return None
        route = mailbox = domain = None
        try:
            lexer.skip()
            if lexer.peek() == b"@":
                route = self._route()
            if lexer.peek() != b">":
                mailbox = self._local_part()
                if lexer.peek() == b"@":
                    domain = lexer.domain()
            if not lexer.accept(b">"):
                raise Broken
        except Broken:
            return Address(name or None, route, mailbox, SYNTAX_ERROR, valid=False)
        valid = self._skip_quietly() and route is None
        return Address(name or None, route, mailbox, domain, valid)

    def _skip_quietly(self) -> bool:
        try:
            self.lexer.skip()
        except Broken:
            return False
        return True

    def _route(self) -> bytes:
        """The obsolete source route "@a,@b:"; what looks like one but is none has a name of its own."""
        lexer = self.lexer
        hops: list[bytes] = []
        try:
            while lexer.peek() == b"@":
                hops.append(b"@" + lexer.domain())
                while lexer.accept(b","):
                    lexer.skip()
        except Broken:
            hops.clear()
        whole = bool(hops) and lexer.accept(b":")
        if lexer.at_end():
            raise Broken
        lexer.skip()
        return b",".join(hops) if whole else INVALID_ROUTE

    def _local_part(self) -> bytes:
        """A quoted string, or atoms with any number of dots among them."""
        lexer = self.lexer
        if lexer.peek() == b'"':
            return lexer.quoted_string()
        pieces: list[bytes] = []
        while True:
            while lexer.accept(b"."):
                pieces.append(b".")
            if pieces and (lexer.at_end() or lexer.peek() == b"@"):
                break
            pieces.append(lexer.atom())
            if lexer.peek() != b".":
                break
        return b"".join(pieces)

    def _addr_spec(self) -> Address:
        lexer = self.lexer
        lexer.comment = b""
        quoted = lexer.peek() == b'"'
        mailbox = domain = None
        valid = True
        try:
            mailbox = self._local_part()
        except Broken:
            valid = False
        if lexer.peek() == b"@":
            try:
                domain = lexer.domain()
            except Broken:
                valid = False
            return Address(lexer.comment or None, None, mailbox, domain, valid)
        if lexer.comment or mailbox is None:
            return Address(lexer.comment or None, None, mailbox, None, valid=False)
        return self._only_words(mailbox, quoted=quoted)

    def _only_words(self, first: bytes, *, quoted: bool) -> Address:
        """No "@" at all: one word is a mailbox, several or a quoted one are a display name."""
        more = b""
        if not self.lexer.at_end():
            try:
                more = self.lexer.phrase()
            except Broken:
                more = b""
        if more or quoted:
            return Address(first + b" " + more if more else first, valid=False)
        return Address(mailbox=first, valid=False)
