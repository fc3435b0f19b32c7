"""PURE. CMS SignedData read: who may have signed, and whether a certificate at hand made a signature.

Nothing here judges certificates; `Signer.check` says what the octets say. Whatever an attribute demands of
the signature is demanded: content type and digest once each (RFC 5652 section 11), the signer's certificate
(RFC 5035), the algorithms (RFC 6211). Counter-signatures and other unsigned attributes are not looked at.

Standards: RFC 5652 section 5, RFC 8551 section 2, RFC 5035, RFC 6211.
Security: without signed attributes, content that could itself be signed attributes proves nothing: whoever
has a signature over attributes could otherwise show the attributes as what was signed.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum

from asn1crypto import cms

from keystore.errors import NotReadable
from keystore.smime import ber, binding
from keystore.smime.mathematics import (
    STRONG,
    Signed,
    Unsupported,
    algorithm_identifier,
    digest_name,
    dotted,
    right,
)
from keystore.smime.naming import key_name, name_in_messages

MAX_SIGNERS = 16
"""More are not looked at: a message could otherwise cost a verification for every few octets."""
MAX_CERTIFICATES = 64
"""More that are sent along are not looked at."""
MAX_ATTRIBUTES = 64

_DATA = "1.2.840.113549.1.7.1"
_SIGNED_DATA = "1.2.840.113549.1.7.2"
_CONTENT_TYPE = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
_SIGNING_TIME = "1.2.840.113549.1.9.5"
_CAPABILITIES = "1.2.840.113549.1.9.15"
_ONCE = (
    _CONTENT_TYPE,
    _MESSAGE_DIGEST,
    _SIGNING_TIME,
    binding.ALGORITHM_PROTECTION,
    binding.SIGNING_CERTIFICATE,
    binding.SIGNING_CERTIFICATE_V2,
)
"""Attributes of which there is one, with one value."""
_LONGEST_TIME = 40
_EXPLICIT = _CERTIFICATES = _SIGNED_ATTRIBUTES = _KEY_IDENTIFIER_PIECES = 0xA0
_CRLS = _UNSIGNED_ATTRIBUTES = 0xA1
_KEY_IDENTIFIER = 0x80
_DIGEST_SHOWN = {"md5": "MD5", "sha1": "SHA-1", "sha224": "SHA-224"}


class Finding(Enum):
    """What a signature proves of the octets and one certificate."""

    RIGHT = "right"
    WRONG = "wrong"
    UNSUPPORTED = "unsupported"
    """By an algorithm that cannot be checked here."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One signature checked against one certificate."""

    finding: Finding
    reason: str = ""
    """For people, when it is not right, or right by an algorithm that proves nothing any more."""


@dataclass(frozen=True, slots=True)
class SignerInfo:
    """One signature of a message, as it names itself."""

    name: bytes
    """What it calls its signer, as `names_in_messages` has it."""
    signed: Signed
    """Without signed attributes, its octets are empty: the content itself is signed."""
    attributes: dict[str, tuple[bytes, ...]] | None
    """Values (DER) of the signed attributes by dotted identifier; None without signed attributes."""
    algorithms: tuple[ber.Element, ber.Element]
    """Digest and signature algorithm."""
    created: datetime | None
    """The signing time that is signed."""
    defect: str
    """Why this can be no signature, whatever it stands over."""

    @property
    def capabilities(self) -> bytes:
        """SMIMECapabilities (DER) among the signed attributes (RFC 8551 section 2.5.2); empty for none."""
        stated = (self.attributes or {}).get(_CAPABILITIES, ())
        return stated[0] if len(stated) == 1 else b""


class Content:
    """What a message signs. It is hashed once by each algorithm, however many signatures there are."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self._hashed: dict[str, bytes] = {}

    def hashed(self, digest: str) -> bytes:
        """The hash by this algorithm, as hashlib names it."""
        if digest not in self._hashed:
            self._hashed[digest] = hashlib.new(digest, self.octets, usedforsecurity=False).digest()
        return self._hashed[digest]


@dataclass(frozen=True, slots=True)
class SignedData:
    """A message of signatures."""

    octets: bytes | None
    """The encapsulated content; None: the signatures are detached."""
    certificates: tuple[bytes, ...]
    """Sent along, DER, not parsed yet."""
    signers: tuple[SignerInfo, ...]


def read_signed(octets: bytes) -> SignedData:
    """SignedData, BER or DER, as far as it can be told without keys. Raises NotReadable."""
    try:
        return _read(ber.definite(octets))
    except NotReadable:
        raise
    except Exception:  # noqa: BLE001  a parser of strangers' octets: whatever it raises, it is not readable
        raise NotReadable("this S/MIME signature is damaged", reason="damaged") from None


def check(signer: SignerInfo, content: Content, certificate: bytes) -> Checked:
    """Whether this certificate (DER) made this signature over `content`."""
    try:
        return _check(signer, content, certificate)
    except Unsupported as error:
        return Checked(Finding.UNSUPPORTED, str(error))
    except Exception:  # noqa: BLE001  whatever a parser or a primitive raises, nothing is proven
        return Checked(Finding.WRONG, "the signature cannot be read")


def proves(octets: bytes, cms: bytes, certificate: bytes) -> bool:
    """Whether `cms` is a detached signature of this very certificate (DER), and no other's, over `octets`.

    Says nothing of the certificate's validity, issuer or addresses.
    """
    try:
        found = read_signed(cms)
    except NotReadable:
        return False
    if found.octets is not None or len(found.signers) != 1:
        return False
    (signer,) = found.signers
    if signer.name != name_in_messages(certificate) or signer.attributes is None:
        return False
    return check(signer, Content(octets), certificate) == Checked(Finding.RIGHT)


def _read(der: bytes) -> SignedData:
    outer = ber.Fields(ber.only(der, ber.SEQUENCE).inside)
    if dotted(outer.take(ber.OID)) != _SIGNED_DATA:
        raise NotReadable("this S/MIME message is not signed", reason="unsupported")
    data = ber.Fields(ber.only(outer.take(_EXPLICIT).inside, ber.SEQUENCE).inside)
    outer.end()
    data.take(ber.INTEGER)
    data.take(ber.SET)
    inside = _encapsulated(data.take(ber.SEQUENCE))
    certificates = data.optional(_CERTIFICATES)
    data.optional(_CRLS)
    infos = ber.elements(data.take(ber.SET).inside)
    data.end()
    # Other kinds of certificates have tags of their own (RFC 5652 section 10.2.2).
    sent = ber.elements(certificates.inside) if certificates else []
    found = dict.fromkeys(one.whole for one in sent if one.tag == ber.SEQUENCE)
    signers = tuple(_signer(one) for one in infos[:MAX_SIGNERS])
    return SignedData(inside, tuple(found)[:MAX_CERTIFICATES], signers)


def _encapsulated(found: ber.Element) -> bytes | None:
    fields = ber.Fields(found.inside)
    if dotted(fields.take(ber.OID)) != _DATA:
        raise NotReadable("what this S/MIME message signs is no mail", reason="unsupported")
    content = fields.optional(_EXPLICIT)
    fields.end()
    return None if content is None else ber.only(content.inside, ber.OCTET_STRING).contents


def _signer(found: ber.Element) -> SignerInfo:
    info = ber.Fields(ber.only(found.view, ber.SEQUENCE).inside)
    info.take(ber.INTEGER)
    sid = info.take(ber.SEQUENCE, _KEY_IDENTIFIER, _KEY_IDENTIFIER_PIECES)
    digest = info.take(ber.SEQUENCE)
    stated = info.optional(_SIGNED_ATTRIBUTES)
    algorithm = info.take(ber.SEQUENCE)
    signature = info.take(ber.OCTET_STRING).contents
    info.optional(_UNSIGNED_ATTRIBUTES)
    info.end()
    name = sid.whole if sid.tag == ber.SEQUENCE else key_name(ber.joined(sid, _KEY_IDENTIFIER))
    attributes, octets, defect, created = None, b"", "", None
    if stated is not None:
        # The octets as they stand, under the tag that a SET has outside of SignerInfo (RFC 5652 section 5.4).
        octets = bytes((ber.SET,)) + stated.whole[1:]
        attributes, defect = _attributes(stated)
        if not defect and _SIGNING_TIME in attributes:
            created = _moment(attributes[_SIGNING_TIME][0])
            defect = "" if created else "the time of signing cannot be read"
    oid, parameters = algorithm_identifier(algorithm)
    used = _digest(digest)
    hashed = hashlib.new(used, octets, usedforsecurity=False).digest() if used else b""
    return SignerInfo(
        name=name,
        signed=Signed(oid, parameters, used, signature, octets, hashed),
        attributes=attributes,
        algorithms=(digest, algorithm),
        created=created,
        defect=defect,
    )


def _digest(algorithm: ber.Element) -> str:
    try:
        return digest_name(algorithm_identifier(algorithm)[0])
    except Unsupported:
        return ""


def _attributes(stated: ber.Element) -> tuple[dict[str, tuple[bytes, ...]], str]:
    """Values (DER) by dotted identifier, and what is wrong with them."""
    values: dict[str, tuple[bytes, ...]] = {}
    found = ber.elements(stated.inside)
    if len(found) > MAX_ATTRIBUTES:
        return values, "too many signed attributes"
    for one in found:
        fields = ber.Fields(ber.only(one.view, ber.SEQUENCE).inside)
        kind, inside = dotted(fields.take(ber.OID)), fields.take(ber.SET)
        fields.end()
        if kind in values:
            return values, "a signed attribute stands twice"
        values[kind] = tuple(value.whole for value in ber.elements(inside.inside))
    wrong = [kind for kind in _ONCE if kind in values and len(values[kind]) != 1]
    if wrong or not {_CONTENT_TYPE, _MESSAGE_DIGEST} <= values.keys():
        return values, "the signed attributes are not those of a signature"
    return values, ""


def _moment(time: bytes) -> datetime | None:
    """Time, DER; None for one that cannot be read, or is in no known time zone."""
    if len(time) > _LONGEST_TIME:
        return None
    try:
        moment = cms.Time.load(time, strict=True).native
    except (ValueError, TypeError, OverflowError):
        return None
    return moment.astimezone(UTC) if isinstance(moment, datetime) and moment.tzinfo else None


def _check(signer: SignerInfo, content: Content, certificate: bytes) -> Checked:
    if signer.defect:
        return Checked(Finding.WRONG, signer.defect)
    signed = signer.signed
    if not signed.digest:
        return Checked(Finding.UNSUPPORTED, "a hash algorithm that is not supported")
    wrong = Checked(Finding.WRONG, "the signature does not fit the message")
    if signer.attributes is None:
        if _like_attributes(content.octets):
            return Checked(Finding.WRONG, "what is signed may be attributes of another signature")
        signed = replace(signed, octets=content.octets, hashed=content.hashed(signed.digest))
    elif not _describes(signer.attributes, content.hashed(signed.digest)):
        return wrong
    if not right(signed, certificate):
        return wrong
    if why := _binding_refusal(signer, certificate):
        return Checked(Finding.WRONG, why)
    weak = "" if signed.digest in STRONG else f"weak algorithm ({_DIGEST_SHOWN[signed.digest]})"
    return Checked(Finding.RIGHT, weak)


def _describes(values: dict[str, tuple[bytes, ...]], hashed: bytes) -> bool:
    """Whether content type and message digest are those of the content (RFC 5652 sections 5.4, 5.6)."""
    kind = dotted(ber.only(values[_CONTENT_TYPE][0], ber.OID))
    stated = ber.only(values[_MESSAGE_DIGEST][0], ber.OCTET_STRING).contents
    return kind == _DATA and hmac.compare_digest(stated, hashed)


def _binding_refusal(signer: SignerInfo, certificate: bytes) -> str:
    """What the attributes demand of certificate and algorithms, and is not so; "" when all is."""
    attributes = signer.attributes or {}
    if not binding.names(attributes, certificate):
        return "the signature names another certificate as its signer's"
    if not binding.names_algorithms(attributes, *signer.algorithms):
        return "the signature names other algorithms than it is by"
    return ""


def _like_attributes(octets: bytes) -> bool:
    """Whether octets could be signed attributes: one SET and nothing behind it."""
    if octets[:1] != bytes((ber.SET,)):
        return False
    try:
        ber.only(octets, ber.SET)
    except ber.Malformed:
        return False
    return True
