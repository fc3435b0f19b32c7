"""What the mail client wishes for one message: header fields of ours, and words of the subject. PURE.

    X-Secmailproxy-Protect: require | prefer | sign | never
    X-Secmailproxy-Scheme: any | openpgp | smime
    X-Secmailproxy-Subject: hide | show
    X-Secmailproxy-Attach-Key: yes | no

A word that the owner has defined in [[wishes]] says the same at the start or the end of the subject. A wish
is for all recipients. It chooses freely where the rule is "prefer"; any other rule it may only strengthen:

    rule, wish    never    sign     prefer   require
    never         never    sign     prefer   require
    sign          refused  sign     prefer   require
    prefer        never    sign     prefer   require
    require       refused  refused  refused  require

Security: what cannot be read as a wish is refused, never ignored, so that a typing error in "require" sends
nothing in clear. A correspondent can put a word into a subject that comes back in the answer ("Re: hello
[clear]"), or a field into a message that is sent on; there they cannot ask for less protection. No text of
the message is in an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from keystore.model import Scheme
from secmailproxy.errors import NotAllowed
from secmailproxy.mime import header
from secmailproxy.mime.entity import Entity, parse
from secmailproxy.mime.presented import Edit, apply
from secmailproxy.mime.subjectword import cut
from secmailproxy.rules import Protect, Rule

PREFIX = "X-Secmailproxy-"

_ANSWERING = frozenset({"in-reply-to", "references", "x-forwarded-message-id"})
_MARKED = re.compile(r"\w{1,12}(?:\[\d+\]|\(\d+\))?\s?[:\uff1a]|\[\S+@\S+:")
"""How subjects of answers and forwarded messages begin: "Re:", "Fwd:", "[bob@example.org: x]" (mutt)."""
_OURS = re.compile(r"(?:x)?secmailproxy")
_NOT_A_LETTER = re.compile(r"[^a-z]")
_STRENGTH = {Protect.NEVER: 0, Protect.SIGN: 1, Protect.PREFER: 2, Protect.REQUIRE: 3}


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client wishes; None where it says nothing."""

    protect: Protect | None = None
    scheme: Scheme | None = None
    hide_subject: bool | None = None
    attach_key: bool | None = None


@dataclass(frozen=True, slots=True)
class SubjectWord:
    """A word of the subject that stands for a wish; compared without regard to case."""

    word: str
    wish: Wish


NO_WISH = Wish()

_FIELDS: dict[str, dict[str, Wish]] = {
    "protect": {one.value: Wish(protect=one) for one in Protect},
    "scheme": {"any": NO_WISH} | {one.value: Wish(scheme=one) for one in Scheme},
    "subject": {"hide": Wish(hide_subject=True), "show": Wish(hide_subject=False)},
    "attach-key": {"yes": Wish(attach_key=True), "no": Wish(attach_key=False)},
}
"""Field name without prefix -> value -> wish; all in lower case."""


def read(root: Entity, words: Sequence[SubjectWord]) -> Wish:
    """What the message wishes.

    Raises NotAllowed for a wish that is malformed, unknown or contradicts another one, and for one that could
    be somebody else's and asks for less protection.
    """
    first, last = _of_subjects(root, words)
    wish = reduce(_both, [*_of_fields(root), *first, *last], NO_WISH)
    names = {field.name.lower() for field in root.fields}
    if _is_weak(wish) and any(name.startswith("resent-") for name in names):
        raise NotAllowed(
            "the message is sent on, and a wish in it asks for less protection; it may be that of somebody "
            "else. Take the wish out"
        )
    if any(map(_is_weak, last)) and (names & _ANSWERING or _has_others_subject(root)):
        raise NotAllowed(
            "the message answers or forwards another one, and a word at the end of its subject asks for less "
            "protection; it may be your correspondent's. Take it out, or write it at the start"
        )
    return wish


def _is_weak(wish: Wish) -> bool:
    """Whether the wish could make the protection less than it would be without."""
    return wish.protect in (Protect.SIGN, Protect.NEVER) or wish.hide_subject is False


def _has_others_subject(root: Entity) -> bool:
    """Whether the subject looks like that of another message, or another message is inside.

    Not every client writes down what a forwarded message refers to.
    """
    texts = (header.decode_words(one) for one in header.values(root, "Subject"))
    return any(map(_MARKED.match, texts)) or _holds_message(root)


def _holds_message(entity: Entity) -> bool:
    return any(one.content_type.maintype == "message" or _holds_message(one) for one in entity.parts)


def without_words(root: Entity, words: Sequence[SubjectWord]) -> Entity:
    """The message without the words that are wishes; every other octet of the subject stays where it can."""
    known = [one.word for one in words]
    edits = []
    for field in header.find_all(root, "Subject"):
        value = field.value(root.octets)
        found = cut(value, known)
        if found.at_start or found.at_end:
            edits.append(Edit(field.value_start, field.value_start + len(value), found.value))
    return parse(apply(root.octets, root.start, root.end, edits)) if edits else root


def wished(rule: Rule, wish: Wish, rcpt_to: str) -> Rule:
    """The rule for `rcpt_to` with the wish applied. Raises NotAllowed where the wish would weaken it."""
    protect = wish.protect or rule.protect
    if rule.protect is not Protect.PREFER and _STRENGTH[protect] < _STRENGTH[rule.protect]:
        raise _weaker(rule, rcpt_to, f'protect "{protect.value}"')
    if wish.scheme and rule.scheme and wish.scheme is not rule.scheme:
        raise NotAllowed(
            f'the message wishes scheme "{wish.scheme.value}", and the rule for <{rcpt_to}> says '
            f'"{rule.scheme.value}"; leave the wish out or change the rule'
        )
    if wish.hide_subject is False and rule.hide_subject and rule.protect is Protect.REQUIRE:
        raise _weaker(rule, rcpt_to, 'subject "show"')
    return replace(
        rule,
        protect=protect,
        scheme=wish.scheme or rule.scheme,
        hide_subject=rule.hide_subject if wish.hide_subject is None else wish.hide_subject,
    )


def _weaker(rule: Rule, rcpt_to: str, what: str) -> NotAllowed:
    return NotAllowed(
        f'the message wishes {what}, which is weaker than the rule for <{rcpt_to}> ("{rule.protect.value}"); '
        "leave the wish out or change the rule"
    )


def _of_fields(root: Entity) -> Iterator[Wish]:
    for field in root.fields:
        name = field.name.lower()
        if not _OURS.match(_NOT_A_LETTER.sub("", name)):
            continue
        values = _FIELDS.get(name.removeprefix(PREFIX.lower())) if name.startswith(PREFIX.lower()) else None
        if values is None:
            known = ", ".join(PREFIX + one.title() for one in _FIELDS)
            raise NotAllowed(f"the message has a wish that is not known; the fields for wishes are {known}")
        value = header.unfold(field.value(root.octets)).strip().lower().decode("latin-1")
        if value not in values:
            title = name.removeprefix(PREFIX.lower()).title()
            raise NotAllowed(f"the value of {PREFIX}{title} is not known; write {_either(values)}")
        yield values[value]


def _of_subjects(root: Entity, words: Sequence[SubjectWord]) -> tuple[list[Wish], list[Wish]]:
    """By words at the start and at the end."""
    if not words:
        return [], []
    meant = {one.word: one.wish for one in words}
    cuts = [cut(field.value(root.octets), list(meant)) for field in header.find_all(root, "Subject")]
    first = [meant[word] for found in cuts for word in found.at_start]
    return first, [meant[word] for found in cuts for word in found.at_end]


def _both(first: Wish, second: Wish) -> Wish:
    """Two wishes of one message together."""
    for name in ("protect", "scheme", "hide_subject", "attach_key"):
        one, other = getattr(first, name), getattr(second, name)
        if one is not None and other is not None and one is not other:
            raise NotAllowed(
                f"the wishes of the message contradict each other ({name.replace('_', ' ')}); leave one out"
            )
    return Wish(
        first.protect or second.protect,
        first.scheme or second.scheme,
        second.hide_subject if first.hide_subject is None else first.hide_subject,
        second.attach_key if first.attach_key is None else first.attach_key,
    )


def _either(values: Iterable[str]) -> str:
    *others, last = values
    return f"{', '.join(others)} or {last}"
