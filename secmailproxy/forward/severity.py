"""Words by which a message is too urgent to wait for a digest. PURE.

A word counts where it stands by itself, in the subject or in the beginning of the text. One written in
capitals is found in capitals only: "FAILED" is what a program shouts, "0 failed" a line of every report. Any
other is found in any case. A blank in it stands for any white space, a line end too.

A word that is there by chance sends a message at once that could have waited; that is the harmless mistake.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from secmailproxy.mime import header
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.preview import decoded_text, first_text

DEFAULT_WORDS = (
    "CRITICAL",
    "EMERGENCY",
    "FAILED",
    "FAILURE",
    "FATAL",
    "PANIC",
    "SMART error",
    "currently unreadable",
    "offline uncorrectable",
    "Fail event",
    "FailSpare",
    "DeviceDisappeared",
    "DegradedArray",
    "degraded",
    "device fault",
    "Active: failed",
    "renewals failed",
    "NOT in sudoers",
    "no space left",
    "disk full",
    "read-only file system",
    "I/O error",
    "out of memory",
    "kernel panic",
    "data corruption",
    "checksum mismatch",
    "UPS on battery",
    "overheating",
)
"""Of mdadm, smartd, ZFS, systemd, certbot, sudo, kernels, backup programs and those that watch them."""

_BEGINNING = 16 * 1024
"""Octets of the text that are looked at."""


def urgent_word(message: Entity, words: Sequence[str]) -> str:
    """The first of `words` that is found, as it is written in the configuration; "" for none."""
    if not words:
        return ""
    expressions = _expressions(tuple(words))
    part = first_text(message)
    texts = (header.text(message, "Subject") or "", decoded_text(part, _BEGINNING) if part else "")
    return next((word for word, one in expressions if any(one.search(text) for text in texts)), "")


@lru_cache(maxsize=64)
def _expressions(words: tuple[str, ...]) -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple((word, _expression(word)) for word in words if word.strip())


def _expression(word: str) -> re.Pattern[str]:
    parts = r"\s+".join(map(re.escape, word.split()))
    # Not \b, which finds nothing beside a word that begins or ends with a mark.
    return re.compile(rf"(?<!\w){parts}(?!\w)", 0 if word.isupper() else re.IGNORECASE)
