"""The source "dane" with signed zones, served by NSD; Unbound resolves them, and is the second opinion."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import dns.asyncresolver
import dns.dnssec
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rdatatype
import dns.rrset
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from keystore.discovery.dane import Dane, DaneSettings, record_name
from keystore.discovery.model import Offer, SourceFailed, SourceKind
from keystore.keystore import Keystore
from keystore.model import Scheme, Trust
from keystore.openpgp import generate
from tests.fixtures import x509
from tests.fixtures.gnupg import GnuPG
from tests.fixtures.keystores import NOW
from tests.fixtures.processes import free_port, service_folder
from tests.fixtures.zones import DAY, Dns, Zone, resolved

BOB = hashlib.sha256(b"bob").hexdigest()[:56]
PGP, X509 = b"octets of a certificate", b"octets of DER"
EVIL = base64.b64encode(b"octets of an attacker").decode()
DNSKEY = dns.rdatatype.DNSKEY
LONG = bytes(range(256)) * 24
"""Longer than an answer by UDP may be."""

CERTIFICATE = generate("bob@people.zoo", now=NOW)
PERSON = x509.root().person("bob@people.zoo")
"""Who publishes what can be encrypted to."""

ALICE = Path("tests/corpus/openpgp/alice.asc")


def openpgp(octets: bytes = PGP, name: str = BOB) -> str:
    return f"{name}._openpgpkey OPENPGPKEY {base64.b64encode(octets).decode()}"


def smimea(parameters: str, octets: bytes = X509) -> str:
    return f"{BOB}._smimecert SMIMEA {parameters} {octets.hex()}"


def without_signatures(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if " RRSIG OPENPGPKEY " not in line) + "\n"


def tampered(text: str) -> str:
    before, after = openpgp().split()[-1], openpgp(PGP + b"!").split()[-1]
    assert before in text
    return text.replace(before, after)


ZONES = {
    "good": Zone("good.zoo.", [openpgp(), smimea("3 0 0")]),
    "signed": Zone("signed.zoo.", [openpgp()]),
    "people": Zone("people.zoo.", [openpgp(CERTIFICATE.certificate_octets), smimea("3 0 0", PERSON.der)]),
    "long": Zone("long.zoo.", [openpgp(LONG)]),
    "alias": Zone("alias.zoo.", [f"{BOB}._openpgpkey CNAME {BOB}._openpgpkey.good.zoo."]),
    "circle": Zone("circle.zoo.", [f"{BOB}._openpgpkey CNAME {BOB}._openpgpkey"]),
    "nowhere": Zone("nowhere.zoo.", [f"{BOB}._openpgpkey CNAME nothing.good.zoo."]),
    "misled": Zone("misled.zoo.", [f"{BOB}._openpgpkey CNAME {BOB}._openpgpkey.unsigned.zoo."]),
    "unsigned": Zone("unsigned.zoo.", [openpgp()], is_signed=False),
    "unlinked": Zone("unlinked.zoo.", [openpgp()], is_linked=False),
    "expired": Zone("expired.zoo.", [openpgp()], expires=-DAY),
    "tampered": Zone("tampered.zoo.", [openpgp()], afterwards=tampered),
    "stripped": Zone("stripped.zoo.", [openpgp()], afterwards=without_signatures),
    "wild": Zone("wild.zoo.", [openpgp(name="*")]),
    "several": Zone("several.zoo.", [openpgp(bytes([number])) for number in range(12)]),
    "digest": Zone("digest.zoo.", [smimea("3 0 1", hashlib.sha256(X509).digest())]),
    "authority": Zone("authority.zoo.", [smimea("2 0 0")]),
    "pkix": Zone("pkix.zoo.", [smimea("1 0 0")]),
    "gnupg": Zone("gnupg.zoo."),
}


@pytest.fixture(scope="module")
def tree() -> Iterator[Dns]:
    """All zones, served and resolved; one has what GnuPG itself writes for its key."""
    with service_folder("dane") as home:
        gnupg = GnuPG(home)
        gnupg.take(ALICE.read_bytes())
        written = gnupg.run("--export-options", "export-dane", "--export").stdout.decode()
        gnupg.end()
    with_gnupg = Zone("gnupg.zoo.", [written.replace(".example.org.", ".gnupg.zoo.")])
    with resolved({**ZONES, "gnupg": with_gnupg}) as found:
        yield found


def resolver(port: int, timeout: float = 5) -> Callable[[], dns.asyncresolver.Resolver]:
    def make() -> dns.asyncresolver.Resolver:
        made = dns.asyncresolver.Resolver(configure=False)
        made.nameservers, made.port, made.lifetime = ["127.0.0.1"], port, timeout
        return made

    return make


def source(tree: Dns, port: int = 0, *, clock: Callable[[], float] = time.time) -> Dane:
    return Dane(resolver(port or tree.port), DaneSettings(tree.anchor), clock)


async def found(tree: Dns, address: str) -> Sequence[Offer]:
    return await source(tree).find(address)


def is_validated(tree: Dns, address: str, rdtype: str) -> bool:
    """What Unbound says of the same records."""
    scheme = Scheme.OPENPGP if rdtype == "OPENPGPKEY" else Scheme.SMIME
    query = dns.message.make_query(record_name(address, scheme), rdtype, want_dnssec=True)
    answer = dns.query.tcp(query, "127.0.0.1", port=tree.port, timeout=10)
    return bool(answer.flags & dns.flags.AD) and bool(answer.answer)


def test_the_name_is_that_of_the_standards_example() -> None:
    """RFC 7929 section 3, RFC 8162 section 3."""
    digest = "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6"
    assert record_name("hugh@example.com", Scheme.OPENPGP) == f"{digest}._openpgpkey.example.com"
    assert record_name("hugh@example.com", Scheme.SMIME) == f"{digest}._smimecert.example.com"


@pytest.mark.parametrize(
    ("written", "hashed"),
    [
        ('"bob"@good.zoo', "bob"),
        ('"b\\"o\\\\b c"@good.zoo', 'b"o\\b c'),
        ('"a@b"@good.zoo', "a@b"),
        ("o\u0308@good.zoo", "\u00f6"),
        ("Bob@good.zoo", "Bob"),
    ],
)
def test_the_local_part_is_hashed_without_its_form(written: str, hashed: str) -> None:
    """RFC 7929 section 3: quotes removed, form C, UTF-8; the case stays."""
    expected = hashlib.sha256(hashed.encode()).hexdigest()[:56]
    assert record_name(written, Scheme.OPENPGP) == f"{expected}._openpgpkey.good.zoo"


async def test_both_schemes_are_found(tree: Dns) -> None:
    offers = await found(tree, "bob@good.zoo")
    assert [(offer.octets, offer.scheme, offer.authenticated) for offer in offers] == [
        (PGP, Scheme.OPENPGP, True),
        (X509, Scheme.SMIME, True),
    ]
    assert [offer.where for offer in offers] == ["OPENPGPKEY record of good.zoo", "SMIMEA record of good.zoo"]
    assert is_validated(tree, "bob@good.zoo", "OPENPGPKEY")
    assert is_validated(tree, "bob@good.zoo", "SMIMEA")


async def test_what_gnupg_publishes_is_found(tree: Dns, gnupg_home: Callable[..., GnuPG]) -> None:
    """Name and octets are those of `gpg --export-options export-dane`."""
    gnupg = gnupg_home()
    gnupg.take(ALICE.read_bytes())
    (offer,) = await found(tree, "alice@gnupg.zoo")
    assert offer.octets == gnupg.run("--export").stdout


async def test_what_is_found_can_be_encrypted_to(tree: Dns, keystore: Keystore) -> None:
    """From the zone into the store: known, for the DNS of its own domain says so."""
    for offer in await found(tree, "bob@people.zoo"):
        keystore.import_found(offer, SourceKind.DANE, "bob@people.zoo", NOW + timedelta(days=1))
    by_scheme = {one.scheme: one for one in keystore.certificates("bob@people.zoo")}
    assert by_scheme[Scheme.OPENPGP].fingerprint == CERTIFICATE.fingerprint
    assert by_scheme[Scheme.SMIME].fingerprint == PERSON.fingerprint
    assert {one.trust for one in by_scheme.values()} == {Trust.KNOWN}
    assert keystore.select("bob@people.zoo", NOW + timedelta(days=1)).usable


@pytest.mark.parametrize("address", ["nobody@good.zoo", "bob@nowhere.zoo", "bob@[127.0.0.1]", "bob@a..zoo"])
async def test_what_is_not_there_is_no_failure(tree: Dns, address: str) -> None:
    assert not await found(tree, address)


@pytest.mark.parametrize(
    ("address", "octets"), [("Bob@good.zoo", PGP), ("bob@long.zoo", LONG), ("bob@alias.zoo", PGP)]
)
async def test_other_ways_to_a_record(tree: Dns, address: str, octets: bytes) -> None:
    """In lower case as a second try; by TCP; by an alias whose link is signed too."""
    assert (await found(tree, address))[0].octets == octets


async def test_of_many_records_some_are_looked_at(tree: Dns) -> None:
    assert len(await found(tree, "bob@several.zoo")) == 8


@pytest.mark.parametrize(
    ("zone", "reason"),
    [
        ("unsigned", "came without a signature"),
        ("unlinked", "no key of unlinked.zoo. is the one"),
        ("expired", "has expired"),
        ("tampered", "signature is wrong"),
        ("stripped", "came without a signature"),
        ("misled", "came without a signature"),
    ],
)
async def test_what_is_not_secured_is_never_used(tree: Dns, zone: str, reason: str) -> None:
    """Unbound agrees with each of them."""
    with pytest.raises(SourceFailed, match=f"is not secured by DNSSEC: .*{reason}") as failure:
        await found(tree, f"bob@{zone}.zoo")
    assert not failure.value.temporary
    assert not is_validated(tree, f"bob@{zone}.zoo", "OPENPGPKEY")


async def test_a_record_made_from_a_wildcard_is_not_used(tree: Dns) -> None:
    """Unbound, which reads the proofs of absence, takes it; we do not."""
    with pytest.raises(SourceFailed, match="wildcard"):
        await found(tree, "bob@wild.zoo")
    assert is_validated(tree, "bob@wild.zoo", "OPENPGPKEY")


async def test_aliases_in_a_circle_end(tree: Dns) -> None:
    with pytest.raises(SourceFailed):
        await found(tree, "bob@circle.zoo")


@pytest.mark.parametrize("zone", ["digest", "authority"])
async def test_a_record_without_a_certificate_of_a_person_says_so(tree: Dns, zone: str) -> None:
    with pytest.raises(SourceFailed, match=f"the SMIMEA record of {zone}.zoo holds no certificate"):
        await found(tree, f"bob@{zone}.zoo")


async def test_a_certificate_that_needs_an_authority_is_not_authenticated(tree: Dns) -> None:
    """RFC 8162 section 2, usage 1: the DNS alone does not vouch for it."""
    (offer,) = await found(tree, "bob@pkix.zoo")
    assert (offer.octets, offer.authenticated) == (X509, False)


async def test_another_root_is_not_believed(tree: Dns, tmp_path: Path) -> None:
    """Neither the one of the internet nor that of anybody: ours is the only one here."""
    for settings in (DaneSettings(), DaneSettings(tmp_path / "other.key")):
        (tmp_path / "other.key").write_text(f". IN DS 1 13 2 {'00' * 32}\n")
        with pytest.raises(SourceFailed, match=r"no key of \. is the one"):
            await Dane(resolver(tree.port), settings).find("bob@good.zoo")


async def test_a_broken_anchor_names_its_file(tree: Dns, tmp_path: Path) -> None:
    for name, text in (("empty.key", ""), ("absent.key", None)):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(SourceFailed, match=name):
            await Dane(resolver(tree.port), DaneSettings(tmp_path / name)).find("bob@good.zoo")


async def test_the_clock_counts(tree: Dns) -> None:
    """Signatures of the past and of the future prove nothing now."""
    for days, reason in ((40, "has expired"), (-90, "not yet valid")):
        with pytest.raises(SourceFailed, match=reason):
            await source(tree, clock=lambda moved=days: time.time() + moved * DAY).find("bob@good.zoo")


async def test_no_nameserver_is_a_temporary_failure(tree: Dns) -> None:
    with pytest.raises(SourceFailed, match="nameserver") as failure:
        await Dane(resolver(free_port(), timeout=0.2), DaneSettings(tree.anchor)).find("bob@good.zoo")
    assert failure.value.temporary


async def test_with_a_proxy_nothing_is_asked() -> None:
    with pytest.raises(SourceFailed, match="proxy"):
        await Dane(None).find("bob@good.zoo")


Ask = Callable[[dns.message.Message], dns.message.Message]
Lie = Callable[[dns.message.Message, Ask], dns.message.Message]


@contextlib.contextmanager
def liar(tree: Dns, lie: Lie) -> Iterator[int]:
    """The port of a resolver on the way, which answers what it likes and swears that it validated."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))

        def serve() -> None:
            while octets := (datagram := listener.recvfrom(4096))[0]:
                answer = lie(dns.message.from_wire(octets), lambda query: asked(tree, query))
                answer.flags |= dns.flags.AD
                listener.sendto(answer.to_wire(), datagram[1])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            # An empty datagram ends the server.
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", listener.getsockname())
            thread.join(5)


def asked(tree: Dns, query: dns.message.Message) -> dns.message.Message:
    return dns.query.tcp(query, "127.0.0.1", port=tree.port, timeout=10)


def unsigned_record(query: dns.message.Message, ask: Ask) -> dns.message.Message:
    """The certificate of the attacker, and no signature."""
    answer, question = ask(query), query.question[0]
    if question.rdtype == dns.rdatatype.OPENPGPKEY:
        answer.answer = [dns.rrset.from_text(question.name, 60, "IN", "OPENPGPKEY", EVIL)]
    return answer


def signature_of_another(query: dns.message.Message, ask: Ask) -> dns.message.Message:
    """The certificate of the attacker, with the signature of somebody else's of the same domain."""
    name, rdtype = query.question[0].name, query.question[0].rdtype
    if rdtype != dns.rdatatype.OPENPGPKEY:
        return ask(query)
    answer = ask(dns.message.make_query(f"{BOB}._openpgpkey.signed.zoo", rdtype, want_dnssec=True))
    (signatures,) = [rrset for rrset in answer.answer if rrset.rdtype == dns.rdatatype.RRSIG]
    forged = dns.message.make_response(query)
    forged.answer = [
        dns.rrset.from_text(name, 60, "IN", "OPENPGPKEY", EVIL),
        dns.rrset.from_rdata_list(name, 60, list(signatures)),
    ]
    return forged


def zone_with_another_key(query: dns.message.Message, ask: Ask) -> dns.message.Message:
    """Record and keys of the attacker's making, with good signatures by that key."""
    answer, question = ask(query), query.question[0]
    private = ec.derive_private_key(1, ec.SECP256R1())
    key = dns.dnssec.make_dnskey(private.public_key(), "ECDSAP256SHA256", flags=257)
    zone = dns.name.from_text("signed.zoo.")
    if question.rdtype == dns.rdatatype.OPENPGPKEY or (question.name, question.rdtype) == (zone, DNSKEY):
        text = key.to_text() if question.rdtype == DNSKEY else EVIL
        records = dns.rrset.from_text(question.name, 60, "IN", question.rdtype, text)
        signature = dns.dnssec.sign(records, private, zone, key, inception=time.time() - 9, lifetime=99)
        answer.answer = [records, dns.rrset.from_rdata(question.name, 60, signature)]
    return answer


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (unsigned_record, "came without a signature"),
        (signature_of_another, "signature is wrong"),
        (zone_with_another_key, r"no key of signed\.zoo\. is the one"),
    ],
)
async def test_a_resolver_that_lies_is_not_believed(tree: Dns, lie: Lie, reason: str) -> None:
    """Its word that it validated (AD) counts for nothing."""
    with liar(tree, lie) as port, pytest.raises(SourceFailed, match=reason):
        await source(tree, port).find("bob@signed.zoo")
