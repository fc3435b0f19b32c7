"""PURE. Domains in other scripts than ASCII, in the form in which DNS has them.

Standards: RFC 5891 (IDNA 2008), RFC 3492 (Punycode). Python's codec has IDNA 2003, whose rules for letters
(RFC 3491) are used here but for those that are letters of their own since.
"""

from __future__ import annotations

import re
from encodings.idna import nameprep
from functools import lru_cache

_DEVIATIONS = re.compile("([\u00df\u03c2\u200c\u200d])")
"""Sharp s, final sigma, the joiners: letters of their own since RFC 5891, which Python's codec maps away."""


def ascii_label(label: str) -> str:
    """One label, in lower case, as a resolver is asked for it. Raises UnicodeError where it has none."""
    mapped = _mapped(label)
    if not mapped:
        raise UnicodeError("an empty label")
    return mapped if mapped.isascii() else f"xn--{mapped.encode('punycode').decode('ascii')}"


@lru_cache(maxsize=1024)
def registered(domain: str) -> str:
    """A domain in lower case, in its ASCII form; as it is where it cannot be registered letter by letter."""
    labels = domain.split(".")
    try:
        if any(_mapped(label) != label for label in labels):
            return domain
        return ".".join(map(ascii_label, labels))
    except UnicodeError:
        return domain


def written(domain: str) -> str:
    """A domain in its ASCII form as people write it; as it is where it is no such form."""
    try:
        labels = [
            one[4:].encode("ascii").decode("punycode") if one.startswith("xn--") else one
            for one in domain.split(".")
        ]
    except UnicodeError:
        return domain
    return ".".join(labels) if registered(".".join(labels)) == domain else domain


def _mapped(label: str) -> str:
    # Every other piece is one of these letters, which stay as they are.
    pieces = _DEVIATIONS.split(label)
    return "".join(one if at % 2 else nameprep(one) for at, one in enumerate(pieces))
