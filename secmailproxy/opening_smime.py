"""One S/MIME layer of a received message, opened: signed (detached or opaque) or encrypted.

What a layer is, its CMS content type says; media types and names only say that it may be one.

Standards: RFC 8551 sections 3.3 to 3.5 and 3.10, RFC 5652.
Security: a failure to decrypt has the same few texts whatever went wrong. An encryption that proves no
integrity is marked so, and what becomes of its content is decided by `judge`.
"""

from __future__ import annotations

from keystore.errors import KeyRefused, NotReadable
from keystore.model import Scheme, SignatureResult, SignatureState, SignedContent
from secmailproxy.judge import Layer
from secmailproxy.mime import signed
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.layers import LayerKind
from secmailproxy.mime.pkcs7 import CmsKind, binary, cms_kind, received_cms
from secmailproxy.opening import Closed, Peeled, Tools, failure, inner_entity, one_line

NO_CONTENT = "its signature is there without what was signed"


def open_layer(part: Entity, tools: Tools, *, may_decrypt: bool) -> Peeled | Closed | None:
    """What became of the layer that `part` is; None when it is no S/MIME layer, or may not be opened.

    Raises LimitExceeded, and KeystoreError for what a later attempt may do better.
    """
    taken = signed.take_apart(part)
    if taken is not None and taken.kind is LayerKind.SMIME_SIGNED:
        layer = Layer(Scheme.SMIME, encrypts=False, signatures=_detached(taken, tools))
        return Peeled(layer, taken.part, replaced=False)
    cms = received_cms(part)
    if cms is None:
        return None
    match cms_kind(cms):
        case CmsKind.SIGNED:
            return _opaque(cms, tools)
        case CmsKind.ENVELOPED | CmsKind.AUTH_ENVELOPED:
            return _decrypt(cms, tools) if may_decrypt else None
        case CmsKind.COMPRESSED:
            return Closed(Scheme.SMIME, failure("unsupported"))
        case None:
            # A name alone does not make an S/MIME message; a media type promises one.
            said = part.content_type.subtype != "octet-stream"
            return Closed(Scheme.SMIME, failure("damaged")) if said else None


def _detached(taken: signed.SignedEntity, tools: Tools) -> tuple[SignatureResult, ...]:
    try:
        found = tools.keystore.smime.verify(binary(taken.signature), taken.octets, tools.now)
    except (NotReadable, KeyRefused) as error:
        return (_bad(one_line(error)),)
    return found.signatures or (_bad("there is no signature in it"),)


def _opaque(cms: bytes, tools: Tools) -> Peeled | Closed:
    """Its content is shown whatever became of the signature, as that of multipart/signed is."""
    try:
        found = tools.keystore.smime.verify(cms, None, tools.now)
    except (NotReadable, KeyRefused) as error:
        if isinstance(error, NotReadable) and error.reason == "unsupported":
            # Such as a signed receipt (RFC 2634 section 2): no mail, and no promise of any.
            return Closed(Scheme.SMIME)
        return Closed(Scheme.SMIME, layer=_bad_layer(one_line(error)))
    if found.octets is None:
        return _without_content(found)
    layer = Layer(Scheme.SMIME, encrypts=False, signatures=found.signatures, opaque=True)
    return Peeled(layer, inner_entity(found.octets, tools.limits), replaced=True)


def _without_content(found: SignedContent) -> Closed:
    """A detached signature that lies alone claims something false; certificates alone claim nothing."""
    if not found.signatures:
        return Closed(Scheme.SMIME)
    return Closed(Scheme.SMIME, layer=_bad_layer(NO_CONTENT))


def _decrypt(cms: bytes, tools: Tools) -> Peeled | Closed:
    try:
        opened = tools.keystore.smime.decrypt(cms)
    except NotReadable as error:
        return Closed(Scheme.SMIME, failure(error.reason))
    layer = Layer(Scheme.SMIME, encrypts=True, authenticated=opened.authenticated)
    return Peeled(layer, inner_entity(opened.octets, tools.limits), replaced=True)


def _bad(reason: str) -> SignatureResult:
    return SignatureResult(SignatureState.BAD, reason=reason)


def _bad_layer(reason: str) -> Layer:
    return Layer(Scheme.SMIME, encrypts=False, signatures=(_bad(reason),))
