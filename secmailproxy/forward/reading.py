"""What rules look at in a message: read once, when a rule first asks. PURE.

Everything is text as a reader sees it: fields unfolded and their encoded words decoded, parts decoded from
their transfer encoding and charset.

Standards: RFC 5322 section 2.2.3 (unfolding), RFC 2047, RFC 2045 section 6.
Security: of the body a bounded amount is read, and `Reading.is_whole` says whether that was all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from secmailproxy.errors import LimitExceeded
from secmailproxy.forward.model import SystemMail
from secmailproxy.forward.severity import urgent_word
from secmailproxy.mime import header
from secmailproxy.mime.entity import Entity, leaf, parse
from secmailproxy.mime.preview import decoded_text, is_decodable

TEXT_MOST = 1024 * 1024
"""Octets of all text parts together, as they are encoded in the message, that rules look at."""


class Reading:
    """One message. Where it is out of bounds (`is_readable`) there is nothing to be read in it."""

    def __init__(self, mail: SystemMail, urgent_words: Sequence[str]) -> None:
        self.mail = mail
        self._urgent_words = urgent_words

    @cached_property
    def _parsed(self) -> Entity | None:
        try:
            return parse(self.mail.octets)
        except LimitExceeded:
            return None

    @property
    def _root(self) -> Entity:
        return self._parsed or leaf(b"")

    @property
    def is_readable(self) -> bool:
        """False for a message with more fields or parts than anybody needs: no rule can judge it."""
        return self._parsed is not None

    def field(self, name: str) -> tuple[str, ...]:
        """The values of every field `name`."""
        return tuple(map(header.decode_words, header.values(self._root, name)))

    @cached_property
    def is_urgent(self) -> bool:
        """Whether one of the urgent words is in it, or it cannot be read."""
        return not self.is_readable or bool(urgent_word(self._root, self._urgent_words))

    @cached_property
    def text(self) -> str:
        """The text parts, line ends LF, with one between parts; at most `TEXT_MOST` octets of them."""
        return "\n".join(self._texts()).replace("\r\n", "\n")

    @cached_property
    def is_whole(self) -> bool:
        """Whether `text` is all the text there is, and could be decoded."""
        parts = list(_texts(self._root))
        return sum(part.end - part.body_start for part in parts) <= TEXT_MOST and all(
            map(is_decodable, parts)
        )

    def _texts(self) -> Iterator[str]:
        left = TEXT_MOST
        for part in _texts(self._root):
            if left <= 0:
                return
            yield decoded_text(part, left)
            left -= part.end - part.body_start


def _texts(part: Entity) -> Iterator[Entity]:
    """The text parts in order, those of embedded messages too."""
    if part.content_type.maintype == "text":
        yield part
    for inner in part.parts:
        yield from _texts(inner)
