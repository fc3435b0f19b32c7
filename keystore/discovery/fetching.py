"""Asking a web server for certificates: https only, limited in time, size and redirections.

Security: the server may be anybody's. It can be slow, endless, compressed to nothing, or lead elsewhere. None
of what it says is repeated in an error, and it is sent nothing but the question.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from keystore.discovery.model import SourceFailed
from keystore.discovery.net import Net

if TYPE_CHECKING:
    import httpx

MAX_OCTETS = 2 * 2**20
"""Of one answer. Certificates of people who are well known have a megabyte of signatures made by others."""
SECONDS = 20.0
"""For one question, its redirections included; who asks may have less patience."""
_MAX_REDIRECTS = 3
_ABSENT = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)

Allowed = Callable[[str, str], bool]
"""Whether a redirection from the first URL to the second, which is https, may be followed."""


class HostMissing(SourceFailed):
    """There is no such host; behind a proxy: it cannot be reached, for whatever reason."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a web server said."""

    status: int
    octets: bytes = field(repr=False)


def same_host(before: str, after: str) -> bool:
    """Follow redirections to the same host and port alone."""
    return urlsplit(before).netloc.lower() == urlsplit(after).netloc.lower()


async def fetch(
    net: Net,
    url: str,
    *,
    octets: int = MAX_OCTETS,
    allowed: Allowed = same_host,
    seconds: float = SECONDS,
) -> bytes | None:
    """Return what https `url` answers, at most `octets` of it; None where there is nothing (404, 410).

    Raises SourceFailed, which names the host and nothing of the answer; HostMissing where it does not exist.
    """
    answer = await _ask(net, "GET", url, octets=octets, allowed=allowed, seconds=seconds)
    if answer.status in _ABSENT:
        return None
    if answer.status != HTTPStatus.OK:
        raise _failed(url, f"answered {answer.status}", temporary=_passes(answer.status))
    return answer.octets


async def post_json(
    net: Net, url: str, content: bytes, *, octets: int = MAX_OCTETS, seconds: float = SECONDS
) -> Answer:
    """POST JSON to https `url`, and return what is answered, whatever its status. Follows no redirection.

    Raises SourceFailed, HostMissing.
    """
    return await _ask(
        net, "POST", url, content=content, octets=octets, allowed=lambda _, __: False, seconds=seconds
    )


async def _ask(
    net: Net,
    method: str,
    url: str,
    *,
    octets: int,
    allowed: Allowed,
    seconds: float,
    content: bytes | None = None,
) -> Answer:
    import httpx  # takes long to import, and many have no use for it

    from keystore.discovery.transport import NoSuchHost

    if urlsplit(url).scheme != "https":
        raise _failed(url, "is asked over https alone", temporary=False)
    try:
        new = await asyncio.to_thread(net.http)
    except (OSError, ValueError):
        raise SourceFailed("the file of authorities (ca_file) cannot be read", temporary=False) from None
    try:
        async with asyncio.timeout(seconds), new as client:
            return await _follow(client, method, url, content, octets, allowed)
    except TimeoutError:
        raise _failed(url, f"took longer than {seconds:.0f} seconds") from None
    except NoSuchHost:
        if net.proxied:
            raise SourceFailed("there is no such proxy") from None
        raise HostMissing(f"there is no host {_host(url)}", temporary=False) from None
    except httpx.ProxyError:
        raise HostMissing(f"{_host(url)} cannot be reached through the proxy") from None
    except httpx.ConnectError as error:
        raise _failed(url, _unreached(error)) from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
        # Their texts may hold what the server wrote.
        raise _failed(url, "did not answer rightly") from None


async def _follow(
    client: httpx.AsyncClient, method: str, url: str, content: bytes | None, octets: int, allowed: Allowed
) -> Answer:
    asked = url
    headers = {"Content-Type": "application/json"} if content is not None else {}
    for _ in range(1 + _MAX_REDIRECTS):
        async with client.stream(method, url, content=content, headers=headers) as response:
            if not response.has_redirect_location:
                return Answer(response.status_code, await _body(response, asked, octets))
            target = urljoin(url, response.headers["Location"])
        parts = urlsplit(target)
        if parts.scheme != "https" or parts.username is not None or not allowed(url, target):
            raise _failed(asked, "leads elsewhere", temporary=False)
        url = target
    raise _failed(asked, "leads from one address to the next", temporary=False)


async def _body(response: httpx.Response, asked: str, limit: int) -> bytes:
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        # We asked for none: unpacked, it can be of any size.
        raise _failed(asked, "sends its answer compressed", temporary=False)
    octets = bytearray()
    async for piece in response.aiter_raw(65536):
        octets += piece
        if len(octets) > limit:
            raise _failed(asked, f"sends more than {limit // 1024} KiB", temporary=False)
    return bytes(octets)


def _unreached(error: httpx.ConnectError) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return "has a TLS certificate that is not trusted"
        cause = cause.__cause__ or cause.__context__
    return "cannot be reached"


def _passes(status: int) -> bool:
    """Whether another try may have another answer (RFC 9110 section 15)."""
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in (
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
    )


def _failed(url: str, what: str, *, temporary: bool = True) -> SourceFailed:
    return SourceFailed(f"{_host(url)} {what}", temporary=temporary)


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "this URL"
    except ValueError:
        return "this URL"
