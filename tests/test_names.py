"""The event loop of the proxy: names that take long to resolve hold up nothing else."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from secmailproxy.names import Loop


async def test_names_are_resolved_as_usual() -> None:
    usual = asyncio.get_running_loop()
    wanted = {"family": socket.AF_INET, "type": socket.SOCK_STREAM}

    async def asked() -> object:
        return await asyncio.get_running_loop().getaddrinfo("localhost", 80, **wanted)

    def in_ours() -> object:
        with asyncio.Runner(loop_factory=Loop) as runner:
            return runner.run(asked())

    assert await asyncio.to_thread(in_ours) == await usual.getaddrinfo("localhost", 80, **wanted)


def test_a_resolver_that_hangs_takes_no_thread_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()

    def hangs(*_: object) -> list[object]:
        answers.wait()
        return []

    async def run() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        asked = [asyncio.create_task(loop.getaddrinfo(f"{n}.example.org", 443)) for n in range(64)]
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(10):
                return await asyncio.to_thread(lambda: 7)
        finally:
            answers.set()
            for one in asked:
                one.cancel()

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    with asyncio.Runner(loop_factory=Loop) as runner:
        assert runner.run(run()) == 7
