"""Backups of keystores: onto a clean machine, beside what is there, from former versions, and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509

from keystore import openpgp
from keystore.autocrypt import Heard
from keystore.backup import Contents, Table
from keystore.errors import KeystoreError, StoreDamaged, StoreLocked
from keystore.keystore import Keystore, KeystoreSettings
from keystore.model import Fingerprint, Holder, Scheme, Trust
from keystore.peers import PeerSeen
from keystore.restoring import LEFT_OUT, layout
from keystore.schema import MIGRATIONS
from keystore.secretsfile import FileSecrets
from keystore.vault import KEY_NAME
from tests.fixtures.keystores import NOW
from tests.fixtures.quicksecrets import quick_secrets
from tests.fixtures.x509 import addresses, own, root
from tests.fixtures.x509 import name as distinguished

ALICE, BOB = "alice@example.org", "bob@example.org"
DAY = timedelta(days=1)
Machine = Callable[[str], Keystore]
ROOT = root("Restoring Root", number=810)
TEXT = b"Meet me at the windmill.\r\n"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """The keystore of a machine, with secrets of its own; the same name is the same machine."""
    with ExitStack() as stack:

        def make(name: str) -> Keystore:
            secrets = tmp_path / name / "secrets.json"
            if not secrets.exists():
                quick_secrets(secrets, "x")
            settings = KeystoreSettings(tmp_path / name / "keystore")
            opened = Keystore.open(settings, FileSecrets(secrets, lambda: "x"))
            return stack.enter_context(closing(opened))

        yield make


def certificate(address: str) -> bytes:
    return openpgp.generate(address, now=NOW - 9 * DAY).certificate_octets


@pytest.fixture
def old(machine: Machine) -> Keystore:
    """With two own keys, one of them S/MIME, and two certificates of others."""
    keystore = machine("old")
    keystore.generate(ALICE, now=NOW - 9 * DAY)
    own(keystore, ROOT.person(ALICE, number=811))
    for address, trust in ((BOB, Trust.KNOWN), ("eve@example.net", Trust.REJECTED)):
        keystore.import_keys(certificate(address), source=f"file {address}", trust=trust, now=NOW - 5 * DAY)
    keystore.autocrypt.hear(Heard("carol@example.org", NOW, certificate("carol@example.org")), NOW)
    keystore.peers.seen(PeerSeen(BOB, NOW))
    keystore.import_keys(certificate(BOB), source="another file", now=NOW - 4 * DAY)
    (smime,) = keystore.own(ALICE, Scheme.SMIME)
    keystore._store.put_stated(smime.fingerprint, b"what its owner's program reads", NOW)
    (bob,) = keystore.select(BOB, NOW).certificates
    keystore.introducers.add(bob, ("example.org",), NOW)
    return keystore


def everything(keystore: Keystore) -> dict[str, list[tuple[object, ...]]]:
    """All tables; of wrapped keys what is inside."""
    keystore.unlock()
    tables = {
        name: sorted(keystore._store.rows(f"SELECT {', '.join(columns)} FROM {name}"), key=repr)
        for name, columns in layout(MIGRATIONS).items()
        if name not in {"secret_keys", "x509", "x509_names", "lookups", "revocations", "changes"}
    }
    # Made anew, where it is needed.
    at = layout(MIGRATIONS)["certificates"].index("indexed")
    tables["certificates"] = [row[:at] + row[at + 1 :] for row in tables["certificates"]]
    keys = [
        (one.fingerprint, one.holder.value, keystore._vault._open(one).to_octets() if one.wrapped else b"")
        for one in keystore._store.secrets()
    ]
    return {**tables, "secret_keys": sorted(keys)}


def test_a_clean_machine_has_everything_and_reads_what_was_sealed(old: Keystore, machine: Machine) -> None:
    sealed, letter = old.seal(TEXT, b"context"), old.letterbox().slot.put(TEXT, b"context")
    new = machine("new")
    restored = new.backups.restore(old.backups.contents(NOW), NOW)
    assert everything(new) == everything(old)
    assert (restored.same_key, len(restored.own), restored.held, restored.elsewhere) == (True, 2, (), ())
    assert restored.certificates == restored.added == len(old.certificates())
    assert new.unseal(sealed, b"context") == new.letterbox().open(letter, b"context") == TEXT
    again = machine("new")
    assert again.backups.restore(old.backups.contents(NOW), NOW).added == 0
    assert everything(again) == everything(old)


def test_every_table_is_in_a_backup(old: Keystore) -> None:
    """A new table is either kept, or said to be left out and why."""
    contents = old.backups.contents(NOW)
    assert contents.tables.keys() | LEFT_OUT == layout(MIGRATIONS).keys()
    assert not contents.tables.keys() & LEFT_OUT
    assert {name: table.columns for name, table in contents.tables.items()} == {
        name: columns for name, columns in layout(MIGRATIONS).items() if name not in LEFT_OUT
    }


def test_revocation_certificates_come_along(old: Keystore, machine: Machine, tmp_path: Path) -> None:
    (own_key,) = (one.fingerprint for one in old.own(ALICE) if len(one.fingerprint) == 40)
    path = old.own_keys.files.keep(own_key, b"-----BEGIN PGP PUBLIC KEY BLOCK-----\r\n", ALICE)
    contents = old.backups.contents(NOW)
    strange = {"../../evil.asc": b"x", "revocation-certificates/../../evil.asc": b"x", "config.toml": b"x"}
    machine("new").backups.restore(replace(contents, files={**contents.files, **strange}), NOW)
    there = tmp_path / "new" / "keystore" / "revocation-certificates" / path.name
    assert there.read_bytes() == path.read_bytes()
    assert there.stat().st_mode & 0o777 == 0o600
    assert not list(tmp_path.rglob("evil*")) + list((tmp_path / "new").rglob("config.toml"))


@pytest.mark.parametrize("is_new", [True, False])
def test_a_key_that_waits_for_its_certificate_comes_along(
    old: Keystore, machine: Machine, is_new: bool
) -> None:
    """Also under a keystore key of another machine, and as often as it is restored."""
    made = old.requests.make(["work@example.com"], "", "p256", NOW)
    new = machine("new")
    if not is_new:
        new.generate(BOB, now=NOW - DAY)
    for _ in range(2):
        new.backups.restore(old.backups.contents(NOW), NOW)
    assert new.requests.all() == [made]
    request = x509.load_pem_x509_csr(made.pem)
    issued = ROOT.issue(
        distinguished("Alice"),
        SimpleNamespace(public_key=request.public_key),
        addresses("work@example.com"),
    )
    [result] = new.import_keys(issued.der, source="test")
    assert (result.secret, new.requests.all()) == (True, [])


def test_beside_another_keystore_nothing_is_lost_or_replaced(old: Keystore, machine: Machine) -> None:
    """After `setup` on the new machine, which has made a key: both keys read their mail."""
    new = machine("new")
    mine = new.generate(ALICE, now=NOW - DAY)
    other = openpgp.generate(BOB, now=NOW - DAY)
    new.import_keys(other.certificate_octets, source="file", now=NOW - DAY)
    (theirs,) = old.select(BOB, NOW).certificates
    (earlier,) = (one for one in old.own(ALICE) if len(one.fingerprint) == 40)
    to_both = [
        old.encrypt(TEXT, [earlier.fingerprint], None, NOW),
        new.encrypt(TEXT, [mine.fingerprint], None, NOW),
    ]
    restored = new.backups.restore(old.backups.contents(NOW), NOW)
    assert not restored.same_key
    assert [new.decrypt(one, NOW).octets for one in to_both] == [TEXT, TEXT]
    # A known correspondent is never changed silently, not by a backup either.
    assert [one.fingerprint for one in new.select(BOB, NOW).certificates] == [other.fingerprint]
    assert len(restored.held) == 2
    assert theirs.fingerprint in restored.held
    assert new.trust(Fingerprint(other.fingerprint)) is Trust.KNOWN
    (rejected,) = new.certificates("eve@example.net")
    assert rejected.trust is Trust.REJECTED


def test_an_old_backup_makes_nobody_an_introducer_again(machine: Machine) -> None:
    keystore = machine("one")
    keystore.import_keys(certificate(BOB), source="file", now=NOW)
    (known,) = keystore.certificates()
    keystore.introducers.add(known, (), NOW)
    contents = keystore.backups.contents(NOW)
    keystore.introducers.remove(known.fingerprint)
    keystore.backups.restore(contents, NOW)
    assert keystore.introducers.all() == []


def test_versions_of_one_key_are_united(old: Keystore, machine: Machine) -> None:
    """The new machine has the key with a newer subkey, the backup one of before, or the other way round."""
    (key,) = (one.fingerprint for one in old.own(ALICE) if len(one.fingerprint) == 40)
    before = old.backups.contents(NOW)
    to_old = old.encrypt(TEXT, [key], None, NOW)
    old.own_keys.rotate(key, NOW)
    after = old.backups.contents(NOW)
    to_new = old.encrypt(TEXT, [key], None, NOW + DAY)
    for name, order in (("first", (before, after)), ("second", (after, before))):
        new = machine(name)
        for contents in order:
            new.backups.restore(contents, NOW)
        assert [new.decrypt(one, NOW + DAY).octets for one in (to_old, to_new)] == [TEXT, TEXT]


def test_what_was_only_a_certificate_becomes_an_own_key(old: Keystore, machine: Machine) -> None:
    (key,) = (one for one in old.own(ALICE) if len(one.fingerprint) == 40)
    new = machine("new")
    new.import_keys(key.octets, source="file", now=NOW)
    new.backups.restore(old.backups.contents(NOW), NOW)
    found = new.certificate(key.fingerprint)
    assert found is not None
    assert (found.holder, found.trust) == (Holder.OWN, Trust.VERIFIED)


def test_a_keystore_key_that_was_lost_comes_back(old: Keystore, machine: Machine, tmp_path: Path) -> None:
    """The database is whole, and the keyring is not."""
    contents, before = old.backups.contents(NOW), everything(old)
    old.close()
    (tmp_path / "old" / "secrets.json").unlink()
    quick_secrets(tmp_path / "old" / "secrets.json", "x")
    same = machine("old")
    with pytest.raises(StoreLocked):
        same.unlock()
    same.backups.restore(contents, NOW)
    assert everything(same) == before


def test_what_does_not_fit_changes_nothing(old: Keystore, machine: Machine) -> None:
    contents, new = old.backups.contents(NOW), machine("new")
    new.generate(ALICE, now=NOW - DAY)
    before = everything(new)
    wrong = "AAAA" * 10 + "AAA="
    for broken, error in (
        (replace(contents, schema=len(MIGRATIONS) + 1), KeystoreError),
        (replace(contents, schema=0), KeystoreError),
        (replace(contents, secrets={}), StoreDamaged),
        (replace(contents, secrets={KEY_NAME: wrong}), StoreDamaged),
        (replace(contents, tables={**contents.tables, "more": Table(("x",), ())}), StoreDamaged),
    ):
        with pytest.raises(error):
            new.backups.restore(broken, NOW)
        assert everything(new) == before


def test_a_backup_of_the_first_version_is_read(machine: Machine) -> None:
    """Tables of then become those of today."""
    then, day = layout(MIGRATIONS[:1]), "2026-01-02T03:04:05+00:00"
    made = openpgp.generate(BOB, now=NOW - 9 * DAY)
    rows = {
        "certificates": (made.fingerprint, made.certificate_octets, "known", "file", day),
        "addresses": (BOB, made.fingerprint),
        "peers": (BOB, day, None, None),
    }
    tables = {name: Table(columns, (rows[name],) if name in rows else ()) for name, columns in then.items()}
    key = machine("other").hand_over().value
    new = machine("new")
    new.backups.restore(Contents(NOW, 1, tables, {KEY_NAME: key}), NOW)
    (found,) = new.select(BOB, NOW).certificates
    assert found.fingerprint == made.fingerprint


@pytest.mark.parametrize("settled", [False, True])
def test_who_is_in_use_here_stays_so_though_held_there(machine: Machine, settled: bool) -> None:
    """Two machines have met the two certificates of one address in another order."""
    first, second = certificate(BOB), certificate(BOB)
    old, new = machine("old"), machine("new")
    for keystore, order in ((old, (first, second)), (new, (second,))):
        for one in order:
            keystore.import_keys(one, source="file", now=NOW - DAY)
    if settled:
        old.settling.keep(BOB, NOW)
    (used,) = new.select(BOB, NOW).certificates
    restored = new.backups.restore(old.backups.contents(NOW), NOW)
    assert new.select(BOB, NOW).certificates == (used,)
    assert restored.held == (openpgp.certificate(first).fingerprint,)


def test_a_verified_certificate_is_not_replaced_by_a_newer_verified_one(machine: Machine) -> None:
    old, new = machine("old"), machine("new")
    for keystore, age in ((new, 9), (old, 5)):
        made = openpgp.generate(BOB, now=NOW - age * DAY)
        keystore.import_keys(made.certificate_octets, source="file", trust=Trust.VERIFIED, now=NOW - DAY)
    (used,) = new.select(BOB, NOW).certificates
    restored = new.backups.restore(old.backups.contents(NOW), NOW)
    assert new.select(BOB, NOW).certificates == (used,)
    assert len(restored.held) == 1


def test_an_address_that_a_certificate_got_later_takes_nobody_s_place(machine: Machine) -> None:
    """Whoever was verified under one address may write any other into their certificate."""
    eve = openpgp.generate("eve@example.org", now=NOW - 9 * DAY)
    claiming = openpgp.with_user_id(eve, BOB, NOW - DAY)
    old, new = machine("old"), machine("new")
    old.import_keys(claiming.certificate_octets, source="file", now=NOW - DAY)
    new.import_keys(certificate(BOB), source="file", now=NOW - DAY)
    new.import_keys(eve.certificate_octets, source="file", trust=Trust.VERIFIED, now=NOW - DAY)
    (used,) = new.select(BOB, NOW).certificates
    restored = new.backups.restore(old.backups.contents(NOW), NOW)
    assert (new.select(BOB, NOW).certificates, restored.held) == ((used,), (eve.fingerprint,))
    (still,) = new.select("eve@example.org", NOW).certificates
    assert still.fingerprint == eve.fingerprint
    assert still.trust is not Trust.VERIFIED
