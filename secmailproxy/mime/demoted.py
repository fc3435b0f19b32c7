"""A plaintext whose integrity nobody proves, made harmless: what a reader would render becomes a file.

Who cannot read a CBC ciphertext can still change it, so that an HTML part carries the plaintext to a server
of his when it is shown (EFAIL). So of such a message only plain text and what is no document at all stay as
they are. Every other part becomes an attachment of no particular type; its body keeps its octets, and its
fields stand there under other names. Multiparts become mixed, so that no reader prefers one part to another
or puts parts into each other. What readers could cut in different ways becomes a file as a whole.

Standards: RFC 8551 section 6 (EnvelopedData lacks integrity), RFC 2046 section 5.1.
Security: a list of what may stay, not of what must go. The file name has an ending that no reader takes for a
type: Thunderbird shows application/octet-stream by its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from secmailproxy.mime import header, transfer
from secmailproxy.mime.entity import Entity, Limits, parse
from secmailproxy.mime.filenames import file_names
from secmailproxy.mime.header import is_structural
from secmailproxy.mime.layers import is_unambiguous
from secmailproxy.mime.presented import Edit, apply
from secmailproxy.mime.shown import is_field

FILE_NAME = b"not-authenticated.html.bin"
_KEPT_AS = b"Not-Authenticated-"
_FILE = (
    b'Content-Type: application/octet-stream; name="%b"\r\n'
    b'Content-Disposition: attachment; filename="%b"\r\n' % (FILE_NAME, FILE_NAME)
)
_FILES = frozenset({"application", "audio", "image", "video"})
_DOCUMENT = re.compile(r"xml|html|svg|script|mathml|xul|mime|rfc822|tnef|url|smil|scpls|ms-as[fx]|sdp")
"""With what holds others: readers that know S/MIME, TNEF or web archives show the documents in them. And with
lists of what is to be played, from wherever."""
_DOCUMENT_NAME = re.compile(
    r"\.(?:[a-z]?html?|hta|mht|mim|mime|svgz?|x[a-z]l|xml|xht|eml|msg|ics|vcf|vcs|rtx|etx|p7[mz]"
    r"|m3u8?|pls|asx|smil?|sdp|url)\W*\Z"
    r"|\bwinmail\.dat\W*\Z|=\?"
)
_MEDIA_TYPE = re.compile(rb"[ \t\r\n]*[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+[ \t\r\n]*(?:;|\Z)")
_AT_MOST_ONCE = ("content-type", "content-transfer-encoding", "content-disposition")


def demoted(message: bytes, limits: Limits) -> bytes:
    """The presented `message` (CRLF) with its documents made attachments. Raises LimitExceeded."""
    root = parse(message, limits)
    return apply(message, 0, len(message), list(_edits(root)))


def _edits(entity: Entity) -> Iterator[Edit]:
    if _is_container(entity):
        if entity.is_multipart and entity.content_type.subtype != "mixed":
            yield from _other_type(entity, _mixed(entity))
        else:
            yield from _stated_type(entity)
        for part in entity.parts:
            yield from _edits(part)
    elif not _is_harmless(entity):
        yield from _other_type(entity, _FILE)
    else:
        yield from _stated_type(entity)


def _stated_type(entity: Entity) -> Iterator[Edit]:
    """In a text of no stated type Thunderbird looks for files (uuencode, yEnc), and shows them by name."""
    if entity.start < entity.end and header.find(entity, "content-type") is None:
        said = b"Content-Type: %b\r\n" % entity.content_type.full.encode("latin-1")
        yield Edit(entity.start, entity.start, said)


def _is_container(entity: Entity) -> bool:
    """Whether its parts are the same for all readers, and what they are in."""
    if not entity.parts or not _is_plain(entity):
        return False
    if entity.is_multipart:
        return is_unambiguous(entity)
    return transfer.encoding_of(entity) in transfer.IDENTITY and _is_plain(entity.parts[0])


def _is_harmless(entity: Entity) -> bool:
    kind = entity.content_type
    if not _is_plain(entity) or entity.parts:
        return False
    if any(_DOCUMENT_NAME.search(name) for name in file_names(entity)):
        return False
    if kind.maintype == "text":
        return kind.subtype == "plain"
    return kind.maintype in _FILES and not _DOCUMENT.search(kind.subtype)


def _is_plain(entity: Entity) -> bool:
    """Whether all readers find the same media type in the header."""
    names = [field.name.lower() for field in entity.fields]
    if any(names.count(name) > 1 for name in _AT_MOST_ONCE) or not all(map(is_field, entity.fields)):
        return False
    return all(_MEDIA_TYPE.match(value) for value in header.values(entity, "content-type"))


def _mixed(entity: Entity) -> bytes:
    boundary = (entity.content_type.param("boundary") or "").encode("latin-1", "replace")
    quoted = re.sub(rb'(["\\])', rb"\\\1", boundary)
    return b'Content-Type: multipart/mixed; boundary="%b"\r\n' % quoted


def _other_type(entity: Entity, fields: bytes) -> Iterator[Edit]:
    """`fields` in the place of the type and disposition, which are kept under other names."""
    encoding = header.find(entity, "content-transfer-encoding")
    yield Edit(entity.start, entity.start, fields)
    for field in entity.fields:
        if field is encoding and field.end > field.value_start:
            continue
        if is_structural(field.name) and not field.named("mime-version") and is_field(field):
            yield Edit(field.start, field.start, _KEPT_AS)
        elif not is_field(field):
            yield Edit(field.start, field.start, _KEPT_AS + b"Line: ")
