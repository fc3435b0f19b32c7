"""`secmailproxy forward test FILE`: what the rules would do with a message. Nothing is sent, kept or changed.

Security: what would leave is really made, then thrown away, so that what is shown is what every server sees.
Of the message itself nothing is printed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from keystore.errors import KeystoreError
from secmailproxy.cli.context import passphrase_options, print_json, read_input
from secmailproxy.cli.forward import chosen_settings, configuration, incoming, opened_desk, way_options
from secmailproxy.errors import SecMailProxyError
from secmailproxy.forward import model
from secmailproxy.forward.processing import Desk, products_of
from secmailproxy.forward.rules import Opinion, explain
from secmailproxy.forward.target import pinned
from secmailproxy.mime.entity import parse_or_leaf
from secmailproxy.mime.system import is_sealed

if TYPE_CHECKING:
    from keystore.keystore import Keystore
    from secmailproxy.forward.model import Action, ForwardSettings, Product, SystemMail

TRY_LATER = 75


@click.command("test")
@click.argument("file")
@way_options
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@passphrase_options
def command(file: str, as_json: bool, **options: Any) -> None:
    """Say which rule speaks for the message in FILE ("-": standard input), and what would leave.

    The options are those of the pipe. Nothing is sent or kept. The status is 0 when the message would be
    dealt with, and 75 when it would stay with whoever brought it.
    """
    # As for the pipe.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    config = configuration()
    parent = click.get_current_context().parent
    options = _joined(parent.params if parent is not None else {}, options)
    settings = chosen_settings(config, options)
    mail = incoming(read_input(file), settings, options)
    with opened_desk(config, settings, options["passphrase"]) as (desk, keystore):
        told = _told(mail, desk, keystore)
    if as_json:
        print_json(told)
    else:
        click.echo("\n".join(_lines(told)))
    if told["deferred"] is not None:
        raise click.exceptions.Exit(TRY_LATER)


def _joined(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Options may stand before and after "test"; those after it count."""
    given = {name: value for name, value in after.items() if value not in (None, ()) or name not in before}
    if "passphrase" in before and not after["passphrase"].given:
        given["passphrase"] = before["passphrase"]
    return {**before, **given}


def _told(mail: SystemMail, desk: Desk, keystore: Keystore) -> dict[str, Any]:
    """All that is found out, as the JSON document."""
    disposition, opinions = explain(mail, desk.settings)
    told: dict[str, Any] = {
        "version": 1,
        "envelope": {"mail_from": mail.mail_from, "rcpt_tos": list(mail.rcpt_tos)},
        "rules": [_opinion(one) for one in opinions],
        "rule": disposition.rule or None,
        "actions": [_action(one) for one in disposition.actions],
        "leaves": [],
        "deferred": None,
    }
    try:
        desk.refuse_impossible(disposition)
        products = products_of(mail, disposition, desk.settings, desk.seals)
        told["leaves"] = [_product(one, mail, desk.settings, keystore) for one in products]
    except (SecMailProxyError, KeystoreError) as error:
        told["deferred"] = " ".join(str(error).split())
    return told


def _opinion(one: Opinion) -> dict[str, Any]:
    return {"name": one.rule.name, "holds": not one.why_not, "why_not": one.why_not or None}


def _action(action: Action) -> dict[str, Any]:
    match action:
        case model.Keep(path, form):
            return {"action": "keep", "path": path, "form": form}
        case model.Collect(digest):
            return {"action": "collect", "digest": digest}
        case model.Forward():
            return {"action": "forward", "subject": action.subject.value, "sign": action.sign}
        case model.PassOn():
            return {"action": "pass-on"}
        case model.Drop():
            return {"action": "drop"}


def _product(
    product: Product, mail: SystemMail, settings: ForwardSettings, keystore: Keystore
) -> dict[str, Any]:
    header = product.octets.partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
    return {
        "via": settings.via,
        "mail_from": product.envelope.mail_from,
        "rcpt_tos": list(product.envelope.rcpt_tos),
        "protection": "none" if product.is_plain else "encrypted",
        "fingerprints": _fingerprints(product, mail, settings, keystore),
        "held": product.held or None,
        "octets": len(product.octets),
        # The header of what leaves in clear is the message's own, and that is not told.
        "header": [] if product.is_plain else header.split("\r\n"),
    }


def _fingerprints(
    product: Product, mail: SystemMail, settings: ForwardSettings, keystore: Keystore
) -> list[str]:
    """Whose certificates it is encrypted to; [] where we have not encrypted it."""
    if product.is_plain or is_sealed(parse_or_leaf(mail.octets)):
        return []
    known = {one.address: one for one in settings.targets}
    if product.held and settings.escrow is not None:
        known[settings.escrow.address] = settings.escrow
    now = datetime.now(UTC)
    found = [pinned(keystore, known[one], now).fingerprints for one in product.envelope.rcpt_tos]
    return [str(one) for ones in found for one in ones]


def _lines(told: dict[str, Any]) -> Iterator[str]:
    """The same for people."""
    for one in told["rules"]:
        yield f"{one['name']}: " + ("speaks." if one["holds"] else f"does not speak. {one['why_not']}.")
    if told["rule"] is None:
        yield "No rule speaks: the default does."
    for action in told["actions"]:
        yield from _action_lines(action)
    for product in told["leaves"]:
        yield ""
        yield from _product_lines(product)
    yield ""
    if told["deferred"] is not None:
        yield f"It would stay where it is (75): {told['deferred']}"
    else:
        yield "Nothing was sent or kept: this was a test."


def _action_lines(action: dict[str, Any]) -> Iterator[str]:
    match action["action"]:
        case "keep":
            kind = "Maildir" if action["form"] == "maildir" else "mbox"
            yield f"Keeps a plain copy in {action['path']} ({kind})."
        case "collect":
            yield f"Collects it for the digest {action['digest']}."
        case "pass-on":
            yield "Passes it on as it is, IN CLEAR."
        case "drop":
            yield "Drops it."


def _product_lines(product: dict[str, Any]) -> Iterator[str]:
    what = "IN CLEAR" if product["protection"] == "none" else "encrypted"
    yield f"Leaves {what}, {product['octets']} octets, via {product['via']}:"
    yield f"  from <{product['mail_from']}> to {', '.join(product['rcpt_tos'])}"
    if product["held"]:
        yield f"  held in the queue until it is released: {product['held']}"
    for fingerprint in product["fingerprints"]:
        yield f"  certificate {fingerprint}"
    if product["protection"] == "encrypted" and not product["fingerprints"]:
        yield "  it was encrypted before it came, and only gets our mark"
    for line in product["header"]:
        yield "  | " + "".join(one if one.isprintable() else "?" for one in line)
