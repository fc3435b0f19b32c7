"""Usability as a truth table: certificates made by gpg at several times, judged by gpg and by us."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from keystore import openpgp, policy
from keystore.facts import (
    Algorithm,
    CertificateFacts,
    KeyFacts,
    KeyFlags,
    Revocation,
    RevocationKind,
    SelfSignature,
    UserIdFacts,
)
from keystore.model import Fingerprint, Purpose, Reason, Usability
from tests.keystore.oracle import Oracle, oracle

T2015 = datetime(2015, 3, 1, tzinfo=UTC)
T2022, T2023, T2024, T2025 = (datetime(year, 3, 1, tzinfo=UTC) for year in range(2022, 2026))
NOW = T2025


@pytest.fixture(scope="module")
def gpg() -> Iterator[Oracle]:
    with oracle() as home:
        yield home


def make(gpg: Oracle, when: datetime, *subkeys: str, expires: str = "never", primary: str = "ed25519") -> str:
    """A key made at `when`; `subkeys` are such as "cv25519 encr 1y". The user ID carries its number."""
    name = f"key{len(gpg.run('--list-keys', '--with-colons').stdout)}@example.org"
    gpg.at(when, "--quick-generate-key", name, primary, "sign,cert", expires)
    fingerprint = gpg.fingerprints(f"={name}")[0]
    for subkey in subkeys:
        gpg.at(when, "--quick-add-key", fingerprint, *subkey.split())
        when += timedelta(days=1)
    return fingerprint


E = "cv25519 encr never"


def plain(gpg: Oracle) -> str:
    return make(gpg, T2022, E)


def expired(gpg: Oracle) -> str:
    return make(gpg, T2022, E, expires="1y")


def renewed(gpg: Oracle) -> str:
    fingerprint = make(gpg, T2022, E, expires="1y")
    gpg.at(T2022 + timedelta(days=300), "--quick-set-expire", fingerprint, "5y")
    return fingerprint


def shortened(gpg: Oracle) -> str:
    fingerprint = make(gpg, T2022, E)
    gpg.at(T2023, "--quick-set-expire", fingerprint, "1y")
    return fingerprint


def subkey_expired(gpg: Oracle) -> str:
    return make(gpg, T2022, "cv25519 encr 1y")


def one_subkey_expired(gpg: Oracle) -> str:
    return make(gpg, T2022, E, "cv25519 encr 1y")


def no_encryption_subkey(gpg: Oracle) -> str:
    return make(gpg, T2022, "ed25519 sign never")


def several_subkeys(gpg: Oracle) -> str:
    return make(gpg, T2022, E, "ed25519 sign never", E, "rsa2048 encr never")


def newest_subkey_revoked(gpg: Oracle) -> str:
    fingerprint = make(gpg, T2022, E, E)
    gpg.edit(T2023, fingerprint, "key 2", "revkey", "y", "0", "", "y", "save")
    return fingerprint


def every_subkey_revoked(gpg: Oracle) -> str:
    fingerprint = make(gpg, T2022, E)
    gpg.edit(T2023, fingerprint, "key 1", "revkey", "y", "1", "", "y", "save")
    return fingerprint


def _revoked(gpg: Oracle, reason: str) -> str:
    fingerprint = make(gpg, T2022, E)
    gpg.edit(T2023, fingerprint, "revkey", "y", reason, "", "y", "save")
    return fingerprint


def revoked_hard(gpg: Oracle) -> str:
    return _revoked(gpg, "0")


def revoked_as_compromised(gpg: Oracle) -> str:
    return _revoked(gpg, "1")


def revoked_soft(gpg: Oracle) -> str:
    return _revoked(gpg, "3")


def several_user_ids(gpg: Oracle) -> str:
    fingerprint = make(gpg, T2022, E)
    for name in ("Second <second@example.org>", "Gone <gone@example.org>"):
        gpg.at(T2022, "--quick-add-uid", fingerprint, name)
    gpg.at(T2023, "--quick-revoke-uid", fingerprint, "Gone <gone@example.org>")
    return fingerprint


def sha1_long_ago(gpg: Oracle) -> str:
    return _with_sha1(gpg, T2015)


def sha1_lately(gpg: Oracle) -> str:
    return _with_sha1(gpg, T2022)


def _with_sha1(gpg: Oracle, when: datetime) -> str:
    name = f"sha1-{when.year}@example.org"
    options = ["--cert-digest-algo=SHA1", "--digest-algo=SHA1"]
    gpg.at(when, *options, "--quick-generate-key", name, "rsa2048", "sign,cert", "never")
    fingerprint = gpg.fingerprints(f"={name}")[0]
    gpg.at(when, *options, "--quick-add-key", fingerprint, "rsa2048", "encr", "never")
    return fingerprint


def short_rsa(gpg: Oracle) -> str:
    return make(gpg, T2022, "rsa1024 encr never", primary="rsa1024")


def short_subkey(gpg: Oracle) -> str:
    return make(gpg, T2022, "rsa1024 encr never")


def unknown_primary_curve(gpg: Oracle) -> str:
    return make(gpg, T2022, E, primary="brainpoolP256r1")


def unknown_subkey_curve(gpg: Oracle) -> str:
    return make(gpg, T2022, "brainpoolP256r1 encr never")


def unknown_curve_beside_a_known_one(gpg: Oracle) -> str:
    return make(gpg, T2022, "secp256k1 encr never", E)


def from_the_future(gpg: Oracle) -> str:
    return make(gpg, NOW + timedelta(days=30), E)


@dataclass(frozen=True)
class Case:
    """`reason` is our answer (None: usable); `gpg` is gpg's where we are stricter on purpose."""

    build: Callable[[Oracle], str]
    reason: Reason | None = None
    stricter: bool = False


CASES = [
    Case(plain),
    Case(expired, Reason.EXPIRED),
    Case(renewed),
    Case(shortened, Reason.EXPIRED),
    Case(subkey_expired, Reason.SUBKEY_EXPIRED),
    Case(one_subkey_expired),
    Case(no_encryption_subkey, Reason.NO_CAPABLE_KEY),
    Case(several_subkeys),
    Case(newest_subkey_revoked),
    Case(every_subkey_revoked, Reason.SUBKEY_REVOKED),
    Case(revoked_hard, Reason.REVOKED),
    Case(revoked_as_compromised, Reason.REVOKED),
    Case(revoked_soft, Reason.REVOKED),
    Case(several_user_ids),
    Case(sha1_long_ago),
    Case(sha1_lately, Reason.WEAK_ALGORITHM, stricter=True),
    Case(short_rsa, Reason.WEAK_ALGORITHM, stricter=True),
    Case(short_subkey, Reason.WEAK_ALGORITHM, stricter=True),
    Case(unknown_primary_curve, Reason.UNSUPPORTED, stricter=True),
    Case(unknown_subkey_curve, Reason.UNSUPPORTED, stricter=True),
    Case(unknown_curve_beside_a_known_one),
    Case(from_the_future, Reason.NOT_YET_VALID),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.build.__name__)
def test_encryption_as_gpg_judges_it(gpg: Oracle, case: Case) -> None:
    fingerprint = case.build(gpg)
    facts = openpgp.facts(gpg.binary(fingerprint))
    ours = policy.usability(facts, Purpose.ENCRYPT, NOW)
    theirs = gpg.encrypts(NOW, fingerprint)
    assert ours.reason is case.reason
    assert (theirs is not None) == (case.reason is None or case.stricter)
    if ours.usable and theirs is not None:
        # The same subkey of several: the newest that is usable.
        assert openpgp.key_ids(theirs) == (ours.keys[0][-16:],)
        openpgp.trial(gpg.binary(fingerprint), ours.keys)
    for when in (T2015, T2022, T2023, T2024):
        if policy.usability(facts, Purpose.ENCRYPT, when).usable:
            assert gpg.encrypts(when, fingerprint) is not None, f"laxer than gpg in {when.year}"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("second@example.org", None),
        ("SECOND@Example.ORG", None),
        ("gone@example.org", Reason.USER_ID_REVOKED),
        ("stranger@example.org", Reason.NOT_FOR_ADDRESS),
        ("Second", Reason.NOT_FOR_ADDRESS),
        ("", Reason.NOT_FOR_ADDRESS),
    ],
)
def test_an_address_must_be_on_a_valid_user_id(several: bytes, address: str, reason: Reason | None) -> None:
    assert policy.usability(openpgp.facts(several), Purpose.ENCRYPT, NOW, address).reason is reason


@pytest.fixture(scope="module")
def several(gpg: Oracle) -> bytes:
    return gpg.binary(several_user_ids(gpg))


def test_valid_user_ids_are_those_of_gpg(gpg: Oracle, several: bytes) -> None:
    facts = openpgp.facts(several)
    listing = gpg.at(NOW, "--with-colons", "--list-keys", facts.fingerprint).decode().splitlines()
    rows = [line.split(":") for line in listing if line.startswith("uid")]
    assert set(policy.valid_user_ids(facts, NOW)) == {row[9] for row in rows if row[1] not in ("r", "e", "n")}
    assert "Gone <gone@example.org>" in policy.valid_user_ids(facts, T2022 + timedelta(days=1))


# --- rows that gpg cannot make


def key(name: str, **changes: object) -> KeyFacts:
    signs = Algorithm("Ed25519", 256, signs=True, encrypts=False)
    return replace(KeyFacts(Fingerprint(name * 40), T2022, signs), **changes)  # type: ignore[arg-type]  # a table


BINDING = SelfSignature(T2022, "SHA-512", flags=KeyFlags.ENCRYPT)
CERTIFIED = SelfSignature(T2022, "SHA-512", flags=KeyFlags.CERTIFY | KeyFlags.SIGN)
CURVE = Algorithm("Curve25519", 256, signs=False, encrypts=True)
USER_ID = UserIdFacts("Alice <alice@example.org>", (CERTIFIED,))
SUBKEY = key("B", algorithm=CURVE, bindings=(BINDING,))
GOOD = CertificateFacts(4, key("A"), (USER_ID,), (SUBKEY,))
SIGNS = replace(BINDING, flags=KeyFlags.SIGN, created=T2023)
SIGNER = key("C", bindings=(replace(SIGNS, back_signature=SIGNS),), created=T2023)
HARD = Revocation(T2024, "SHA-512", RevocationKind.HARD)
MD5 = replace(CERTIFIED, hash_algorithm="MD5")
YEAR = timedelta(days=365)


def subkey(**changes: object) -> CertificateFacts:
    return replace(GOOD, subkeys=(replace(SUBKEY, **changes),))  # type: ignore[arg-type]  # a table


def certified(*signatures: SelfSignature, revocations: tuple[Revocation, ...] = ()) -> CertificateFacts:
    return replace(GOOD, user_ids=(replace(USER_ID, certifications=signatures, revocations=revocations),))


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (GOOD, None),
        (replace(GOOD, user_ids=()), Reason.BAD_BINDING),
        (replace(GOOD, version=6, user_ids=(), primary=key("A", bindings=(CERTIFIED,))), None),
        (certified(), Reason.BAD_BINDING),
        (certified(MD5), Reason.WEAK_ALGORITHM),
        (certified(MD5, CERTIFIED), None),
        (certified(CERTIFIED, revocations=(HARD,)), Reason.USER_ID_REVOKED),
        (certified(CERTIFIED, replace(CERTIFIED, created=T2025), revocations=(HARD,)), None),
        (certified(replace(CERTIFIED, expires=T2024)), Reason.EXPIRED),
        (certified(replace(CERTIFIED, created=NOW + YEAR)), Reason.NOT_YET_VALID),
        (certified(replace(CERTIFIED, created=T2022 - YEAR)), Reason.BAD_BINDING),
        (certified(replace(CERTIFIED, key_lifetime=YEAR)), Reason.EXPIRED),
        # gpg: a newer self-signature without a limit does not lift the limit of another user ID.
        (replace(GOOD, primary=key("A", bindings=(replace(CERTIFIED, key_lifetime=YEAR),))), Reason.EXPIRED),
        (replace(GOOD, primary=key("A", revocations=(HARD,))), Reason.REVOKED),
        (
            replace(GOOD, primary=key("A", algorithm=Algorithm("DSA", 1024, True, False))),
            Reason.WEAK_ALGORITHM,
        ),
        (replace(GOOD, primary=key("A", created=NOW + YEAR)), Reason.NOT_YET_VALID),
        (subkey(bindings=()), Reason.BAD_BINDING),
        (subkey(bindings=(replace(BINDING, hash_algorithm="RIPEMD-160"),)), Reason.WEAK_ALGORITHM),
        (subkey(bindings=(replace(BINDING, flags=KeyFlags.AUTHENTICATE),)), Reason.NO_CAPABLE_KEY),
        (subkey(bindings=(replace(BINDING, flags=None),)), None),
        (subkey(bindings=(replace(BINDING, key_lifetime=YEAR),)), Reason.SUBKEY_EXPIRED),
        (subkey(bindings=(replace(BINDING, key_lifetime=YEAR), replace(BINDING, created=T2023))), None),
        (subkey(revocations=(HARD,)), Reason.SUBKEY_REVOKED),
        (subkey(algorithm=Algorithm("ElGamal", 4096, False, True, supported=False)), Reason.UNSUPPORTED),
        (subkey(algorithm=Algorithm("curve 2a03", 0, False, True, supported=False)), Reason.UNSUPPORTED),
        (subkey(created=NOW + YEAR), Reason.NOT_YET_VALID),
    ],
)
def test_encryption_by_facts(facts: CertificateFacts, reason: Reason | None) -> None:
    judged = policy.usability(facts, Purpose.ENCRYPT, NOW)
    assert judged.reason is reason
    assert bool(judged.keys) == (reason is None)


WITH_SIGNER = replace(GOOD, subkeys=(SUBKEY, SIGNER))


@pytest.mark.parametrize(
    ("facts", "keys"),
    [
        (GOOD, ("A",)),
        (WITH_SIGNER, ("C", "A")),
        (replace(GOOD, subkeys=(replace(SIGNER, bindings=(SIGNS,)),)), ("A",)),
        (
            replace(
                GOOD,
                subkeys=(
                    replace(SIGNER, bindings=(replace(SIGNS, back_signature=replace(MD5, created=T2023)),)),
                ),
            ),
            ("A",),
        ),
        (certified(replace(CERTIFIED, flags=KeyFlags.CERTIFY)), ()),
    ],
)
def test_keys_that_sign(facts: CertificateFacts, keys: tuple[str, ...]) -> None:
    assert policy.usability(facts, Purpose.SIGN, NOW).keys == tuple(name * 40 for name in keys)


SIGNED = T2023 + timedelta(days=1)


@pytest.mark.parametrize(
    ("facts", "signer", "hash_algorithm", "created", "reason"),
    [
        (GOOD, "A", "SHA-512", SIGNED, None),
        (GOOD, "A", "SHA-1", SIGNED, Reason.WEAK_ALGORITHM),
        (GOOD, "A", "MD5", T2015, Reason.WEAK_ALGORITHM),
        (GOOD, "A", "SHA-256", None, Reason.NOT_YET_VALID),
        (GOOD, "A", "SHA-256", NOW + timedelta(days=1), Reason.NOT_YET_VALID),
        (GOOD, "A", "SHA-256", NOW + timedelta(minutes=5), None),
        (GOOD, "A", "SHA-256", T2015, Reason.NOT_YET_VALID),
        (GOOD, "B", "SHA-256", SIGNED, Reason.NO_CAPABLE_KEY),
        (GOOD, "D", "SHA-256", SIGNED, Reason.BAD_BINDING),
        (WITH_SIGNER, "C", "SHA-256", SIGNED, None),
        # Expired now, valid then.
        (certified(replace(CERTIFIED, key_lifetime=2 * YEAR)), "A", "SHA-256", SIGNED, None),
        (certified(replace(CERTIFIED, key_lifetime=2 * YEAR)), "A", "SHA-256", NOW, Reason.EXPIRED),
        # A revocation counts whenever it was made.
        (replace(GOOD, primary=key("A", revocations=(HARD,))), "A", "SHA-256", SIGNED, Reason.REVOKED),
        # Cut down to a self-signature that is newer than the message.
        (certified(replace(CERTIFIED, created=T2024)), "A", "SHA-256", SIGNED, None),
    ],
)
def test_signatures_by_facts(
    facts: CertificateFacts, signer: str, hash_algorithm: str, created: datetime | None, reason: Reason | None
) -> None:
    judged = policy.signature_usability(facts, Fingerprint(signer * 40), hash_algorithm, created, NOW)
    assert judged.reason is reason


def test_a_signature_that_has_expired_is_not_acceptable() -> None:
    judged = policy.signature_usability(GOOD, Fingerprint("A" * 40), "SHA-512", SIGNED, NOW, expires=T2024)
    assert judged == Usability((), Reason.EXPIRED, "the signature expired on 2024-03-01")


@pytest.mark.parametrize(
    ("user_id", "address"),
    [
        ("alice@example.org", "alice@example.org"),
        ("<Alice@Example.ORG>", "alice@example.org"),
        ('"A. L." <alice@example.org>', "alice@example.org"),
        ("alice@example.org <mallory@example.org>", "mallory@example.org"),
        ("<alice@example.org> <mallory@example.org>", None),
        ("alice@example.org (mallory@example.org)", None),
        ("Alice <alice@example.org> comment", None),
        ("Alice", None),
        ("alice@example.org, bob@example.org", None),
        ("", None),
        ("<ali\x1b[2Jce@example.org>", None),
        ("<alice@exam\N{ZERO WIDTH SPACE}ple.org>", None),
        ("<\N{RIGHT-TO-LEFT OVERRIDE}alice@example.org>", None),
    ],
)
def test_addresses_of_user_ids(user_id: str, address: str | None) -> None:
    assert policy.addresses([user_id]) == ((address,) if address else ())


def test_no_letter_becomes_an_ascii_one():
    """A certificate for a name that only looks like the bank's was kept as one for the bank."""
    assert policy.addresses(["Bank <alice@ban\N{KELVIN SIGN}.org>"]) == ("alice@ban\N{KELVIN SIGN}.org",)
    assert policy.addresses(["ÄRGER@Example.ORG"]) == ("ärger@example.org",)
