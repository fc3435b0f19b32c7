"""Which certificate a forwarded message is encrypted to: one that somebody chose, never one that was guessed.

Security: a certificate found by its address alone counts only when it is the sole usable one, in a user ID
that is exactly this address, and was put into the keystore on purpose (trust "known" or "verified").
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from keystore.model import Fingerprint, Purpose, Trust
from secmailproxy.errors import NoUsableCertificate, UsageError

if TYPE_CHECKING:
    from keystore.keystore import Keystore

_CHOSEN = frozenset({Trust.KNOWN, Trust.VERIFIED})
_LENGTHS = frozenset({40, 64})


def fingerprint_of(text: str) -> Fingerprint:
    """A fingerprint as people write it, with blanks or 0x. UsageError for anything shorter."""
    digits = "".join(text.split()).upper().removeprefix("0X")
    if len(digits) not in _LENGTHS or set(digits) - set("0123456789ABCDEF"):
        raise UsageError("--fingerprint needs all digits of a fingerprint; see: secmailproxy key list")
    return Fingerprint(digits)


def pinned(
    keystore: Keystore, rcpt_to: str, fingerprints: Sequence[Fingerprint], now: datetime
) -> Fingerprint:
    """The certificate for `rcpt_to`: the one in `fingerprints`, or without any the only one in the keystore.

    Raises NoUsableCertificate, which says why there is none.
    """
    if len(set(fingerprints)) > 1:
        raise NoUsableCertificate(
            f"several fingerprints are pinned for <{rcpt_to}>; choose with --fingerprint"
        )
    if fingerprints:
        return fingerprints[0]
    known = [one for one in keystore.certificates(rcpt_to) if one.trust in _CHOSEN]
    judged = [(one, keystore.usability(one.fingerprint, Purpose.ENCRYPT, now, rcpt_to)) for one in known]
    usable = [one.fingerprint for one, usability in judged if usability.usable]
    if len(usable) == 1:
        return usable[0]
    if usable:
        raise NoUsableCertificate(
            f"{len(usable)} usable certificates claim <{rcpt_to}>; choose with --fingerprint"
        )
    why = next((usability.explanation for _, usability in judged), "none is known")
    raise NoUsableCertificate(f"no encryption key for <{rcpt_to}> ({why}); see: secmailproxy key import")
