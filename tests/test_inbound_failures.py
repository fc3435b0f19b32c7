"""What cannot be opened, or must not be, stays as it is."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keystore.keystore import Keystore, KeystoreSettings
from keystore.model import Scheme, Trust
from keystore.secrets import SystemdSecrets
from keystore.vault import KEY_NAME
from keystore.wrap import new_key
from secmailproxy import inbound
from secmailproxy.errors import KeystoreLocked
from secmailproxy.inbound import InboundLimits
from secmailproxy.mime.entity import Limits
from secmailproxy.model import DecryptionState, Protection, Verdict
from tests.fixtures.desk import (
    ALICE,
    FIELD,
    MADE,
    NOW,
    OUTER,
    TEXT,
    Desk,
    container,
    desk,
    message,
    protected,
)

__all__ = ["desk"]


# -- failures


@pytest.mark.parametrize(
    "armored",
    [
        b"",
        b"no armor",
        b"-----BEGIN PGP MESSAGE-----\r\n\r\nAAAA\r\n-----END PGP MESSAGE-----\r\n",
        b"\xff" * 50,
    ],
)
def test_what_cannot_be_opened_stays_as_it_is(desk: Desk, armored: bytes):
    read = desk.read(message(container(armored)))
    assert read.presented is None
    assert read.summary.protection is Protection.ENCRYPTED
    assert read.summary.decryption is DecryptionState.FAILED
    assert read.summary.decryption_reason
    assert read.summary.verdict is Verdict.NONE
    assert read.summary.errant_layers == 0


def test_no_secret_key(desk: Desk, gnupg_home: Callable[..., object]):
    gnupg = gnupg_home()
    gnupg.generate("stranger@example.org")
    armored = gnupg.run("--armor", "--encrypt", "-r", "stranger@example.org", data=TEXT).stdout
    summary = desk.read(message(container(armored))).summary
    assert (summary.decryption, summary.decryption_reason) == (
        DecryptionState.FAILED,
        "no secret key here opens it",
    )


def test_unknown_signer(desk: Desk, gnupg_home: Callable[..., object]):
    gnupg = gnupg_home()
    gnupg.generate("stranger@example.org")
    signed = desk.sign(TEXT)
    start, end = signed.index(b"-----BEGIN"), signed.index(b"\r\n--sig--")
    other = signed[:start] + gnupg.run("--armor", "--detach-sign", data=TEXT).stdout + signed[end:]
    summary = desk.read(message(other)).summary
    assert (summary.verdict, summary.signer, summary.trust) == (Verdict.UNKNOWN_KEY, None, Trust.UNKNOWN)


def test_smime_that_is_damaged_is_left_alone(desk: Desk):
    body = b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\r\n\r\nMIIB\r\n"
    read = desk.read(message(body))
    assert (read.summary.scheme, read.summary.decryption) == (Scheme.SMIME, DecryptionState.FAILED)
    assert read.summary.decryption_reason == "it is damaged or was tampered with"
    assert read.summary.errant_layers == 0
    assert read.presented is None


def test_ciphertext_with_siblings_is_never_opened(desk: Desk):
    encrypted = desk.encrypt(TEXT, ALICE)
    html = b'Content-Type: text/html\r\n\r\n<img src="http://example.net/'
    mixed = b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n" + html + b"\r\n--m\r\n"
    read = desk.read(
        message(mixed + encrypted + b'\r\n--m\r\nContent-Type: text/html\r\n\r\n">\r\n--m--\r\n')
    )
    assert (read.presented, read.summary.protection, read.summary.errant_layers) == (None, Protection.NONE, 1)
    third = encrypted.replace(b"\r\n--enc--", b"\r\n--enc\r\n" + html + b"\r\n--enc--")
    read = desk.read(message(third))
    assert (read.presented, read.summary.protection, read.summary.errant_layers) == (None, Protection.NONE, 1)


def test_a_second_encryption_stays_closed_and_is_counted_as_errant(desk: Desk):
    inner = desk.encrypt(TEXT)
    read = desk.read(message(desk.encrypt(inner, ALICE)))
    assert read.presented == OUTER % b"outside" + inner
    assert (read.summary.verdict, read.summary.errant_layers) == (Verdict.VALID, 1)


@pytest.mark.parametrize(
    ("body", "limits"),
    [
        (b"--enc\r\n\r\n" * 20, InboundLimits(Limits(parts=10))),
        (b"x" * 300, InboundLimits(message_octets=200)),
    ],
)
def test_beyond_the_limits_nothing_is_opened(desk: Desk, body: bytes, limits: InboundLimits):
    start = container(b"x").replace(b"--enc--", b"")
    read = desk.read(message(start + body), limits=limits)
    assert read.presented is None
    assert read.summary.decryption is DecryptionState.FAILED
    assert "more than" in read.summary.decryption_reason or "larger" in read.summary.decryption_reason


@pytest.mark.parametrize(
    ("start", "protection", "verdict"),
    [
        (b"", Protection.NONE, Verdict.NONE),
        (b"Content-Type: multipart/signed; boundary=x\r\n", Protection.SIGNED, Verdict.UNACCEPTABLE),
        (b"Content-Type: multipart/encrypted; boundary=x\r\n", Protection.ENCRYPTED, Verdict.NONE),
    ],
)
def test_nothing_good_is_said_of_a_message_beyond_the_limits(
    desk: Desk, start: bytes, protection: Protection, verdict: Verdict
):
    octets = start + b"X: y\r\n" * 1100 + b"\r\nbody\r\n"
    read = desk.read(octets)
    assert (read.summary.protection, read.summary.verdict, read.presented) == (protection, verdict, None)
    assert "fields" in (read.summary.verdict_reason or read.summary.decryption_reason)
    forged = desk.read(b"Secmail-Verdict-ABC: signed\r\n" + octets)
    assert forged.presented == octets
    assert forged.summary.verdict is verdict


def test_header_sections_together_are_limited_too(desk: Desk):
    forwards = b"Content-Type: message/rfc822\r\nX: " + b"y" * 100_000 + b"\r\n\r\n"
    assert "header" in desk.read(message(forwards * 8)).summary.verdict_reason


def test_limits_hold_inside_the_encryption(desk: Desk):
    deep = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n\r\n" * 1100
    read = desk.read(message(desk.encrypt(deep, ALICE)))
    assert (read.presented, read.summary.decryption) == (None, DecryptionState.FAILED)
    signed = TEXT
    for _ in range(6):
        signed = desk.sign(signed).replace(b"sig", b"sig%d" % len(signed))
    assert desk.read(message(signed)).summary.verdict is not Verdict.VALID


def test_a_locked_keystore_is_an_error_and_no_verdict(tmp_path: Path, desk: Desk):
    """Judged later, it would be presented otherwise: nothing may be fixed now."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / KEY_NAME).write_text(base64.b64encode(new_key()).decode())
    settings = KeystoreSettings(tmp_path / "store")
    with closing(Keystore.open(settings, SystemdSecrets(credentials))) as keystore:
        bob = keystore.generate("bob2@example.org", now=MADE).fingerprint
        armored = keystore.encrypt(TEXT, [bob], None, MADE)
    (credentials / KEY_NAME).unlink()
    with (
        closing(Keystore.open(settings, SystemdSecrets(credentials))) as locked,
        pytest.raises(KeystoreLocked),
    ):
        inbound.unprotect(message(container(armored)), locked, NOW, FIELD)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_survived(desk: Desk, data: st.DataObject):
    whole = message(
        desk.encrypt(desk.sign(protected()), ALICE) if data.draw(st.booleans()) else desk.sign(TEXT)
    )
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(whole)))
        cut = data.draw(st.integers(0, 40))
        put = data.draw(
            st.sampled_from([b"", b"\r\n", b"\n", b"--sig", b"--enc--\r\n", b"\x00", b"(", b'"', b"\xff" * 9])
        )
        whole = whole[:at] + put + whole[at + cut :]
    read = desk.read(whole)
    if read.presented is not None:
        assert b"\x00" not in read.presented


def test_the_same_message_is_always_presented_in_the_same_octets(desk: Desk):
    whole = message(desk.encrypt(desk.sign(protected(more=b"X: y\r\n")), ALICE))
    assert desk.read(whole) == desk.read(whole)
