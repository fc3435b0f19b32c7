"""The door to HTTP: clients of httpx whose connections are closed, whatever happens to who waits for them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager

import httpcore
import httpx

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
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            proxy=httpcore.Proxy(proxy) if proxy is not None else None,
            network_backend=_Backend(backend),
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
        await self._pool.aclose()


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
    """Tells names that do not exist from servers out of reach; its streams close in a cancelled handshake."""

    def __init__(self, inner: httpcore.AsyncNetworkBackend) -> None:
        self._inner = inner

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
        return _Stream(stream)

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _NoSuchHost(httpcore.ConnectError):
    """As NoSuchHost, on the way out of httpcore."""


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))
        except BaseException:  # a cancellation is one
            # httpcore closes after errors, but leaves the socket open when it is cancelled here.
            await self._inner.aclose()
            raise

    def get_extra_info(self, info: str) -> object:
        return self._inner.get_extra_info(info)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except _NoSuchHost as error:
        raise NoSuchHost(str(error)) from error
    except httpcore.TimeoutException as error:
        raise httpx.TimeoutException(str(error)) from error
    except httpcore.ProxyError as error:
        raise httpx.ProxyError(str(error)) from error
    except httpcore.ConnectError as error:
        raise httpx.ConnectError(str(error)) from error
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise httpx.TransportError(str(error)) from error
