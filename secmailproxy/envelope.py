"""The cryptographic envelope of a received message: the unbroken run of layers from the root, opened.

Standards: RFC 9787 section 4 (envelope, payload), RFC 3156 section 6, RFC 8551 section 3.7 (triple wrapped).
Security: at most one encryption is opened on the way from the root (no oracle by nested ciphertext); the
number of layers is limited; whatever stands beside a layer ends the envelope.
"""

from __future__ import annotations

from keystore.model import Scheme, SignatureResult, SignatureState
from secmailproxy import opening_inline, opening_openpgp, opening_smime
from secmailproxy.errors import LimitExceeded
from secmailproxy.judge import Layer
from secmailproxy.mime import layers
from secmailproxy.mime.entity import Entity
from secmailproxy.opening import Closed, Peeled, Tools

AMBIGUOUS = "its parts would be read differently by different programs"


class CryptoEnvelope:
    """What the envelope turned out to be, as far as it could be opened."""

    def __init__(self, root: Entity) -> None:
        self.root = root
        self.payload = root
        """What is inside of all layers that were opened."""
        self.layers: list[Layer] = []
        """Outermost first."""
        self.scheme: Scheme | None = None
        self.failure: str | None = None
        """Why an encryption stayed closed, for people."""
        self.closed = 0
        """1 when the payload is a layer of the envelope that stayed closed."""
        self.mangling = ""
        self.inside: Entity | None = None
        """The root of what is to be shown instead of the received octets; None where those stay."""
        self.inner_signatures = 0
        """How many multipart/signed there are around the payload in `inside`."""

    @property
    def errant_layers(self) -> int:
        """Cryptographic structures in the payload, which are shown and never counted."""
        return max(0, layers.errant_layers(self.payload) - self.closed)

    def stay_closed(self) -> None:
        """Show the message as it was received after all: readers would cut what is inside differently."""
        self.payload, self.closed, self.inside = self.root, 1, None
        if any(layer.encrypts for layer in self.layers):
            self.failure = AMBIGUOUS
        else:
            result = SignatureResult(SignatureState.UNACCEPTABLE, reason=AMBIGUOUS)
            self.layers = [Layer(self.layers[0].scheme, encrypts=False, signatures=(result,))]

    def add(self, found: Peeled) -> None:
        """One more layer was opened."""
        self.scheme = found.layer.scheme
        self.layers.append(found.layer)
        self.payload = found.inner
        self.mangling = self.mangling or found.mangling
        if found.replaced:
            self.inside, self.inner_signatures = found.inner, 0
        elif self.inside is not None:
            self.inner_signatures += 1

    def end(self, found: Closed) -> None:
        """The innermost layer stays closed."""
        self.scheme, self.failure, self.closed = found.scheme, found.failure, 1
        if found.layer is not None:
            self.layers.append(found.layer)


def open_envelope(root: Entity, tools: Tools, most_layers: int) -> CryptoEnvelope:
    """Open, verify and decrypt from `root` inwards.

    Raises LimitExceeded, and KeystoreError where a later attempt may do better.
    """
    envelope = CryptoEnvelope(root)
    while True:
        found = _open_layer(envelope, tools)
        if found is None or (isinstance(found, Peeled) and found.replaced and tools.octets_stay):
            return envelope
        if isinstance(found, Closed):
            envelope.end(found)
            return envelope
        envelope.add(found)
        if len(envelope.layers) > most_layers:
            raise LimitExceeded(f"the message has more than {most_layers} cryptographic layers")


def _open_layer(envelope: CryptoEnvelope, tools: Tools) -> Peeled | Closed | None:
    part, is_root = envelope.payload, not envelope.layers
    may_decrypt = not tools.octets_stay and not any(layer.encrypts for layer in envelope.layers)
    return (
        opening_openpgp.open_layer(part, tools, may_decrypt=may_decrypt)
        or opening_smime.open_layer(part, tools, may_decrypt=may_decrypt)
        or (opening_inline.open_layer(part, tools) if is_root and tools.inline_pgp else None)
    )
