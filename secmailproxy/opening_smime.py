"""One S/MIME layer of a received message, opened.

Standards: RFC 8551 sections 3.3 to 3.5.
"""

from __future__ import annotations

from keystore.model import Scheme, SignatureResult, SignatureState
from secmailproxy.judge import Layer
from secmailproxy.mime import layers, signed
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.layers import LayerKind
from secmailproxy.opening import Closed, Peeled, Tools

NO_SMIME = "received S/MIME is not read yet"


def open_layer(part: Entity, tools: Tools, *, may_decrypt: bool) -> Peeled | Closed | None:
    """What became of the layer that `part` is; None when it is no S/MIME layer, or may not be opened."""
    kind = layers.layer_kind(part)
    taken = signed.take_apart(part)
    unsupported = Layer(
        encrypts=False, signatures=(SignatureResult(SignatureState.UNACCEPTABLE, reason=NO_SMIME),)
    )
    if taken is not None and taken.kind is LayerKind.SMIME_SIGNED:
        return Peeled(Scheme.SMIME, unsupported, taken.part, replaced=False)
    if kind is LayerKind.SMIME_ENCRYPTED and may_decrypt:
        return Closed(Scheme.SMIME, NO_SMIME)
    if kind is LayerKind.SMIME_SIGNED and not part.is_multipart:
        return Closed(Scheme.SMIME, layer=unsupported)
    return None
