"""The tables of the configuration about system mail: [forward], [[forward.targets]], [[forward.rules]]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from keystore.model import Fingerprint
from secmailproxy.config_entrances import ForwardListen, ForwardWatch
from secmailproxy.config_forward_digests import ForwardDigest, Zone, schedule_of
from secmailproxy.config_forward_rules import ForwardRule, HeaderText
from secmailproxy.config_values import (
    Address,
    FingerprintText,
    Listener,
    LocatedError,
    Section,
    Switch,
    absolute_path,
)

if TYPE_CHECKING:
    from secmailproxy.config import Config
    from secmailproxy.forward.attempts import Patience
    from secmailproxy.forward.model import ForwardSettings, Target
    from secmailproxy.forward.schedule import HeartbeatPlan

_ALWAYS_LOCAL = ("localhost", "localhost.localdomain")


class ForwardTarget(Section):
    """[[forward.targets]]"""

    address: Address
    fingerprint: FingerprintText | None = None
    fingerprints: tuple[FingerprintText, ...] = ()

    @model_validator(mode="after")
    def _pinned(self) -> ForwardTarget:
        if not self.pinned:
            raise ValueError("no certificate is pinned; add fingerprint, or fingerprints = [...]")
        return self

    @property
    def pinned(self) -> tuple[Fingerprint, ...]:
        """All fingerprints, each once."""
        written = (*([self.fingerprint] if self.fingerprint else []), *self.fingerprints)
        return tuple(Fingerprint(one) for one in dict.fromkeys(written))

    def value(self) -> Target:
        """For `secmailproxy.forward`."""
        from secmailproxy.forward.model import Target

        return Target(self.address, self.pinned)


def _words(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if value is not None and not all(map(str.strip, value)):
        raise ValueError("an empty word would be found in every message; remove it")
    return value


def _refuse_strangers(addresses: Sequence[str], known: set[str], *where: str | int) -> None:
    for address in addresses:
        if address.lower() not in known:
            text = f"there is no [[forward.targets]] for {address}; add it, or correct the address"
            raise LocatedError(text, *where)


class ForwardQueue(Section):
    """[forward.queue]"""

    first_retry_seconds: Annotated[int, Field(strict=True, ge=1, le=86400)] = 60
    longest_retry_seconds: Annotated[int, Field(strict=True, ge=1, le=86400)] = 86400
    lifetime_hours: Annotated[int, Field(strict=True, ge=1, le=8760)] = 168

    def value(self) -> Patience:
        """For `secmailproxy.forward.deliveries`."""
        from secmailproxy.forward.attempts import Patience

        return Patience(
            float(self.first_retry_seconds), float(self.longest_retry_seconds), self.lifetime_hours * 3600.0
        )


class Forward(Section):
    """[forward]"""

    account: Address | None = None
    sender: Address | None = None
    via: Literal["smarthost", "sendmail", "smtp"] = "smarthost"
    sendmail: str = "/usr/sbin/sendmail"
    to: Address | None = None
    aliases: Annotated[str, AfterValidator(absolute_path)] = "/etc/aliases"
    local_domains: tuple[str, ...] = ()
    subject: Literal["hidden", "kept", "replaced"] = "hidden"
    subject_text: HeaderText = ""
    sign: Switch = False
    urgent_words: Annotated[tuple[str, ...] | None, AfterValidator(_words)] = None
    host_key: FingerprintText | None = None
    escrow: ForwardTarget | None = None
    alert: tuple[Address, ...] = ()
    relay: Listener | None = None
    bounces: Address | None = None
    queue: ForwardQueue = ForwardQueue()
    time_zone: Zone = ""
    heartbeat: Literal["off", "hourly", "daily"] = "off"
    heartbeat_at: str | None = None
    heartbeat_to: tuple[Address, ...] = ()
    heartbeat_by_digest: Switch = True
    digests: tuple[ForwardDigest, ...] = ()
    targets: tuple[ForwardTarget, ...] = ()
    rules: tuple[ForwardRule, ...] = ()
    listen: ForwardListen = ForwardListen()
    watch: tuple[ForwardWatch, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Forward:
        if self.subject == "replaced" and not self.subject_text:
            raise LocatedError('subject = "replaced" needs subject_text, the words to show', "subject")
        if self.via == "smtp" and self.relay is None:
            raise LocatedError('via = "smtp" needs relay, such as relay = "127.0.0.1:10026"', "via")
        known: set[str] = set()
        for number, target in enumerate(self.targets):
            if target.address.lower() in known:
                text = f"two targets have the address {target.address}; make one of them, with fingerprints"
                raise LocatedError(text, "targets", number)
            known.add(target.address.lower())
        if self.to is not None and self.to.lower() not in known:
            raise LocatedError(f"there is no [[forward.targets]] for {self.to}; add it", "to")
        self._check_digests(known)
        self._refuse_unreachable()
        for number, rule in enumerate(self.rules):
            self._check_actions(rule, number)
        return self

    def _check_digests(self, known: set[str]) -> None:
        names: set[str] = set()
        for number, digest in enumerate(self.digests):
            if digest.name in names:
                raise LocatedError(f"two digests are called {digest.name}; rename one", "digests", number)
            names.add(digest.name)
            _refuse_strangers(digest.rcpt_tos, known, "digests", number, "rcpt_tos")
        _refuse_strangers(self.heartbeat_to, known, "heartbeat_to")
        if self.heartbeat != "off":
            try:
                schedule_of(self.heartbeat, self.heartbeat_at)
            except ValueError as error:
                raise LocatedError(str(error), "heartbeat_at") from None

    def _refuse_unreachable(self) -> None:
        names: set[str] = set()
        before: dict[object, str] = {}
        ending = ""
        for number, rule in enumerate(self.rules):
            called = rule.called(number)
            if called.casefold() in names:
                raise LocatedError(f"two rules are called {called}; rename one", "rules", number, "name")
            names.add(called.casefold())
            if ending:
                text = f"is never asked: {ending!r} above holds for every message and does not continue"
                raise LocatedError(f"{text}; move or remove one of them", "rules", number)
            asked = rule.conditions
            if asked in before:
                text = (
                    f"is never asked: {before[asked]!r} above has the same conditions and does not continue"
                )
                raise LocatedError(f"{text}; move or remove one of them", "rules", number)
            if not rule.continue_:
                before[asked] = called
                ending = called if all(one.are_none for one in asked) else ""

    def _check_actions(self, rule: ForwardRule, number: int) -> None:
        known = {one.address.lower() for one in self.targets}
        digests = {one.name for one in self.digests}
        for at, action in enumerate(rule.do):
            _refuse_strangers(action.forward or (), known, "rules", number, "do", at)
            if action.collect is not None and action.collect not in digests:
                text = f"there is no [[forward.digests]] called {action.collect}; add it, or correct the name"
                raise LocatedError(text, "rules", number, "do", at)
            if action.pass_on and self.via == "smarthost":
                text = (
                    'pass-on hands the message on as it is, which via = "smarthost" cannot: it would lie in '
                    'clear in a spool; use via = "sendmail"'
                )
                raise LocatedError(text, "rules", number, "do", at)

    def heartbeat_value(self) -> HeartbeatPlan | None:
        """For `secmailproxy.forward.heartbeat`."""
        from secmailproxy.forward.schedule import HeartbeatPlan

        if self.heartbeat == "off":
            return None
        schedule = schedule_of(self.heartbeat, self.heartbeat_at)
        return HeartbeatPlan(schedule, self.heartbeat_to, self.heartbeat_by_digest)

    def value(self, config: Config) -> ForwardSettings:
        """For `secmailproxy.forward`; `config` is the whole configuration that this is part of."""
        from secmailproxy.forward.message import loop_mark
        from secmailproxy.forward.model import Forward as ForwardAction
        from secmailproxy.forward.model import ForwardSettings, SubjectMode
        from secmailproxy.forward.sender import own_names
        from secmailproxy.forward.severity import DEFAULT_WORDS

        only = config.accounts[0].address if len(config.accounts) == 1 else ""
        default = ForwardAction((), SubjectMode(self.subject), self.subject_text, self.sign)
        return ForwardSettings(
            targets=tuple(one.value() for one in self.targets),
            to=self.to or "",
            default=default,
            rules=tuple(one.value(number, default) for number, one in enumerate(self.rules)),
            urgent_words=DEFAULT_WORDS if self.urgent_words is None else self.urgent_words,
            sender=self.sender or "",
            via=self.via,
            sendmail=self.sendmail,
            account=self.account or only,
            aliases=self.aliases,
            local_domains=tuple(
                dict.fromkeys((*(one.lower() for one in self.local_domains), *own_names(), *_ALWAYS_LOCAL))
            ),
            relay=str(self.relay or ""),
            bounces=self.bounces or "",
            mark=loop_mark(config.folders.verdict_token()),
            host_key=self.host_key or "",
            escrow=self.escrow.value() if self.escrow else None,
            alert=self.alert,
            max_octets=config.submission.max_octets,
        )
