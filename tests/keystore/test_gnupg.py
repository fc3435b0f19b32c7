"""Keys that GnuPG holds, with a real gpg and agent.

They are used without leaving it, and StoreLocked says that it does not answer.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESOCB3
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.cmac import CMAC

from keystore import openpgp
from keystore.errors import KeyRefused, NotReadable, StoreLocked
from keystore.model import Fingerprint, Holder, ImportAction, Purpose, SignatureState, Trust, key_id
from keystore.openpgp.packet import Tag, packets, write
from tests.fixtures.keystores import NOW

DAY = timedelta(days=1)
TEXT = b"Meet me at the windmill.\r\n" * 40
ADDRESS = "carol@example.org"
PASSPHRASE = "a passphrase of the agent"


@pytest.fixture
def gnupg(gnupg_home):
    """A home with one key without passphrase."""
    home = gnupg_home()
    home.generate(f"Carol <{ADDRESS}>")
    return home


@pytest.fixture
def ours(make_keystore, gnupg):
    """A keystore that knows Carol's key, which stays in GnuPG."""
    keystore = make_keystore("ours", gnupg.home)
    [result] = keystore.holders.take_from_gnupg(ADDRESS, secret=True)
    assert (result.action, result.secret) == (ImportAction.ADDED, True)
    return keystore


@pytest.fixture
def theirs(make_keystore):
    """A correspondent with a key of his own."""
    keystore = make_keystore("theirs")
    keystore.generate("bob@example.org", now=NOW - DAY)
    return keystore


def introduce(one, other) -> None:
    for giver, taker in ((one, other), (other, one)):
        for certificate in giver.certificates():
            taker.import_keys(giver.export(certificate.fingerprint), source="introduced")


def own(keystore) -> Fingerprint:
    [found] = [one.fingerprint for one in keystore.certificates() if one.holder is not Holder.NONE]
    return found


def session_keys(keystore, message: bytes) -> list[bytes]:
    """What the agent opens of a message."""
    return list(keystore._messages._agent.session_keys(message, keystore.own(ADDRESS)))


def later():
    """The time when a test is judged: gpg's keys are younger than NOW."""
    return NOW + DAY


class TestSource:
    def test_the_public_ring(self, make_keystore, gnupg, theirs):
        gnupg.take(theirs.export(own(theirs)))
        gnupg.generate("Dävid Ünïcode <david@example.org>")
        keystore = make_keystore("new", gnupg.home)
        results = keystore.holders.take_from_gnupg()
        assert [result.action for result in results] == [ImportAction.ADDED] * 3
        assert not any(result.secret for result in results)
        assert {one.holder for one in keystore.certificates()} == {Holder.NONE}
        assert keystore.certificates("dävid")[0].user_ids == ("Dävid Ünïcode <david@example.org>",)
        assert [r.action for r in keystore.holders.take_from_gnupg()] == [ImportAction.UNCHANGED] * 3

    def test_queries_and_secret_only(self, make_keystore, gnupg, theirs):
        gnupg.take(theirs.export(own(theirs)))
        keystore = make_keystore("new", gnupg.home)
        assert keystore.holders.take_from_gnupg("nobody") == []
        assert keystore.holders.take_from_gnupg("bob", secret=True) == []
        [carol] = keystore.holders.take_from_gnupg(secret=True)
        certificate = keystore.certificate(carol.fingerprint)
        assert (certificate.holder, certificate.trust) == (Holder.GNUPG, Trust.VERIFIED)
        [again] = keystore.holders.take_from_gnupg("carol", secret=True)
        assert (again.action, again.secret) == (ImportAction.UNCHANGED, True)

    def test_a_public_key_becomes_held(self, make_keystore, gnupg):
        keystore = make_keystore("new", gnupg.home)
        keystore.holders.take_from_gnupg()
        [result] = keystore.holders.take_from_gnupg(secret=True)
        assert (result.action, result.secret) == (ImportAction.UPDATED, True)

    def test_our_own_secret_is_not_given_up_for_gnupgs(self, make_keystore, gnupg):
        keystore = make_keystore("new", gnupg.home)
        keystore.import_keys(gnupg.export_secret(ADDRESS), source="file")
        [result] = keystore.holders.take_from_gnupg(secret=True)
        assert result.action is ImportAction.UNCHANGED
        assert keystore.certificate(result.fingerprint).holder is Holder.OWN

    def test_secret_keys_are_not_exported(self, ours):
        with pytest.raises(KeyRefused, match="gpg --export-secret-keys"):
            ours.export(own(ours), secret=True)
        assert ours.export(own(ours)).startswith(b"-----BEGIN PGP PUBLIC KEY BLOCK-----")

    def test_deleting_leaves_gnupg_alone(self, ours, gnupg):
        ours.delete(own(ours))
        assert gnupg.run("--detach-sign", data=TEXT).stdout


class TestHolder:
    def test_signs(self, ours, theirs, gnupg):
        introduce(ours, theirs)
        made = ours.sign(TEXT, own(ours), later())
        assert made.micalg == "pgp-sha512"
        assert made.armored.startswith(b"-----BEGIN PGP SIGNATURE-----\r\n")
        assert made.armored.count(b"\n") == made.armored.count(b"\r\n")
        [judged] = theirs.verify(TEXT, made.armored, later())
        assert (judged.state, judged.fingerprint) == (SignatureState.GOOD, own(ours))

    def test_signs_with_the_subkey_chosen(self, make_keystore, gnupg_home):
        gnupg = gnupg_home()
        gnupg.run("--quick-generate-key", ADDRESS, "ed25519", "cert", "never")
        listing = gnupg.run("--list-keys", "--with-colons").stdout.decode()
        fingerprint = listing.split("fpr:::::::::")[1][:40]
        gnupg.run("--quick-add-key", fingerprint, "ed25519", "sign", "never")
        keystore = make_keystore("new", gnupg.home)
        keystore.holders.take_from_gnupg(secret=True)
        newest = keystore.usability(fingerprint, Purpose.SIGN, later()).keys[0]
        assert newest != fingerprint
        made = keystore.sign(TEXT, fingerprint, later())
        assert (
            key_id(newest).lower()
            in subprocess.run(["gpg", "--list-packets"], input=made.armored, capture_output=True, check=True)
            .stdout.decode()
            .lower()
        )
        assert keystore.verify(TEXT, made.armored, later())[0].state is SignatureState.GOOD

    @pytest.mark.parametrize("rsa", [False, True])
    def test_signs_and_encrypts(self, make_keystore, gnupg_home, theirs, rsa):
        home = gnupg_home()
        home.generate(ADDRESS, rsa=rsa)
        ours = make_keystore("ours", home.home)
        ours.holders.take_from_gnupg(secret=True)
        introduce(ours, theirs)
        everybody = [own(ours), own(theirs)]
        message = ours.encrypt(TEXT, [*everybody, own(theirs)], own(ours), later())
        assert message.startswith(b"-----BEGIN PGP MESSAGE-----\r\n")
        chosen = [ours.usability(one, Purpose.ENCRYPT, later()).keys[0] for one in everybody]
        assert openpgp.key_ids(message) == tuple(map(key_id, chosen))
        for reader in (ours, theirs):
            opened = reader.decrypt(message, later())
            assert opened.octets == TEXT
            assert [(one.state, one.fingerprint) for one in opened.signatures] == [
                (SignatureState.GOOD, own(ours))
            ]

    def test_encrypts_to_the_subkey_chosen(self, ours, gnupg_home):
        """Which of several subkeys is used is our choice."""
        reader = gnupg_home()
        then = f"--faked-system-time={int((NOW - DAY).timestamp())}!"
        reader.run(then, "--quick-generate-key", "dave@example.org", "ed25519", "sign,cert", "never")
        listing = reader.run("--list-keys", "--with-colons").stdout.decode()
        fingerprint = listing.split("fpr:::::::::")[1][:40]
        for _ in range(3):
            reader.run(then, "--quick-add-key", fingerprint, "cv25519", "encr", "never")
        ours.import_keys(reader.export(fingerprint), source="dave")
        chosen = ours.usability(fingerprint, Purpose.ENCRYPT, later()).keys
        assert len(chosen) == 3
        message = ours.encrypt(TEXT, [fingerprint], own(ours), later())
        assert openpgp.key_ids(message) == (key_id(chosen[0]),)
        assert reader.run("--decrypt", data=message, check=False).stdout == TEXT

    def test_gpg_conf_changes_nothing(self, ours, theirs, gnupg):
        introduce(ours, theirs)
        gnupg.generate("spy@example.org")
        gnupg.take(theirs.export(own(theirs)))
        (gnupg.home / "gpg.conf").write_text(
            "encrypt-to spy@example.org\nrecipient spy@example.org\nlocal-user spy@example.org\n"
            "throw-keyids\ndigest-algo SHA1\nskip-verify\nignore-mdc-error\ncomment a comment\n"
        )
        message = ours.encrypt(TEXT, [own(theirs)], own(ours), later())
        [chosen] = openpgp.key_ids(message)
        assert chosen == key_id(theirs.usability(own(theirs), Purpose.ENCRYPT, later()).keys[0])
        assert b"comment" not in message
        assert [one.fingerprint for one in theirs.decrypt(message, later()).signatures] == [own(ours)]
        assert ours.sign(TEXT, own(ours), later()).micalg == "pgp-sha512"

    @pytest.mark.parametrize("options", [[], ["-z", "0"], ["--throw-keyids"], ["--armor"]])
    def test_decrypts_what_gpg_makes(self, ours, gnupg_home, gnupg, options):
        writer = gnupg_home()
        signer = writer.generate("writer@example.org")
        writer.take(gnupg.export(ADDRESS))
        message = writer.run(*options, "--sign", "--encrypt", "-r", ADDRESS, data=TEXT).stdout
        opened = ours.decrypt(message, later())
        assert opened.octets == TEXT
        [unknown] = opened.signatures
        assert (unknown.state, unknown.fingerprint) == (SignatureState.UNKNOWN_KEY, signer)
        ours.import_keys(writer.export(signer), source="writer")
        assert [one.state for one in ours.decrypt(message, later()).signatures] == [SignatureState.GOOD]

    def test_both_holders(self, ours, theirs):
        """A store with a key of its own beside GnuPG's reads mail for either."""
        ours.generate("carol@home.example", now=NOW - DAY)
        introduce(ours, theirs)
        for certificate in ours.certificates("carol"):
            message = theirs.encrypt(TEXT, [certificate.fingerprint], None, later())
            assert ours.decrypt(message, later()).octets == TEXT

    def test_not_for_us(self, ours, theirs):
        message = theirs.encrypt(TEXT, [own(theirs)], None, later())
        with pytest.raises(NotReadable) as caught:
            ours.decrypt(message, later())
        assert caught.value.reason == "no-secret-key"

    def test_hidden_and_not_for_us(self, ours, theirs, gnupg_home):
        writer = gnupg_home()
        writer.take(theirs.export(own(theirs)))
        message = writer.run("--throw-keyids", "--encrypt", "-r", "bob@example.org", data=TEXT).stdout
        with pytest.raises(NotReadable) as caught:
            ours.decrypt(message, later())
        assert caught.value.reason == "no-secret-key"

    @pytest.mark.parametrize("at", [-3, -30, -600])
    def test_tampered(self, ours, theirs, at):
        introduce(ours, theirs)
        message = bytearray(_binary(theirs.encrypt(TEXT, [own(ours)], own(theirs), later())))
        message[at] ^= 1
        with pytest.raises(NotReadable) as caught:
            ours.decrypt(bytes(message), later())
        assert caught.value.reason == "damaged"

    def test_every_octet_of_the_session_key_packet(self, ours, theirs):
        """Whatever a sender does to the packet for GnuPG, the answer is final, not "try again later"."""
        introduce(ours, theirs)
        message = _binary(theirs.encrypt(b"x", [own(ours)], None, later()))
        first = next(packets(message))
        for at in range(12, len(first.octets), 9):
            changed = bytearray(message)
            changed[at] ^= 0x10
            with pytest.raises(NotReadable):
                ours.decrypt(bytes(changed), later())


def _binary(message: bytes) -> bytes:
    return openpgp.packet.binary(message, "MESSAGE")


def test_the_agent_that_gpg_starts_has_not_the_time_of_one_message(ours, theirs, gnupg):
    """It serves others for hours after, and would be ended when that is used up."""
    introduce(ours, theirs)
    message = theirs.encrypt(TEXT, [own(ours)], own(theirs), later())
    subprocess.run(["gpgconf", "--homedir", gnupg.home, "--kill", "gpg-agent"], check=True)
    before = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (86_400, before[1]))
    try:
        assert ours.decrypt(message, later()).octets == TEXT
        assert resource.getrlimit(resource.RLIMIT_CPU)[0] == 86_400
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, before)
    asked = ["gpg-connect-agent", "--homedir", gnupg.home, "--no-autostart", "getinfo pid", "/bye"]
    told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    agent = int(told.split()[1])
    assert resource.prlimit(agent, resource.RLIMIT_CPU)[0] == before[1]


class TestOtherKindsOfEncryption:
    """Packets that gpg 2.2 reads and does not write, made here around a session key that it can open."""

    @pytest.fixture
    def parts(self, ours, theirs):
        introduce(ours, theirs)
        signed = theirs.encrypt(TEXT, [own(ours)], own(theirs), later())
        recipient = next(packets(_binary(signed))).octets
        [session_key] = session_keys(ours, signed)
        assert session_key[0] == 9
        inside = ours._gnupg.unwrap(signed, openpgp.session_key_for_gnupg(session_key))
        return recipient, session_key[1:], inside

    @pytest.mark.parametrize("mode", ["eax", "ocb"])
    def test_aead(self, ours, theirs, parts, mode):
        recipient, key, inside = parts
        message = recipient + write(Tag.GNUPG_AEAD, _aead_packet(mode, key, inside))
        opened = ours.decrypt(message, later())
        assert opened.octets == TEXT
        assert [one.fingerprint for one in opened.signatures] == [own(theirs)]
        assert opened.signatures[0].state is SignatureState.GOOD

    @pytest.mark.parametrize("mode", ["eax", "ocb"])
    def test_aead_tampered(self, ours, parts, mode):
        recipient, key, inside = parts
        packet = _aead_packet(mode, key, inside)
        for at in range(4, len(packet), 97):
            changed = packet[:at] + bytes([packet[at] ^ 1]) + packet[at + 1 :]
            with pytest.raises(NotReadable):
                ours.decrypt(recipient + write(Tag.GNUPG_AEAD, changed), later())
        with pytest.raises(NotReadable):
            ours.decrypt(recipient + write(Tag.GNUPG_AEAD, packet[:-16]), later())

    def test_without_integrity_protection(self, ours, parts):
        recipient, key, inside = parts
        message = recipient + write(Tag.SED, _resyncing_cfb(key, inside))
        with pytest.raises(NotReadable) as caught:
            ours.decrypt(message, later())
        assert caught.value.reason == "no-integrity"
        with pytest.raises(NotReadable):
            ours._gnupg.unwrap(message, f"9:{key.hex()}")

    @pytest.mark.parametrize("octets", [b"", b"garbage", bytes(500), b"\xc1\x00\xd2\x00", TEXT])
    def test_garbage(self, ours, octets):
        for action in (lambda: session_keys(ours, octets), lambda: ours._gnupg.unwrap(octets, "9:00")):
            with pytest.raises(NotReadable):
                action()

    @pytest.mark.parametrize(
        ("algorithm", "fields"),
        [
            (18, b"\x00\x0f\x40\x01\x05" + bytes(5)),  # a point cut short: gpg says "End of file"
            (18, b"\x02\x03\x04" + b"\x01" * 64 + b"\x30" + bytes(48)),  # of another curve: "Invalid object"
            (18, b"\x01\x07\x40" + b"\x01" * 32 + b"\x30" + bytes(48)),
            (16, b"\x00\x01\x01\x00\x01\x01"),
            (1, b"\x00\x01\x01"),
        ],
    )
    def test_hostile_session_keys_are_not_taken_for_an_absent_holder(self, ours, parts, algorithm, fields):
        """StoreLocked would keep the whole mailbox unread for as long as the message lies in it."""
        recipient, key, inside = parts
        named = next(packets(recipient)).body[1:9]
        hostile = write(Tag.PKESK, b"\x03" + named + bytes([algorithm]) + fields)
        for rest in (
            write(Tag.SEIPD, b"\x01" + bytes(80)),
            write(Tag.GNUPG_AEAD, _aead_packet("eax", key, inside)),
        ):
            with pytest.raises(NotReadable) as caught:
                ours.decrypt(hostile + rest, later())
            assert caught.value.reason == "damaged"

    def test_layers_of_encryption(self, ours, theirs):
        introduce(ours, theirs)
        inner = _binary(theirs.encrypt(TEXT, [own(ours)], None, later()))
        with pytest.raises(NotReadable):
            ours.decrypt(_nested(ours, inner), later())


def _nested(ours, inner: bytes) -> bytes:
    """An encrypted message whose content is another, made with the session key of a third."""
    helper = _binary(ours.encrypt(b"x", [own(ours)], None, later()))
    [key] = session_keys(ours, helper)
    return next(packets(helper)).octets + write(Tag.GNUPG_AEAD, _aead_packet("eax", key[1:], inner))


def _eax(key: bytes, nonce: bytes, header: bytes, octets: bytes) -> bytes:
    """EAX as in Bellare, Rogaway and Wagner, section 3: ciphertext and tag."""

    def omac(number: int, data: bytes) -> bytes:
        maker = CMAC(AES(key))
        maker.update(bytes(15) + bytes([number]) + data)
        return maker.finalize()

    start = omac(0, nonce)
    counter = Cipher(AES(key), CTR(start)).encryptor()
    ciphertext = counter.update(octets) + counter.finalize()
    tag = bytes(a ^ b ^ c for a, b, c in zip(start, omac(1, header), omac(2, ciphertext), strict=True))
    return ciphertext + tag


def _ocb(key: bytes, nonce: bytes, header: bytes, octets: bytes) -> bytes:
    return AESOCB3(key).encrypt(nonce, octets, header)


def _aead_packet(mode: str, key: bytes, octets: bytes) -> bytes:
    """The body of a LibrePGP encrypted data packet (tag 20, version 1), AES-256, in chunks of 64 octets."""
    number, size, close = {"eax": (1, 16, _eax), "ocb": (2, 15, _ocb)}[mode]
    chunk = 64
    header = bytes([1, 9, number, 0])
    associated = b"\xd4" + header
    iv = bytes(range(size))

    def nonce(index: int) -> bytes:
        return iv[:-8] + (int.from_bytes(iv[-8:], "big") ^ index).to_bytes(8, "big")

    body, index = b"", 0
    for at in range(0, len(octets), chunk):
        body += close(key, nonce(index), associated + index.to_bytes(8, "big"), octets[at : at + chunk])
        index += 1
    final = associated + index.to_bytes(8, "big") + len(octets).to_bytes(8, "big")
    return header + iv + body + close(key, nonce(index), final, b"")


def _resyncing_cfb(key: bytes, octets: bytes) -> bytes:
    """The body of a Symmetrically Encrypted Data packet (RFC 9580 section 5.7)."""
    prefix = bytes(range(16))
    first = Cipher(AES(key), CFB(bytes(16))).encryptor()
    head = first.update(prefix + prefix[-2:])
    second = Cipher(AES(key), CFB(head[2:18])).encryptor()
    return head + second.update(octets)


class TestAway:
    """StoreLocked when the holder does not answer: never an answer that would be remembered."""

    @pytest.fixture
    def protected(self, gnupg_home):
        home = gnupg_home(passphrase=PASSPHRASE)
        home.generate(ADDRESS, rsa=True)
        return home

    @pytest.fixture
    def locked(self, make_keystore, protected):
        """A keystore whose key is in an agent that knows no passphrase and can ask nobody."""
        _forget(protected, pinentry="/bin/false")
        keystore = make_keystore("locked", protected.home)
        keystore.holders.take_from_gnupg(secret=True)
        return keystore

    def demand_locked(self, keystore, theirs) -> None:
        introduce(keystore, theirs)
        message = theirs.encrypt(TEXT, [own(keystore)], None, later())
        for action in (
            lambda: keystore.sign(TEXT, own(keystore), later()),
            lambda: keystore.encrypt(TEXT, [own(theirs)], own(keystore), later()),
            lambda: keystore.decrypt(message, later()),
        ):
            with pytest.raises(StoreLocked) as caught:
                action()
            assert PASSPHRASE not in str(caught.value)

    def test_locked_agent(self, locked, theirs, protected):
        self.demand_locked(locked, theirs)
        # As soon as the agent has the passphrase, everything works.
        protected.run("--detach-sign", data=b"")
        made = locked.sign(TEXT, own(locked), later())
        assert theirs.verify(TEXT, made.armored, later())[0].state is SignatureState.GOOD
        message = theirs.encrypt(TEXT, [own(locked)], None, later())
        assert locked.decrypt(message, later()).octets == TEXT

    def test_absent_pinentry(self, locked, theirs, protected):
        _forget(protected, pinentry="/nonexistent/pinentry")
        self.demand_locked(locked, theirs)

    def test_cancelled_pinentry(self, locked, theirs, protected, tmp_path):
        _forget(protected, pinentry=_script(tmp_path / "pinentry", _CANCELLING))
        self.demand_locked(locked, theirs)

    def test_pinentry_that_nobody_answers(self, locked, protected, tmp_path):
        _forget(protected, pinentry=_script(tmp_path / "pinentry", "sleep 20"))
        locked._gnupg.agent._seconds = 0.5
        with pytest.raises(StoreLocked, match="is a passphrase prompt waiting"):
            locked.sign(TEXT, own(locked), later())

    def test_secret_key_gone(self, ours, theirs, gnupg):
        gnupg.end()
        shutil.rmtree(gnupg.home / "private-keys-v1.d")
        self.demand_locked(ours, theirs)

    def test_home_gone(self, ours, theirs, gnupg):
        gnupg.end()
        shutil.rmtree(gnupg.home)
        self.demand_locked(ours, theirs)
        with pytest.raises(StoreLocked, match="home"):
            ours.holders.take_from_gnupg()

    def test_no_gpg(self, ours, theirs, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        self.demand_locked(ours, theirs)
        with pytest.raises(StoreLocked, match="not installed"):
            ours.holders.take_from_gnupg()

    def test_public_work_goes_on(self, locked, theirs):
        introduce(locked, theirs)
        assert locked.encrypt(TEXT, [own(theirs), own(locked)], None, later())
        made = theirs.sign(TEXT, own(theirs), later())
        assert locked.verify(TEXT, made.armored, later())[0].state is SignatureState.GOOD


_CANCELLING = """echo OK
while read -r line; do
    case $line in
        GETPIN*) echo "ERR 83886179 Operation cancelled <Pinentry>" ;;
        BYE*) echo OK; exit ;;
        *) echo OK ;;
    esac
done"""


def _script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def _forget(gnupg, pinentry: str) -> None:
    """Start the agent anew: no passphrase in its memory, and this program to ask for one."""
    (gnupg.home / "gpg-agent.conf").write_text(f"pinentry-program {pinentry}\n")
    gnupg.end()


@pytest.mark.parametrize("signal", ["TERM", "INT", "KILL"])
def test_a_gpg_that_somebody_ends_says_nothing_of_the_message(signal, ours, gnupg, tmp_path, monkeypatch):
    """As when the machine runs out of memory, or a terminal or systemd ends all processes of a service."""
    # A cipher that only gpg reads.
    sealed = gnupg.run("--cipher-algo=TWOFISH", "--encrypt", "-r", ADDRESS, data=TEXT).stdout
    # Stopped half-way: gpg has said that the session key is right, and that is all it has said.
    said = b"[GNUPG:] ENC_TO 0 18 0\\n[GNUPG:] DECRYPTION_INFO 2 9\\n"
    for before in ("", f"printf '{said.decode()}' > /proc/self/fd/$fd"):
        script = f"""
            for word; do case $last in --status-fd) fd=$word;; esac; last=$word; done
            {before}
            kill -{signal} $$; exec sleep 60
        """
        monkeypatch.setenv("PATH", f"{_gpg(tmp_path, script)}:{os.environ['PATH']}")
        with pytest.raises(StoreLocked, match="was ended"):
            ours.decrypt(sealed, later())


def test_a_gpg_that_cannot_be_started_says_nothing_of_the_message(ours, theirs):
    introduce(ours, theirs)
    sealed = theirs.encrypt(TEXT, [own(ours)], None, later())
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    for descriptors in (free, free + 3):
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, limits[1]))
        try:
            with pytest.raises(StoreLocked, match="cannot be started"):
                ours.decrypt(sealed, later())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert ours.decrypt(sealed, later()).octets == TEXT


def _gpg(folder: Path, script: str) -> Path:
    """A folder with a gpg that does as the script says."""
    path = folder / "gpg"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o700)
    return folder


def test_nothing_of_gnupg_is_logged(ours, theirs, caplog):
    caplog.set_level(0)
    introduce(ours, theirs)
    message = theirs.encrypt(TEXT, [own(ours)], None, later())
    ours.decrypt(message, later())
    ours.holders.take_from_gnupg()
    assert [record for record in caplog.records if record.name.startswith("gnupg")] == []
