"""Payloads: whatever a client hands over is made safe to sign and says the same, or is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from secmailproxy import preparation
from secmailproxy.errors import MalformedMessage
from secmailproxy.mime import header, transfer
from secmailproxy.mime.canonical import crlf, is_safe
from secmailproxy.mime.compare import difference
from secmailproxy.mime.enclosures import NOTHING, Enclosures
from secmailproxy.mime.entity import Entity, parse, parse_or_leaf
from secmailproxy.mime.protected import ProtectedMessage, Protects
from secmailproxy.preparation import ProofFailed, prepared, prove_outside, prove_protection
from secmailproxy.stamp import Stamp
from tests.fixtures.awkward_mail import AWKWARD, CYRILLIC, HEAD, REFUSED, nested, one, part, several
from tests.fixtures.odd_mail import odd_mail

__all__ = ["odd_mail"]

STAMP = Stamp(datetime(2026, 3, 2, tzinfo=UTC), "=-0123456789abcdef", "<made@example.org>")
KEY = part(b"application/pgp-keys", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\r\n")
AUTOCRYPT = b"Autocrypt: addr=alice@example.org; keydata=\r\n AAAA\r\n"
ENCLOSED = Enclosures(fields=(AUTOCRYPT,), part=KEY)


def ready(
    message: bytes, enclosures: Enclosures = NOTHING, protects: Protects = Protects.CIPHER
) -> ProtectedMessage:
    """The message prepared and proven."""
    return prepared(parse(message), protects, STAMP, hidden=True, enclosures=enclosures)


def after_relays(entity: Entity) -> bytes:
    """The entity after relays that change line ends and strip blanks, and write base64 anew at 76."""
    octets = re.sub(rb"[ \t]+(?=\n|\Z)", b"", entity.whole.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    return b"".join(_rewritten(parse(octets)))


def _rewritten(entity: Entity) -> list[bytes]:
    if not entity.parts:
        body = entity.body
        if transfer.encoding_of(entity) == transfer.BASE64 and transfer.is_base64(body) and body:
            written = transfer.encode_base64(transfer.decoded_body(entity))
            body = written if body.endswith(b"\r\n") else written[:-2]
        return [entity.header, body]
    pieces, at = [], entity.start
    for inner in entity.parts:
        pieces += [entity.octets[at : inner.start], *_rewritten(inner)]
        at = inner.end
    return [*pieces, entity.octets[at : entity.end]]


@pytest.mark.parametrize("enclosed", [NOTHING, ENCLOSED], ids=["alone", "with a key"])
@pytest.mark.parametrize("kind", AWKWARD)
def test_mime_01_what_is_awkward_survives_transport_and_says_the_same(
    kind: str, enclosed: Enclosures
) -> None:
    before = parse(AWKWARD[kind])
    made = ready(AWKWARD[kind], enclosed)
    payload = parse(made.payload)
    assert is_safe(made.payload)
    assert after_relays(payload) == made.payload
    assert difference(before, payload, enclosed) is None
    carrier = payload.parts[0] if enclosed.part else payload
    assert charsets(carrier) == charsets(before)


def test_mime_01_the_mail_of_others_is_made_safe_or_refused(odd_mail: list[bytes]) -> None:
    """Ordinary, odd and malformed messages as they are found."""
    refused = 0
    for octets in odd_mail:
        message = parse_or_leaf(crlf(octets))
        try:
            made = prepared(message, Protects.CIPHER, STAMP, hidden=True)
        except (MalformedMessage, ProofFailed):
            refused += 1
        else:
            assert is_safe(parse(made.payload).body)
            assert difference(message, parse(made.payload)) is None
    assert 0 < refused < len(odd_mail) // 4


def charsets(entity: Entity) -> list[str | None]:
    """The charset of each part as declared; of embedded messages, which may be carried whole, none."""
    if entity.content_type.maintype == "message":
        return []
    return [entity.content_type.param("charset"), *(one for inner in entity.parts for one in charsets(inner))]


def test_mime_01_nesting_to_the_limit_and_no_further() -> None:
    """What is enclosed takes a level."""
    assert difference(parse(nested(18)), parse(ready(nested(18), ENCLOSED).payload), ENCLOSED) is None
    assert ready(nested(19)).payload.count(b"multipart/mixed") == 19
    with pytest.raises(MalformedMessage, match="nested deeper"):
        ready(nested(20), ENCLOSED)


@pytest.mark.parametrize("kind", REFUSED)
def test_mime_01_what_cannot_be_made_safe_is_refused(kind: str) -> None:
    with pytest.raises(MalformedMessage) as refusal:
        ready(REFUSED[kind])
    assert "windmill" not in refusal.value.text


def test_a_boundary_that_begins_ours_is_refused() -> None:
    """Readers that compare the beginning of a line only would end our parts by it."""
    with pytest.raises(ProofFailed, match="boundary"):
        ready(HEAD + several(b"mixed", b"=-0123", part(b"text/plain", b"a")))


# --- the comparison: each way to lose or change something, and what it is called


def mutated(change: Callable[[bytes], bytes], enclosed: Enclosures = NOTHING) -> str | None:
    """What the comparison says of a payload that was changed after it was made."""
    made = ready(RICH, enclosed).payload
    changed = change(made)
    assert changed != made
    return difference(parse(RICH), parse(changed), enclosed)


RICH = (
    b"Received: from a by b\r\nReceived: from c by d\r\nBCC :\r\n dave@example.org\r\n"
    + HEAD
    + b"Cc: carol@example.org\r\nX-Empty:\r\nReferences: <1@x>\r\n <2@x>\r\nMIME-Version: 1.0\r\n"
    + b"Content-Language: en\r\n"
    + several(
        b"mixed",
        b"b",
        part(b"text/plain; charset=utf-8", CYRILLIC, b"8bit"),
        part(b"application/pdf; name=map.pdf", b"\x00\x01\x02", b"binary"),
        part(b"message/rfc822", b"Subject: \xc3\xbc\r\n\r\ninner"),
        part(b"message/rfc822", b"Subject: in\r\nContent-Type: text/plain; hp=clear\r\n\r\ninner"),
    )
)
MUTATIONS = {
    "a part dropped": (
        lambda o: re.sub(rb"--b\r\nContent-Type: application/pdf.*?(?=--b)", b"", o, flags=re.S),
        "parts",
    ),
    "a part added": (lambda o: o.replace(b"\r\n--b--", b"\r\n--b\r\n\r\nmore\r\n--b--"), "parts"),
    "an octet of a text altered": (
        lambda o: o.replace(transfer.encode_base64(CYRILLIC)[:8], b"AAAAAAAA"),
        "content",
    ),
    "an octet of an attachment altered": (lambda o: o.replace(b"AAEC", b"AAED"), "content"),
    "an octet of an embedded message altered": (
        lambda o: o.replace(b"Subject: in\r\n", b"Subject: im\r\n"),
        "field subject differs",
    ),
    "an octet of an embedded message carried whole": (
        lambda o: o.replace(b"U3ViamVjdDog", b"U3ViamVjdDoh"),
        "embedded message",
    ),
    "a field lost": (lambda o: o.replace(b"X-Empty:\r\n", b""), "x-empty"),
    "one of several fields lost": (lambda o: o.replace(b"Received: from c by d\r\n", b""), "received"),
    "fields in another order": (
        lambda o: o.replace(
            b"Received: from a by b\r\nReceived: from c by d\r\n",
            b"Received: from c by d\r\nReceived: from a by b\r\n",
        ),
        "received",
    ),
    "a field added": (lambda o: b"X-New: y\r\n" + o, "the field "),
    "a field changed": (lambda o: o.replace(b"<2@x>", b"<3@x>"), "references"),
    "a second subject": (lambda o: o.replace(b"Subject: the", b"Subject: a\r\nSubject: the"), "subject"),
    "the body's description changed": (
        lambda o: o.replace(b"Content-Language: en", b"Content-Language: de"),
        "language",
    ),
    "a parameter changed": (lambda o: o.replace(b"name=map.pdf", b"name=mop.pdf"), "parameters"),
    "a charset changed": (lambda o: o.replace(b"charset=utf-8", b"charset=utf-7"), "parameters"),
    "a parameter of header protection in a part": (lambda o: o.replace(b"hp=clear", b"hp=x"), "parameters"),
    "a parameter added": (lambda o: o.replace(b"name=map.pdf", b"name=map.pdf; x=y"), "parameters"),
    "a type changed": (lambda o: o.replace(b"application/pdf", b"application/exe"), "became"),
    "a field of a part lost": (lambda o: o.replace(b"message/global", b"message/global\r\nX-A: b"), "x-a"),
    "Bcc left in": (lambda o: b"Bcc: dave@example.org\r\n" + o, "the field "),
    "Bcc left in, as it was written": (lambda o: b"BCC :\r\n dave@example.org\r\n" + o, "the field "),
    "gossip left in": (
        lambda o: b"Autocrypt-Gossip: addr=dave@example.org; keydata=AAAA\r\n" + o,
        "the field ",
    ),
    "a recipient lost": (lambda o: o.replace(b"Cc: carol@example.org\r\n", b""), "cc"),
}


@pytest.mark.parametrize("kind", MUTATIONS)
def test_every_class_of_change_is_caught(kind: str) -> None:
    change, said = MUTATIONS[kind]
    for enclosed in (NOTHING, ENCLOSED):
        found = mutated(change, enclosed)
        assert found is not None
        assert said in found
        assert "dave" not in found
        assert "carol" not in found


ENCLOSURE_MUTATIONS = {
    "the key altered": (lambda o: o.replace(b"BEGIN PGP PUBLIC", b"BEGIN PGP PUBLiC"), "attached"),
    "the key lost": (lambda o: o.replace(KEY, b"Content-Type: text/plain\r\n\r\n"), "attached"),
    "something beside the key": (lambda o: o.replace(KEY, KEY + b"\r\n--%b\r\n\r\nx" % INNER), "attached"),
    "a field with the first part": (
        lambda o: o.replace(b"Content-Language", b"X-New: y\r\nContent-Language"),
        "attached",
    ),
    "a description of the whole": (lambda o: b"Content-Language: de\r\n" + o, "content-language"),
    "the field altered": (lambda o: o.replace(b"keydata=\r\n AAAA", b"keydata=\r\n AAAB"), "added"),
    "the field lost": (lambda o: o.replace(AUTOCRYPT, b"", 1), "added"),
    "the field twice": (lambda o: o.replace(AUTOCRYPT, AUTOCRYPT * 2, 1), "autocrypt"),
}
INNER = STAMP.inner_boundary.encode()


@pytest.mark.parametrize("kind", ENCLOSURE_MUTATIONS)
def test_what_is_enclosed_is_accounted_for_exactly(kind: str) -> None:
    change, said = ENCLOSURE_MUTATIONS[kind]
    found = mutated(change, ENCLOSED)
    assert found is not None
    assert said in found


def test_nothing_is_enclosed_that_was_not_decided() -> None:
    with_key = parse(ready(RICH, ENCLOSED).payload)
    assert difference(parse(RICH), with_key, replace(ENCLOSED, part=b"")) is not None
    assert difference(parse(RICH), with_key, replace(ENCLOSED, fields=())) is not None
    assert difference(parse(RICH), parse(ready(RICH).payload), ENCLOSED) is not None


# --- the header outside


@pytest.mark.parametrize(
    "outer",
    [
        lambda o: (*o, b"Bcc: dave@example.org\r\n"),
        lambda o: (*o, b"Subject: the windmill\r\n"),
        lambda o: (*o, b"Autocrypt-Gossip: addr=a@x; keydata=AAAA\r\n"),
        lambda o: (*o, b"Secmail-Protect: yes\r\n"),
    ],
)
def test_smtp_08_a_product_with_more_outside_than_may_leave_is_caught(outer) -> None:
    made = ready(RICH)
    shown = outer(made.outer)
    with pytest.raises(ProofFailed, match="must not leave"):
        prove_outside(parse(b"".join(shown) + b"MIME-Version: 1.0\r\n\r\n"), replace(made, outer=shown))


def test_a_product_with_another_header_outside_is_caught() -> None:
    made = ready(RICH)
    for fields in (made.outer[1:], (*made.outer, b"X-New: y\r\n"), made.outer[::-1]):
        with pytest.raises(ProofFailed, match="not what was decided"):
            prove_outside(parse(b"".join(fields) + b"\r\n"), made)


def test_the_subject_outside_is_caught() -> None:
    """A hidden subject is not outside, and what the payload tells of the header outside is true."""
    made = ready(RICH)
    assert b"Subject: [...]\r\n" in made.outer
    told = [raw for raw in made.outer if raw != b"Subject: [...]\r\n"]
    with pytest.raises(ProofFailed, match="how its header"):
        prove_protection(parse(made.payload), replace(made, outer=(*told,)), Protects.CIPHER)
    with pytest.raises(ProofFailed, match="how its header"):
        prove_protection(parse(made.payload), made, Protects.CLEAR)


def test_a_subject_that_is_to_be_hidden_is_looked_for_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever decides what stands outside is not the only judge of it."""
    monkeypatch.setattr(preparation, "hide_subject", lambda name, raw: raw)
    with pytest.raises(ProofFailed, match="was to be hidden"):
        ready(RICH)


def test_what_is_added_where_it_is_missing_is_added_once() -> None:
    message = one(b"text/plain", b"a")
    made = ready(message)
    for name in (b"Date", b"Message-ID"):
        twice = name + b": x\r\n" + made.payload
        assert difference(parse(message), parse(twice)) == f"the field {name.decode().lower()} differs"
    assert difference(parse(message), parse(made.payload)) is None


def test_the_header_outside_of_an_encrypted_message_is_the_baselines() -> None:
    """All but the subject and what repeats it; References and In-Reply-To too, and nothing of Bcc."""
    fields = (
        *(
            b"Received: from a by b\r\n",
            b"Resent-From: e@x\r\n",
            b"From: a@x\r\n",
            b"To: b@x\r\n",
            b"Cc: c@x\r\n",
        ),
        *(
            b"References: <1@x>\r\n <2@x>\r\n",
            b"In-Reply-To: <2@x>\r\n",
            b"Date: now\r\n",
            b"Message-ID: <3@x>\r\n",
        ),
        *(b"X-Empty:\r\n", b"User-Agent: u\r\n"),
    )
    hidden = (b"Subject: s\r\n", b"Keywords: k\r\n", b"Comments: c\r\n", b"Thread-Topic: s\r\n")
    blind = (b"BCC :\r\n d@x\r\n", b"resent-bcc:d@x\r\n")
    made = ready(b"".join((*fields, *blind, *hidden)) + b"\r\nbody")
    assert made.outer == (*fields, b"Subject: [...]\r\n")
    assert made.payload.startswith(b"".join((*fields, *hidden)))
    assert b"d@x" not in made.payload


def test_bcc_of_an_attached_message_is_its_content() -> None:
    """What is forwarded is what it was; only fields of ours are taken out of it, before."""
    inner = b"Subject: in\r\nBcc: dave@example.org\r\n\r\n"
    payload = parse(ready(HEAD + several(b"mixed", b"b", part(b"message/rfc822", inner))).payload)
    assert payload.parts[0].body == inner


@pytest.mark.parametrize("protects", list(Protects))
def test_smtp_17_date_and_message_id_stay_and_are_the_same_inside_and_outside(protects: Protects) -> None:
    given = b"date: then\r\nMESSAGE-ID:\r\n <mine@example.org>\r\n" + one(b"text/plain", b"a")
    for message, date, message_id in (
        (given, b"then", b"<mine@example.org>"),
        (one(b"text/plain", b"a"), b"Mon, 02 Mar 2026 00:00:00 +0000", b"<made@example.org>"),
    ):
        made = ready(message, protects=protects)
        for entity in (parse(made.payload), parse(b"".join(made.outer) + b"\r\n")):
            assert header.values(entity, "Date") == (date,)
            assert header.values(entity, "Message-ID") == (message_id,)
