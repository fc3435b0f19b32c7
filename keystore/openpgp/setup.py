"""Autocrypt Setup Messages: an own key under a setup code, for another program of the same person.

Standards: Autocrypt Level 1 section 4.4; RFC 9580 sections 5.3 (SKESK version 4), 5.13.1, 3.7.1.3.
Security: the code has 36 random digits, 119 bits. What is made is opened again before it is handed out.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from functools import partial

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher
from openpgp import composed as engine

from keystore.errors import KeyRefused, NotReadable
from keystore.openpgp import session
from keystore.openpgp.ascii_armor import armor
from keystore.openpgp.content import read_content
from keystore.openpgp.engine import EngineRefused, ask
from keystore.openpgp.key import SecretKey
from keystore.openpgp.packet import Malformed, Reader, Tag, binary, packets, write
from keystore.openpgp.secret import CIPHERS, string_to_key

MOST_OCTETS = 1024 * 1024
"""Of a message that is opened; real ones have some KiB."""
_AES128, _SHA256, _ITERATED_SALTED, _MOST_ITERATIONS = 7, 8, 3, 0xFF
_MOST_PASSPHRASES = 4
_BEGIN_KEY = b"-----BEGIN PGP PRIVATE KEY BLOCK-----\r\n"
_PREFERENCE = re.compile(rb"^Autocrypt-Prefer-Encrypt:[ \t]*mutual[ \t]*\r?$", re.MULTILINE)
WRONG = "the setup code does not open it, or it is damaged"


@dataclass(frozen=True, slots=True)
class Setup:
    """What a Setup Message holds."""

    key: bytes = field(repr=False)
    """The transferable secret key, armored and not protected."""
    mutual: bool
    """Whether the account asks correspondents to encrypt (prefer-encrypt=mutual)."""


def new_code() -> str:
    """Nine groups of four digits with hyphens between: the passphrase as it is derived from."""
    return "-".join(f"{secrets.randbelow(10_000):04d}" for _ in range(9))


def normal_code(text: str) -> str:
    """A code as it may be typed, in its one form. Raises KeyRefused where it has not 36 digits."""
    digits = re.sub(r"[\s-]", "", text)
    if not re.fullmatch(r"[0-9]{36}", digits):
        raise KeyRefused("a setup code has 36 digits, in nine groups of four")
    return "-".join(digits[at : at + 4] for at in range(0, 36, 4))


def seal_setup(key: SecretKey, code: str, *, mutual: bool) -> bytes:
    """The armored message (CRLF) that other programs open with `code`. Raises KeyRefused."""
    preference = b"mutual" if mutual else b"nopreference"
    block = armor(key.to_octets(), "PRIVATE KEY BLOCK")
    payload = _BEGIN_KEY + b"Autocrypt-Prefer-Encrypt: " + preference + b"\r\n" + block[len(_BEGIN_KEY) :]
    message = armor(_encrypted(payload, code.encode("ascii")), "MESSAGE")
    first, _, rest = message.partition(b"\r\n")
    said = b"Passphrase-Format: numeric9x4\r\nPassphrase-Begin: " + code[:2].encode("ascii") + b"\r\n"
    made = first + b"\r\n" + said + rest
    if open_setup(made, code) != Setup(payload, mutual):
        raise KeyRefused("the Setup Message could not be made")
    return made


def open_setup(octets: bytes, code: str) -> Setup:
    """Open an armored message. Raises KeyRefused."""
    if len(octets) > MOST_OCTETS:
        raise KeyRefused("this is larger than any Setup Message")
    try:
        payload = _decrypted(binary(octets, "MESSAGE"), normal_code(code).encode("ascii"))
    except (Malformed, NotReadable):
        raise KeyRefused(WRONG) from None
    head = payload.partition(b"\n\r\n")[0] if b"\n\r\n" in payload else payload.partition(b"\n\n")[0]
    return Setup(payload, _PREFERENCE.search(head) is not None)


def _encrypted(octets: bytes, passphrase: bytes) -> bytes:
    """Symmetrically, with AES-128 and MDC; the session key is that of the passphrase."""
    specifier = bytes([_ITERATED_SALTED, _SHA256]) + secrets.token_bytes(8) + bytes([_MOST_ITERATIONS])
    builder = engine.MessageBuilder.from_bytes("", octets)
    builder.seipd_v1("aes128")
    builder.set_session_key(string_to_key(Reader(specifier), passphrase, CIPHERS[_AES128].key_size))
    try:
        made = bytes(ask(builder.to_vec))
    except EngineRefused:
        raise KeyRefused("the Setup Message could not be encrypted") from None
    return write(Tag.SKESK, bytes([4, _AES128]) + specifier) + made


def _decrypted(message: bytes, passphrase: bytes) -> bytes:
    """Raises NotReadable and Malformed."""
    found = session.taken_apart(message)
    under = [packet.body for packet in packets(message) if packet.tag == Tag.SKESK][:_MOST_PASSPHRASES]
    for session_key in map(partial(_session_key, passphrase), under):
        try:
            return read_content(session.decrypt_with(found, session_key), MOST_OCTETS).literal
        except NotReadable:
            continue
    raise NotReadable(WRONG)


def _session_key(passphrase: bytes, body: bytes) -> bytes:
    """The cipher's octet and the key (RFC 9580 section 5.3.1). Raises Malformed."""
    reader = Reader(body)
    version, cipher_id = reader.take(2)
    cipher = CIPHERS.get(cipher_id)
    if version != 4 or cipher is None:
        raise Malformed("passphrase")
    key = string_to_key(reader, passphrase, cipher.key_size)
    encrypted = reader.rest()
    if not encrypted:
        return bytes([cipher_id]) + key
    made = cipher.make(key)
    opener = Cipher(made, CFB(bytes(made.block_size // 8))).decryptor()
    return opener.update(encrypted) + opener.finalize()
