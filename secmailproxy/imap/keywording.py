"""Keywords in a session: put into what the server answers, and told when they have changed. PURE.

The server knows nothing of them, so no MODSEQ speaks of them either. A client is told of a change with the
answer that brought it about, or else before its next UID command, NOOP, CHECK or IDLE: by a FETCH response
with the flags as the server has them now. One that may ask only for what has changed since it was last here
(CONDSTORE, QRESYNC) is told all keywords of the mailbox, once, after it has selected it.

Standards: RFC 9051 sections 5.2, 7.5.1 and 7.5.2; RFC 7162 sections 3.1 and 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import cast

from keystore.errors import KeystoreError
from secmailproxy.errors import SecMailProxyError
from secmailproxy.imap import answers, flags
from secmailproxy.imap.grammar import FetchResponse, GrammarError, Verb
from secmailproxy.imap.numbers import Numbers
from secmailproxy.imap.searching import search_result
from secmailproxy.imap.selected import Selected
from secmailproxy.imap.steps import Ask, Completion, Mark, Step, Task
from secmailproxy.imap.wire import Fragment

_FETCH = re.compile(rb"\* (\d+) FETCH \(", re.IGNORECASE)
_AWARE = re.compile(rb"\b(?:CONDSTORE|QRESYNC|MODSEQ|CHANGEDSINCE|UNCHANGEDSINCE)\b", re.IGNORECASE)
_POLLS = frozenset({"NOOP", "CHECK", "IDLE"})


def is_aware(line: bytes) -> bool:
    """Whether a command (its first line) makes known that the client goes by MODSEQ."""
    return _AWARE.search(line) is not None


class Keywords:
    """Rewrites the flags in the server's responses, fragment by fragment."""

    def __init__(self, *, shown: bool) -> None:
        """Without `shown` no message has a keyword of ours, whoever says so."""
        self._shown = shown
        self._words = b""
        """Of the message whose FETCH response is half-way in."""
        self._in_fetch = False

    def rewritten(self, fragment: Fragment, selected: Selected | None) -> bytes:
        """The fragment's octets for the client, and for our own tasks."""
        line = fragment.octets
        if not fragment.first:
            return flags.of_message(line, self._words if self._in_fetch else b"")
        if not line.startswith(b"* "):
            self._in_fetch = False
            return line
        fetch = _FETCH.match(line) if line[2:3].isdigit() else None
        self._in_fetch = fetch is not None
        if fetch is None:
            return flags.of_mailbox(flags.elsewhere(line), shown=self._shown)
        self._words = b""
        if selected is not None and selected.mailbox.kinds:
            self._words = self._keywords(line, int(fetch[1]), selected)
        return flags.of_message(line, self._words)

    def _keywords(self, line: bytes, number: int, selected: Selected) -> bytes:
        uid = flags.uid_of(line)
        if uid is None:
            uid = selected.places.uid(number) or 0
        elif uid in selected.mailbox.kinds:
            selected.places.learn(number, uid)
        else:
            # Whatever was said of this number before: it is not that of a message with keywords.
            selected.places.drop(number)
        if not self._shown:
            return b""
        if flags.has_list(line):
            selected.news().discard(uid)
        return selected.mailbox.marks.words.get(uid, b"")


def news(selected: Selected | None, verb: Verb, *, aware: bool) -> Task | None:
    """What comes before the command `verb`, which waits meanwhile; None when there is nothing to tell.

    Not before a command that speaks of sequence numbers: an EXPUNGE would change what they mean.
    """
    if selected is None or not selected.mailbox.marks.words:
        return None
    if not (verb.name in _POLLS or verb.name.startswith("UID ")):
        return None
    if selected.news() or verb.name in _POLLS:
        return _tell(selected, looks=verb.name in _POLLS, aware=aware)
    return None


def _tell(selected: Selected, *, looks: bool, aware: bool) -> Task:
    """`looks`: at what has become of the trust in certificates, too."""
    try:
        if looks:
            yield Mark(selected.mailbox)
        untold = Numbers.each(selected.news())
        selected.untold.clear()
        items = b" (FLAGS MODSEQ)\r\n" if aware else b" (FLAGS)\r\n"
        if untold:
            yield Ask([(b"UID FETCH " + text + items,) for text in untold.texts()])
    except (SecMailProxyError, KeystoreError, GrammarError):
        pass  # the command that it came before is carried out all the same
    return b""


def find_places(selected: Selected) -> Generator[Step, object, None]:
    """Learn the sequence numbers of protected messages; no EXPUNGE can come meanwhile.

    Of all of them, so that the question does not tell what came of opening them.
    """
    uids = Numbers.each(list(selected.mailbox.kinds))
    if not uids or selected.exists == 0:
        return
    found: list[int] = []

    def on_result(octets: bytes) -> None:
        found.extend(search_result(octets)[0])

    result = yield Ask([(b"SEARCH UID " + text + b"\r\n",) for text in uids.texts()], on_result=on_result)
    numbers, known = Numbers.each(found), list(uids)
    if all(one.ok for one in cast("list[Completion]", result)) and len(set(found)) == len(known):
        for number, uid in zip(numbers, known, strict=True):
            selected.places.learn(number, uid)
    elif numbers:
        # Some are gone. Which, the UIDs tell; `Keywords` learns them as they come in.
        texts = numbers.texts()
        yield Ask([(b"FETCH " + text + b" (UID)\r\n",) for text in texts], on_fetch=_only_flags)


def _only_flags(response: FetchResponse) -> bytes:
    return answers.leftover(response, with_uid=True)
