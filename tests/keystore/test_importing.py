"""Files of keys as people have them: each key gets an exact result, and the others are not harmed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import timedelta

import pytest

from keystore import openpgp
from keystore.errors import KeyRefused
from keystore.model import Holder, ImportAction, Purpose, Reason, Trust
from tests.fixtures.gnupg import GnuPG
from tests.fixtures.keystores import NOW

DAY = timedelta(days=1)
ADDED, UPDATED, UNCHANGED, REFUSED = ImportAction
TEXT = b"Meet me at the windmill.\r\n"


class Asked:
    """A person who answers, counted."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.times = 0

    def __call__(self) -> str:
        self.times += 1
        return self.answer


def make(address: str, **options) -> openpgp.SecretKey:
    return openpgp.generate(address, now=NOW - 30 * DAY, **options)


ALICE, BOB, CAROL = make("alice@example.org"), make("bob@example.org"), make("carol@example.org")


def public(*keys: openpgp.SecretKey) -> bytes:
    return b"".join(key.certificate_octets for key in keys)


def armored(*keys: openpgp.SecretKey) -> bytes:
    return b"\r\n".join(openpgp.armor(key.certificate_octets, "PUBLIC KEY BLOCK") for key in keys)


def take(keystore, octets: bytes, **options):
    options = {"source": "a test", "now": NOW, **options}
    return keystore.import_keys(octets, **options)


def actions(results) -> list[ImportAction]:
    return [result.action for result in results]


@pytest.mark.parametrize(
    "octets",
    [
        public(ALICE, BOB, CAROL),
        armored(ALICE, BOB, CAROL),
        openpgp.armor(public(ALICE, BOB, CAROL), "PUBLIC KEY BLOCK"),
        armored(ALICE, BOB, CAROL).replace(b"\r\n", b"\n"),
        b"Dear Bob,\n\nhere are the keys:\n"
        + armored(ALICE, BOB)
        + b"\nand\n\n"
        + armored(CAROL)
        + b"\nBye\n",
    ],
    ids=["binary", "armored one by one", "armored together", "LF", "text around"],
)
def test_several_keys_in_a_file(keystore, octets):
    results = take(keystore, octets)
    assert actions(results) == [ADDED] * 3
    assert [result.fingerprint for result in results] == [key.fingerprint for key in (ALICE, BOB, CAROL)]
    assert results[0].addresses == results[0].user_ids == ("alice@example.org",)
    assert not any(result.secret or result.reason for result in results)
    assert actions(take(keystore, octets)) == [UNCHANGED] * 3
    assert {one.source for one in keystore.certificates()} == {"a test"}


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"", "empty"),
        (b"   \r\n", "empty"),
        (b"no key at all", "neither an OpenPGP key"),
        (public(ALICE)[:-5], "neither an OpenPGP key"),
        (armored(ALICE)[:200], "damaged"),
        (openpgp.armor(b"\xc1\x01\x00", "MESSAGE"), "a PGP message"),
    ],
    ids=["empty", "blank", "text", "cut binary", "cut armor", "message"],
)
def test_no_key(keystore, octets, text):
    with pytest.raises(KeyRefused, match=text):
        take(keystore, octets)
    assert keystore.certificates() == []


def test_secret_keys_become_own(keystore):
    [result] = take(keystore, ALICE.to_octets())
    assert (result.action, result.secret) == (ADDED, True)
    certificate = keystore.certificate(ALICE.fingerprint)
    assert (certificate.holder, certificate.trust) == (Holder.OWN, Trust.VERIFIED)
    assert certificate.octets == ALICE.certificate_octets, "no secret octet in what is handed out"
    assert actions(take(keystore, ALICE.to_octets())) == [UNCHANGED]


def test_a_secret_key_for_a_known_certificate(keystore):
    take(keystore, public(ALICE))
    [result] = take(keystore, ALICE.to_octets())
    assert (result.action, result.secret) == (UPDATED, True)
    [again] = take(keystore, public(ALICE))
    assert (again.action, again.secret) == (UNCHANGED, True), "a certificate never takes the secret key away"
    assert keystore.certificate(ALICE.fingerprint).holder is Holder.OWN


def test_one_passphrase_for_a_file(keystore):
    octets = b"".join(
        [
            openpgp.protect(ALICE, "right"),
            openpgp.protect(BOB, "another"),
            CAROL.certificate_octets,
            openpgp.protect(make("dave@example.org"), "right"),
        ]
    )
    asked = Asked("right")
    results = take(keystore, octets, passphrase=asked)
    assert asked.times == 1
    assert actions(results) == [ADDED, REFUSED, ADDED, ADDED]
    assert [result.secret for result in results] == [True, False, False, True]
    assert results[1].fingerprint == BOB.fingerprint
    assert "wrong passphrase" in results[1].reason
    assert keystore.certificate(BOB.fingerprint) is None


def test_nobody_is_asked_without_need(keystore):
    asked = Asked("right")
    take(keystore, public(ALICE) + BOB.to_octets(), passphrase=asked)
    assert asked.times == 0
    [result] = take(keystore, openpgp.protect(CAROL, "right"), passphrase=None)
    assert "passphrase" in result.reason


def test_unlocked_keys_are_kept_unlocked(keystore):
    """The passphrase of the file is not asked for again: the keystore's own key wraps it."""
    take(keystore, openpgp.protect(ALICE, "right"), passphrase=Asked("right"))
    message = keystore.encrypt(TEXT, [ALICE.fingerprint], ALICE.fingerprint, NOW)
    assert keystore.decrypt(message, NOW).octets == TEXT


class TestMerging:
    def test_renewals_and_revocations(self, keystore, gnupg_home):
        gnupg = gnupg_home()
        fingerprint = gnupg.generate("Erin <erin@example.org>")
        first = gnupg.export(fingerprint)
        now = NOW + DAY
        take(keystore, first, now=now)
        gnupg.run("--quick-add-uid", fingerprint, "Erin <erin@work.example>")
        gnupg.run("--quick-set-expire", fingerprint, "1y")
        second = gnupg.export(fingerprint)
        [result] = take(keystore, second, now=now)
        assert result.action is UPDATED
        assert sorted(result.addresses) == ["erin@example.org", "erin@work.example"]
        assert keystore.select("erin@work.example", now).usable
        assert actions(take(keystore, first, now=now)) == [UNCHANGED], "an old copy takes nothing away"
        assert keystore.select("erin@work.example", now).usable
        gnupg.run("--quick-revoke-uid", fingerprint, "Erin <erin@work.example>")
        assert actions(take(keystore, gnupg.export(fingerprint), now=now)) == [UPDATED]
        assert not keystore.select("erin@work.example", now).usable
        assert keystore.select("erin@example.org", now).usable
        assert actions(take(keystore, second, now=now)) == [UNCHANGED]
        assert not keystore.select("erin@work.example", now).usable

    def test_a_key_with_fewer_secrets_takes_none_away(self, keystore, gnupg_home):
        gnupg = gnupg_home()
        fingerprint = gnupg.generate("alice@example.org")
        whole = gnupg.export_secret(fingerprint)
        message = gnupg.run("--encrypt", "-r", fingerprint, data=TEXT).stdout
        subkeys_only = gnupg.run("--armor", "--export-secret-subkeys", fingerprint).stdout
        for order in ([whole, subkeys_only], [subkeys_only, whole]):
            for octets in order:
                [result] = take(keystore, octets, now=NOW + DAY)
                assert result.action is not REFUSED
            assert keystore.decrypt(message, NOW + DAY).octets == TEXT
            signed = keystore.sign(TEXT, fingerprint, NOW + DAY)
            assert keystore.verify(TEXT, signed.armored, NOW + DAY)
            keystore.delete(fingerprint)

    def test_subkeys_alone(self, keystore, gnupg_home):
        """A laptop's key: the primary secret stays offline; decrypting works, signing cannot."""
        gnupg = gnupg_home()
        fingerprint = gnupg.generate("alice@example.org")
        message = gnupg.run("--encrypt", "-r", fingerprint, data=TEXT).stdout
        [result] = take(keystore, gnupg.run("--export-secret-subkeys", fingerprint).stdout, now=NOW + DAY)
        assert (result.action, result.secret) == (ADDED, True)
        assert keystore.decrypt(message, NOW + DAY).octets == TEXT
        with pytest.raises(KeyRefused, match="secret signing key is not here"):
            keystore.sign(TEXT, fingerprint, NOW + DAY)


class TestTrust:
    @pytest.mark.parametrize("level", list(Trust))
    def test_given(self, keystore, level):
        take(keystore, public(ALICE), trust=level)
        assert keystore.certificate(ALICE.fingerprint).trust is level

    def test_what_the_owner_decided_stays(self, keystore):
        take(keystore, public(ALICE))
        keystore.set_trust(ALICE.fingerprint, Trust.REJECTED)
        assert actions(take(keystore, public(ALICE))) == [UNCHANGED]
        take(keystore, ALICE.to_octets())
        assert keystore.certificate(ALICE.fingerprint).trust is Trust.REJECTED
        assert actions(take(keystore, public(ALICE), trust=Trust.KNOWN)) == [UPDATED]
        assert keystore.certificate(ALICE.fingerprint).trust is Trust.KNOWN


class TestNotForEncryption:
    def test_expired(self, keystore):
        key = make("alice@example.org", expires=10 * DAY)
        [result] = take(keystore, public(key))
        assert result.action is ADDED
        assert result.reason.startswith("kept, but not for encryption: expired")
        with pytest.raises(KeyRefused, match="expired"):
            keystore.encrypt(TEXT, [key.fingerprint], None, NOW)

    def test_no_encryption_subkey(self, keystore, gnupg_home):
        gnupg = gnupg_home()
        gnupg.run("--quick-generate-key", "signer@example.org", "ed25519", "sign,cert", "never")
        [result] = take(keystore, gnupg.export("signer@example.org"), now=NOW + DAY)
        assert (result.action, result.reason) == (
            ADDED,
            "kept, but not for encryption: no key for this purpose",
        )
        signature = gnupg.run("--detach-sign", data=TEXT).stdout
        [judged] = keystore.verify(TEXT, signature, NOW + DAY)
        assert judged.addresses == ("signer@example.org",)
        assert keystore.select("signer@example.org", NOW + DAY).reason is Reason.NO_CAPABLE_KEY

    def test_what_the_engine_cannot_encrypt_to(self, keystore):
        """A well-bound subkey that nobody can encrypt to: policy finds no fault, the trial does."""
        key = _with_broken_encryption_key()
        [result] = take(keystore, key)
        assert result.reason.startswith("kept, but not for encryption: a trial encryption failed")
        usability = keystore.usability(result.fingerprint, Purpose.ENCRYPT, NOW)
        assert (usability.usable, usability.reason) == (False, Reason.ENGINE_REFUSES)
        assert not keystore.select("alice@example.org", NOW).usable

    def test_nothing_bound(self, keystore):
        packets = list(openpgp.packet.packets(public(ALICE)))
        unbound = b"".join(one.octets for one in packets if one.tag != openpgp.packet.Tag.SIGNATURE)
        [result] = take(keystore, unbound)
        assert (result.action, result.fingerprint) == (REFUSED, ALICE.fingerprint)
        assert "self-signature" in result.reason
        take(keystore, public(ALICE))
        assert actions(take(keystore, unbound)) == [UNCHANGED]
        assert keystore.select("alice@example.org", NOW).usable


def _with_broken_encryption_key() -> bytes:
    """A certificate made as `generate` makes it, whose encryption key names a cipher that does not exist."""
    making = importlib.import_module("keystore.openpgp.halves")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "_KDF", bytes([3, 1, 8, 200]))
        return openpgp.generate("alice@example.org", now=NOW - DAY).certificate_octets


def test_a_verified_certificate_that_claims_one_more_address_is_verified_no_longer(
    keystore, gnupg_home: Callable[..., GnuPG]
) -> None:
    mallory = gnupg_home()
    fingerprint = mallory.generate("mallory@example.org")
    take(keystore, mallory.export(fingerprint), now=None)
    keystore.set_trust(fingerprint, Trust.VERIFIED)
    [same] = take(keystore, mallory.export(fingerprint), now=None)
    assert same.action is UNCHANGED
    mallory.run("--quick-add-uid", fingerprint, "Alice <alice@example.org>")
    [result] = take(keystore, mallory.export(fingerprint), now=None)
    assert result.action is UPDATED
    assert "alice@example.org" in result.reason
    assert keystore.certificate(fingerprint).trust is Trust.KNOWN
    # The owner may say so again.
    keystore.set_trust(fingerprint, Trust.VERIFIED)
    [again] = take(keystore, mallory.export(fingerprint), now=None)
    assert again.action is UNCHANGED
    assert keystore.certificate(fingerprint).trust is Trust.VERIFIED


class TestRivals:
    """Anybody can write somebody else's address into a certificate, and the date of today."""

    def test_a_certificate_in_use_stays_in_use(self, keystore):
        take(keystore, public(BOB))
        later = openpgp.generate("Bob@example.org", now=NOW - DAY)
        [result] = take(keystore, public(later))
        assert result.action is ADDED
        assert result.reason.startswith(f"not used for bob@example.org, which has {BOB.fingerprint}")
        assert "key settle bob@example.org" in result.reason
        assert keystore.certificate(later.fingerprint).trust is Trust.UNKNOWN
        assert keystore.select("bob@example.org", NOW).certificates[0].fingerprint == BOB.fingerprint
        assert actions(take(keystore, public(later))) == [UNCHANGED]
        keystore.set_trust(later.fingerprint, Trust.VERIFIED)
        assert keystore.select("bob@example.org", NOW).certificates[0].fingerprint == later.fingerprint

    def test_what_the_owner_decides_counts(self, keystore):
        take(keystore, public(BOB))
        later = openpgp.generate("bob@example.org", now=NOW - DAY)
        [result] = take(keystore, public(later), trust=Trust.KNOWN)
        assert result.reason == ""
        selection = keystore.select("bob@example.org", NOW)
        assert selection.certificates[0].fingerprint == later.fingerprint
        assert BOB.fingerprint in selection.explanation

    def test_one_that_has_ended_is_not_replaced_silently(self, keystore):
        """Neither one is encrypted to until the owner has looked."""
        take(keystore, public(openpgp.generate("bob@example.org", now=NOW - 30 * DAY, expires=10 * DAY)))
        [result] = take(keystore, public(BOB))
        assert "key settle bob@example.org" in result.reason
        selection = keystore.select("bob@example.org", NOW)
        assert (selection.certificates, selection.reason) == ((), Reason.HELD)
        keystore.settling.take("Bob@example.org", BOB.fingerprint, NOW)
        assert keystore.certificate(BOB.fingerprint).trust is Trust.KNOWN
        assert keystore.select("bob@example.org", NOW).certificates[0].fingerprint == BOB.fingerprint

    def test_several_of_one_person_in_one_file_are_no_rivals(self, keystore):
        later = openpgp.generate("bob@example.org", now=NOW - DAY)
        assert [one.reason for one in take(keystore, public(BOB, later))] == ["", ""]
        assert keystore.select("bob@example.org", NOW).certificates[0].fingerprint == later.fingerprint

    def test_an_address_that_is_added_to_a_known_certificate(self, keystore, gnupg_home):
        gnupg = gnupg_home()
        mallory = gnupg.generate("mallory@evil.example")
        now = NOW + DAY
        take(keystore, gnupg.export(mallory), now=now)
        take(keystore, public(BOB), now=now)
        gnupg.run("--quick-add-uid", mallory, "bob@example.org")
        [result] = take(keystore, gnupg.export(mallory), now=now)
        assert "not used for bob@example.org" in result.reason
        assert keystore.select("bob@example.org", now).certificates[0].fingerprint == BOB.fingerprint
        assert keystore.select("mallory@evil.example", now).usable


def test_many_certificates_share_transactions_and_none_waits_for_a_passphrase(keystore, monkeypatch):
    """Each transaction waits for the disk; while somebody types, no other process may have to wait."""
    own = make("dave@example.org")
    octets = public(ALICE, BOB) + openpgp.protect(own, "secret") + public(CAROL)
    open_while_asked: list[bool] = []
    begun: list[float] = []
    begin = type(keystore._store.database)._begin

    def ask() -> str:
        open_while_asked.append(keystore._store.database._connection.in_transaction)
        return "secret"

    def counting(self, patience: float) -> None:
        begun.append(patience)
        begin(self, patience)

    keystore.unlock()
    monkeypatch.setattr(type(keystore._store.database), "_begin", counting)
    assert actions(take(keystore, octets, passphrase=ask)) == [ADDED] * 4
    assert open_while_asked == [False]
    assert len(begun) == 3
