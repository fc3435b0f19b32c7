"""From a received message to its presented form and the summary of what may be claimed.

The cryptographic envelope is opened from the root: signatures are verified over the octets as they came, at
most one encryption is opened, and the judgement is left to `judge`. Whatever fails leaves the original as it
is: the only error raised is KeystoreLocked, since a later attempt would give another presented form.

Standards: RFC 3156, RFC 9787 section 6, RFC 9788 section 4.
Security: no plaintext without proven integrity (the keystore sees to it); limits of depth, parts and layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum

from keystore.autocrypt import Heard
from keystore.errors import KeystoreError
from keystore.model import Introduction
from secmailproxy import hearing
from secmailproxy.envelope import open_envelope
from secmailproxy.errors import KeystoreLocked, LimitExceeded
from secmailproxy.judge import Seen, introduction, judge_inbound
from secmailproxy.mime import encrypted, entity, header, inline, layers, parameter, presented, shown, signed
from secmailproxy.mime.demoted import demoted
from secmailproxy.mime.entity import Entity, Limits
from secmailproxy.model import CryptoSummary, DecryptionState, Protection, Verdict
from secmailproxy.opening import OpensMessages, Tools, one_line
from secmailproxy.verdict import VERDICT_LENGTH

TELLING_FIELDS = (b"CONTENT-TYPE", b"CONTENT-DISPOSITION")
"""The fields that `classify` needs, in the order in which they are asked for."""
OTHER_FROM = "From inside is another one, and not the signer's"


class MessageClass(Enum):
    """What the header section alone tells of a message."""

    PLAIN = "plain"
    SIGNED = "signed"
    """multipart/signed: presented as it is, with a verdict field before it."""
    ENCRYPTED = "encrypted"
    """May need another presented form than the stored octets."""
    FORGED = "forged"
    """Plain, but carrying our verdict field."""


@dataclass(frozen=True, slots=True)
class InboundLimits:
    """What is looked into; beyond it a message is left as it is."""

    entity: Limits = field(default_factory=Limits)
    layers: int = 4
    inline_pgp: bool = False
    """Whether a text that is one armored block counts as an encrypted or signed message."""
    message_octets: int = 200 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Unprotected:
    """The outcome for one message.

    `presented` is the whole message with its protection removed and without the verdict field; None when the
    received octets are to be shown. A message of class SIGNED has one only when a ciphertext was inside.
    """

    summary: CryptoSummary
    presented: bytes | None
    kept: bool = False
    """It says that we have encrypted it for its owner alone: a draft, sent mail, a mailbox at rest."""
    introduction: Introduction | None = None
    """The certificate of an author whose signature is valid, S/MIME alone."""
    heard: Heard | None = None
    """What it says by Autocrypt; None where it has no one author or no date."""


def classify(header_octets: bytes, verdict_field: str) -> MessageClass:
    """The class of a message by its header section, or by just `TELLING_FIELDS` and the verdict field.

    A protected message with a copy of our field counts as ENCRYPTED: its presented form has none.
    """
    section = _section(header_octets)
    forged = header.find(section, verdict_field) is not None
    kind = layers.layer_kind(section)
    if kind is None:
        return MessageClass.FORGED if forged else MessageClass.PLAIN
    if section.is_multipart and section.content_type.subtype == "signed" and not forged:
        return MessageClass.SIGNED
    return MessageClass.ENCRYPTED


def first_octets_wanted(header_octets: bytes, *, inline_pgp: bool) -> int:
    """How many octets of the body must be seen to know whether this is a protected message; 0 for none.

    Some encrypted mail is called something else: it was mangled on its way, or is inline OpenPGP.
    """
    section = _section(header_octets)
    if encrypted.may_be_mangled(section):
        return encrypted.FIRST_OCTETS
    return inline.FIRST_OCTETS if inline_pgp and inline.may_be_inline(section) else 0


def seems_protected(header_octets: bytes, first_octets: bytes, *, inline_pgp: bool) -> bool:
    """Whether the whole message must be looked at; `first_octets` are as many as `first_octets_wanted`."""
    section = _section(header_octets)
    is_inline = inline_pgp and inline.may_be_inline(section) and inline.looks_inline(first_octets)
    return is_inline or encrypted.looks_mangled(section, first_octets)


def is_in_protected_form(octets: bytes, *, inline_pgp: bool) -> bool:
    """Whether the whole message has one of the forms of which `seems_protected` has seen the beginning."""
    try:
        root = entity.parse(octets)
    except LimitExceeded:
        return False
    is_inline = inline_pgp and inline.take_apart(root) is not None
    return is_inline or encrypted.take_apart(root) is not None


def is_untouched(octets: bytes, unprotected: Unprotected) -> bool:
    """Whether a message of protected form held nothing protected: it is shown as it is, without a verdict."""
    return (
        unprotected.presented is None
        and unprotected.summary.protection is Protection.NONE
        and classify(octets[: Limits().header_octets], "") is MessageClass.PLAIN
    )


def _section(header_octets: bytes) -> Entity:
    """An entity of a header section alone."""
    end = header.section_end(header_octets, 0, len(header_octets)) or len(header_octets)
    fields = header.scan(header_octets, 0, end, len(header_octets))
    section = Entity(header_octets, 0, end, end, fields, entity.DEFAULT_TYPE)
    declared = header.find(section, "content-type")
    if declared is None:
        return section
    return replace(section, content_type=parameter.content_type(declared.value(header_octets)))


def unprotect(
    octets: bytes,
    keystore: OpensMessages,
    now: datetime,
    verdict_field: str,
    limits: InboundLimits | None = None,
    *,
    octets_stay: bool = False,
) -> Unprotected:
    """Open, verify and judge the message `octets` as of `now`; see `Unprotected`.

    With `octets_stay` the received octets will be shown in any case, so nothing is decrypted, and only what
    they show is judged.

    Copies of the header field `verdict_field` are removed from everything presented; a message that carries
    one at its root is always presented. Raises KeystoreLocked, and nothing else on any input. What is
    presented is within the default limits of `entity.parse` even with the verdict field before it, unless
    the received message was beyond them itself: then see `entity.leaf`.
    """
    limits = limits or InboundLimits()
    tools = Tools(keystore, now, limits.entity, octets_stay=octets_stay, inline_pgp=limits.inline_pgp)
    try:
        return _Opening(octets, tools, verdict_field, limits).unprotect()
    except LimitExceeded as limit:
        without = header.remove_fields(octets, {verdict_field})
        if without != octets:
            # Made storable first: a name with NUL in it is the field's name then.
            without = header.remove_fields(presented.storable(octets), {verdict_field})
        return Unprotected(_beyond_limits(octets, limit), None if without == octets else without)
    except KeystoreError as error:
        # Not the message's fault: a later attempt may go better, so nothing is said of the message.
        raise KeystoreLocked(one_line(error)) from error


def _beyond_limits(octets: bytes, limit: LimitExceeded) -> CryptoSummary:
    match classify(octets[: Limits().header_octets], ""):
        case MessageClass.ENCRYPTED:
            return CryptoSummary(
                protection=Protection.ENCRYPTED,
                decryption=DecryptionState.FAILED,
                decryption_reason=limit.text,
            )
        case MessageClass.SIGNED:
            return CryptoSummary(
                protection=Protection.SIGNED, verdict=Verdict.UNACCEPTABLE, verdict_reason=limit.text
            )
        case MessageClass.PLAIN | MessageClass.FORGED:
            return CryptoSummary(verdict_reason=limit.text)


class _Opening:
    """One message on its way from the outside in."""

    def __init__(self, octets: bytes, tools: Tools, verdict_field: str, limits: InboundLimits) -> None:
        if len(octets) > limits.message_octets:
            raise LimitExceeded(f"the message is larger than {limits.message_octets} octets")
        self.verdict_field = verdict_field
        self.limits = limits
        self.root = entity.parse(octets, limits.entity)
        self.envelope = open_envelope(self.root, tools, limits.layers)
        self.fields: list[bytes] = []
        """What is shown of the header; nothing where readers differ in what they find."""

    def unprotect(self) -> Unprotected:
        inside = self.envelope.inside
        found = self._as_received() if inside is None else self._as_opened(inside)
        heard = hearing.of_opened(self.root, self.envelope.payload, self.fields, found.summary)
        return replace(found, introduction=introduction(self.envelope.layers, found.summary), heard=heard)

    def _judge(self, fields: list[bytes]) -> CryptoSummary:
        """The summary of a message that is shown with these whole `fields`."""
        envelope = self.envelope
        return judge_inbound(
            envelope.layers,
            _seen(fields),
            scheme=envelope.scheme,
            decryption_failure=envelope.failure,
            errant_layers=envelope.errant_layers,
        )

    def _as_received(self) -> Unprotected:
        """The octets stay, and the header outside is what is shown."""
        self.fields = shown.header_fields(self.root) if shown.is_cut_alike(self.root) else []
        summary = self._judge(self.fields)
        subject = header.text(self.root, "subject")
        summary = replace(self._with_signed_header(summary), subject=subject)
        if header.find(self.root, self.verdict_field) is None:
            return Unprotected(summary, None)
        whole = presented.settled(self.root, self.limits.entity)
        without = presented.without_field(whole, self.verdict_field)
        self._within_limits(without)
        return Unprotected(summary, without)

    def _with_signed_header(self, summary: CryptoSummary) -> CryptoSummary:
        """What of the shown header a signature covers; a signed From that is not the shown one spoils it."""
        protected = shown.payload_header(self.envelope.payload)
        if protected is None or summary.verdict is not Verdict.VALID:
            return summary
        signed_from = protected.named("from")
        if signed_from and shown.sole_author(signed_from) != summary.signer:
            return replace(
                summary,
                verdict=Verdict.MISMATCH,
                verdict_reason="From outside is not the From that was signed",
            )
        same = shown.same_as_outside(self.root, protected)
        changed = [name for name, _ in protected.fields if name not in same and name.lower() == "subject"]
        reason = "the Subject shown is not the one that was signed" if changed else summary.verdict_reason
        return replace(summary, protected_headers=same, verdict_reason=reason)

    def _as_opened(self, inside: Entity) -> Unprotected:
        """What was inside an encryption or an opaque signature is shown, with a header made of both."""
        root = presented.settled(inside, self.limits.entity)
        payload = self._settled_payload(root)
        if payload is None:
            self.envelope.stay_closed()
            return self._as_received()
        head = presented.storable(self.root.header)
        outside = self.root if head == self.root.header else entity.parse(head, self.limits.entity)
        summary, fields, protected = self._with_header(outside, shown.payload_header(payload))
        self.fields = fields
        is_root = self.envelope.inner_signatures == 0
        wrapped = shown.wrapped_message(payload) if protected is not None and is_root else None
        whole = presented.assemble(
            fields,
            root if wrapped is None else wrapped,
            self.verdict_field,
            legacy_display=protected is not None and is_root,
        )
        if not summary.authenticated:
            whole = demoted(whole, self.limits.entity)
        subject = header.text(self._within_limits(whole), "subject")
        is_kept = header.find(inside, shown.ORIGINAL_FIELD) is not None
        return Unprotected(replace(summary, subject=subject), whole, is_kept)

    def _settled_payload(self, root: Entity) -> Entity | None:
        """The payload inside the settled plaintext, None when settling changed what surrounds it."""
        payload = root
        for _ in range(self.envelope.inner_signatures):
            taken = signed.take_apart(payload)
            if taken is None:
                return None
            payload = taken.part
        return payload

    def _within_limits(self, whole: bytes) -> Entity:
        """The header of `whole`, read as every later reader will, with room for the verdict field.

        The body has no more parts than what it was made of, and that was within the limits.
        """
        limits = self.limits.entity
        room = replace(limits, fields=limits.fields - 1, header_octets=limits.header_octets - VERDICT_LENGTH)
        end = header.section_end(whole, 0, len(whole)) or len(whole)
        return entity.parse(whole[:end], room)

    def _with_header(
        self, outside: Entity, protected: shown.ProtectedHeader | None
    ) -> tuple[CryptoSummary, list[bytes], shown.ProtectedHeader | None]:
        """The judgement, the fields to show, and the protected header if it counts."""
        fields = shown.shown_fields(outside, protected, inner_from=True)
        summary = self._repaired(self._judge(fields))
        if protected is None:
            return summary, fields, None
        if summary.decryption is DecryptionState.NOT_NEEDED and summary.verdict is not Verdict.VALID:
            # Neither a signature nor an encryption stands for it: as if it were not there.
            summary, fields, _ = self._with_header(outside, None)
            return _spoilt(summary), fields, None
        names = tuple(name for name, _ in protected.fields)
        outside_author = _seen(shown.header_fields(outside)).author
        author = _seen(fields).author
        if (
            not protected.named("from")
            or summary.verdict is Verdict.VALID
            or (author is not None and author == outside_author)
        ):
            return replace(summary, protected_headers=names), fields, protected
        # An unsigned inside must not choose whom the message seems to come from.
        fields = shown.shown_fields(outside, protected, inner_from=False)
        names = tuple(name for name in names if name.lower() != "from")
        summary = _spoilt(replace(self._judge(fields), protected_headers=names))
        return replace(summary, verdict_reason=OTHER_FROM), fields, protected

    def _repaired(self, summary: CryptoSummary) -> CryptoSummary:
        if self.envelope.mangling and summary.verdict_reason is None:
            return replace(summary, verdict_reason=self.envelope.mangling)
        return summary


def _spoilt(summary: CryptoSummary) -> CryptoSummary:
    """Not valid for the header outside, since the signature is not valid for the one that it covers."""
    if summary.verdict is not Verdict.VALID:
        return summary
    return replace(summary, verdict=Verdict.MISMATCH, verdict_reason=OTHER_FROM)


def _seen(fields: list[bytes]) -> Seen:
    """What of the shown whole `fields` the judgement needs."""
    senders = shown.fields_named(fields, "sender")
    return Seen(
        author=shown.sole_author(shown.fields_named(fields, "from")),
        date=shown.sole_date(shown.fields_named(fields, "date")),
        sender=(shown.sole_author(senders) or "") if senders else None,
    )
