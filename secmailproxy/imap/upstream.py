"""The connection to the mailbox's own IMAP server: TLS, greeting, login, what it can do.

Standards: RFC 9051 sections 6.1.1, 6.2; RFC 8314; RFC 4616; RFC 4959; RFC 6154.
Security: TLS is verified always; octets that came before the STARTTLS handshake are an attack and end the
connection; PREAUTH is refused, for it would skip the login; no credential leaves before TLS is up.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from secmailproxy.accounts import ImapLogin, ImapUpstream
from secmailproxy.errors import LoginRefused, UpstreamUnavailable
from secmailproxy.imap.wire import Fragment, ResponseSplitter, WireError

CONNECT_SECONDS = 30.0
READ_OCTETS = 256 * 1024
_ALERT = re.compile(rb"(?:OK|NO|BAD) \[ALERT\]", re.IGNORECASE)
CHECK_PORT = "Check port and tls: implicit TLS is usually port 993, STARTTLS port 143."


class LoginRefusedByServer(LoginRefused):
    """The server refused user name or password; `completion` is its answer without the tag.

    `alerts` are as in `Upstream`.
    """

    def __init__(self, completion: bytes, alerts: Sequence[bytes] = ()) -> None:
        super().__init__("the mail server refused the login")
        self.completion = completion
        self.alerts = alerts


@dataclass(slots=True)
class Upstream:
    """A logged-in connection. `completion` is the server's answer to the login, without the tag."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    capabilities: bytes
    """The space-separated list after the login, as the server wrote it."""
    completion: bytes
    special_use: list[bytes] = field(default_factory=list)
    """LIST response lines that name special uses."""
    alerts: list[bytes] = field(default_factory=list)
    """Untagged responses that people must see (RFC 9051 section 7.1), said over TLS until now."""
    rest: bytes = b""
    """What the server has said beyond what it was asked."""

    def abort(self) -> None:
        """Close at once."""
        self.writer.transport.abort()


async def log_in(login: ImapLogin, client_id: bytes) -> Upstream:
    """Connect and log in. Raises LoginRefusedByServer, UpstreamUnavailable."""
    server = login.account.imap
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await _log_in(server, login, client_id)
    except TimeoutError:
        raise UpstreamUnavailable(
            f"{server.host}:{server.port} did not answer in time. {CHECK_PORT}"
        ) from None
    except ssl.SSLCertVerificationError as error:
        raise UpstreamUnavailable(
            f"The certificate of {server.host} is not trusted ({error.verify_message}); "
            "nothing was sent. A private CA is named by ca_file."
        ) from None
    except ssl.SSLError as error:
        raise UpstreamUnavailable(
            f"{server.host}:{server.port} does not answer in TLS ({error.reason}). {CHECK_PORT}"
        ) from None
    except (OSError, WireError, asyncio.IncompleteReadError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        if isinstance(error, ConnectionError) and error.errno:
            # asyncio's own text repeats the address in Python's notation.
            why = os.strerror(error.errno)
        raise UpstreamUnavailable(f"Cannot reach {server.host}:{server.port} over TLS ({why}).") from None


async def _log_in(server: ImapUpstream, login: ImapLogin, client_id: bytes) -> Upstream:
    tls = ssl.create_default_context(cafile=server.ca_file)
    implicit = server.tls == "implicit"
    reader, writer = await asyncio.open_connection(
        server.host, server.port, ssl=tls if implicit else None, limit=READ_OCTETS
    )
    _keep_alive(writer.get_extra_info("socket"))
    dialogue = _Dialogue(reader, writer)
    try:
        await dialogue.greeting()
        if not implicit:
            await dialogue.start_tls(tls, server.host)
        capabilities = await dialogue.capabilities()
        if client_id and b"ID" in capabilities:
            await dialogue.command(b"ID " + client_id)
        completion = await dialogue.authenticate(login.username, login.password, capabilities)
        capabilities = await dialogue.capabilities()
        special_use = await dialogue.special_use(capabilities)
    except BaseException:
        writer.transport.abort()
        raise
    return Upstream(reader, writer, dialogue.listed, completion, special_use, dialogue.alerts, dialogue.rest)


def _keep_alive(connection: socket.socket) -> None:
    """Have the system notice a server that is gone without a word: a client is told that we are at work."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 120), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 4)):
        if (option := getattr(socket, name, None)) is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


class _Dialogue:
    """One command at a time; responses as whole lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._serial = 0
        self._splitter = ResponseSplitter()
        self._parts: list[bytes] = []
        self._lines: deque[bytes] = deque()
        self.listed = b""
        self.alerts: list[bytes] = []

    @property
    def rest(self) -> bytes:
        """What was received and not read, from the beginning of a response."""
        return b"".join([*self._lines, *self._parts, self._splitter.rest])

    async def _line(self) -> bytes:
        """The next response; literals in it are kept in place."""
        while not self._lines:
            data = await self._reader.read(READ_OCTETS)
            if not data:
                raise WireError("the connection was closed")
            for piece in self._splitter.feed(data):
                self._parts.append(piece.octets)
                if isinstance(piece, Fragment) and piece.last:
                    self._lines.append(b"".join(self._parts))
                    self._parts.clear()
        return self._lines.popleft()

    async def greeting(self) -> None:
        """The first line must be an OK."""
        line = await self._line()
        self._note_alert(line)
        line = line.upper()
        if line.startswith(b"* BYE"):
            raise UpstreamUnavailable("The mail server refuses connections now (BYE).")
        if not line.startswith(b"* OK"):
            raise UpstreamUnavailable("The mail server did not greet as expected; PREAUTH is refused.")

    async def command(self, text: bytes, *continuations: bytes) -> tuple[list[bytes], bytes]:
        """Send one command; the untagged responses and the completion without its tag."""
        self._serial += 1
        tag = b"login%d" % self._serial
        self._writer.write(tag + b" " + text + b"\r\n")
        answers = list(continuations)
        untagged: list[bytes] = []
        while True:
            line = await self._line()
            if line.startswith(tag + b" "):
                return untagged, self._completion(line[len(tag) + 1 :])
            if line.startswith(b"+"):
                # After the last one an empty line ends an exchange that failed (RFC 7628 section 3.2.3).
                self._writer.write((answers.pop(0) if answers else b"") + b"\r\n")
            elif line.upper().startswith(b"* BYE"):
                raise UpstreamUnavailable("The mail server ended the connection (BYE).")
            elif not self._note_alert(line):
                untagged.append(line)

    def _note_alert(self, line: bytes) -> bool:
        if line.startswith(b"* ") and _ALERT.match(line, 2):
            self.alerts.append(line)
            return True
        return False

    def _completion(self, completion: bytes) -> bytes:
        """As it is, but an alert in an OK goes its own way: the client's OK has another code."""
        if completion[:2].upper() == b"OK" and self._note_alert(b"* " + completion):
            return b"OK Done.\r\n"
        return completion

    async def capabilities(self) -> frozenset[bytes]:
        """What the server offers now."""
        untagged, _ = await self.command(b"CAPABILITY")
        lines = [line for line in untagged if line.upper().startswith(b"* CAPABILITY ")]
        self.listed = b" ".join(b" ".join(line[13:] for line in lines).split())
        return frozenset(self.listed.upper().split())

    async def start_tls(self, tls: ssl.SSLContext, host: str) -> None:
        """Begin TLS or fail; never go on without."""
        if b"STARTTLS" not in await self.capabilities():
            raise UpstreamUnavailable(
                f"{host} does not offer STARTTLS; nothing was sent. Use tls = implicit."
            )
        _, completion = await self.command(b"STARTTLS")
        if not completion.upper().startswith(b"OK"):
            raise UpstreamUnavailable(f"{host} refused STARTTLS; nothing was sent.")
        if self._lines or self._splitter.mid_response:
            raise UpstreamUnavailable(f"{host} sent data before TLS began; this may be an attack.")
        await self._writer.start_tls(tls, server_hostname=host)
        # Anybody could have said them.
        self.alerts.clear()

    async def authenticate(self, username: str, password: str, capabilities: frozenset[bytes]) -> bytes:
        """Log in by PLAIN, else by LOGIN. Raises LoginRefusedByServer."""
        name, secret = (
            username.encode("utf-8", "surrogateescape"),
            password.encode("utf-8", "surrogateescape"),
        )
        response = base64.b64encode(b"\0" + name + b"\0" + secret)
        if b"AUTH=PLAIN" not in capabilities:
            if b"LOGINDISABLED" in capabilities:
                raise UpstreamUnavailable("The mail server offers neither AUTH=PLAIN nor LOGIN.")
            _, completion = await self._login(name, secret)
        elif b"SASL-IR" in capabilities:
            _, completion = await self.command(b"AUTHENTICATE PLAIN " + response)
        else:
            _, completion = await self.command(b"AUTHENTICATE PLAIN", response)
        if not completion.upper().startswith(b"OK"):
            raise LoginRefusedByServer(completion, self.alerts)
        return completion

    async def _login(self, name: bytes, secret: bytes) -> tuple[list[bytes], bytes]:
        if not any(octet < 32 or octet > 126 for octet in name + secret):
            return await self.command(b"LOGIN " + _quote(name) + b" " + _quote(secret))
        return await self.command(b"LOGIN {%d}" % len(name), name + b" {%d}" % len(secret), secret)

    async def special_use(self, capabilities: frozenset[bytes]) -> list[bytes]:
        """LIST lines that tell which mailboxes hold drafts and sent mail, if the server tells."""
        if b"SPECIAL-USE" not in capabilities:
            return []
        pick = b"(SPECIAL-USE) " if b"LIST-EXTENDED" in capabilities else b""
        untagged, _ = await self.command(b"LIST " + pick + b'"" "*"')
        return [line for line in untagged if line.upper().startswith(b"* LIST ")]


def _quote(octets: bytes) -> bytes:
    return b'"' + octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
