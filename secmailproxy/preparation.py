"""Makes the payload of a protected message, whatever scheme will protect it, and proves it. PURE.

A message is brought into a form that can be signed, gets what is enclosed with it, and its header goes
inside. Then it is read again and compared with what its sender wrote.

Standards: RFC 3156 section 5, RFC 8551 section 3.1 (signable form), RFC 9788 (header protection).
Security: `Stamp` brings time and randomness. Every error here means that nothing leaves.
"""

from __future__ import annotations

from collections.abc import Iterator

from secmailproxy.addressees import named_addresses
from secmailproxy.errors import MalformedMessage, SecMailProxyError
from secmailproxy.mime.autocrypt import gossip_addresses
from secmailproxy.mime.canonical import canonical, is_safe
from secmailproxy.mime.compare import difference
from secmailproxy.mime.enclosures import NOTHING, Enclosures, with_part
from secmailproxy.mime.entity import Entity, parse
from secmailproxy.mime.protected import (
    HIDDEN_SUBJECT,
    ProtectedMessage,
    Protects,
    field_name,
    hide_subject,
    hp_outer,
    may_leave,
    outgoing_fields,
    protect_header,
    show_all,
)
from secmailproxy.stamp import Stamp


class ProofFailed(SecMailProxyError):
    """A product did not stand its proof; it is not sent. The same message would fail again."""

    smtp_code = 554
    enhanced_status = "5.6.0"
    exit_status = 65


def prepared(
    message: Entity, protects: Protects, stamp: Stamp, *, hidden: bool, enclosures: Enclosures = NOTHING
) -> ProtectedMessage:
    """The payload of `message` and the header to stand outside; `hidden`: the subject is not seen there.

    Raises MalformedMessage when the message has no signable form, ProofFailed.
    """
    form = canonical(message)
    fields = outgoing_fields(
        form.fields,
        date=stamp.date.encode("ascii"),
        message_id=stamp.message_id.encode("ascii"),
        replaced=enclosures.names,
    )
    body = form.body
    if enclosures.part:
        fields, body = with_part(fields, body, enclosures.part, stamp.inner_boundary)
    policy = hide_subject if hidden else show_all
    ready = protect_header((*fields, *enclosures.fields), body, protects, policy, inside=enclosures.inside)
    payload = parse(ready.payload)
    if payload.content_type.param("hp") != protects.value:
        raise MalformedMessage("the Content-Type field of the message cannot be read")
    if not is_safe(body):
        raise ProofFailed("the canonical form of the message is not safe to sign")
    if found := difference(message, payload, enclosures):
        raise ProofFailed(f"the message changed while it was prepared: {found}")
    _prove_boundary(payload, stamp.boundary)
    _prove_gossip(payload, protects)
    shown = [raw for raw in ready.outer if field_name(raw) == "subject"]
    if any(policy(field_name(raw), raw) != raw for raw in ready.outer) or (
        hidden and shown not in ([], [HIDDEN_SUBJECT])
    ):
        raise ProofFailed("the outer header tells what was to be hidden")
    prove_protection(payload, ready, protects)
    return ready


def prove_protection(payload: Entity, ready: ProtectedMessage, protects: Protects) -> None:
    """The payload says of itself what protects it, and what stands outside. Raises ProofFailed."""
    listed = [field.raw(payload.octets) for field in payload.fields if field.named("HP-Outer")]
    wanted = [hp_outer(raw) for raw in ready.outer] if protects is Protects.CIPHER else []
    if listed != wanted or payload.content_type.param("hp") != protects.value:
        raise ProofFailed("the payload does not tell how its header is protected")


def prove_outside(root: Entity, ready: ProtectedMessage) -> None:
    """The header that everybody can read is what was decided, and nothing more. Raises ProofFailed."""
    fields = [field.raw(root.octets) for field in root.fields]
    if tuple(fields[: len(ready.outer)]) != ready.outer:
        raise ProofFailed("the outer header is not what was decided")
    rest = [field_name(raw) for raw in fields[len(ready.outer) :]]
    if not all(name == "mime-version" or name.startswith("content-") for name in rest):
        raise ProofFailed("the outer header is not what was decided")
    names = [field_name(raw) for raw in fields]
    if not all(may_leave(name) for name in names) or names.count("subject") > 1:
        raise ProofFailed("the outer header has a field that must not leave")
    if root.is_multipart and root.parts:
        boundary = (root.content_type.param("boundary") or "").encode("ascii", "replace")
        if root.octets[root.parts[-1].end :] != b"\r\n--%b--\r\n" % boundary:
            raise ProofFailed("there is something behind the message")


def _prove_boundary(payload: Entity, boundary: str) -> None:
    """Nobody takes a line inside for the end of a part outside, or the other way round."""
    inner = (entity.content_type.param("boundary") or " " for entity in _multiparts(payload))
    if boundary.encode("ascii") in payload.octets or any(boundary.startswith(one) for one in inner):
        raise ProofFailed("the boundary occurs in the message")


def _multiparts(entity: Entity) -> Iterator[Entity]:
    if entity.is_multipart:
        yield entity
    for part in entity.parts:
        yield from _multiparts(part)


def _prove_gossip(payload: Entity, protects: Protects) -> None:
    """Certificates of others go to those alone who see their addresses anyway (SMTP-09)."""
    told = gossip_addresses(payload)
    if told and (protects is not Protects.CIPHER or not told <= named_addresses(payload)):
        raise ProofFailed("a certificate of somebody who is not named would leave")
