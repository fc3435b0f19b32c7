"""Which verdicts set which keywords, and what becomes of them when trust changes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from keystore.model import Fingerprint, Trust
from secmailproxy import verdict
from secmailproxy.keywords import BAD, ENCRYPTED, NAMES, SIGNED, VERIFIED, Marks, claims_of, keywords_of
from secmailproxy.model import CryptoSummary, DecryptionState, Protection, Verdict
from tests.test_verdict import SUMMARIES

FIELD = "Secmail-Verdict-4711"
KEY = Fingerprint("AB" * 20)


def summary(says: Verdict, *, encrypted: bool = False) -> CryptoSummary:
    return CryptoSummary(
        protection=Protection.SIGNED_AND_ENCRYPTED if encrypted else Protection.SIGNED,
        decryption=DecryptionState.OK if encrypted else DecryptionState.NOT_NEEDED,
        verdict=says,
        signer="alice@example.org",
        fingerprint=KEY,
        trust=Trust.KNOWN,
    )


def of(found: CryptoSummary, trust: Trust = Trust.KNOWN) -> tuple[bytes, ...]:
    return keywords_of(claims_of(verdict.render(found, FIELD)), trust)


@pytest.mark.parametrize(
    ("found", "trust", "expected"),
    [
        (summary(Verdict.VALID), Trust.UNKNOWN, (SIGNED,)),
        (summary(Verdict.VALID), Trust.KNOWN, (SIGNED,)),
        (summary(Verdict.VALID), Trust.VERIFIED, (SIGNED, VERIFIED)),
        (summary(Verdict.VALID), Trust.REJECTED, (BAD,)),
        (summary(Verdict.VALID, encrypted=True), Trust.VERIFIED, (SIGNED, VERIFIED, ENCRYPTED)),
        (summary(Verdict.NONE, encrypted=True), Trust.VERIFIED, (ENCRYPTED,)),
        (summary(Verdict.UNKNOWN_KEY, encrypted=True), Trust.UNKNOWN, (ENCRYPTED,)),
        (summary(Verdict.UNKNOWN_KEY), Trust.UNKNOWN, ()),
        (summary(Verdict.INVALID), Trust.VERIFIED, (BAD,)),
        (summary(Verdict.INVALID, encrypted=True), Trust.VERIFIED, (ENCRYPTED, BAD)),
        (summary(Verdict.MISMATCH), Trust.VERIFIED, (BAD,)),
        (summary(Verdict.UNACCEPTABLE), Trust.VERIFIED, (BAD,)),
        (CryptoSummary(), Trust.VERIFIED, ()),
        (
            CryptoSummary(protection=Protection.ENCRYPTED, decryption=DecryptionState.FAILED),
            Trust.VERIFIED,
            (),
        ),
    ],
)
def test_which_verdict_sets_which_keywords(
    found: CryptoSummary, trust: Trust, expected: tuple[bytes, ...]
) -> None:
    assert of(found, trust) == expected


@given(SUMMARIES)
def test_no_keyword_is_better_than_the_verdict_field(found: CryptoSummary) -> None:
    """Whatever is in the rest of the field, which holds text of senders and keys, cut to plain characters."""
    claims = claims_of(verdict.render(found, FIELD))
    assert claims.verdict is found.verdict
    if found.verdict in {Verdict.VALID, Verdict.MISMATCH}:
        assert claims.trust is found.trust
        assert claims.fingerprint == (found.fingerprint or "")
    for trust in Trust:
        given_words = keywords_of(claims, trust)
        assert (SIGNED in given_words) <= (found.verdict is Verdict.VALID)
        assert (VERIFIED in given_words) <= (SIGNED in given_words and trust is Trust.VERIFIED)
        assert (ENCRYPTED in given_words) <= (
            found.decryption is not DecryptionState.FAILED
            and found.protection in {Protection.ENCRYPTED, Protection.SIGNED_AND_ENCRYPTED}
        )
        assert not {SIGNED, BAD} <= set(given_words)


@pytest.mark.parametrize(
    "field",
    [
        b"",
        b"x",
        b"Subject: signed; signature=valid",
        b"A: encrypted ; x",
        b"A: signed; signature=best; trust=x",
    ],
)
def test_a_field_that_is_none_claims_nothing(field: bytes) -> None:
    assert keywords_of(claims_of(field.replace(b"valid", b"odd")), Trust.VERIFIED) == ()


def test_trust_that_changes_changes_the_keywords_and_tells_which() -> None:
    trusts = {KEY: Trust.KNOWN}
    marks = Marks()
    marks.judged(7, verdict.render(summary(Verdict.VALID), FIELD))
    marks.judged(8, verdict.render(replace(summary(Verdict.VALID), fingerprint=None), FIELD))
    marks.judged(9, verdict.render(CryptoSummary(), FIELD))
    trust_of = lambda fingerprint: trusts.get(fingerprint, Trust.UNKNOWN)  # noqa: E731 - of the test alone
    marks.settle(trust_of, 1)
    assert marks.words == {7: SIGNED, 8: SIGNED, 9: b""}
    assert marks.changes == [7, 8, 9], "also what has no keyword: the server must not learn which"
    trusts[KEY] = Trust.VERIFIED
    marks.settle(trust_of, 1)
    assert marks.words[7] == SIGNED, "nothing has changed, as far as was said"
    marks.settle(trust_of, 2)
    assert marks.words == {7: SIGNED + b" " + VERIFIED, 8: SIGNED, 9: b""}
    assert marks.changes == [7, 8, 9] * 2
    marks.settle(trust_of, 3)
    assert marks.changes == [7, 8, 9] * 2, "trust in others has changed"
    trusts[KEY] = Trust.REJECTED
    marks.settle(trust_of, 4)
    assert marks.words == {7: BAD, 8: SIGNED, 9: b""}
    assert [list(marks.having(name.upper())) for name in NAMES] == [[8], [], [], [7]]
    assert marks.knows(9)


def test_trust_in_a_certificate_is_asked_for_once_however_many_it_has_signed() -> None:
    marks, asked = Marks(), []
    for uid in range(100):
        marks.judged(uid, verdict.render(summary(Verdict.VALID), FIELD))

    def trust_of(fingerprint: str) -> Trust:
        asked.append(fingerprint)
        return Trust.KNOWN

    for version in (1, 1, 2, 3):
        marks.settle(trust_of, version)
    assert asked == [KEY] * 4, "of those that are new, and each time that something may have changed"
    marks.judged(200, verdict.render(summary(Verdict.VALID), FIELD))
    marks.settle(lambda _: Trust.VERIFIED)
    marks.settle(lambda _: Trust.VERIFIED, 4)
    assert marks.words[0] == marks.words[200] == SIGNED + b" " + VERIFIED
