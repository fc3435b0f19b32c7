"""Which mailbox is selected: the task that changes it, and the responses that tell of it. PURE.

Standards: RFC 9051 sections 6.3.2, 7.1 and 7.4.1; RFC 7162 section 3.2.10 (VANISHED); RFC 2683 section 3.4.3.
"""

from __future__ import annotations

import re

from secmailproxy.imap import grammar, keywording
from secmailproxy.imap.grammar import Verb
from secmailproxy.imap.selected import Selected, Selecting
from secmailproxy.imap.sending import Pieces, pieces_of
from secmailproxy.imap.steps import Ask, Completion, OpenMailbox, Task
from secmailproxy.imap.wire import Command
from secmailproxy.views import Mailbox

_COUNT = re.compile(rb"\* (\d+) (EXISTS|EXPUNGE)\b", re.IGNORECASE)
_NUMBER_CODE = re.compile(rb"\[(UIDVALIDITY|UIDNEXT) (\d+)\]", re.IGNORECASE)


class Selection:
    """The mailbox that commands speak of, if any."""

    def __init__(self, *, inline_pgp: bool = False, opens_signed: bool = False) -> None:
        """`inline_pgp`: texts are looked at for inline OpenPGP. `opens_signed`: see `Selected`."""
        self._inline_pgp = inline_pgp
        self._opens_signed = opens_signed
        self.selected: Selected | None = None
        """None while none is selected, or it is being changed."""
        self.aware = False
        """Whether the client goes by MODSEQ, which tells it nothing of our keywords."""
        self._selecting = Selecting()

    def change(self, command: Command, verb: Verb) -> Task:
        """The task for SELECT, EXAMINE, CLOSE or UNSELECT.

        Raises `GrammarError` at once, before anything is thought to have changed.
        """
        opens = verb.name in {"SELECT", "EXAMINE"}
        name = grammar.parse_mailbox(command, verb) if opens else None
        start = len(verb.tag) + 1
        pieces = pieces_of(command, start) if command.literals else (command.octets[start:],)
        return self._changing(pieces, name)

    def _changing(self, pieces: Pieces, name: bytes | None) -> Task:
        before, self.selected, self._selecting = self.selected, None, Selecting()
        completions: object = yield Ask([pieces])
        assert isinstance(completions, list)
        completion: Completion = completions[0]
        if not completion.ok:
            # Servers keep the mailbox open after BAD; after NO it is closed, and they refuse what reads it.
            self.selected = before
        elif name is not None:
            box = yield OpenMailbox(name, self._selecting.uidvalidity)
            assert isinstance(box, Mailbox)
            self.selected = self._selecting.opened(box, inline_pgp=self._inline_pgp)
            self.selected.opens_signed = self._opens_signed
            yield from keywording.find_places(self.selected)
            if self.aware:
                self.selected.untold.update(list(box.marks.words))
        return completion.octets

    def hear(self, line: bytes) -> bool:
        """Note an untagged response; False when every UID means something else from now on.

        The client must start afresh then (RFC 2683 section 3.4.3).
        """
        if line[2:3].isdigit():
            count = _COUNT.match(line)
            if count is not None:
                counted = self.selected or self._selecting
                counted.count(int(count[1]), exists=count[2].upper() == b"EXISTS")
            return True
        upper = line[2:14].upper()
        if upper.startswith(b"VANISHED") and b"(EARLIER)" not in line[:24].upper() and self.selected:
            self.selected.exists = None
            self.selected.places.forget()
        for code, number in _NUMBER_CODE.findall(line) if upper.startswith(b"OK ") else ():
            self._selecting.number(code.upper(), int(number))
            if self.selected is not None and self.selected.mailbox.uidvalidity != self._selecting.uidvalidity:
                return False
        return True
