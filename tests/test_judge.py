"""The truth table of judgement: layers and signature results in, one summary out."""

from __future__ import annotations

import itertools

import pytest

from keystore.model import Fingerprint, Scheme, SignatureResult, SignatureState, Trust
from secmailproxy import judge
from secmailproxy.judge import Layer, judge_inbound
from secmailproxy.model import CryptoSummary, DecryptionState, Protection, Verdict

AUTHOR = "alice@example.org"


def result(
    state: SignatureState = SignatureState.GOOD, *addresses: str, trust: Trust = Trust.KNOWN, reason: str = ""
) -> SignatureResult:
    return SignatureResult(state, Fingerprint("AB" * 20), addresses or (AUTHOR,), trust=trust, reason=reason)


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


def judged(*layers: Layer, author: str | None = AUTHOR) -> CryptoSummary:
    return judge_inbound(layers, author, scheme=Scheme.OPENPGP)


def signed(*signatures: SignatureResult) -> Layer:
    return Layer(encrypts=False, signatures=signatures)


def encrypted(*signatures: SignatureResult) -> Layer:
    return Layer(encrypts=True, signatures=signatures)


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
        ((signed(GOOD),), Protection.SIGNED, DecryptionState.NOT_NEEDED, Verdict.VALID),
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
            Verdict.VALID,
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
        ((signed(OTHER), signed(GOOD)), Protection.SIGNED, DecryptionState.NOT_NEEDED, Verdict.VALID),
        ((signed(BAD), signed(GOOD)), Protection.SIGNED, DecryptionState.NOT_NEEDED, Verdict.INVALID),
    ],
)
def test_nested_layers(layers, protection, decryption, verdict):
    summary = judged(*layers)
    assert (summary.protection, summary.decryption, summary.verdict) == (protection, decryption, verdict)


def test_a_signature_outside_the_encryption_is_explained():
    assert judged(signed(GOOD), encrypted()).verdict_reason == judge.OUTER_SIGNATURE


ALL = [signed(*one) for one in SIGNATURES if one] + [encrypted(*one) for one in SIGNATURES]


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
        [signed(GOOD)], AUTHOR, scheme=Scheme.OPENPGP, decryption_failure="damaged", errant_layers=2
    )
    assert summary == CryptoSummary(
        scheme=Scheme.OPENPGP,
        protection=Protection.ENCRYPTED,
        decryption=DecryptionState.FAILED,
        decryption_reason="damaged",
        errant_layers=2,
    )
