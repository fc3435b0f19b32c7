"""Takes whole words off the start and the end of a subject, however it is encoded.

Standards: RFC 2047 (encoded words), RFC 5322 section 2.2.3 (folding).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from secmailproxy.mime.encodedword import encoded_words
from secmailproxy.mime.header import Piece, pieces


class Cut(NamedTuple):
    """A value without the words that were looked for, and which of them stood where."""

    value: bytes
    at_start: list[str]
    at_end: list[str]


def cut(value: bytes, words: Sequence[str]) -> Cut:
    """`value` without those of `words` that stand whole at its start or end.

    `value` is what follows the colon, folds included, without the final line end. Words are compared without
    regard to case. The octets of what stays are kept, but for an encoded word that held one of them: its rest
    is encoded anew. A value without any of them comes back as it is.
    """
    known = {_folded(word): word for word in words}
    left, at_start, at_end = pieces(value), list[str](), list[str]()
    while shown := "".join(piece.text for piece in left):
        first, last = _first(shown), _last(shown)
        if word := known.get(_folded(first.word)):
            left = _without_start(left, first.end)
            at_start.append(word)
        elif word := known.get(_folded(last.word)):
            left = _without_end(left, last.start)
            at_end.append(word)
        else:
            break
    if not at_start and not at_end:
        return Cut(value, [], [])
    octets = b"".join(piece.octets for piece in left).strip(b" \t\r\n")
    return Cut(b" " + octets if octets else b"", at_start, at_end)


class _Span(NamedTuple):
    """A word of a text, with the blanks around it."""

    word: str
    start: int
    end: int


def _first(text: str) -> _Span:
    word = (text.split(maxsplit=1) or [""])[0].rstrip()
    end = text.index(word) + len(word)
    return _Span(word, 0, len(text) - len(text[end:].lstrip()))


def _last(text: str) -> _Span:
    word = (text.rsplit(maxsplit=1) or [""])[-1].lstrip()
    start = text.rindex(word)
    return _Span(word, len(text[:start].rstrip()), len(text))


def _folded(word: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", word).casefold())


def _without_start(left: Sequence[Piece], count: int) -> list[Piece]:
    for at, piece in enumerate(left):
        if count < len(piece.text):
            return [_with_text(piece, piece.text[count:]), *left[at + 1 :]]
        count -= len(piece.text)
    return []


def _without_end(left: Sequence[Piece], count: int) -> list[Piece]:
    kept = []
    for piece in left:
        if count <= 0:
            break
        kept.append(_with_text(piece, piece.text[:count]))
        count -= len(piece.text)
    return kept


def _with_text(piece: Piece, text: str) -> Piece:
    if text == piece.text:
        return piece
    if piece.is_encoded:
        blanks = len(piece.octets) - len(piece.octets.lstrip())
        return Piece(piece.octets[:blanks] + encoded_words(text), text, True)
    is_utf_8 = piece.text.encode("utf-8") == piece.octets
    return Piece(text.encode("utf-8" if is_utf_8 else "latin-1"), text, False)
