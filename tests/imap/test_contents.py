"""BINARY and PREVIEW of protected mail agree with BODY[] (RFC 3516, RFC 8970; IMAP-09: test_presented)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from secmailproxy.imap import grammar
from secmailproxy.mime import entity, section, transfer
from secmailproxy.policy import Protect
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import ProxyUser, protect, proxy_user
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.transcript import RawImap, direct, proxied

IMAGE = bytes(range(256))
CLEAR = (
    b"From: <%b>\r\nTo: <%b>\r\nSubject: parts\r\nDate: Mon, 02 Mar 2026 10:00:00 +0100\r\n"
    b"Message-ID: <parts@example.test>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=parts\r\n\r\n"
    b"--parts\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"Caf=C3=A9 =3D\r\n> quoted\r\nat noon.\r\n"
    b"--parts\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + transfer.encode_base64(IMAGE)
    + b"--parts\r\nContent-Type: message/rfc822\r\n\r\n"
    b"Subject: inner\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--parts--\r\n"
)
ODD = CLEAR.replace(b"Content-Transfer-Encoding: quoted-printable", b"Content-Transfer-Encoding: x-odd")
SHOWN = "Caf\u00e9 = at noon."

KINDS = ["plain", "encrypted", "signed", "opaque", "odd"]
UID = {kind: uid for uid, kind in enumerate(KINDS, 1)}


@pytest.fixture(scope="module")
def user(dovecot: Dovecot, module_proxies: ProxyFactory) -> ProxyUser:
    """Somebody whose INBOX holds one message of each kind."""
    user = proxy_user(module_proxies, dovecot.mailbox("contents"))
    stranger = proxy_user(module_proxies, dovecot.mailbox("unknown"))
    clear, odd = (text.replace(b"%b", user.address.encode()) for text in (CLEAR, ODD))
    mail = [clear, protect(user, clear), protect(user, clear, Protect.SIGN), protect(stranger, clear)]
    with direct(user.mailbox) as imap:
        for octets in (*mail, protect(user, odd)):
            imap.ok(b"APPEND INBOX {%d}" % len(octets), octets)
    return user


@pytest.fixture
def imap(user: ProxyUser) -> Iterator[RawImap]:
    """A session through the proxy with INBOX open for reading only."""
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"EXAMINE INBOX")
        yield imap


def fetch(imap: RawImap, kind: str, items: bytes) -> dict[str, bytes]:
    """The attributes of one message, raw."""
    (response, _) = imap.ok(b"UID FETCH %d (%b)" % (UID[kind], items))
    return grammar.parse_fetch_response(response).attributes


def text(raw: bytes) -> bytes:
    """The octets of a string value; those of a missing part are none."""
    return grammar.string_value(raw) or b""


@pytest.mark.parametrize("kind", ["plain", "encrypted", "signed", "opaque"])
def test_a_part_is_its_decoded_body(imap: RawImap, kind: str) -> None:
    whole = entity.parse(text(fetch(imap, kind, b"BODY.PEEK[]")["BODY[]"]))
    for path in ((1,), (2,), (1, 1), (3, 1), (9,)):
        name = ".".join(map(str, path))
        spelled = name.encode()
        got = fetch(imap, kind, b"BINARY.PEEK[%b] BINARY.SIZE[%b]" % (spelled, spelled))
        octets = text(got[f"BINARY[{name}]"])
        part = section.find_part(whole, path)
        if part is None or not (part.is_multipart or part.is_rfc822):
            assert octets == (transfer.decoded_body(part) if part is not None else b"")
        assert got[f"BINARY.SIZE[{name}]"] == b"%d" % len(octets)
        if kind != "opaque":
            assert got[f"BINARY[{name}]"].startswith(b"~") <= (b"\0" in octets or kind == "plain")


@pytest.mark.parametrize("kind", ["encrypted", "signed", "opaque"])
def test_the_whole_message_begins_with_the_verdict(user: ProxyUser, imap: RawImap, kind: str) -> None:
    got = fetch(imap, kind, b"BINARY.PEEK[] BINARY.SIZE[] BODY.PEEK[HEADER]")
    whole, header = text(got["BINARY[]"]), text(got["BODY[HEADER]"])
    assert whole.startswith(header[: header.index(b"\r\n") + 2])
    assert whole.startswith(user.verdict_field.encode())
    assert whole.count(user.verdict_field.encode()) == 1
    assert got["BINARY.SIZE[]"] == b"%d" % len(whole)
    for at, length in ((0, 10), (50, 400), (len(whole) - 5, 100), (len(whole), 1)):
        part = fetch(imap, kind, b"BINARY.PEEK[]<%d.%d>" % (at, length))
        assert text(part[f"BINARY[]<{at}>"]) == whole[at : at + length]


def test_an_image_comes_back_whole(imap: RawImap) -> None:
    got = fetch(imap, "encrypted", b"BINARY.PEEK[2] BINARY.PEEK[2]<10.20>")
    assert got["BINARY[2]"] == b"~{256}\r\n" + IMAGE
    assert got["BINARY[2]<10>"] == b"{20}\r\n" + IMAGE[10:30]


def test_an_unknown_encoding_fails_the_command_but_no_other_message(imap: RawImap) -> None:
    answers = imap.command(b"UID FETCH %d,%d (BINARY.PEEK[1])" % (UID["encrypted"], UID["odd"]))
    assert answers[-1].startswith(b"T NO [UNKNOWN-CTE]")
    (response,) = [answer for answer in answers if b"BINARY[1]" in answer]
    assert grammar.parse_fetch_response(response).uid == UID["encrypted"]
    assert imap.ok(b"UID FETCH %d (BINARY.SIZE[2])" % UID["odd"])[0].endswith(b"BINARY.SIZE[2] 256)\r\n")


def test_previews_are_of_what_was_protected(imap: RawImap) -> None:
    for item in (b"PREVIEW", b"PREVIEW (LAZY)"):
        for kind in ("plain", "encrypted", "signed"):
            assert text(fetch(imap, kind, item)["PREVIEW"]).decode() == SHOWN
        assert text(fetch(imap, "opaque", item)["PREVIEW"]) == b""


@pytest.mark.parametrize("folder", [b"INBOX", b"Drafts"])
def test_a_binary_part_may_be_appended(user: ProxyUser, folder: bytes) -> None:
    """RFC 3516 section 4.4: it is encoded for the mailbox, and comes back as it was, encrypted or not."""
    head, octets = b"From: a@example.org\r\nContent-Transfer-Encoding: binary\r\n", bytes(range(256)) * 2
    message = head + b"Content-Type: image/png\r\n\r\n" + octets
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"APPEND %b ~{%d}" % (folder, len(message)), message)
        imap.ok(b"EXAMINE " + folder)
        (response, _) = imap.ok(b"FETCH * (BINARY.PEEK[1] BINARY.SIZE[1] BODY.PEEK[] RFC822.SIZE)")
    got = grammar.parse_fetch_response(response).attributes
    assert text(got["BINARY[1]"]) == octets
    assert got["BINARY.SIZE[1]"] == b"512"
    assert b"\0" not in text(got["BODY[]"])
    assert got["RFC822.SIZE"] == b"%d" % len(text(got["BODY[]"]))
