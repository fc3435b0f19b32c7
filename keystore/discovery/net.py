"""The way to the network that all sources take, built once from the settings.

Nothing of the environment is heeded: no proxy but the one in the settings, no netrc. Where a proxy is set,
every connection goes through it and names are resolved behind it; there is no resolver then, so that nothing
of what is looked up leaves this machine beside it. TLS is verified, always.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import dns.asyncresolver
    import httpx

SCHEMES = ("http", "socks5h")
"""Of proxies. Not socks5: what is said of it elsewhere is that names are resolved before it."""
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class NetSettings:
    """How the network is reached."""

    ca_file: Path | None = None
    """Authorities (PEM) that are believed in place of this machine's."""
    proxy: str | None = None
    """Such as socks5h://127.0.0.1:9050 (Tor) or http://proxy.example.org:3128."""
    nameserver: tuple[str, int] | None = None
    """Address and port; None: those of this machine."""
    timeout: float = _SECONDS
    """Seconds: for a connection to be made, and between two pieces of an answer."""


@dataclass(frozen=True, slots=True)
class Net:
    """What a source reaches the network with. Both makers block for a moment: call them in a thread."""

    http: Callable[[], httpx.AsyncClient]
    """A new client, to be closed by who asked. It follows no redirection and keeps no cookies."""
    resolver: Callable[[], dns.asyncresolver.Resolver] | None = None
    """A new resolver; None where a proxy is set: what needs the DNS is off then."""
    timeout: float = _SECONDS
    tls: Callable[[], ssl.SSLContext] = ssl.create_default_context
    """Verifies servers that are no web servers, by the same authorities."""
    proxied: bool = False
    """Whether a proxy resolves names: one that does not exist looks like one out of reach then."""


def open_net(settings: NetSettings) -> Net:
    """Build the way to the network; nothing is opened or read yet. ValueError for a proxy that is none."""
    if settings.proxy is not None and (problem := proxy_problem(settings.proxy)):
        raise ValueError(problem)

    @cache
    def context() -> ssl.SSLContext:
        return ssl.create_default_context(cafile=settings.ca_file)

    def http() -> httpx.AsyncClient:
        from keystore.discovery.transport import client  # httpx takes long to import; many have no use for it

        return client(context(), settings.proxy, settings.timeout)

    resolver = None if settings.proxy is not None else lambda: _resolver(settings)
    return Net(http, resolver, settings.timeout, context, proxied=settings.proxy is not None)


def proxy_problem(url: str) -> str:
    """Say for people why this cannot be a proxy; "" where it can."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "this is no URL"
    if parts.scheme == "socks5":
        return "write socks5h://, so that names are resolved behind the proxy"
    if parts.scheme not in SCHEMES or not parts.hostname:
        return "write http://HOST:PORT or socks5h://HOST:PORT"
    if parts.username is not None or parts.password is not None:
        return "a proxy that asks for a password is not supported, since this file holds no secrets"
    if port is None or parts.path not in ("", "/") or parts.query or parts.fragment:
        return "write the port, and nothing after it"
    return ""


def _resolver(settings: NetSettings) -> dns.asyncresolver.Resolver:
    import dns.asyncresolver

    resolver = dns.asyncresolver.Resolver(configure=settings.nameserver is None)
    if settings.nameserver is not None:
        host, resolver.port = settings.nameserver
        resolver.nameservers = [host]
    resolver.lifetime = settings.timeout
    return resolver
