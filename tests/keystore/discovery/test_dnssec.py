"""What a signature of the DNS proves, and what not: tables over records signed by dnspython's own signer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import dns.dnssec
import dns.name
import dns.rdata
import dns.rrset
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from keystore.discovery import dnssec
from keystore.discovery.dnssec import Effort, NotSecure

NOW = 1_800_000_000.0
ZONE = dns.name.from_text("example.zoo.")
NAME = dns.name.from_text("bob.example.zoo.")
EC = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())


def dnskey(private: object = EC, algorithm: str = "ECDSAP256SHA256", flags: int = 257) -> dns.dnssec.DNSKEY:
    return dns.dnssec.make_dnskey(private.public_key(), algorithm, flags=flags)


EC_KEY = dnskey()


@dataclass(frozen=True)
class Signed:
    """Records with a signature, and what they are checked with."""

    name: dns.name.Name = NAME
    text: str = '"the right text"'
    private: object = EC
    key: dns.dnssec.DNSKEY = EC_KEY
    zone: dns.name.Name = ZONE
    signed_name: dns.name.Name | None = None
    inception: float = NOW - 100
    expiration: float = NOW + 100
    shown: str = ""

    def verify(self, effort: Effort | None = None) -> None:
        signed = dns.rrset.from_text(self.signed_name or self.name, 60, "IN", "TXT", self.text)
        signature = dns.dnssec.sign(
            signed,
            self.private,
            self.zone,
            self.key,
            inception=self.inception,
            expiration=self.expiration,
            policy=dns.dnssec.allow_all_policy,
        )
        records = dns.rrset.from_text(self.name, 60, "IN", "TXT", self.shown or self.text)
        signatures = dns.rrset.from_rdata(self.name, 60, signature)
        assert dnssec.signer(records, signatures) == self.zone
        dnssec.verify(records, signatures, ZONE, [self.key], NOW, effort or Effort())


def test_a_good_signature_is_accepted() -> None:
    Signed().verify()
    ed = ed25519.Ed25519PrivateKey.generate()
    Signed(private=ed, key=dnskey(ed, "ED25519")).verify()


def rsa_key(bits: int, algorithm: str) -> Signed:
    private = rsa.generate_private_key(65537, bits)
    return Signed(private=private, key=dnskey(private, algorithm))


def short_rsa_key() -> Signed:
    """With a modulus of 96 octets, which no library here makes any more."""
    long = rsa_key(2048, "RSASHA256")
    return replace(long, key=long.key.replace(key=long.key.key[:100]))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(lambda: Signed(shown='"another text"'), "signature is wrong", id="changed"),
        pytest.param(
            lambda: Signed(signed_name=dns.name.from_text("eve.example.zoo.")),
            "signature is wrong",
            id="moved-to-another-name",
        ),
        pytest.param(lambda: Signed(expiration=NOW - 1), "has expired", id="expired"),
        pytest.param(lambda: Signed(inception=NOW + 1), "not yet valid", id="early"),
        pytest.param(
            lambda: Signed(signed_name=dns.name.from_text("*.example.zoo.")), "wildcard", id="wildcard"
        ),
        pytest.param(lambda: Signed(key=dnskey(flags=0)), "no key of the zone", id="no-zone-key"),
        pytest.param(lambda: Signed(key=dnskey(flags=257 | 0x80)), "no key of the zone", id="revoked-key"),
        pytest.param(lambda: Signed(private=OTHER), "signature is wrong", id="signed-by-another-key"),
        pytest.param(lambda: rsa_key(2048, "RSASHA1"), "no key of the zone", id="sha1"),
        pytest.param(short_rsa_key, "no key of the zone", id="short-rsa"),
    ],
)
def test_what_is_no_proof(make: Callable[[], Signed], reason: str) -> None:
    """RFC 4035 section 5.3.1, RFC 9905 (SHA-1)."""
    with pytest.raises(NotSecure, match=reason):
        make().verify()


@pytest.mark.parametrize(
    ("zone", "name", "rdtype", "is_above"),
    [
        ("example.zoo.", "bob.example.zoo.", "TXT", True),
        ("example.zoo.", "example.zoo.", "TXT", True),
        (".", "example.zoo.", "TXT", True),
        ("other.zoo.", "bob.example.zoo.", "TXT", False),
        ("bob.example.zoo.", "example.zoo.", "TXT", False),
        ("ample.zoo.", "example.zoo.", "TXT", False),
        ("zoo.", "example.zoo.", "DS", True),
        ("example.zoo.", "example.zoo.", "DS", False),
    ],
)
def test_only_a_zone_above_signs(zone: str, name: str, rdtype: str, is_above: bool) -> None:
    """RFC 4035 section 5.3.1; a DS record is the zone's above (RFC 4035 section 2.4)."""
    records = dns.rrset.from_text(name, 60, "IN", rdtype, '"x"' if rdtype == "TXT" else f"1 8 2 {'00' * 32}")
    signature = dns.rdata.from_text(
        "IN", "RRSIG", f"{rdtype} 13 3 60 20300101000000 20200101000000 1 {zone} AAAA"
    )
    signatures = dns.rrset.from_rdata(name, 60, signature)
    if is_above:
        assert dnssec.signer(records, signatures) == dns.name.from_text(zone)
    else:
        with pytest.raises(NotSecure, match="not above"):
            dnssec.signer(records, signatures)


def test_records_with_signatures_of_other_types_or_of_two_zones_have_no_signer() -> None:
    records = dns.rrset.from_text(NAME, 60, "IN", "TXT", '"x"')
    ends = "20300101000000 20200101000000 1"
    foreign = dns.rdata.from_text("IN", "RRSIG", f"A 13 3 60 {ends} example.zoo. AAAA")
    with pytest.raises(NotSecure, match="without a signature"):
        dnssec.signer(records, dns.rrset.from_rdata(NAME, 60, foreign))
    with pytest.raises(NotSecure, match="without a signature"):
        dnssec.signer(records, None)
    both = [dns.rdata.from_text("IN", "RRSIG", f"TXT 13 3 60 {ends} {zone} AAAA") for zone in ("zoo.", ".")]
    with pytest.raises(NotSecure, match="several zones"):
        dnssec.signer(records, dns.rrset.from_rdata_list(NAME, 60, both))


def test_keys_and_signatures_without_end_are_not_all_tried() -> None:
    """Each of the signatures fits each of the keys by its tag, and all are wrong (CVE-2023-50387)."""
    key, effort = dnskey(), Effort()
    records = dns.rrset.from_text(NAME, 60, "IN", "TXT", '"x"')
    good = dns.dnssec.sign(records, OTHER, ZONE, key, inception=NOW - 1, expiration=NOW + 1)
    wrong = [good.replace(original_ttl=number) for number in range(40)]
    signatures = dns.rrset.from_rdata_list(NAME, 60, wrong)
    with pytest.raises(NotSecure, match="too many"):
        dnssec.verify(records, signatures, ZONE, [key] * 40, NOW, effort)
    assert effort.left == -1


def test_one_good_signature_among_wrong_ones_is_enough() -> None:
    """RFC 6840 section 5.11."""
    records = dns.rrset.from_text(NAME, 60, "IN", "TXT", '"x"')
    good = dns.dnssec.sign(records, EC, ZONE, dnskey(), inception=NOW - 1, expiration=NOW + 1)
    signatures = dns.rrset.from_rdata_list(NAME, 60, [good.replace(original_ttl=7), good])
    dnssec.verify(records, signatures, ZONE, [dnskey()], NOW, Effort())


def test_a_key_is_linked_by_what_the_zone_above_says() -> None:
    """RFC 4035 section 5.2, for each kind of digest; SHA-1 links nothing (RFC 9905)."""
    key = dnskey()
    for digest in ("SHA256", "SHA384"):
        assert dnssec.linked(ZONE, [dnskey(OTHER), key], [dns.dnssec.make_ds(ZONE, key, digest)]) == [key]
    good = dns.dnssec.make_ds(ZONE, key, "SHA256")
    sha1 = dns.dnssec.make_ds(ZONE, key, "SHA1", policy=dns.dnssec.allow_all_policy)
    for zone, keys, link in (
        (ZONE, [key], sha1),
        (ZONE, [key], replace_digest(good)),
        (dns.name.from_text("other.zoo."), [key], good),
        (ZONE, [dnskey(OTHER)], good),
        (ZONE, [], good),
    ):
        with pytest.raises(NotSecure, match="no key of"):
            dnssec.linked(zone, keys, [link])


def replace_digest(link: dns.dnssec.DS) -> dns.dnssec.DS:
    return link.replace(digest=bytes([link.digest[0] ^ 1]) + link.digest[1:])


def test_the_anchors_that_come_along_are_the_two_of_the_root() -> None:
    """As IANA publishes them (RFC 9718): key tags, algorithm 8, SHA-256."""
    found = dnssec.read_anchors(dnssec.ROOT_ANCHORS)
    assert [(anchor.key_tag, anchor.algorithm, anchor.digest_type) for anchor in found] == [
        (20326, 8, 2),
        (38696, 8, 2),
    ]


def test_an_anchor_is_read_from_the_files_of_resolvers() -> None:
    """A DNSKEY with comments, as unbound-anchor writes it, and a DS are the same anchor."""
    key = dnskey()
    text = (
        f"; autotrust trust anchor file\n.\t86400\tIN\tDNSKEY\t{key.to_text()} ;{{id = 1 (ksk)}} ;;state=2\n"
    )
    link = dns.dnssec.make_ds(dns.name.root, key, "SHA256")
    assert dnssec.read_anchors(text) == dnssec.read_anchors(f". IN DS {link.to_text()}\n") == (link,)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "holds no DS"),
        ("<html>", "format of zone files"),
        ('. IN TXT "x"', "root zone only"),
        (f"zoo. IN DS 1 8 2 {'00' * 32}", "root zone only"),
    ],
)
def test_what_is_no_anchor(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        dnssec.read_anchors(text)
