"""What a task of the session asks for, one step at a time; values only. PURE.

A task is a generator: it yields a step and is sent that step's result. `Ask` is carried out by the session
itself, `Work` by the shell in a thread; a failure of either is thrown into the task.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

from secmailproxy.imap.grammar import FetchResponse
from secmailproxy.imap.numbers import Numbers
from secmailproxy.searchable import Key
from secmailproxy.views import Kind, Mailbox


@dataclass(slots=True)
class Progress:
    """How far a slow task has come, for people who wait."""

    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """A tagged response without its tag: `octets` is b"OK [CODE] text\\r\\n"."""

    octets: bytes

    @property
    def ok(self) -> bool:
        """Whether the command was carried out."""
        return self.octets[:2].upper() == b"OK"


@dataclass(frozen=True, slots=True)
class Ask:
    """Commands of our own, sent together; the result is the list of their `Completion`s.

    Each command is a tuple of pieces without a tag; between two pieces the server's continuation is awaited.
    `on_fetch` gets each FETCH response that comes meanwhile and returns what the client shall hear of it;
    None lets them stream through untouched.
    """

    commands: Sequence[tuple[bytes, ...]]
    on_fetch: Callable[[FetchResponse], bytes] | None = None
    uids: Numbers | None = None
    """The messages that `on_fetch` is for; None for any. Tasks that run side by side must say."""
    on_result: Callable[[bytes], None] | None = None
    """Gets each untagged SEARCH, ESEARCH, SORT or THREAD whole; None lets them pass to the client."""
    tag: bytes | None = None
    """The client's own tag, for the one command that the server answers in its stead; None for our own."""
    meanwhile: Present | None = None
    """Work for the time until the answers are there; the step is done when both are."""


@dataclass(frozen=True, slots=True)
class OpenMailbox:
    """Work: the record of a mailbox; the result is a `Mailbox`."""

    name: bytes
    uidvalidity: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Work: bring the keywords of a mailbox up to date."""

    mailbox: Mailbox


@dataclass(frozen=True, slots=True)
class Classify:
    """Work: keep what was learned of a mailbox."""

    mailbox: Mailbox
    covered: bytes
    kinds: Mapping[int, Kind]


@dataclass(frozen=True, slots=True)
class Present:
    """Work: fix the views of these messages (UID to octets on the server; None where it is too large)."""

    mailbox: Mailbox
    messages: Mapping[int, bytes | None]


@dataclass(frozen=True, slots=True)
class LoadViews:
    """Work: the fixed views of these UIDs; the result maps UID to `View`, without those not fixed yet."""

    mailbox: Mailbox
    uids: Sequence[int]
    octets: bool


@dataclass(frozen=True, slots=True)
class Search:
    """Work: which protected messages of these kinds match each of the keys; the result is a `Found`."""

    mailbox: Mailbox
    keys: tuple[Key, ...]
    kinds: frozenset[Kind]


@dataclass(frozen=True, slots=True)
class EncryptToSelf:
    """Work: the octets to store for an appended message; the result is bytes."""

    message: bytes
    sign: bool


@dataclass(frozen=True, slots=True)
class FixAppended:
    """Work: present an appended message as the client wrote it."""

    mailbox: bytes
    uidvalidity: int
    uid: int
    stored: bytes
    original: bytes


@dataclass(frozen=True, slots=True)
class Tell:
    """Whole untagged responses of our own for the client; the result is None."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Compute:
    """Work: what takes too long beside other sessions; the result is that of the call."""

    call: Callable[[], object]


Work = OpenMailbox | Mark | Classify | Present | LoadViews | Search | Compute | EncryptToSelf | FixAppended
Step = Ask | Tell | Work

Task = Generator[Step, object, bytes]
"""Returns the tagged completion for the client, without the tag; empty when there is nothing to say yet.

Each step says what it is sent back.
"""

MOST_JOINED = 16
"""Views in works that are joined; each may be as large as a message can be."""
MOST_PRESENTED = 64
MOST_PRESENTED_OCTETS = 16 * 1024 * 1024
"""Messages in works that are joined, and their octets."""


def joined(one: Work, other: Work) -> Work | None:
    """One work for both, whose result serves either task; None when they have nothing in common."""
    match one, other:
        case Present(mailbox, messages), Present(same, more) if mailbox is same:
            together = {**messages, **more}
            octets = sum(len(message or b"") for message in together.values())
            fits = len(together) <= MOST_PRESENTED and octets <= MOST_PRESENTED_OCTETS
            return Present(mailbox, together) if fits else None
        case LoadViews(mailbox, uids, octets), LoadViews(same, more_uids, as_well) if mailbox is same:
            total = [*uids, *(uid for uid in more_uids if uid not in uids)]
            return (
                LoadViews(mailbox, total, octets) if octets == as_well and len(total) <= MOST_JOINED else None
            )
        case _:
            return None
