"""`secmailproxy policy`: what would happen to a message, decided by what decides for the real one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click

from keystore.model import Scheme, Selection
from secmailproxy import wishes
from secmailproxy.cli.context import Passphrase, load_config, open_keystore, passphrase_options, print_json
from secmailproxy.config import Config
from secmailproxy.decision import Decider, Decision, our_errors
from secmailproxy.errors import SecMailProxyError, UsageError
from secmailproxy.forward.message import checked_address
from secmailproxy.mime.encodedword import ascii_field
from secmailproxy.mime.entity import Entity, parse
from secmailproxy.model import Protection
from secmailproxy.policy import Facts, Plan, Question, refuse_other_account
from secmailproxy.rules import normal_address
from secmailproxy.smtp.replies import reply_for
from secmailproxy.wishes import NO_WISH, Wish

_LEAVES = {
    Protection.NONE: "Leaves as it is, without protection",
    Protection.SIGNED: "Leaves signed by {}, not encrypted",
    Protection.SIGNED_AND_ENCRYPTED: "Leaves signed and encrypted by {}",
}
_NAMES = {Scheme.OPENPGP: "OpenPGP", Scheme.SMIME: "S/MIME"}


@dataclass(frozen=True)
class Verdict:
    """What became of the trial."""

    decision: Decision
    command: str = ""
    """The SMTP command that would be answered with a refusal; "" without one."""
    refusal: SecMailProxyError | None = None

    @property
    def reply(self) -> str:
        """As the mail client would get it."""
        if self.refusal is None:
            return ""
        reply = reply_for(self.refusal, "")
        return f"{reply.code} {reply.text}"


@click.group("policy")
def command() -> None:
    """How mail is protected on its way out. docs/policy.md explains rules and wishes."""


@command.command("test")
@click.option("--from", "from_", required=True, metavar="ADDRESS", help="The sender.")
@click.option("--to", multiple=True, metavar="ADDRESS", help="A recipient; may be repeated.")
@click.option("--cc", multiple=True, metavar="ADDRESS", help="A recipient in Cc; may be repeated.")
@click.option("--bcc", multiple=True, metavar="ADDRESS", help="A blind recipient; may be repeated.")
@click.option(
    "--account",
    metavar="ADDRESS",
    help="The account that the client logs in to. Default: the one with the sender's address or alias, or "
    "the only one.",
)
@click.option("--subject", default="", metavar="TEXT", help="The subject, for words that are wishes.")
@click.option("--header", multiple=True, metavar="FIELD", help='A header field, such as "Name: value".')
@click.option("--json", "as_json", is_flag=True, help="Print the decision as JSON.")
@passphrase_options
@click.pass_context
def test(
    context: click.Context,
    /,
    from_: str,
    to: tuple[str, ...],
    cc: tuple[str, ...],
    bcc: tuple[str, ...],
    account: str | None,
    subject: str,
    header: tuple[str, ...],
    as_json: bool,
    passphrase: Passphrase,
) -> None:
    """Show what would become of a message, and why. Nothing is sent, and the proxy need not run.

    Exit status 0 when it would leave, even without protection; else that of the refusal: 69 when a
    certificate or key is missing, 77 when a rule or wish forbids it.
    """
    config = load_config()
    sender = checked_address(from_, "--from")
    named = [checked_address(one, "--to") for one in to] + [checked_address(one, "--cc") for one in cc]
    rcpt_tos = tuple(dict.fromkeys([*named, *(checked_address(one, "--bcc") for one in bcc)]))
    if not rcpt_tos:
        raise UsageError("There is no recipient; give --to, --cc or --bcc.")
    visible = frozenset(map(normal_address, named))
    question = Question(sender, rcpt_tos, visible, _account(config, sender, account))
    message = _message(subject, header)
    keystore = open_keystore(config, passphrase)
    try:
        with our_errors():
            decider = Decider(keystore, config.outbound_settings(), datetime.now(UTC))
            verdict = _tried(decider, config, question, message)
    finally:
        keystore.close()
    if as_json:
        print_json(_as_json(verdict))
    else:
        click.echo("\n".join(_as_text(verdict)))
    if verdict.refusal is not None:
        context.exit(verdict.refusal.exit_status)


def _account(config: Config, sender: str, given: str | None) -> str:
    if given is None:
        return config.account_of(sender)
    found = config.account(given)
    if found is None:
        known = ", ".join(one.address for one in config.accounts) or "none"
        raise UsageError(f"There is no account {given}; the accounts are: {known}.")
    return found.address


def _message(subject: str, header: tuple[str, ...]) -> Entity:
    fields = [*header, *([f"Subject: {subject}"] if subject else [])]
    for one in fields:
        if not one.isprintable() or not one.partition(":")[1]:
            raise UsageError(
                'A header field is one line with a colon: --header "X-Secmailproxy-Protect: require"'
            )
    return parse(b"".join(ascii_field(one.encode() + b"\r\n") for one in fields) + b"\r\n")


def _tried(decider: Decider, config: Config, question: Question, message: Entity) -> Verdict:
    """The steps of a submission: MAIL, RCPT for each recipient, DATA."""
    wish, refused = NO_WISH, None
    try:
        wish = wishes.read(message, decider.settings.words)
    except SecMailProxyError as error:
        refused = error
    sender, account = question.sender, question.account
    decision = decider.decide(Question(sender, question.rcpt_tos, question.named, account, wish))
    try:
        refuse_other_account(sender, config.others(account))
    except SecMailProxyError as error:
        return Verdict(decision, "MAIL", error)
    for rcpt_to in question.rcpt_tos:
        try:
            decider.check_recipient(sender, rcpt_to, account)
        except SecMailProxyError as error:
            return Verdict(decision, "RCPT", error)
    if refused is None and isinstance(decision.outcome, SecMailProxyError):
        refused = decision.outcome
    return Verdict(decision, "DATA" if refused else "", refused)


def _as_text(verdict: Verdict) -> list[str]:
    decision = verdict.decision
    question = decision.question
    lines = [f"From {question.sender}" + (f", account {question.account}" if question.account else "")]
    if said := _wish(question.wish):
        lines.append(f"The message wishes {', '.join(f'{name} {value}' for name, value in said.items())}")
    for rcpt_to in question.rcpt_tos:
        chosen = decision.chosen[rcpt_to]
        rule = f"rule {chosen.number}" if chosen.number else "no rule matches"
        lines += ["", f"{rcpt_to}", f"  {rule}: {chosen.rule.text}"]
        for scheme, selection in _selections(decision, rcpt_to):
            lines.append(f"  {_NAMES[scheme]}: {selection.explanation}")
    lines.append("")
    if verdict.refusal is not None:
        return [*lines, f"Refused at {verdict.command}: {verdict.reply}"]
    plan = decision.plan
    lines.append(f"{_LEAVES[plan.protection].format(_NAMES[plan.scheme])}: {plan.why}.")
    return lines + _details(plan)


def _details(plan: Plan) -> list[str]:
    lines = [f"  signed with {plan.signer} ({plan.signer_address})"] if plan.signer else []
    for number, copy in enumerate(plan.copies, 1):
        lines.append(f"  copy {number} for {', '.join(copy.rcpt_tos)}")
        lines += [f"    encrypted to {fingerprint}" for fingerprint in copy.fingerprints]
    if plan.protection is Protection.SIGNED_AND_ENCRYPTED:
        lines.append(f"  the subject is {'hidden' if plan.hide_subject else 'shown'}")
    if plan.attach_key:
        lines.append("  your certificate is attached")
    return lines


def _selections(decision: Decision, rcpt_to: str) -> list[tuple[Scheme, Selection]]:
    """What is known of a recipient in the schemes that count: that of the plan, or all that were asked."""
    outcome, facts = decision.outcome, decision.facts
    counts = [scheme for scheme, one in facts.items() if one.identity or _any_known(one)] or list(facts)[:1]
    if isinstance(outcome, Plan) and outcome.protection is Protection.SIGNED_AND_ENCRYPTED:
        counts = [outcome.scheme]
    return [(scheme, facts[scheme].selections[rcpt_to]) for scheme in counts]


def _any_known(facts: Facts) -> bool:
    return any(selection.certificates for selection in facts.selections.values())


def _wish(wish: Wish) -> dict[str, str]:
    """What the message wishes, in the words of the header fields."""
    said: dict[str, str] = {}
    if wish.protect:
        said["protect"] = wish.protect.value
    if wish.scheme:
        said["scheme"] = wish.scheme.value
    if wish.hide_subject is not None:
        said["subject"] = "hide" if wish.hide_subject else "show"
    if wish.attach_key is not None:
        said["attach-key"] = "yes" if wish.attach_key else "no"
    return said


def _as_json(verdict: Verdict) -> dict[str, Any]:
    decision = verdict.decision
    question, outcome = decision.question, decision.outcome
    plan = outcome if isinstance(outcome, Plan) and verdict.refusal is None else None
    protected = plan is not None and plan.protection is not Protection.NONE
    return {
        "version": 1,
        "from": question.sender,
        "account": question.account or None,
        "wish": _wish(question.wish),
        "decision": plan.protection.value if plan else "refused",
        "scheme": plan.scheme.value if plan and protected else None,
        "why": plan.why if plan else verdict.refusal.text if verdict.refusal else "",
        "signer": plan.signer if plan else None,
        "hide_subject": plan.hide_subject if plan else None,
        "attach_key": plan.attach_key if plan else None,
        "recipients": [_recipient(decision, rcpt_to) for rcpt_to in question.rcpt_tos],
        "copies": [
            {"recipients": list(copy.rcpt_tos), "certificates": list(copy.fingerprints)}
            for copy in (plan.copies if plan else ())
        ],
        "refusal": {"command": verdict.command, "reply": verdict.reply} if verdict.refusal else None,
    }


def _recipient(decision: Decision, rcpt_to: str) -> dict[str, Any]:
    chosen = decision.chosen[rcpt_to]
    return {
        "address": rcpt_to,
        "rule": {"number": chosen.number or None, "text": chosen.rule.text},
        "schemes": [
            {
                "scheme": scheme.value,
                "certificates": [one.fingerprint for one in selection.certificates],
                "why": selection.explanation,
            }
            for scheme, selection in _selections(decision, rcpt_to)
        ],
    }
