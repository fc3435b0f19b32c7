"""Inline OpenPGP that is a whole message, opened like a layer. Only where the owner of the account wants it.

Standards: RFC 9580 section 7.
Security: as in `mime.inline`; no plaintext without proven integrity (the keystore sees to it).
"""

from __future__ import annotations

from keystore.errors import NotReadable
from keystore.model import Scheme
from secmailproxy.judge import Layer
from secmailproxy.mime import entity, inline
from secmailproxy.mime.entity import Entity
from secmailproxy.opening import Closed, Peeled, Tools, failure
from secmailproxy.opening_openpgp import signature_results


def open_layer(root: Entity, tools: Tools) -> Peeled | Closed | None:
    """What became of the message `root` if its text is one armored block; None if it is not.

    Raises LimitExceeded, and KeystoreError for what a later attempt may do better.
    """
    text = inline.take_apart(root)
    if text is None:
        return None
    if text.signed is not None:
        layer = Layer(
            Scheme.OPENPGP, encrypts=False, signatures=signature_results(text.signed, text.armored, tools)
        )
        return _peeled(layer, text.signed, text, tools)
    try:
        opened = tools.keystore.decrypt(text.armored, tools.now)
    except NotReadable as error:
        # Armor around something that is neither: it is a text like any other.
        return None if error.reason == "not-encrypted" else Closed(Scheme.OPENPGP, failure(error.reason))
    layer = Layer(Scheme.OPENPGP, encrypts=opened.encrypted, signatures=opened.signatures)
    return _peeled(layer, opened.octets, text, tools)


def _peeled(layer: Layer, octets: bytes, text: inline.InlineText, tools: Tools) -> Peeled:
    inner = entity.parse(inline.as_entity(octets, text.charset), tools.limits)
    return Peeled(layer, inner, replaced=True)
