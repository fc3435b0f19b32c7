"""The first words of a message, for lists: what FETCH PREVIEW answers.

From the first text of the message (in multipart/alternative the plain one), without markup, without what it
quotes, each run of white space as one blank; the rules are those of Dovecot 2.3.

Standards: RFC 8970 section 3.3 (UTF-8, at most 256 characters, 200 recommended).
"""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Iterator

from secmailproxy.mime import transfer
from secmailproxy.mime.entity import Entity

_MOST_CHARACTERS = 200
_MOST_OCTETS = 256 * 1024
"""Of the text that is looked at."""
_ENCODINGS = transfer.IDENTITY | {transfer.BASE64, transfer.QUOTED_PRINTABLE}
_MARKUP = re.compile(
    r"(?P<silent><!--.*?(?:-->|\Z)|<(?P<raw>script|style)[\s>].*?(?:</(?P=raw)>|\Z))"
    r"|<(?P<name>/?blockquote\b)?(?:[^>\"']|\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z))*+(?:>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_REFERENCE = re.compile(r"&#0*+([0-9]*+)")
_BLANKS = re.compile(r"[\0-\x20\x7f]+")
_NOT_FOR_TEXT = frozenset({"idna", "punycode", "unicode_escape", "raw-unicode-escape", "raw_unicode_escape"})
"""Codecs of Python that are no charset of mail, or slow."""


def preview(message: Entity) -> str:
    """At most 200 characters of one line; empty where there is no text."""
    part = first_text(message)
    if part is None or not is_decodable(part):
        return ""
    text = decoded_text(part)
    if part.content_type.full in {"text/html", "application/xhtml+xml"}:
        return _one_line(html.unescape(_REFERENCE.sub(_short, "".join(_without_markup(text)))))
    lines = text.split("\n")
    own = _one_line(" ".join(line for line in lines if not line.startswith(">")))
    if own:
        return own
    quoted = _one_line(" ".join(line[1:] for line in lines if line.startswith(">")))
    return ">" + quoted[: _MOST_CHARACTERS - 1] if quoted else ""


def first_text(part: Entity) -> Entity | None:
    """The first text of a message or part; in multipart/alternative the plain one. None without any."""
    if part.content_type.maintype == "text":
        return part
    if not part.is_multipart:
        return None
    if part.content_type.subtype == "alternative":
        texts = [inner for inner in part.parts if inner.content_type.maintype == "text"]
        order = {"plain": 0, "html": 1}
        return min(texts, key=lambda text: order.get(text.content_type.subtype, 2), default=None)
    found = (first_text(inner) for inner in part.parts)
    return next((text for text in found if text is not None), None)


def is_decodable(part: Entity) -> bool:
    """Whether the transfer encoding of `part` is one that is known."""
    return transfer.encoding_of(part) in _ENCODINGS


def decoded_text(part: Entity, most: int = _MOST_OCTETS) -> str:
    """What the first `most` octets of a text say, whatever encoding and charset it names."""
    encoding = transfer.encoding_of(part)
    octets = transfer.decode(part.body[:most], encoding if encoding in _ENCODINGS else "7bit")
    try:
        charset = codecs.lookup(part.content_type.param("charset") or "utf-8").name
        return octets.decode("utf-8" if charset in _NOT_FOR_TEXT else charset, "replace")
    except (LookupError, ValueError):
        return octets.decode("utf-8", "replace")


def _without_markup(text: str) -> Iterator[str]:
    """The text between the tags, a blank for each of them, and nothing of what is quoted."""
    at, quotes = 0, 0
    for found in _MARKUP.finditer(text):
        if not quotes:
            yield text[at : found.start()]
        at = found.end()
        name = (found["name"] or "").lower()
        quotes = max(0, quotes + (name == "blockquote") - (name == "/blockquote"))
        if not found["silent"] or found["raw"]:
            yield " "
    if not quotes:
        yield text[at:]


def _short(reference: re.Match[str]) -> str:
    """A decimal reference of at most eight digits: `html` counts them, and gives up at some thousand."""
    return "&#" + (reference[1][:8] or reference[0][2:3])


def _one_line(text: str) -> str:
    return _BLANKS.sub(" ", text).strip(" ")[:_MOST_CHARACTERS].rstrip(" ")
