"""multipart/encrypted, taken apart, and the manglings of it that are recognised: one matcher each.

Standards: RFC 1847 section 2.2, RFC 3156 section 4, RFC 2919 (List-Id),
draft-dkg-openpgp-pgpmime-message-mangling.
Security: only exactly the known shapes, and the mangled ones at the root of a message only. Nothing that has
words of its own may stand beside a ciphertext, but for the footer of a mailing list behind it; and whatever
stands there is never shown with the plaintext, so that no plaintext is stitched into somebody else's message
(EFAIL). What is shown is then the same as if the ciphertext had come alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from secmailproxy.mime import header
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.filenames import file_names
from secmailproxy.mime.layers import is_unambiguous
from secmailproxy.mime.transfer import decoded_body

CONTROL = "application/pgp-encrypted"
"""The type of the part before the ciphertext."""
MIXED_UP = "multipart/mixed"
"""What Exchange and others make of multipart/encrypted."""
_DATA = "application/octet-stream"
_ARMOR = b"-----BEGIN PGP MESSAGE-----"
_USUAL_NAMES = frozenset(
    {"encrypted.asc", "msg.asc", "openpgp_encrypted_message.asc", "openpgp encrypted message.asc"}
)
"""How mail programs name the data part (Enigmail, K-9, GPGMail, Mailvelope; mutt, KMail; Thunderbird)."""
_VERSION = re.compile(rb"\s*+(?:version[ \t]*:[ \t]*1\b[ -~]*+\s*)?", re.IGNORECASE)
"""The control part: "Version: 1", and nothing else (RFC 3156 section 4). Gateways empty it."""
_BLANK_HTML = re.compile(rb"</?(?:html|head|meta|body|div|p|br|span|font)\b[^<>]*>|&nbsp;", re.IGNORECASE)
_BLANK_OCTETS = 2048
_FOOTER_OCTETS = 4096
_MOST_PARTS = 4

FIRST_OCTETS = 1000
"""So much of a body tells what its first parts are: a preamble, an empty text, and the next part's header."""

NO_PROTOCOL = "its Content-Type was changed on the way"
EXCHANGE = "its structure was changed on the way, as Exchange does"
WRAPPED = "it was put beside an empty text on its way"
LIST = "a mailing list put a text behind it, which is not shown"
BARE = "only its data is left of its structure"


@dataclass(frozen=True, slots=True)
class EncryptedEntity:
    """A ciphertext that is all of its entity."""

    ciphertext: bytes
    """Binary or armored, transfer encoding undone."""
    mangling: str = ""
    """For people: how the structure was damaged on the way, "" when it was not."""
    is_certain: bool = True
    """False: it may be a file that was attached. It is mail only if there is a MIME entity inside."""


def take_apart(entity: Entity) -> EncryptedEntity | None:
    """The ciphertext of a PGP/MIME encrypted entity, or None when `entity` is not exactly one."""
    found = _as_specified(entity)
    if found is not None or entity.start != 0:
        return found
    return _mixed(entity) or _bare(entity)


def may_be_mangled(entity: Entity) -> bool:
    """Whether the Content-Type of a message's root alone leaves it open that it is one of the mangled."""
    return entity.content_type.full in (MIXED_UP, _DATA, CONTROL)


def looks_mangled(entity: Entity, first_octets: bytes) -> bool:
    """Whether the root of a message is worth a look, by its header and the `first_octets` of its body."""
    if not may_be_mangled(entity):
        return False
    hints = (CONTROL, "multipart/encrypted", *_USUAL_NAMES) if entity.content_type.full == MIXED_UP else ()
    lowered = first_octets.lower()
    return any(hint.encode() in lowered for hint in hints) or _is_named(entity)


def _as_specified(entity: Entity) -> EncryptedEntity | None:
    if entity.content_type.full != "multipart/encrypted" or len(entity.parts) != 2:
        return None
    protocol = entity.content_type.param("protocol") or ""
    if (protocol or CONTROL).lower() != CONTROL or not is_unambiguous(entity):
        return None
    found = _pair(*entity.parts)
    return found if found is None or protocol else replace(found, mangling=NO_PROTOCOL)


def _mixed(entity: Entity) -> EncryptedEntity | None:
    """A multipart/mixed with nothing in it that has words of its own in front of the ciphertext."""
    if entity.content_type.full != MIXED_UP or len(entity.parts) > _MOST_PARTS:
        return None
    if not is_unambiguous(entity):
        return None
    parts = [part for part in entity.parts if not _is_blank(part)]
    if len(parts) == 2 and (pair := _pair(*parts)) is not None:
        return replace(pair, mangling=EXCHANGE)
    whole = _as_specified(parts[0]) if parts else None
    if whole is not None and len(parts) == 1:
        return replace(whole, mangling=WRAPPED)
    if whole is not None and len(parts) == 2 and _is_from_list(entity) and _is_footer(parts[1]):
        return replace(whole, mangling=LIST)
    return _bare(parts[0]) if len(parts) == 1 else None


def _bare(entity: Entity) -> EncryptedEntity | None:
    """Gateways drop the control part, which looks empty to them."""
    if entity.content_type.full not in (_DATA, CONTROL) or not _is_named(entity):
        return None
    octets = decoded_body(entity)
    return EncryptedEntity(octets, BARE, is_certain=False) if _is_armor(octets) else None


def _pair(control: Entity, data: Entity) -> EncryptedEntity | None:
    if control.content_type.full != CONTROL or not _VERSION.fullmatch(decoded_body(control)) or data.parts:
        return None
    octets = decoded_body(data)
    if data.content_type.full == _DATA:
        return EncryptedEntity(octets)
    # Gateways give it another type, when they know its ending or look into it.
    return EncryptedEntity(octets, NO_PROTOCOL) if _is_armor(octets) else None


def _is_armor(octets: bytes) -> bool:
    return octets.lstrip(b" \t\r\n").startswith(_ARMOR)


def _is_named(entity: Entity) -> bool:
    return not _USUAL_NAMES.isdisjoint(file_names(entity))


def _is_blank(part: Entity) -> bool:
    """Whether nobody reads anything in it: a text of white space alone, plain, HTML or both."""
    if part.content_type.full == "multipart/alternative":
        return all(map(_is_blank, part.parts))
    if part.content_type.full not in ("text/plain", "text/html") or len(part.body) > _BLANK_OCTETS:
        return False
    text = decoded_body(part)
    if part.content_type.subtype == "html":
        text = _BLANK_HTML.sub(b"", text)
    return not text.replace(b"\xc2\xa0", b"").replace(b"\xa0", b"").strip()


def _is_from_list(entity: Entity) -> bool:
    return header.find(entity, "list-id") is not None or header.find(entity, "list-post") is not None


def _is_footer(part: Entity) -> bool:
    """A short text to read, as lists append it, and no attachment."""
    disposition = (header.value(part, "content-disposition") or b"inline").split(b";")[0].strip().lower()
    is_text = part.content_type.full == "text/plain" and part.content_type.param("name") is None
    return is_text and disposition == b"inline" and len(part.body) <= _FOOTER_OCTETS
