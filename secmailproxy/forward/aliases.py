"""The aliases of this machine: which addresses stand behind a local name. PURE: text in, addresses out.

    # a comment
    root:   sysmail, admin@example.org
    "web master": root,
            :include:/etc/mail/webmasters
    backup: "|/usr/local/bin/log-it", /var/mail/backup

Names are compared without case, and the first of two lines for one name counts, as with Postfix. Only
addresses and local names can be forwarded to. Commands are never run and files never written here: `resolve`
tells of each that it was left out.

Standards: aliases(5) of Postfix.
Security: expansion is bounded in depth and number; a name that leads back to itself stands for itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from secmailproxy.errors import LimitExceeded, MalformedMessage
from secmailproxy.forward.recipients import mailboxes

ADDRESSES_MOST = 1000
"""Addresses behind one name, and words looked at on the way."""
INCLUDED_MOST = 4 * 1024 * 1024
"""Characters of all included files together, each counted as often as it is included."""
DEPTH_MOST = 50
"""Aliases of aliases; the limit of Postfix."""

_NAME = re.compile(r'[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)+)"|(?P<plain>[^\s":,][^\s:]*))[ \t]*:(?P<value>.*)')
# What is not closed goes on to the end of the line: looked for from each quote, it would cost the square.
_WORD = re.compile(r'(?:"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|\((?:[^()\\]|\\.)*+(?:\)|\\?\Z)|<[^<>]*>|[^",(<])+')
_COMMENT = re.compile(r"\((?:[^()\\]|\\.)*\)")
_ESCAPED = re.compile(r"\\(.)")
_INCLUDE = ":include:"
_WORD_MOST = 1000

Reader = Callable[[str], str]
"""Gives the text of a file that :include: names by its absolute path; raises OSError."""


class Other(Enum):
    """What can stand in an alias and is nothing to forward to."""

    COMMAND = "a command"
    FILE = "a file"
    UNREADABLE = "an :include: that cannot be read"
    WRONG = "a word that is no address"


@dataclass(frozen=True, slots=True)
class Resolved:
    """What stands behind one name."""

    addresses: tuple[str, ...]
    """In their order, each once: addresses, and local names that are no alias."""
    left_out: tuple[Other, ...] = ()
    """Of each destination that is no address, what it is."""


Aliases = dict[str, tuple[str, ...]]
"""Name in lower case to the words of its line."""


def read_aliases(text: str) -> Aliases:
    """The table in `text`. A line that is no alias is left out, as Postfix does: `wrong_lines` tells of it.

    Mail for whoever was meant by it goes to the target of local mail; for all others nothing changes.
    """
    aliases: Aliases = {}
    for _, line in _logical_lines(text):
        if found := _NAME.fullmatch(line):
            name = _ESCAPED.sub(r"\1", found["quoted"]) if found["quoted"] else found["plain"]
            aliases.setdefault(name.lower(), _words(found["value"]))
    return aliases


def wrong_lines(text: str) -> tuple[int, ...]:
    """The numbers of the lines in `text`, from 1, that are no alias."""
    return tuple(number for number, line in _logical_lines(text) if _NAME.fullmatch(line) is None)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with those that go on below joined, comments and empty ones dropped; each with its number."""
    start, whole = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t" and whole:
            whole += " " + line.strip()
            continue
        if whole:
            yield start, whole
        start, whole = number, line.rstrip()
    if whole:
        yield start, whole


def _words(value: str) -> tuple[str, ...]:
    return tuple(word for match in _WORD.finditer(value) if (word := match[0].strip()))


@dataclass(slots=True)
class _Search:
    aliases: Aliases
    read: Reader
    addresses: list[str] = field(default_factory=list)
    left_out: list[Other] = field(default_factory=list)
    looked_at: int = 0
    included: int = 0

    def name(self, name: str, above: tuple[str, ...]) -> None:
        """Follow a local name; `above` are those that led here."""
        key = name.lower()
        if key not in self.aliases or key in above:
            self.addresses.append(name)
            return
        self.words(self.aliases[key], (*above, key))

    def words(self, words: tuple[str, ...], above: tuple[str, ...]) -> None:
        if len(above) > DEPTH_MOST:
            raise LimitExceeded(f"aliases lead through more than {DEPTH_MOST} others")
        for word in words:
            self.looked_at += 1
            if self.looked_at > ADDRESSES_MOST:
                raise LimitExceeded(f"an alias stands for more than {ADDRESSES_MOST} destinations")
            self.word(word, above)

    def word(self, word: str, above: tuple[str, ...]) -> None:
        bare = _unquoted(word)
        if bare.startswith("|"):
            self.left_out.append(Other.COMMAND)
        elif bare.startswith("/"):
            self.left_out.append(Other.FILE)
        elif bare.lower().startswith(_INCLUDE):
            self.include(bare[len(_INCLUDE) :].strip(), above)
        elif bare.startswith("\\"):
            # A name that is delivered here, however many aliases there are of it.
            self.mailbox(bare[1:], above, expand=False)
        else:
            self.mailbox(word, above, expand=True)

    def include(self, path: str, above: tuple[str, ...]) -> None:
        if path in above or not path.startswith("/"):
            self.left_out.append(Other.UNREADABLE)
            return
        try:
            text = self.read(path)
        except (OSError, UnicodeDecodeError):
            self.left_out.append(Other.UNREADABLE)
            return
        self.included += len(text)
        if self.included > INCLUDED_MOST:
            raise LimitExceeded(f"aliases include more than {INCLUDED_MOST} characters")
        words = tuple(word for _, line in _logical_lines(text) for word in _words(line))
        self.words(words, (*above, path))

    def mailbox(self, word: str, above: tuple[str, ...], *, expand: bool) -> None:
        try:
            found = mailboxes(_COMMENT.sub(" ", word).encode()) if len(word) <= _WORD_MOST else ()
        except (MalformedMessage, UnicodeEncodeError):
            found = ()
        if not found:
            self.left_out.append(Other.WRONG)
        for address in found:
            if expand and "@" not in address:
                self.name(address, above)
            else:
                self.addresses.append(address)


def _unquoted(word: str) -> str:
    """A word that is quoted whole, without its quotes."""
    if len(word) > 1 and word[0] == word[-1] == '"':
        return _ESCAPED.sub(r"\1", word[1:-1]).strip()
    return word


def resolve(name: str, aliases: Aliases, read: Reader) -> Resolved:
    """What stands behind the local name `name`: itself where it is no alias.

    Raises LimitExceeded.
    """
    search = _Search(aliases, read)
    search.name(name, ())
    return Resolved(tuple(dict.fromkeys(search.addresses)), tuple(search.left_out))
