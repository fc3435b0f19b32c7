"""Postfix's smtp-source: through the proxy to smtp-sink and to Postfix, and straight to either.

smtp-source knows no login and no TLS, and smtp-sink no TLS: `bench.usher` stands between, and is paid for by
the way that needs it. Straight to smtp-sink it is not needed, straight to Postfix it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from bench.measure import Row, alternating, cost, seconds
from bench.smtp import PASSWORD, RCPT_TO, SENDER, SMALL, Sender, prepared, ways_to_postfix
from tests.fixtures.certificates import authority
from tests.fixtures.processes import free_port, running, wait_until
from tests.fixtures.proxy import Upstream, proxy_factory, serving

RUNS, MANY = 3, 500
SESSIONS = (1, 10, 50)


def rows() -> Iterator[Row]:
    """5 KB over kept sessions."""
    with to_sink() as ports:
        yield from _compared("smtp-sink", *ports)
    with tempfile.TemporaryDirectory(prefix="smp-bench-", dir="/tmp") as folder, ways_to_postfix() as both:
        with (
            _usher(folder, "login", both.proxy.submission_port, SENDER, PASSWORD) as proxied,
            _usher(folder, "login", both.smarthost, SENDER, PASSWORD, both.ca.ca_file) as direct,
        ):
            yield from _compared("Postfix", proxied, direct)
        sent = 2 * RUNS * MANY * len(SESSIONS)
        # Its queue manager writes of a message after the reply to it.
        wait_until(
            lambda: both.arrived().total() >= sent, lambda: f"{both.arrived().total()} of {sent} queued"
        )
        assert both.arrived().total() == sent


def _compared(where: str, proxied: int, direct: int) -> Iterator[Row]:
    for count in SESSIONS:
        ways = (partial(_took, port, count) for port in (proxied, direct))
        yield cost(f"smtp-source to {where}, {count} sessions", ("proxy", "direct"), alternating(RUNS, *ways))


def _took(port: int, count: int) -> float:
    """Seconds for a message; smtp-source ends with an error when one is refused."""
    argv = ["smtp-source", "-d", "-s", str(count), "-m", str(MANY), "-l", str(SMALL)]
    argv += ["-f", SENDER, "-t", RCPT_TO, f"127.0.0.1:{port}"]
    return seconds(lambda: subprocess.run(argv, check=True, capture_output=True)) / MANY


@contextmanager
def to_sink() -> Iterator[tuple[int, int]]:
    """The port that leads through a proxy to smtp-sink, and that of smtp-sink."""
    port = free_port()
    privileges = [] if os.geteuid() else ["-u", "nobody"]
    sink = ["smtp-sink", *privileges, f"127.0.0.1:{port}", "256"]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="smp-bench-", dir="/tmp"))
        ca = stack.enter_context(authority())
        stack.enter_context(running(sink, ports=[port], log=Path(folder) / "sink.log"))
        covered = stack.enter_context(_usher(folder, "tls", port, ca.cert_file, ca.key_file))
        upstream = Upstream(ca.ca_file, free_port(), covered, smtp_tls="implicit")
        factory = stack.enter_context(proxy_factory(upstream))
        proxy = stack.enter_context(serving(prepared(factory.home(Sender()), "ed25519")))
        proxied = stack.enter_context(_usher(folder, "login", proxy.submission_port, SENDER, PASSWORD))
        yield proxied, port


@contextmanager
def _usher(folder: str, role: str, onward: int, *words: object) -> Iterator[int]:
    """The port of one."""
    port = free_port()
    argv = [sys.executable, "-m", "bench.usher", role, str(port), str(onward), *map(str, words)]
    with running(argv, ports=[port], log=Path(folder) / f"usher-{port}.log"):
        yield port
