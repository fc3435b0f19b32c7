"""What the two schemes share when a layer of a received message is opened.

`opening_openpgp` and `opening_smime` have one function each, `open_layer`: given the entity that is a layer
by its outward form, it says what became of it. `envelope` calls them from the root inwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from keystore.errors import KeystoreError
from keystore.model import Opened, OpenedEnvelope, Scheme, SignatureResult, SignedContent
from secmailproxy.judge import Layer
from secmailproxy.mime import entity, shown
from secmailproxy.mime.entity import Entity, Limits

NONE_OPENS_IT = "no secret key here opens it"
_FAILURES = {
    "no-secret-key": NONE_OPENS_IT,
    "no-integrity": "it has no integrity protection",
    "damaged": "it is damaged or was tampered with",
    "too-large": "it is too large",
    "unsupported": "its format is not supported",
    "passphrase": "it is encrypted with a passphrase only",
    "not-encrypted": "it is not encrypted",
}


class OpensSmime(Protocol):
    """What is needed of the keystore for S/MIME."""

    def decrypt(self, cms: bytes) -> OpenedEnvelope:
        """Raises NotReadable or StoreLocked."""

    def verify(self, cms: bytes, octets: bytes | None, now: datetime) -> SignedContent:
        """The content that is signed, and one result for each signature. Raises NotReadable.

        `octets` is what a detached signature covers; None where the message has it inside.
        """


class OpensMessages(Protocol):
    """What is needed of the keystore."""

    @property
    def smime(self) -> OpensSmime:
        """The work for S/MIME."""

    def decrypt(self, ciphertext: bytes, now: datetime) -> Opened:
        """Raises NotReadable or StoreLocked."""

    def verify(self, octets: bytes, signature: bytes, now: datetime) -> tuple[SignatureResult, ...]:
        """One result for each signature."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a layer is opened with."""

    keystore: OpensMessages
    now: datetime
    limits: Limits
    octets_stay: bool = False
    """Whether the received octets are shown in any case: then no layer is opened that would replace them."""
    inline_pgp: bool = False
    """Whether a text that is one armored block counts as an encrypted or signed message."""


@dataclass(frozen=True, slots=True)
class Peeled:
    """A layer that was opened."""

    layer: Layer
    inner: Entity
    """What the layer is around."""
    replaced: bool
    """Whether `inner` is to be shown instead: it was decrypted, or comes out of an opaque signature."""
    mangling: str = ""
    """For people: how the structure was damaged on the way, "" when it was not."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A layer that was recognised and stays closed, with all that is in it."""

    scheme: Scheme
    failure: str | None = None
    """Of an encryption: why it was not opened, for people."""
    layer: Layer | None = None
    """What was found out about its signatures."""


def failure(reason: str) -> str:
    """For people: the `reason` of a `NotReadable`. The same text whatever went wrong in the mathematics."""
    return _FAILURES.get(reason, _FAILURES["damaged"])


def one_line(error: KeystoreError) -> str:
    """The text of an error without line breaks."""
    return " ".join(str(error).split())


def inner_entity(octets: bytes, limits: Limits) -> Entity:
    """The entity that was protected; octets without a header section are a text. Raises LimitExceeded."""
    parsed = entity.parse(octets, limits)
    if all(shown.is_field(one) for one in parsed.fields) and parsed.octets[parsed.start : parsed.body_start]:
        return parsed
    return entity.parse(b"\r\n" + octets, limits)
