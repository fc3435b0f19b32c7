"""Signed and encrypted mail of other programs, each with what is expected of it.

Lines of strength "hard" must hold, those of "policy" are on the safe side, the rest must not crash. The
decisions and the comparison are in tests/fixtures/corpora.py, for all ways to a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime

import pytest

from keystore.keystore import Keystore
from secmailproxy import inbound, verdict
from secmailproxy.mime import entity, structure
from tests.fixtures.corpora import Outcome, cases, complaints, keys_of
from tests.fixtures.keystores import KeystoreFactory, credentials, make_keystore
from tests.fixtures.processes import service_folder

__all__ = ["credentials", "make_keystore"]

FIELD = "Secmail-Verdict-x"


@pytest.fixture
def keystores(make_keystore: KeystoreFactory) -> Iterator[Callable[[str], Keystore]]:
    """One filled keystore for each corpus."""
    with service_folder("corpora") as scratch, ExitStack() as stack:
        filled: dict[str, Keystore] = {}

        def keystore(corpus: str) -> Keystore:
            if corpus not in filled:
                filled[corpus] = stack.enter_context(closing(make_keystore(corpus)))
                keys_of(corpus, scratch / corpus).fill(filled[corpus])
            return filled[corpus]

        yield keystore


def test_every_hard_line_holds_and_nothing_crashes(keystores: Callable[[str], Keystore]):
    present = datetime.now(UTC)
    wrong: list[str] = []
    read_lines = cases()
    for case in read_lines:
        read = inbound.unprotect(case.octets, keystores(case.corpus), case.now(present), FIELD)
        assert len(verdict.render(read.summary, FIELD)) == verdict.VERDICT_LENGTH
        if read.presented is not None:
            root = entity.parse(read.presented)
            assert structure.bodystructure(root)
            assert read.presented.count(b"\n") == read.presented.count(b"\r\n")
        wrong += [f"{case.path}: {one}" for one in complaints(case, Outcome.of(read, case.octets))]
    assert not wrong, "\n".join(wrong)
    assert len(read_lines) >= 12
