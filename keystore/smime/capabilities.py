"""What an S/MIME program says that it reads, and the cipher that all recipients of a message read. PURE.

A program states its capabilities in what it signs, or its certificate does. A recipient who has stated
nothing of use is taken to read AES in CBC mode, as every S/MIME program does; nothing weaker is ever used.

Standards: RFC 8551 sections 2.5.2 and 2.7 (what is stated), RFC 4262 (in certificates), RFC 5084 (AES-GCM),
RFC 4055 (RSAES-OAEP).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from asn1crypto import algos, core

MAX_OCTETS = 4096
"""Of a statement. Real ones have some hundred."""
_OAEP = "1.2.840.113549.1.1.7"
_OAEP_HASHES = ("sha512", "sha384", "sha256")
"""Best first. With SHA-1 it would be no better known to readers than PKCS #1 v1.5 is."""


@dataclass(frozen=True, slots=True)
class _Cipher:
    oid: str
    key_octets: int
    authenticates: bool


class ContentCipher(Enum):
    """What content is encrypted with, best first."""

    AES256_GCM = _Cipher("2.16.840.1.101.3.4.1.46", 32, authenticates=True)
    AES128_GCM = _Cipher("2.16.840.1.101.3.4.1.6", 16, authenticates=True)
    AES256_CBC = _Cipher("2.16.840.1.101.3.4.1.42", 32, authenticates=False)
    AES128_CBC = _Cipher("2.16.840.1.101.3.4.1.2", 16, authenticates=False)

    @property
    def oid(self) -> str:
        """The object identifier, dotted."""
        return self.value.oid

    @property
    def key_octets(self) -> int:
        """The length of its key."""
        return self.value.key_octets

    @property
    def authenticates(self) -> bool:
        """Whether it proves integrity, and so makes AuthEnvelopedData (RFC 5083)."""
        return self.value.authenticates


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What somebody's program reads, as far as we make use of it."""

    ciphers: frozenset[ContentCipher] = frozenset()
    oaep: frozenset[str] = frozenset()
    """Hashes with which it takes RSAES-OAEP: "sha256"."""

    @property
    def oaep_hash(self) -> str | None:
        """The hash to use RSAES-OAEP with; None: PKCS #1 v1.5, which all programs take."""
        return next((one for one in _OAEP_HASHES if one in self.oaep), None)


NOTHING_STATED = Capabilities()
OWN = Capabilities(frozenset(ContentCipher))
"""What this program reads. Keys go to it by PKCS #1 v1.5, for another program of the same owner."""


class _Capability(core.Sequence):  # type: ignore[misc]  # asn1crypto ships no types
    _fields = [  # noqa: RUF012  asn1crypto reads it so
        ("capability", core.ObjectIdentifier),
        ("parameters", core.Any, {"optional": True}),
    ]


class _Statement(core.SequenceOf):  # type: ignore[misc]  # asn1crypto ships no types
    _child_spec = _Capability


def capabilities_of(statement: bytes) -> Capabilities:
    """From SMIMECapabilities (DER or BER, "" for none); what is not understood says nothing. Never raises."""
    if len(statement) > MAX_OCTETS:
        return NOTHING_STATED
    try:
        found = [
            (one["capability"].dotted, one["parameters"].dump())
            for one in _Statement.load(statement, strict=True)
        ]
    except Exception:  # noqa: BLE001  a parser of strangers' octets: whatever it raises, nothing is stated
        return NOTHING_STATED
    oids = {oid for oid, _ in found}
    return Capabilities(
        frozenset(one for one in ContentCipher if one.oid in oids),
        frozenset(name for name, parameters in _oaep_parameters().items() if (_OAEP, parameters) in found),
    )


def statement(*, rsa: bool) -> bytes:
    """What we read, best first, as SMIMECapabilities in DER; with `rsa` also by key transport."""
    stated = [_Capability({"capability": one.oid}) for one in ContentCipher]
    if rsa:
        parameters = core.Any(oaep_parameters("sha256"))
        stated.append(_Capability({"capability": _OAEP, "parameters": parameters}))
    return bytes(_Statement(stated).dump())


def oaep_parameters(name: str) -> algos.RSAESOAEPParams:
    """RSAES-OAEP with this hash, in its mask as well."""
    digest = algos.DigestAlgorithm({"algorithm": name, "parameters": core.Null()})
    mask = algos.MaskGenAlgorithm({"algorithm": "mgf1", "parameters": digest})
    return algos.RSAESOAEPParams({"hash_algorithm": digest, "mask_gen_algorithm": mask})


def cipher_for(recipients: Iterable[Capabilities]) -> ContentCipher:
    """The best cipher that every recipient of a message reads."""
    common = frozenset(ContentCipher)
    for stated in recipients:
        common &= _reads(stated)
    return next(one for one in ContentCipher if one in common)


def _reads(stated: Capabilities) -> frozenset[ContentCipher]:
    """RFC 8551 sections 2.7 and 2.7.1: AES-128-CBC is required of everybody since version 3.2."""
    return (stated.ciphers or frozenset({ContentCipher.AES256_CBC})) | {ContentCipher.AES128_CBC}


def _oaep_parameters() -> dict[str, bytes]:
    return {name: oaep_parameters(name).dump() for name in _OAEP_HASHES}
