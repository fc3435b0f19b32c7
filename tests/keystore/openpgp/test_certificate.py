"""Certificates: what counts as a fact, what merging keeps, and damage of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore import openpgp, policy
from keystore.errors import KeyRefused
from keystore.model import Holder, Purpose, Reason, Trust
from keystore.openpgp.certificate import components, join
from keystore.openpgp.packet import Tag, packets, write
from tests.fixtures.growth import assert_linear
from tests.keystore.oracle import Oracle, oracle

NOW = datetime(2026, 11, 21, tzinfo=UTC)
THEN = NOW - timedelta(days=700)


@pytest.fixture(scope="module")
def gpg() -> Iterator[Oracle]:
    with oracle() as home:
        yield home


@pytest.fixture(scope="module")
def alice() -> bytes:
    return openpgp.generate("alice@example.org", name="Alice", now=THEN).certificate_octets


@pytest.fixture(scope="module")
def full(gpg: Oracle) -> bytes:
    """Two user IDs, one revoked; subkeys to encrypt and sign, one revoked."""
    gpg.at(THEN, "--quick-generate-key", "Full <full@example.org>", "ed25519", "sign,cert", "2y")
    fingerprint = gpg.fingerprints("=Full <full@example.org>")[0]
    gpg.at(THEN, "--quick-add-uid", fingerprint, "Gone <gone@example.org>")
    for subkey in ("cv25519 encr", "ed25519 sign", "cv25519 encr"):
        gpg.at(THEN, "--quick-add-key", fingerprint, *subkey.split(), "2y")
    gpg.at(THEN + timedelta(days=1), "--quick-revoke-uid", fingerprint, "Gone <gone@example.org>")
    gpg.edit(THEN + timedelta(days=1), fingerprint, "key 3", "revkey", "y", "1", "", "y", "save")
    return gpg.binary(fingerprint)


def test_the_value_that_the_store_hands_out(full: bytes) -> None:
    value = openpgp.certificate(full, source="file", trust=Trust.VERIFIED, holder=Holder.OWN)
    assert value.user_ids == ("Full <full@example.org>",)
    assert value.addresses == ("full@example.org",)
    assert (value.algorithm, value.holder, value.trust, value.source) == (
        "Ed25519",
        Holder.OWN,
        Trust.VERIFIED,
        "file",
    )
    assert value.created == THEN
    assert value.expires == THEN + timedelta(days=2 * 365)
    assert value.octets == full


def test_facts_name_every_key_and_verify_every_signature(gpg: Oracle, full: bytes) -> None:
    facts = openpgp.facts(full)
    assert list(openpgp.key_fingerprints(full)) == gpg.fingerprints("full@example.org")
    assert [key.fingerprint for key in facts.keys] == gpg.fingerprints("full@example.org")
    assert facts.broken == 0
    assert [len(key.bindings) for key in facts.subkeys] == [1, 1, 1]
    assert [key.bindings[0].back_signature is not None for key in facts.subkeys] == [False, True, False]
    assert [len(key.revocations) for key in facts.subkeys] == [0, 0, 1]
    assert [(len(one.certifications), len(one.revocations)) for one in facts.user_ids] == [(1, 0), (1, 1)]


def test_signatures_by_others_are_no_facts(gpg: Oracle, full: bytes) -> None:
    gpg.run("--quick-generate-key", "other@example.org", "ed25519", "sign,cert", "never")
    gpg.run("--local-user", "other@example.org", "--quick-sign-key", openpgp.facts(full).fingerprint)
    certified = gpg.binary("full@example.org")
    assert len(certified) > len(full)
    assert openpgp.facts(certified) == openpgp.facts(full)


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_no_flipped_octet_adds_a_key_or_an_address(full: bytes, mask: int) -> None:
    facts = openpgp.facts(full)
    usable = {purpose: set(policy.usability(facts, purpose, NOW).keys) for purpose in Purpose}
    user_ids = set(policy.valid_user_ids(facts, NOW))
    assert usable[Purpose.ENCRYPT]
    assert usable[Purpose.SIGN]
    for at in range(mask % 3, len(full), 3):
        damaged = full[:at] + bytes([full[at] ^ mask]) + full[at + 1 :]
        try:
            other = openpgp.facts(damaged)
        except KeyRefused:
            continue
        # What was revoked may come back: who can damage a revocation can also leave it out.
        assert set(policy.valid_user_ids(other, NOW)) <= user_ids | {"Gone <gone@example.org>"}
        for purpose in Purpose:
            found = set(policy.usability(other, purpose, NOW).keys)
            assert found <= usable[purpose] | {facts.subkeys[2].fingerprint}


def test_damaged_signatures_are_counted_and_void(alice: bytes) -> None:
    parts = components(alice)
    for part in parts:
        part.signatures = [body[:-1] + bytes([body[-1] ^ 1]) for body in part.signatures]
    facts = openpgp.facts(join(parts))
    assert facts.broken == 2
    assert policy.usability(facts, Purpose.ENCRYPT, NOW).reason is Reason.BAD_BINDING


def test_a_damaged_binding_voids_its_subkey_only_as_in_gpg(gpg: Oracle, alice: bytes) -> None:
    parts = components(alice)
    parts[-1].signatures = [body[:-1] + bytes([body[-1] ^ 1]) for body in parts[-1].signatures]
    octets = join(parts)
    facts = openpgp.facts(octets)
    assert policy.usability(facts, Purpose.ENCRYPT, NOW).reason is Reason.BAD_BINDING
    assert policy.usability(facts, Purpose.SIGN, NOW).usable
    gpg.run("--import", data=octets)
    assert gpg.encrypts(NOW, facts.fingerprint) is None


def test_a_user_id_moved_to_another_certificate_is_void(alice: bytes, full: bytes) -> None:
    parts = components(alice)
    stolen = [part for part in components(full) if part.packet.tag == Tag.USER_ID]
    facts = openpgp.facts(join([parts[0], *stolen, *parts[1:]]))
    assert policy.valid_user_ids(facts, NOW) == ("Alice <alice@example.org>",)
    assert policy.usability(facts, Purpose.ENCRYPT, NOW, "full@example.org").reason is Reason.BAD_BINDING


# --- merging


def test_merging_keeps_renewals_and_revocations_of_either(gpg: Oracle) -> None:
    gpg.at(THEN, "--quick-generate-key", "merge@example.org", "ed25519", "sign,cert", "1y")
    fingerprint = gpg.fingerprints("=merge@example.org")[0]
    gpg.at(THEN, "--quick-add-key", fingerprint, "cv25519", "encr", "never")
    old = gpg.binary(fingerprint)
    gpg.at(THEN + timedelta(days=9), "--quick-set-expire", fingerprint, "5y")
    renewed = gpg.binary(fingerprint)
    for one, other in ((old, renewed), (renewed, old), (renewed, renewed)):
        merged = openpgp.merge(one, other)
        assert policy.usability(openpgp.facts(merged), Purpose.ENCRYPT, NOW).usable
        assert openpgp.merge(merged, one) == merged
    assert policy.usability(openpgp.facts(old), Purpose.ENCRYPT, NOW).reason is Reason.EXPIRED
    gpg.edit(THEN + timedelta(days=20), fingerprint, "revkey", "y", "1", "", "y", "save")
    revoked = gpg.binary(fingerprint)
    for one, other in ((old, revoked), (revoked, old), (revoked, renewed)):
        facts = openpgp.facts(openpgp.merge(one, other))
        assert policy.usability(facts, Purpose.ENCRYPT, NOW).reason is Reason.REVOKED


def test_merging_takes_new_user_ids_and_subkeys(full: bytes) -> None:
    parts = components(full)
    less = join([parts[0], parts[1]])
    assert openpgp.facts(openpgp.merge(less, full)) == openpgp.facts(full)
    assert set(openpgp.key_fingerprints(openpgp.merge(full, less))) == set(openpgp.key_fingerprints(full))


def test_different_certificates_do_not_merge(alice: bytes, full: bytes) -> None:
    with pytest.raises(KeyRefused, match="different"):
        openpgp.merge(alice, full)


# --- what is no certificate


@given(st.binary(max_size=200))
def test_garbage_is_refused(octets: bytes) -> None:
    for candidate in (octets, write(Tag.PUBLIC_KEY, octets), write(Tag.PUBLIC_KEY, b"\x04" + octets)):
        with pytest.raises(KeyRefused):
            openpgp.facts(candidate)
        with pytest.raises(KeyRefused):
            openpgp.key_fingerprints(candidate)


def test_a_flood_of_strangers_signatures_costs_no_more_than_its_length(alice: bytes) -> None:
    """As on the old keyservers. Compared one with another, a hundred thousand took a quarter of an hour."""

    def flooded(number: int) -> bytes:
        return alice + b"".join(write(Tag.SIGNATURE, b"%06d" % one) for one in range(number))

    def read(certificate: bytes) -> None:
        number = len(components(certificate)[-1].signatures)
        assert openpgp.parse_keys(certificate)[0].fingerprint == openpgp.facts(alice).fingerprint
        assert len(components(openpgp.merge(certificate, certificate))[-1].signatures) == number

    assert_linear(flooded, read, 16_000)


@pytest.mark.parametrize("tag", [Tag.USER_ID, Tag.PUBLIC_SUBKEY, Tag.USER_ATTRIBUTE])
def test_a_flood_of_components_is_refused(alice: bytes, tag: Tag) -> None:
    flooded = alice + b"".join(write(tag, b"%06d" % number) for number in range(1001))
    with pytest.raises(KeyRefused, match="more than 1000 keys and user IDs"):
        openpgp.parse_keys(flooded)


def test_a_flooded_certificate_is_refused(alice: bytes) -> None:
    parts = components(alice)
    genuine = parts[1].signatures[0]
    parts[1].signatures += [genuine[:-2] + number.to_bytes(2, "big") for number in range(1000)]
    with pytest.raises(KeyRefused, match="flooded"):
        openpgp.facts(join(parts))


def test_unknown_packets_and_subkeys_are_passed_over(alice: bytes) -> None:
    unknown = write(60, b"new") + write(Tag.TRUST, b"\0") + write(Tag.PUBLIC_SUBKEY, b"\x04\0\0\0\0\x63abc")
    facts = openpgp.facts(alice + unknown)
    assert (facts.keys, facts.user_ids) == (openpgp.facts(alice).keys, openpgp.facts(alice).user_ids)


def test_two_primary_keys_are_not_one_certificate(alice: bytes, full: bytes) -> None:
    with pytest.raises(KeyRefused):
        openpgp.facts(alice + full)


def test_user_ids_in_other_character_sets_do_no_harm(alice: bytes) -> None:
    extra = write(Tag.USER_ID, "Ålice <alice@example.org>".encode("latin-1"))
    facts = openpgp.facts(alice + extra)
    assert policy.valid_user_ids(facts, NOW) == ("Alice <alice@example.org>",)
    assert next(packets(extra)).body.startswith(b"\xc5")
