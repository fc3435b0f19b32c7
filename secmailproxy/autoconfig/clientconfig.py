"""Read the autoconfig XML of a domain ("clientConfig", version 1.1, as Thunderbird and others publish it).

Only servers with TLS and a password login are taken, implicit TLS before STARTTLS. PURE.

Standards: draft-ietf-mailmaint-autoconfig. Security: parsed by defusedxml, so no entity is expanded and
nothing is fetched; host names and ports are checked before they are used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from secmailproxy.accounts import Tls
from secmailproxy.autoconfig.servers import Server, Servers

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_TLS: dict[str, Tls] = {"SSL": "implicit", "TLS": "implicit", "STARTTLS": "starttls"}
_PASSWORD_LOGINS = frozenset({"", "plain", "password-cleartext", "password-encrypted", "secure"})
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")


def read(octets: bytes, address: str, source: str) -> Servers:
    """The servers that `octets` (an XML document of any encoding) name for `address`; empty for other XML."""
    # Here and not above, for only `setup` reads XML; the library ships no type information.
    import defusedxml  # type: ignore[import-untyped]  # see above
    from defusedxml.ElementTree import ParseError, fromstring  # type: ignore[import-untyped]  # see above

    try:
        root: Element = fromstring(octets)
    except (ParseError, defusedxml.DefusedXmlException, ValueError, LookupError):
        return Servers()
    if root.tag != "clientConfig":
        return Servers()
    return Servers(
        imap=_best(root, "incomingServer", "imap", address, source),
        smtp=_best(root, "outgoingServer", "smtp", address, source),
    )


def _best(root: Element, tag: str, kind: str, address: str, source: str) -> Server | None:
    found = [
        server
        for element in root.iterfind(f"./emailProvider/{tag}")
        if element.get("type", "").lower() == kind
        for server in _servers(element, address, source)
    ]
    # A stable sort: the publisher's order decides among equals.
    return min(found, key=lambda server: server.tls != "implicit", default=None)


def _servers(element: Element, address: str, source: str) -> Iterator[Server]:
    """The server of an element, or nothing where it has no TLS, no password login or no sane address."""
    tls = _TLS.get(_text(element, "socketType").upper())
    host = _filled(_text(element, "hostname"), address)
    port = _text(element, "port")
    logins = {(one.text or "").strip().lower() for one in element.iterfind("authentication")} or {""}
    if tls is None or not _HOST.fullmatch(host) or not (logins & _PASSWORD_LOGINS):
        return
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= 65535):
        return
    username = _filled(_text(element, "username"), address) or address
    if username.isprintable():
        yield Server(host, int(port), tls, username, source)


def _text(element: Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _filled(text: str, address: str) -> str:
    local, _, domain = address.rpartition("@")
    values = {"%EMAILADDRESS%": address, "%EMAILLOCALPART%": local, "%EMAILDOMAIN%": domain}
    # One pass, so that an address cannot bring in a placeholder of its own.
    return re.sub("|".join(values), lambda match: values[match[0]], text)
