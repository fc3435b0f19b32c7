"""`secmailproxy key explain` and `find`: the ladder of one address, and what becomes of mail to it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from keystore.autocrypt import PeerState, Recommendation
from keystore.discovery.answers import Taken
from keystore.discovery.ladder import Ladder, Reach, Rung, Step, Wanted
from keystore.discovery.sources import ORDER, sources_of
from keystore.selection import how_to_settle
from keystore.settling import Claimant
from secmailproxy.cli.completing import known
from secmailproxy.cli.context import Passphrase, load_config, open_keystore, print_json
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import NotFound, json_option, store_passphrase
from secmailproxy.decision import Decider, Decision, our_errors
from secmailproxy.errors import SecMailProxyError, UsageError
from secmailproxy.finding import asked_as
from secmailproxy.forward.message import checked_address
from secmailproxy.model import Protection
from secmailproxy.policy import Question, schemes_of
from secmailproxy.rules import Chosen, Protect, choose, normal_address

if TYPE_CHECKING:
    from keystore.keystore import Keystore
    from secmailproxy.config import Config

_LEAVES = {
    Protection.NONE: "leaves as it is, without protection",
    Protection.SIGNED: "leaves signed, not encrypted",
    Protection.SIGNED_AND_ENCRYPTED: "leaves signed and encrypted",
}
_GET = (
    "To have it encrypted, import the certificate (secmailproxy key import FILE), switch on a source that "
    "has it, or have its owner send you mail that brings it."
)
_NOBODY = "there is no account and no key of yours yet; run: secmailproxy setup you@your.domain"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that was gathered about one address."""

    address: str
    chosen: Chosen
    local: Sequence[Claimant]
    """The certificates of the store that claim it, those in use first."""
    rungs: Sequence[Rung]
    """Of the sources that are switched on."""
    decision: Decision
    refusal: SecMailProxyError | None
    """What a message would be refused with."""
    heard: PeerState | None = None
    """What mail has said of it by Autocrypt."""
    recommended: Recommendation = Recommendation.DISABLE
    """What Autocrypt recommends by that; the rules decide."""


@click.command()
@click.argument("address", shell_complete=known)
@click.option("--from", "from_", metavar="ADDRESS", help="The sender; default: your first account, or key.")
@click.option("--cached", is_flag=True, help="Ask nobody: show what the sources said last.")
@json_option
@store_passphrase
def explain(
    address: str, from_: str | None, cached: bool, as_json: bool, secrets_passphrase: Passphrase
) -> None:
    """Show where a certificate for ADDRESS is looked for, what each source gave, and what mail would do now.

    Asks as a submission to ADDRESS would, in the order of [discovery], and keeps what is found; --cached asks
    nobody. Nothing is sent.
    """
    explanation = _climbed(address, from_, None if cached else Reach.NEEDED, secrets_passphrase)
    if as_json:
        print_json(_as_json(explanation))
    else:
        click.echo("\n".join(_as_text(explanation)))


@click.command()
@click.argument("address", shell_complete=known)
@click.option("--all", "every", is_flag=True, help="Ask every source, not only until one has it.")
@json_option
@store_passphrase
def find(address: str, every: bool, as_json: bool, secrets_passphrase: Passphrase) -> None:
    """Ask the sources of [discovery] for a certificate of ADDRESS now, and keep what is found.

    What they said before is not heeded, and a certificate that is here already ends no search. Exit status 69
    when nothing serves then.
    """
    reach = Reach.EVERY if every else Reach.ANEW
    explanation = _climbed(address, None, reach, secrets_passphrase)
    if not explanation.rungs:
        raise UsageError("No source is switched on; see [discovery] in docs/configuration.md.")
    if as_json:
        print_json(_as_json(explanation))
    else:
        click.echo("\n".join(_of_rung(one) for one in explanation.rungs))
    if not any(one.usability.usable and one.held is None for one in explanation.local):
        raise NotFound(f"No certificate for {explanation.address} was found that serves.")


def _climbed(address: str, from_: str | None, reach: Reach | None, passphrase: Passphrase) -> Explanation:
    config = load_config()
    address = checked_address(address, "ADDRESS")
    sender = checked_address(from_, "--from") if from_ else ""
    with closing(open_keystore(config, passphrase)) as keystore, our_errors():
        sender = sender or _somebody(config, keystore)
        return asyncio.run(_explained(keystore, config, sender, address, reach))


def _somebody(config: Config, keystore: Keystore) -> str:
    """Who may be meant where no sender is named; "" where nobody can send anything yet."""
    with_key = (address for one in keystore.owned() for address in one.addresses)
    return config.accounts[0].address if config.accounts else next(with_key, "")


async def _explained(
    keystore: Keystore, config: Config, sender: str, address: str, reach: Reach | None
) -> Explanation:
    settings, now = config.discovery_settings(), datetime.now(UTC)
    account = config.account_of(sender)
    decider = Decider(keystore, config.outbound_settings(), now)
    chosen = choose(sender, address, decider.settings.rules, account)
    rungs: tuple[Rung, ...] = ()
    asked = asked_as(address)
    if asked and settings.asks:
        ladder = Ladder(keystore, sources_of(settings), settings.ladder, lambda: datetime.now(UTC))
        wanted = Wanted(asked, schemes_of([chosen.rule]), chosen.rule.fingerprints, reach or Reach.NEEDED)
        rungs = ladder.remembered(wanted) if reach is None else await ladder.climb(wanted)
    decision = decider.decide(Question(sender, (address,), frozenset({normal_address(address)}), account))
    section = config.account(account)
    mutual = section is not None and section.prefer_encrypt == "mutual"
    return Explanation(
        address,
        chosen,
        keystore.settling.claimants(address, now),
        rungs,
        decision,
        _refusal(decider, decision, sender, address, account),
        keystore.autocrypt.state(address),
        keystore.autocrypt.recommendation(address, now, own_mutual=mutual),
    )


def _refusal(
    decider: Decider, decision: Decision, sender: str, address: str, account: str
) -> SecMailProxyError | None:
    try:
        decider.check_recipient(sender, address, account)
    except SecMailProxyError as error:
        return error
    return decision.outcome if isinstance(decision.outcome, SecMailProxyError) else None


def _as_text(one: Explanation) -> list[str]:
    rule = f"rule {one.chosen.number}" if one.chosen.number else "no rule matches"
    lines = [one.address, f"  {rule}: {one.chosen.rule.text}", ""]
    pinned = one.chosen.rule.fingerprints
    lines.append(_line("pinned", ", ".join(pinned) if pinned else "no rule pins a certificate"))
    local = [_of_claimant(claimant) for claimant in one.local] or ["nothing"]
    lines += [_line("local" if not at else "", said) for at, said in enumerate(local)]
    lines += map(_of_rung, one.rungs)
    if one.heard is not None:
        lines.append(_line("mail", _of_heard(one.heard, one.recommended)))
    on = {rung.kind for rung in one.rungs}
    off = [kind.value for kind in ORDER if kind not in on]
    if off:
        lines.append(_line("off", f"{', '.join(off)} (switched on in [discovery])"))
    if not one.local and one.chosen.rule.protect in (Protect.REQUIRE, Protect.PREFER):
        return [*lines, "", _outcome(one), _GET]
    return [*lines, "", _outcome(one)]


def _of_heard(heard: PeerState, recommended: Recommendation) -> str:
    told = heard.certificate or heard.gossip_certificate
    asks = ", asks for encryption" if heard.mutual else ""
    return f"tells of {told} by Autocrypt{asks}; recommended: {recommended.value}"


def _line(name: str, said: str) -> str:
    return f"  {name:<8} {text.plain(said)}"


def _of_claimant(one: Claimant) -> str:
    certificate = one.certificate
    said = f"{certificate.fingerprint}, {certificate.trust.value}, from {certificate.source}"
    if one.held is not None:
        if one.held.settled:
            return f"{said}; not used, set aside since {one.held.since:%Y-%m-%d}"
        return f"{said}; not used, held since {one.held.since:%Y-%m-%d}: {how_to_settle(one.held.address)}"
    return said if one.usability.usable else f"{said}; not used: {one.usability.explanation}"


def _of_rung(rung: Rung) -> str:
    answer = rung.answer
    if rung.step is Step.NOT_ASKED or answer is None:
        return _line(rung.kind.value, f"{rung.step.value}: {rung.why}")
    when = "asked now" if rung.fresh else f"asked on {answer.asked:%Y-%m-%d at %H:%M} UTC"
    said = answer.failure or "; ".join(map(_of_taken, answer.taken))
    return _line(rung.kind.value, f"{rung.step.value}{': ' if said else ''}{said} ({when})")


def _of_taken(one: Taken) -> str:
    what = one.fingerprint or "something that cannot be read"
    return f"{what} from {one.where}" + (f", {one.reason}" if one.reason else "")


def _outcome(one: Explanation) -> str:
    sender = one.decision.question.sender
    message = f"A message from {sender}" if sender else "A message"
    if one.refusal is not None:
        return f"{message} is refused now: {one.refusal.text}"
    plan = one.decision.plan
    return f"{message} {_LEAVES[plan.protection]} now: {_why(one)}."


def _why(one: Explanation) -> str:
    if one.refusal is not None:
        return one.refusal.text
    return one.decision.plan.why if one.decision.question.sender else _NOBODY


def _as_json(one: Explanation) -> dict[str, Any]:
    plan = None if one.refusal is not None else one.decision.plan
    return {
        "version": text.JSON_VERSION,
        "address": one.address,
        "from": one.decision.question.sender or None,
        "rule": {"number": one.chosen.number or None, "text": one.chosen.rule.text},
        "pinned": list(one.chosen.rule.fingerprints),
        "local": [_claimant_json(claimant) for claimant in one.local],
        "sources": [_rung_json(rung) for rung in one.rungs],
        "autocrypt": _heard_json(one) if one.heard is not None else None,
        "off": [kind.value for kind in ORDER if kind not in {rung.kind for rung in one.rungs}],
        "decision": plan.protection.value if plan else "refused",
        "scheme": plan.scheme.value if plan and plan.protection is not Protection.NONE else None,
        "certificates": list(plan.copies[0].fingerprints) if plan else [],
        "why": _why(one),
    }


def _heard_json(one: Explanation) -> dict[str, Any]:
    assert one.heard is not None, "looked at before"
    return {
        "certificate": one.heard.certificate,
        "gossip": one.heard.gossip_certificate,
        "prefer_encrypt": "mutual" if one.heard.mutual else "nopreference",
        "recommendation": one.recommended.value,
    }


def _claimant_json(one: Claimant) -> dict[str, Any]:
    return {
        "fingerprint": one.certificate.fingerprint,
        "scheme": one.certificate.scheme.value,
        "trust": one.certificate.trust.value,
        "source": one.certificate.source,
        "usable": one.usability.usable,
        "held": one.held is not None,
        "why": one.usability.explanation,
    }


def _rung_json(rung: Rung) -> dict[str, Any]:
    answer = rung.answer
    return {
        "source": rung.kind.value,
        "step": rung.step.value,
        "why": rung.why or (answer.failure if answer else ""),
        "asked": _time(answer.asked) if answer else None,
        "until": _time(answer.until) if answer else None,
        "now": rung.fresh,
        "offers": [
            {
                "fingerprint": one.fingerprint,
                "scheme": one.scheme.value,
                "where": one.where,
                "action": one.action.value,
                "reason": one.reason,
            }
            for one in (answer.taken if answer else ())
        ],
    }


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
