"""Introducers: certifications by real gpg count for what they say, and for nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from keystore import openpgp
from keystore.errors import KeyRefused
from keystore.importing import Origin
from keystore.keystore import Keystore
from keystore.model import Trust
from keystore.openpgp.certificate import components, join
from tests.fixtures.gnupg import GnuPG
from tests.fixtures.processes import service_folder

BOB, HOME = "bob@example.org", "bob@home.example"
DAY = timedelta(days=1)
SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=6)
"""After all that is made here, however long other tests take meanwhile."""


@dataclass(frozen=True)
class Certified:
    """Bob's certificate as authorities have certified it, for his work address alone; armored."""

    home: GnuPG
    bob: str
    authorities: tuple[str, str]
    """Of Ed25519 and of RSA."""
    octets: bytes
    plain: bytes
    """As it was before."""

    def export(self, fingerprint: str) -> bytes:
        """The certificate of an authority."""
        return self.home.export(fingerprint)


@pytest.fixture(scope="module")
def certified() -> Iterator[Certified]:
    with service_folder("introducers") as folder:
        home = GnuPG(folder)
        (folder / "gpg-agent.conf").write_text("s2k-count 65536\n")
        try:
            bob = home.generate(f"Bob <{BOB}>")
            home.run("--quick-add-uid", bob, f"Bob <{HOME}>")
            plain = home.export(bob)
            authorities = home.generate("ca@example.org"), home.generate("old-ca@example.org", rsa=True)
            for one in authorities:
                home.run("--local-user", one, "--quick-sign-key", bob, f"Bob <{BOB}>")
            yield Certified(home, bob, authorities, home.export(bob), plain)
        finally:
            home.end()


def bring(keystore: Keystore, octets: bytes, level: Trust = Trust.KNOWN) -> None:
    keystore._importer.take_all(octets, Origin("mail", None, SOON, level=level), None)


def introduce(keystore: Keystore, certified: Certified, number: int = 0, *domains: str) -> None:
    fingerprint = certified.authorities[number]
    keystore.import_keys(certified.export(fingerprint), source="a test", now=SOON)
    authority = keystore.certificate(fingerprint)
    assert authority is not None
    keystore.introducers.add(authority, domains, SOON)


def trust(keystore: Keystore, address: str) -> Trust:
    [one] = keystore.select(address, SOON).certificates
    return one.trust


@pytest.mark.parametrize("number", [0, 1])
def test_whom_an_introducer_has_certified_is_verified(
    keystore: Keystore, certified: Certified, number: int
) -> None:
    """For the address of the certified user ID, not for another that its owner has added; and no longer."""
    bring(keystore, certified.octets)
    assert trust(keystore, BOB) is Trust.KNOWN
    introduce(keystore, certified, number)
    assert (trust(keystore, BOB), trust(keystore, HOME)) == (Trust.VERIFIED, Trust.KNOWN)
    # A signature does not say by which address it is meant.
    assert keystore.trust(certified.bob) is Trust.KNOWN
    keystore.introducers.remove(keystore.certificates(certified.authorities[number])[0].fingerprint)
    assert trust(keystore, BOB) is Trust.KNOWN


def test_all_addresses_certified_verify_its_signatures(keystore: Keystore, certified: Certified) -> None:
    [parsed] = openpgp.parse_keys(certified.octets)
    bring(keystore, openpgp.about(parsed.certificate_octets, BOB))
    introduce(keystore, certified)
    assert keystore.trust(certified.bob) is Trust.VERIFIED
    signature = certified.home.run(
        "--local-user", certified.bob, "--detach-sign", "--armor", data=b"text"
    ).stdout
    [result] = keystore.verify(b"text", signature, SOON)
    assert result.trust is Trust.VERIFIED


@pytest.mark.parametrize(
    ("domains", "expected"),
    [
        (("example.org",), Trust.VERIFIED),
        (("@Example.org", "other.example"), Trust.VERIFIED),
        (("other.example",), Trust.KNOWN),
        (("org",), Trust.KNOWN),
    ],
)
def test_an_introducer_may_be_one_for_some_domains(
    keystore: Keystore, certified: Certified, domains: tuple[str, ...], expected: Trust
) -> None:
    bring(keystore, certified.octets)
    introduce(keystore, certified, 0, *domains)
    assert trust(keystore, BOB) is expected


@pytest.mark.parametrize("domain", ["", "@", ".", "one two", "one, two", "a@b.example"])
def test_what_is_no_domain_is_refused(keystore: Keystore, certified: Certified, domain: str) -> None:
    """It would limit nothing: the introducer's word would count for everybody."""
    with pytest.raises(KeyRefused, match="is no domain"):
        introduce(keystore, certified, 0, domain)
    assert not keystore.introducers.all()


def test_what_is_held_or_rejected_is_not_raised(keystore: Keystore, certified: Certified) -> None:
    """A certified change is a change all the same."""
    first = openpgp.generate(BOB, now=SOON - DAY)
    bring(keystore, first.certificate_octets)
    bring(keystore, certified.octets)
    introduce(keystore, certified)
    assert keystore.select(BOB, SOON).certificates[0].fingerprint == first.fingerprint
    assert keystore.trust(certified.bob) is Trust.UNKNOWN
    bob = keystore.certificates(certified.bob)[0].fingerprint
    keystore.settling.take(BOB, bob, SOON)
    assert trust(keystore, BOB) is Trust.VERIFIED
    keystore.set_trust(bob, Trust.REJECTED)
    assert keystore.trust(bob) is Trust.REJECTED


def test_an_introducer_that_is_rejected_or_has_ended_counts_no_more(
    keystore: Keystore, certified: Certified
) -> None:
    bring(keystore, certified.octets)
    introduce(keystore, certified)
    authority = keystore.certificates(certified.authorities[0])[0]
    keystore.set_trust(authority.fingerprint, Trust.REJECTED)
    assert trust(keystore, BOB) is Trust.KNOWN
    with pytest.raises(KeyRefused, match="rejected"):
        keystore.introducers.add(keystore.certificates(authority.fingerprint)[0], (), SOON)
    keystore.set_trust(authority.fingerprint, Trust.KNOWN)
    assert trust(keystore, BOB) is Trust.VERIFIED
    revoked = certified.home.home / "openpgp-revocs.d" / f"{authority.fingerprint}.rev"
    text = revoked.read_text().replace(":-----BEGIN", "-----BEGIN")
    with service_folder("revoked") as folder:
        copy = GnuPG(folder)
        # Makes the database of trust, which an import of a revocation needs.
        copy.run("--trust-model=pgp", "--check-trustdb")
        copy.take(certified.export(authority.fingerprint))
        copy.take(text.encode())
        bring(keystore, copy.export(authority.fingerprint))
        copy.end()
    assert trust(keystore, BOB) is Trust.KNOWN


def test_a_certification_that_is_taken_back(keystore: Keystore, certified: Certified) -> None:
    """By its maker alone: what others write into the certificate changes nothing."""
    authority = certified.authorities[0]
    with service_folder("taken-back") as folder:
        home = GnuPG(folder)
        home.take(certified.home.export_secret(authority))
        home.take(certified.octets)
        home.run("--local-user", authority, "--quick-revoke-sig", certified.bob, authority)
        taken_back = home.export(certified.bob)
        home.end()
    bring(keystore, certified.octets)
    introduce(keystore, certified, 0)
    assert trust(keystore, BOB) is Trust.VERIFIED
    bring(keystore, taken_back)
    assert trust(keystore, BOB) is Trust.KNOWN
    introduce(keystore, certified, 1)
    assert trust(keystore, BOB) is Trust.VERIFIED


def test_every_changed_octet_is_noticed(certified: Certified) -> None:
    """Of the certification, the user ID and the certified key; and it is nobody else's."""
    [bob] = [one.certificate_octets for one in openpgp.parse_keys(certified.octets)]
    [plain] = [one.certificate_octets for one in openpgp.parse_keys(certified.plain)]
    introducers = [
        openpgp.parse_keys(certified.export(one))[0].certificate_octets for one in certified.authorities
    ]
    for introducer in introducers:
        [one] = openpgp.certifications(bob, introducer)
        assert (one.user_id, one.expires, one.revokes) == (f"Bob <{BOB}>", None, False)
        assert openpgp.certifications(plain, introducer) == ()
        assert openpgp.certifications(introducer, introducer) == ()
        parts = components(bob)
        part = next(part for part in parts if len(part.signatures) == 3)
        for at, body in enumerate(part.signatures):
            for octet in range(0, len(body), 5):
                changed = body[:octet] + bytes([body[octet] ^ 1]) + body[octet + 1 :]
                part.signatures[at] = changed
                left = openpgp.certifications(join(parts), introducer)
                # The hint of 16 bits and the unhashed part are vouched for by nobody.
                assert left in ((), (one,))
                part.signatures[at] = body
        other = next(
            other for other in parts if other is not part and other.signatures and other.packet.tag == 13
        )
        other.signatures, part.signatures = part.signatures, other.signatures
        assert openpgp.certifications(join(parts), introducer) == ()
