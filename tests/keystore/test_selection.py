"""The choice among certificates, as a table."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from keystore.model import Certificate, Fingerprint, Reason, Trust, Usability
from keystore.selection import how_to_settle, select, select_pinned

ADDRESS = "alice@example.org"
EXPIRED = Usability((), Reason.EXPIRED, "on 2026-01-02")
REVOKED = Usability((), Reason.REVOKED)
WEAK = Usability((), Reason.WEAK_ALGORITHM)


def certificate(name: str, year: int = 2020, trust: Trust = Trust.KNOWN) -> Certificate:
    created = datetime(year, 1, 1, tzinfo=UTC)
    return Certificate(Fingerprint(name * 40), b"", (), (ADDRESS,), created, None, "Ed25519", trust=trust)


def usable(one: Certificate) -> tuple[Certificate, Usability]:
    return one, Usability((one.fingerprint,))


OLD, NEW = certificate("A", 2020), certificate("B", 2024)
VERIFIED, UNKNOWN = certificate("C", 2010, Trust.VERIFIED), certificate("D", 2025, Trust.UNKNOWN)


@pytest.mark.parametrize(
    ("candidates", "chosen", "reason"),
    [
        ([], None, Reason.NO_CERTIFICATE),
        ([usable(OLD)], OLD, None),
        ([usable(OLD), usable(NEW)], NEW, None),
        ([usable(NEW), usable(OLD)], NEW, None),
        ([usable(NEW), usable(VERIFIED)], VERIFIED, None),
        ([usable(UNKNOWN), usable(OLD)], OLD, None),
        ([usable(UNKNOWN)], UNKNOWN, None),
        ([(VERIFIED, EXPIRED), usable(UNKNOWN)], None, Reason.HELD),
        ([(OLD, REVOKED), usable(UNKNOWN)], None, Reason.HELD),
        ([(OLD, WEAK), usable(UNKNOWN)], UNKNOWN, None),
        ([(VERIFIED, WEAK), usable(UNKNOWN)], None, Reason.HELD),
        ([(OLD, EXPIRED)], None, Reason.EXPIRED),
        ([(OLD, EXPIRED), (NEW, REVOKED)], None, Reason.REVOKED),
        ([(VERIFIED, EXPIRED), (NEW, REVOKED)], None, Reason.EXPIRED),
    ],
)
def test_best(candidates, chosen, reason):
    selection = select(ADDRESS, candidates)
    assert selection.certificates == ((chosen,) if chosen else ())
    assert selection.reason is reason
    assert selection.usable is (chosen is not None)


@pytest.mark.parametrize(
    ("candidates", "chosen", "reason"),
    [
        ([usable(OLD), usable(NEW)], OLD, None),
        ([(OLD, EXPIRED), usable(NEW)], None, Reason.HELD),
        ([(OLD, REVOKED), usable(NEW)], None, Reason.HELD),
        ([(OLD, EXPIRED), (NEW, EXPIRED)], None, Reason.EXPIRED),
        ([usable(NEW)], None, Reason.HELD),
        ([(NEW, EXPIRED)], None, Reason.EXPIRED),
        ([usable(UNKNOWN), usable(NEW)], UNKNOWN, None),
        ([usable(VERIFIED), usable(NEW)], VERIFIED, None),
        ([(VERIFIED, EXPIRED), usable(NEW)], None, Reason.HELD),
    ],
)
def test_one_that_is_held_is_never_chosen(candidates, chosen, reason):
    """Not even when the one in use has ended, or is gone."""
    selection = select(ADDRESS, candidates, {NEW.fingerprint})
    assert selection.certificates == ((chosen,) if chosen else ())
    assert selection.reason is reason
    assert reason is not Reason.HELD or f"key settle {ADDRESS}" in selection.explanation


@pytest.mark.parametrize(
    ("address", "typed"),
    [(ADDRESS, ADDRESS), ("$(reboot)@x.example", "'$(reboot)@x.example'"), ("a\x1b[2J@x", "'a[2J@x'")],
)
def test_the_command_can_be_typed_whatever_the_address(address, typed):
    assert how_to_settle(address) == f"secmailproxy key settle {typed}"


def test_explanations_name_fingerprint_and_date():
    assert select(ADDRESS, [(OLD, EXPIRED)]).explanation == f"certificate {'A' * 40}: expired (on 2026-01-02)"
    assert ADDRESS in select(ADDRESS, []).explanation


def test_rivals_are_mentioned():
    """Those of equal standing, and those behind: who imported one wants to know why it is not used."""
    explanation = select(
        ADDRESS, [usable(OLD), usable(NEW), usable(UNKNOWN), (VERIFIED, EXPIRED)]
    ).explanation
    assert f"the newest of several that claim {ADDRESS} (also {OLD.fingerprint})" in explanation
    assert explanation.endswith(f"; chosen before {UNKNOWN.fingerprint} (unknown)")
    assert "before" not in select(ADDRESS, [usable(NEW), usable(OLD)]).explanation
    assert "several" not in select(ADDRESS, [usable(NEW), usable(VERIFIED)]).explanation


@pytest.mark.parametrize(
    ("pinned", "chosen", "reason"),
    [
        ([usable(OLD)], (OLD,), None),
        ([usable(OLD), usable(NEW)], (OLD, NEW), None),
        ([(OLD, EXPIRED), usable(NEW)], (NEW,), None),
        ([(OLD, EXPIRED)], (), Reason.EXPIRED),
        ([(OLD, EXPIRED), (NEW, REVOKED)], (), Reason.EXPIRED),
        ([(None, Usability((), Reason.NO_CERTIFICATE))], (), Reason.NO_CERTIFICATE),
    ],
)
def test_pinned(pinned, chosen, reason):
    named = [(one.fingerprint if one else Fingerprint("E" * 40), one, usability) for one, usability in pinned]
    selection = select_pinned(ADDRESS, named)
    assert (selection.certificates, selection.reason) == (chosen, reason)
    for fingerprint, _, usability in named:
        assert usability.usable or fingerprint in selection.explanation
