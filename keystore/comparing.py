"""PURE. Fingerprints as two people compare them: read aloud, or as the text of a QR code.

OPENPGP4FPR is the form that programs on telephones show and scan: the scheme, a colon, all digits; what
follows a "#" is other programs' own.
"""

from __future__ import annotations

from keystore.model import Fingerprint

_SCHEME = "OPENPGP4FPR:"
_LENGTHS = frozenset({40, 64})


def as_scanned(fingerprint: Fingerprint) -> str:
    """The text of the QR code of an OpenPGP certificate."""
    return f"{_SCHEME}{fingerprint}"


def from_scan(text: str) -> Fingerprint | None:
    """The fingerprint that was scanned, or typed as it was heard; None unless it is a whole one."""
    bare = "".join(text.split()).upper()
    digits = bare.removeprefix(_SCHEME).partition("#")[0].removeprefix("0X").replace(":", "")
    if len(digits) not in _LENGTHS or set(digits) - set("0123456789ABCDEF"):
        return None
    return Fingerprint(digits)
