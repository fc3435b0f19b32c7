"""Which certificate a forwarded message is encrypted to: one that somebody chose, never one that was guessed.

Security: a certificate found by its address alone counts only when it is the sole usable one, in a user ID
that is exactly this address, and was put into the keystore on purpose (trust "known" or "verified").
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from keystore.model import Fingerprint, Purpose, Reason, Scheme, Trust, Usability
from secmailproxy.errors import ConfigError, NoUsableCertificate, UsageError

if TYPE_CHECKING:
    from keystore.keystore import Keystore
    from secmailproxy.forward.model import Target

_CHOSEN = frozenset({Trust.KNOWN, Trust.VERIFIED})
_LENGTHS = frozenset({40, 64})


def fingerprint_of(text: str) -> Fingerprint:
    """A fingerprint as people write it, with blanks or 0x. UsageError for anything shorter."""
    digits = "".join(text.split()).upper().removeprefix("0X")
    if len(digits) not in _LENGTHS or set(digits) - set("0123456789ABCDEF"):
        raise UsageError("--fingerprint needs all digits of a fingerprint; see: secmailproxy key list")
    return Fingerprint(digits)


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a target reads with: certificates of one scheme, each usable now."""

    scheme: Scheme
    fingerprints: tuple[Fingerprint, ...]


def pinned(keystore: Keystore, target: Target, now: datetime) -> Pinned:
    """The certificates for `target`: of its fingerprints those that are usable; it needs one.

    Without any fingerprint, the only usable certificate in the keystore for its address. Raises
    NoUsableCertificate, which says why there is none, and ConfigError where they are of two schemes.
    """
    if not target.fingerprints:
        return _only(keystore, target.address, now)
    judged = [(one, keystore.usability(one, Purpose.ENCRYPT, now)) for one in target.fingerprints]
    usable = tuple(dict.fromkeys(one for one, usability in judged if usability.usable))
    if not usable:
        why = "; ".join(f"certificate {one}: {_explained(usability)}" for one, usability in judged)
        raise NoUsableCertificate(f"no encryption key for <{target.address}> ({why})")
    # Every one that is usable is here.
    schemes = {found.scheme for one in usable if (found := keystore.certificate(one)) is not None}
    if len(schemes) != 1:
        raise ConfigError(
            f"the certificates pinned for <{target.address}> are of OpenPGP and of S/MIME; pin those of one"
        )
    return Pinned(schemes.pop(), usable)


def _explained(usability: Usability) -> str:
    """Whose keystore was looked into is what goes wrong first: that of the user who runs the pipe."""
    if usability.reason is Reason.NO_CERTIFICATE:
        return "not in the keystore of this user; run: secmailproxy key import FILE"
    return usability.explanation


def _only(keystore: Keystore, address: str, now: datetime) -> Pinned:
    unused = keystore.settling.unused(address)
    known = [
        one
        for one in keystore.certificates(address)
        if one.trust in _CHOSEN and one.fingerprint not in unused
    ]
    judged = [(one, keystore.usability(one.fingerprint, Purpose.ENCRYPT, now, address)) for one in known]
    usable = [one for one, usability in judged if usability.usable]
    if len(usable) == 1:
        return Pinned(usable[0].scheme, (usable[0].fingerprint,))
    if usable:
        raise NoUsableCertificate(
            f"{len(usable)} usable certificates claim <{address}>; choose with --fingerprint"
        )
    why = next((usability.explanation for _, usability in judged), "none is known")
    raise NoUsableCertificate(f"no encryption key for <{address}> ({why}); see: secmailproxy key import")
