"""What is found: an IMAP server and a submission server, each reached over TLS only."""

from __future__ import annotations

from dataclasses import dataclass, replace

from secmailproxy.accounts import Tls


@dataclass(frozen=True, slots=True)
class Server:
    """One server and how to log in there."""

    host: str
    port: int
    tls: Tls
    username: str
    source: str
    """Where it was found, for people: "autoconfig of example.org"."""
    is_vouched: bool = True
    """Whether the mail domain itself vouches for this host. An unsigned SRV record that points to another
    domain does not (RFC 6186 section 6): a person must agree before a password goes there."""


@dataclass(frozen=True, slots=True)
class Servers:
    """What one source, or all sources together, know of one address."""

    imap: Server | None = None
    smtp: Server | None = None

    @property
    def complete(self) -> bool:
        """Whether both are known."""
        return self.imap is not None and self.smtp is not None

    def or_else(self, other: Servers) -> Servers:
        """These, with gaps filled from `other`."""
        return replace(self, imap=self.imap or other.imap, smtp=self.smtp or other.smtp)


def is_within(host: str, domain: str) -> bool:
    """Whether `host` is `domain` or below it, without regard to case."""
    host, domain = host.lower().rstrip("."), domain.lower().rstrip(".")
    return host == domain or host.endswith(f".{domain}")
