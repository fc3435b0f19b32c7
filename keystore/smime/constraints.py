"""PURE. Name constraints: the names that an authority may put into certificates, and all below it.

Read strictly, since authorities and programs spell names differently: what lets a name through must match as
it is written; what keeps one out matches without regard to case and blanks. Addresses are constrained
wherever they stand: in rfc822Name, in SmtpUTF8Mailbox, and in the subject. Of other kinds of names no
constraint is read: a certificate with a name of such a kind is refused below an authority that constrains the
kind, as RFC 5280 section 4.2.1.10 leaves us to.

Standards: RFC 5280 section 4.2.1.10 and 6.1.3, RFC 9598 section 6 (mailboxes beyond ASCII).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from string import ascii_uppercase
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from keystore.smime.certificate import load, subject_names, utf8_mailbox

MOST_COMPARISONS = 20_000
"""Names times constraints: real certificates come to some dozens."""

_SMALL = {ord(one): one.lower() for one in ascii_uppercase}
"""Of ASCII alone: some other letters, as the sign for kelvin, would become ASCII ones."""
_ADDRESS_OUTSIDE = "an authority above may not issue certificates for its address"
_SUBJECT_OUTSIDE = "an authority above may not issue certificates for its subject"
_OTHER_OUTSIDE = "an authority above limits names in a way that is not supported"


def violation(authority: bytes, certificate: bytes) -> str:
    """Why `certificate` (DER) may not stand below `authority` (DER) for its names; "" where it may.

    Raises KeyRefused for octets that are no certificate.
    """
    try:
        stated = load(authority).extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return ""
    permitted, excluded = tuple(stated.permitted_subtrees or ()), tuple(stated.excluded_subtrees or ())
    names = _Names(certificate)
    constrained = (*permitted, *excluded)
    if len(constrained) * len(names) > MOST_COMPARISONS:
        return _OTHER_OUTSIDE
    if any(type(one) in map(type, names.others) for one in constrained):
        return _OTHER_OUTSIDE
    if not all(_address_stays(one, permitted, excluded) for one in names.addresses):
        return _ADDRESS_OUTSIDE
    if not all(_subject_stays(one, permitted, excluded) for one in names.subjects):
        return _SUBJECT_OUTSIDE
    return ""


class _Names:
    """Every name that a certificate gives to who holds it."""

    def __init__(self, certificate: bytes) -> None:
        subject = load(certificate).subject
        self.subjects = [subject] if list(subject) else []
        self.addresses = [str(one.value) for one in subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)]
        self.others: list[x509.GeneralName] = []
        for one in subject_names(certificate):
            if isinstance(one, x509.RFC822Name):
                self.addresses.append(one.value)
            elif isinstance(one, x509.DirectoryName):
                self.subjects.append(one.value)
            elif isinstance(one, x509.OtherName) and (mailbox := utf8_mailbox(one)):
                self.addresses.append(mailbox)
            else:
                self.others.append(one)

    def __len__(self) -> int:
        return len(self.subjects) + len(self.addresses) + len(self.others)


def _address_stays(
    address: str, permitted: Sequence[x509.GeneralName], excluded: Sequence[x509.GeneralName]
) -> bool:
    local, at, host = address.rpartition("@")
    allowing = _values(permitted, x509.RFC822Name)
    forbidding = _values(excluded, x509.RFC822Name)
    if not at:
        # Not an address that could be compared; nothing is bound to it either.
        return not allowing and not forbidding
    if forbidding and not host.isascii():
        # The same host is excluded in its ASCII form, and we do not convert.
        return False
    if any(one == "" or _is_within(local.lower(), host, one.lower()) for one in forbidding):
        return False
    return not allowing or any(_is_within(local, host, one) for one in allowing)


def _is_within(local: str, host: str, constraint: str) -> bool:
    """By the three forms: a mailbox, a host, or with a leading dot all hosts of a domain."""
    if not constraint:
        return False
    stated_local, at, stated_host = constraint.rpartition("@")
    host, stated_host = host.translate(_SMALL), stated_host.translate(_SMALL)
    if at:
        return (local, host) == (stated_local, stated_host)
    return host.endswith(stated_host) if stated_host.startswith(".") else host == stated_host


def _subject_stays(
    subject: x509.Name, permitted: Sequence[x509.GeneralName], excluded: Sequence[x509.GeneralName]
) -> bool:
    allowing = _values(permitted, x509.DirectoryName)
    forbidding = _values(excluded, x509.DirectoryName)
    rdns = list(subject.rdns)
    if any(_folded(rdns)[: len(one.rdns)] == _folded(one.rdns) for one in forbidding):
        return False
    return not allowing or any(rdns[: len(one.rdns)] == list(one.rdns) for one in allowing)


def _folded(rdns: Iterable[x509.RelativeDistinguishedName]) -> list[frozenset[tuple[str, str]]]:
    return [
        frozenset((one.oid.dotted_string, " ".join(str(one.value).casefold().split())) for one in rdn)
        for rdn in rdns
    ]


def _values(names: Sequence[x509.GeneralName], kind: type[x509.GeneralName]) -> list[Any]:
    return [one.value for one in names if isinstance(one, kind)]
