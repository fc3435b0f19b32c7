"""S/MIME in this process: X.509 certificates, own keys in memory, CMS messages made and read.

Octets in, octets and values out; the present time is always an argument. Errors are `KeyRefused` and
`NotReadable` with texts of ours. asn1crypto, which knows the structures, is used in this package alone.

Standards: RFC 8551 (messages), RFC 8550 (certificates), RFC 5652 (CMS), RFC 5280 (X.509).
"""

from keystore.smime.capabilities import NOTHING_STATED, OWN, Capabilities, ContentCipher, capabilities_of
from keystore.smime.certificate import certificate, facts, fingerprint_of, issued, statement_in
from keystore.smime.container import Contents, read
from keystore.smime.enveloped import CmsEnvelope, envelop, trial
from keystore.smime.key import PrivateKey, SecretKey, belongs, pem, pkcs12, same_key
from keystore.smime.naming import names, names_in_messages, serial_number
from keystore.smime.opening import (
    MAX_ATTEMPTS,
    Envelope,
    open_envelope,
    open_message,
    read_envelope,
    recipients,
)
from keystore.smime.policy import usability
from keystore.smime.recipients import Recipient as NamedRecipient
from keystore.smime.signed import CmsSignature, sign
from keystore.smime.verifying import (
    Checked,
    Content,
    Finding,
    SignedData,
    SignerInfo,
    check,
    proves,
    read_signed,
)

__all__ = [
    # certificates
    "certificate",
    "facts",
    "fingerprint_of",
    "issued",
    "statement_in",
    "usability",
    # own keys, and files
    "Contents",
    "PrivateKey",
    "SecretKey",
    "belongs",
    "pem",
    "pkcs12",
    "read",
    "same_key",
    # messages
    "Capabilities",
    "Checked",
    "CmsEnvelope",
    "CmsSignature",
    "Content",
    "ContentCipher",
    "Envelope",
    "NamedRecipient",
    "Finding",
    "MAX_ATTEMPTS",
    "NOTHING_STATED",
    "OWN",
    "SignedData",
    "SignerInfo",
    "capabilities_of",
    "check",
    "envelop",
    "names",
    "names_in_messages",
    "open_envelope",
    "open_message",
    "proves",
    "read_envelope",
    "read_signed",
    "recipients",
    "serial_number",
    "sign",
    "trial",
]
