"""Where and how the listeners of this package listen."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from secmailproxy.admission import Admission


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationSettings:
    """What every conversation needs. Times in seconds."""

    name: str
    """Of the listener, as it begins the events of the log: "submission"."""
    idle_timeout: float = 300
    """Without an octet from the client (RFC 5321 section 4.5.3.2.7)."""
    login_timeout: float = 180
    """From the greeting to the login, however busy the client is meanwhile."""
    max_sessions: int = 200
    """Of all clients."""
    admission: Admission = field(default_factory=lambda: Admission("submission"))
    tls: Callable[[], ssl.SSLContext | None] = lambda: None
    """The certificate of the listener as it is now; None where there is none, and so no STARTTLS."""
    socket_mode: int = 0o660
    """Of a Unix socket."""
    implicit_tls: bool = False
    """TLS from the first octet (RFC 8314 section 3.3), for which there must be a certificate."""


@dataclass(frozen=True, slots=True)
class SubmissionSettings(ConversationSettings):
    """Where and how mail clients submit. Times in seconds."""

    host: str = "127.0.0.1"
    port: int = 1025
    """0 for any free one."""
    size_limit: int = 50 * 1024 * 1024
    """Octets of a message; less where a smarthost accepts less."""
    login_delay: float = 1.0
    """Before a failed login is answered; doubled for each one on the same connection."""
    login_attempts: int = 3
    """Failed logins after which the connection is closed."""
    probe_patience: float = 3.0
    """How long EHLO waits to learn what the smarthosts offer."""
    name: str = field(default="submission", kw_only=True)


@dataclass(frozen=True, slots=True)
class IntakeSettings(ConversationSettings):
    """Where and how mail servers of this machine hand system mail over."""

    host: str
    """A loopback address, or the path of a Unix socket."""
    port: int
    """0 for any free one, and for a Unix socket."""
    accepts: Callable[[str], bool]
    """Whether mail may come for this address, or bare local name."""
    size_limit: int = 50 * 1024 * 1024
    """Octets of a message."""
    max_sessions: int = field(default=50, kw_only=True)
    admission: Admission = field(default_factory=lambda: Admission("system"), kw_only=True)
