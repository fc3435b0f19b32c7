"""The door to HTTP: clients of httpx whose connections are closed, whatever happens to who waits for them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager

import httpcore
import httpx
from socksio.exceptions import SOCKSError

_NO_SUCH_HOST = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


class NoSuchHost(httpx.ConnectError):
    """The name does not exist, or has no address. Never raised where a proxy resolves names."""


def client(
    context: ssl.SSLContext,
    proxy: str | None = None,
    timeout: float = 10.0,
    backend: httpcore.AsyncNetworkBackend | None = None,
) -> httpx.AsyncClient:
    """Make a client that verifies by `context`, wants no compression and takes nothing from the environment.

    `backend` makes its connections; None: the system's own.
    """
    return httpx.AsyncClient(
        transport=_Transport(context, proxy, backend or httpcore.AnyIOBackend()),
        timeout=timeout,
        trust_env=False,
        follow_redirects=False,
        headers={"User-Agent": "secmailproxy", "Accept-Encoding": "identity"},
    )


class _Transport(httpx.AsyncBaseTransport):
    """As httpx.AsyncHTTPTransport, but on a network backend of ours."""

    def __init__(
        self, context: ssl.SSLContext, proxy: str | None, backend: httpcore.AsyncNetworkBackend
    ) -> None:
        self._backend = _Backend(backend)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            proxy=httpcore.Proxy(proxy) if proxy is not None else None,
            network_backend=self._backend,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        assert isinstance(request.stream, httpx.AsyncByteStream)
        with _translated():
            answer = await self._pool.handle_async_request(
                httpcore.Request(
                    request.method,
                    httpcore.URL(
                        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer))

    async def aclose(self) -> None:
        try:
            await self._pool.aclose()
        finally:
            await self._backend.close()


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _translated():
            async for piece in self._answer.aiter_stream():
                yield piece

    async def aclose(self) -> None:
        with _translated():
            await self._answer.aclose()


class _Backend(httpcore.AsyncNetworkBackend):
    """Tells names that do not exist from servers out of reach, and remembers what it has connected to.

    httpcore closes a connection that it has finished. One that fails or is cancelled while TLS or SOCKS is
    still agreed on stays open.
    """

    def __init__(self, inner: httpcore.AsyncNetworkBackend) -> None:
        self._inner = inner
        self._made: list[httpcore.AsyncNetworkStream] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            stream = await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        except httpcore.ConnectError as error:
            cause = error.__cause__
            if isinstance(cause, socket.gaierror) and cause.errno in _NO_SUCH_HOST:
                raise _NoSuchHost(str(error)) from cause
            raise
        self._made.append(stream)
        return stream

    async def close(self) -> None:
        """Close all connections that were ever made."""
        for stream in self._made:
            await stream.aclose()

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _NoSuchHost(httpcore.ConnectError):
    """As NoSuchHost, on the way out of httpcore."""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except _NoSuchHost as error:
        raise NoSuchHost(str(error)) from error
    except httpcore.TimeoutException as error:
        raise httpx.TimeoutException(str(error)) from error
    except (httpcore.ProxyError, SOCKSError) as error:  # httpcore lets the latter through
        raise httpx.ProxyError(str(error)) from error
    except httpcore.ConnectError as error:
        raise httpx.ConnectError(str(error)) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise httpx.TransportError(str(error)) from error
