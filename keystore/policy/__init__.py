"""PURE. What may be used, and how far it is trusted: every decision of the keystore about certificates.

certificates   is this one usable for this purpose, address and time
trust          how far is it believed to be its addresses', and what one more for the same address becomes
"""

from keystore.policy.certificates import (
    CLOCK_SKEW,
    MIN_MODULUS_BITS,
    SHA1_CUTOFF,
    STRONG_HASHES,
    addresses,
    certifies,
    claimed_user_ids,
    expiry,
    signature_usability,
    strong_hash,
    usability,
    valid_user_ids,
)
from keystore.policy.trust import (
    CHOSEN,
    holds,
    in_use,
    raised,
    trust_of_source,
    vouched,
)

__all__ = [
    "CHOSEN",
    "CLOCK_SKEW",
    "MIN_MODULUS_BITS",
    "SHA1_CUTOFF",
    "STRONG_HASHES",
    "addresses",
    "certifies",
    "claimed_user_ids",
    "expiry",
    "holds",
    "in_use",
    "raised",
    "signature_usability",
    "strong_hash",
    "trust_of_source",
    "usability",
    "valid_user_ids",
    "vouched",
]
