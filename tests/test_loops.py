"""The loops of the tests themselves: an unfinished goodbye is nobody else's complaint."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import warnings

from tests.fixtures.certificates import TestCA


def test_a_goodbye_without_answer_leaves_no_socket_behind(ca: TestCA) -> None:
    said: list[socket.socket] = []
    silent = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            raw, _ = listener.accept()
            with ca.server_context().wrap_socket(raw, server_side=True) as connection:
                said.append(connection)
                silent.wait(30)

        server = threading.Thread(target=serve)
        server.start()

        async def come_and_go() -> None:
            port = listener.getsockname()[1]
            _, writer = await asyncio.open_connection("localhost", port, ssl=ca.client_context())
            writer.close()

        with warnings.catch_warnings(record=True) as complaints:
            warnings.simplefilter("always")
            asyncio.run(come_and_go())
            gc.collect()
        silent.set()
        server.join(30)
    assert said
    assert not [one for one in complaints if issubclass(one.category, ResourceWarning)]
