"""What a mail client does, with the standard library alone. All of it blocks: call it in a thread.

The same client serves to look at the mail server itself: then it speaks TLS and no proxy is in between.
"""

from __future__ import annotations

import imaplib
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

HOST = "127.0.0.1"
TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class MailClient:
    """An account as it is typed into a mail client. With `tls`, IMAP uses implicit TLS."""

    imap_port: int
    submission_port: int
    username: str
    password: str = field(repr=False)
    tls: ssl.SSLContext | None = None

    def submit(self, rcpt_to: str, octets: bytes) -> None:
        """Send one message. Raises smtplib.SMTPException with the reply when it is refused."""
        with smtplib.SMTP(HOST, self.submission_port, timeout=TIMEOUT) as client:
            client.login(self.username, self.password)
            client.sendmail(self.username, [rcpt_to], octets)

    def newest(self) -> bytes:
        """The whole newest message of the inbox, as it comes; nothing is marked as read."""
        with self._inbox() as (client, count):
            status, answer = client.fetch(str(count), "(BODY.PEEK[])")
        first = answer[0] if status == "OK" and answer else None
        if not isinstance(first, tuple):
            raise imaplib.IMAP4.error("FETCH gave no message")
        octets: bytes = first[1]
        return octets

    def newest_size_and_structure(self) -> tuple[int, str]:
        """RFC822.SIZE and BODYSTRUCTURE of the newest message of the inbox."""
        with self._inbox() as (client, count):
            _, answer = client.fetch(str(count), "(RFC822.SIZE BODYSTRUCTURE)")
        line = b"".join(part if isinstance(part, bytes) else b"".join(part) for part in answer if part)
        words = line.decode("utf-8", "replace").replace("(", " ").split()
        return int(words[words.index("RFC822.SIZE") + 1].rstrip(")")), line.decode("utf-8", "replace")

    @contextmanager
    def _inbox(self) -> Iterator[tuple[imaplib.IMAP4, int]]:
        client: imaplib.IMAP4
        if self.tls is None:
            client = imaplib.IMAP4(HOST, self.imap_port, timeout=TIMEOUT)
        else:
            client = imaplib.IMAP4_SSL(HOST, self.imap_port, ssl_context=self.tls, timeout=TIMEOUT)
        with client:
            client.login(self.username, self.password)
            _, answer = client.select("INBOX", readonly=True)
            count = int(answer[0] or b"0")
            if not count:
                raise imaplib.IMAP4.error("the inbox is empty")
            yield client, count
