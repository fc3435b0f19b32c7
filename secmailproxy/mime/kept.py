"""A message inside its own encryption so that its octets can be had back, from the ciphertext alone.

Two forms. Where it can be undone exactly, the header is protected as in every other message (RFC 9788):
mail clients with the key show it as they show the original. Else the whole message is the body of a
message/rfc822 (RFC 8551 section 3.1), which any reader opens. `Secmail-Original`, in the encryption, holds
the SHA-256 of the original: what comes back is the original, octet for octet, or nothing.

Standards: RFC 9788 section 2, RFC 8551 section 3.1.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

from secmailproxy.mime.canonical import embedding
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.layers import layer_kind
from secmailproxy.mime.protected import (
    HeaderPolicy,
    ProtectedMessage,
    Protects,
    field_name,
    is_mark,
    protect_header,
    unmarked,
)

_WRAPPER = b"Content-Type: message/rfc822; forwarded=no\r\n"
_FIELD_END = re.compile(rb"(?<=\r\n)(?![ \t])")
_DIGEST = re.compile(rb"[^:]+: sha256=([0-9a-f]{64})\r\n")


def kept(message: Entity, fields: list[bytes], policy: HeaderPolicy) -> ProtectedMessage:
    """The payload to encrypt, and the fields that `policy` lets stand outside.

    `fields` are those of the header, each ending in CRLF. A message that is signed or encrypted itself is
    always embedded whole, since its layers must stay next to their header.
    """
    octets = message.octets
    mark = b"Secmail-Original: sha256=%b\r\n" % hashlib.sha256(octets).hexdigest().encode()
    if layer_kind(message) is None:
        ready = protect_header([*fields, mark], message.body, Protects.CIPHER, policy)
        if original(ready.payload) == octets and len(_once(ready.outer)) == len(ready.outer):
            return ready
    shown = [policy(field_name(raw), raw) for raw in fields if field_name(raw)]
    encoding = b"Content-Transfer-Encoding: %b\r\n" % embedding(octets).encode()
    payload = b"".join((_WRAPPER, encoding, mark, b"\r\n", octets))
    return ProtectedMessage(tuple(_once(raw for raw in shown if raw is not None)), payload)


def original(payload: bytes) -> bytes | None:
    """The message that `kept` put into the decrypted `payload`; None where it did not."""
    head, blank, body = payload.partition(b"\r\n\r\n")
    fields = _FIELD_END.split(head + b"\r\n")
    marks = [at for at, raw in enumerate(fields) if is_mark(raw)]
    digest = _DIGEST.fullmatch(fields[marks[-1]]) if blank and marks else None
    if digest is None:
        return None
    before = fields[: marks[-1]]
    candidates = [b"".join(map(unmarked, before)) + b"\r\n" + body]
    if before[:1] == [_WRAPPER]:
        candidates.append(body)
    wanted = digest[1].decode()
    return next((one for one in candidates if hashlib.sha256(one).hexdigest() == wanted), None)


def _once(fields: Iterable[bytes]) -> list[bytes]:
    """Of fields with one name the first: which of several a reader shows is not known."""
    return list(_by_name(fields))


def _by_name(fields: Iterable[bytes]) -> Iterator[bytes]:
    seen: set[str] = set()
    for raw in fields:
        if (name := field_name(raw)) not in seen:
            seen.add(name)
            yield raw
