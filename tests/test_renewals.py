"""The ends of own keys are told in time, each once."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from keystore.keystore import Keystore
from keystore.model import Scheme
from secmailproxy.forward.alerts import Fact
from secmailproxy.renewals import Renewals, ends_of, remedy
from tests.fixtures.keystores import NOW, credentials, keystore, make_keystore
from tests.fixtures.x509 import Authority, own

__all__ = ["credentials", "keystore", "make_keystore"]

DAY = timedelta(days=1)
ALICE = "alice@example.org"


class Owner:
    """Looks at the keys on the day that it is told, and keeps what comes."""

    def __init__(self, keystore: Keystore, folder: Path) -> None:
        self.keystore, self.folder = keystore, folder
        self.told: list[tuple[Fact, str]] = []

    async def tell(self, fact: Fact, helps: str) -> None:
        self.told.append((fact, helps))

    async def look(self, at: datetime) -> list[int | None]:
        """As after a start at that time; the days left that are told."""
        renewals = Renewals(lambda: [ALICE], self.keystore, self.tell, self.folder, lambda: at)
        return [one.stage(at) for one in await renewals.look()]


@pytest.fixture
def owner(keystore: Keystore, tmp_path: Path) -> Owner:
    return Owner(keystore, tmp_path / "state")


async def test_a_key_is_told_of_30_7_and_1_days_before_its_end_and_then(
    owner: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    made = owner.keystore.generate(ALICE, now=NOW, expires=100 * DAY)
    days = (50, 70, 71, 80, 93, 94, 99, 99.5, 100, 101)
    with caplog.at_level(logging.WARNING):
        assert [await owner.look(NOW + day * DAY) for day in days] == [
            *([], [30], [], [], [7], [], [1], [], [0], [])
        ]
    assert [one.days for one in caplog.records if one.message == "own key ends"] == [30, 7, 1, 0]
    assert {(fact.address, fact.fingerprint) for fact, _ in owner.told} == {(ALICE, made.fingerprint)}
    assert {helps for _, helps in owner.told} == {f"secmailproxy key extend {made.fingerprint}"}
    end = f"{made.expires:%Y-%m-%d %H:%M}"
    assert owner.told[0][0].sentence().endswith(f"can be used until {end} UTC")


async def test_an_extension_ends_it_until_the_next_end(owner: Owner) -> None:
    made = owner.keystore.generate(ALICE, now=NOW - 80 * DAY, expires=100 * DAY)
    assert await owner.look(NOW) == [30]
    owner.keystore.own_keys.extend(made.fingerprint, NOW + 200 * DAY, NOW)
    assert [await owner.look(NOW + day * DAY) for day in (1, 171)] == [[], [30]]


def test_the_part_that_ends_first_counts(owner: Owner) -> None:
    """A subkey that encrypts, of a key that never ends."""
    made = owner.keystore.generate(ALICE, now=NOW - 80 * DAY)
    assert [one.ends for one in ends_of([ALICE], owner.keystore, NOW)] == [None]
    owner.keystore.own_keys.rotate(made.fingerprint, NOW, expires=NOW + 20 * DAY, overlap=5 * DAY)
    [found] = ends_of([ALICE], owner.keystore, NOW + DAY)
    assert found.ends == NOW + 20 * DAY


def test_an_smime_key_is_told_of_too(owner: Owner, mail_authority: Authority) -> None:
    person = mail_authority.person(ALICE, until=NOW + 20 * DAY)
    own(owner.keystore, person)
    [found] = ends_of([ALICE], owner.keystore, NOW + DAY)
    assert (found.role, found.fingerprint, found.stage(NOW + DAY)) == ("S/MIME key", person.fingerprint, 30)
    assert remedy(found) == f"secmailproxy key request {ALICE}"
    assert owner.keystore.identity(ALICE, NOW + DAY, scheme=Scheme.SMIME) is not None


def test_neither_what_was_revoked_nor_what_was_replaced_is_told_of(owner: Owner) -> None:
    old = owner.keystore.generate(ALICE, now=NOW - 80 * DAY, expires=79 * DAY)
    assert [one.fingerprint for one in ends_of([ALICE], owner.keystore, NOW)] == [old.fingerprint]
    new = owner.keystore.generate(ALICE, now=NOW - DAY)
    assert [(one.fingerprint, one.stage(NOW)) for one in ends_of([ALICE], owner.keystore, NOW)] == [
        (new.fingerprint, None)
    ]
    owner.keystore.own_keys.extend(old.fingerprint, NOW + DAY, NOW)
    for one in (old, new):
        owner.keystore.own_keys.revoke(one.fingerprint, "none", NOW)
    assert list(ends_of([ALICE], owner.keystore, NOW)) == []
