"""A keystore of 100,000 certificates: how it is opened, asked and added to; beside it one with a few.

All but some hundreds are rows that nobody asks for, of the usual size; those that are imported and looked up
are real, and asked for by a process that has not met them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import Row, alternating, at_most, rate, seconds
from keystore import openpgp
from keystore.keystore import Keystore, KeystoreSettings
from keystore.model import Fingerprint, Holder, Scheme, Trust
from keystore.secrets import HandedOver
from keystore.store import Store, StoredCertificate

MANY, REAL, RUNS = 100_000, 1500, 5
_AT_ONCE = 1000
_IN_A_FILE = 500
_OCTETS = 700
_START = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from keystore.keystore import Keystore, KeystoreSettings
from keystore.secrets import HandedOver
keystore = Keystore.open(KeystoreSettings(Path(sys.argv[1])), HandedOver("none", ""))
assert keystore.select(sys.argv[2], datetime.now(UTC)).usable
"""
_NAMES = (f"{MANY:,} certificates", "a few")


def rows() -> Iterator[Row]:
    """Import, questions, and the start."""
    now = datetime.now(UTC).replace(microsecond=0)
    made = [
        openpgp.generate(f"person{number}@example.org", now=now).certificate_octets for number in range(REAL)
    ]
    with tempfile.TemporaryDirectory(prefix="smp-bench-") as folder:
        large, small = (_opened(Path(folder) / name) for name in ("large", "small"))
        with closing(large), closing(small):
            _fill(large._store, now)
            times = [
                seconds(lambda one=one: _imported(one, made[:REAL], now)) / REAL for one in (large, small)
            ]
            yield rate("import of a certificate, among", _NAMES, times, 500)
            yield from _questions(large, small, now)
        address = "person0@example.org"
        timed = [_started(Path(folder) / name, address) for name in ("large", "small")]
        yield at_most("a program starts and finds a peer", _NAMES, alternating(RUNS, *timed), 500)


def _questions(large: Keystore, small: Keystore, now: datetime) -> Iterator[Row]:
    addresses = [f"person{number}@example.org" for number in range(REAL)]
    found = {one.fingerprint for address in addresses for one in small.certificates(address)}
    fingerprints = sorted(found)

    def each(ask: Callable[[Keystore], None]) -> list[float]:
        times = []
        for one in (large, small):
            # What was parsed before is kept apart from the stores.
            openpgp.facts.cache_clear()
            with closing(_opened(one._folder)) as fresh:
                times.append(seconds(lambda: ask(fresh)) / REAL)
        return times

    by_address = "lookup by address, never asked for before"
    yield at_most(by_address, _NAMES, each(lambda ks: _all(ks.certificates, addresses)), 1)
    by_fingerprint = "lookup by fingerprint, never asked for before"
    yield at_most(by_fingerprint, _NAMES, each(lambda ks: _all(ks.certificate, fingerprints)), 1)
    known = addresses[0]
    times = alternating(
        RUNS, *(lambda ks=ks: seconds(lambda: ks.select(known, now), 500) for ks in (large, small))
    )
    yield at_most("lookup of a known peer, judged", _NAMES, times, 0.2)


def _all(ask: Callable[[str], object], names: Sequence[str]) -> None:
    for name in names:
        assert ask(name)


def _opened(folder: Path) -> Keystore:
    return Keystore.open(KeystoreSettings(folder), HandedOver("none", ""))


def _imported(keystore: Keystore, made: Sequence[bytes], now: datetime) -> None:
    for start in range(0, len(made), _IN_A_FILE):
        octets = b"".join(made[start : start + _IN_A_FILE])
        assert all(one.fingerprint for one in keystore.import_keys(octets, source="bench", now=now))


def _fill(store: Store, now: datetime) -> None:
    for start in range(0, MANY, _AT_ONCE):
        with store.transaction():
            for number in range(start, start + _AT_ONCE):
                _put(store, number, now)


def _put(store: Store, number: int, now: datetime) -> None:
    fingerprint = Fingerprint(os.urandom(20).hex().upper())
    row = StoredCertificate(
        fingerprint, os.urandom(_OCTETS), Trust.KNOWN, "bench", Holder.NONE, Scheme.OPENPGP
    )
    subkey = os.urandom(20).hex().upper()
    store.put(row, addresses=[f"row{number}@example.net"], keys=[fingerprint, subkey], now=now)


def _started(folder: Path, address: str) -> Callable[[], float]:
    argv = [sys.executable, "-c", _START, str(folder), address]
    return lambda: seconds(lambda: subprocess.run(argv, check=True))
