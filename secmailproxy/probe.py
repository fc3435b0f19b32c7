"""Try a server once, as `setup` and `doctor` do: reach it, verify its TLS, log in, read its capabilities.

aioimaplib does this for implicit TLS. It cannot STARTTLS, so that case is imaplib's, in a thread.
Security: TLS is verified before a password is sent; errors carry neither password nor the server's own words
beyond its one-line refusal.
"""

from __future__ import annotations

import asyncio
import imaplib
import logging
import os
import ssl
from dataclasses import dataclass
from typing import Any

from secmailproxy.accounts import ImapUpstream
from secmailproxy.errors import LoginRefused, UpstreamUnavailable

TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class ImapProbe:
    """What was seen of a server that let us in."""

    tls_version: str
    capabilities: frozenset[str]
    """Upper case, as announced after the login."""


async def try_imap(server: ImapUpstream, username: str, password: str, timeout: float = TIMEOUT) -> ImapProbe:
    """Log in and out. Raises UpstreamUnavailable (not reached, TLS not verified) or LoginRefused."""
    if any(ord(one) < 32 for one in username + password):
        raise LoginRefused("A user name or password with a control character cannot be used with IMAP.")
    try:
        # imaplib's own time-outs are for each read; this one is for all.
        async with asyncio.timeout(timeout):
            if server.tls == "implicit":
                return await _try_implicit(server, username, password, timeout)
            return await asyncio.to_thread(_try_starttls, server, username, password, timeout)
    except ssl.SSLCertVerificationError as error:
        raise UpstreamUnavailable(
            f"The certificate of {server.host}:{server.port} is not to be trusted: {error.verify_message}. "
            "If the server has a private authority, name its certificate as ca_file (--ca-file)."
        ) from None
    except ssl.SSLError as error:
        raise UpstreamUnavailable(
            f"No TLS with {server.host}:{server.port} ({error.reason or 'handshake failed'}). Check port and "
            "tls: implicit TLS is usually port 993, STARTTLS port 143."
        ) from None
    except (TimeoutError, OSError, EOFError) as error:
        reason = _reason(error)
        raise UpstreamUnavailable(
            f"Cannot reach the IMAP server {server.host}:{server.port}: {reason}. Check host, port and "
            "network."
        ) from None


async def _try_implicit(server: ImapUpstream, username: str, password: str, timeout: float) -> ImapProbe:
    import aioimaplib

    # Its debug records hold what is sent.
    logging.getLogger("aioimaplib").setLevel(logging.CRITICAL)
    client = aioimaplib.IMAP4_SSL(server.host, server.port, timeout=timeout, ssl_context=_context(server))
    try:
        await client.wait_hello_from_server()
        # aioimaplib quotes the password only.
        answer = await client.login(aioimaplib.quoted(username), password)
        if answer.result != "OK":
            raise _refused(server, answer.lines)
        await client.protocol.capability()
        version = client.protocol.transport.get_extra_info("ssl_object").version()
        capabilities = frozenset(str(one).upper() for one in client.protocol.capabilities)
        await client.logout()
        return ImapProbe(version, capabilities)
    except aioimaplib.AioImapException:
        raise UpstreamUnavailable(f"{server.host}:{server.port} does not speak IMAP as expected.") from None
    finally:
        if client.protocol.transport is not None:
            client.protocol.transport.abort()


def _try_starttls(server: ImapUpstream, username: str, password: str, timeout: float) -> ImapProbe:
    try:
        with imaplib.IMAP4(server.host, server.port, timeout=timeout) as client:
            if "STARTTLS" not in client.capabilities:
                raise UpstreamUnavailable(
                    f"{server.host}:{server.port} offers no STARTTLS; use implicit TLS, usually port 993."
                )
            client.starttls(_context(server))
            client.login(username, password)
            _, answer = client.capability()
            version = client.sock.version()  # type: ignore[attr-defined]  # an SSLSocket after starttls
            words = answer[0].decode("ascii", "replace").upper().split()
            return ImapProbe(version, frozenset(words))
    except imaplib.IMAP4.abort:
        raise UpstreamUnavailable(f"{server.host}:{server.port} closed the connection.") from None
    except imaplib.IMAP4.error as error:
        raise _refused(server, error.args) from None


def _reason(error: TimeoutError | OSError | EOFError) -> str:
    """Why a connection failed, without asyncio's own wording, which repeats the address."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    number = error.errno if isinstance(error, OSError) else None
    if number and number > 0:
        return os.strerror(number)
    return (error.strerror if isinstance(error, OSError) else None) or "the connection failed"


def _context(server: ImapUpstream) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=server.ca_file)


def _refused(server: ImapUpstream, words: Any) -> LoginRefused:
    """The refusal in the server's words: one line, printable ASCII, not long."""
    first = next(iter(words), b"")
    text = first.decode("ascii", "replace") if isinstance(first, bytes) else str(first)
    text = "".join(one for one in text if one.isascii() and one.isprintable())[:200].rstrip(".")
    return LoginRefused(
        f"The IMAP server {server.host} refuses the login: {text or 'no reason given'}. Check user name and "
        "password; some providers want a password made for mail programs."
    )
