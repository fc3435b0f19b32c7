"""The verdict field: one header field of fixed length that tells any mail client what was verified.

The name carries a token of this installation, so no sender knows it; the length is constant, so that the size
of a signed message is known before it was verified. Nothing that a sender wrote gets into the field, except
addresses out of certificates, cut to plain characters.

Standards: RFC 5322 section 2.2.3 (folding), shaped like RFC 8601.
"""

from __future__ import annotations

import re

from secmailproxy.model import CryptoSummary, DecryptionState, Protection, Verdict

VERDICT_LENGTH = 384
"""Octets of the field with its final CRLF. Sizes that clients were told rest on it: it never changes."""

_LINE_MOST = 76
_ADDRESS_MOST = 67
"""With its word and what parts it from the next item, a line."""
_REASON_MOST = 64
_HEADERS_MOST = 64
_UNSAFE_ADDRESS = re.compile(r"[^A-Za-z0-9.!#$%&'*+/=?^_`{|}~@-]")
_UNSAFE_TEXT = re.compile(r"[^A-Za-z0-9 .,:/_+'-]")
_NO_COMMENT = str.maketrans({"(": ", ", ")": None})
"""Only the padding is a comment."""
_TOKEN = re.compile(r"[A-Za-z0-9]{1,32}")


def field_name(token: str) -> str:
    """The field name of the installation with this `token` (1 to 32 letters and digits)."""
    if not _TOKEN.fullmatch(token):
        raise ValueError("a verdict token has 1 to 32 letters and digits")
    return f"Secmail-Verdict-{token}"


def render(summary: CryptoSummary, field_name: str) -> bytes:
    """The field for `summary`: exactly `VERDICT_LENGTH` octets, 7-bit, folded, final CRLF included.

    What does not fit is cut from the end of the least telling items; the last item is a comment of padding.
    """
    lines = _fold(f"{field_name}: {_status(summary)}", _items(summary))
    used = sum(len(line) + 2 for line in lines)
    while _padding_lines(VERDICT_LENGTH - used) is None:
        used -= len(lines.pop()) + 2
    padding = _padding_lines(VERDICT_LENGTH - used) or []
    return ("\r\n".join([*lines, *padding]) + "\r\n").encode("ascii")


def _status(summary: CryptoSummary) -> str:
    """What is proven, in a word or two; a signature that is not valid is no reason for a proud word."""
    if summary.decryption is DecryptionState.FAILED:
        return "not decrypted"
    encrypted = summary.protection in {Protection.ENCRYPTED, Protection.SIGNED_AND_ENCRYPTED}
    if summary.verdict is Verdict.VALID:
        return "signed+encrypted" if encrypted else "signed"
    if encrypted:
        return "encrypted" if summary.authenticated else "encrypted, not authenticated"
    return "not verified"


def _items(summary: CryptoSummary) -> list[str]:
    """The items in the order of their weight; each begins with a fixed word."""
    items = [f"signature={summary.verdict.value}"]
    if summary.signer is not None:
        items.append(f"signer={_cut(_UNSAFE_ADDRESS.sub('?', summary.signer), _ADDRESS_MOST)}")
    if summary.verdict in {Verdict.VALID, Verdict.MISMATCH}:
        items.append(f"trust={summary.trust.value}")
    if summary.fingerprint is not None:
        items.append(f"fpr={_cut(_UNSAFE_TEXT.sub('?', summary.fingerprint), 64)}")
    reason = summary.decryption_reason or summary.verdict_reason
    if reason:
        plain = reason.translate(_NO_COMMENT).replace(" , ", ", ")
        items.append(f"reason={_cut(_UNSAFE_TEXT.sub('?', plain), _REASON_MOST)}")
    if summary.protected_headers:
        names = ",".join(_UNSAFE_TEXT.sub("?", name) for name in summary.protected_headers)
        items.append(f"headers={_cut(names, _HEADERS_MOST)}")
    return items


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _fold(first: str, items: list[str]) -> list[str]:
    lines = [first]
    for item in items:
        lines[-1] += ";"
        if len(lines[-1]) + 1 + len(item) < _LINE_MOST:
            lines[-1] += " " + item
        else:
            lines.append(" " + item)
    return lines


def _padding_lines(space: int) -> list[str] | None:
    """Folded lines of a comment that fill exactly `space` octets, line ends included; None if they cannot."""
    if space == 0:
        return []
    least = len(" (.)\r\n")
    if space < least:
        return None
    lengths = [_LINE_MOST] * (space // (_LINE_MOST + 2))
    rest = space - len(lengths) * (_LINE_MOST + 2)
    if rest:
        lengths.append(rest - 2)
        if rest < least:
            # The last line would be too short for a fold with something on it: borrow from the one before.
            lengths[-2:] = [_LINE_MOST - least, rest - 2 + least]
    text = [" " + "." * (length - 1) for length in lengths]
    text[0] = " (" + text[0][2:]
    text[-1] = text[-1][:-1] + ")"
    return text
