"""The lexical tokens of structured header fields, read tolerantly, as mail servers do.

Standards: RFC 5322 sections 3.2 and 4 (with the obsolete forms), RFC 2045 section 5.1 (token).
"""

from __future__ import annotations

import re

_WHITE = re.compile(rb"[ \t\r\n]*")
_ATOM = re.compile(rb"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~\x80-\xff]+")
_ATOM_OR_DOT = re.compile(rb"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~.\x80-\xff]*")
_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+\-^_`{|}~.\x80-\xff]*")
_COMMENT_STOP = re.compile(rb"[()\\]")
_QUOTED_STOP = re.compile(rb'["\\\n]')
_WORD_START = frozenset(b'".' + bytes(code for code in range(256) if _ATOM.match(bytes([code]))))


class Broken(Exception):
    """The value does not follow the grammar from here on."""


class Lexer:
    """A position in one value. Every reader skips the comments and white space that follow its token.

    Readers raise `Broken`; what was read up to then is in `partial`.
    """

    __slots__ = ("comment", "partial", "position", "value")

    def __init__(self, value: bytes) -> None:
        self.value = value
        self.position = 0
        self.comment = b""
        """The text of the last comment that was skipped."""
        self.partial = b""

    def at_end(self) -> bool:
        """Whether nothing is left."""
        return self.position >= len(self.value)

    def peek(self) -> bytes:
        """The next octet, or b"" at the end."""
        return self.value[self.position : self.position + 1]

    def accept(self, octet: bytes) -> bool:
        """Step over `octet` if it is next (no white space is skipped)."""
        if self.peek() != octet:
            return False
        self.position += 1
        return True

    def skip(self) -> None:
        """Skip white space and comments (CFWS)."""
        while True:
            match = _WHITE.match(self.value, self.position)
            assert match is not None  # the pattern matches the empty string
            self.position = match.end()
            if self.peek() != b"(":
                return
            self._skip_comment()

    def _skip_comment(self) -> None:
        depth, start = 1, self.position + 1
        position, pieces = start, []
        while stop := _COMMENT_STOP.search(self.value, position):
            position = stop.end()
            if stop[0] == b"\\":
                pieces.append(self.value[start : stop.start()])
                start = position
                position += 1
                continue
            depth += 1 if stop[0] == b"(" else -1
            if depth == 0:
                self.comment = b"".join(pieces) + self.value[start : stop.start()]
                self.position = position
                return
        self.position = len(self.value)
        raise Broken

    def token(self) -> bytes:
        """A MIME token; empty when there is none."""
        return self._run(_TOKEN)

    def atom(self) -> bytes:
        """An atom."""
        if _ATOM.match(self.value, self.position) is None:
            raise Broken
        return self._run(_ATOM)

    def atom_or_dots(self) -> bytes:
        """Atoms and dots without white space between them; may be empty."""
        return self._run(_ATOM_OR_DOT)

    def _run(self, pattern: re.Pattern[bytes]) -> bytes:
        match = pattern.match(self.value, self.position)
        assert match is not None  # both patterns match the empty string
        self.position = match.end()
        self.partial = match[0]
        self.skip()
        return match[0]

    def dot_atom(self) -> bytes:
        """A dot-atom; white space and comments around dots are allowed and dropped (RFC 5322 section 4.4)."""
        match = _ATOM.match(self.value, self.position)
        if match is None:
            raise Broken
        pieces: list[bytes] = []
        while match is not None:
            pieces.append(match[0])
            self.position = match.end()
            self.skip()
            if not self.accept(b"."):
                break
            pieces.append(b".")
            self.skip()
            if self.at_end():
                raise Broken
            match = _ATOM.match(self.value, self.position)
        return b"".join(pieces)

    def quoted_string(self) -> bytes:
        """A quoted string without its quotes and backslashes; folds inside it lose their line end."""
        pieces: list[bytes] = []
        position = start = self.position + 1
        while stop := _QUOTED_STOP.search(self.value, position):
            position = stop.end()
            piece = self.value[start : stop.start()]
            start = position
            match stop[0]:
                case b'"':
                    self.position = position
                    self.partial = b"".join(pieces) + piece
                    result = self.partial
                    self.skip()
                    return result
                case b"\n":
                    pieces.append(piece.removesuffix(b"\r"))
                case _:
                    pieces.append(piece)
                    position += 1
        self.position = len(self.value)
        self.partial = b"".join(pieces)
        raise Broken

    def phrase(self) -> bytes:
        """Words joined by one blank each (a display name); empty when the next octet starts no word."""
        if self.peek() == b".":
            raise Broken
        words: list[bytes] = []
        while True:
            if self.peek() == b'"':
                words.append(self.quoted_string())
            else:
                words.append(self.atom_or_dots())
            if self.at_end() or self.value[self.position] not in _WORD_START:
                return b" ".join(words)

    def domain(self) -> bytes:
        """The domain after "@" (which is next): a dot-atom or a literal in brackets."""
        self.position += 1
        self.skip()
        if self.at_end():
            raise Broken
        if self.peek() == b"[":
            close = re.compile(rb"(?:\\.|[^\\\]])*\]", re.DOTALL).match(self.value, self.position)
            if close is None:
                self.position = len(self.value)
                raise Broken
            self.position = close.end()
            self.skip()
            return close[0]
        return self.dot_atom()
