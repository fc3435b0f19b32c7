"""Hands a message to an SMTP server on this machine, such as the port where Postfix takes mail back.

Standards: RFC 5321, RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8).
Security: loopback only, for there is no TLS here and a message may be in clear where a rule says so.
"""

from __future__ import annotations

import ipaddress
import smtplib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from secmailproxy.errors import ConfigError, UpstreamLost, UpstreamUnavailable
from secmailproxy.forward.attempts import Fate, Outcome
from secmailproxy.forward.model import Product

_LOCAL_NAME = "[127.0.0.1]"
_TIMEOUT = 60.0
_FINAL_TIMEOUT = 600.0
"""For the reply to the final dot (RFC 5321 section 4.5.3.2.6)."""


def to_relay(relay: str, product: Product) -> None:
    """Returns when the server at `relay` (host:port) has taken the message for every recipient. Blocks.

    Raises UpstreamUnavailable: then it has taken it for none, or (UpstreamLost) that is not known.
    """
    fates = send(relay, product, product.envelope.rcpt_tos, lambda: None, for_all_or_none=True)
    worst = next((one for one in fates.values() if one.outcome is not Outcome.ACCEPTED), None)
    if worst is not None:
        kind = UpstreamLost if worst.outcome is Outcome.UNKNOWN else UpstreamUnavailable
        raise kind(f"{relay} did not take the message: {worst.code or ''} {worst.text}")


def send(
    relay: str,
    product: Product,
    rcpt_tos: Sequence[str],
    begun: Callable[[], None],
    *,
    for_all_or_none: bool = False,
) -> Mapping[str, Fate]:
    """What became of the message for each of `rcpt_tos`; `begun` is called before its first octet. Blocks.

    Raises UpstreamUnavailable when the server cannot be reached, or is lost before the message is sent.
    """
    host, port = address_of(relay)
    server = smtplib.SMTP(local_hostname=_LOCAL_NAME, timeout=_TIMEOUT)
    try:
        code, _ = server.connect(host, port)
        if code != 220:
            raise UpstreamUnavailable(f"{relay} refuses the connection with {code}")
        server.ehlo_or_helo_if_needed()
        fates = _transaction(server, product, rcpt_tos, begun, for_all_or_none)
        with suppress(smtplib.SMTPException, OSError):
            # Not by `with`: that hears the reply, and one it does not like would undo what is settled.
            server.putcmd("QUIT")
        return fates
    except (smtplib.SMTPException, OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it broke the connection"
        raise UpstreamUnavailable(f"{relay} cannot be reached: {why}") from None
    finally:
        with suppress(OSError):
            server.close()


def address_of(relay: str) -> tuple[str, int]:
    """Host and port. Raises ConfigError for what is not on this machine."""
    host, _, port = relay.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
        return (host, int(port)) if local else _refuse(relay)
    except ValueError:
        return _refuse(relay)


def _refuse(relay: str) -> tuple[str, int]:
    raise ConfigError(
        f"forward.relay is {relay!r}; it must be host:port on this machine, such as 127.0.0.1:10026"
    )


def _transaction(
    server: smtplib.SMTP,
    product: Product,
    rcpt_tos: Sequence[str],
    begun: Callable[[], None],
    for_all_or_none: bool,
) -> Mapping[str, Fate]:
    envelope = product.envelope
    refusal = fate(*server.mail(envelope.mail_from, _options(server, product, rcpt_tos)))
    if refusal.outcome is not Outcome.ACCEPTED:
        return dict.fromkeys(rcpt_tos, refusal)
    asked = dict(zip(envelope.rcpt_tos, envelope.rcpt_options, strict=False))
    knows_dsn = server.has_extn("dsn")
    fates = {to: fate(*server.rcpt(to, asked.get(to, ()) if knows_dsn else ())) for to in rcpt_tos}
    accepted = [to for to, one in fates.items() if one.outcome is Outcome.ACCEPTED]
    if not accepted or (for_all_or_none and len(accepted) < len(fates)):
        return fates
    code, text = server.docmd("DATA")
    if code == 354:
        begun()
        code, text = _message(server, product.octets)
    return {**fates, **dict.fromkeys(accepted, fate(code, text))}


def _message(server: smtplib.SMTP, octets: bytes) -> tuple[int, bytes]:
    stuffed = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:]
    end = b".\r\n" if stuffed.endswith(b"\r\n") else b"\r\n.\r\n"
    assert server.sock is not None
    server.sock.settimeout(_FINAL_TIMEOUT)
    try:
        server.send(stuffed + end)
        return server.getreply()
    except (smtplib.SMTPException, OSError):
        with suppress(OSError):
            server.close()
        return 0, b"the connection broke"


def _options(server: smtplib.SMTP, product: Product, rcpt_tos: Sequence[str]) -> list[str]:
    asked = {one.partition("=")[0].upper(): one for one in product.envelope.mail_options}
    options = [asked[name] for name in ("RET", "ENVID") if name in asked and server.has_extn("dsn")]
    if not product.octets.isascii() and server.has_extn("8bitmime"):
        options.append("BODY=8BITMIME")
    addresses = (product.envelope.mail_from, *rcpt_tos)
    if "SMTPUTF8" in asked or not all(one.isascii() for one in addresses):
        options.append("SMTPUTF8")
    return options


def fate(code: int, text: bytes | str) -> Fate:
    """What a reply of the next hop means; 0 for none that was heard."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    said = " ".join("".join(one if one.isprintable() else " " for one in text).split())[:500]
    match code // 100:
        case 2:
            return Fate(Outcome.ACCEPTED, code, said)
        case 5 if code not in _ABOUT_US:
            return Fate(Outcome.REFUSED, code, said)
        case 0:
            return Fate(Outcome.UNKNOWN, 0, said)
        case _:
            return Fate(Outcome.DEFERRED, code, said)


_ABOUT_US = frozenset({530, 534, 535, 538})
"""Refusals of our login, not of the message (RFC 4954 section 6)."""
