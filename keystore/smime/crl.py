"""Lists of revoked certificates: which are believed, and what an entry means for a signature. PURE.

A list counts only when it is whole and the issuer's own: no delta list, none for some reasons, none by
another (indirect), and only under the address that it states for itself. Whoever answers at the address can
hand out an old list, or none: then nothing is known, and nothing is said of revocation.

What an entry means: a certificate that was given back in good order (replaced, its owner moved on) leaves
what was signed before as it was. Every other reason, and none, spoils all that was ever signed: who has
another's key writes any date.

Standards: RFC 5280 sections 4.2.1.13, 5 and 6.3.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from keystore.errors import KeyRefused
from keystore.policy import CLOCK_SKEW, STRONG_HASHES
from keystore.smime.certificate import facts, hash_name, load
from keystore.smime.facts import KeyUsage

MOST_ADDRESSES = 4
"""Distribution points of one certificate that are looked at."""
MAX_ADDRESS = 512
_UNDERSTOOD = (x509.AuthorityKeyIdentifier, x509.CRLNumber, x509.IssuingDistributionPoint)
_IN_GOOD_ORDER = frozenset(
    {
        x509.ReasonFlags.affiliation_changed,
        x509.ReasonFlags.superseded,
        x509.ReasonFlags.cessation_of_operation,
        x509.ReasonFlags.privilege_withdrawn,
    }
)


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A list that is its issuer's. Times are UTC."""

    octets: bytes
    """DER."""
    this_update: datetime
    next_update: datetime


def distribution_points(der: bytes) -> tuple[str, ...]:
    """Where a certificate (DER) says that its whole list is, by http or https. Raises KeyRefused."""
    try:
        stated = load(der).extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return ()
    names = [
        name.value
        for point in stated
        # Of others, or for some reasons only: such lists are not read.
        if point.full_name and not point.reasons and not point.crl_issuer
        for name in point.full_name
        if isinstance(name, x509.UniformResourceIdentifier) and _fetchable(name.value)
    ]
    return tuple(dict.fromkeys(names))[:MOST_ADDRESSES]


def read_list(octets: bytes, authority: bytes, address: str, now: datetime) -> RevocationList:
    """The list (DER or PEM) that `authority` (DER) has at `address`. Raises KeyRefused with the reason."""
    parsed = parse_list(octets)
    found = facts(authority)
    if parsed.issuer != load(authority).subject:
        raise KeyRefused("it is another issuer's")
    if found.key_usage is not None and not found.key_usage & KeyUsage.CRL_SIGN:
        raise KeyRefused("its issuer may not sign lists")
    hash_used = hash_name(parsed)
    if hash_used and hash_used not in STRONG_HASHES:
        raise KeyRefused(f"it is signed with {hash_used}")
    _demand_whole(parsed, address)
    this_update, next_update = parsed.last_update_utc, parsed.next_update_utc
    if next_update is None:
        raise KeyRefused("it does not say until when it counts")
    if this_update > now + CLOCK_SKEW:
        raise KeyRefused("it is dated in the future, by this machine's clock")
    if not _signed_by(parsed, authority):
        raise KeyRefused("its signature is wrong")
    return RevocationList(parsed.public_bytes(Encoding.DER), this_update, next_update)


def parse_list(octets: bytes) -> x509.CertificateRevocationList:
    """Raises KeyRefused for what is no list."""
    load_one = x509.load_pem_x509_crl if octets.lstrip()[:5] == b"-----" else x509.load_der_x509_crl
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # serial numbers that RFC 5280 forbids, and authorities issued
            parsed = load_one(octets)
            list(parsed.extensions)
    except Exception:  # noqa: BLE001  a parser of strangers' octets: whatever it raises, it is not readable
        raise KeyRefused("it is no list of revoked certificates, or damaged") from None
    return parsed


def is_revoked(parsed: x509.CertificateRevocationList, certificate: bytes, moment: datetime) -> bool:
    """Whether the list spoils what `certificate` (DER), of the list's issuer, signed at `moment`.

    Raises KeyRefused for an entry that cannot be read.
    """
    try:
        entry = parsed.get_revoked_certificate_by_serial_number(load(certificate).serial_number)
        if entry is None:
            return False
        reason, since = _reason(entry), entry.revocation_date_utc
        if reason is x509.ReasonFlags.remove_from_crl:
            return False
    except ValueError:
        raise KeyRefused("an entry of the list cannot be read") from None
    return reason not in _IN_GOOD_ORDER or since <= moment


def covers(parsed: x509.CertificateRevocationList, certificate: bytes) -> bool:
    """Whether the list is for certificates of this kind: people's, or authorities'."""
    scope = _scope(parsed)
    is_authority = facts(certificate).is_authority
    return scope is None or not (
        scope.only_contains_user_certs if is_authority else scope.only_contains_ca_certs
    )


def _fetchable(address: str) -> bool:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    plain = address.isascii() and address.isprintable() and " " not in address and len(address) <= MAX_ADDRESS
    named = bool(parts.hostname) and not parts.username and not parts.password and port != 0
    return plain and named and parts.scheme in ("http", "https")


def _demand_whole(parsed: x509.CertificateRevocationList, address: str) -> None:
    if any(isinstance(one.value, x509.DeltaCRLIndicator) for one in parsed.extensions):
        raise KeyRefused("it holds changes only")
    for one in parsed.extensions:
        if one.critical and not isinstance(one.value, _UNDERSTOOD):
            raise KeyRefused(f"it has the critical extension {one.oid.dotted_string}")
    scope = _scope(parsed)
    if scope is None:
        return
    if scope.indirect_crl or scope.only_some_reasons or scope.only_contains_attribute_certs:
        raise KeyRefused("it holds a part only, or others' certificates")
    names = [one.value for one in scope.full_name or () if isinstance(one, x509.UniformResourceIdentifier)]
    if scope.relative_name or (scope.full_name and address not in names):
        raise KeyRefused("it is the list of another address")


def _scope(parsed: x509.CertificateRevocationList) -> x509.IssuingDistributionPoint | None:
    try:
        return parsed.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    except x509.ExtensionNotFound:
        return None


def _reason(entry: x509.RevokedCertificate) -> x509.ReasonFlags:
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        return x509.ReasonFlags.unspecified


def _signed_by(parsed: x509.CertificateRevocationList, authority: bytes) -> bool:
    if not facts(authority).algorithm.supported:
        return False
    try:
        return parsed.is_signature_valid(load(authority).public_key())  # type: ignore[arg-type]  # see `supported`
    except Exception:  # noqa: BLE001  an algorithm that is not supported, or does not fit the key
        return False
