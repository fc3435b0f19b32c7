"""Trust as tables: what a source's word counts for, and what becomes of one more certificate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from keystore.discovery.model import SourceKind
from keystore.facts import Certification
from keystore.model import Reason, Trust
from keystore.policy import holds, in_use, raised, trust_of_source, vouched

UNKNOWN, KNOWN, VERIFIED, REJECTED = Trust.UNKNOWN, Trust.KNOWN, Trust.VERIFIED, Trust.REJECTED


@pytest.mark.parametrize(
    ("kind", "surely", "perhaps"),
    [
        (SourceKind.PINNED, KNOWN, KNOWN),
        (SourceKind.LOCAL, KNOWN, KNOWN),
        (SourceKind.GNUPG, KNOWN, KNOWN),
        (SourceKind.AUTOCRYPT, KNOWN, KNOWN),
        (SourceKind.GOSSIP, UNKNOWN, UNKNOWN),
        (SourceKind.SIGNED_MAIL, KNOWN, KNOWN),
        (SourceKind.WKD, KNOWN, UNKNOWN),
        (SourceKind.VKS, KNOWN, UNKNOWN),
        (SourceKind.HKPS, UNKNOWN, UNKNOWN),
        (SourceKind.DANE, KNOWN, UNKNOWN),
        (SourceKind.LDAP, UNKNOWN, UNKNOWN),
        (SourceKind.FOLDER, KNOWN, KNOWN),
        (SourceKind.URL, KNOWN, UNKNOWN),
    ],
)
def test_the_word_of_a_source(kind: SourceKind, surely: Trust, perhaps: Trust) -> None:
    """No source verifies: only the owner does, and whom the owner named as an introducer."""
    assert (trust_of_source(kind, True), trust_of_source(kind, False)) == (surely, perhaps)


def test_every_source_has_its_word() -> None:
    assert VERIFIED not in {trust_of_source(kind, True) for kind in SourceKind}


ENDED = {
    Reason.EXPIRED,
    Reason.REVOKED,
    Reason.USER_ID_REVOKED,
    Reason.SUBKEY_EXPIRED,
    Reason.SUBKEY_REVOKED,
    Reason.NOT_YET_VALID,
}


@pytest.mark.parametrize("reason", [None, *Reason])
def test_what_is_in_use(reason: Reason | None) -> None:
    """Expired or revoked, it still is the one that another would replace."""
    served = reason is None or reason in ENDED
    assert [in_use(trust, reason) for trust in (UNKNOWN, KNOWN, VERIFIED, REJECTED)] == [
        served,
        served,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("standing", "held"),
    [
        (None, (False, False, False)),
        (REJECTED, (False, False, False)),
        (UNKNOWN, (True, False, False)),
        (KNOWN, (True, True, True)),
        (VERIFIED, (True, True, True)),
    ],
)
def test_what_is_held(standing: Trust | None, held: tuple[bool, bool, bool]) -> None:
    """Nothing that comes along takes the place of a known or verified certificate."""
    assert tuple(holds(offered, standing) for offered in (UNKNOWN, KNOWN, VERIFIED)) == held


@pytest.mark.parametrize(
    ("trust", "alone", "introduced"),
    [
        (UNKNOWN, UNKNOWN, VERIFIED),
        (KNOWN, KNOWN, VERIFIED),
        (VERIFIED, VERIFIED, VERIFIED),
        (REJECTED, REJECTED, REJECTED),
    ],
)
def test_an_introducer_raises_all_but_what_is_rejected(trust: Trust, alone: Trust, introduced: Trust) -> None:
    assert (raised(trust, introduced=False), raised(trust, introduced=True)) == (alone, introduced)


NOW, DAY = datetime(2026, 7, 1, tzinfo=UTC), timedelta(days=1)
BOB, OTHER = "Bob <bob@example.org>", "Bob <bob@home.example>"


@pytest.mark.parametrize(
    ("statements", "vouches"),
    [
        ([], False),
        ([Certification(BOB, NOW - DAY)], True),
        ([Certification(BOB, NOW)], True),
        ([Certification(BOB, NOW + DAY)], False),
        ([Certification(BOB, NOW - DAY, expires=NOW)], False),
        ([Certification(BOB, NOW - DAY, expires=NOW + DAY)], True),
        ([Certification(BOB, NOW - 3 * DAY), Certification(BOB, NOW - DAY, revokes=True)], False),
        ([Certification(BOB, NOW - DAY), Certification(BOB, NOW - DAY, revokes=True)], False),
        ([Certification(BOB, NOW - 3 * DAY, revokes=True), Certification(BOB, NOW - DAY)], True),
        ([Certification(BOB, NOW - 3 * DAY), Certification(BOB, NOW - DAY, expires=NOW)], False),
        ([Certification(OTHER, NOW - DAY)], False),
    ],
)
def test_the_newest_certification_of_the_user_id_counts(
    statements: list[Certification], vouches: bool
) -> None:
    expected = frozenset({"bob@example.org"} if vouches else ())
    assert vouched(statements, [BOB], (), NOW) == expected
    assert vouched(statements[::-1], [BOB], (), NOW) == expected
    assert vouched(statements, [], (), NOW) == frozenset()


@pytest.mark.parametrize(
    ("domains", "vouches"),
    [((), True), (("example.org",), True), (("org",), False), (("mail.example.org", "x.example"), False)],
)
def test_an_introducer_of_some_domains(domains: tuple[str, ...], vouches: bool) -> None:
    found = vouched([Certification(BOB, NOW - DAY)], [BOB], domains, NOW)
    assert bool(found) is vouches
