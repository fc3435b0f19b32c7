"""The facade: matching by address, own keys at rest and in use, two processes at once."""

from __future__ import annotations

import base64
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest

from keystore import openpgp
from keystore.errors import KeyRefused, NotReadable, StoreDamaged, StoreLocked
from keystore.keystore import DATABASE, Keystore, KeystoreSettings
from keystore.model import Fingerprint, Holder, ImportAction, Purpose, Reason, SignatureState, Trust
from keystore.secrets import SecretsSettings, SystemdSecrets, open_secrets
from keystore.vault import KEY_NAME
from tests.fixtures.growth import cost
from tests.fixtures.keystores import NOW

DAY = timedelta(days=1)
TEXT = b"Meet me at the windmill.\r\n"


def stranger(address: str, name: str = "", age: timedelta = DAY, **options) -> openpgp.SecretKey:
    """A correspondent's key, made outside of any keystore."""
    return openpgp.generate(address, name=name, now=NOW - age, **options)


def learn(keystore: Keystore, key: openpgp.SecretKey, trust: Trust | None = None) -> Fingerprint:
    [result] = keystore.import_keys(key.certificate_octets, source="a test", trust=trust, now=NOW)
    assert result.action is ImportAction.ADDED
    return key.fingerprint


class TestMatching:
    @pytest.mark.parametrize("asked", ["alice@example.org", "Alice@Example.ORG", "ALICE@EXAMPLE.ORG"])
    @pytest.mark.parametrize("written", ["alice@example.org", "Alice@Example.Org"])
    def test_case(self, keystore, written, asked):
        fingerprint = learn(keystore, stranger(written, "Alice"))
        [chosen] = keystore.select(asked, NOW).certificates
        assert chosen.fingerprint == fingerprint

    @pytest.mark.parametrize(
        "asked",
        [
            "lice@example.org",
            "alice@example.or",
            "alice@example.org.evil.test",
            "xalice@example.org",
            "alice+tag@example.org",
            "alice",
            "example.org",
            "Alice <alice@example.org>",
            "<alice@example.org>",
            "",
            "%",
            "alice_example.org",
        ],
    )
    def test_near_misses(self, keystore, asked):
        learn(keystore, stranger("alice@example.org", "Alice"))
        selection = keystore.select(asked, NOW)
        assert not selection.usable
        assert selection.reason is Reason.NO_CERTIFICATE

    def test_tags_are_part_of_the_address(self, keystore):
        plain = learn(keystore, stranger("alice@example.org"))
        tagged = learn(keystore, stranger("alice+lists@example.org"))
        assert keystore.select("alice@example.org", NOW).certificates[0].fingerprint == plain
        assert keystore.select("Alice+Lists@example.org", NOW).certificates[0].fingerprint == tagged

    def test_display_names_play_no_part(self, keystore):
        fingerprint = learn(keystore, stranger("mallory@evil.test", "alice@example.org"))
        assert not keystore.select("alice@example.org", NOW).usable
        assert keystore.select("mallory@evil.test", NOW).certificates[0].fingerprint == fingerprint

    def test_an_address_as_the_display_name_of_another(self, keystore, gnupg_home):
        gnupg = gnupg_home()
        gnupg.generate("alice@example.org <mallory@evil.test>")
        [result] = keystore.import_keys(gnupg.export("mallory"), source="gpg")
        now = keystore.certificate(result.fingerprint).created + DAY
        assert not keystore.select("alice@example.org", now).usable
        assert keystore.select("mallory@evil.test", now).usable

    def test_every_user_id(self, keystore, gnupg_home):
        gnupg = gnupg_home()
        fingerprint = gnupg.generate("Carol <carol@example.org>")
        for user_id in ("Carol Jones <c.jones@Work.example>", "carol@home.example"):
            gnupg.run("--quick-add-uid", fingerprint, user_id)
        gnupg.run("--quick-revoke-uid", fingerprint, "carol@home.example")
        keystore.import_keys(gnupg.export(fingerprint), source="gpg")
        now = keystore.certificate(fingerprint).created + DAY
        for address in ("carol@example.org", "C.Jones@work.example"):
            assert keystore.select(address, now).certificates[0].fingerprint == fingerprint
        assert not keystore.select("carol@home.example", now).usable

    def test_verified_then_newest(self, keystore):
        old = learn(keystore, stranger("alice@example.org", age=400 * DAY), Trust.KNOWN)
        new = learn(keystore, stranger("alice@example.org", age=2 * DAY), Trust.KNOWN)
        selection = keystore.select("alice@example.org", NOW)
        assert selection.certificates[0].fingerprint == new
        assert old in selection.explanation
        keystore.set_trust(old, Trust.VERIFIED)
        assert keystore.select("alice@example.org", NOW).certificates[0].fingerprint == old
        keystore.set_trust(old, Trust.REJECTED)
        keystore.set_trust(new, Trust.REJECTED)
        assert keystore.select("alice@example.org", NOW).reason is Reason.REJECTED

    def test_expired(self, keystore):
        key = stranger("alice@example.org", age=30 * DAY, expires=10 * DAY)
        learn(keystore, key)
        selection = keystore.select("alice@example.org", NOW)
        assert selection.reason is Reason.EXPIRED
        assert f"{NOW - 20 * DAY:%Y-%m-%d}" in selection.explanation
        assert keystore.select("alice@example.org", NOW - 25 * DAY).usable

    def test_pinned(self, keystore):
        claimed = learn(keystore, stranger("alice@example.org"))
        gateway = learn(keystore, stranger("gateway@example.org"))
        chosen = keystore.select("alice@example.org", NOW, pinned=[gateway]).certificates
        assert [one.fingerprint for one in chosen] == [gateway]
        assert claimed != gateway
        missing = keystore.select("alice@example.org", NOW, pinned=[Fingerprint("0" * 40)])
        assert missing.reason is Reason.NO_CERTIFICATE, "a pinned certificate has no substitute"

    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ("", 2),
            ("alice", 1),
            ("ALICE@example.org", 1),
            ("example.org", 2),
            ("smith bob", 1),
            ("alice bob", 0),
            ("ice@example.org", 0),
        ],
    )
    def test_queries(self, keystore, query, count):
        learn(keystore, stranger("alice@example.org", "Alice"))
        learn(keystore, stranger("bob@example.org", "Bob Smith"))
        assert len(keystore.certificates(query)) == count

    def test_queries_by_fingerprint(self, keystore):
        fingerprint = learn(keystore, stranger("alice@example.org"))
        learn(keystore, stranger("bob@example.org"))
        [subkey] = keystore.usability(fingerprint, Purpose.ENCRYPT, NOW).keys
        spaced = " ".join(fingerprint[at : at + 4] for at in range(0, 40, 4))
        for query in (
            fingerprint,
            fingerprint.lower(),
            "0x" + fingerprint,
            spaced,
            fingerprint[-16:],
            subkey,
        ):
            assert [one.fingerprint for one in keystore.certificates(query)] == [fingerprint]


class TestMessages:
    def test_there_and_back(self, make_keystore):
        ours, theirs = make_keystore("ours"), make_keystore("theirs")
        alice = ours.generate("alice@example.org", now=NOW)
        bob = theirs.generate("bob@example.org", now=NOW)
        ours.import_keys(theirs.export(bob.fingerprint), source="bob")
        theirs.import_keys(ours.export(alice.fingerprint), source="alice")
        message = ours.encrypt(TEXT, [bob.fingerprint, alice.fingerprint], alice.fingerprint, NOW)
        assert message.startswith(b"-----BEGIN PGP MESSAGE-----\r\n")
        for reader, trust in ((theirs, Trust.KNOWN), (ours, Trust.VERIFIED)):
            opened = reader.decrypt(message, NOW)
            [signature] = opened.signatures
            assert opened.octets == TEXT
            assert (signature.state, signature.fingerprint) == (SignatureState.GOOD, alice.fingerprint)
            assert (signature.addresses, signature.trust) == (("alice@example.org",), trust)

    def test_signatures(self, make_keystore):
        ours, theirs = make_keystore("ours"), make_keystore("theirs")
        alice = ours.generate("alice@example.org", now=NOW)
        made = ours.sign(TEXT, alice.fingerprint, NOW)
        assert made.micalg == "pgp-sha512"
        assert [one.state for one in ours.verify(TEXT, made.armored, NOW)] == [SignatureState.GOOD]
        assert [one.state for one in ours.verify(TEXT + b" ", made.armored, NOW)] == [SignatureState.BAD]
        assert [one.state for one in theirs.verify(TEXT, made.armored, NOW)] == [SignatureState.UNKNOWN_KEY]
        theirs.import_keys(ours.export(alice.fingerprint), source="alice", trust=Trust.REJECTED)
        assert [one.state for one in theirs.verify(TEXT, made.armored, NOW)] == [SignatureState.UNACCEPTABLE]

    def test_refusals_name_the_certificate(self, keystore):
        own = keystore.generate("alice@example.org", now=NOW).fingerprint
        expired = learn(keystore, stranger("old@example.org", age=30 * DAY, expires=DAY))
        other = learn(keystore, stranger("bob@example.org"))
        absent = Fingerprint("0" * 40)
        cases = [
            (lambda: keystore.encrypt(TEXT, [own, expired], own, NOW), f"{expired}: expired"),
            (lambda: keystore.encrypt(TEXT, [own, absent], own, NOW), absent),
            (lambda: keystore.encrypt(TEXT, [], own, NOW), "nobody"),
            (lambda: keystore.encrypt(TEXT, [own], other, NOW), f"no secret key for {other}"),
            (lambda: keystore.sign(TEXT, other, NOW), f"no secret key for {other}"),
            (lambda: keystore.sign(TEXT, absent, NOW), absent),
        ]
        for action, text in cases:
            with pytest.raises(KeyRefused, match=text):
                action()

    def test_rejected_is_never_used(self, keystore):
        own = keystore.generate("alice@example.org", now=NOW).fingerprint
        keystore.set_trust(own, Trust.REJECTED)
        assert keystore.identity("alice@example.org", NOW) is None
        for action in (keystore.sign, lambda octets, key, now: keystore.encrypt(octets, [key], None, now)):
            with pytest.raises(KeyRefused, match="rejected"):
                action(TEXT, own, NOW)

    def test_not_for_us(self, make_keystore):
        ours, theirs = make_keystore("ours"), make_keystore("theirs")
        bob = theirs.generate("bob@example.org", now=NOW)
        message = theirs.encrypt(TEXT, [bob.fingerprint], None, NOW)
        for _ in range(2):
            with pytest.raises(NotReadable) as caught:
                ours.decrypt(message, NOW)
            assert caught.value.reason == "no-secret-key"
            ours.generate("alice@example.org", now=NOW)

    def test_identity(self, keystore):
        learn(keystore, stranger("bob@example.org"))
        old = keystore.generate("Alice@example.org", now=NOW - 30 * DAY, expires=100 * DAY)
        assert keystore.identity("bob@example.org", NOW) is None
        assert keystore.identity("ALICE@example.org", NOW).certificate == old
        new = keystore.generate("alice@example.org", now=NOW - DAY)
        assert keystore.identity("alice@example.org", NOW).certificate == new
        assert keystore.identity("alice@example.org", NOW - 10 * DAY).certificate == old

    def test_an_own_key_that_cannot_sign(self, keystore):
        learn(keystore, stranger("bob@example.org"))
        old = keystore.generate("alice@example.org", now=NOW - 30 * DAY, expires=10 * DAY)
        new = keystore.generate("alice@example.org", now=NOW - 20 * DAY, expires=10 * DAY)
        assert keystore.identity("alice@example.org", NOW) is None
        assert {one.fingerprint for one in keystore.own("ALICE@example.org")} == {
            old.fingerprint,
            new.fingerprint,
        }
        fingerprint, usability = keystore.unusable_own("Alice@example.org", NOW)
        assert (fingerprint, usability.reason) == (new.fingerprint, Reason.EXPIRED)
        assert keystore.own("bob@example.org") == []
        for nobody in ("bob@example.org", "alice", "@example.org", ""):
            assert keystore.unusable_own(nobody, NOW) is None

    def test_a_renewed_certificate_serves_to_sign(self, keystore, gnupg_home):
        gnupg = gnupg_home()
        fingerprint = gnupg.generate("alice@example.org")
        gnupg.run("--quick-set-expire", fingerprint, "10d")
        keystore.import_keys(gnupg.export_secret(fingerprint), source="gpg")
        later = keystore.certificate(fingerprint).created + 20 * DAY
        with pytest.raises(KeyRefused, match="expired"):
            keystore.sign(TEXT, fingerprint, later)
        gnupg.run("--quick-set-expire", fingerprint, "60d")
        keystore.import_keys(gnupg.export(fingerprint), source="gpg")
        made = keystore.sign(TEXT, fingerprint, later)
        assert [one.state for one in keystore.verify(TEXT, made.armored, later)] == [SignatureState.GOOD]

    def test_seal(self, make_keystore):
        keystore, other = make_keystore("one"), make_keystore("two")
        sealed = keystore.seal(TEXT, b"view 1")
        assert TEXT not in sealed
        assert keystore.unseal(sealed, b"view 1") == TEXT
        assert other.unseal(sealed, b"view 1") == TEXT, "the same keystore key serves both"
        with pytest.raises(StoreDamaged):
            keystore.unseal(sealed, b"view 2")


class TestAtRest:
    def test_no_secret_lies_open(self, tmp_path):
        passphrase = "not to be found anywhere"
        secrets = open_secrets(SecretsSettings("file", tmp_path / "secrets.json", lambda: passphrase))
        imported = stranger("bob@example.org")
        with closing(Keystore.open(KeystoreSettings(tmp_path / "keystore"), secrets)) as keystore:
            own = keystore.generate("alice@example.org", now=NOW).fingerprint
            keystore.import_keys(imported.to_octets(), source="a test")
            clear = keystore.export(own, secret=True)
            needles = {
                passphrase.encode(),
                secrets.get(KEY_NAME).encode(),
                base64.b64decode(secrets.get(KEY_NAME)),
            }
            for octets in (openpgp.parse_keys(clear)[0].secret_octets, imported.to_octets()):
                needles |= set(_secret_parts(octets))
            assert len(needles) == 3 + 4
            files = [file for file in tmp_path.rglob("*") if file.is_file()]
            assert {DATABASE, DATABASE + "-wal"} <= {file.name for file in files}
            content = b"".join(file.read_bytes() for file in files)
            assert bytes.fromhex(own) in content.replace(own.encode(), bytes.fromhex(own))
            for needle in needles:
                for form in (needle, needle.hex().encode(), base64.b64encode(needle)[:-4]):
                    assert form not in content

    def test_other_keystore_key(self, make_keystore, credentials):
        own = make_keystore().generate("alice@example.org", now=NOW).fingerprint
        (credentials / KEY_NAME).write_text(base64.b64encode(bytes(32)).decode())
        again = make_keystore()
        assert again.locked
        assert again.certificates()[0].fingerprint == own, "certificates can still be read"
        with pytest.raises(StoreLocked, match="not the one"):
            again.sign(TEXT, own, NOW)
        with pytest.raises(StoreLocked, match="not the one"):
            again.generate("bob@example.org", now=NOW)

    @pytest.mark.parametrize("text", ["", "c2hvcnQ=", "not base64"])
    def test_unusable_keystore_key(self, make_keystore, credentials, text):
        (credentials / KEY_NAME).write_text(text)
        with pytest.raises(StoreLocked, match="32 octets"):
            make_keystore().unlock()

    def test_lost_keystore_key_is_not_replaced(self, tmp_path):
        settings = KeystoreSettings(tmp_path / "keystore")
        secrets = open_secrets(SecretsSettings("file", tmp_path / "secrets", lambda: "x"))
        with closing(Keystore.open(settings, secrets)) as keystore:
            keystore.generate("alice@example.org", now=NOW)
        secrets.delete(KEY_NAME)
        with closing(Keystore.open(settings, secrets)) as keystore:
            assert keystore.locked
            with pytest.raises(StoreLocked, match="is missing: restore it"):
                keystore.generate("bob@example.org", now=NOW)
        assert secrets.get(KEY_NAME) is None

    def test_locked_secrets(self, tmp_path):
        settings = KeystoreSettings(tmp_path / "keystore")
        right = open_secrets(SecretsSettings("file", tmp_path / "secrets", lambda: "right"))
        with closing(Keystore.open(settings, right)) as keystore:
            own = keystore.generate("alice@example.org", now=NOW).fingerprint
            message = keystore.encrypt(TEXT, [own], None, NOW)
        wrong = open_secrets(SecretsSettings("file", tmp_path / "secrets", lambda: "wrong"))
        with closing(Keystore.open(settings, wrong)) as keystore:
            assert keystore.locked
            for action in (
                lambda: keystore.decrypt(message, NOW),
                lambda: keystore.sign(TEXT, own, NOW),
                lambda: keystore.seal(TEXT, b""),
                lambda: keystore.export(own, secret=True),
            ):
                with pytest.raises(StoreLocked):
                    action()
            assert keystore.encrypt(TEXT, [own], None, NOW), "public keys need no unlocking"

    def test_damaged_wrap(self, make_keystore, tmp_path):
        keystore = make_keystore()
        own = keystore.generate("alice@example.org", now=NOW).fingerprint
        other = keystore.generate("bob@example.org", now=NOW).fingerprint
        rows = {row.fingerprint: row for row in keystore._store.secrets()}
        # A wrap from one row does not open in another.
        keystore._store.put_secret(replace(rows[own], wrapped=rows[other].wrapped))
        for damaged in (keystore, make_keystore()):
            with pytest.raises(StoreDamaged, match=own):
                damaged.unlock()

    def test_opening_asks_nobody(self, tmp_path):
        def asked() -> str:
            raise AssertionError("nobody may be asked")

        secrets = open_secrets(SecretsSettings("file", tmp_path / "secrets", asked))
        with closing(Keystore.open(KeystoreSettings(tmp_path / "keystore"), secrets)) as keystore:
            fingerprint = learn(keystore, stranger("alice@example.org"))
            assert keystore.certificates()
            assert keystore.select("alice@example.org", NOW).usable
            assert keystore.encrypt(TEXT, [fingerprint], None, NOW)

    def test_read_only_backend_without_a_key_says_what_to_do(self, tmp_path):
        (tmp_path / "credentials").mkdir()
        secrets = SystemdSecrets(tmp_path / "credentials")
        with closing(Keystore.open(KeystoreSettings(tmp_path / "keystore"), secrets)) as keystore:
            with pytest.raises(Exception, match="systemd-creds encrypt --name=keystore-key"):
                keystore.generate("alice@example.org", now=NOW)
            assert keystore.certificates() == []


def _secret_parts(octets: bytes) -> list[bytes]:
    """The private numbers of an unprotected transferable key."""
    from keystore.openpgp.packet import Tag, packets
    from keystore.openpgp.secret import parse_secret

    tags = (Tag.SECRET_KEY, Tag.SECRET_SUBKEY)
    return [parse_secret(packet.body).tail[2:-2] for packet in packets(octets) if packet.tag in tags]


class TestChanges:
    def test_delete(self, keystore):
        own = keystore.generate("alice@example.org", now=NOW).fingerprint
        message = keystore.encrypt(TEXT, [own], None, NOW)
        keystore.delete(own)
        assert keystore.certificate(own) is None
        assert keystore.certificates() == []
        assert not keystore.select("alice@example.org", NOW).usable
        with pytest.raises(NotReadable):
            keystore.decrypt(message, NOW)
        for action in (keystore.delete, lambda one: keystore.set_trust(one, Trust.KNOWN), keystore.export):
            with pytest.raises(KeyRefused, match=own):
                action(own)

    @pytest.mark.parametrize("passphrase", ["hunter two", "Schlüssel 鍵", None])
    def test_export_and_import_of_secret_keys(self, make_keystore, passphrase):
        ours, other = make_keystore("ours"), make_keystore("other")
        own = ours.generate("alice@example.org", now=NOW).fingerprint
        armored = ours.export(own, secret=True, passphrase=passphrase)
        assert armored.startswith(b"-----BEGIN PGP PRIVATE KEY BLOCK-----\r\n")
        [result] = other.import_keys(armored, source="backup", passphrase=lambda: passphrase)
        assert (result.action, result.secret) == (ImportAction.ADDED, True)
        assert other.certificate(own).holder is Holder.OWN
        assert other.decrypt(ours.encrypt(TEXT, [own], None, NOW), NOW).octets == TEXT

    @pytest.mark.parametrize("passphrase", ["hunter two", None])
    def test_gpg_reads_exported_secret_keys(self, keystore, gnupg_home, passphrase):
        own = keystore.generate("alice@example.org", now=NOW).fingerprint
        gnupg = gnupg_home(passphrase=passphrase or "")
        gnupg.take(keystore.export(own, secret=True, passphrase=passphrase))
        message = keystore.encrypt(TEXT, [own], own, NOW)
        assert gnupg.run("--decrypt", data=message).stdout == TEXT
        signature = gnupg.run("--detach-sign", data=TEXT).stdout
        assert keystore.verify(TEXT, signature, NOW)[0].state is SignatureState.GOOD


IMPORTER = """
import sys
from pathlib import Path
from keystore.keystore import Keystore, KeystoreSettings
from keystore.secrets import SystemdSecrets
from keystore.model import Trust
keystore = Keystore.open(KeystoreSettings(Path(sys.argv[1])), SystemdSecrets(Path(sys.argv[2])))
for name in sys.argv[3:]:
    octets = Path(name).read_bytes()
    [result] = keystore.import_keys(octets, source=name)
    keystore.set_trust(result.fingerprint, Trust.VERIFIED)
"""


class TestTwoProcesses:
    def run(self, tmp_path, credentials, script, *words):
        command = [
            sys.executable,
            "-c",
            script,
            str(tmp_path / "keystore"),
            str(credentials),
            *map(str, words),
        ]
        return subprocess.Popen(command)

    def test_a_running_keystore_notices(self, keystore, tmp_path, credentials):
        assert not keystore.select("bob@example.org", NOW).usable
        bob = stranger("bob@example.org")
        (tmp_path / "bob").write_bytes(bob.to_octets())
        assert self.run(tmp_path, credentials, IMPORTER, tmp_path / "bob").wait() == 0
        assert keystore.select("bob@example.org", NOW).certificates[0].fingerprint == bob.fingerprint
        assert keystore.certificate(bob.fingerprint).trust is Trust.VERIFIED
        message = keystore.encrypt(TEXT, [bob.fingerprint], None, NOW)
        assert keystore.decrypt(message, NOW).octets == TEXT
        deleter = IMPORTER.partition("for name")[0] + "keystore.delete(sys.argv[3])"
        assert self.run(tmp_path, credentials, deleter, bob.fingerprint).wait() == 0
        assert keystore.certificate(bob.fingerprint) is None
        assert not keystore.select("bob@example.org", NOW).usable
        with pytest.raises(NotReadable):
            keystore.decrypt(message, NOW)

    def test_writing_at_once_loses_nothing(self, keystore, tmp_path, credentials):
        files = []
        for number in range(24):
            files.append(tmp_path / f"{number}.key")
            files[-1].write_bytes(stranger(f"user{number}@example.org").to_octets())
        running = [self.run(tmp_path, credentials, IMPORTER, *files[first::2]) for first in range(2)]
        own = [keystore.generate(f"own{number}@example.org", now=NOW).fingerprint for number in range(10)]
        assert [process.wait() for process in running] == [0, 0]
        assert len(keystore.certificates()) == 34
        assert all(keystore.certificate(one).holder is Holder.OWN for one in own)
        keystore.unlock()

    def test_one_keystore_key_for_both(self, tmp_path):
        script = (
            "import sys; from pathlib import Path\n"
            "from keystore.keystore import *; from keystore.secrets import *\n"
            "secrets = open_secrets(SecretsSettings('file', Path(sys.argv[2]), lambda: 'x'))\n"
            "Keystore.open(KeystoreSettings(Path(sys.argv[1])), secrets).generate(sys.argv[3])"
        )
        running = [
            self.run(tmp_path, tmp_path / "secrets", script, f"user{number}@example.org")
            for number in range(3)
        ]
        assert [process.wait() for process in running] == [0, 0, 0]
        secrets = open_secrets(SecretsSettings("file", tmp_path / "secrets", lambda: "x"))
        with closing(Keystore.open(KeystoreSettings(tmp_path / "keystore"), secrets)) as keystore:
            keystore.unlock()
            assert len(keystore.certificates()) == 3


def test_threads(keystore):
    own = keystore.generate("alice@example.org", now=NOW).fingerprint

    def work(number: int) -> None:
        for turn in range(10):
            learn(keystore, stranger(f"user{number}-{turn}@example.org"))
            message = keystore.encrypt(TEXT, [own], own, NOW)
            [signature] = keystore.decrypt(message, NOW).signatures
            assert signature.state is SignatureState.GOOD
            assert keystore.select(f"user{number}-{turn}@example.org", NOW).usable

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert len(keystore.certificates()) == 41


def test_closed(make_keystore):
    keystore = make_keystore()
    keystore.close()
    with pytest.raises(StoreLocked, match="closed"):
        keystore.certificates()


def test_a_lookup_costs_the_same_in_a_large_keystore(keystore):
    def lookups():
        for _ in range(2000):
            keystore.select("user7@example.org", NOW)

    costs = []
    for numbers in (range(10), range(10, 60)):
        for number in numbers:
            learn(keystore, stranger(f"user{number}@example.org"))
        lookups()
        costs.append(min(cost(lookups) for _ in range(3)))
    assert costs[1] <= 3 * costs[0]  # both are 0 where the clock of the processor is coarse
