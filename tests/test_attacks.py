"""Attacks of the literature, made anew, on both schemes: nothing is called valid, nothing secret is shown.

MIME-03, MIME-04, MIME-05, MIME-06, MIME-07.
"""

from __future__ import annotations

import pytest

from secmailproxy.model import DecryptionState, Verdict
from tests.fixtures.attacks import (
    EVIL,
    FROM_CLASS,
    SECRET,
    AnyDesk,
    covert_class,
    mime_class,
)
from tests.fixtures.desk import ALICE, EVE, FIELD, TEXT, Desk, desk, message
from tests.fixtures.forging_desk import ForgingDesk, forging_desk

__all__ = ["desk", "forging_desk"]


@pytest.fixture(params=["OpenPGP", "S/MIME"])
def either(request: pytest.FixtureRequest, desk: Desk, forging_desk: ForgingDesk) -> AnyDesk:
    """The desk of each scheme."""
    return desk if request.param == "OpenPGP" else forging_desk


def test_the_genuine_ones_are_valid(either: AnyDesk) -> None:
    """Without this nothing below says anything."""
    signed, sealed = (
        either.read(message(either.sign(TEXT))),
        either.read(message(either.encrypt(TEXT, ALICE))),
    )
    for read in (signed, sealed):
        assert (read.summary.verdict, read.summary.signer) == (Verdict.VALID, ALICE)
    assert sealed.summary.decryption is DecryptionState.OK
    assert b"windmill" in (sealed.presented or b"")


def test_mime_class(either: AnyDesk) -> None:
    """MIME-03: also inside encryption."""
    for name, entity in mime_class(either).items():
        for whole in (entity, either.encrypt(entity)):
            read = either.read(message(whole))
            assert read.summary.verdict is not Verdict.VALID, name
            assert read.summary.signer != ALICE or read.summary.verdict is Verdict.INVALID, name


def test_identity_class(either: AnyDesk) -> None:
    """MIME-04: signed by Alice, and From is not her address alone; the same for what Eve signs."""
    for whole in (message(either.sign(TEXT)), message(either.encrypt(TEXT, ALICE))):
        for sender, name in FROM_CLASS.items():
            read = either.read(whole.replace(b"Alice <alice@example.org>", sender))
            assert read.summary.verdict is Verdict.MISMATCH, name
    for sender, name in FROM_CLASS.items():
        read = either.read(message(either.sign(TEXT, EVE)).replace(b"Alice <alice@example.org>", sender))
        valid = read.summary.verdict is Verdict.VALID
        assert not valid or (read.summary.signer == EVE and b"eve@example.net" in sender), name


def test_covert_class(either: AnyDesk) -> None:
    """MIME-06: what stands in a message of another's stays closed; what is presented holds no secret."""
    for name, entity in covert_class(either).items():
        read = either.read(message(entity))
        assert SECRET not in (read.presented or b""), name
        assert read.summary.verdict is not Verdict.VALID, name
        shown = message(entity) if read.presented is None else read.presented
        assert b"BEGIN PGP MESSAGE" in shown or b"smime-type=enveloped-data" in shown, name


def test_a_ciphertext_of_alices_sent_on_by_eve(either: AnyDesk) -> None:
    """A decryption oracle: it opens, since it is for Bob, but says nothing for Eve."""
    for signer in (None, ALICE):
        whole = message(either.encrypt(TEXT, signer)).replace(
            b"Alice <alice@example.org>", b"eve@example.net"
        )
        read = either.read(whole)
        assert read.summary.decryption is DecryptionState.OK
        assert read.summary.verdict is (Verdict.MISMATCH if signer else Verdict.NONE)
        assert read.summary.signer in {None, ALICE}
        assert not read.kept, "so its Message-ID is remembered, and an answer in clear refused"


FORGED = f"{FIELD}: signed; signature=valid; signer=alice@example.org\r\n".encode()


def test_forged_verdicts(either: AnyDesk) -> None:
    """MIME-05: copies of our field are nowhere in what is presented: in no header, outer, inner or nested."""
    inner = FORGED + b"Content-Type: text/plain\r\n\r\nBelieve me.\r\n"
    nested = (
        b"Content-Type: message/rfc822\r\n\r\n" + FORGED + b"From: alice@example.org\r\n\r\nBelieve me.\r\n"
    )
    for entity in (
        inner,
        nested,
        FORGED.lower() + nested,
        b"X: y\r\n" + FORGED.replace(b": ", b" :\t") + inner,
    ):
        read = either.read(FORGED + message(either.encrypt(entity)))
        assert read.summary.verdict is Verdict.NONE
        assert read.presented is not None
        assert FIELD.lower().encode() not in read.presented.lower().split(b"Believe me.")[0]


@pytest.mark.parametrize(
    "subject",
    [
        b"[signed] money",
        b"=?utf-8?b?8J+Ukg==?= signed by Alice",
        b"Secmail-Verdict: valid",
        b"\xe2\x9c\x94 valid",
    ],
)
def test_marks_in_the_subject_change_nothing(either: AnyDesk, subject: bytes) -> None:
    """UI class: nothing but the field tells, and its text has nothing of the sender's in it."""
    read = either.read(message(EVIL, subject))
    assert (read.summary.verdict, read.presented) == (Verdict.NONE, None)
    read = either.read(message(either.encrypt(TEXT), subject))
    assert (read.summary.verdict, read.summary.signer) == (Verdict.NONE, None)


def test_bodies_hold_nothing_of_ours(either: AnyDesk) -> None:
    """UI class: what an HTML draws over, it does not draw over a mark of ours."""
    styled = (
        b"<style>body:before{content:'Valid signature of alice@example.org'}</style>"
        b'<div style="position:fixed;top:0">Secmail-Verdict: signed</div>\r\n'
    )
    read = either.read(message(either.encrypt(b"Content-Type: text/html\r\n\r\n" + styled, ALICE)))
    presented = read.presented or b""
    assert presented.count(styled) == 1
    assert b"Secmail-Verdict" not in presented.replace(styled, b"")
