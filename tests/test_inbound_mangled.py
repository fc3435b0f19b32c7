"""Encrypted messages that were damaged on their way: recognised, repaired, said; and what only looks so.

MIME-06: nothing with words of its own in front of a ciphertext, and nothing beside it ever shown with it.
"""

from __future__ import annotations

import pytest

from keystore import openpgp
from secmailproxy.mime import encrypted, entity
from secmailproxy.model import DecryptionState, Protection, Verdict
from secmailproxy.opening_openpgp import NOT_ENCRYPTED
from tests.fixtures.desk import ALICE, BOB, FIELD, MADE, NOW, OUTER, TEXT, Desk, container, desk, message
from tests.fixtures.gnupg import gnupg_home

__all__ = ["desk", "gnupg_home"]

CONTROL = b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
EMPTY = (
    b'Content-Type: text/plain; charset="us-ascii"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n'
    b"=20\r\n"
)
BLANK_HTML = (
    b"Content-Type: text/html; charset=utf-8\r\n\r\n"
    b'<html><head>\r\n<meta http-equiv="Content-Type" content="text/html"></head>\r\n'
    b"<body><div>&nbsp;</div></body></html>\r\n"
)
BLANK = b"Content-Type: multipart/alternative; boundary=e\r\n\r\n--e\r\n%b\r\n--e\r\n%b\r\n--e--\r\n" % (
    EMPTY,
    BLANK_HTML,
)
FOOTER = (
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: inline\r\n\r\n"
    b"_______________________________________________\r\nPeople mailing list\r\n"
)
LISTED = b"List-Id: People <people.lists.example.org>\r\n"


def mixed(*parts: bytes) -> bytes:
    return (
        b'Content-Type: multipart/mixed; boundary="m"\r\n\r\n'
        + b"".join(b"--m\r\n" + part + b"\r\n" for part in parts)
        + b"--m--\r\n"
    )


def data(armored: bytes, kind: bytes = b"application/octet-stream", name: bytes = b"encrypted.asc") -> bytes:
    return b'Content-Type: %b; name="%b"\r\n\r\n%b' % (kind, name, armored)


def shapes(armored: bytes) -> dict[str, tuple[bytes, str]]:
    """Content-Type field and body, with the words that say what was repaired."""
    whole = container(armored)
    return {
        "protocol lost": (whole.replace(b'; protocol="application/pgp-encrypted"', b""), "Content-Type"),
        "Exchange": (mixed(EMPTY, CONTROL, data(armored)), "Exchange"),
        "Exchange, other names": (
            mixed(
                EMPTY,
                CONTROL.replace(b"\r\n\r\n", b'; name="PGPMIME version identification"\r\n\r\n', 1),
                data(armored, name=b"secret.bin"),
            ),
            "Exchange",
        ),
        "multipart/mixed instead": (
            whole.replace(b"multipart/encrypted", b"multipart/mixed", 1), "Exchange"
        ),
        "data of another type": (mixed(CONTROL, data(armored, b"text/plain")), "Exchange"),
        "data of another type, unwrapped": (
            whole.replace(b"application/octet-stream", b"application/pgp", 1), "Content-Type"
        ),
        "beside an empty text": (mixed(EMPTY, whole), "empty text"),
        "wrapped alone": (mixed(whole), "empty text"),
        "wrapped by a list": (LISTED + mixed(whole, FOOTER), "mailing list"),
        "beside an empty HTML": (mixed(BLANK_HTML, CONTROL, data(armored)), "Exchange"),
        "beside an empty alternative": (mixed(BLANK, CONTROL, data(armored)), "Exchange"),
        "beside no-break spaces": (mixed(EMPTY.replace(b"=20", b"=C2=A0"), whole), "empty text"),
        "control part emptied": (
            mixed(EMPTY, CONTROL.replace(b"Version: 1", b""), data(armored)), "Exchange"
        ),
        "data of a type for OpenPGP": (
            whole.replace(b"application/octet-stream", b"application/pgp-message", 1), "Content-Type"
        ),
        "data alone, named by its disposition": (
            b'Content-Type: application/octet-stream\r\nContent-Disposition: inline; filename="encrypted.asc"'
            b"\r\n\r\n" + armored,
            "only its data",
        ),
        "data alone, as Thunderbird once named it": (
            data(armored, name=b"OpenPGP encrypted message.asc"), "only its data"
        ),
        "control part lost": (mixed(EMPTY, data(armored)), "only its data"),
        "data alone": (data(armored, name=b"msg.asc"), "only its data"),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(shapes(b"")))
def test_known_damage_is_repaired_and_said(desk: Desk, name: str):
    armored = desk.keystore.encrypt(TEXT, [desk.keys[BOB]], desk.keys[ALICE], MADE)
    body, words = shapes(armored)[name]
    read = desk.read(message(body))
    assert read.summary.verdict is Verdict.VALID
    assert words in (read.summary.verdict_reason or "")
    assert read.presented is not None
    assert read.presented.removeprefix(LISTED).endswith(TEXT)
    assert b"People mailing list" not in read.presented
    assert b"BEGIN PGP" not in read.presented


def test_known_damage_without_a_key_for_it(desk: Desk):
    other = openpgp.generate("other@example.net", now=MADE)
    octets = other.certificate_octets
    key = openpgp.key_fingerprints(octets)[1]
    armored = openpgp.encrypt(TEXT, [(octets, [key])], None, NOW)
    for name, (body, _) in shapes(armored).items():
        read = desk.read(message(body))
        assert read.presented is None
        # A file that happens to be named so may be just a file: nothing is said of it.
        closed = name != "control part lost" and not name.startswith("data alone")
        assert (read.summary.decryption is DecryptionState.FAILED) is closed
        assert (read.summary.protection is Protection.ENCRYPTED) is closed


def left_alone(armored: bytes) -> dict[str, bytes]:
    whole = container(armored)
    words = b"Content-Type: text/plain\r\n\r\nwords\r\n"
    html = b'Content-Type: text/html\r\n\r\n<img src="http://example.net/'
    return {
        "a text in front": mixed(words, whole),
        "a text in front, from a list": LISTED + mixed(words, whole),
        "a text behind, from nobody": mixed(whole, FOOTER),
        "HTML behind, from a list": LISTED + mixed(whole, html),
        "an attachment behind, from a list": LISTED
        + mixed(whole, FOOTER.replace(b"inline", b"attachment; filename=x.txt")),
        "a long text behind, from a list": LISTED + mixed(whole, FOOTER + b"words\r\n" * 1000),
        "two texts behind, from a list": LISTED + mixed(whole, FOOTER, FOOTER),
        "a text and the Exchange shape": mixed(words, CONTROL, data(armored)),
        "HTML around": mixed(html, whole, html),
        "HTML with words in front": mixed(BLANK_HTML.replace(b"&nbsp;", b"words"), CONTROL, data(armored)),
        "HTML with an image in front": mixed(
            BLANK_HTML.replace(b"&nbsp;", b'<img src="http://example.net/">'), CONTROL, data(armored)
        ),
        "an alternative with words in front": mixed(BLANK.replace(b"=20", b"x"), CONTROL, data(armored)),
        "a control part with words": mixed(CONTROL + b"words\r\n", data(armored)),
        "two ciphertexts": mixed(whole, whole),
        "the wrong order": mixed(data(armored), CONTROL),
        "deeper": mixed(mixed(whole)),
        "a file of another name": mixed(EMPTY, data(armored, name=b"contract.asc")),
        "a text beside the file": mixed(words, data(armored)),
        "an ambiguous boundary": mixed(EMPTY, whole).replace(b'"m"', b'"m"; boundary="enc"'),
        "multipart/related": mixed(EMPTY, CONTROL, data(armored)).replace(b"/mixed", b"/related"),
    }


@pytest.mark.parametrize("name", list(left_alone(b"")))
def test_what_only_looks_so_stays_closed(desk: Desk, name: str):
    armored = desk.keystore.encrypt(TEXT, [desk.keys[BOB]], desk.keys[ALICE], MADE)
    read = desk.read(message(left_alone(armored)[name]))
    assert (read.presented, read.summary.verdict) == (None, Verdict.NONE)
    assert read.summary.decryption is DecryptionState.NOT_NEEDED


def test_a_file_that_was_attached_is_no_message(desk: Desk):
    """An encrypted file has no MIME header inside, whatever its name is."""
    armored = desk.keystore.encrypt(b"only words\r\n\r\nmore\r\n", [desk.keys[BOB]], None, MADE)
    read = desk.read(message(mixed(EMPTY, data(armored))))
    assert (read.presented, read.summary.protection) == (None, Protection.NONE)


def test_inside_a_signature_nothing_is_repaired(desk: Desk):
    armored = desk.keystore.encrypt(TEXT, [desk.keys[BOB]], desk.keys[ALICE], MADE)
    read = desk.read(message(desk.sign(mixed(EMPTY, CONTROL, data(armored)))))
    assert read.presented is None


def test_a_signed_message_in_the_place_of_an_encrypted_one(desk: Desk, gnupg_home):
    """It is shown, it is judged, and nothing says that it was encrypted."""
    gnupg = gnupg_home()
    gnupg.generate("Alice <alice@example.org>")
    desk.keystore.import_keys(gnupg.export(ALICE), source="test")
    signed = gnupg.run("--armor", "--sign", data=TEXT).stdout
    read = desk.read(message(container(signed)))
    assert read.presented == OUTER % b"outside" + TEXT
    assert (read.summary.protection, read.summary.verdict) == (Protection.SIGNED, Verdict.VALID)
    assert read.summary.decryption is DecryptionState.NOT_NEEDED
    assert read.summary.verdict_reason == NOT_ENCRYPTED
    changed = desk.read(message(container(signed.replace(b"\n\n", b"\n\nAA", 1))))
    assert changed.presented is None
    assert FIELD.encode() not in (read.presented or b"")
    stored = gnupg.run("--armor", "--store", data=TEXT).stdout
    assert desk.read(message(container(stored))).summary.decryption_reason == "it is not encrypted"
    locked = gnupg.run("--armor", "--symmetric", "--passphrase", "x", data=TEXT).stdout
    assert "passphrase" in (desk.read(message(container(locked))).summary.decryption_reason or "")


def test_which_messages_are_worth_a_look_by_their_first_octets():
    for name, (body, _) in shapes(b"-----BEGIN PGP MESSAGE-----\r\n").items():
        root = entity.parse(message(body))
        if root.content_type.full != "multipart/encrypted":
            assert encrypted.looks_mangled(root, root.body[:500]), name
    for body in (TEXT, mixed(TEXT), b"Content-Type: application/octet-stream; name=a.zip\r\n\r\nx\r\n"):
        root = entity.parse(message(body))
        assert not encrypted.looks_mangled(root, root.body[:500])
