"""Which messages of a watched mailbox have been handed on: on the disk before anything happens to one.

One small file for each mailbox, replaced as a whole. It holds UIDs, no message text.

Standards: RFC 9051 section 2.3.1.1 (UIDVALIDITY: with another one, all UIDs are new).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from secmailproxy.errors import ConfigError
from secmailproxy.folders import write_privately


class HandedOn:
    """The messages that need not be handed on any more, of one mailbox. Not for several processes at once."""

    def __init__(self, folder: Path, account: str, mailbox: str) -> None:
        """Nothing is read before `use`."""
        name = hashlib.sha256(f"{account.lower()}\0{mailbox}".encode()).hexdigest()[:32]
        self.path = folder / f"{name}.json"
        self._uidvalidity = 0
        self.floor = 1
        """Each message with a lower UID is done with, whatever is to become of it."""
        self._done: set[int] = set()
        self._left: set[int] = set()
        self._is_unwritten = False

    def use(self, uidvalidity: int) -> None:
        """Read what is known of this mailbox; nothing, when the server has given it a new UIDVALIDITY.

        Blocks. Raises ConfigError for a file that is damaged: what it said must not be guessed.
        """
        if self._is_unwritten and uidvalidity == self._uidvalidity:
            return  # the disk does not know all that this process knows
        self._uidvalidity, self.floor, self._done, self._left = uidvalidity, 1, set(), set()
        self._is_unwritten = False
        try:
            told = json.loads(self.path.read_bytes())
            if told["uidvalidity"] == uidvalidity:
                self.floor = int(told["floor"])
                self._done, self._left = set(map(int, told["done"])), set(map(int, told["left"]))
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigError(f"Cannot read {self.path}: {error.strerror}.") from None
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{self.path} is damaged; remove it, and all messages of the mailbox are handed on again."
            ) from None

    def is_done(self, uid: int) -> bool:
        """Whether the message was handed on, or shall be left alone."""
        return uid < self.floor or uid in self._done or uid in self._left

    def is_left(self, uid: int) -> bool:
        """Whether nothing is to be done with it at all."""
        return uid in self._left

    def prepare(self) -> None:
        """Before a message is handed on. Blocks; raises ConfigError where the last one could not be noted."""
        if self._is_unwritten:
            self._write()

    def done(self, uid: int) -> None:
        """The message was handed on. Blocks until this is on the disk; raises ConfigError."""
        self._done.add(uid)
        self._write()

    def leave(self, uid: int) -> None:
        """The message is not handed on, and stays where it is. Blocks; raises ConfigError."""
        self._left.add(uid)
        self._write()

    def compact(self, existing: Iterable[int], *, finished: bool) -> None:
        """Forget the UIDs that are gone. `existing` are those from `floor` on.

        `finished` tells that nothing more is to be done with what was handed on. Blocks.
        """
        there = set(existing)
        over = self._left | self._done if finished else self._left
        pending = there - over
        floor = min(pending) if pending else max(there, default=self.floor - 1) + 1
        done = {uid for uid in self._done & there if uid >= floor}
        left = {uid for uid in self._left & there if uid >= floor}
        if (floor, done, left) != (self.floor, self._done, self._left):
            self.floor, self._done, self._left = floor, done, left
            self._write()

    def _write(self) -> None:
        self._is_unwritten = True
        told = {
            "uidvalidity": self._uidvalidity,
            "floor": self.floor,
            "done": sorted(self._done),
            "left": sorted(self._left),
        }
        write_privately(self.path, json.dumps(told).encode())
        self._is_unwritten = False
