"""The tables of the configuration that say how mail is protected: [[rules]] and [[wishes]]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from keystore.model import Fingerprint, Scheme
from secmailproxy.config_values import Address, FingerprintText, Pattern, Section, Switch, Word

if TYPE_CHECKING:
    from secmailproxy.rules import Rule
    from secmailproxy.wishes import SubjectWord


class RuleSection(Section):
    """[[rules]]"""

    to: Pattern = "*"
    from_: Pattern = Field("*", alias="from")
    protect: Literal["require", "prefer", "never", "sign"] = "prefer"
    fingerprints: tuple[FingerprintText, ...] = ()
    hide_subject: Switch = True
    scheme: Literal["any", "openpgp", "smime"] = "any"
    account: Address | None = None

    def value(self) -> Rule:
        """For `secmailproxy.rules`."""
        from secmailproxy.rules import Protect, Rule

        return Rule(
            to=self.to,
            from_=self.from_,
            protect=Protect(self.protect),
            fingerprints=tuple(Fingerprint(one) for one in self.fingerprints),
            hide_subject=self.hide_subject,
            scheme=None if self.scheme == "any" else Scheme(self.scheme),
            account=self.account or "",
        )


class WishSection(Section):
    """[[wishes]]"""

    word: Word
    protect: Literal["require", "prefer", "never", "sign"] | None = None
    scheme: Literal["openpgp", "smime"] | None = None
    hide_subject: Switch | None = None
    attach_key: Switch | None = None

    @model_validator(mode="after")
    def _wishes(self) -> WishSection:
        if not self.model_fields_set - {"word"}:
            raise ValueError("a word wishes nothing; add protect, scheme, hide_subject or attach_key")
        return self

    def value(self) -> SubjectWord:
        """For `secmailproxy.wishes`."""
        from secmailproxy.rules import Protect
        from secmailproxy.wishes import SubjectWord, Wish

        return SubjectWord(
            self.word,
            Wish(
                Protect(self.protect) if self.protect else None,
                Scheme(self.scheme) if self.scheme else None,
                self.hide_subject,
                self.attach_key,
            ),
        )


def refuse_repeated(values: Sequence[str], what: str) -> None:
    """Raises ValueError where two of `values` are the same without regard to case."""
    folded = [value.casefold() for value in values]
    for value in folded:
        if folded.count(value) > 1:
            raise ValueError(f"{what} {value}; remove one of them")
