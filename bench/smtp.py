"""Submission: smtplib straight to a smarthost, and through the proxy, which signs and encrypts.

Client, proxy and smarthost are processes of their own. Connections are kept; the smarthost's have TLS.
"""

from __future__ import annotations

import smtplib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.crypto import entity
from bench.measure import Row, added, alternating, cost
from tests.fixtures.certificates import authority
from tests.fixtures.processes import free_port, running
from tests.fixtures.proxy import ProxyHome, Upstream, proxy_factory, serving

RUNS = 5
SENDER, RCPT_TO, PASSWORD = "alice@example.org", "bob@example.org", "only for the benchmark"


@dataclass(frozen=True)
class Sender:
    """What the proxy's home needs to know of its user."""

    address: str = SENDER
    password: str = PASSWORD


@dataclass(frozen=True)
class Ways:
    """Two sessions, logged in."""

    proxied: smtplib.SMTP
    direct: smtplib.SMTP


@contextmanager
def ways() -> Iterator[Ways]:
    """A sink, a proxy in front of it with Ed25519 keys of both sides, and a client at each."""
    with authority() as ca, tempfile.TemporaryDirectory(prefix="smp-bench-", dir="/tmp") as folder:
        port = free_port()
        sink = [sys.executable, "-m", "bench.sink", str(port), str(ca.cert_file), str(ca.key_file)]
        upstream = Upstream(ca.ca_file, free_port(), port, smtp_tls="implicit")
        with (
            running(sink, ports=[port], log=Path(folder) / "sink.log"),
            proxy_factory(upstream) as factory,
            serving(_with_keys(factory.home(Sender()))) as proxy,
            smtplib.SMTP("127.0.0.1", proxy.submission_port) as proxied,
            smtplib.SMTP_SSL("localhost", port, context=ca.client_context()) as direct,
        ):
            for session in (proxied, direct):
                session.login(SENDER, PASSWORD)
            yield Ways(proxied, direct)


def _with_keys(home: ProxyHome) -> ProxyHome:
    with home.keystore() as keystore:
        keystore.generate(SENDER)
        keystore.generate(RCPT_TO)
    return home


def message(size: int) -> bytes:
    """From alice to bob."""
    return b"From: %b\r\nTo: %b\r\nSubject: a secret\r\nMIME-Version: 1.0\r\n%b" % (
        SENDER.encode(),
        RCPT_TO.encode(),
        entity(min(size, 5 * 1024)) * max(1, size // (5 * 1024)),
    )


def median(session: smtplib.SMTP, octets: bytes, count: int, expected: str) -> float:
    """Median of the seconds that each of `count` messages takes, from MAIL to the final reply."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        session.mail(SENDER)
        session.rcpt(RCPT_TO)
        code, text = session.data(octets)
        times.append(time.perf_counter() - began)
        assert code == 250, text
        assert text.decode().endswith(expected), text
    return statistics.median(times)


def rows() -> Iterator[Row]:
    """5 KB and 5 MB, one session."""
    names = ("proxy, sign+encrypt", "direct")
    with ways() as both:
        for what, size, count in (("5 KB", 5 * 1024, 200), ("5 MB", 5 * 1024 * 1024, 3)):
            octets = message(size)
            times = alternating(
                RUNS,
                lambda: median(both.proxied, octets, count, "encrypted"),  # noqa: B023  called at once
                lambda: median(both.direct, octets, count, "plain"),  # noqa: B023  called at once
            )
            label = f"submission of {what}, one kept session"
            if size < 1024 * 1024:
                yield added(label, names, times, 3.0)
            else:
                yield cost(label, names, times)
