"""What becomes of a certificate that a source offers: never more than a claim to the address asked for."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from importlib import import_module

import pysequoia
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keystore import openpgp
from keystore.discovery.model import Offer, SourceKind
from keystore.discovery.taking import MOST_ADDRESSES, MOST_OCTETS, NAMES, kind_of, source_text
from keystore.errors import KeyRefused
from keystore.keystore import Keystore
from keystore.model import ImportAction, Reason, Scheme, Trust
from keystore.openpgp.certificate import components
from keystore.openpgp.packet import Tag, write
from tests.fixtures.keystores import NOW
from tests.fixtures.selfsigned import certified, flooded, revoked
from tests.fixtures.x509 import Authority, Issued, addresses, key_usage, name, private_key, root

DAY = timedelta(days=1)
BOB, EVE = "bob@example.org", "eve@example.org"
WHERE = "https://example.org/.well-known/openpgpkey/hu/x"
ADDED, UPDATED, UNCHANGED, REFUSED = ImportAction


def made(address: str = BOB, **options) -> openpgp.SecretKey:
    return openpgp.generate(address, now=NOW - 30 * DAY, **options)


def offer(key: openpgp.SecretKey | bytes, **more) -> Offer:
    return Offer(key if isinstance(key, bytes) else key.certificate_octets, WHERE, **more)


def of(authority: Authority, *named: str, **options) -> Issued:
    usage = key_usage("digital_signature", "key_agreement")
    return authority.issue(name("Somebody"), private_key("p256", 701), usage, addresses(*named), **options)


KEY = made()


def test_what_is_found_can_be_encrypted_to(keystore: Keystore) -> None:
    taken = keystore.import_found(offer(KEY), SourceKind.WKD, "Bob@example.org", NOW)
    assert (taken.action, taken.fingerprint, taken.where, taken.reason) == (ADDED, KEY.fingerprint, WHERE, "")
    (found,) = keystore.select(BOB, NOW).certificates
    assert (found.fingerprint, found.trust, found.source) == (KEY.fingerprint, Trust.KNOWN, f"WKD, {WHERE}")
    assert kind_of(found.source) is SourceKind.WKD
    assert keystore.import_found(offer(KEY), SourceKind.WKD, BOB, NOW).action is UNCHANGED


@pytest.mark.parametrize(
    ("kind", "authenticated", "trust"),
    [
        (SourceKind.WKD, True, Trust.KNOWN),
        (SourceKind.WKD, False, Trust.UNKNOWN),
        (SourceKind.HKPS, True, Trust.UNKNOWN),
        (SourceKind.GNUPG, True, Trust.KNOWN),
    ],
)
def test_trust_is_what_the_source_is_worth(
    keystore: Keystore, kind: SourceKind, authenticated: bool, trust: Trust
) -> None:
    keystore.import_found(offer(KEY, authenticated=authenticated), kind, BOB, NOW)
    assert [one.trust for one in keystore.certificates()] == [trust]


def test_other_addresses_of_it_make_no_claim(keystore: Keystore) -> None:
    """Whoever answers for one address could else speak for all others."""
    both = bytes(pysequoia.Tsk.generate(user_ids=[f"Bob <{BOB}>", f"Eve <{EVE}>"]).extract_certificate())
    taken = keystore.import_found(offer(both), SourceKind.WKD, BOB, NOW + DAY)
    assert taken.action is ADDED
    (found,) = keystore.certificates()
    assert (found.user_ids, found.addresses) == ((f"Bob <{BOB}>",), (BOB,))
    assert not keystore.select(EVE, NOW + DAY).usable
    assert b"Eve" not in found.octets


def test_one_of_x509_serves_for_the_address_asked_for_alone(keystore: Keystore) -> None:
    person = of(root("Directory Root", number=700), BOB, EVE)
    taken = keystore.import_found(offer(person.der, scheme=Scheme.SMIME), SourceKind.DANE, BOB, NOW)
    assert (taken.action, taken.scheme) == (ADDED, Scheme.SMIME)
    assert keystore.select(BOB, NOW, scheme=Scheme.SMIME).certificates[0].trust is Trust.KNOWN
    assert not keystore.select(EVE, NOW, scheme=Scheme.SMIME).usable
    again = keystore.import_found(offer(person.der, scheme=Scheme.SMIME), SourceKind.LDAP, BOB, NOW)
    assert again.action is UNCHANGED


@cache
def refused_openpgp() -> dict[str, tuple[bytes, str]]:
    expired = openpgp.generate(BOB, now=NOW - 30 * DAY, expires=DAY)
    return {
        "another address": (made(EVE).certificate_octets, "no user ID with this address"),
        "expired": (expired.certificate_octets, "expired"),
        "a secret key": (KEY.to_octets(), "secret key"),
        "two certificates": (KEY.certificate_octets + made().certificate_octets, "not one"),
        "nothing": (b"", "not one"),
        "text": (b"<html>not found</html>", "not one"),
        "cut off": (KEY.certificate_octets[:-20], "not one"),
        "no user ID": (openpgp.about(KEY.certificate_octets, EVE), "no user ID"),
    }


@pytest.mark.parametrize("case", list(refused_openpgp()))
def test_what_is_not_fit_is_passed_over_with_its_reason(keystore: Keystore, case: str) -> None:
    octets, why = refused_openpgp()[case]
    taken = keystore.import_found(offer(octets), SourceKind.WKD, BOB, NOW)
    assert taken.action is REFUSED
    assert why in taken.reason
    assert keystore.certificates() == []


def test_certificates_of_x509_that_are_not_fit(keystore: Keystore) -> None:
    authority = root("Unfit Root", number=710)
    many = [f"a{number}@example.org" for number in range(MOST_ADDRESSES)]
    before = {"since": NOW - 2 * DAY, "until": NOW - DAY}
    cases = {
        authority.der: "authority",
        of(authority, EVE).der: "no user ID with this address",
        of(authority, BOB, *many).der: "too many",
        of(authority, BOB, **before).der: "expired",
        b"\x30\x03\x02\x01\x00": "",
    }
    for der, why in cases.items():
        taken = keystore.import_found(offer(der, scheme=Scheme.SMIME), SourceKind.LDAP, BOB, NOW)
        assert taken.action is REFUSED
        assert why in taken.reason
    assert keystore.certificates() == []


def test_a_certificate_in_use_is_not_replaced(keystore: Keystore) -> None:
    """By no source, not even the domain's own."""
    keystore.import_keys(KEY.certificate_octets, source="the tests", now=NOW)
    other = openpgp.generate(BOB, now=NOW - DAY)
    taken = keystore.import_found(offer(other), SourceKind.WKD, BOB, NOW)
    assert taken.action is ADDED
    assert KEY.fingerprint in taken.reason
    assert [one.fingerprint for one in keystore.select(BOB, NOW).certificates] == [KEY.fingerprint]


def test_what_its_owner_revoked_is_revoked_here(keystore: Keystore) -> None:
    """Also where a server gives it without user IDs."""
    key = pysequoia.Tsk.generate(user_id=f"Bob <{BOB}>")
    theirs, later = key.extract_certificate(), NOW + DAY
    keystore.import_found(offer(bytes(theirs)), SourceKind.WKD, BOB, later)
    assert keystore.select(BOB, later).usable
    revocation = theirs.revoke(key.certifier())
    revoked = bytes(pysequoia.Cert.from_bytes(bytes(theirs) + bytes(revocation)))
    taken = keystore.import_found(offer(openpgp.about(revoked, EVE)), SourceKind.VKS, BOB, later)
    assert taken.action is UPDATED
    assert "revoked" in keystore.select(BOB, later).explanation


def test_what_the_owner_rejected_stays_rejected(keystore: Keystore) -> None:
    keystore.import_keys(KEY.certificate_octets, source="the tests", now=NOW)
    keystore.set_trust(KEY.fingerprint, Trust.REJECTED)
    taken = keystore.import_found(offer(KEY), SourceKind.WKD, BOB, NOW)
    assert taken.action is UNCHANGED
    assert not keystore.select(BOB, NOW).usable


@settings(max_examples=15)
@given(st.data())
def test_damaged_octets_never_harm(data: st.DataObject) -> None:
    """Cutting down either refuses or gives a certificate of this address alone."""
    octets = bytearray(KEY.certificate_octets)
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        cut = openpgp.about(bytes(octets), BOB)
        found = openpgp.certificate(cut)
    except KeyRefused:
        return
    assert set(found.addresses) <= {BOB}


def test_every_source_has_a_name_that_is_found_again() -> None:
    for kind in SourceKind:
        assert kind_of(source_text(kind, "somewhere, else")) is kind
        assert kind_of(source_text(kind, "")) is kind
    assert len(set(NAMES.values())) == len(SourceKind)
    assert kind_of("file alice.asc") is None
    assert "\n" not in source_text(SourceKind.WKD, "a\nb")


def test_a_keyserver_gives_no_trusted_certificate_another_address(keystore: Keystore) -> None:
    """Else eve, known by her mail, would be known as bob too, because anybody may upload anything."""
    eve = made(EVE)
    keystore.import_found(offer(eve), SourceKind.WKD, EVE, NOW)
    as_bob = offer(certified(eve, NOW - DAY, user_id=BOB))
    taken = keystore.import_found(as_bob, SourceKind.HKPS, BOB, NOW)
    assert (taken.action, keystore.select(BOB, NOW).usable) == (REFUSED, False)
    assert keystore.import_found(as_bob, SourceKind.WKD, BOB, NOW).action is UPDATED


def junk(numbers: range) -> list[bytes]:
    """Signatures of nobody: what names no maker may be the owner's, and costs a verification."""
    head = bytes([4, 0x13, 22, 10, 0, 0, 0, 0])
    return [head + number.to_bytes(2, "big") + b"\0\1\1\0\1\1" for number in numbers]


def spellings(certificate: bytes, numbers: range) -> list[bytes]:
    """The same signature of the owner over the user ID, with something in the part that is not signed."""
    body = next(one for one in components(certificate) if one.packet.tag == Tag.USER_ID).signatures[0]
    at = 6 + int.from_bytes(body[4:6], "big")
    size = int.from_bytes(body[at : at + 2], "big")
    return [
        body[:at] + (size + 5).to_bytes(2, "big") + b"\4\x64" + number.to_bytes(3, "big") + body[at + 2 :]
        for number in numbers
    ]


def others(certificate: bytes, count: int, size: int) -> list[bytes]:
    """Certifications by somebody else, as large as they like."""
    area = b"\x09\x10" + b"somebody"
    head = bytes([4, 0x10, 22, 10, 0, 0]) + len(area).to_bytes(2, "big") + area
    return [head + bytes([0, number]) + bytes(size) for number in range(count)]


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, limit in (
        ("certificate", "MAX_SELF_SIGNATURES"),
        ("certificate", "MAX_COMPONENTS"),
        ("trimming", "MAX_SELF_SIGNATURES"),
    ):
        # The package has a function by the name of one of them.
        monkeypatch.setattr(import_module(f"keystore.openpgp.{module}"), limit, 100)


@pytest.mark.usefixtures("little_room")
@pytest.mark.parametrize("how", ["junk", "spellings", "user IDs"])
def test_nobody_fills_a_certificate_up_until_no_revocation_fits_in(keystore: Keystore, how: str) -> None:
    """Copies of it come with anybody's mail, and what is merged stays."""
    keystore.import_found(offer(KEY), SourceKind.WKD, BOB, NOW)
    genuine = keystore.certificates()[0].octets
    for start in range(0, 120, 40):
        if how == "user IDs":
            more = b"".join(
                write(Tag.USER_ID, f"{number} <{BOB}>".encode()) for number in range(start, start + 40)
            )
            octets = genuine + more
        else:
            found = (
                junk(range(start, start + 40))
                if how == "junk"
                else spellings(genuine, range(start, start + 40))
            )
            octets = flooded(genuine, found)
        keystore.import_found(offer(octets), SourceKind.AUTOCRYPT, BOB, NOW)
    assert keystore.certificates()[0].octets == genuine
    taken = keystore.import_found(offer(revoked(KEY, NOW - DAY)), SourceKind.AUTOCRYPT, BOB, NOW)
    assert (taken.action, keystore.select(BOB, NOW).reason) == (UPDATED, Reason.REVOKED)


def test_what_others_have_signed_of_it_does_not_keep_a_revocation_out(keystore: Keystore) -> None:
    keystore.import_found(offer(KEY), SourceKind.WKD, BOB, NOW)
    size = MOST_OCTETS // 2 - 10_000
    for number in range(3):
        more = [one + bytes([number]) for one in others(KEY.certificate_octets, 1, size)]
        keystore.import_found(offer(flooded(KEY.certificate_octets, more)), SourceKind.WKD, BOB, NOW)
    full = flooded(revoked(KEY, NOW - DAY), others(KEY.certificate_octets, 1, size + 5))
    keystore.import_found(offer(full), SourceKind.WKD, BOB, NOW)
    (found,) = keystore.certificates()
    assert len(found.octets) < MOST_OCTETS
    assert keystore.select(BOB, NOW).reason is Reason.REVOKED


@pytest.mark.usefixtures("little_room")
def test_a_file_of_a_flooded_certificate_does_not_keep_a_revocation_out(keystore: Keystore) -> None:
    """What the owner imports is kept as it is, as long as there is room for what counts."""
    keystore.import_keys(flooded(KEY.certificate_octets, junk(range(95))), source="a file", now=NOW)
    assert keystore.select(BOB, NOW).usable
    later = flooded(revoked(KEY, NOW - DAY), junk(range(95, 120)))
    keystore.import_keys(later, source="a file", now=NOW)
    assert keystore.select(BOB, NOW).reason is Reason.REVOKED
