"""Submission: through the proxy, which signs and encrypts, and straight to the smarthost, by the same client.

Client, proxy and smarthost are processes of their own on one machine, so the processors are shared: what the
client and the smarthost take is missing to the proxy. Sessions are kept and logged in before the clock
starts; the smarthost's have TLS both ways. smtp-source to smtp-sink, which know neither TLS nor a login that
the proxy would take, are shown beside it.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.crypto import Keys, entity, keys
from bench.load import Session, sessions, submit_all
from bench.measure import Row, added, alternating, at_most, cost, faster, rate, seconds
from tests.fixtures.certificates import TestCA, authority
from tests.fixtures.dovecot import running_dovecot
from tests.fixtures.postfix import stopped_postfix
from tests.fixtures.processes import free_port, running
from tests.fixtures.proxy import Proxy, ProxyHome, Upstream, proxy_factory, serving

RUNS = 5
SENDER, RCPT_TO, PASSWORD = "alice@example.org", "bob@example.org", "only for the benchmark"
SMALL, LARGE = 5 * 1024, 5 * 1024 * 1024
MANY = ((1, 300), (10, 1000), (50, 1000))
"""Sessions, and messages in one run."""
CONNECTIONS = (
    "[listen]\nconnections_per_client = 100\nconnections_per_minute = 100000\nmessages_per_minute = 1000000"
)
POSTFIX = """virtual_transport = discard:
smtpd_client_connection_count_limit = 0
enable_long_queue_ids = yes"""
"""Short names of queue files come again as soon as the file is gone, and two messages would count as one."""


@dataclass(frozen=True)
class Sender:
    """What the proxy's home needs to know of its user."""

    address: str = SENDER
    password: str = PASSWORD


@dataclass(frozen=True)
class Ways:
    """The ports of a proxy, and of the smarthost behind it."""

    proxy: Proxy
    smarthost: int
    ca: TestCA
    arrived: Callable[[], Counter[str]]
    """The Message-IDs of what the smarthost has accepted, with their angle brackets."""

    @contextmanager
    def proxied(self, count: int) -> Iterator[list[Session]]:
        """Sessions at the proxy."""
        with sessions(count, self.proxy.submission_port, SENDER, RCPT_TO, PASSWORD) as found:
            yield found

    @contextmanager
    def direct(self, count: int) -> Iterator[list[Session]]:
        """Sessions at the smarthost."""
        context = self.ca.client_context()
        with sessions(count, self.smarthost, SENDER, RCPT_TO, PASSWORD, context) as found:
            yield found


@contextmanager
def ways(kind: str = "ed25519") -> Iterator[Ways]:
    """A smarthost, and a proxy in front of it with keys of both sides."""
    with authority() as ca, tempfile.TemporaryDirectory(prefix="smp-bench-", dir="/tmp") as folder:
        port, ledger = free_port(), Path(folder) / "ledger"
        sink = [sys.executable, "-m", "bench.sink", port, ca.cert_file, ca.key_file, ledger]
        upstream = Upstream(ca.ca_file, free_port(), port, smtp_tls="implicit")
        with (
            running([str(word) for word in sink], ports=[port], log=Path(folder) / "sink.log"),
            proxy_factory(upstream) as factory,
            serving(prepared(factory.home(Sender()), kind)) as proxy,
        ):
            yield Ways(proxy, port, ca, lambda: Counter(ledger.read_text().split()))


@contextmanager
def ways_to_postfix() -> Iterator[Ways]:
    """The same, with a Postfix that takes everything and delivers nothing."""
    with (
        authority() as ca,
        running_dovecot(ca) as dovecot,
        stopped_postfix(ca, dovecot) as stopped,
        stopped.running(POSTFIX) as postfix,
        proxy_factory(
            Upstream(ca.ca_file, dovecot.imaps_port, postfix.submissions_port, smtp_tls="implicit")
        ) as factory,
        serving(prepared(factory.home(dovecot.account(SENDER, PASSWORD)), "ed25519")) as proxy,
    ):
        yield Ways(proxy, postfix.submissions_port, ca, lambda: queued(postfix.log()))


def queued(log: str) -> Counter[str]:
    """The Message-IDs of the messages that a Postfix has put into its queue, from its log."""
    names = dict(re.findall(r"cleanup\[\d+\]: (\w+): message-id=(<[^>]*>)", log))
    return Counter(names[number] for number in re.findall(r"qmgr\[\d+\]: (\w+): from=", log))


def prepared(home: ProxyHome, kind: str) -> ProxyHome:
    settings = home.folders.config_file
    settings.write_text(settings.read_text().replace("[listen]", CONNECTIONS, 1))
    with home.keystore() as keystore:
        for address in (SENDER, RCPT_TO):
            keystore.generate(address, kind=kind)  # type: ignore[arg-type]  # from a table
    return home


def messages(size: int) -> Iterator[bytes]:
    """From alice to bob, without end, each with a Message-ID of its own and the final dot."""
    body = entity(min(size, SMALL)) * max(1, size // SMALL)
    for number in itertools.count():
        yield (
            b"From: %b\r\nTo: %b\r\nSubject: a secret\r\nMessage-ID: <%d@example.org>\r\n"
            b"MIME-Version: 1.0\r\n%b.\r\n" % (SENDER.encode(), RCPT_TO.encode(), number, body)
        )


def rows() -> Iterator[Row]:
    """5 KB by many sessions, other ways to the same, 5 MB, then RSA."""
    with ways() as both:
        small = messages(SMALL)
        for count, many in MANY:
            yield from _throughput(both, count, many, small)
        yield from _large(both)
    with ways("rsa3072") as both:
        yield from _throughput(both, 10, 400, messages(SMALL), "RSA-3072, ", 250.0)
    with keys() as both_keys:
        yield from _other_ways(both_keys)


def _throughput(
    both: Ways, count: int, many: int, endless: Iterator[bytes], label: str = "", aim: float | None = None
) -> Iterator[Row]:
    with both.proxied(count) as through, both.direct(count) as straight:
        ours, others = (
            _per_message(found, many, endless, kind)
            for found, kind in ((through, b"encrypted"), (straight, b"plain"))
        )
        ours()  # whatever the proxy starts under load has been started
        times = alternating(RUNS, ours, others, lambda: smtp_source(count, many))
    what = f"{label}5 KB, {count} kept session{'s' * (count > 1)}"
    names = ("proxy", "direct")
    if count == 1:
        yield added(what, names, times[:2], 2.0)
    else:
        yield rate(what, names, times[:2], aim or (700.0 if count == 10 else None))
    if not label:
        yield cost(f"{what}: C programs, no TLS", ("proxy", "smtp-source"), [times[0], times[2]])


def _per_message(
    found: list[Session], many: int, endless: Iterator[bytes], kind: bytes
) -> Callable[[], float]:
    def run() -> float:
        took = submit_all(found, itertools.islice(endless, many)) / many
        assert all(kind in session.last for session in found)
        return took

    return run


def smtp_source(count: int, many: int) -> float:
    """Seconds for a message from Postfix's smtp-source to its smtp-sink, over kept sessions without TLS."""
    port = free_port()
    privileges = [] if os.geteuid() else ["-u", "nobody"]
    sink = ["smtp-sink", *privileges, f"127.0.0.1:{port}", "256"]
    argv = ["smtp-source", "-d", "-s", str(count), "-m", str(many), "-l", str(SMALL)]
    argv += ["-f", SENDER, "-t", RCPT_TO, f"127.0.0.1:{port}"]
    with (
        tempfile.TemporaryDirectory(prefix="smp-bench-", dir="/tmp") as folder,
        running(sink, ports=[port], log=Path(folder) / "sink.log"),
    ):
        return seconds(lambda: subprocess.run(argv, check=True, capture_output=True)) / many


def _large(both: Ways) -> Iterator[Row]:
    """5 MB: how long it takes, and how long another session waits for a reply meanwhile."""
    endless = messages(LARGE)
    with both.proxied(2) as (through, other), both.direct(1) as (straight,):
        through.submit(next(endless))
        times = alternating(
            RUNS, lambda: through.submit(next(endless)), lambda: straight.submit(next(endless))
        )
        yield cost("5 MB, one kept session", ("proxy", "direct"), times, 3.0)
        gaps = alternating(
            RUNS,
            lambda: _worst_gap(other, lambda: through.submit(next(endless))),
            lambda: _worst_gap(other, lambda: time.sleep(times[0])),
        )
    yield at_most("the longest wait of another session, 5 MB", ("during", "without"), gaps, 50.0)


def _worst_gap(other: Session, work: Callable[[], object]) -> float:
    """The longest that `other` waited for a reply while `work` was done, in seconds."""
    worker = threading.Thread(target=work)
    worker.start()
    worst = 0.0
    while worker.is_alive():
        worst = max(worst, seconds(lambda: other.command(b"NOOP\r\n")))
        time.sleep(0.001)
    return worst


def _other_ways(both: Keys) -> Iterator[Row]:
    """What one message costs by gpg alone, and by a procmail recipe that calls it."""
    with ways() as there, there.proxied(10) as through:
        message = next(messages(SMALL)).removesuffix(b".\r\n").replace(b"\r\n", b"\n")
        ours = _per_message(through, 500, messages(SMALL), b"encrypted")
        ours()
        sign_encrypt = ("--armor", "--sign", "-u", both.alice, "--encrypt", "-r", both.bob)
        with tempfile.TemporaryDirectory(prefix="smp-bench-", dir="/tmp") as folder:
            recipe = _recipe(both, Path(folder))
            times = alternating(
                RUNS,
                ours,
                lambda: seconds(lambda: both.gnupg.run(*sign_encrypt, data=message), 15),
                lambda: seconds(lambda: _by_procmail(recipe, message), 15),
            )
            sent = (Path(folder) / "sent").read_bytes()
    assert sent.count(b"-----BEGIN PGP MESSAGE-----") == 15 * RUNS
    what = "a message of 5 KB, 10 kept sessions"
    yield faster(what, ("proxy", "gpg for each"), times[:2])
    yield faster(what, ("proxy", "procmail, gpg, sendmail"), [times[0], times[2]])


def _recipe(both: Keys, folder: Path) -> Path:
    """What people use who have no proxy: procmail pipes the body to gpg, and the message to sendmail."""
    gpg = f"{shutil.which('gpg')} --homedir {both.gnupg.home} --batch --quiet --trust-model always"
    path = folder / "procmailrc"
    path.write_text(
        f"LOGFILE={folder}/log\nSHELL=/bin/sh\n\n"
        f":0 fbw\n| {gpg} -ear {both.bob} -s -u {both.alice}\n\n"
        f":0 w\n| cat >> {folder}/sent\n"
    )
    path.chmod(0o600)
    return path


def _by_procmail(recipe: Path, message: bytes) -> None:
    subprocess.run(["procmail", "-m", str(recipe)], input=message, check=True, capture_output=True)
