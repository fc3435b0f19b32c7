"""The life of own keys in a keystore: nothing is lost, whatever is interrupted; old mail stays readable."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from keystore import openpgp
from keystore.errors import KeyRefused, KeystoreError
from keystore.keystore import DATABASE, Keystore
from keystore.model import Certificate, Fingerprint, Holder, Purpose, Reason, Trust
from keystore.ownkeys import OVERLAP, OwnKeys
from keystore.revocationfiles import FOLDER
from tests.fixtures.gnupg import GnuPG
from tests.fixtures.keystores import NOW, KeystoreFactory

DAY = timedelta(days=1)
THEN = NOW - 60 * DAY
ALICE, WORK = "alice@example.org", "work@example.com"


def mail_to(keystore: Keystore, fingerprint: Fingerprint, text: bytes = b"text") -> bytes:
    return keystore.encrypt(text, [fingerprint], None, NOW + timedelta(seconds=5))


def in_use(keystore: Keystore, fingerprint: Fingerprint) -> str:
    return keystore.usability(fingerprint, Purpose.ENCRYPT, NOW + timedelta(seconds=5)).keys[0]


def rotate(keys: OwnKeys, fingerprint: Fingerprint) -> Certificate:
    return keys.rotate(fingerprint, NOW)


def extend(keys: OwnKeys, fingerprint: Fingerprint) -> Certificate:
    return keys.extend(fingerprint, NOW + 900 * DAY, NOW)


def add(keys: OwnKeys, fingerprint: Fingerprint) -> Certificate:
    return keys.add_user_id(fingerprint, WORK, "Alice", NOW)


def remove(keys: OwnKeys, fingerprint: Fingerprint) -> Certificate:
    return keys.remove_user_id(fingerprint, "second@example.org", NOW)


def revoke(keys: OwnKeys, fingerprint: Fingerprint) -> Certificate:
    return keys.revoke(fingerprint, "superseded", NOW)


DEEDS = [rotate, extend, add, remove, revoke]


@pytest.fixture
def alice(keystore: Keystore) -> Fingerprint:
    """An own key with two addresses, to which mail was sent."""
    made = keystore.generate(ALICE, now=THEN, expires=90 * DAY).fingerprint
    keystore.own_keys.add_user_id(made, "second@example.org", "", THEN)
    return made


def test_old_and_new_mail_is_read_after_a_rotation_by_another_process_too(
    make_keystore: KeystoreFactory, keystore: Keystore, alice: Fingerprint
) -> None:
    """The subkey in use is another one, in the Autocrypt form of the certificate as well."""
    other = make_keystore()
    before, old = in_use(keystore, alice), mail_to(keystore, alice)
    assert other.decrypt(old, NOW).octets == b"text"
    changed = keystore.own_keys.rotate(alice, NOW)
    after, new = in_use(keystore, alice), mail_to(keystore, alice)
    assert before != after
    assert (changed.holder, changed.trust, changed.expires) == (Holder.OWN, Trust.VERIFIED, THEN + 90 * DAY)
    for opener in (keystore, other, make_keystore()):
        assert [opener.decrypt(one, NOW).octets for one in (old, new)] == [b"text", b"text"]
    cut = keystore.exports.minimal(alice, ALICE, NOW + timedelta(seconds=5))
    assert cut is not None
    assert openpgp.key_fingerprints(cut) == (alice, after)
    late = keystore.usability(alice, Purpose.ENCRYPT, NOW + min(OVERLAP, 29 * DAY))
    assert late.keys == (after, before)


def test_what_is_exported_after_changes_is_the_whole_key(keystore: Keystore, alice: Fingerprint) -> None:
    """With every secret half that it ever had."""
    sent = [mail_to(keystore, alice)]
    for _ in range(2):
        keystore.own_keys.rotate(alice, NOW)
        sent.append(mail_to(keystore, alice))
    [parsed] = openpgp.parse_keys(keystore.export(alice, secret=True))
    assert parsed.secret_octets is not None
    whole = openpgp.unlock(parsed.secret_octets, None)
    assert len(whole.secret_fingerprints) == 4
    assert {openpgp.open_message(one, [whole], lambda issuer: [], NOW).octets for one in sent} == {b"text"}


def test_addresses_come_and_go(keystore: Keystore, alice: Fingerprint) -> None:
    """Several identities of one key; what was taken away finds no key any more."""
    keystore.own_keys.add_user_id(alice, WORK, "Alice", NOW)
    later = NOW + timedelta(seconds=5)
    for address in (ALICE, WORK):
        identity = keystore.identity(address, later)
        assert identity is not None
        assert identity.certificate.fingerprint == alice
    keystore.own_keys.remove_user_id(alice, f"Alice <{WORK}>", NOW)
    assert keystore.identity(WORK, later) is None
    assert keystore.select(WORK, later).usable is False
    assert keystore.identity(ALICE, later) is not None


def test_a_revoked_key_is_used_for_nothing_but_reading(keystore: Keystore, alice: Fingerprint) -> None:
    """The next key of the address takes its place."""
    old = mail_to(keystore, alice)
    keystore.own_keys.revoke(alice, "compromised", NOW)
    assert keystore.identity(ALICE, NOW) is None
    told = keystore.unusable_own(ALICE, NOW)
    assert told is not None
    assert told[1].reason is Reason.REVOKED
    assert "compromised" in told[1].detail
    assert keystore.decrypt(old, NOW).octets == b"text"
    new = keystore.generate(ALICE, now=NOW - DAY)
    identity = keystore.identity(ALICE, NOW)
    assert identity is not None
    assert identity.certificate.fingerprint == new.fingerprint
    assert keystore.decrypt(old, NOW).octets == b"text"


TRIGGERS = {
    "certificates": "BEFORE UPDATE ON certificates",
    "addresses": "BEFORE INSERT ON addresses",
    "keys": "BEFORE INSERT ON keys",
    "secret_keys": "BEFORE UPDATE ON secret_keys",
}


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("table", TRIGGERS)
def test_a_change_that_fails_on_the_way_leaves_the_key_as_it_was(
    keystore: Keystore,
    make_keystore: KeystoreFactory,
    alice: Fingerprint,
    tmp_path: Path,
    deed: Callable[[OwnKeys, Fingerprint], Certificate],
    table: str,
) -> None:
    """The database refuses one of the writes of a change, as it does when the disk is full."""
    sent, before = mail_to(keystore, alice), keystore.export(alice, secret=True)
    with closing(sqlite3.connect(tmp_path / "keystore" / DATABASE)) as database:
        database.execute(f"CREATE TRIGGER full {TRIGGERS[table]} BEGIN SELECT RAISE(FAIL, 'full'); END")
    if table == "secret_keys" and deed is not rotate:
        deed(keystore.own_keys, alice)  # writes no secret half at all
        return
    with pytest.raises(KeystoreError):
        deed(keystore.own_keys, alice)
    for opener in (keystore, make_keystore()):
        assert opener.export(alice, secret=True) == before
        assert opener.decrypt(sent, NOW).octets == b"text"
    with closing(sqlite3.connect(tmp_path / "keystore" / DATABASE)) as database:
        database.execute("DROP TRIGGER full")
    deed(keystore.own_keys, alice)
    assert make_keystore().decrypt(sent, NOW).octets == b"text"


WRITES = ("INSERT INTO certificates", "INSERT INTO keys", "INSERT INTO secret_keys", "COMMIT")


@pytest.mark.parametrize("write", WRITES)
def test_a_process_that_is_killed_in_a_rotation_loses_nothing(
    make_keystore: KeystoreFactory, write: str
) -> None:
    """It dies when it has begun with this statement, without any farewell; the database is opened anew."""
    keystore = make_keystore()
    alice = keystore.generate(ALICE, now=THEN).fingerprint
    sent = mail_to(keystore, alice)
    keystore.close()
    child = os.fork()
    if not child:
        try:
            dying = make_keystore()
            dying._store.database._connection.set_trace_callback(
                lambda statement: os.kill(os.getpid(), signal.SIGKILL) if write in statement else None
            )
            dying.own_keys.rotate(alice, NOW)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    again = make_keystore()
    assert again.decrypt(sent, NOW).octets == b"text"
    again.own_keys.rotate(alice, NOW)
    assert [again.decrypt(one, NOW).octets for one in (sent, mail_to(again, alice))] == [b"text", b"text"]


class TestRevocationCertificates:
    """Made at birth and kept apart."""

    def test_it_is_there_before_the_key_and_private(
        self, keystore: Keystore, tmp_path: Path, gnupg_home: Callable[..., GnuPG]
    ) -> None:
        made = keystore.generate(ALICE, name="Alice", now=THEN)
        path = tmp_path / "keystore" / FOLDER / f"{made.fingerprint}.asc"
        assert keystore.own_keys.revocation_file(made.fingerprint, NOW) == path
        assert [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent)] == [0o600, 0o700]
        text = path.read_text()
        assert f"Alice <{ALICE}>" in text
        assert "\n:-----BEGIN PGP PUBLIC KEY BLOCK-----\n" in text
        octets = (tmp_path / "keystore" / DATABASE).read_bytes()
        assert path.read_text().splitlines()[-2].encode() not in octets

    def test_it_ends_the_key_of_a_locked_or_lost_keystore(
        self, keystore: Keystore, make_keystore: KeystoreFactory, credentials: Path
    ) -> None:
        """Without any secret, and a correspondent's in the same way."""
        made = keystore.generate(ALICE, now=THEN)
        file = keystore.own_keys.revocation_file(made.fingerprint, NOW).read_bytes()
        for one in credentials.iterdir():
            one.unlink()
        locked, other = make_keystore(), make_keystore("other")
        other.import_keys(openpgp.armor(made.octets, "PUBLIC KEY BLOCK"), source="test")
        for one in (locked, other):
            one.own_keys.revoke_by(made.fingerprint, file, NOW)
            assert one.usability(made.fingerprint, Purpose.ENCRYPT, NOW).reason is Reason.REVOKED

    def test_one_is_made_for_a_key_that_came_from_elsewhere(self, keystore: Keystore) -> None:
        key = openpgp.generate(ALICE, now=THEN)
        keystore.import_keys(key.to_octets(), source="test")
        path = keystore.own_keys.revocation_file(key.fingerprint, NOW)
        made = path.read_bytes()
        assert keystore.own_keys.revocation_file(key.fingerprint, NOW).read_bytes() == made
        keystore.own_keys.revoke_by(key.fingerprint, made, NOW)
        assert keystore.identity(ALICE, NOW) is None

    def test_no_key_is_born_without_it(self, keystore: Keystore, tmp_path: Path) -> None:
        (tmp_path / "keystore" / FOLDER).write_text("in the way")
        with pytest.raises(KeystoreError, match="revocation certificate, cannot be written"):
            keystore.generate(ALICE, now=THEN)
        assert keystore.certificates() == []


@pytest.mark.parametrize("deed", DEEDS)
def test_whose_secret_half_is_not_here_is_told_what_to_do(
    keystore: Keystore, gnupg_home: Callable[..., GnuPG], deed: Callable[[OwnKeys, Fingerprint], object]
) -> None:
    """A correspondent's certificate; S/MIME is in the test of requests."""
    stranger = openpgp.generate("bob@example.org", now=THEN)
    keystore.import_keys(stranger.certificate_octets, source="test")
    with pytest.raises(KeyRefused, match="no secret key for"):
        deed(keystore.own_keys, stranger.fingerprint)
    with pytest.raises(KeyRefused, match="no certificate"):
        deed(keystore.own_keys, Fingerprint("0" * 40))


def test_a_key_that_gnupg_holds_is_changed_by_gnupg(
    make_keystore: KeystoreFactory, gnupg_home: Callable[..., GnuPG]
) -> None:
    """The refusal names the command of gpg, and what was changed comes back by an import."""
    gnupg = gnupg_home()
    fingerprint = Fingerprint(gnupg.generate(ALICE))
    keystore = make_keystore(gnupg_home=gnupg.home)
    keystore.holders.take_from_gnupg(secret=True)
    for deed, words in ((rotate, "quick-add-key"), (extend, "quick-set-expire"), (add, "quick-add-uid")):
        with pytest.raises(KeyRefused, match=words):
            deed(keystore.own_keys, fingerprint)
    gnupg.run("--quick-add-key", fingerprint, "cv25519", "encr", "never")
    keystore.holders.take_from_gnupg(fingerprint)
    assert len(openpgp.key_fingerprints(keystore.certificates()[0].octets)) == 3
