"""What is kept in memory is what the tables say, whoever has changed them, and whatever was undone."""

from __future__ import annotations

import tempfile
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keystore import openpgp
from keystore.cache import CertificateCache
from keystore.holding import HeldTable, Rival
from keystore.model import Fingerprint, Holder, Trust
from keystore.peers import Peers, PeerSeen
from keystore.store import Store, StoredCertificate
from tests.fixtures.rows import NOW, V6

ADDRESS = "bob@example.org"
STEPS = ("known", "verified", "rejected", "delete", "hold", "release", "note", "undo", "undo a note", "ask")


@pytest.fixture(scope="module")
def bob() -> StoredCertificate:
    made = openpgp.generate(ADDRESS, now=NOW)
    return StoredCertificate(made.fingerprint, made.certificate_octets, Trust.KNOWN, "a test", Holder.NONE)


class _Proxy:
    """One of several processes on the same tables."""

    def __init__(self, path: Path, bob: StoredCertificate) -> None:
        self.store = Store.open(path)
        self.cache = CertificateCache(self.store)
        self.bob = bob

    def close(self) -> None:
        self.store.close()

    def put(self, trust: Trust) -> None:
        octets, fingerprint = self.bob.octets, self.bob.fingerprint
        row = StoredCertificate(fingerprint, octets, trust, "a test", Holder.NONE)
        self.store.put(row, addresses=[ADDRESS], keys=[fingerprint], now=NOW)

    def step(self, name: str) -> None:
        match name:
            case "known" | "verified" | "rejected":
                self.put(Trust(name))
            case "delete":
                self.store.delete(self.bob.fingerprint)
            case "hold" if self.store.certificate(self.bob.fingerprint):
                HeldTable(self.store).hold(self.bob.fingerprint, [Rival(ADDRESS, V6)], "a test", NOW)
            case "release":
                HeldTable(self.store).release(self.bob.fingerprint)
            case "note":
                Peers(self.store).seen(PeerSeen(ADDRESS, NOW, written=True))
            case "undo" | "undo a note":
                self._undone(name)

    def _undone(self, name: str) -> None:
        with suppress(ZeroDivisionError), self.store.transaction():
            self.step("note")
            if name == "undo":
                self.put(Trust.VERIFIED)
                self.step("release")
            assert self.remembered() == self.stored()
            raise ZeroDivisionError

    def remembered(self) -> tuple[Trust | None, list[Trust], dict[Fingerprint, bool]]:
        found = self.cache.get(self.bob.fingerprint)
        claiming = [one.trust for one in self.cache.by_address(ADDRESS)]
        return found and found.trust, claiming, dict(self.cache.held(ADDRESS))

    def stored(self) -> tuple[Trust | None, list[Trust], dict[Fingerprint, bool]]:
        row = self.store.certificate(self.bob.fingerprint)
        held = {one.fingerprint: True for one in HeldTable(self.store).all_of(ADDRESS)}
        if row is None:
            return None, [], held
        trust = row.trust if row.trust is Trust.REJECTED or not held else Trust.UNKNOWN
        return trust, [trust], held


@settings(max_examples=15, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from((0, 1)), st.sampled_from(STEPS)), max_size=8))
def test_no_certificate_and_no_trust_is_ever_an_older_one(bob, steps):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own" / "store.sqlite3"
        with closing(_Proxy(path, bob)) as one, closing(_Proxy(path, bob)) as other:
            proxies = (one, other)
            for number, name in steps:
                proxies[number].step(name)
                for proxy in proxies:
                    assert proxy.remembered() == proxy.stored()


def test_a_number_that_was_undone_is_not_taken_for_what_has_it_later(bob, tmp_path):
    with (
        closing(_Proxy(tmp_path / "own" / "store.sqlite3", bob)) as one,
        closing(_Proxy(tmp_path / "own" / "store.sqlite3", bob)) as other,
    ):
        one.step("known")
        one.step("undo")
        other.step("rejected")
        assert one.remembered() == one.stored() == (Trust.REJECTED, [Trust.REJECTED], {})
