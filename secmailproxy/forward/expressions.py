"""Regular expressions of the administrator, searched in mail that anybody can have written. PURE.

The engine is RE2: its time grows with the length of the text, whatever the expression, so that no message can
stop system mail. It knows neither look-around nor back references, and says so.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

_LONGEST = 1000
"""Characters of an expression."""


def found(expression: str, text: str, *, lines: bool = False) -> bool:
    """Whether `expression` is found anywhere in `text`, case ignored unless it says "(?-i)".

    With `lines`, "^" and "$" stand at the ends of lines (LF). Raises ValueError, with the remedy, for what is
    no expression.
    """
    return _compiled(expression, lines).search(text.encode("utf-8", "replace")) is not None


def check(expression: str) -> None:
    """Raises ValueError, with the remedy, for what is no expression."""
    _compiled(expression, False)


@lru_cache(maxsize=1024)
def _compiled(expression: str, lines: bool) -> Any:
    import re2  # takes milliseconds, and most pipes have no rules

    if len(expression) > _LONGEST:
        raise ValueError(f"is longer than {_LONGEST} characters; make several rules of it")
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    octets = expression.encode("utf-8", "replace")
    try:
        return re2.compile(b"(?m)" + octets if lines else octets, options)
    except re2.error as error:
        raise ValueError(
            f"{expression!r} is no regular expression ({_words(error)}); see the syntax of RE2"
        ) from None


def _words(error: Exception) -> str:
    said = error.args[0] if error.args else b""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
