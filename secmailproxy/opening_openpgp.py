"""One OpenPGP layer of a received message, opened: PGP/MIME signed or encrypted.

Standards: RFC 3156 sections 4 to 6.
Security: no plaintext without proven integrity (the keystore sees to it).
"""

from __future__ import annotations

from keystore.errors import KeyRefused, NotReadable
from keystore.model import Scheme, SignatureResult, SignatureState
from secmailproxy.judge import Layer
from secmailproxy.mime import encrypted, header, signed
from secmailproxy.mime.encrypted import EncryptedEntity
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.layers import LayerKind
from secmailproxy.opening import Closed, Peeled, Tools, failure, inner_entity, one_line

NOT_ENCRYPTED = "it was signed and not encrypted, although its form says so"


def open_layer(part: Entity, tools: Tools, *, may_decrypt: bool) -> Peeled | Closed | None:
    """What became of the layer that `part` is; None when it is no OpenPGP layer, or may not be opened.

    Raises LimitExceeded, and KeystoreError for what a later attempt may do better.
    """
    taken = signed.take_apart(part)
    if taken is not None and taken.kind is LayerKind.PGP_SIGNED:
        results = signature_results(taken.octets, taken.signature, tools)
        layer = Layer(Scheme.OPENPGP, encrypts=False, signatures=results)
        return Peeled(layer, taken.part, replaced=False)
    ciphertext = encrypted.take_apart(part) if may_decrypt else None
    return None if ciphertext is None else _decrypt(ciphertext, tools)


def signature_results(octets: bytes, signature: bytes, tools: Tools) -> tuple[SignatureResult, ...]:
    """At least one result: that of each detached `signature` over `octets`, or why there is none."""
    try:
        results = tools.keystore.verify(octets, signature, tools.now)
    except (NotReadable, KeyRefused) as error:
        return (SignatureResult(SignatureState.BAD, reason=one_line(error)),)
    return results or (SignatureResult(SignatureState.BAD, reason="there is no signature in it"),)


def _decrypt(ciphertext: EncryptedEntity, tools: Tools) -> Peeled | Closed | None:
    try:
        opened = tools.keystore.decrypt(ciphertext.ciphertext, tools.now)
    except NotReadable as error:
        return Closed(Scheme.OPENPGP, failure(error.reason)) if ciphertext.is_certain else None
    layer = Layer(Scheme.OPENPGP, encrypts=opened.encrypted, signatures=opened.signatures)
    inner = inner_entity(opened.octets, tools.limits)
    if not ciphertext.is_certain and header.find(inner, "content-type") is None:
        return None
    said = ciphertext.mangling if opened.encrypted else NOT_ENCRYPTED
    return Peeled(layer, inner, replaced=True, mangling=said)
