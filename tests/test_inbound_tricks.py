"""Messages that want to look signed, or whole, and are not (MIME-03, MIME-04, MIME-06, MIME-07)."""

from __future__ import annotations

import email

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secmailproxy.mime import entity, header, shown
from secmailproxy.model import DecryptionState, Verdict
from tests.fixtures.desk import (
    ALICE,
    EVE,
    OUTER,
    TEXT,
    Desk,
    desk,
    message,
)

__all__ = ["desk"]


# -- what never is


def with_preamble(signed: bytes, evil: bytes, line_end: bytes) -> bytes:
    """A part where some readers see one, in front of the first boundary."""
    hidden = line_end + b"--sig" + line_end + evil.replace(b"\r\n", line_end)
    return signed.replace(b"\r\n\r\n--sig", b"\r\n\r\npreamble" + hidden + b"\r\n--sig", 1)


def tricks(desk: Desk) -> dict[str, bytes]:
    """Messages that want to look signed by Alice, and whole."""
    signed, by_eve = desk.sign(TEXT), desk.sign(TEXT, EVE)
    evil = b"Content-Type: text/plain\r\n\r\nSend the money to Eve.\r\n"
    mixed = b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n"
    third = b"\r\n--sig\r\n" + evil
    forwarded = b"Content-Type: message/rfc822\r\n\r\n" + message(signed)
    return {
        "signed part inside mixed": mixed + evil + b"\r\n--m\r\n" + signed + b"\r\n--m--\r\n",
        "signed part alone inside mixed": mixed + signed + b"\r\n--m--\r\n",
        "signed message attached": mixed + evil + b"\r\n--m\r\n" + forwarded + b"\r\n--m--\r\n",
        "signed message as the whole body": forwarded,
        "third part in front": signed.replace(b"--sig\r\n", b"--sig\r\n" + evil + b"\r\n--sig\r\n", 1),
        "third part at the end": signed.replace(b"\r\n--sig--", third + b"\r\n--sig--"),
        "only one part": signed[: signed.index(b"\r\n--sig\r\nContent-Type: application/pgp")]
        + b"\r\n--sig--\r\n",
        "parts exchanged": signed.replace(b"application/pgp-signature\r\n", b"text/plain\r\n"),
        "signature as message text": evil + signed[signed.index(b"-----BEGIN") :],
        "boundary that another begins with": signed.replace(b'boundary="sig"', b'boundary="si"'),
        "two boundaries": signed.replace(b'boundary="sig"', b'boundary="sig"; boundary="gis"'),
        "two content types": b"Content-Type: text/html\r\n" + signed,
        "two content types, the other order": signed.replace(
            b"\r\n\r\n", b"\r\nContent-Type: text/html\r\n\r\n", 1
        ),
        "never closed": signed.replace(b"\r\n--sig--", b""),
        "encoded container": b"Content-Transfer-Encoding: quoted-printable\r\n" + signed,
        "other protocol": signed.replace(b'"application/pgp-signature"', b'"application/x"'),
        "no protocol": signed.replace(b' protocol="application/pgp-signature";', b""),
        "content changed": signed.replace(b"windmill", b"treadmill"),
        "header of the part changed": signed.replace(b"us-ascii", b"us-asciI"),
        "octet added": signed.replace(b"windmill.\r\n", b"windmill. \r\n"),
        "line added": signed.replace(b"windmill.\r\n", b"windmill.\r\n\r\n"),
        "no signature in it": signed[: signed.index(b"-----BEGIN")] + b"\r\n--sig--\r\n",
        "signed by somebody else": by_eve,
        "encrypted, signed by somebody else": desk.encrypt(TEXT, EVE),
        "signature around the encryption": desk.sign(desk.encrypt(TEXT)),
        "signature around, other signature inside": desk.sign(desk.encrypt(TEXT, EVE)),
        "encrypted twice, signed within": desk.encrypt(desk.encrypt(TEXT, ALICE)),
        "broken signature around a good one": desk.encrypt(
            desk.sign(signed.replace(b'sig"', b'inner"').replace(b"--sig", b"--inner")).replace(
                b"--sig\r\nContent-Type: multipart", b"--sig\r\nX: y\r\nContent-Type: multipart"
            )
        ),
        "signed part inside encrypted mixed": desk.encrypt(
            mixed + evil + b"\r\n--m\r\n" + signed + b"\r\n--m--\r\n"
        ),
        "part hidden behind lone carriage returns": with_preamble(signed, evil, b"\r"),
        "the same inside encryption": desk.encrypt(with_preamble(signed, evil, b"\r")),
        "part hidden behind NUL": desk.encrypt(with_preamble(signed, evil, b"\x00\r")),
        "part after the end": signed + b"--sig\r\n" + evil + b"--sig--\r\n",
        "part after the end, hidden": signed + b"\r--sig\r" + evil,
        "boundary in pieces": signed.replace(b'boundary="sig"', b'boundary*0="si"; boundary*1="g"'),
        "boundary that ends in a blank": signed.replace(b'"sig"', b'"sig "').replace(b"--sig", b"--sig "),
        "inline signature": b"Content-Type: text/plain\r\n\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\n\r\nx\r\n"
        + signed[signed.index(b"-----BEGIN") :],
        "S/MIME": signed.replace(b"application/pgp-signature", b"application/pkcs7-signature"),
        "opaque S/MIME": b"Content-Type: application/pkcs7-mime; smime-type=signed-data\r\n\r\nMIIB\r\n",
    }


TRICKS = [
    "signed part inside mixed", "signed part alone inside mixed", "signed message attached",
    "signed message as the whole body", "third part in front", "third part at the end", "only one part",
    "parts exchanged", "signature as message text", "boundary that another begins with", "two boundaries",
    "two content types", "two content types, the other order", "never closed", "encoded container",
    "other protocol", "no protocol", "content changed", "header of the part changed", "octet added",
    "line added",
    "no signature in it", "signed by somebody else", "encrypted, signed by somebody else",
    "signature around the encryption", "signature around, other signature inside",
    "encrypted twice, signed within", "broken signature around a good one",
    "signed part inside encrypted mixed", "part hidden behind lone carriage returns",
    "the same inside encryption", "part hidden behind NUL", "part after the end",
    "part after the end, hidden",
    "boundary in pieces", "boundary that ends in a blank", "inline signature", "S/MIME", "opaque S/MIME",
]  # fmt: skip


@pytest.mark.parametrize("name", TRICKS)
def test_tricks_are_never_valid(desk: Desk, name: str):
    made = tricks(desk)
    assert list(made) == TRICKS
    read = desk.read(message(made[name]))
    assert read.summary.verdict is not Verdict.VALID
    assert made[name] != desk.sign(TEXT)


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("content changed", Verdict.INVALID),
        ("no signature in it", Verdict.INVALID),
        ("signed by somebody else", Verdict.MISMATCH),
        ("broken signature around a good one", Verdict.INVALID),
        ("signature around the encryption", Verdict.NONE),
        ("S/MIME", Verdict.INVALID),
        ("third part in front", Verdict.NONE),
    ],
)
def test_tricks_are_called_by_their_name(desk: Desk, name: str, verdict: Verdict):
    assert desk.read(message(tricks(desk)[name])).summary.verdict is verdict


FROMS = {
    b"alice@example.org": True,
    b"ALICE@Example.ORG": True,
    b'"Alice, the first" <alice@example.org>': True,
    b"alice@example.org (really)": True,
    b"=?utf-8?q?Al=C3=ADce?= <alice@example.org>": True,
    b"Alice\r\n <alice@example.org>": True,
    b"eve@example.net": False,
    b"alice@example.org <eve@example.net>": False,
    b'"alice@example.org" <eve@example.net>': False,
    b"eve@example.net (alice@example.org)": False,
    b"alice@example.org, eve@example.net": False,
    b"eve@example.net, alice@example.org": False,
    b"<alice@example.org> <eve@example.net>": False,
    b"alice@example.org eve@example.net": False,
    b"Alice: alice@example.org;": False,
    b"alice@example.org;": False,
    b'"alice@example.org"@example.net': False,
    b"<@example.net:alice@example.org>": False,
    b"alice@example.org@example.net": False,
    b"alice@example.org\x00@example.net": False,
    b"alice@example.org\r\x0b <eve@example.net>": False,
    b"=?utf-8?q?alice=40example.org?= <eve@example.net>": False,
    b"al\xc3\xadce@example.org": False,
    b"alice@example.org.": False,
    b"alice@example.org\r\nFrom: eve@example.net": False,
    b"eve@example.net\r\nFrom: alice@example.org": False,
    b"alice@example.org\r\nFrom : alice@example.org": False,
    b"=?utf-8?q?Bob_=3Cbob=40example=2Eorg=3E=00?= <alice@example.org>": False,
    b"=?utf-8?q?Bob_=3Cbob=40example=2Eorg=3E=0A?= <alice@example.org>": False,
    "\N{RIGHT-TO-LEFT OVERRIDE}gro.elpmaxe@bob <alice@example.org>".encode(): False,
    b"=?utf-8?b?4oCuZ3JvLmVscG1heGVAYm9i?= <alice@example.org>": False,
    b"=?iso-8859-1?q?=93Alice=94?= <alice@example.org>": True,
    b"": False,
}


@pytest.mark.parametrize(("sender", "bound"), FROMS.items())
def test_only_the_one_address_of_from_binds(desk: Desk, sender: bytes, bound: bool):
    received = message(desk.sign(TEXT)).replace(b"Alice <alice@example.org>", sender)
    read = desk.read(received)
    assert read.summary.verdict is (Verdict.VALID if bound else Verdict.MISMATCH)
    assert read.summary.signer == ALICE


@pytest.mark.parametrize(
    ("value", "author"),
    [
        # Somebody's own address, which some programs decode, and cut at the NUL.
        (b"=?utf-8?b?Ym9iQGV4YW1wbGUub3Jn?==?utf-8?q?=00?=@example.net", None),
        (b"Bob <=?utf-8?q?bob=40example=2Eorg=00?=@example.net>", None),
        ("alíce@example.org".encode(), "alíce@example.org"),
        ("alíce@example.org".encode("latin-1"), None),
        ("Alice@BAN\N{KELVIN SIGN}.org".encode(), "Alice@BAN\N{KELVIN SIGN}.org"),
    ],
)
def test_an_internationalised_author_is_read_as_utf_8(value: bytes, author: str | None):
    """RFC 6532; read otherwise, it would be the address of somebody else."""
    assert shown.sole_author([b"From: " + value + b"\r\n"]) == author


@pytest.mark.parametrize(
    "hidden",
    [
        b"X: y\rFrom: eve@example.net\r\n",
        b"X: \x00\r\n",
        b"X: y\r\rEvil\r\n",
        b"Send the money to Eve.\r\n",
        b": Send the money to Eve.\r\n",
        b"X\r\n continued\r\n",
        b"X Y: z\r\n",
    ],
)
def test_headers_that_readers_cut_differently_bind_nobody(desk: Desk, hidden: bytes):
    assert desk.read(hidden + message(desk.sign(TEXT))).summary.verdict is Verdict.MISMATCH


def test_no_from_at_all(desk: Desk):
    received = header.remove_fields(message(desk.sign(TEXT)), {"from"})
    assert desk.read(received).summary.verdict is Verdict.MISMATCH


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changing_any_signed_octet_leaves_nothing_valid(desk: Desk, data: st.DataObject):
    whole = message(desk.sign(TEXT))
    start, end = whole.index(TEXT), whole.index(TEXT) + len(TEXT)
    at = data.draw(st.integers(start, end - 1))
    octet = data.draw(st.integers(0, 255).filter(lambda octet: octet != whole[at]))
    changed = whole[:at] + bytes([octet]) + whole[at + 1 :]
    assert desk.read(changed).summary.verdict is not Verdict.VALID


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changing_the_ciphertext_shows_no_plaintext(desk: Desk, data: st.DataObject):
    whole = message(desk.encrypt(TEXT, ALICE))
    start, end = whole.index(b"\r\n\r\n", whole.index(b"BEGIN PGP")) + 4, whole.index(b"\r\n-----END PGP")
    at = data.draw(st.integers(start, end - 1))
    octet = data.draw(st.sampled_from(b"ABCDEFGHabcdefgh01234567").filter(lambda octet: octet != whole[at]))
    read = desk.read(whole[:at] + bytes([octet]) + whole[at + 1 :])
    if read.summary.decryption is DecryptionState.OK:
        # Only armor that nobody reads (its checksum) may differ.
        assert read.presented == OUTER % b"outside" + TEXT
    else:
        assert read.presented is None
        assert read.summary.verdict is Verdict.NONE


# -- what programs read in different ways


EVIL_PART = b"Content-Type: text/plain\r\n\r\nSend the money to Eve.\r\n"
BOUNDARIES = {
    b'"s\\ig"': b"s\\ig",
    b'"<sig>"': b"<sig>",
    b'"=?us-ascii?q?gis?="': b"gis",
    b'"s\r\n ig"': b"sig",
    b'"sig"; x="; boundary=gis"': b"gis",
    b'"%b"' % (b"s" * 71): b"s" * 70,
    b'"s;ig"': b"s",
}


@pytest.mark.parametrize("stated", BOUNDARIES)
@pytest.mark.parametrize("hidden", [False, True])
def test_a_boundary_that_programs_spell_differently(desk: Desk, stated: bytes, hidden: bool):
    """MIME-03: Python's email keeps the backslash and shows Eve's part, the one before the first for us."""
    root = entity.parse(b"Content-Type: multipart/signed; boundary=" + stated + b"\r\n\r\n")
    ours = (root.content_type.param("boundary") or "").encode()
    other = BOUNDARIES[stated]
    before = b"--" + other + b"\r\n" + EVIL_PART + b"--" + other + b"--\r\n"
    signed = desk.sign(TEXT).replace(b"--sig", b"--" + ours).replace(b'"sig"', stated)
    forged = signed.replace(b"\r\n\r\n", b"\r\n\r\n" + before, 1)
    read = desk.read(message(desk.encrypt(forged) if hidden else forged))
    assert read.summary.verdict is Verdict.NONE


SIGNATURE_PARTS = {
    "words before it": (b"-----BEGIN PGP SIG", b"<b>Send the money to Eve</b>\r\n-----BEGIN PGP SIG"),
    "words behind it": (b"SIGNATURE-----\r\n\r\n--sig--", b"SIGNATURE-----\r\nPay Eve!\r\n--sig--"),
    "another type": (b"pgp-signature\r\n\r\n", b"pgp-signature\r\nContent-Type: text/html\r\n\r\n"),
    "another type, blank": (b"pgp-signature\r\n\r\n", b"pgp-signature\r\nContent-Type : text/html\r\n\r\n"),
    "two encodings": (
        b"pgp-signature\r\n\r\n",
        b"pgp-signature\r\nContent-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64\r\n\r\n",
    ),
    "a stray line": (b"pgp-signature\r\n\r\n", b"pgp-signature\r\nPay Eve\r\n\r\n"),
    "a name": (b"pgp-signature\r\n\r\n", b"pgp-signature; name=invoice.pdf\r\n\r\n"),
    "an encoded name": (b"pgp-signature\r\n\r\n", b"pgp-signature; name==?us-ascii?q?a=2Ehtml?=\r\n\r\n"),
    "a name beside": (
        b"pgp-signature\r\n\r\n",
        b"pgp-signature\r\nContent-Disposition: inline; filename*=utf-8''a%2Ehtml\r\n\r\n",
    ),
}


@pytest.mark.parametrize("trick", SIGNATURE_PARTS)
def test_a_signature_part_that_some_would_show(desk: Desk, trick: str):
    """MIME-03: nobody has signed the second part, so it must be nothing but a signature."""
    old, new = SIGNATURE_PARTS[trick]
    signed = desk.sign(TEXT)
    assert signed.count(old) == 1
    assert desk.read(message(signed.replace(old, new))).summary.verdict is Verdict.NONE


@pytest.mark.parametrize(
    "names",
    [b"signature.asc", b'"OpenPGP digital signature.asc"', b"=?utf-8?q?Signatur=2Easc?=", b"signature"],
)
def test_usual_names_of_signatures(desk: Desk, names: bytes):
    signed = desk.sign(TEXT).replace(b"pgp-signature\r\n\r\n", b"pgp-signature; name=" + names + b"\r\n\r\n")
    assert desk.read(message(signed)).summary.verdict is Verdict.VALID


def test_a_blank_before_a_colon(desk: Desk):
    """MIME-03: for Python's email the header ends there, and the rest of it is the text that is shown."""
    signed = message(desk.sign(TEXT)).replace(b"\r\nTo:", b"\r\nX-Order : send the money to Eve\r\nTo:")
    assert desk.read(signed).summary.verdict is Verdict.MISMATCH
    encrypted = desk.encrypt(TEXT, ALICE)
    opened = desk.read(message(encrypted).replace(b"\r\nTo:", b"\r\nX-Order : send the money to Eve\r\nTo:"))
    assert opened.presented is not None
    assert opened.summary.verdict is Verdict.VALID
    assert b"\r\nX-Order: send" in opened.presented
    assert email.message_from_bytes(opened.presented).get_content_type() == "text/plain"


@pytest.mark.parametrize(
    ("date", "is_read"),
    [
        (b"Mon, 2 Mar 2026 10:00:00 +0100", True),
        (b"2 Mar 2026 10:00 GMT (Greenwich)", True),
        (b"Mon,  2 Mar 2026\r\n 10:00:00 -0000", True),
        (b"Mon, 2 Mar 26 10:00:00 +0100", False),
        (b"Mon, 2 Mar 2026 10:00:00 +0100 Tue, 3 Mar 2027 10:00:00 +0100", False),
        (b"Mon, 2 Mar 2026 10:00:00 (3 Mar 2027)", False),
        (b"(3 Mar 2027 10:00:00 +0100) Mon, 2 Mar 2026 10:00:00 +0100", False),
        (b"2026-03-02T10:00:00Z", False),
    ],
)
def test_dates_at_which_no_program_guesses(date: bytes, is_read: bool):
    """MIME-03: an old message must not be shown as of another day."""
    assert (shown.sole_date([b"Date: " + date + b"\r\n"]) is not None) is is_read
