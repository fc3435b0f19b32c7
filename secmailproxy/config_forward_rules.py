"""The table [[forward.rules]] of the configuration: what a rule asks, and what it does.

Each regular expression is compiled here, so that one that is wrong is told with its line and stops the start,
never a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from secmailproxy.config_values import Address, Section, Switch, absolute_path

if TYPE_CHECKING:
    from secmailproxy.forward import model

_WORDS = {"forward": "forward", "pass-on": "pass_on", "drop": "drop"}
_DIGEST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_FIELD_NAME = re.compile(r"[!-9;-~]+")


def _expression(value: str) -> str:
    from secmailproxy.forward.expressions import check  # only wanted where there are rules

    check(value)
    return value


def _listed(value: object) -> object:
    """One text may stand for a list of one."""
    return (value,) if isinstance(value, str) else value


def _field_name(value: str) -> str:
    if not _FIELD_NAME.fullmatch(value):
        raise ValueError(f"{value!r} is not the name of a header field; write it without colon and blanks")
    return value


def _digest(value: str) -> str:
    if not _DIGEST.fullmatch(value):
        raise ValueError(f"{value!r} is not the name of a digest; use letters, digits, _ and -")
    return value


def _header_text(value: str) -> str:
    if not value.isprintable() or len(value) > 200:
        raise ValueError("must be one line of at most 200 printable characters")
    return value


Expressions = Annotated[tuple[Annotated[str, AfterValidator(_expression)], ...], BeforeValidator(_listed)]
FieldName = Annotated[str, AfterValidator(_field_name)]
HeaderText = Annotated[str, AfterValidator(_header_text)]
Size = Annotated[int, Field(strict=True, ge=1, le=1024**3)]


class ConditionsSection(Section):
    """match and unless of a rule"""

    header: dict[FieldName, Expressions] | None = None
    mail_from: Expressions = ()
    rcpt_to: Expressions = ()
    body: Expressions = ()
    larger: Size | None = None
    smaller: Size | None = None
    urgent: Switch = False

    def value(self) -> model.Conditions:
        """For `secmailproxy.forward.rules`."""
        from secmailproxy.forward.model import Conditions

        return Conditions(
            header=tuple((name, one) for name, listed in (self.header or {}).items() for one in listed),
            mail_from=self.mail_from,
            rcpt_to=self.rcpt_to,
            body=self.body,
            larger=self.larger or 0,
            smaller=self.smaller or 0,
            urgent=self.urgent,
        )


def _single(section: ConditionsSection | None) -> Iterator[tuple[str, object]]:
    """Each condition by itself."""
    if section is None:
        return
    for name, listed in (section.header or {}).items():
        yield from ((name.lower(), one) for one in listed)
    for option in ("mail_from", "rcpt_to", "body"):
        yield from ((f"{option} ", one) for one in getattr(section, option))
    if section.urgent:
        yield "urgent ", True


def _everybody(value: object) -> object:
    """`forward = true` is for whoever the message is for."""
    return () if value is True else _listed(value)


def _action(value: object) -> object:
    """An action that needs no more words may be one word."""
    if not isinstance(value, str):
        return value
    if value not in _WORDS:
        raise ValueError(
            f'{value!r} is no action; write "forward", "pass-on", "drop", {{ keep = "PATH" }}, '
            '{ collect = "DIGEST" } or { forward = ["ADDRESS"] }'
        )
    return {_WORDS[value]: True}


class ActionSection(Section):
    """One entry of do"""

    keep: Annotated[str, AfterValidator(absolute_path)] | None = None
    forward: Annotated[tuple[Address, ...], BeforeValidator(_everybody)] | None = None
    subject: str | None = None
    subject_text: HeaderText | None = None
    sign: Switch | None = None
    collect: Annotated[str, AfterValidator(_digest)] | None = None
    pass_on: Switch = False
    drop: Switch = False

    @model_validator(mode="after")
    def _one_action(self) -> ActionSection:
        said = [self.keep, self.collect, True if self.forward is not None else None]
        if sum(map(bool, (*said, self.pass_on, self.drop))) != 1:
            raise ValueError(
                "must be one of keep, forward, collect, pass_on, drop; write each as its own entry"
            )
        if self.forward is None and (self.subject, self.subject_text, self.sign) != (None, None, None):
            raise ValueError("subject, subject_text and sign belong to forward; remove them here")
        if self.subject not in (None, "hidden", "kept", "replaced"):
            raise ValueError('subject must be one of "hidden", "kept", "replaced"')
        if self.subject == "replaced" and not self.subject_text:
            raise ValueError('subject = "replaced" needs subject_text, the words to show')
        return self

    def value(self, default: model.Forward) -> model.Action:
        """For `secmailproxy.forward.processing`; `default` says what forward leaves open."""
        from secmailproxy.forward.model import Collect, Drop, Forward, Keep, PassOn, SubjectMode

        if self.keep:
            # As procmail has it.
            return Keep(self.keep.rstrip("/") or "/", "maildir" if self.keep.endswith("/") else "mbox")
        if self.collect:
            return Collect(self.collect)
        if self.forward is not None:
            return Forward(
                self.forward,
                SubjectMode(self.subject) if self.subject else default.subject,
                default.subject_text if self.subject_text is None else self.subject_text,
                default.sign if self.sign is None else self.sign,
            )
        return PassOn() if self.pass_on else Drop()


def _actions(value: object) -> object:
    """One word may stand for a list of one."""
    return (value,) if isinstance(value, (str, dict)) else value


class ForwardRule(Section):
    """[[forward.rules]]"""

    name: HeaderText = ""
    match: ConditionsSection | None = None
    unless: ConditionsSection | None = None
    do: Annotated[tuple[Annotated[ActionSection, BeforeValidator(_action)], ...], BeforeValidator(_actions)]
    continue_: Switch = Field(False, alias="continue")

    @model_validator(mode="after")
    def _sensible(self) -> ForwardRule:
        if not self.do:
            raise ValueError('do says nothing; write at least one action, such as do = "forward"')
        if any(one.drop for one in self.do) and (len(self.do) > 1 or self.continue_):
            raise ValueError("drop stands alone, without other actions and without continue")
        least, most = (self.match.larger, self.match.smaller) if self.match else (None, None)
        if least is not None and most is not None and least + 1 >= most:
            raise ValueError(f"no message is larger than {least} and smaller than {most} octets; correct one")
        if set(_single(self.match)) & set(_single(self.unless)):
            raise ValueError("never holds: the same condition stands in match and in unless; remove one")
        return self

    def called(self, number: int) -> str:
        """Its name; without one, its place in the file."""
        return self.name or f"rule {number + 1}"

    @property
    def conditions(self) -> tuple[model.Conditions, model.Conditions]:
        """What it asks: match and unless."""
        from secmailproxy.forward.model import Conditions

        match, unless = (one.value() if one else Conditions() for one in (self.match, self.unless))
        return match, unless

    def value(self, number: int, default: model.Forward) -> model.Rule:
        """For `secmailproxy.forward.rules`."""
        from secmailproxy.forward.model import Rule

        actions = tuple(one.value(default) for one in self.do)
        return Rule(self.called(number), *self.conditions, actions, self.continue_)
