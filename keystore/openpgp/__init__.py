"""OpenPGP in this process: the door to the engine (rpgp-py), and all that is ours to add to it.

Certificates as facts for `keystore.policy`, own keys unlocked in memory, messages made and opened. Octets in,
octets and values out; the present time is always an argument. Errors are `KeyRefused` and `NotReadable` with
texts of ours.

Standards: RFC 9580, RFC 4880 (as gpg 2.2 writes it), RFC 3156.
"""

from keystore.openpgp.ascii_armor import armor
from keystore.openpgp.certificate import certificate, facts, key_fingerprints, merge
from keystore.openpgp.generate import KeyKind, generate
from keystore.openpgp.key import ParsedKey, SecretKey, parse_keys, unlock
from keystore.openpgp.message import (
    OpenLimits,
    encrypt,
    for_gnupg,
    key_ids,
    open_message,
    open_unwrapped,
    open_with_session_key,
    session_key_from_text,
    session_key_text,
    sign_detached,
    trial,
)
from keystore.openpgp.minimal import minimal
from keystore.openpgp.packet import is_armored
from keystore.openpgp.session import BeyondUs
from keystore.openpgp.transfer import only_key, protect, united
from keystore.openpgp.trimming import about
from keystore.openpgp.verify import Lookup, verify_detached

__all__ = [
    # certificates
    "certificate",
    "facts",
    "key_fingerprints",
    "merge",
    "about",
    "minimal",
    "trial",
    # own keys
    "KeyKind",
    "ParsedKey",
    "SecretKey",
    "generate",
    "is_armored",
    "only_key",
    "parse_keys",
    "protect",
    "united",
    "unlock",
    # messages
    "Lookup",
    "OpenLimits",
    "armor",
    "BeyondUs",
    "encrypt",
    "for_gnupg",
    "key_ids",
    "open_message",
    "open_unwrapped",
    "open_with_session_key",
    "session_key_from_text",
    "session_key_text",
    "sign_detached",
    "verify_detached",
]
