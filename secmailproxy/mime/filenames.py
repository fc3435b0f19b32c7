"""The names that an entity gives to its content, as any reader may read them.

Readers go by the ending of a name, and differ in which of several names they take and in how they decode it:
percent signs without RFC 2231, encoded words where none may be, the first or the last of two.

Standards: RFC 2183 (Content-Disposition), RFC 2231, RFC 2047 section 5 (which forbids what many write).
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from secmailproxy.mime import header
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.parameter import token_and_parameters

_STRIPPED = " \t\r\n\"'\\\0."
"""Around a name, and gone before anybody looks at its ending."""


def file_names(entity: Entity) -> list[str]:
    """All names in Content-Type and Content-Disposition, in all readings, lower case; [] for none."""
    found = [value for name, value in entity.content_type.params if name.startswith("name")]
    for value in header.values(entity, "content-disposition"):
        _, parameters = token_and_parameters(value)
        found += [
            octets.decode("latin-1")
            for name, octets in parameters
            if name.lower().startswith((b"filename", b"name"))
        ]
    readings = (reading.strip(_STRIPPED).lower() for name in found for reading in _readings(name))
    return list(dict.fromkeys(reading for reading in readings if reading))


def _readings(name: str) -> Iterator[str]:
    try:
        octets = name.encode("latin-1")
    except UnicodeEncodeError:
        octets = name.encode("utf-8", "replace")
    for one in (octets, unquote_to_bytes(octets)):
        yield header.decode_words(one)
