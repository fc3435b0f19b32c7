"""OpenPGP in this process: the door to the engine (rpgp-py), and all that is ours to add to it.

Certificates as facts for `keystore.policy`, own keys unlocked in memory, messages made and opened. Octets in,
octets and values out; the present time is always an argument. Errors are `KeyRefused` and `NotReadable` with
texts of ours.

Standards: RFC 9580, RFC 4880 (as gpg 2.2 writes it), RFC 3156.
"""

from keystore.openpgp.ascii_armor import armor
from keystore.openpgp.certificate import certificate, facts, key_fingerprints, merge
from keystore.openpgp.elsewhere import questions
from keystore.openpgp.encrypting import RecipientKey
from keystore.openpgp.generate import generate, user_id_of
from keystore.openpgp.halves import KeyKind
from keystore.openpgp.key import ParsedKey, SecretKey, parse_keys, unlock
from keystore.openpgp.message import (
    OpenLimits,
    encrypt,
    for_gnupg,
    key_ids,
    open_message,
    open_unwrapped,
    open_with_session_key,
    recipient_key,
    session_key_text,
    sign_detached,
    trial,
)
from keystore.openpgp.minimal import minimal
from keystore.openpgp.packet import is_armored
from keystore.openpgp.renewing import extended, rotated, with_user_id, without_user_id
from keystore.openpgp.revoking import RevocationReason, revocation_certificate, revoked
from keystore.openpgp.session import BeyondUs, is_in_vain
from keystore.openpgp.session import for_gnupg as session_key_for_gnupg
from keystore.openpgp.transfer import protect, united
from keystore.openpgp.trimming import about, sound
from keystore.openpgp.verify import Lookup, judge_signature, verify_detached
from keystore.openpgp.vouching import certifications

__all__ = [
    # certificates
    "certificate",
    "facts",
    "key_fingerprints",
    "merge",
    "about",
    "sound",
    "certifications",
    "minimal",
    "trial",
    # own keys
    "KeyKind",
    "ParsedKey",
    "RevocationReason",
    "SecretKey",
    "extended",
    "generate",
    "is_armored",
    "parse_keys",
    "protect",
    "revocation_certificate",
    "revoked",
    "rotated",
    "united",
    "unlock",
    "user_id_of",
    "with_user_id",
    "without_user_id",
    # messages
    "Lookup",
    "OpenLimits",
    "RecipientKey",
    "armor",
    "BeyondUs",
    "encrypt",
    "for_gnupg",
    "is_in_vain",
    "judge_signature",
    "key_ids",
    "open_message",
    "open_unwrapped",
    "open_with_session_key",
    "questions",
    "recipient_key",
    "session_key_for_gnupg",
    "session_key_text",
    "sign_detached",
    "verify_detached",
]
