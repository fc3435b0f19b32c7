"""The event loop of the running proxy: as usual, but names are resolved by threads of their own.

A resolver of the system may take half a minute for one name, and whoever waits for it cannot take its thread
back. In the threads that all share, a few recipients in domains whose servers are down would hold up every
message and mailbox.
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

_MOST_AT_ONCE = 32


class Loop(asyncio.SelectorEventLoop):
    """See above."""

    def __init__(self) -> None:
        super().__init__()
        self._names = ThreadPoolExecutor(_MOST_AT_ONCE, "names")

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        """As in `asyncio`."""
        ask = partial(socket.getaddrinfo, host, port, family, type, proto, flags)
        return await self.run_in_executor(self._names, ask)

    def close(self) -> None:
        """Nobody waits for what is still asked."""
        self._names.shutdown(wait=False, cancel_futures=True)
        super().close()
