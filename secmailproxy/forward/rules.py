"""Which rule speaks for a message, and what it asks for. PURE.

Rules are read from the top. The first that holds speaks; one that goes on (`continue = true`) adds its
actions and lets the rules below speak too, as `:0 c` does in procmail. When none but such rules have spoken
at the end, the message goes encrypted to the target: nothing is lost because nobody thought of it. Our own
messages, such as digests, go that way past all rules.

A message that is urgent is not collected: it is sent at once, as the default says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from secmailproxy.forward.expressions import found
from secmailproxy.forward.model import (
    Action,
    Collect,
    Conditions,
    Disposition,
    Entrance,
    Forward,
    ForwardSettings,
    Rule,
    SubjectMode,
    SystemMail,
)

if TYPE_CHECKING:
    from secmailproxy.forward.reading import Reading


@dataclass(frozen=True, slots=True)
class Opinion:
    """What came of asking one rule."""

    rule: Rule
    why_not: str
    """The first thing that keeps it from holding, in words of the configuration; "" where it holds."""


def decide(mail: SystemMail, settings: ForwardSettings) -> Disposition:
    """What is to be done with `mail`: at least one action, always."""
    return explain(mail, settings)[0]


def explain(mail: SystemMail, settings: ForwardSettings) -> tuple[Disposition, tuple[Opinion, ...]]:
    """The same, with what came of each rule that was asked, in order."""
    if mail.entrance is Entrance.OWN or not settings.rules:
        default = _own(settings) if mail.entrance is Entrance.OWN else settings.default
        return Disposition("", (default,)), ()
    from secmailproxy.forward.reading import Reading  # most pipes have no rules

    reading = Reading(mail, settings.urgent_words)
    opinions: list[Opinion] = []
    for rule in settings.rules:
        opinions.append(Opinion(rule, next(_objections(rule, reading), "")))
        if not opinions[-1].why_not and not rule.goes_on:
            break
    spoke = [opinion.rule for opinion in opinions if not opinion.why_not]
    actions = [action for rule in spoke for action in rule.actions]
    if not spoke or spoke[-1].goes_on:
        actions.append(settings.default)
    called = ", ".join(rule.name for rule in spoke)
    return Disposition(called, _settled(actions, reading, settings)), tuple(opinions)


def _own(settings: ForwardSettings) -> Forward:
    """What becomes of our own messages, whose subjects are never shown outside."""
    default = settings.default
    return replace(default, subject=SubjectMode.HIDDEN) if default.subject is SubjectMode.KEPT else default


def _settled(actions: list[Action], reading: Reading, settings: ForwardSettings) -> tuple[Action, ...]:
    """Each action once, what is urgent not collected."""
    if any(isinstance(one, Collect) for one in actions) and reading.is_urgent:
        actions = [settings.default if isinstance(one, Collect) else one for one in actions]
    return tuple(dict.fromkeys(actions))


class _Answer(NamedTuple):
    holds: bool
    words: str
    """The condition as it stands in the configuration."""


def _objections(rule: Rule, reading: Reading) -> Iterator[str]:
    """Why `rule` does not hold; nothing when it does."""
    if any(one.need_reading for one in (rule.match, rule.unless)) and not reading.is_readable:
        yield "the message has more header fields or parts than can be read"
        return
    for answer in _answers(rule.match, reading):
        if not answer.holds:
            yield f"match: {answer.words}: it does not"
    for answer in _answers(rule.unless, reading):
        if answer.holds:
            yield f"unless: {answer.words}: it does"
    if rule.unless.body and not reading.is_whole:
        yield "unless: body: there is more text than is looked at, or some that cannot be decoded"


def _answers(conditions: Conditions, reading: Reading) -> Iterator[_Answer]:
    """Condition by condition, what costs least first."""
    mail = reading.mail
    if conditions.larger:
        yield _Answer(len(mail.octets) > conditions.larger, f"larger = {conditions.larger}")
    if conditions.smaller:
        yield _Answer(len(mail.octets) < conditions.smaller, f"smaller = {conditions.smaller}")
    for one in conditions.mail_from:
        yield _Answer(found(one, mail.mail_from), f'mail_from = "{one}"')
    for one in conditions.rcpt_to:
        yield _Answer(any(found(one, rcpt_to) for rcpt_to in mail.rcpt_tos), f'rcpt_to = "{one}"')
    for name, one in conditions.header:
        yield _Answer(any(found(one, value) for value in reading.field(name)), f'header.{name} = "{one}"')
    if conditions.urgent:
        yield _Answer(reading.is_urgent, "urgent = true")
    for one in conditions.body:
        yield _Answer(found(one, reading.text, lines=True), f'body = "{one}"')
