"""Inline OpenPGP, where the account wants it: one armored block that is the whole text, and nothing else."""

from __future__ import annotations

import base64
import quopri
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secmailproxy.inbound import InboundLimits, Unprotected, first_octets_wanted, seems_protected
from secmailproxy.mime import entity, inline
from secmailproxy.model import DecryptionState, Protection, Verdict
from tests.fixtures.desk import ALICE, BOB, OUTER, Desk, desk
from tests.fixtures.gnupg import GnuPG
from tests.fixtures.processes import service_folder

__all__ = ["desk"]

ON = InboundLimits(inline_pgp=True)
PLAIN = b"Content-Type: text/plain; charset=utf-8\r\n"
WORDS = "Dear Bob,\r\n- a list\r\n-- \r\n--dashes\r\nFrom there  \r\ngrüße\t\r\n\r\nend\r\n".encode()
SHOWN = "Dear Bob,\r\n- a list\r\n--\r\n--dashes\r\nFrom there\r\ngrüße\r\n\r\nend\r\n".encode()
"""Without trailing blanks, which the signature does not cover."""


@pytest.fixture(scope="module")
def alice(desk: Desk) -> Iterator[GnuPG]:
    """Alice with gpg, whose certificate the desk has."""
    with service_folder("alice") as folder:
        folder.chmod(0o700)
        gpg = GnuPG(folder)
        gpg.generate("Alice <alice@example.org>")
        gpg.take(desk.keystore.export(desk.keys[BOB]))
        desk.keystore.import_keys(gpg.export(ALICE), source="test")
        try:
            yield gpg
        finally:
            gpg.end()


def crlf(octets: bytes) -> bytes:
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def read(desk: Desk, body: bytes, fields: bytes = PLAIN, limits: InboundLimits | None = ON) -> Unprotected:
    return desk.read(OUTER % b"outside" + fields + b"\r\n" + body, limits=limits)


def text_of(found: Unprotected) -> bytes:
    assert found.presented is not None
    return found.presented.partition(b"\r\n\r\n")[2]


@pytest.fixture(scope="module")
def blocks(alice: GnuPG) -> dict[str, bytes]:
    to_bob = ["--armor", "--encrypt", "-r", BOB]
    return {
        "encrypted": crlf(alice.run(*to_bob, data=WORDS).stdout),
        "both": crlf(alice.run(*to_bob, "--sign", data=WORDS).stdout),
        "clear": crlf(alice.run("--clearsign", data=WORDS).stdout),
        "opaque": crlf(alice.run("--armor", "--sign", data=WORDS).stdout),
    }


EXPECTED = {
    "encrypted": (Protection.ENCRYPTED, Verdict.NONE, WORDS),
    "both": (Protection.SIGNED_AND_ENCRYPTED, Verdict.VALID, WORDS),
    "clear": (Protection.SIGNED, Verdict.VALID, SHOWN),
    "opaque": (Protection.SIGNED, Verdict.VALID, WORDS),
}


@pytest.mark.parametrize("name", list(EXPECTED))
def test_what_gpg_writes_is_read_in_every_transfer_encoding(
    desk: Desk, blocks: dict[str, bytes], name: str
) -> None:
    protection, verdict, shown = EXPECTED[name]
    plain = blocks[name]
    for fields, body in (
        (PLAIN, plain),
        (PLAIN + b"Content-Transfer-Encoding: 8bit\r\n", b"\r\n\r\n" + plain + b" \r\n\r\n"),
        (PLAIN + b"Content-Transfer-Encoding: Quoted-Printable\r\n", crlf(quopri.encodestring(plain))),
        (PLAIN + b"Content-Transfer-Encoding: base64\r\n", crlf(base64.encodebytes(plain))),
        (PLAIN.replace(b"utf-8", b"utf-8; format=flowed; delsp=yes"), plain),
        (PLAIN, plain.replace(b"\r\n", b"\n")),
        (PLAIN.replace(b"text/plain", b"application/pgp; x-action=encrypt; format=text"), plain),
        (PLAIN, plain.replace(b"\r\n\r\n", b"\r\nCharset: utf-7\r\n\r\n", 1)),
    ):
        found = read(desk, body, fields)
        assert (found.summary.protection, found.summary.verdict) == (protection, verdict)
        assert text_of(found) == shown
        assert b'\r\nContent-Type: text/plain; charset="utf-8"\r\n' in (found.presented or b"")
        assert b"flowed" not in (found.presented or b"")
        assert found.summary.protected_headers == ()
        header = (OUTER % b"outside") + fields
        wanted = first_octets_wanted(header, inline_pgp=True)
        assert seems_protected(header, body[:wanted], inline_pgp=True)
        assert first_octets_wanted(header, inline_pgp=False) == 0


@pytest.mark.parametrize("name", list(EXPECTED))
def test_without_the_option_nothing_is_touched(desk: Desk, blocks: dict[str, bytes], name: str) -> None:
    found = read(desk, blocks[name], limits=None)
    assert (found.presented, found.summary.protection, found.summary.verdict) == (
        None, Protection.NONE, Verdict.NONE,
    )  # fmt: skip


def strange(block: bytes, other: bytes) -> dict[str, tuple[bytes, bytes]]:
    """Fields and body of messages that are not one block, or are more."""
    line = b"-----BEGIN PGP "
    mixed = b"Content-Type: multipart/mixed; boundary=m\r\n"
    html = PLAIN.replace(b"plain", b"html")
    return {
        "a word before": (PLAIN, b"x\r\n" + block),
        "a word behind": (PLAIN, block + b"x\r\n"),
        "two blocks": (PLAIN, block + block),
        "another block behind": (PLAIN, block + other),
        "another block before": (PLAIN, other + block),
        "quoted": (PLAIN, b"> " + block.replace(b"\r\n", b"\r\n> ")),
        "indented": (PLAIN, b"words\r\n " + block),
        "HTML": (html, block),
        "HTML, says so twice": (PLAIN + html, block),
        "a part": (mixed, b"--m\r\nContent-Type: text/plain\r\n\r\n" + block + b"\r\n--m--\r\n"),
        "UTF-7": (PLAIN.replace(b"utf-8", b"utf-7"), block),
        "UTF-16": (PLAIN.replace(b"utf-8", b"utf-16"), block),
        "two charsets": (PLAIN.replace(b"utf-8", b"utf-8; charset=utf-16"), block),
        "two encodings": (PLAIN + b"Content-Transfer-Encoding: 8bit\r\n" * 2, block),
        "an unknown encoding": (PLAIN + b"Content-Transfer-Encoding: x-uuencode\r\n", block),
        "no end": (PLAIN, block[: block.index(b"-----END")]),
        "a lone carriage return": (PLAIN, block.replace(b"\r\n\r\n", b"\r\nx\rx\r\n\r\n", 1)),
        "NUL": (PLAIN, block.replace(b"\r\n\r\n", b"\r\n\0\r\n", 1)),
        "a second beginning inside": (PLAIN, block.replace(line, line + b"MESSAGE-----\r\n" + line, 1)),
    }


@pytest.mark.parametrize("kind", ["both", "clear"])
@pytest.mark.parametrize("name", list(strange(b"-----END", b"")))
def test_anything_else_is_a_text_like_any_other(
    desk: Desk, blocks: dict[str, bytes], kind: str, name: str
) -> None:
    fields, body = strange(blocks[kind], blocks["clear" if kind == "both" else "both"])[name]
    found = read(desk, body, fields)
    assert (found.presented, found.summary.protection, found.summary.verdict) == (
        None, Protection.NONE, Verdict.NONE,
    )  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.replace(b"Hash: ", b"Hash: SHA1\r\nThis is shown as signed: ", 1),
        lambda c: c.replace(b"- - a list", b"- a list\r\n-evil"),
        lambda c: c.replace(b"Dear Bob", b"-----BEGIN PGP MESSAGE-----\r\nDear Bob"),
        lambda c: c.replace(b"\r\n\r\n", b"\r\nNotDashEscaped: yes\r\n\r\n", 1),
        lambda c: c[: c.index(b"-----BEGIN PGP SIGNATURE")],
    ],
)
def test_a_cleartext_that_readers_could_see_differently_is_left_alone(
    desk: Desk, blocks: dict[str, bytes], change
) -> None:
    changed = change(blocks["clear"])
    assert changed != blocks["clear"]
    found = read(desk, changed)
    assert (found.presented, found.summary.verdict) == (None, Verdict.NONE)


def test_a_changed_text_is_shown_and_said_to_be_changed(desk: Desk, blocks: dict[str, bytes]) -> None:
    found = read(desk, blocks["clear"].replace(b"Dear Bob", b"Dear Eve"))
    assert (found.summary.verdict, text_of(found)) == (Verdict.INVALID, SHOWN.replace(b"Bob", b"Eve"))


def test_what_cannot_be_opened_stays_as_it_is(desk: Desk, alice: GnuPG) -> None:
    closed = alice.run("--armor", "--encrypt", "-r", ALICE, data=WORDS).stdout
    found = read(desk, crlf(closed))
    assert (found.presented, found.summary.decryption) == (None, DecryptionState.FAILED)
    assert found.summary.protection is Protection.ENCRYPTED
    found = read(desk, crlf(alice.run("--armor", "--store", data=WORDS).stdout))
    assert (found.presented, found.summary.protection) == (None, Protection.NONE)


def test_what_is_inside_is_text_and_never_mime(desk: Desk, alice: GnuPG) -> None:
    inside = b"Content-Type: text/html\r\n\r\n<script>\r\n"
    block = crlf(alice.run("--armor", "--sign", "--encrypt", "-r", BOB, data=inside).stdout)
    found = read(desk, block)
    assert text_of(found) == inside
    assert b"\r\nContent-Type: text/plain; charset=" in (found.presented or b"")
    within = desk.encrypt(PLAIN + b"\r\n" + crlf(alice.run("--clearsign", data=WORDS).stdout))
    found = desk.read(OUTER % b"outside" + within, limits=ON)
    assert (found.summary.protection, found.summary.verdict) == (Protection.ENCRYPTED, Verdict.NONE)


@pytest.mark.parametrize(
    ("declared", "octets", "expected"),
    [
        ("", b"a\n", b'charset="us-ascii"\r\nContent-Transfer-Encoding: 7bit\r\n\r\na\r\n'),
        ("us-ascii", b"\xc3\xa4", b'charset="utf-8"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xc3\xa4\r\n'),
        ("us-ascii", b"\xe4", b'charset="us-ascii"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xe4\r\n'),
        ("koi8-r", b"\xc3\xa4", b'charset="koi8-r"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xc3\xa4\r\n'),
        ("utf-8", b"", b'charset="utf-8"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n'),
    ],
)  # fmt: skip
def test_the_charset_that_is_shown(declared: str, octets: bytes, expected: bytes) -> None:
    assert inline.as_entity(octets, declared) == b"Content-Type: text/plain; " + expected


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_changed_octet_gives_another_plaintext_or_a_valid_verdict(
    desk: Desk, blocks: dict[str, bytes], data: st.DataObject
) -> None:
    """MIME-07, and of signed text: what is shown as valid is what was signed."""
    for name in ("both", "clear", "opaque"):
        block = blocks[name]
        at = data.draw(st.integers(0, len(block) - 1))
        octet = data.draw(st.integers(0, 255))
        found = read(desk, block[:at] + bytes([octet]) + block[at + 1 :])
        shown = EXPECTED[name][2]
        if found.presented is not None and name == "both":
            assert text_of(found) == shown
        if found.summary.verdict is Verdict.VALID:
            assert text_of(found) == shown


def test_lines_of_blanks_cost_their_length() -> None:
    root = entity.parse(
        PLAIN + b"\r\n" + b" \t" * 500_000 + b"\r\n" * 200_000 + b"-----BEGIN PGP MESSAGE-----"
    )
    assert inline.take_apart(root) is None
