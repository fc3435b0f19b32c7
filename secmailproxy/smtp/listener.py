"""A listening socket, on loopback or in the file system, and the sessions of those who connect to it.

Security: an address that is not loopback is refused. A Unix socket is for its owner and its group, which a
set-group-ID folder chooses, or for all where the settings say so; one that is in use is not taken away.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from secmailproxy.errors import ConfigError
from secmailproxy.smtp.conversation import Conversation
from secmailproxy.smtp.settings import ConversationSettings


class Listener:
    """Accepts clients at one place and owns their sessions."""

    def __init__(
        self, host: str, port: int, settings: ConversationSettings, session: Callable[[], Conversation]
    ) -> None:
        """`host` is an address or name, or a path that begins with "/"; `session` is made for each client."""
        self._host = host
        self._port = port
        self._settings = settings
        self._session = session
        self._sessions: dict[asyncio.Task[None], Conversation] = {}
        self._inside = 0
        """Sessions that were let in."""
        self._server: asyncio.Server | None = None
        self._socket_file: tuple[int, int] | None = None
        """Device and inode of the Unix socket that we have made."""

    async def start(self) -> tuple[str, int]:
        """Listen; the address bound, port 0 for a path. Raises ConfigError unless it is loopback, OSError."""
        if self._host.startswith("/"):
            return await self._start_unix()
        loop = asyncio.get_running_loop()
        host, port = self._host, self._port
        # An empty host would mean every interface.
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        if not all(ipaddress.ip_address(address[4][0]).is_loopback for address in found):
            raise ConfigError(
                f"{self._settings.name.capitalize()} listens on loopback only, such as 127.0.0.1; "
                f"{host}:{port} is not allowed."
            )
        self._server = await loop.create_server(self._session, host, port)
        bound = self._server.sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    async def _start_unix(self) -> tuple[str, int]:
        path = Path(self._host)
        await asyncio.to_thread(_clear, path)
        self._server = await asyncio.get_running_loop().create_unix_server(self._session, path)
        os.chmod(path, self._settings.socket_mode)
        made = os.stat(path)
        self._socket_file = made.st_dev, made.st_ino
        return self._host, 0

    async def stop(self, grace: float) -> None:
        """Stop listening, let transactions that have begun finish within `grace` seconds, cut the rest."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        self._remove_socket()
        for session in self._sessions.values():
            session.retire()
        if tasks := list(self._sessions):
            _, late = await asyncio.wait(tasks, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()

    def admit(self, session: Conversation, task: asyncio.Task[None]) -> bool:
        """Take a new session and its task; whether there is room for it."""
        self._sessions[task] = session
        task.add_done_callback(self._sessions.pop)
        # Those that are turned away stay for a moment, and must not keep others out meanwhile.
        if self._server is None or self._inside >= self._settings.max_sessions:
            return False
        admission, client = self._settings.admission, session.client
        if not admission.enter(client, self._share(session.user)):
            return False
        self._inside += 1

        def leave(task: asyncio.Task[None]) -> None:
            self._inside -= 1
            admission.leave(client)

        task.add_done_callback(leave)
        return True

    def _share(self, user: int | None) -> int | None:
        """How many sessions a user may have at a socket for everyone: none keeps the others out."""
        is_for_everyone = bool(self._settings.socket_mode & stat.S_IWOTH)
        if user is None or user in (0, os.geteuid()) or not is_for_everyone:
            return None
        return max(1, self._settings.max_sessions // 4)

    def _remove_socket(self) -> None:
        """Unless somebody else has put another one there meanwhile."""
        with contextlib.suppress(OSError):
            found = os.stat(self._host)
            if (found.st_dev, found.st_ino) == self._socket_file:
                os.unlink(self._host)


def _clear(path: Path) -> None:
    """Remove the socket of a process that has ended. Raises OSError when something else is there."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
