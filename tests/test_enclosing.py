"""Which certificates go along with a message, and to whom (SMTP-09: nothing tells of blind recipients)."""

from __future__ import annotations

import base64
import re
import subprocess
from datetime import timedelta

import pytest

from keystore import openpgp
from keystore.keystore import Keystore
from keystore.model import Fingerprint, Trust
from secmailproxy.enclosing import GOSSIP_MOST, Recipients, Sharing, _within, enclosures
from secmailproxy.errors import SigningKeyUnusable
from secmailproxy.mime import assemble, header, transfer
from secmailproxy.mime.autocrypt import certificate_field, gossip_addresses
from secmailproxy.mime.enclosures import Enclosures
from secmailproxy.mime.entity import Entity, parse
from secmailproxy.mime.protected import Protects
from secmailproxy.model import Envelope
from secmailproxy.outbound import Copy, Outbound, OutboundSettings
from secmailproxy.policy import Protect, Rule
from secmailproxy.preparation import ProofFailed, prepared
from secmailproxy.stamp import Stamp
from tests.fixtures.keystores import NOW, KeystoreFactory, credentials, make_keystore

__all__ = ["credentials", "make_keystore"]

LATER = NOW + timedelta(days=1)
ALICE, BOB, CAROL, DAVE, ERIN = (f"{name}@example.org" for name in ("alice", "bob", "carol", "dave", "erin"))
PEOPLE = (ALICE, BOB, CAROL, DAVE, ERIN)


@pytest.fixture
def keystore(make_keystore: KeystoreFactory) -> Keystore:
    """Alice's: with everybody's certificates."""
    return make_keystore()


@pytest.fixture
def keys(keystore: Keystore) -> dict[str, Fingerprint]:
    """Fingerprints by address. Only Alice's own key is hers."""
    found = {ALICE: keystore.generate(ALICE, name="Alice").fingerprint}
    for person in PEOPLE[1:]:
        octets = openpgp.generate(person, now=NOW).certificate_octets
        (result,) = keystore.import_keys(octets, source="test")
        assert result.fingerprint is not None
        found[person] = result.fingerprint
    return found


def message(to: str, cc: str = "", author: str = f"Alice <{ALICE}>", more: str = "") -> bytes:
    copies = f"Cc: {cc}\r\n" if cc else ""
    return (
        f"From: {author}\r\nTo: {to}\r\n{copies}Subject: the windmill\r\n{more}"
        f"Content-Type: text/plain\r\n\r\nhello\r\n"
    ).encode()


async def sent(
    keystore: Keystore,
    octets: bytes,
    *rcpt_tos: str,
    sharing: Sharing | None = None,
    protect: Protect = Protect.PREFER,
) -> list[Copy]:
    """The copies that leave."""
    settings = OutboundSettings((Rule(protect=protect),), {ALICE: sharing or Sharing()})
    outbound = Outbound(keystore, settings, lambda: LATER)
    return list(await outbound.protect(Envelope(ALICE, rcpt_tos), octets, account=ALICE))


def inside(keystore: Keystore, product: bytes) -> Entity:
    """The decrypted payload."""
    ciphertext = assemble.openpgp_ciphertext(parse(product))
    assert ciphertext is not None
    return parse(keystore.decrypt(ciphertext, LATER).octets)


def keydata(value: bytes) -> bytes:
    return base64.b64decode(re.sub(rb"\s", b"", value.rpartition(b"keydata=")[2]))


@pytest.mark.parametrize("protect", [Protect.SIGN, Protect.PREFER])
async def test_own_mail_tells_the_key_that_signs_it(
    protect: Protect, keystore: Keystore, keys: dict[str, Fingerprint]
) -> None:
    (copy,) = await sent(keystore, message(BOB), BOB, protect=protect)
    (value,) = header.values(parse(copy.octets), "Autocrypt")
    assert value.startswith(b"addr=alice@example.org; keydata=")
    certificate = keystore.certificate(keys[ALICE])
    assert certificate is not None
    assert keydata(value) == certificate.octets
    assert b"Gossip" not in copy.octets
    payload = inside(keystore, copy.octets) if protect is Protect.PREFER else parse(copy.octets).parts[0]
    assert header.values(payload, "Autocrypt") == (value,)
    assert not header.values(payload, "Autocrypt-Gossip")


async def test_sequoia_takes_the_certificates_that_go_along(
    keystore: Keystore, keys: dict[str, Fingerprint]
) -> None:
    """Of the header outside the sender's, of the one inside also those of the recipients."""
    (copy,) = await sent(keystore, message(f"{BOB}, {CAROL}"), BOB, CAROL, sharing=Sharing(mutual=True))
    for octets, people in (
        (copy.octets, (ALICE,)),
        (inside(keystore, copy.octets).octets, (ALICE, BOB, CAROL)),
    ):
        done = subprocess.run(["sq", "autocrypt", "decode"], input=octets, capture_output=True, check=True)
        found = {key.fingerprint for key in openpgp.parse_keys(done.stdout)}
        assert found == {keys[person] for person in people}


@pytest.mark.parametrize(
    "author", [f"Other <{BOB}>", f"{ALICE}, {BOB}", "no address", "alice@example.org.example.com"]
)
async def test_mail_with_another_author_tells_no_key(
    author: str, keystore: Keystore, keys: dict[str, Fingerprint]
) -> None:
    """A correspondent would take the certificate for that of the author."""
    (copy,) = await sent(keystore, message(BOB, author=author), BOB)
    assert not header.values(parse(copy.octets), "Autocrypt")


async def test_the_account_decides_about_autocrypt(keystore: Keystore, keys: dict[str, Fingerprint]) -> None:
    theirs = "Autocrypt: addr=alice@example.org;\r\n keydata=AAAA\r\naUtocrypt : addr=x@y; keydata=BBBB\r\n"
    original = message(
        f"{BOB}, {CAROL}", more=theirs + "Autocrypt-Gossip: addr=dave@example.org; keydata=A\r\n"
    )
    (mutual,) = await sent(keystore, original, BOB, CAROL, sharing=Sharing(mutual=True))
    (value,) = header.values(parse(mutual.octets), "Autocrypt")
    assert b"prefer-encrypt=mutual;" in value
    assert len(header.values(inside(keystore, mutual.octets), "Autocrypt")) == 1
    (off,) = await sent(keystore, original, BOB, CAROL, sharing=Sharing(autocrypt=False))
    payload = inside(keystore, off.octets)
    assert header.values(payload, "Autocrypt") == header.values(parse(original), "Autocrypt")
    assert len(header.values(payload, "Autocrypt")) == 2
    for product in (mutual, off):
        assert DAVE not in str(gossip_addresses(inside(keystore, product.octets)))
        assert not header.values(parse(product.octets), "Autocrypt-Gossip")
    assert gossip_addresses(payload) == frozenset()
    (plain,) = await sent(keystore, original, BOB, protect=Protect.NEVER)
    assert header.values(parse(plain.octets), "Autocrypt") == header.values(parse(original), "Autocrypt")
    assert b"Gossip" not in plain.octets


async def test_smtp_09_gossip_is_for_those_who_are_named_and_of_them(
    keystore: Keystore, keys: dict[str, Fingerprint]
) -> None:
    """Bob, Carol and the sender are named, Dave and Erin are not; every copy has the same payload."""
    copies = await sent(
        keystore, message(f"{BOB}, {ALICE}", "CAROL@example.org"), BOB, CAROL, ALICE, DAVE, ERIN
    )
    assert [copy.rcpt_tos for copy in copies] == [(BOB, CAROL, ALICE), (DAVE,), (ERIN,)]
    payloads = [inside(keystore, copy.octets) for copy in copies]
    assert len({payload.octets for payload in payloads}) == 1
    assert gossip_addresses(payloads[0]) == {BOB, CAROL}
    for value, person in zip(header.values(payloads[0], "Autocrypt-Gossip"), (BOB, CAROL), strict=True):
        certificate = keystore.certificate(keys[person])
        assert certificate is not None
        assert keydata(value) == certificate.octets
        assert b"prefer-encrypt" not in value
    assert not any(b"gossip" in copy.octets.lower() for copy in copies)


async def test_smtp_09_blind_recipients_change_nothing_that_others_get(
    keystore: Keystore, keys: dict[str, Fingerprint]
) -> None:
    """Neither who they are nor how many shows: without them the same payload, for the same keys."""
    octets = message(f"{BOB}, {CAROL}", more="Date: x\r\nMessage-ID: <1@example.org>\r\n")
    alone = await sent(keystore, octets, BOB, CAROL)
    beside = await sent(keystore, b"BCC :\r\n dave@example.org\r\n" + octets, BOB, DAVE, CAROL, ERIN)
    assert len(alone) == 1
    assert inside(keystore, alone[0].octets).octets == inside(keystore, beside[0].octets).octets
    ids = [
        openpgp.key_ids(assemble.openpgp_ciphertext(parse(one.octets)) or b"") for one in (*alone, *beside)
    ]
    assert sorted(ids[0]) == sorted(ids[1])
    assert [len(one) for one in ids] == [3, 3, 2, 2]
    outer = [parse(one.octets).fields for one in (alone[0], beside[0])]
    assert [field.name for field in outer[0]] == [field.name for field in outer[1]]


@pytest.mark.parametrize(
    ("to", "rcpt_tos"),
    [
        (BOB, (BOB,)),
        (BOB, (BOB, DAVE, ERIN)),
        (f"{BOB}, {ALICE}", (BOB, ALICE)),
        ("undisclosed-recipients:;", (BOB, CAROL)),
    ],
)
async def test_a_single_named_recipient_gets_no_gossip(
    to: str, rcpt_tos: tuple[str, ...], keystore: Keystore, keys: dict[str, Fingerprint]
) -> None:
    for copy in await sent(keystore, message(to), *rcpt_tos):
        assert gossip_addresses(inside(keystore, copy.octets)) == frozenset()


def test_no_gossip_of_a_certificate_that_is_rejected_or_of_another_address(
    keystore: Keystore, keys: dict[str, Fingerprint]
) -> None:
    root = parse(message(f"{BOB}, {CAROL}, {DAVE}"))
    named = Recipients((BOB, CAROL, DAVE), [keys[one] for one in (BOB, CAROL, ERIN)])
    keystore.set_trust(keys[CAROL], Trust.REJECTED)
    made = enclosures(keystore, root, ALICE, keys[ALICE], Sharing(), LATER, named)
    assert [one.partition(b";")[0] for one in made.inside] == [b"Autocrypt-Gossip: addr=bob@example.org"]


def test_smtp_09_whoever_the_header_does_not_name_gets_no_gossip(
    keystore: Keystore, keys: dict[str, Fingerprint]
) -> None:
    """Though all are recipients of one copy, as with `secmailproxy message seal`."""
    named = Recipients((BOB, CAROL, DAVE), [keys[one] for one in (BOB, CAROL, DAVE)])
    for to, wanted in ((f"{BOB}, {CAROL}", 2), (BOB, 0)):
        made = enclosures(keystore, parse(message(to)), ALICE, keys[ALICE], Sharing(), LATER, named)
        assert len(made.inside) == wanted
        assert not any(b"dave" in one for one in made.inside)


def test_gossip_has_its_limit() -> None:
    """What finds no room is left out; what is smaller may still come after it."""
    fields = [bytes([one]) * (GOSSIP_MOST // 3) for one in range(4)]
    assert list(_within(iter([*fields, b"last"]))) == fields[:3]
    assert list(_within(iter([*fields[:2], b"x" * GOSSIP_MOST, b"last"]))) == [*fields[:2], b"last"]


async def test_an_attached_key_stands_beside_the_whole_message(
    keystore: Keystore, keys: dict[str, Fingerprint]
) -> None:
    """Inside what is protected; the message is the first part, with all that describes its body."""
    described = "MIME-Version: 1.0\r\nContent-Language: en\r\nContent-Disposition: inline\r\n"
    octets = message(BOB, more=described)
    for protect in (Protect.SIGN, Protect.PREFER):
        (copy,) = await sent(keystore, octets, BOB, sharing=Sharing(attach_key=True), protect=protect)
        encrypted = protect is Protect.PREFER
        payload = inside(keystore, copy.octets) if encrypted else parse(copy.octets).parts[0]
        assert payload.content_type.full == "multipart/mixed"
        assert payload.content_type.param("hp") == ("cipher" if encrypted else "clear")
        first, attached = payload.parts
        assert [field.name for field in first.fields] == [
            "Content-Language",
            "Content-Disposition",
            "Content-Type",
        ]
        assert first.body == b"hello\r\n"
        assert header.text(payload, "Subject") == "the windmill"
        assert b"OpenPGP_0x%s.asc" % keys[ALICE].encode() in attached.header
        (block,) = openpgp.parse_keys(transfer.decoded_body(attached))
        assert block.fingerprint == keys[ALICE]
        assert block.secret_octets is None


def test_a_key_that_cannot_be_attached_is_said_to_be(
    keystore: Keystore, keys: dict[str, Fingerprint]
) -> None:
    root = parse(message(BOB))
    with pytest.raises(SigningKeyUnusable, match="was to be attached"):
        enclosures(keystore, root, BOB, keys[ALICE], Sharing(attach_key=True), LATER)


STAMP = Stamp(LATER, "boundary", "<1@example.org>")
GOSSIP = certificate_field("Autocrypt-Gossip", DAVE, b"certificate") or b""


@pytest.mark.parametrize(
    ("protects", "enclosed", "to"),
    [
        (Protects.CIPHER, Enclosures(inside=(GOSSIP,)), f"{BOB}, {CAROL}"),
        (Protects.CLEAR, Enclosures(inside=(GOSSIP,)), f"{BOB}, {DAVE}"),
        (Protects.CIPHER, Enclosures(inside=(b"Autocrypt-Gossip: keydata=AAAA\r\n",)), f"{BOB}, {DAVE}"),
    ],
)
def test_smtp_09_the_proof_stops_gossip_of_somebody_who_is_not_named(
    protects: Protects, enclosed: Enclosures, to: str
) -> None:
    with pytest.raises(ProofFailed, match="not named"):
        prepared(parse(message(to)), protects, STAMP, hidden=False, enclosures=enclosed)


def test_the_proof_lets_named_gossip_pass_and_none_outside() -> None:
    root = parse(message(f"{BOB}, Dave <DAVE@Example.ORG>"))
    ready = prepared(root, Protects.CIPHER, STAMP, hidden=True, enclosures=Enclosures(inside=(GOSSIP,)))
    assert GOSSIP in ready.payload
    assert not any(b"gossip" in raw.lower() for raw in ready.outer)
