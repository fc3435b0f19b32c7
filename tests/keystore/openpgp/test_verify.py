"""Detached signatures: gpg's for us, ours for gpg, and every way in which one is not good."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pysequoia
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore import openpgp
from keystore.errors import NotReadable
from keystore.model import Certificate, SignatureResult, SignatureState, Trust
from keystore.openpgp.packet import Tag, binary, packets, write
from keystore.openpgp.selfsigning import signature_packet
from tests.keystore.oracle import Oracle, oracle

MADE = datetime.now(UTC)
NOW = MADE + timedelta(days=1)  # keys and signatures of other programs are dated when the tests run
OCTETS = b"Content-Type: text/plain\r\n\r\nwords, trailing blanks  \r\nand an end\r\n"
GOOD, BAD, UNKNOWN, UNACCEPTABLE = (
    SignatureState.GOOD,
    SignatureState.BAD,
    SignatureState.UNKNOWN_KEY,
    SignatureState.UNACCEPTABLE,
)


@pytest.fixture(scope="module")
def gpg() -> Iterator[Oracle]:
    with oracle() as home:
        yield home


@pytest.fixture(scope="module")
def alice() -> openpgp.SecretKey:
    return openpgp.generate("alice@example.org", name="Alice", now=MADE)


@pytest.fixture(scope="module")
def mallory() -> openpgp.SecretKey:
    return openpgp.generate("mallory@example.org", now=MADE)


def among(*octets: bytes, trust: Trust = Trust.KNOWN) -> openpgp.Lookup:
    certificates = [openpgp.certificate(one, trust=trust) for one in octets]

    def lookup(issuer: str) -> Sequence[Certificate]:
        return [
            one
            for one in certificates
            if any(key == issuer or key[-16:] == issuer for key in openpgp.key_fingerprints(one.octets))
        ]

    return lookup


def judge(octets: bytes, signature: bytes, *certificates: bytes, now: datetime = NOW) -> list[SignatureState]:
    return [one.state for one in openpgp.verify_detached(octets, signature, among(*certificates), now)]


@pytest.mark.parametrize("kind", ["ed25519", "rsa3072"])
def test_gpg_and_sequoia_verify_ours(gpg: Oracle, kind: openpgp.KeyKind) -> None:
    key = openpgp.generate(f"own-{kind}@example.org", kind=kind, now=MADE)
    gpg.run("--import", data=key.certificate_octets)
    made = openpgp.sign_detached(key, OCTETS, NOW)
    assert made.micalg == "pgp-sha512"
    assert made.armored.startswith(b"-----BEGIN PGP SIGNATURE-----\r\n")
    assert made.armored.count(b"\n") == made.armored.count(b"\r\n")
    assert f"VALIDSIG {key.fingerprint}" in gpg.says(OCTETS, made.armored, NOW)
    assert "BADSIG" in gpg.says(OCTETS + b"x", made.armored, NOW)
    certificate = pysequoia.Cert.from_bytes(key.certificate_octets)
    checked = pysequoia.verify(
        bytes=OCTETS, store=lambda issuers: [certificate], signature=pysequoia.Sig.from_bytes(made.armored)
    )
    assert [one.certificate.upper() for one in checked.valid_sigs] == [key.fingerprint]


KEYS = {
    "ed25519": ("ed25519", "sign,cert", []),
    "rsa2048": ("rsa2048", "sign,cert", []),
    "nistp256": ("nistp256", "sign,cert", []),
    "dsa2048": ("dsa2048", "sign,cert", []),
    "subkey": ("ed25519", "cert", ["ed25519"]),
}


@pytest.fixture(scope="module")
def signers(gpg: Oracle) -> dict[str, bytes]:
    certificates = {}
    for name, (primary, usage, subkeys) in KEYS.items():
        gpg.run("--quick-generate-key", f"{name}@example.org", primary, usage, "never")
        for subkey in subkeys:
            gpg.run("--quick-add-key", gpg.fingerprints(f"={name}@example.org")[0], subkey, "sign", "never")
        certificates[name] = gpg.binary(f"={name}@example.org")
    return certificates


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, options) for name in KEYS for options in ([], ["--armor"], ["--textmode"])),
        *(("rsa2048", [f"--digest-algo={name}"]) for name in ("SHA224", "SHA256", "SHA384", "SHA512")),
    ],
)
def test_we_verify_gpgs(gpg: Oracle, signers: dict[str, bytes], name: str, options: list[str]) -> None:
    address = f"{name}@example.org"
    made = gpg.run(*options, "--local-user", address, "--detach-sign", data=OCTETS).stdout
    (result,) = openpgp.verify_detached(OCTETS, made, among(*signers.values()), NOW)
    assert (result.state, result.addresses, result.user_id) == (GOOD, (address,), address)
    assert result.fingerprint == gpg.fingerprints(f"={address}")[0]
    assert result.created is not None
    assert MADE - timedelta(seconds=2) < result.created < NOW
    assert judge(OCTETS + b"x", made, *signers.values()) == [BAD]
    assert judge(OCTETS, made) == [UNKNOWN]
    # A text signature covers lines, a binary one octets.
    expected = GOOD if options == ["--textmode"] else BAD
    assert judge(OCTETS.replace(b"\r\n", b"\n"), made, signers[name]) == [expected]


@pytest.mark.parametrize(
    ("options", "state", "word"),
    [
        (["--digest-algo=SHA1"], UNACCEPTABLE, "SHA-1"),
        (["--default-sig-expire=1"], GOOD, ""),
        (["--sig-notation=!unknown@example.org=x"], UNACCEPTABLE, "condition"),
        (["--sig-notation=plain@example.org=x"], GOOD, ""),
    ],
)
def test_what_the_signature_itself_says(
    gpg: Oracle, signers: dict[str, bytes], options: list[str], state: SignatureState, word: str
) -> None:
    made = gpg.run(*options, "--local-user", "rsa2048@example.org", "--detach-sign", data=OCTETS).stdout
    (result,) = openpgp.verify_detached(OCTETS, made, among(signers["rsa2048"]), NOW)
    assert result.state is state
    assert word in result.reason
    if options == ["--default-sig-expire=1"]:
        assert judge(OCTETS, made, signers["rsa2048"], now=NOW + timedelta(days=2)) == [UNACCEPTABLE]


YEAR = timedelta(days=365)


@pytest.mark.parametrize(
    ("when", "judged", "state"),
    [
        (MADE - 3 * YEAR, NOW, GOOD),  # expired since, valid when it signed
        (MADE - 3 * YEAR, MADE - 3 * YEAR, GOOD),
        (MADE - 3 * YEAR, MADE - 3 * YEAR - timedelta(minutes=20), GOOD),  # a clock that is a little ahead
        (MADE - 3 * YEAR, MADE - 3 * YEAR - timedelta(hours=2), UNACCEPTABLE),
    ],
)
def test_the_time_of_signing_decides(
    gpg: Oracle, when: datetime, judged: datetime, state: SignatureState
) -> None:
    name = f"{when.timestamp()}-{judged.timestamp()}@example.org"
    gpg.at(when - timedelta(days=1), "--quick-generate-key", name, "ed25519", "sign,cert", "1y")
    made = gpg.at(when, "--local-user", name, "--detach-sign", data=OCTETS)
    assert judge(OCTETS, made, gpg.binary(f"={name}"), now=judged) == [state]
    if state is UNACCEPTABLE:
        # Here gpg is laxer: it calls a signature from the future good.
        assert "GOODSIG" in gpg.says(OCTETS, made, judged)


def test_a_signature_made_after_expiry_is_not_acceptable(gpg: Oracle) -> None:
    name = "late@example.org"
    then = MADE - 3 * YEAR
    gpg.at(then, "--quick-generate-key", name, "ed25519", "sign,cert", "never")
    made = gpg.run("--local-user", name, "--detach-sign", data=OCTETS).stdout
    assert judge(OCTETS, made, gpg.binary(f"={name}")) == [GOOD]
    gpg.at(then + YEAR, "--quick-set-expire", gpg.fingerprints(f"={name}")[0], "1y")
    assert judge(OCTETS, made, gpg.binary(f"={name}")) == [UNACCEPTABLE]
    assert "GOODSIG" not in gpg.says(OCTETS, made, NOW)


@pytest.mark.parametrize("reason", ["0", "1", "2", "3"])
def test_a_revoked_key_makes_no_good_signatures(gpg: Oracle, reason: str) -> None:
    name = f"revoked{reason}@example.org"
    gpg.at(MADE - YEAR, "--quick-generate-key", name, "ed25519", "sign,cert", "never")
    made = gpg.at(MADE - YEAR, "--local-user", name, "--detach-sign", data=OCTETS)
    assert judge(OCTETS, made, gpg.binary(f"={name}")) == [GOOD]
    gpg.edit(MADE, gpg.fingerprints(f"={name}")[0], "revkey", "y", reason, "", "y", "save")
    assert judge(OCTETS, made, gpg.binary(f"={name}")) == [UNACCEPTABLE]
    assert "GOODSIG" not in gpg.says(OCTETS, made, NOW)


def test_a_rejected_certificate_makes_no_good_signatures(alice: openpgp.SecretKey) -> None:
    made = openpgp.sign_detached(alice, OCTETS, NOW).armored
    lookup = among(alice.certificate_octets, trust=Trust.REJECTED)
    (result,) = openpgp.verify_detached(OCTETS, made, lookup, NOW)
    assert (result.state, result.trust) == (UNACCEPTABLE, Trust.REJECTED)


# --- signing subkeys


def with_subkey(mallory: openpgp.SecretKey, subkey: bytes, unhashed: bytes = b"") -> bytes:
    """Mallory's certificate with somebody's subkey, bound rightly by Mallory as a key that signs."""
    parts = list(packets(mallory.to_octets()))
    primary = next(p.body for p in packets(mallory.certificate_octets) if p.tag == Tag.PUBLIC_KEY)
    content = b"".join(b"\x99" + len(body).to_bytes(2, "big") + body for body in (primary, subkey))
    created = int(NOW.timestamp())
    binding = signature_packet(parts[0].body, 0x18, content, created, [(27, b"\x02")])
    return mallory.certificate_octets + write(Tag.PUBLIC_SUBKEY, subkey) + write(Tag.SIGNATURE, binding)


def test_a_subkey_of_somebody_else_cannot_be_adopted(
    gpg: Oracle, signers: dict[str, bytes], mallory: openpgp.SecretKey
) -> None:
    stolen = [p.body for p in packets(signers["subkey"]) if p.tag == Tag.PUBLIC_SUBKEY][-1]
    forged = with_subkey(mallory, stolen)
    made = gpg.run("--local-user", "subkey@example.org", "--detach-sign", data=OCTETS).stdout
    later = NOW + timedelta(minutes=10)
    facts = openpgp.facts(forged)
    assert len(facts.subkeys[-1].bindings) == 1  # bound, yet without the signature by the subkey
    (result,) = openpgp.verify_detached(OCTETS, made, among(forged), later)
    assert (result.state, result.fingerprint) == (UNACCEPTABLE, mallory.fingerprint)
    # With both certificates at hand the true owner is named, in either order.
    for known in ([forged, signers["subkey"]], [signers["subkey"], forged]):
        (result,) = openpgp.verify_detached(OCTETS, made, among(*known), later)
        assert (result.state, result.addresses) == (GOOD, ("subkey@example.org",))


def test_a_key_for_encryption_does_not_sign(gpg: Oracle, alice: openpgp.SecretKey) -> None:
    gpg.run("--quick-generate-key", "both@example.org", "rsa2048", "sign,cert", "never")
    fingerprint = gpg.fingerprints("=both@example.org")[0]
    made = gpg.run("--local-user", "both@example.org", "--detach-sign", data=OCTETS).stdout
    certificate = gpg.binary(fingerprint)
    stolen = next(p.body for p in packets(certificate) if p.tag == Tag.PUBLIC_KEY)
    parts = list(packets(alice.to_octets()))
    primary = next(p.body for p in packets(alice.certificate_octets) if p.tag == Tag.PUBLIC_KEY)
    content = b"".join(b"\x99" + len(body).to_bytes(2, "big") + body for body in (primary, stolen))
    binding = signature_packet(parts[0].body, 0x18, content, int(MADE.timestamp()) + 60, [(27, b"\x0c")])
    forged = alice.certificate_octets + write(Tag.PUBLIC_SUBKEY, stolen) + write(Tag.SIGNATURE, binding)
    assert judge(OCTETS, made, forged) == [UNACCEPTABLE]


# --- damage


@pytest.fixture(scope="module")
def signed(alice: openpgp.SecretKey) -> bytes:
    return binary(openpgp.sign_detached(alice, OCTETS, NOW).armored, "SIGNATURE")


def verdicts(octets: bytes, signature: bytes, key: openpgp.SecretKey) -> tuple[SignatureResult, ...]:
    try:
        return openpgp.verify_detached(octets, signature, among(key.certificate_octets), NOW)
    except NotReadable:
        return ()


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80, 0xFF])
def test_no_flipped_octet_is_good(alice: openpgp.SecretKey, signed: bytes, mask: int) -> None:
    assert [one.state for one in verdicts(OCTETS, signed, alice)] == [GOOD]
    for at in range(len(OCTETS)):
        damaged = OCTETS[:at] + bytes([OCTETS[at] ^ mask]) + OCTETS[at + 1 :]
        assert [one.state for one in verdicts(damaged, signed, alice)] == [BAD]
    surviving = []
    for at in range(len(signed)):
        damaged = signed[:at] + bytes([signed[at] ^ mask]) + signed[at + 1 :]
        if any(one.state is GOOD for one in verdicts(OCTETS, damaged, alice)):
            surviving.append(at)
    # Nobody signs the unhashed area (RFC 9580 section 5.2.3). Of ours only the type of its one subpacket may
    # change: then it is passed over, and it was a hint.
    issuer = signed.index(b"\x09\x10" + bytes.fromhex(alice.fingerprint)[-8:])
    assert set(surviving) <= {issuer + 1}


def test_no_part_of_a_signature_is_good(alice: openpgp.SecretKey, signed: bytes) -> None:
    for length in range(len(signed)):
        assert all(one.state is not GOOD for one in verdicts(OCTETS, signed[:length], alice))


@given(st.binary(max_size=400))
def test_garbage_raises_nothing_but_not_readable(octets: bytes) -> None:
    for candidate in (
        octets,
        write(Tag.SIGNATURE, octets),
        write(Tag.SIGNATURE, b"\x04\x00\x16\x08" + octets),
    ):
        try:
            results = openpgp.verify_detached(OCTETS, candidate, among(), NOW)
        except NotReadable:
            continue
        assert all(one.state in (BAD, UNKNOWN) for one in results)


def test_other_packets_are_no_detached_signature(alice: openpgp.SecretKey, signed: bytes) -> None:
    for candidate in (alice.certificate_octets, signed + alice.certificate_octets, b"", b"-----BEGIN PGP"):
        states = [one.state for one in verdicts(OCTETS, candidate, alice)]
        assert states == []


def test_a_certification_is_no_signature_over_a_message(alice: openpgp.SecretKey) -> None:
    certification = next(p for p in packets(alice.certificate_octets) if p.tag == Tag.SIGNATURE)
    assert judge(OCTETS, certification.octets, alice.certificate_octets) == [BAD]


def test_results_come_from_the_certificate(alice: openpgp.SecretKey, signed: bytes) -> None:
    (result,) = verdicts(OCTETS, signed, alice)
    assert result == replace(
        result,
        fingerprint=alice.fingerprint,
        addresses=("alice@example.org",),
        user_id="Alice <alice@example.org>",
        trust=Trust.KNOWN,
        reason="",
    )
