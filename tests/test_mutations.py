"""No octet of a signed or encrypted message can be changed, put in or taken out, and something else be valid.

Every octet of a small message of each kind is changed once, of long lines of base64 every other one;
insertions, deletions, exchanges, cuts and other line ends are tried at random. Where a verdict stays valid,
what is covered is what it was: outside of that are header fields that no signature covers, and octets that
no reader looks at (MIME-03, MIME-07).
"""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import parseaddr
from functools import cached_property

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keystore.model import Scheme
from secmailproxy.inbound import Unprotected
from secmailproxy.model import DecryptionState, Verdict
from tests.fixtures.desk import ALICE, TEXT, Desk, desk, message
from tests.fixtures.forging_desk import ForgingDesk, forging_desk

__all__ = ["desk", "forging_desk"]

Reader = Callable[[bytes], Unprotected]
BASE64 = re.compile(rb"(?m)^[A-Za-z0-9+/]{60,}")
SIGNATURES = {"application/pgp-signature", "application/pkcs7-signature"}


@dataclass(frozen=True)
class Original:
    """A message, and who reads it."""

    octets: bytes = field(repr=False)
    read: Reader = field(repr=False)

    @cached_property
    def texts(self) -> list[bytes]:
        """What another parser finds in what is presented."""
        return texts(self.read(self.octets).presented or self.octets)


@pytest.fixture(scope="module")
def originals(desk: Desk, forging_desk: ForgingDesk) -> dict[str, Original]:
    """A valid message of each kind, and who reads it."""
    mime = forging_desk
    of_openpgp = [desk.sign(TEXT), desk.encrypt(TEXT, ALICE), desk.encrypt(desk.sign(TEXT))]
    small = mime.opaque(TEXT, bare=True, binary=True)
    of_smime = [
        mime.sign(TEXT),
        mime.opaque(TEXT, bare=True),
        mime.encrypt(small),
        mime.seal(small),
        mime.sign(mime.seal(small), bare=True),
    ]
    made = [(entity, desk.read) for entity in of_openpgp] + [(entity, mime.read) for entity in of_smime]
    return {name: Original(message(entity), read) for name, (entity, read) in zip(NAMES, made, strict=True)}


NAMES = [
    "OpenPGP signed",
    "OpenPGP encrypted and signed",
    "OpenPGP signed, then encrypted",
    "S/MIME signed",
    "S/MIME signed, opaque",
    "S/MIME signed, then encrypted",
    "S/MIME signed, then encrypted with integrity",
    "S/MIME wrapped three times",
]


def texts(octets: bytes) -> list[bytes]:
    """What another parser finds to show: who writes, and all parts but signatures. Line ends do not count."""
    octets = octets.replace(b"\r\n", b"\n")
    parsed = email.message_from_bytes(octets, policy=email.policy.compat32)
    _, author = parseaddr(str(parsed["From"]))
    parts = [part for part in parsed.walk() if not part.is_multipart()]
    shown = [part.get_payload(decode=True) for part in parts if part.get_content_type() not in SIGNATURES]
    return [author.lower().encode("utf-8", "replace"), *(one for one in shown if isinstance(one, bytes))]


def wrong(original: Original, changed: bytes) -> str:
    """What is wrong with what became of the changed message; "" for nothing."""
    found = original.read(changed)
    shown = changed if found.presented is None else found.presented
    if found.summary.verdict is Verdict.VALID:
        same = found.summary.signer == ALICE and texts(shown) == original.texts
        return "" if same else f"valid: {shown!r}"
    is_proven = found.summary.decryption is DecryptionState.OK and found.summary.scheme is Scheme.OPENPGP
    return f"decrypted: {shown!r}" if is_proven and TEXT not in shown else ""


def flipped(original: bytes) -> Iterator[tuple[int, bytes]]:
    """The message with one bit changed, of each octet in turn; of long lines of base64 every other one."""
    alike = {at for line in BASE64.finditer(original) for at in range(line.start() + 1, line.end(), 2)}
    for at, octet in enumerate(original):
        if at not in alike:
            yield at, original[:at] + bytes([octet ^ 1 << at % 7]) + original[at + 1 :]


@pytest.mark.parametrize("name", NAMES[:-1])
def test_every_octet(originals: dict[str, Original], name: str) -> None:
    original = originals[name]
    assert original.read(original.octets).summary.verdict is Verdict.VALID
    found = [(at, why) for at, changed in flipped(original.octets) if (why := wrong(original, changed))]
    assert not found, found[:3]


PIECES = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.sampled_from(
        [
            b"\r\n",
            b"\n",
            b"\r",
            b" ",
            b"\x00",
            b"--sig\r\n",
            b"\r\n--sig--\r\n",
            b"\r\n--sig\r\n\r\nSend the money to Eve.\r\n",
            b"Content-Type: text/html\r\n",
            b"From: eve@example.net\r\n",
            b"-----END PGP MESSAGE-----\r\n",
            b"AAAA",
            b"=",
        ]
    ),
)


@st.composite
def edited(draw: st.DrawFn, original: bytes) -> bytes:
    """The message after one or two edits of one kind each."""
    octets = original
    for _ in range(draw(st.integers(1, 2))):
        at, other = sorted(draw(st.tuples(*[st.integers(0, len(octets))] * 2)))
        match draw(st.sampled_from(["insert", "delete", "repeat", "swap", "cut", "lines"])):
            case "insert":
                octets = octets[:at] + draw(PIECES) + octets[at:]
            case "delete":
                octets = octets[:at] + octets[min(other, at + draw(st.integers(1, 60))) :]
            case "repeat":
                octets = octets[:other] + octets[at:]
            case "swap":
                middle = (at + other) // 2
                octets = octets[:at] + octets[middle:other] + octets[at:middle] + octets[other:]
            case "cut":
                octets = octets[:at]
            case "lines":
                octets = octets[:at] + octets[at:other].replace(b"\r\n", draw(PIECES)) + octets[other:]
    return octets


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_edits(originals: dict[str, Original], name: str, data: st.DataObject) -> None:
    assert wrong(originals[name], data.draw(edited(originals[name].octets))) == ""
