"""The truth table of judgement: layers and signature results in, one summary out."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from keystore.model import Fingerprint, Scheme, SignatureResult, SignatureState, Trust
from secmailproxy import judge
from secmailproxy.judge import Layer, Seen, judge_inbound
from secmailproxy.model import CryptoSummary, DecryptionState, Protection, Verdict

AUTHOR = "alice@example.org"
DATE = datetime(2026, 11, 20, 12, tzinfo=UTC)


def result(
    state: SignatureState = SignatureState.GOOD,
    *addresses: str,
    trust: Trust = Trust.KNOWN,
    reason: str = "",
    created: datetime = DATE,
    certificate: bytes = b"",
) -> SignatureResult:
    return SignatureResult(
        state,
        Fingerprint("AB" * 20),
        addresses or (AUTHOR,),
        trust=trust,
        reason=reason,
        created=created,
        certificate=certificate,
    )


GOOD, OTHER = result(), result(SignatureState.GOOD, "eve@example.net")
BAD, UNKNOWN = result(SignatureState.BAD), result(SignatureState.UNKNOWN_KEY)
REFUSED = result(SignatureState.UNACCEPTABLE, reason="SHA-1")
REJECTED = result(trust=Trust.REJECTED)

SIGNATURES = {
    (): Verdict.NONE,
    (GOOD,): Verdict.VALID,
    (OTHER,): Verdict.MISMATCH,
    (BAD,): Verdict.INVALID,
    (UNKNOWN,): Verdict.UNKNOWN_KEY,
    (REFUSED,): Verdict.UNACCEPTABLE,
    (REJECTED,): Verdict.UNACCEPTABLE,
    (OTHER, GOOD): Verdict.VALID,
    (UNKNOWN, GOOD): Verdict.VALID,
    (BAD, UNKNOWN): Verdict.UNKNOWN_KEY,
    (UNKNOWN, REFUSED): Verdict.UNACCEPTABLE,
    (OTHER, BAD): Verdict.MISMATCH,
}


def judged(
    *layers: Layer, author: str | None = AUTHOR, date: datetime | None = DATE, sender: str | None = None
) -> CryptoSummary:
    return judge_inbound(layers, Seen(author, date, sender), scheme=Scheme.OPENPGP)


def signed(*signatures: SignatureResult, scheme: Scheme = Scheme.OPENPGP) -> Layer:
    return Layer(scheme, encrypts=False, signatures=signatures)


def opaque(*signatures: SignatureResult) -> Layer:
    return Layer(Scheme.SMIME, encrypts=False, signatures=signatures, opaque=True)


def encrypted(*signatures: SignatureResult) -> Layer:
    return Layer(Scheme.OPENPGP, encrypts=True, signatures=signatures)


SIGNED = (Protection.SIGNED, DecryptionState.NOT_NEEDED)
CBC = Layer(Scheme.SMIME, encrypts=True, authenticated=False)
GCM = Layer(Scheme.SMIME, encrypts=True)


@pytest.mark.parametrize(("signatures", "verdict"), SIGNATURES.items())
def test_one_layer(signatures, verdict):
    assert judged(encrypted(*signatures)).verdict is verdict
    if signatures:
        assert judged(signed(*signatures)).verdict is verdict
        assert judged(encrypted(), signed(*signatures)).verdict is verdict


@pytest.mark.parametrize(
    ("layers", "protection", "decryption", "verdict"),
    [
        ((), Protection.NONE, DecryptionState.NOT_NEEDED, Verdict.NONE),
        ((signed(GOOD),), *SIGNED, Verdict.VALID),
        ((encrypted(),), Protection.ENCRYPTED, DecryptionState.OK, Verdict.NONE),
        ((encrypted(GOOD),), Protection.SIGNED_AND_ENCRYPTED, DecryptionState.OK, Verdict.VALID),
        ((signed(GOOD), encrypted()), Protection.ENCRYPTED, DecryptionState.OK, Verdict.NONE),
        (
            (signed(GOOD), encrypted(OTHER)),
            Protection.SIGNED_AND_ENCRYPTED,
            DecryptionState.OK,
            Verdict.MISMATCH,
        ),
        ((signed(BAD), encrypted(GOOD)), Protection.SIGNED_AND_ENCRYPTED, DecryptionState.OK, Verdict.VALID),
        (
            (encrypted(OTHER), signed(GOOD)),
            Protection.SIGNED_AND_ENCRYPTED,
            DecryptionState.OK,
            Verdict.MISMATCH,
        ),
        (
            (encrypted(BAD), signed(GOOD)),
            Protection.SIGNED_AND_ENCRYPTED,
            DecryptionState.OK,
            Verdict.INVALID,
        ),
        (
            (encrypted(GOOD), signed(BAD)),
            Protection.SIGNED_AND_ENCRYPTED,
            DecryptionState.OK,
            Verdict.INVALID,
        ),
        (
            (encrypted(GOOD), signed(OTHER)),
            Protection.SIGNED_AND_ENCRYPTED,
            DecryptionState.OK,
            Verdict.MISMATCH,
        ),
        ((signed(OTHER), signed(GOOD)), *SIGNED, Verdict.MISMATCH),
        ((signed(GOOD), signed(GOOD)), *SIGNED, Verdict.VALID),
        ((signed(UNKNOWN), signed(GOOD)), *SIGNED, Verdict.UNKNOWN_KEY),
        ((signed(GOOD), signed(REFUSED)), *SIGNED, Verdict.UNACCEPTABLE),
        ((opaque(GOOD), opaque(OTHER)), *SIGNED, Verdict.VALID),
        ((opaque(GOOD), opaque(UNKNOWN)), *SIGNED, Verdict.VALID),
        ((opaque(GOOD), opaque(BAD)), *SIGNED, Verdict.INVALID),
        ((opaque(OTHER), opaque(GOOD)), *SIGNED, Verdict.MISMATCH),
        ((opaque(GOOD), signed(OTHER)), *SIGNED, Verdict.MISMATCH),
        ((signed(GOOD), opaque(OTHER)), *SIGNED, Verdict.MISMATCH),
        (
            (opaque(GOOD), CBC, opaque(OTHER)),
            Protection.SIGNED_AND_ENCRYPTED,
            DecryptionState.OK,
            Verdict.MISMATCH,
        ),
        ((opaque(GOOD), opaque(OTHER), CBC), Protection.ENCRYPTED, DecryptionState.OK, Verdict.NONE),
        ((opaque(),), Protection.NONE, DecryptionState.NOT_NEEDED, Verdict.NONE),
        ((signed(BAD), signed(GOOD)), *SIGNED, Verdict.INVALID),
    ],
)
def test_nested_layers(layers, protection, decryption, verdict):
    """MIME-03."""
    summary = judged(*layers)
    assert (summary.protection, summary.decryption, summary.verdict) == (protection, decryption, verdict)


def test_a_signature_outside_the_encryption_is_explained():
    assert judged(signed(GOOD), encrypted()).verdict_reason == judge.OUTER_SIGNATURE


ALL = [
    layer(*one) for layer in (signed, opaque, encrypted) for one in SIGNATURES if one or layer is encrypted
]


def test_valid_only_with_a_good_bound_signature_that_covers_the_payload():
    for layers in itertools.chain.from_iterable(itertools.product(ALL, repeat=count) for count in (1, 2)):
        summary = judged(*layers)
        inside = [layer for layer in layers if not (not layer.encrypts and encrypted_below(layers, layer))]
        assert (summary.verdict is not Verdict.VALID) or any(GOOD in layer.signatures for layer in inside)
        assert judged(*layers, author=None).verdict is not Verdict.VALID
        assert judged(*layers, author="mallory@example.net").verdict is not Verdict.VALID


def encrypted_below(layers, layer) -> bool:
    at = next(index for index, one in enumerate(layers) if one is layer)
    return any(one.encrypts for one in layers[at + 1 :])


@pytest.mark.parametrize("author", ["Alice@Example.ORG", "alice@example.org"])
def test_letters_case_is_ignored(author):
    summary = judged(signed(GOOD), author=author)
    assert (summary.verdict, summary.signer) == (Verdict.VALID, AUTHOR)


def test_any_valid_user_id_binds():
    summary = judged(signed(result(SignatureState.GOOD, "other@example.org", AUTHOR)))
    assert (summary.verdict, summary.signer) == (Verdict.VALID, AUTHOR)


@pytest.mark.parametrize("author", [None, "bob@example.org", "alice@example.org.evil.net", "ice@example.org"])
def test_everybody_else_is_a_mismatch(author):
    summary = judged(signed(GOOD), author=author)
    assert (summary.verdict, summary.signer) == (Verdict.MISMATCH, AUTHOR)


@pytest.mark.parametrize(
    ("author", "address", "bound"),
    [
        ("alice@bücher.example", "alice@bücher.example", True),
        ("ALICE@BÜCHER.example", "alice@bücher.example", True),
        ("alice@bücher.example", "alice@xn--bcher-kva.example", True),
        ("alice@bank.example", "alice@ban\N{KELVIN SIGN}.example", False),
        ("alice@bank.example", "\N{CYRILLIC SMALL LETTER A}lice@bank.example", False),
        ("al\N{LATIN SMALL LETTER I WITH ACUTE}@x.example", "ali\N{COMBINING ACUTE ACCENT}@x.example", False),
    ],
)
def test_letters_that_look_alike_are_not_the_same(author: str, address: str, bound: bool):
    """MIME-04."""
    summary = judged(signed(result(SignatureState.GOOD, address)), author=author)
    assert (summary.verdict is Verdict.VALID) is bound


@pytest.mark.parametrize("trust", [Trust.VERIFIED, Trust.KNOWN, Trust.UNKNOWN])
def test_trust_stands_apart_from_validity(trust):
    summary = judged(signed(result(trust=trust)))
    assert (summary.verdict, summary.trust) == (Verdict.VALID, trust)


@pytest.mark.parametrize("one", [BAD, UNKNOWN, REFUSED])
def test_nobody_is_named_by_a_signature_that_is_not_good(one):
    summary = judged(signed(one))
    assert (summary.signer, summary.trust) == (None, Trust.UNKNOWN)
    assert summary.verdict_reason


def test_a_failed_decryption_claims_nothing():
    summary = judge_inbound(
        [signed(GOOD)],
        Seen(AUTHOR, DATE),
        scheme=Scheme.OPENPGP,
        decryption_failure="damaged",
        errant_layers=2,
    )
    assert not any(one.counted for one in summary.signatures)
    assert replace(summary, signatures=()) == CryptoSummary(
        scheme=Scheme.OPENPGP,
        protection=Protection.ENCRYPTED,
        decryption=DecryptionState.FAILED,
        decryption_reason="damaged",
        errant_layers=2,
    )


RIGHT_BUT_UNKNOWN = result(SignatureState.UNKNOWN_KEY, certificate=b"der")
RIGHT_BUT_WEAK = result(SignatureState.UNACCEPTABLE, certificate=b"der")


@pytest.mark.parametrize(
    ("layers", "authenticated"),
    [
        ((CBC,), False),
        ((GCM,), True),
        ((encrypted(),), True),
        ((signed(GOOD),), True),
        ((signed(GOOD), CBC), False),
        ((CBC, signed(GOOD, scheme=Scheme.SMIME)), True),
        ((CBC, signed(GOOD)), False),
        ((CBC, opaque(OTHER)), True),
        ((CBC, opaque(REJECTED)), True),
        ((CBC, opaque(RIGHT_BUT_UNKNOWN)), True),
        ((CBC, opaque(RIGHT_BUT_WEAK)), True),
        ((CBC, opaque(UNKNOWN)), False),
        ((CBC, signed(REFUSED)), False),
        ((CBC, signed(result(SignatureState.BAD, certificate=b"der"))), False),
        ((CBC, signed(BAD, GOOD, scheme=Scheme.SMIME)), True),
        ((CBC, opaque()), False),
    ],
)
def test_an_encryption_without_integrity_needs_a_signature_inside(layers, authenticated):
    """MIME-06."""
    summary = judged(*layers)
    assert summary.authenticated is authenticated
    if not authenticated:
        assert summary.verdict is not Verdict.VALID
        assert summary.verdict_reason


@pytest.mark.parametrize(
    ("hours", "valid"), [(0, True), (1, True), (-1, True), (1.01, False), (-1.01, False), (24 * 365, False)]
)
def test_the_date_shown_is_near_the_signing_time(hours: float, valid: bool):
    """MIME-04. Of OpenPGP the difference is told, and spoils nothing."""
    late = result(created=DATE + timedelta(hours=hours))
    assert judged(signed(late, scheme=Scheme.SMIME)).verdict is (
        Verdict.VALID if valid else Verdict.UNACCEPTABLE
    )
    summary = judged(signed(late))
    assert summary.verdict is Verdict.VALID
    assert summary.verdict_reason == (None if valid else judge.OTHER_TIME)


def test_a_date_that_cannot_be_read_is_no_date_near_the_signing_time():
    assert judged(opaque(GOOD), date=None).verdict is Verdict.UNACCEPTABLE
    untimed = replace(GOOD, created=None)
    assert judged(opaque(untimed), date=None).verdict is Verdict.VALID


@pytest.mark.parametrize(
    ("sender", "author", "verdict", "reason"),
    [
        (None, AUTHOR, Verdict.VALID, None),
        (AUTHOR, AUTHOR, Verdict.VALID, None),
        ("list@example.org", AUTHOR, Verdict.VALID, judge.ON_BEHALF),
        ("", AUTHOR, Verdict.VALID, judge.ON_BEHALF),
        (AUTHOR, "boss@example.org", Verdict.MISMATCH, judge.BY_SENDER),
        ("list@example.org", "boss@example.org", Verdict.MISMATCH, judge.OTHER_ADDRESS),
    ],
)
def test_sender_is_told_and_never_counts(sender, author, verdict, reason):
    """MIME-04, RFC 8550 section 3."""
    summary = judged(signed(GOOD), author=author, sender=sender)
    assert (summary.verdict, summary.verdict_reason) == (verdict, reason)


def test_every_signature_is_listed():
    summary = judged(opaque(BAD), CBC, opaque(OTHER, GOOD))
    assert [(one.verdict, one.signer, one.counted) for one in summary.signatures] == [
        (Verdict.INVALID, None, False),
        (Verdict.MISMATCH, "eve@example.net", True),
        (Verdict.VALID, AUTHOR, True),
    ]
