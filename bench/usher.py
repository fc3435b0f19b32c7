"""Stands where smtp-source and smtp-sink lack something: `python -m bench.usher login|tls PORT ONWARD ...`

    login PORT ONWARD USER PASSWORD [CA]   takes clients that know no login, and logs them in on ONWARD; over
                                           TLS where an authority is named. Answers their HELO itself
    tls PORT ONWARD CERTIFICATE KEY        takes clients with TLS, hands them on to ONWARD in clear, and
                                           answers their AUTH itself, to which smtp-sink says 250

Octets are passed on unseen from then on; what that costs counts against the way that needs it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable

_READ = 64 * 1024
_HOST = "127.0.0.1"
Begin = Callable[[StreamReader, StreamWriter, StreamReader, StreamWriter], Awaitable[None]]
"""What is said before octets are passed on: from and to the client, from and to the server."""


async def _reply(reader: StreamReader) -> bytes:
    lines = [await reader.readline()]
    while lines[-1][3:4] == b"-":
        lines.append(await reader.readline())
    return b"".join(lines)


def _login(username: str, password: str) -> Begin:
    response = base64.b64encode(f"\0{username}\0{password}".encode())

    async def begin(
        client: StreamReader, to_client: StreamWriter, server: StreamReader, to_server: StreamWriter
    ) -> None:
        greeting = await _reply(server)
        for command in (b"EHLO localhost\r\n", b"AUTH PLAIN " + response + b"\r\n"):
            to_server.write(command)
            answer = await _reply(server)
        assert answer.startswith(b"235"), answer
        to_client.write(greeting)
        assert (await client.readline()).startswith(b"HELO")
        to_client.write(b"250 usher\r\n")

    return begin


async def _any_login(
    client: StreamReader, to_client: StreamWriter, server: StreamReader, to_server: StreamWriter
) -> None:
    to_client.write(await _reply(server))
    while not (line := await client.readline()).startswith(b"AUTH"):
        to_server.write(line)
        to_client.write(await _reply(server))
        if not line or line.startswith(b"QUIT"):
            return
    to_client.write(b"235 2.7.0 come in\r\n")


async def _pass_on(reader: StreamReader, writer: StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while octets := await reader.read(_READ):
            writer.write(octets)
            await writer.drain()
    writer.close()


async def serve(
    port: int, onward: int, begin: Begin, inside: ssl.SSLContext | None, outside: ssl.SSLContext | None
) -> None:
    """Until the process ends. TLS is spoken `inside`, with clients, or `outside`, where that is a context."""
    name = "localhost" if outside else None

    async def usher(client: StreamReader, to_client: StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(_HOST, onward, ssl=outside, server_hostname=name)
        await begin(client, to_client, server, to_server)
        await asyncio.gather(_pass_on(client, to_server), _pass_on(server, to_client))

    listener = await asyncio.start_server(usher, _HOST, port, ssl=inside)
    await listener.serve_forever()


def main(role: str, port: str, onward: str, first: str, second: str, ca_file: str = "") -> None:
    """See above."""
    inside = None
    if role == "tls":
        inside = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        inside.load_cert_chain(first, second)
    outside = ssl.create_default_context(cafile=ca_file) if ca_file else None
    begin = _any_login if role == "tls" else _login(first, second)
    asyncio.run(serve(int(port), int(onward), begin, inside, outside))


if __name__ == "__main__":
    main(*sys.argv[1:])
