"""What others write, read by us: a table over programs, keys, ciphers and forms (RFC 9580, MIME-07)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import pysequoia
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpgp.composed import (
    EncryptionCaps,
    KeyType,
    MessageBuilder,
    SecretKeyParamsBuilder,
    SignedPublicKey,
    SignedSecretKey,
    SubkeyParamsBuilder,
)

from keystore import openpgp
from keystore.errors import NotReadable
from keystore.model import SignatureState
from keystore.openpgp.packet import packets, write
from tests.keystore.openpgp import craft
from tests.keystore.openpgp.test_message import NOBODY, knows, states
from tests.keystore.oracle import Oracle, oracle

NOW = datetime.now(UTC) + timedelta(days=1)
TEXT = b"Subject: hidden\r\n\r\nplain words, \xc3\xa4\r\n" * 40
MADE = {
    "ed25519": (KeyType.ed25519, KeyType.x25519),
    "ed448": (KeyType.ed448, KeyType.x448),
    "rsa": (lambda: KeyType.rsa(2048), lambda: KeyType.rsa(2048)),
}
WAYS = ("v1", "ocb", "gcm", "eax")


def made_by_engine(version: int, kind: str) -> SignedSecretKey:
    primary, subkey = MADE[kind]
    encrypting = SubkeyParamsBuilder()
    encrypting.version(version)
    encrypting.key_type(subkey())
    encrypting.can_encrypt(EncryptionCaps.all())
    params = SecretKeyParamsBuilder()
    params.version(version)
    params.key_type(primary())
    params.can_certify(True)
    params.can_sign(True)
    params.primary_user_id("engine@example.org")
    params.subkey(encrypting.build())
    return params.build().generate()


def unlocked(octets: bytes) -> openpgp.SecretKey:
    [parsed] = openpgp.parse_keys(octets)
    assert parsed.secret_octets is not None
    return openpgp.unlock(parsed.secret_octets, None)


# --- the engine: every key of RFC 9580, every mode, named and hidden


@pytest.mark.parametrize(
    ("version", "kind"), [(4, "ed25519"), (6, "ed25519"), (4, "ed448"), (6, "ed448"), (4, "rsa")]
)
def test_keys_and_modes_of_rfc_9580(version: int, kind: str) -> None:
    secret = made_by_engine(version, kind)
    key = unlocked(secret.to_bytes())
    target = SignedPublicKey.from_bytes(key.certificate_octets).public_subkeys[0]
    for way, hidden, compression in product(WAYS, (False, True), (None, "zlib")):
        builder = MessageBuilder.from_bytes("", TEXT)
        if way == "v1":
            builder.seipd_v1("aes128")
        else:
            builder.seipd_v2("aes256", way, chunk_size=2)
        if compression:
            builder.compression(compression)
        builder.sign(secret, None, "sha512")
        (builder.encrypt_to_key_anonymous if hidden else builder.encrypt_to_key)(target)
        made = builder.to_vec()
        opened = openpgp.open_message(made, [key], knows(key), NOW)
        assert (opened.octets, states(opened)) == (TEXT, [SignatureState.GOOD]), (way, hidden, compression)
        assert opened.encrypted
        refuse_changes(made, key)


Encryptions = tuple[openpgp.SecretKey, list[bytes]]


@pytest.fixture(scope="module")
def made() -> Encryptions:
    """A key, and the same text encrypted to it in each way."""
    key = unlocked(made_by_engine(4, "ed25519").to_bytes())
    target = SignedPublicKey.from_bytes(key.certificate_octets).public_subkeys[0]
    messages = []
    for way in WAYS:
        builder = MessageBuilder.from_bytes("", TEXT)
        if way == "v1":
            builder.seipd_v1("aes256")
        else:
            builder.seipd_v2("aes128", way, chunk_size=4)
        builder.encrypt_to_key(target)
        messages.append(builder.to_vec())
    newer = craft.gnupg_aead(craft.literal(TEXT), chunk_exponent=2)
    return key, [*messages, craft.session_key_packet(key.certificate_octets) + newer]


def refuse_changes(made: bytes, key: openpgp.SecretKey) -> None:
    """A few changed places, and every cut, of the encrypted data: no plaintext (MIME-07)."""
    for back in (1, 16, 17, 40, 100):
        damaged = bytearray(made)
        damaged[-back] ^= 4
        for octets in (bytes(damaged), made[:-back]):
            with pytest.raises(NotReadable):
                openpgp.open_message(octets, [key], NOBODY, NOW)


CHUNK = 64 + 16
"""Octets of the smallest chunk with its tag."""


@pytest.mark.parametrize("way", ["ocb", "gcm", "eax"])
def test_chunks_stay_where_they_are(way: str) -> None:
    """Each proves itself alone; left out, moved, doubled or cut at the end they are no message any more."""
    secret = made_by_engine(6, "ed25519")
    key = unlocked(secret.to_bytes())
    builder = MessageBuilder.from_bytes("", bytes(64 * 4))
    builder.seipd_v2("aes256", way, chunk_size=0)
    builder.encrypt_to_key(SignedPublicKey.from_bytes(key.certificate_octets).public_subkeys[0])
    session_key, data = packets(builder.to_vec())
    head, body = data.body[:36], data.body[36:]
    body, last = body[:-16], body[-16:]
    chunks = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)]
    assert len(chunks) > 3

    def opens(*pieces: bytes) -> bool:
        made = session_key.octets + write(data.tag, b"".join(pieces))
        try:
            return openpgp.open_message(made, [key], NOBODY, NOW).octets == bytes(64 * 4)
        except NotReadable:
            return False

    assert opens(data.body)
    for pieces in (
        [*chunks[1:], last],
        [*chunks[:-1], last],
        [chunks[1], chunks[0], *chunks[2:], last],
        [*chunks, chunks[-1], last],
        [*chunks[:2], last],
        chunks,
        chunks[:1],
        [last],
        [],
    ):
        assert not opens(head, *pieces)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_changed_octet_of_any_kind_of_encryption_gives_plaintext(
    made: Encryptions, data: st.DataObject
) -> None:
    """MIME-07. A changed name of the recipient may leave the message as it was, and never another one."""
    key, messages = made
    octets = bytearray(data.draw(st.sampled_from(messages)))
    at, octet = data.draw(st.integers(0, len(octets) - 1)), data.draw(st.integers(0, 255))
    octets[at] = octet
    try:
        opened = openpgp.open_message(bytes(octets), [key], NOBODY, NOW)
    except NotReadable:
        return
    assert (opened.octets, opened.encrypted) == (TEXT, True)


# --- sequoia


@pytest.mark.parametrize("profile", [pysequoia.Profile.RFC4880, pysequoia.Profile.RFC9580])
def test_sequoia(profile: pysequoia.Profile) -> None:
    theirs = pysequoia.Tsk.generate("sequoia@example.org", profile=profile)
    key = unlocked(bytes(theirs))
    made = pysequoia.encrypt(TEXT, recipients=[theirs.extract_certificate()], signer=theirs.signer())
    opened = openpgp.open_message(made, [key], knows(key), NOW)
    assert (opened.octets, states(opened)) == (TEXT, [SignatureState.GOOD])
    signed = pysequoia.sign(theirs.signer(), TEXT, mode=pysequoia.SignatureMode.INLINE)
    only = openpgp.open_message(signed, [], knows(key), NOW)
    assert (only.octets, only.encrypted, states(only)) == (TEXT, False, [SignatureState.GOOD])


def test_sq_with_every_compression(tmp_path: Path) -> None:
    def sq(*words: str, data: bytes = b"") -> bytes:
        return subprocess.run(["sq", *words], input=data, capture_output=True, check=True).stdout

    secret, public = tmp_path / "key.pgp", tmp_path / "cert.pgp"
    sq("key", "generate", "--userid", "sq@example.org", "--cipher-suite=cv25519", "--export", str(secret))
    public.write_bytes(sq("key", "extract-cert", str(secret)))
    key = unlocked(secret.read_bytes())
    for compression in ("none", "zip", "zlib", "bzip2"):
        words = ["encrypt", "--recipient-cert", str(public), "--signer-key", str(secret)]
        made = sq(*words, "--compression", compression, data=TEXT)
        opened = openpgp.open_message(made, [key], knows(key), NOW)
        assert (opened.octets, states(opened)) == (TEXT, [SignatureState.GOOD])
    only = openpgp.open_message(sq("sign", "--signer-key", str(secret), data=TEXT), [], knows(key), NOW)
    assert (only.encrypted, states(only)) == (False, [SignatureState.GOOD])


# --- gpg


@dataclass(frozen=True)
class Correspondent:
    gpg: Oracle
    key: openpgp.SecretKey

    def reads(self, *words: str, data: bytes = TEXT) -> openpgp.Opened:
        made = self.gpg.run(*words, data=data).stdout
        return openpgp.open_message(made, [self.key], knows(self.key), NOW)


@pytest.fixture(scope="module")
def gpg() -> Iterator[Correspondent]:
    with oracle() as home:
        home.generate("gpg@example.org")
        yield Correspondent(home, openpgp.unlock(home.binary_secret("gpg@example.org"), None))


@pytest.mark.parametrize("name", ["SIGNED", "COMPRESSED"])
def test_a_message_that_is_only_signed_is_read_and_said_to_be_that(gpg: Correspondent, name: str) -> None:
    compression = ["-z", "0"] if name == "SIGNED" else ["--compress-algo=bzip2"]
    for words in (["--sign"], ["--sign", "--armor"], ["--sign", "--textmode"]):
        opened = gpg.reads(*compression, *words)
        assert (opened.octets.replace(b"\n", b"\r\n").replace(b"\r\r", b"\r"), opened.encrypted) == (
            TEXT,
            False,
        )
        assert states(opened) == [SignatureState.GOOD]
        assert opened.recipients == ()


def test_what_is_neither_signed_nor_encrypted_is_neither(gpg: Correspondent) -> None:
    with pytest.raises(NotReadable) as caught:
        gpg.reads("--store")
    assert caught.value.reason == "not-encrypted"


def test_nobody_is_asked_for_a_passphrase(gpg: Correspondent) -> None:
    alone = ["--symmetric", "--passphrase", "secret"]
    with pytest.raises(NotReadable) as caught:
        gpg.reads(*alone)
    assert caught.value.reason == "passphrase"
    assert gpg.reads(*alone, "--encrypt", "-r", "gpg@example.org").octets == TEXT
    made = gpg.gpg.run(*alone, "--encrypt", "-r", "gpg@example.org", data=TEXT).stdout
    with pytest.raises(NotReadable) as caught:
        openpgp.open_message(made, [], NOBODY, NOW)
    assert caught.value.reason == "no-secret-key"
    packed = openpgp.for_gnupg(made)
    assert openpgp.open_message(packed, [gpg.key], NOBODY, NOW).octets == TEXT
    assert b"\x8c" != packed[:1] != b"\xc3"  # begins with the packet for the key, not for the passphrase


def test_keys_of_the_past_open_mail_of_the_past(gpg: Correspondent) -> None:
    """An expired key with a revoked encryption subkey, and the subkey that took its place."""
    home, then = gpg.gpg, NOW - timedelta(days=900)
    home.at(then, "--quick-generate-key", "old@example.org", "ed25519", "sign,cert", "1y")
    fingerprint = home.fingerprints("=old@example.org")[0]
    messages = []
    for _ in range(2):
        home.at(then, "--quick-add-key", fingerprint, "cv25519", "encr", "1y")
        messages.append(home.at(then, "--sign", "--encrypt", "-u", fingerprint, "-r", fingerprint, data=TEXT))
    home.edit(then + timedelta(days=9), fingerprint, "key 1", "revkey", "y", "2", "", "y", "save")
    key = openpgp.unlock(home.binary_secret(fingerprint), None)
    assert openpgp.facts(key.certificate_octets).keys[1].revocations
    for made in messages:
        assert openpgp.open_message(made, [gpg.key, key], NOBODY, NOW).octets == TEXT


def test_hidden_recipients_cost_little_with_many_keys(gpg: Correspondent) -> None:
    others = [openpgp.generate(f"{n}@example.org", now=NOW - timedelta(days=2)) for n in range(60)]
    made = gpg.gpg.run("--throw-keyids", "--encrypt", "-r", "gpg@example.org", data=TEXT).stdout
    assert openpgp.open_message(made, [*others, gpg.key], NOBODY, NOW).octets == TEXT
