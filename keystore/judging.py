"""Whether a certificate serves a purpose now, by either scheme; and a certificate cut down to what serves.

Policy says what may be used, then a trial encryption shows that the engine can. Answers are remembered:
OpenPGP and X.509 count whole seconds, so one serves for all of a second, however often it is asked for.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from keystore import openpgp, policy
from keystore.errors import KeyRefused
from keystore.model import Certificate, Fingerprint, Purpose, Reason, Scheme, Trust, Usability, lower_case


def judge(certificate: Certificate, purpose: Purpose, now: datetime, address: str | None = None) -> Usability:
    """Which keys of the certificate serve `purpose` at `now`, for `address` when given, and why none."""
    if certificate.trust is Trust.REJECTED:
        return Usability((), Reason.REJECTED)
    by_scheme = _smime if certificate.scheme is Scheme.SMIME else _openpgp
    return by_scheme(certificate.octets, purpose, now.replace(microsecond=0), address)


def cut_down(certificate: Certificate, address: str, now: datetime, *, signs: bool) -> bytes | None:
    """An OpenPGP certificate cut down for `address` by `openpgp.minimal`; None where it cannot serve.

    With `signs`, a subkey stays that signs in place of the primary key.
    """
    if certificate.trust is Trust.REJECTED or certificate.scheme is not Scheme.OPENPGP:
        return None
    return _minimal(certificate.octets, lower_case(address), now.replace(microsecond=0), signs)


@lru_cache(maxsize=1024)
def _minimal(octets: bytes, address: str, second: datetime, signs: bool) -> bytes | None:
    purposes = (Purpose.ENCRYPT, Purpose.SIGN) if signs else (Purpose.ENCRYPT,)
    keys = [_openpgp(octets, purpose, second, address).keys[:1] for purpose in purposes]
    if not all(keys):
        return None
    user_ids = policy.valid_user_ids(openpgp.facts(octets), second)
    user_id = next(one for one in user_ids if address in policy.addresses([one]))
    try:
        cut = openpgp.minimal(octets, user_id, tuple(key for (key,) in keys))
    except KeyRefused:
        return None
    # What was left out must not have changed what the certificate says.
    same = [_openpgp(cut, purpose, second, address).keys[:1] for purpose in purposes] == keys
    return cut if same else None


@lru_cache(maxsize=1024)
def _openpgp(certificate: bytes, purpose: Purpose, second: datetime, address: str | None) -> Usability:
    judged = policy.usability(openpgp.facts(certificate), purpose, second, address)
    if not judged.usable or purpose is not Purpose.ENCRYPT:
        return judged
    keys = tuple(key for key in judged.keys if _passes_trial(certificate, key))
    return Usability(keys) if keys else Usability((), Reason.ENGINE_REFUSES)


@lru_cache(maxsize=2048)
def _passes_trial(certificate: bytes, key: Fingerprint) -> bool:
    try:
        openpgp.trial(certificate, [key])
    except KeyRefused:
        return False
    return True


@lru_cache(maxsize=1024)
def _smime(certificate: bytes, purpose: Purpose, second: datetime, address: str | None) -> Usability:
    from keystore import smime  # its libraries take long to import, and many have no use for them

    judged = smime.usability(smime.facts(certificate), purpose, second, address)
    if judged.usable and purpose is Purpose.ENCRYPT and not smime.trial(certificate):
        return Usability((), Reason.ENGINE_REFUSES)
    return judged
