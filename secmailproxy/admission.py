"""What one client address may do at a listener: connections, logins, messages, mistakes.

On loopback nearly all clients are 127.0.0.1, so the limits are also what all mail clients together may do.
They keep a program that connects again and again from using up the descriptors of this process and the
connections that the mail server grants. Logins are locked for an account together with an address (and the
user of this machine behind it, where that is known), never for an account alone: nobody can lock its owner
out from elsewhere.

Security: each refusal leaves one log record of a form that does not change (docs/abuse.md). Its first field
is the client's address, and no word of the client's own is in it.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import ceil

from secmailproxy.throttle import MISTAKES, Lockouts, Rates

log = logging.getLogger(__name__)

_LINES_PER_MINUTE = 60
"""Log lines about refused connections of one address: a flood of them must not fill the disk."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What each address may do at each listener."""

    connections: int = 100
    """Thunderbird opens five for each account."""
    connections_per_minute: int = 1000
    messages_per_minute: int = 1000
    mistakes_per_minute: int = 100
    """Beyond that each mistake ends its connection."""
    login_failures: int = 10
    """Different wrong passwords for one account from one address, before it is locked for that address."""
    lock_seconds: int = 60
    """The first lock; each further wrong password doubles it, up to 15 minutes."""


class Refusal(Enum):
    """Why a client is refused, in the words of the log."""

    CONNECTIONS = "too many connections"
    LOGIN = "authentication failed"
    LOCKED = "login locked"
    NO_LOGIN = "no login in time"
    RELAY = "relay access denied"
    ABUSE = "protocol abuse"
    MESSAGES = "too many messages"


class LoginGuard:
    """The lock-outs, shared by all listeners: who guesses at two gets no more guesses for it."""

    def __init__(self, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        limits = limits or Limits()
        self._clock = clock
        self._lockouts = Lockouts(limits.login_failures, limits.lock_seconds)
        self._salt = secrets.token_bytes(16)

    def change(self, limits: Limits) -> None:
        """Go by these from now on."""
        self._lockouts.failures, self._lockouts.seconds = limits.login_failures, limits.lock_seconds

    def attempt(self, guest: str, name: str, secret: str) -> float:
        """Count this login, which is right only once `succeeded` says so; for how long it is locked, or 0.

        `name` is the account's address, however the client called it, or the unknown name as it came.
        """
        return self._lockouts.attempt(self._key(guest, name), self._digest(secret), self._clock())

    def withdraw(self, guest: str, name: str, secret: str) -> None:
        """Nobody could judge this login, such as where the mail server cannot be reached."""
        self._lockouts.withdraw(self._key(guest, name), self._digest(secret))

    def succeeded(self, guest: str, name: str) -> None:
        """The login was right: forget the wrong ones."""
        self._lockouts.succeeded(self._key(guest, name))

    def _key(self, guest: str, name: str) -> tuple[str, bytes]:
        return guest, self._digest(name.lower())

    def _digest(self, text: str) -> bytes:
        """Of a fixed size, however long the text is, and of no use to who reads this memory."""
        octets = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(octets, digest_size=8, key=self._salt).digest()


class Admission:
    """Counts what the clients of one kind of listener do."""

    def __init__(
        self,
        listener: str,
        limits: Limits | None = None,
        logins: LoginGuard | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`listener` begins the event of each log record: "imap", "submission" or "system"."""
        self._listener = listener
        self._clock = clock
        self._limits = limits = limits or Limits()
        self.logins = logins or LoginGuard(limits, clock)
        self._open: Counter[str] = Counter()
        self._connections = Rates(limits.connections_per_minute)
        self._messages = Rates(limits.messages_per_minute)
        self._mistakes = Rates(limits.mistakes_per_minute)
        self._lines = Rates(_LINES_PER_MINUTE)

    def change(self, limits: Limits) -> None:
        """Go by these from now on; they bind those who come."""
        self._limits = limits
        self.logins.change(limits)
        self._connections.per_minute = limits.connections_per_minute
        self._messages.per_minute = limits.messages_per_minute
        self._mistakes.per_minute = limits.mistakes_per_minute

    def enter(self, client: str, share: int | None = None) -> bool:
        """Count one more connection of this address; False, logged and not counted, when it has its share.

        `share` is how many it may have open, where that is less than for others.
        """
        now = self._clock()
        most = self._limits.connections if share is None else min(share, self._limits.connections)
        if self._open[client] >= most:
            limit = most
        elif not self._connections.take(client, now):
            limit = self._limits.connections_per_minute
        else:
            self._open[client] += 1
            return True
        if not self._open[client]:
            del self._open[client]
        if self._lines.take(client, now):
            self.refuse(Refusal.CONNECTIONS, client, limit=limit)
        return False

    def leave(self, client: str) -> None:
        """A connection that had entered is over."""
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]

    def may_send(self, client: str) -> bool:
        """Whether this address may send one more message now; logged when it may not."""
        if self._messages.take(client, self._clock()):
            return True
        self.refuse(Refusal.MESSAGES, client, limit=self._limits.messages_per_minute)
        return False

    def may_err(self, client: str, before: int) -> bool:
        """Whether a client with so many mistakes before, on this connection, may stay; logged when not."""
        if self._mistakes.take(client, self._clock()) and before < MISTAKES:
            return True
        self.refuse(Refusal.ABUSE, client, why="too many errors")
        return False

    def may_try(self, client: str, name: str, secret: str, guest: str = "") -> bool:
        """Whether this login may be tried; logged when its name is locked for this guest.

        `guest` is the address, or more where more is known of the client (`localuser`).
        """
        left = self.logins.attempt(guest or client, name, secret)
        if left:
            self.refuse(Refusal.LOCKED, client, seconds=ceil(left))
        return not left

    def refuse(self, refusal: Refusal, client: str, **facts: str | int) -> None:
        """Log one line. `facts` must hold nothing that the client has said."""
        log.warning("%s %s", self._listener, refusal.value, extra={"client": client or "unknown", **facts})
