"""Domains in other scripts: one form for all comparisons."""

from __future__ import annotations

import pytest

from keystore import openpgp
from keystore.autocrypt import Heard
from keystore.discovery.model import Offer, SourceKind
from keystore.domainnames import registered, written
from keystore.keystore import Keystore
from keystore.model import lower_case
from keystore.peers import PeerSeen
from tests.fixtures.keystores import NOW
from tests.keystore.test_settling import DAY, certificate

ASCII, UNICODE = "bob@xn--bcher-kva.example", "Bob@B\u00fccher.example"


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("Bob@Example.ORG", "bob@example.org"),
        (UNICODE, ASCII),
        (ASCII.upper(), ASCII),
        ("J\u00d6RG@example.org", "j\u00f6rg@example.org"),
        ("stra\u00dfe@stra\u00dfe.example", "stra\u00dfe@xn--strae-oqa.example"),
        # What looks like another one, or is not registered so, stays apart.
        ("bob@\uff42ank.example", "bob@\uff42ank.example"),
        ("\u212aate@b\u00fccher.example", "\u212aate@b\u00fccher.example"),
        ("bob@b\u00fccher..example", "bob@b\u00fccher..example"),
    ],
)
def test_an_address_as_it_is_compared(address: str, kept: str) -> None:
    assert lower_case(address) == kept
    assert lower_case(kept) == kept


@pytest.mark.parametrize("domain", ["b\u00fccher.example", "stra\u00dfe.example", "example.org"])
def test_what_people_write_comes_back(domain: str) -> None:
    assert written(registered(domain)) == domain


@pytest.mark.parametrize("domain", ["xn--a.example", "xn--\u00fc.example", "xn--.example", "xn--99.example"])
def test_what_only_looks_like_one_stays(domain: str) -> None:
    assert written(domain) == domain


@pytest.mark.parametrize("asked", [ASCII, UNICODE])
@pytest.mark.parametrize("named", [ASCII, UNICODE])
def test_a_certificate_serves_for_both_forms(keystore: Keystore, named: str, asked: str) -> None:
    """Whatever its owner wrote into it, and whatever was asked for, as WKD is asked for the ASCII form."""
    key = certificate(named)
    offer = Offer(key.certificate_octets, "a server")
    assert keystore.import_found(offer, SourceKind.WKD, ASCII, NOW).kept
    assert [one.fingerprint for one in keystore.select(asked, NOW).certificates] == [key.fingerprint]
    assert keystore.exports.minimal(key.fingerprint, asked, NOW)


def test_the_other_form_is_no_way_past_the_certificate_in_use(keystore: Keystore) -> None:
    """Nor does the address book take one person for two."""
    first, second = certificate(ASCII), certificate(UNICODE, age=DAY)
    keystore.import_keys(first.certificate_octets, source="a test", now=NOW)
    keystore.autocrypt.hear(Heard(UNICODE, NOW, second.certificate_octets), NOW)
    assert [one.fingerprint for one in keystore.select(UNICODE, NOW).certificates] == [first.fingerprint]
    assert [one.fingerprint for one in keystore.settling.waiting(ASCII)] == [second.fingerprint]
    keystore.peers.seen(PeerSeen(ASCII, NOW, written=True), PeerSeen(UNICODE, NOW))
    assert [(one.address, one.count) for one in keystore.peers.search()] == [(ASCII, 2)]


def test_an_own_key_with_either_form(keystore: Keystore) -> None:
    own = keystore.generate(UNICODE, now=NOW - DAY)
    for address in (ASCII, UNICODE):
        found = keystore.identity(address, NOW)
        assert found is not None
        assert (found.address, found.certificate.fingerprint) == (ASCII, own.fingerprint)
    assert openpgp.certificate(own.octets).user_ids == (UNICODE,)
