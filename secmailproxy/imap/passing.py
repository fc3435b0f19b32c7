"""Header sections with an Autocrypt field, heard as messages in clear pass to the client. PURE.

Only where a client fetches a whole header or message by itself: nothing is asked for it, and every octet
passes at once, as if nobody listened. What a client fetches field by field says nothing.
"""

from __future__ import annotations

import re

HEARD_MOST = 64 * 1024
"""Octets of a header section that are looked at."""

_WHOLE = re.compile(
    rb"(?: |\()(?:BODY\[(?:HEADER)?\]|RFC822(?:\.HEADER)?) ~?\{\d+\+?\}\r?\n\Z", re.IGNORECASE
)
_END = b"\r\n\r\n"
# Each message passes here: what begins with one octet is found several times as fast as by ^ in any case.
_FIELD = re.compile(rb"\n(?i:autocrypt:)")


class Passing:
    """Told of literals before they pass."""

    def __init__(self) -> None:
        self.sections: list[bytes] = []
        """Header sections with their blank line that have passed; whoever takes them empties it."""
        self._section: bytearray | None = None

    def announced(self, fragment: bytes) -> None:
        """The piece of a response before a literal."""
        self._section = bytearray() if _WHOLE.search(fragment) else None

    def stop(self) -> None:
        """What comes next does not pass."""
        self._section = None

    def passes(self, octets: bytes) -> None:
        """Some octets of the literal that was announced last."""
        section = self._section
        if section is None:
            return
        searched = max(0, len(section) - len(_END) + 1)
        section += octets[:HEARD_MOST]
        end = section.find(_END, searched)
        if end < 0 and len(section) < HEARD_MOST:
            return
        self._section = None
        whole = bytes(section[: end + len(_END)]) if end >= 0 else b""
        if _FIELD.search(b"\n" + whole):
            self.sections.append(whole)
