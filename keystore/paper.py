"""PURE. Octets as lines that people can print, keep, and type again; and back.

    1: 4K6TZ 00Q1M 8YQ9R WX3BD 5N0CE 7H2JG AAV4P S3F6K  9QX2T

A line has its number, up to 25 octets in groups of five letters, and a last group that checks number and
octets. The last line, END, checks the whole. The letters are Crockford's: without I, L, O and U, and read in
any case, with I and L as 1, O as 0. A colon, blanks and empty lines do not matter.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator

from keystore.errors import KeyRefused

OCTETS_IN_LINE = 25
MOST_LINES = 1000
"""Of a page that is read."""
_GROUP = 5
_WHOLE = 16
"""Letters that check the whole: 80 bits."""
_STANDARD = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_OURS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TO_OURS = str.maketrans(_STANDARD, _OURS, "=")
_TO_STANDARD = str.maketrans(_OURS, _STANDARD)
_CONFUSED = str.maketrans("ILO", "110")
_LINE = re.compile(r"(\d{1,4})\s*[:.]?\s*([0-9A-Z\s-]+)")
_END = re.compile(r"END\s*[:.]?\s*([0-9A-Z\s-]+)")


def lines(octets: bytes) -> list[str]:
    """The lines, without line ends."""
    pieces = [octets[at : at + OCTETS_IN_LINE] for at in range(0, len(octets), OCTETS_IN_LINE)]
    made = [
        f"{number}: {_grouped(_letters(piece))}  {_check(number, piece)}"
        for number, piece in enumerate(pieces, 1)
    ]
    return [*made, f"END: {_grouped(_whole(octets))}"]


def octets_of(text: str) -> bytes:
    """What `lines` was given, from the lines as they were typed, scanned, or copied with text around.

    "/" stands for a line end too. Raises KeyRefused, which names the lines that are wrong or missing.
    """
    found: dict[int, bytes] = {}
    wrong: set[int] = set()
    whole = ""
    for line in re.split(r"[\n/]", text.upper()):
        if match := _END.fullmatch(line.strip()):
            whole = _plain(match[1])
        elif match := _LINE.fullmatch(line.strip()):
            number, letters = int(match[1]), _plain(match[2])
            piece = _octets(letters[:-_GROUP])
            if piece and _check(number, piece) == letters[-_GROUP:]:
                found[number] = piece
            else:
                wrong.add(number)
    _demand(found, wrong - found.keys())
    octets = b"".join(found[number] for number in sorted(found))
    if _whole(octets) != whole:
        raise KeyRefused("lines are missing at the end, or the line END is mistyped")
    return octets


def _demand(found: dict[int, bytes], wrong: set[int]) -> None:
    if not found and not wrong:
        raise KeyRefused("there are no lines of a paper key in this")
    last = max((*found, *wrong))
    missing = {number for number in range(1, min(last, MOST_LINES) + 1) if number not in found} - wrong
    if last > MOST_LINES:
        raise KeyRefused(f"there are more than {MOST_LINES} lines")
    said = [f"line {number} is mistyped" for number in sorted(wrong)]
    said += [f"line {number} is missing" for number in sorted(missing)]
    if said:
        raise KeyRefused(", ".join(said[:20]))


def _letters(octets: bytes) -> str:
    return base64.b32encode(octets).decode("ascii").translate(_TO_OURS)


def _octets(letters: str) -> bytes:
    """Nothing where they are not letters of whole octets."""
    standard = letters.translate(_TO_STANDARD)
    try:
        octets = base64.b32decode(standard + "=" * (-len(standard) % 8))
    except ValueError:
        return b""
    return octets if _letters(octets) == letters else b""


def _check(number: int, octets: bytes) -> str:
    return _letters(hashlib.sha256(b"%d:" % number + octets).digest())[:_GROUP]


def _whole(octets: bytes) -> str:
    return _letters(hashlib.sha256(octets).digest())[:_WHOLE]


def _grouped(letters: str) -> str:
    return " ".join(_groups(letters))


def _groups(letters: str) -> Iterator[str]:
    for at in range(0, len(letters), _GROUP):
        yield letters[at : at + _GROUP]


def _plain(typed: str) -> str:
    return re.sub(r"[\s-]", "", typed).translate(_CONFUSED)
