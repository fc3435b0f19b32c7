"""The reply guard: what answers or forwards an encrypted message does not leave in clear by itself. PURE.

A mail client does not know that a message came encrypted; it quotes it like any other. So the Message-IDs of
messages that were presented decrypted, and of those that left encrypted, are remembered
(`secmailproxy.encryptedids`), and a message that names one of them is refused unless it is encrypted too.

    leaves      names one   guard   wish            outcome
    encrypted   -           -       -               passes
    in clear    no          -       -               passes
    in clear    yes         off     -               passes
    in clear    yes         on      never or sign   passes
    in clear    yes         on      none, others    refused, 554 5.7.1

"In clear" is also what is only signed. A wish for all others is an owner's general word and lifts nothing.

Standards: RFC 5322 section 3.6.4 (Message-ID, In-Reply-To, References), RFC 2046 section 5.2.1.
Security: the reference is matched liberally: a false match costs a question, a missed one a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from secmailproxy.mime import header, transfer
from secmailproxy.mime.entity import Entity, parse_or_leaf
from secmailproxy.mime.header import Field, HasFields
from secmailproxy.mime.layers import LayerKind, layer_kind
from secmailproxy.model import Protection

_NAMING = ("In-Reply-To", "References", "X-Forwarded-Message-Id", "Original-Message-ID")
"""X-Forwarded-Message-Id is Thunderbird's; the last one is of receipts (RFC 8098), which may quote, too."""
_ID = re.compile(rb"<([^<>]+)>|([^\s<>,;()\"]+@[^\s<>,;()\"]+)")
_BLANK = re.compile(rb"\s+")
_COMMENT = re.compile(rb"\([^()<>]*\)")
_HOLDS_HEADER = frozenset({"message/rfc822", "message/global", "text/rfc822-headers"})
_DECODED_MOST = 4
"""How often a message inside is decoded: each time costs a copy."""
_SEALED = frozenset({LayerKind.PGP_ENCRYPTED, LayerKind.SMIME_ENCRYPTED})

REFUSAL = (
    "this answers or forwards a message that was encrypted, and would leave in clear. Import the "
    "certificates of all recipients and send it again; or, if others may read it, send it with the "
    "header field X-Secmailproxy-Protect: never, or with your word for that at the start of the subject"
)


@dataclass(frozen=True, slots=True)
class Leaving:
    """What is known of a message that is about to leave."""

    protection: Protection
    guarded: bool
    """Whether the account has the guard."""
    wished: bool
    """Whether this very message was wished to leave in clear."""
    named: frozenset[bytes]
    """As `named_ids` gives them."""


class _Head(NamedTuple):
    """A header section alone."""

    octets: bytes
    fields: tuple[Field, ...]


def is_in_clear(protection: Protection) -> bool:
    """Whether everybody on its way can read the message."""
    return protection in {Protection.NONE, Protection.SIGNED}


def must_not_be_known(leaving: Leaving) -> frozenset[bytes]:
    """The Message-IDs of which none may be that of an encrypted message; none where it may leave anyway."""
    is_held = is_in_clear(leaving.protection) and leaving.guarded and not leaving.wished
    return leaving.named if is_held else frozenset()


def own_ids(head: bytes) -> frozenset[bytes]:
    """The Message-ID of a message, by its header section; more than one where it is malformed."""
    # Not parsed: each message that leaves encrypted passes here, and every Content-Type has a new boundary.
    return frozenset(_ids(_Head(head, header.scan(head, 0, len(head), len(head))), "Message-ID"))


def named_ids(root: Entity) -> frozenset[bytes]:
    """The Message-IDs of what the message answers, forwards (as an attachment too), or is sent on of.

    The last is its own: who redirects ("bounces") a message hands over its octets as they were shown.
    """
    return frozenset((*_ids(root, "Message-ID", *_NAMING), *_embedded(root)))


def _embedded(entity: Entity, deeper: int = _DECODED_MOST) -> Iterator[bytes]:
    if layer_kind(entity) in _SEALED:
        return
    for part in entity.parts:
        if part.is_message and layer_kind(part) not in _SEALED:
            yield from _ids(part, "Message-ID")
        yield from _embedded(part, deeper)
    is_read = entity.parts and transfer.encoding_of(entity) in transfer.IDENTITY
    if entity.content_type.full in _HOLDS_HEADER and not is_read and deeper:
        # Of an attachment that no parser of messages opens: encoded, or with header fields alone.
        inside = parse_or_leaf(transfer.decoded_body(entity))
        if layer_kind(inside) not in _SEALED:
            yield from _ids(inside, "Message-ID")
            yield from _embedded(inside, deeper - 1)


def _ids(entity: HasFields, *names: str) -> Iterator[bytes]:
    """Without angle brackets and blanks, in lower case: some programs change the case of the domain.

    Some write a long one as an encoded word (RFC 2047), and some write what is none: then it is all of it.
    """
    for name in names:
        for value in header.values(entity, name):
            decoded = header.decode_words(value).encode("utf-8", "replace")
            for one in dict.fromkeys((value, decoded)):
                yield from _read(one)


def _read(value: bytes) -> Iterator[bytes]:
    found = [bracketed or bare for bracketed, bare in _ID.findall(value)]
    for one in found or [value.strip(b'<>" \t')]:
        for spelling in dict.fromkeys((one, _COMMENT.sub(b"", one))):
            if plain := _BLANK.sub(b"", spelling).lower():
                yield plain
