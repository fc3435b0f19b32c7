"""Messages to and from gpg, and everything that must not be read."""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpgp.composed import MessageBuilder, SignedPublicKey

from keystore import openpgp, policy
from keystore.errors import KeyRefused, NotReadable
from keystore.model import Certificate, Opened, Purpose, SignatureState
from keystore.openpgp.packet import Tag, binary, packets, write
from tests.keystore.openpgp import craft
from tests.keystore.oracle import Oracle, oracle

MADE = datetime.now(UTC)
NOW = MADE + timedelta(days=1)  # keys and signatures of other programs are dated when the tests run
"""Later than whatever gpg makes while the tests run."""
TEXT = b"Subject: hidden\r\n\r\nplain words, \xc3\xa4 and \x00 octets\r\n"
KINDS = ("ed25519", "rsa2048")


@pytest.fixture(scope="module")
def gpg() -> Iterator[Oracle]:
    """A correspondent with an Ed25519 and an RSA key."""
    with oracle() as home:
        for kind in KINDS:
            home.generate(f"{kind}@example.org", rsa=kind == "rsa2048")
        yield home


@pytest.fixture(scope="module")
def keys(gpg: Oracle) -> dict[str, openpgp.SecretKey]:
    return {kind: openpgp.unlock(gpg.binary_secret(f"{kind}@example.org"), None) for kind in KINDS}


@pytest.fixture(scope="module")
def own(gpg: Oracle) -> openpgp.SecretKey:
    key = openpgp.generate("own@example.org", now=MADE)
    gpg.run("--import", data=key.certificate_octets)
    return key


def knows(*known: openpgp.SecretKey) -> openpgp.Lookup:
    """A lookup among the certificates of these keys."""
    certificates = [openpgp.certificate(key.certificate_octets) for key in known]

    def lookup(issuer: str) -> Sequence[Certificate]:
        return [
            one
            for one in certificates
            if any(key == issuer or key[-16:] == issuer for key in openpgp.key_fingerprints(one.octets))
        ]

    return lookup


NOBODY = knows()


def recipient(key: openpgp.SecretKey) -> tuple[bytes, Sequence[policy.Fingerprint]]:
    octets = key.certificate_octets
    return octets, policy.usability(openpgp.facts(octets), Purpose.ENCRYPT, NOW).keys


def states(opened: Opened) -> list[SignatureState]:
    return [signature.state for signature in opened.signatures]


# --- ours for gpg


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("octets", [b"", b"a", TEXT, bytes(range(256)) * 400])
def test_gpg_reads_what_we_write(
    gpg: Oracle, keys: dict[str, openpgp.SecretKey], own: openpgp.SecretKey, kind: str, octets: bytes
) -> None:
    made = openpgp.encrypt(octets, [recipient(keys[kind]), recipient(own)], own, NOW)
    done = gpg.run("--decrypt", data=made)
    assert done.stdout == octets
    status = done.stderr.decode()
    assert "DECRYPTION_OKAY" in status
    assert f"VALIDSIG {own.fingerprint}" in status
    assert made.count(b"\n") == made.count(b"\r\n")


def test_nobody_and_unknown_subkeys_are_refused(own: openpgp.SecretKey) -> None:
    with pytest.raises(KeyRefused):
        openpgp.encrypt(TEXT, [], own, NOW)
    for subkeys in ([], ["F" * 40]):
        with pytest.raises(KeyRefused, match=own.fingerprint):
            openpgp.encrypt(TEXT, [(own.certificate_octets, subkeys)], own, NOW)


def test_an_expired_key_does_not_sign() -> None:
    key = openpgp.generate("short@example.org", now=MADE, expires=timedelta(days=1))
    with pytest.raises(KeyRefused, match="expired"):
        openpgp.sign_detached(key, TEXT, NOW + timedelta(days=2))
    with pytest.raises(KeyRefused, match="expired"):
        openpgp.encrypt(TEXT, [recipient(key)], key, NOW + timedelta(days=2))


# --- gpg's for us


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--armor"],
        ["-z", "0"],
        ["--compress-algo=zip"],
        ["--compress-algo=bzip2"],
        ["--cipher-algo=AES128"],
        ["--cipher-algo=CAMELLIA192"],
        ["--cipher-algo=3DES"],
        ["--throw-keyids"],
        ["--digest-algo=SHA256"],
        ["--set-filename=../../etc/passwd"],
    ],
)
def test_we_read_what_gpg_writes(
    gpg: Oracle, keys: dict[str, openpgp.SecretKey], own: openpgp.SecretKey, kind: str, options: list[str]
) -> None:
    name = f"{kind}@example.org"
    octets = TEXT * 300
    made = gpg.run(*options, "--local-user", name, "--sign", "--encrypt", "-r", name, data=octets).stdout
    opened = openpgp.open_message(made, [own, keys[kind]], knows(own, keys[kind]), NOW)
    assert opened.octets == octets
    assert [(one.state, one.addresses) for one in opened.signatures] == [(SignatureState.GOOD, (name,))]
    hidden = "--throw-keyids" in options
    assert opened.recipients == ("0" * 16 if hidden else gpg.fingerprints(f"={name}")[1][-16:],)
    assert openpgp.key_ids(made) == opened.recipients


def test_an_unknown_signer_still_gives_the_plaintext(gpg: Oracle, keys: dict[str, openpgp.SecretKey]) -> None:
    made = gpg.run("--sign", "--encrypt", "-r", "rsa2048@example.org", data=TEXT).stdout
    opened = openpgp.open_message(made, list(keys.values()), NOBODY, NOW)
    assert (opened.octets, states(opened)) == (TEXT, [SignatureState.UNKNOWN_KEY])


def test_several_signatures_are_judged_each(gpg: Oracle, keys: dict[str, openpgp.SecretKey]) -> None:
    users = [word for kind in KINDS for word in ("--local-user", f"{kind}@example.org")]
    made = gpg.run(*users, "--sign", "--encrypt", "-r", "rsa2048@example.org", data=TEXT).stdout
    opened = openpgp.open_message(made, list(keys.values()), knows(keys["ed25519"]), NOW)
    assert sorted(state.value for state in states(opened)) == ["good", "unknown-key"]


def test_no_more_than_sixteen_signatures_are_looked_at(own: openpgp.SecretKey) -> None:
    signature = binary(openpgp.sign_detached(own, TEXT, NOW).armored, "SIGNATURE")
    made = craft.encrypted(own.certificate_octets, signature * 100 + craft.literal(TEXT))
    opened = openpgp.open_message(made, [own], knows(own), NOW)
    assert states(opened) == [SignatureState.GOOD] * 16


@pytest.mark.parametrize("subkey", ["cv25519", "nistp256", "nistp521", "brainpoolP384r1"])
def test_every_subkey_opens_mail_also_an_old_or_expired_one(gpg: Oracle, subkey: str) -> None:
    name = f"{subkey}-many@example.org"
    then = NOW - timedelta(days=900)
    gpg.at(then, "--quick-generate-key", name, "ed25519", "sign,cert", "1y")
    fingerprint = gpg.fingerprints(f"={name}")[0]
    for _ in range(2):
        gpg.at(then, "--quick-add-key", fingerprint, subkey, "encr", "1m")
    wanted = gpg.fingerprints(f"={name}")[1]
    made = gpg.at(then, "--encrypt", "-r", f"{wanted}!", data=TEXT)
    key = openpgp.unlock(gpg.binary_secret(fingerprint), None)
    opened = openpgp.open_message(made, [key], NOBODY, NOW)
    assert (opened.octets, opened.recipients) == (TEXT, (wanted[-16:],))


def test_the_session_key_of_gpg_opens_the_message(gpg: Oracle, keys: dict[str, openpgp.SecretKey]) -> None:
    made = gpg.run("--sign", "--encrypt", "-r", "ed25519@example.org", data=TEXT).stdout
    shown = gpg.run("--show-session-key", "--decrypt", data=made).stderr.decode()
    text = next(line.split()[2] for line in shown.splitlines() if line.startswith("[GNUPG:] SESSION_KEY"))
    cipher, _, number = text.partition(":")
    session_key = bytes([int(cipher)]) + bytes.fromhex(number)
    opened = openpgp.open_with_session_key(made, session_key, knows(keys["ed25519"]), NOW)
    assert (opened.octets, states(opened)) == (TEXT, [SignatureState.GOOD])
    for wrong in (b"", session_key[:-1], session_key[:1] + bytes(32), b"\x63" + bytes(32)):
        with pytest.raises(NotReadable):
            openpgp.open_with_session_key(made, wrong, NOBODY, NOW)


@pytest.mark.parametrize("mode", ["ocb", "gcm"])
def test_aead_messages_of_the_engine(own: openpgp.SecretKey, mode: str) -> None:
    octets = TEXT * 3000
    builder = MessageBuilder.from_bytes("", octets)
    builder.seipd_v2("aes256", mode)
    builder.encrypt_to_key(SignedPublicKey.from_bytes(own.certificate_octets).public_subkeys[0])
    made = builder.to_vec()
    assert openpgp.open_message(made, [own], NOBODY, NOW).octets == octets
    damaged = made[:-20] + bytes([made[-20] ^ 1]) + made[-19:]
    with pytest.raises(NotReadable):
        openpgp.open_message(damaged, [own], NOBODY, NOW)


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 1000])
def test_packet_20_of_newer_gnupg(gpg: Oracle, keys: dict[str, openpgp.SecretKey], length: int) -> None:
    octets = bytes(length)
    key = keys["ed25519"]
    body = craft.gnupg_aead(craft.literal(octets))
    made = craft.session_key_packet(key.certificate_octets) + body
    # gpg reads it too: ours is not the only opinion on the format.
    assert gpg.run("--decrypt", data=made).stdout == octets
    assert openpgp.open_message(made, [key], NOBODY, NOW).octets == octets
    for at in range(len(made) - len(body), len(made)):
        damaged = made[:at] + bytes([made[at] ^ 1]) + made[at + 1 :]
        with pytest.raises(NotReadable):
            openpgp.open_message(damaged, [key], NOBODY, NOW)


# --- what must not be read


def refusal(message: bytes, *keys: openpgp.SecretKey) -> str:
    with pytest.raises(NotReadable) as caught:
        openpgp.open_message(message, keys, NOBODY, NOW)
    return caught.value.reason


def test_without_a_key_for_it(gpg: Oracle, own: openpgp.SecretKey) -> None:
    for options in ([], ["--throw-keyids"]):
        made = gpg.run(*options, "--encrypt", "-r", "ed25519@example.org", data=TEXT).stdout
        assert refusal(made, own) == "no-secret-key"
        assert refusal(made) == "no-secret-key"


def test_without_integrity_protection(own: openpgp.SecretKey) -> None:
    # The downgrade of EFAIL: the same ciphertext in the packet that has no modification detection.
    whole = craft.encrypted(own.certificate_octets, craft.literal(TEXT))
    pieces = list(packets(whole))
    downgraded = pieces[0].octets + write(Tag.SED, pieces[1].body[1:])
    assert refusal(downgraded, own) == "no-integrity"


BOMB = craft.literal(bytes(64 * 1024 * 1024))
SIGNED = write(Tag.COMPRESSED, b"\x02" + zlib.compress(craft.literal(TEXT)))

INSIDE: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("nothing", lambda c: b"", "unsupported"),
    ("no literal", lambda c: write(Tag.MARKER, b"PGP"), "unsupported"),
    ("two literals", lambda c: craft.literal(TEXT) + craft.literal(TEXT), "damaged"),
    ("another encrypted message", lambda c: craft.encrypted(c, craft.literal(TEXT)), "unsupported"),
    (
        "two layers of compression",
        lambda c: write(Tag.COMPRESSED, b"\x02" + zlib.compress(SIGNED)),
        "damaged",
    ),
    ("compressed beside a literal", lambda c: craft.literal(TEXT) + SIGNED, "damaged"),
    ("unknown compression", lambda c: write(Tag.COMPRESSED, b"\x63abc"), "unsupported"),
    ("broken compression", lambda c: write(Tag.COMPRESSED, b"\x02abc"), "damaged"),
    (
        "half a compression",
        lambda c: write(Tag.COMPRESSED, b"\x02" + zlib.compress(BOMB[:9999])[:-9]),
        "damaged",
    ),
    ("a zlib bomb", lambda c: write(Tag.COMPRESSED, b"\x02" + zlib.compress(BOMB)), "too-large"),
    ("a bzip2 bomb", lambda c: write(Tag.COMPRESSED, b"\x03" + bz2.compress(BOMB)), "too-large"),
    ("a key", lambda c: c, "damaged"),
    ("no packets", lambda c: b"Content-Type: text/plain\r\n", "damaged"),
    ("a literal of an unknown format", lambda c: craft.literal(TEXT, b"x"), "damaged"),
    ("a literal that is cut off", lambda c: craft.literal(TEXT)[:-1], "damaged"),
]


@pytest.mark.parametrize(("plain", "reason"), [row[1:] for row in INSIDE], ids=[row[0] for row in INSIDE])
def test_strange_insides(own: openpgp.SecretKey, plain: Callable[[bytes], bytes], reason: str) -> None:
    certificate = own.certificate_octets
    assert refusal(craft.encrypted(certificate, plain(certificate)), own) == reason


def test_the_limits_are_those_asked_for(own: openpgp.SecretKey) -> None:
    made = openpgp.encrypt(bytes(5000), [recipient(own)], None, NOW)
    limits = openpgp.OpenLimits(octets=4999)
    with pytest.raises(NotReadable, match="larger"):
        openpgp.open_message(made, [own], NOBODY, NOW, limits)
    assert openpgp.open_message(made, [own], NOBODY, NOW, openpgp.OpenLimits(octets=5000)).octets == bytes(
        5000
    )


@pytest.fixture(scope="module")
def sealed(own: openpgp.SecretKey) -> bytes:
    return binary(openpgp.encrypt(TEXT, [recipient(own)], own, NOW), "MESSAGE")


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_no_flipped_octet_gives_another_plaintext(own: openpgp.SecretKey, sealed: bytes, mask: int) -> None:
    lookup = knows(own)
    for at in range(len(sealed)):
        damaged = sealed[:at] + bytes([sealed[at] ^ mask]) + sealed[at + 1 :]
        try:
            opened = openpgp.open_message(damaged, [own], lookup, NOW)
        except NotReadable:
            continue
        # A flipped hint, such as a key ID that is now zero, may still open: to the same octets.
        assert opened.octets == TEXT
        assert states(opened) == [SignatureState.GOOD]


def test_no_part_of_a_message_is_readable(own: openpgp.SecretKey, sealed: bytes) -> None:
    for length in range(len(sealed)):
        assert refusal(sealed[:length], own) in ("damaged", "no-secret-key")
    assert refusal(sealed + b"x", own) == "damaged"
    assert refusal(sealed + sealed, own) == "damaged"


@pytest.mark.parametrize("wrong", ["SHA-1 of other octets", "no MDC packet"])
def test_the_mdc_decides(own: openpgp.SecretKey, wrong: str) -> None:
    made = craft.seipd(craft.literal(TEXT))
    body = next(iter(packets(made))).body
    flipped = body[:-1] + bytes([body[-1] ^ 1]) if wrong.startswith("SHA") else body[:-22]
    whole = craft.session_key_packet(own.certificate_octets) + write(Tag.SEIPD, flipped)
    assert refusal(whole, own) == "damaged"


@given(st.binary(max_size=300))
def test_garbage_is_not_readable(octets: bytes) -> None:
    for candidate in (octets, b"\xc1" + octets, b"\xd2\xff\0\0\0\x10\1" + octets):
        with pytest.raises(NotReadable):
            openpgp.open_message(candidate, [], NOBODY, NOW)


def test_a_trial_tells_whether_the_engine_can_encrypt(own: openpgp.SecretKey) -> None:
    openpgp.trial(*recipient(own))
    with pytest.raises(KeyRefused) as caught:
        # An Ed25519 key signs; the engine must not pick another key of the certificate in its place.
        openpgp.trial(own.certificate_octets, [own.fingerprint])
    assert str(caught.value) == f"a trial encryption to key {own.fingerprint} failed"


def _hidden(packet: bytes) -> bytes:
    """The same PKESK packet without the name of its key."""
    body = next(packets(packet)).body
    return write(Tag.PKESK, body[:1] + bytes(8) + body[9:])


@pytest.mark.parametrize(("decoys", "opens"), [(100, True), (999, False)])
def test_private_keys_are_not_used_without_end(own: openpgp.SecretKey, decoys: int, opens: bool) -> None:
    """A thousand hidden recipients would cost seconds with each RSA key, for every such message."""
    right = _hidden(craft.session_key_packet(own.certificate_octets))
    body = next(packets(right)).body
    decoy = write(Tag.PKESK, body[:-8] + bytes(8))
    message = decoy * decoys + right + craft.seipd(craft.literal(TEXT))
    if opens:
        assert openpgp.open_message(message, [own], knows(own), NOW).octets == TEXT
    else:
        with pytest.raises(NotReadable):
            openpgp.open_message(message, [own], knows(own), NOW)


@pytest.mark.parametrize(("decoys", "opens"), [(3, True), (4, False)])
def test_wrong_session_keys_are_not_tried_without_end(
    own: openpgp.SecretKey, decoys: int, opens: bool
) -> None:
    """Anybody can encrypt a thousand wrong ones to a key; each costs a pass over the whole message."""
    wrong = b"".join(craft.session_key_packet(own.certificate_octets, bytes([n] * 32)) for n in range(decoys))
    right = craft.session_key_packet(own.certificate_octets)
    message = wrong + right + craft.seipd(craft.literal(TEXT))
    if opens:
        assert openpgp.open_message(message, [own], knows(own), NOW).octets == TEXT
    else:
        with pytest.raises(NotReadable) as caught:
            openpgp.open_message(message, [own], knows(own), NOW)
        assert caught.value.reason == "damaged"
