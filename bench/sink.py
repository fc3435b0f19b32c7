"""A smarthost that accepts everything, with implicit TLS and AUTH.

`python -m bench.sink PORT CERT KEY [LEDGER]`: one thread, sockets straight from the selector, since it must
cost little beside what is measured. Into the file LEDGER goes one line for each message that it has accepted:
the Message-ID.
"""

from __future__ import annotations

import os
import re
import selectors
import socket
import ssl
import sys
from collections.abc import Callable

_END = b"\r\n.\r\n"
_MESSAGE_ID = re.compile(rb"^Message-ID:\s*(\S+)\r$", re.IGNORECASE | re.MULTILINE)
_READ = 256 * 1024
_REPLIES = {
    b"EHLO": b"250-localhost\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n"
    b"250-SIZE 104857600\r\n250 AUTH PLAIN LOGIN\r\n",
    b"AUTH": b"235 2.7.0 welcome\r\n",
    b"MAIL": b"250 2.1.0 ok\r\n",
    b"RCPT": b"250 2.1.5 ok\r\n",
    b"RSET": b"250 2.0.0 ok\r\n",
    b"NOOP": b"250 2.0.0 ok\r\n",
    b"QUIT": b"221 2.0.0 bye\r\n",
}


class Client:
    """One connection."""

    def __init__(self, connection: ssl.SSLSocket, accepted: Callable[[bytes], None]) -> None:
        """`accepted` is told the Message-ID of each message, before the client is."""
        self._connection = connection
        self._accepted = accepted
        self._buffer = bytearray()
        self._gathering = False
        self._shaken = False

    def serve(self) -> bool:
        """Do what can be done now. False when the client has gone."""
        try:
            if not self._shaken:
                self._connection.do_handshake()
                self._shaken = True
                self._connection.sendall(b"220 localhost ESMTP\r\n")
            while octets := self._connection.recv(_READ):
                self._buffer += octets
                self._answer(len(octets))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        except OSError:
            return False
        return False

    def _answer(self, new: int) -> None:
        while self._buffer:
            if self._gathering:
                end = self._buffer.find(_END, max(0, len(self._buffer) - new - len(_END)))
                if end < 0:
                    return
                self._connection.sendall(self._kept(bytes(self._buffer[: end + 2])))
                del self._buffer[: end + len(_END)]
                self._gathering = False
            else:
                end = self._buffer.find(b"\r\n")
                if end < 0:
                    return
                verb = bytes(self._buffer[:4]).upper()
                del self._buffer[: end + 2]
                self._gathering = verb == b"DATA"
                reply = b"354 go on\r\n" if self._gathering else _REPLIES.get(verb, b"502 5.5.1 what\r\n")
                self._connection.sendall(reply)
            new = len(self._buffer)

    def _kept(self, octets: bytes) -> bytes:
        head = octets[: octets.find(b"\r\n\r\n") + 2]
        found = _MESSAGE_ID.search(head)
        self._accepted(found[1] if found else b"none")
        kind = b"encrypted" if b"multipart/encrypted" in head else b"plain"
        return b"250 2.0.0 %d octets, %b\r\n" % (len(octets), kind)


def serve(port: int, certificate: str, key: str, ledger: str = os.devnull) -> None:
    """Serve until the process ends."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with (
        open(ledger, "ab", buffering=0) as book,
        socket.create_server(("127.0.0.1", port), backlog=256) as listener,
        selectors.DefaultSelector() as selector,
    ):
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for found, _ in selector.select():
                if found.data is None:
                    connection = _accepted(listener, context)
                    client = Client(connection, lambda name: book.write(name + b"\n") and None)
                    selector.register(connection, selectors.EVENT_READ, client)
                elif not found.data.serve():
                    selector.unregister(found.fileobj)
                    found.fileobj.close()  # type: ignore[union-attr]  # a socket


def _accepted(listener: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    connection, _ = listener.accept()
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)


if __name__ == "__main__":
    serve(int(sys.argv[1]), *sys.argv[2:5])
