"""The verdict field: one field, always as long, nothing of the sender's in it."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keystore.model import Fingerprint, Trust
from keystore.smime import constraints, path
from secmailproxy import envelope, judge, verdict
from secmailproxy.mime import encrypted, entity
from secmailproxy.model import CryptoSummary, DecryptionState, Protection, Verdict
from secmailproxy.opening import _FAILURES

ANY_TEXT = st.one_of(
    st.none(), st.text(max_size=300), st.from_regex(r"[a-z.]{1,120}@[a-z.]{1,120}", fullmatch=True)
)
SUMMARIES = st.builds(
    CryptoSummary,
    protection=st.sampled_from(Protection),
    decryption=st.sampled_from(DecryptionState),
    decryption_reason=ANY_TEXT,
    verdict=st.sampled_from(Verdict),
    signer=ANY_TEXT,
    fingerprint=st.one_of(
        st.none(), st.from_regex(r"[0-9A-F]{40}|[0-9A-F]{64}", fullmatch=True).map(Fingerprint)
    ),
    trust=st.sampled_from(Trust),
    verdict_reason=ANY_TEXT,
    subject=ANY_TEXT,
    protected_headers=st.lists(st.text(max_size=30), max_size=40).map(tuple),
    errant_layers=st.integers(0, 5),
)
TOKENS = st.from_regex(r"[A-Za-z0-9]{1,32}", fullmatch=True)


@given(SUMMARIES, TOKENS)
@example(CryptoSummary(signer="0" * 69), "0")
@example(CryptoSummary(signer="0" * 68), "0")
@settings(max_examples=200)
def test_one_field_of_fixed_length_whatever_is_in_it(summary, token):
    name = verdict.field_name(token)
    field = verdict.render(summary, name)
    assert len(field) == verdict.VERDICT_LENGTH
    assert re.fullmatch(rb"(?:[ -~]{1,76}\r\n)+", field)
    assert all(line.strip() for line in field.split(b"\r\n")[:-1])
    fields = entity.parse(field + b"Subject: x\r\n\r\n").fields
    assert [one.name for one in fields] == [name, "Subject"]
    assert field.count(b"(") == field.count(b")") or b"reason=" in field


@given(SUMMARIES)
def test_only_a_valid_signature_says_signed(summary):
    value = verdict.render(summary, "Secmail-Verdict-x").partition(b":")[2]
    says_signed = value.lstrip().startswith(b"signed")
    assert says_signed is (
        summary.verdict is Verdict.VALID and summary.decryption is not DecryptionState.FAILED
    )
    assert (b"signature=valid" in value) is (summary.verdict is Verdict.VALID)


VALID = CryptoSummary(
    protection=Protection.SIGNED_AND_ENCRYPTED,
    decryption=DecryptionState.OK,
    verdict=Verdict.VALID,
    signer="alice@example.org",
    fingerprint=Fingerprint("AB" * 20),
    trust=Trust.KNOWN,
    protected_headers=("Subject", "From"),
)


def test_what_it_looks_like():
    field = verdict.render(VALID, "Secmail-Verdict-0123456789abcdef").decode()
    words = " ".join(field.split())
    assert words.startswith(
        "Secmail-Verdict-0123456789abcdef: signed+encrypted; signature=valid; signer=alice@example.org; "
        "trust=known; fpr=" + "AB" * 20 + "; headers=Subject,From (..."
    )
    assert words.endswith("...)")


@pytest.mark.parametrize(
    ("signer", "shown"),
    [
        ("a" * 200 + "@example.org", "a" * 64 + "..."),
        ("alice@example.org\r\nX: y", "alice@example.org??X??y"),
        ("alice@example.org; signature=valid", "alice@example.org??signature=valid"),
        ("alice@exämple.org", "alice@ex?mple.org"),
        ("alice(good)@example.org", "alice?good?@example.org"),
    ],
)
def test_addresses_are_cut_to_plain_characters(signer, shown):
    summary = CryptoSummary(verdict=Verdict.MISMATCH, signer=signer)
    assert f"signer={shown};".encode() in verdict.render(summary, "Secmail-Verdict-x")


@pytest.mark.parametrize("token", ["", "a b", "a:b", "a\r\n", "x" * 33, "é"])
def test_tokens_that_would_make_another_field_are_refused(token):
    with pytest.raises(ValueError, match="token"):
        verdict.field_name(token)


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("the signer's certificate: revoked", "the signer's certificate: revoked"),
        ("expired (on 2024-01-01)", "expired, on 2024-01-01"),
        ("weak; signature=valid", "weak? signature?valid"),
    ],
)
def test_reasons_can_be_read(reason, shown):
    summary = CryptoSummary(verdict=Verdict.UNACCEPTABLE, verdict_reason=reason)
    assert f"reason={shown}\r\n".encode() in verdict.render(summary, "Secmail-Verdict-x")


TEXTS = [
    value
    for module in (judge, path, constraints, envelope, encrypted)
    for name, value in vars(module).items()
    if name.isupper() and isinstance(value, str) and " " in value
]


@pytest.mark.parametrize("reason", [*TEXTS, *judge._REASONS.values(), *_FAILURES.values()])
def test_our_own_reasons_stand_there_whole(reason):
    """Nothing of them is cut or replaced."""
    summary = CryptoSummary(verdict=Verdict.UNACCEPTABLE, verdict_reason=reason)
    assert f"reason={reason}\r\n".encode() in verdict.render(summary, "Secmail-Verdict-x")
