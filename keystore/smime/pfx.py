"""PKCS #12 files, as authorities, browsers and mail programs hand out keys.

The library verifies the MAC and decrypts. Here the structure is read for what it leaves undone: BER (which
Thunderbird and whatever else builds on NSS writes), more keys than one, passphrases that programs write in
their own way, bounds on what opening costs, and a reason when it fails.

Standards: RFC 7292 (PKCS #12), RFC 9579 (PBMAC1), RFC 8018 (PBES2, PBKDF2).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import PKCS12KeyAndCertificates, load_pkcs12

from keystore.errors import KeyRefused
from keystore.smime import ber
from keystore.smime.mathematics import algorithm_identifier, dotted

MAX_ITERATIONS = 50_000_000
"""How often a passphrase may be hashed to open a file, all in all: about a minute. NSS has 600,000 for
each key and each certificate."""

_DATA, _ENCRYPTED = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.6"
_BAGS = "1.2.840.113549.1.12.10.1."
_KEY, _SHROUDED_KEY, _SAFE = _BAGS + "1", _BAGS + "2", _BAGS + "6"
_PBE = "1.2.840.113549.1.12.1."
"""Triple DES, RC2 and RC4 of PKCS #12 itself."""
_PBES2, _PBMAC1, _PBKDF2 = "1.2.840.113549.1.5.13", "1.2.840.113549.1.5.14", "1.2.840.113549.1.5.12"
_EXPLICIT = 0xA0
_EMPTY = b"\0"
"""What the library takes for the empty passphrase: it derives the same keys, and "" would mean none."""


@dataclass(slots=True)
class Opened:
    """What a file holds."""

    certificates: list[bytes] = field(default_factory=list)
    """DER."""
    keys: list[PrivateKeyTypes] = field(default_factory=list, repr=False)
    """Of any kind that the library knows."""
    unread: int = 0
    """Private keys besides that cannot be read."""


@dataclass(slots=True)
class _Structure:
    """A file as far as it can be told without its passphrase."""

    der: bytes
    """With definite lengths outside; the MAC stands over what is inside, which keeps its octets."""
    protected: list[ber.Element] = field(default_factory=list)
    """Those ContentInfo that need a passphrase, in whole or in part."""
    keys: list[bytes] = field(default_factory=list)
    """Shrouded or bare, each as the library loads it."""
    iterations: int = 0


def read(octets: bytes, passphrase: Callable[[], str]) -> Opened:
    """Open a file, BER or DER. `passphrase` is asked once, and only when it is needed. Raises KeyRefused."""
    try:
        structure = _structure(octets)
    except ber.Malformed:
        raise KeyRefused("this PKCS #12 file is damaged, or cut off") from None
    if structure.iterations > MAX_ITERATIONS:
        raise KeyRefused("this PKCS #12 file takes too long to open: its passphrase is hashed too often")
    tried: list[bytes] = []
    for word in _words(passphrase):
        found = _loaded(structure.der, word)
        if found is not None:
            return _opened(found, structure, word)
        tried.append(word)
    raise KeyRefused(_why(structure, [word for word in tried if word]))


def _words(passphrase: Callable[[], str]) -> Iterator[bytes]:
    """The passphrases to try. "" is none as well: programs differ in which they mean, the library tries both.

    Raises KeyRefused where none is given.
    """
    yield b""
    word = passphrase().encode()
    yield word
    # gpgsm and openssl before 1.1 take the octets of UTF-8 for characters.
    if not word.isascii():
        yield word.decode("latin-1").encode()


def _loaded(der: bytes, word: bytes) -> PKCS12KeyAndCertificates | None:
    try:
        with warnings.catch_warnings():
            # What is not quite DER, such as a default value that is written out, is read all the same.
            warnings.filterwarnings("ignore", message="PKCS#12 bundle could not be parsed as DER")
            return load_pkcs12(der, word)
    except TypeError:
        raise KeyRefused("the private key is of a kind that is not supported") from None
    except Exception:  # noqa: BLE001  the library tells a wrong passphrase from damage in no certain way
        return None


def _opened(found: PKCS12KeyAndCertificates, structure: _Structure, word: bytes) -> Opened:
    """All that there is; of several private keys the library gives the first."""
    opened = Opened()
    for one in ([found.cert] if found.cert else []) + found.additional_certs:
        opened.certificates.append(one.certificate.public_bytes(Encoding.DER))
    others = [_key(octets, word) for octets in structure.keys] if len(structure.keys) > 1 else []
    for key in (found.key, *others):
        if key is not None and not any(_same(key, known) for known in opened.keys):
            opened.keys.append(key)
    opened.unread = others.count(None) - (not any(_same(found.key, key) for key in others) if others else 0)
    return opened


def _key(octets: bytes, word: bytes) -> PrivateKeyTypes | None:
    for attempt in (word or _EMPTY, None):  # it may be bare
        try:
            return load_der_private_key(octets, attempt)
        except Exception:  # noqa: BLE001,S112  whatever the library raises, it is not readable
            continue
    return None


def _same(one: PrivateKeyTypes | None, other: PrivateKeyTypes | None) -> bool:
    return one is not None and other is not None and one.public_key() == other.public_key()


def _why(structure: _Structure, words: list[bytes]) -> str:
    """What to say of a file that does not open: damaged after all, where a part opens by a passphrase."""
    if any(_opens(info, word) for info in structure.protected for word in words):
        return (
            "the passphrase is right, but this PKCS #12 file is damaged, or was written wrongly: "
            "export it once more"
        )
    return "the passphrase does not open this PKCS #12 file, or the file is damaged"


def _opens(info: ber.Element, word: bytes) -> bool:
    """Whether a part opens by this passphrase and by no other."""
    alone = _without_mac(info)
    return _loaded(alone, word) is not None and _loaded(alone, word + b"x") is None


def _without_mac(info: ber.Element) -> bytes:
    """A file of one ContentInfo only."""
    octets = ber.element(ber.OCTET_STRING, ber.element(ber.SEQUENCE, info.whole))
    data = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01" + ber.element(_EXPLICIT, octets)
    return ber.element(ber.SEQUENCE, b"\x02\x01\x03" + ber.element(ber.SEQUENCE, data))


def _structure(octets: bytes) -> _Structure:
    """Raises ber.Malformed, and KeyRefused for what is not supported."""
    structure = _Structure(ber.definite(octets))
    fields = ber.Fields(ber.only(structure.der, ber.SEQUENCE).inside)
    fields.take(ber.INTEGER)
    kind, content = _content_info(fields.take(ber.SEQUENCE))
    if kind != _DATA:
        raise KeyRefused("this PKCS #12 file is signed or encrypted with a key, which is not supported")
    mac = fields.optional(ber.SEQUENCE)
    fields.end()
    if mac is not None:
        _count_mac(mac, structure)
    for info in _sequence_in(content):
        _note(info, structure)
    return structure


def _content_info(info: ber.Element) -> tuple[str, ber.Element]:
    """Kind (dotted) and content."""
    fields = ber.Fields(info.inside)
    kind = dotted(fields.take(ber.OID))
    return kind, ber.Fields(fields.take(_EXPLICIT).inside).take()


def _sequence_in(string: ber.Element) -> list[ber.Element]:
    """The elements of the sequence that an OCTET STRING holds, BER or DER."""
    if string.tag != ber.OCTET_STRING:
        raise ber.Malformed("no octets")
    return ber.elements(ber.only(ber.definite(string.contents), ber.SEQUENCE).inside)


def _count_mac(mac: ber.Element, structure: _Structure) -> None:
    fields = ber.Fields(mac.inside)
    algorithm = ber.Fields(fields.take(ber.SEQUENCE).inside).take(ber.SEQUENCE)
    fields.take(ber.OCTET_STRING)
    iterations = fields.optional(ber.INTEGER)
    fields.end()
    name, parameters = algorithm_identifier(algorithm)
    if name == _PBMAC1:
        structure.iterations += _of_pbkdf2(parameters)
    elif iterations is not None:
        structure.iterations += int.from_bytes(iterations.inside)


def _note(info: ber.Element, structure: _Structure) -> None:
    kind, content = _content_info(info)
    if kind == _ENCRYPTED:
        fields = ber.Fields(content.inside)
        fields.take(ber.INTEGER)
        inside = ber.Fields(fields.take(ber.SEQUENCE).inside)
        inside.take(ber.OID)
        structure.iterations += _iterations(inside.take(ber.SEQUENCE))
        structure.protected.append(info)
    elif kind == _DATA:
        before = structure.iterations
        _note_bags(_sequence_in(content), structure)
        if structure.iterations > before:
            structure.protected.append(info)
    else:
        raise KeyRefused("this PKCS #12 file is encrypted to a key, which is not supported")


def _note_bags(bags: list[ber.Element], structure: _Structure) -> None:
    left = bags[::-1]
    while left:
        fields = ber.Fields(left.pop().inside)
        kind = dotted(fields.take(ber.OID))
        value = fields.take(_EXPLICIT)
        if kind == _SAFE:
            left += ber.elements(ber.only(value.inside, ber.SEQUENCE).inside)[::-1]
        elif kind in (_KEY, _SHROUDED_KEY):
            structure.keys.append(value.contents)
        if kind == _SHROUDED_KEY:
            inside = ber.Fields(ber.only(value.inside, ber.SEQUENCE).inside)
            structure.iterations += _iterations(inside.take(ber.SEQUENCE))


def _iterations(algorithm: ber.Element) -> int:
    """How often the passphrase is hashed for one encryption."""
    name, parameters = algorithm_identifier(algorithm)
    if name == _PBES2:
        return _of_pbkdf2(parameters)
    if not name.startswith(_PBE):
        raise KeyRefused(f"this PKCS #12 file is encrypted in a way that is not supported ({name})")
    fields = ber.Fields(ber.only(parameters, ber.SEQUENCE).inside)
    fields.take(ber.OCTET_STRING)
    return int.from_bytes(fields.take(ber.INTEGER).inside)


def _of_pbkdf2(parameters: bytes) -> int:
    """Of the parameters of PBES2 or PBMAC1."""
    derivation = ber.Fields(ber.only(parameters, ber.SEQUENCE).inside).take(ber.SEQUENCE)
    name, inside = algorithm_identifier(derivation)
    if name != _PBKDF2:
        raise KeyRefused(f"the passphrase of this PKCS #12 file is hashed in a way not supported ({name})")
    fields = ber.Fields(ber.only(inside, ber.SEQUENCE).inside)
    fields.take(ber.OCTET_STRING)
    return int.from_bytes(fields.take(ber.INTEGER).inside)
