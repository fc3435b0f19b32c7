"""`secmailproxy message`: what the proxy does to one message, offline, for scripts, filters and tests.

`inspect --json` prints one object whose keys and values are fixed (docs/cli.md); `open` writes the message as
a mail client would see it. Nothing is fetched from the network.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from keystore.model import Scheme, Trust
from secmailproxy import inbound, verdict
from secmailproxy.cli.context import (
    Passphrase,
    load_config_or_defaults,
    open_keystore,
    passphrase_options,
    print_json,
    read_input,
)
from secmailproxy.errors import MalformedMessage, UsageError
from secmailproxy.inbound import InboundLimits
from secmailproxy.model import CryptoSummary, DecryptionState, SignatureSummary, Verdict
from secmailproxy.opening import NONE_OPENS_IT

if TYPE_CHECKING:
    from keystore.keystore import Keystore

JSON_VERSION = 1
_TRUSTED = frozenset({"verified", "known"})
_MBOX_LINE = re.compile(rb"From [^\r\n]*\r?\n")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_VERDICT_TEXT = {
    Verdict.NONE: "not signed",
    Verdict.VALID: "valid signature of {signer}",
    Verdict.INVALID: "the signature is not valid",
    Verdict.UNKNOWN_KEY: "signed with a key that is not known here",
    Verdict.MISMATCH: "signed by {signer}, which is not the address in From",
    Verdict.UNACCEPTABLE: "the signature is not acceptable",
}


class _Group(click.Group):
    """`seal` is imported only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of --help."""
        return ["seal", *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, None for an unknown one."""
        if cmd_name != "seal":
            return super().get_command(ctx, cmd_name)
        found = importlib.import_module("secmailproxy.cli.seal").command
        assert isinstance(found, click.Command)
        return found


@click.group(name="message", cls=_Group)
def command() -> None:
    """Protect, open or inspect one message."""


def _time(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime:
    """An ISO 8601 time, UTC unless it says otherwise."""
    if value is None:
        return datetime.now(UTC)
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise UsageError(f"--now {value!r} is no ISO 8601 time such as 2026-01-31T12:00:00Z.") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


_file = click.argument("file", default="-", metavar="[FILE|-]")
_now = click.option(
    "--now", callback=_time, metavar="TIME", help="Judge as of this time (ISO 8601) instead of the present."
)
_inline = click.option(
    "--inline",
    "inline_pgp",
    is_flag=True,
    help="Open a text that is one armored block, as an account with inline_pgp does.",
)


@command.command(name="open")
@_file
@_inline
@_now
@passphrase_options
def open_(file: str, inline_pgp: bool, now: datetime, passphrase: Passphrase) -> None:
    """Write the message as a mail client sees it: decrypted, with the verdict field first.

    What is not encrypted, or cannot be decrypted, is written as it is after the verdict field.
    """
    octets = _read(file)
    with _tools(passphrase) as (keystore, field_name):
        opened = inbound.unprotect(octets, keystore, now, field_name, InboundLimits(inline_pgp=inline_pgp))
    field = verdict.render(opened.summary, field_name)
    if opened.presented is None and b"\r\n" not in octets:
        field = field.replace(b"\r\n", b"\n")
    sys.stdout.buffer.write(field + (octets if opened.presented is None else opened.presented))
    sys.stdout.buffer.flush()


@command.command()
@_file
@click.option("--json", "as_json", is_flag=True, help="Print JSON (see docs/cli.md).")
@_inline
@_now
@passphrase_options
def inspect(file: str, as_json: bool, inline_pgp: bool, now: datetime, passphrase: Passphrase) -> None:
    """Say how the message is protected and what may be believed of it."""
    octets = _read(file)
    with _tools(passphrase) as (keystore, field_name):
        limits = InboundLimits(inline_pgp=inline_pgp)
        summary = inbound.unprotect(octets, keystore, now, field_name, limits).summary
    if as_json:
        print_json(described(summary))
    else:
        click.echo("\n".join(_lines(summary)))


@contextmanager
def _tools(passphrase: Passphrase) -> Iterator[tuple[Keystore, str]]:
    """The keystore, and the name of the verdict field."""
    config = load_config_or_defaults(passphrase)
    keystore = open_keystore(config, passphrase)
    try:
        yield keystore, verdict.field_name(config.folders.verdict_token())
    finally:
        keystore.close()


def _read(file: str) -> bytes:
    """The message without the separator line of an mbox; MalformedMessage when there is none."""
    octets = read_input(file)
    if not octets.strip():
        name = "standard input" if file == "-" else file
        raise MalformedMessage(f"There is no message in {name}: it is empty.")
    separator = _MBOX_LINE.match(octets)
    return octets[separator.end() :] if separator else octets


def described(summary: CryptoSummary) -> dict[str, Any]:
    """The JSON object of `message inspect`; its keys are always the same."""
    is_open = summary.decryption is DecryptionState.OK
    return {
        "version": JSON_VERSION,
        "scheme": None if summary.scheme is None else summary.scheme.value,
        "protection": summary.protection.value,
        "decryption": {
            "state": summary.decryption.value,
            "authenticated": summary.authenticated if is_open else None,
            "reason": summary.decryption_reason,
        },
        "signature": {
            "verdict": summary.verdict.value,
            "signer": summary.signer,
            "fingerprint": summary.fingerprint,
            "trust": _trust(summary.trust),
            "reason": summary.verdict_reason,
        },
        "signatures": [_signature(one) for one in summary.signatures],
        "headers": {"subject": summary.subject, "protected": list(summary.protected_headers)},
        "errant_layers": summary.errant_layers,
    }


def _signature(one: SignatureSummary) -> dict[str, Any]:
    return {
        "verdict": one.verdict.value,
        "signer": one.signer,
        "fingerprint": one.fingerprint,
        "trust": _trust(one.trust),
        "created": None if one.created is None else f"{one.created.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "reason": one.reason,
        "counted": one.counted,
        "revocation": None if one.revocation is None else one.revocation.value,
    }


def _trust(trust: Trust) -> str:
    return trust.value if trust.value in _TRUSTED else "unknown"


def _lines(summary: CryptoSummary) -> Iterator[str]:
    yield f"Subject:    {_printable(summary.subject or '')}"
    yield f"Protection: {summary.protection.value}"
    if summary.decryption is DecryptionState.FAILED:
        yield f"Decryption: failed: {_printable(summary.decryption_reason or '')}"
    if not summary.authenticated:
        yield "Decryption: not authenticated: whoever carried the message may have changed it"
    signed = _VERDICT_TEXT[summary.verdict].format(signer=summary.signer)
    if summary.decryption is DecryptionState.FAILED and summary.verdict is Verdict.NONE:
        signed = "none outside of what could not be decrypted"
    yield f"Signature:  {_printable(signed)}"
    if summary.verdict is Verdict.VALID:
        yield f"Trust:      {summary.trust.value}"
    if summary.fingerprint is not None:
        yield f"Key:        {summary.fingerprint}"
    if summary.verdict_reason is not None:
        yield f"Reason:     {_printable(summary.verdict_reason)}"
    if remedy := _remedy(summary):
        yield f"To do:      {remedy}"
    others = [one for one in summary.signatures if one.signer not in {None, summary.signer}]
    for signer in dict.fromkeys(str(one.signer) for one in others):
        yield f"Also signed by: {_printable(signer)}"
    if summary.errant_layers:
        yield f"Not counted: {summary.errant_layers} signed or encrypted part(s) inside the message"


def _remedy(summary: CryptoSummary) -> str:
    """What its reader may do where a key or an authority is missing; nothing where that would not help."""
    if summary.decryption is DecryptionState.FAILED:
        is_for_others = summary.decryption_reason == NONE_OPENS_IT
        return (
            "if it is for a key of yours that is elsewhere: secmailproxy key import FILE"
            if is_for_others
            else ""
        )
    if summary.verdict is not Verdict.UNKNOWN_KEY:
        return ""
    if summary.scheme is Scheme.SMIME:
        return (
            "to believe the authority: [smime] roots; the signer alone: key import, key trust (docs/keys.md)"
        )
    return "get the certificate from its owner, compare the fingerprint, then: secmailproxy key import FILE"


def _printable(text: str) -> str:
    """Without what could steer a terminal or turn the direction of writing."""
    return _UNPRINTABLE.sub("?", text)
