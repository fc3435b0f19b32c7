"""An errand from end to end: log in, open each mailbox, do it, say what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from secmailproxy.accounts import ImapLogin
from secmailproxy.errands.client import Client, Refused
from secmailproxy.errands.forms import Tools, form_for
from secmailproxy.errands.journal import journal_of
from secmailproxy.errands.names import from_wire, to_wire
from secmailproxy.errands.plan import Errand
from secmailproxy.errands.replacing import Outcome, Replacing
from secmailproxy.errors import UpstreamUnavailable, UsageError
from secmailproxy.imap.grammar import mailbox_key

_NAMED = 40
_NOT_THERE = frozenset({"", "NONEXISTENT", "CANNOT", "TRYCREATE"})
"""Codes of a server that has no such mailbox (RFC 5530)."""
_PROBE = b"Subject: probe\r\n\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done. No `mailboxes` means all of them."""

    errand: Errand
    mailboxes: tuple[str, ...] = ()
    dry_run: bool = False
    any_sender: bool = False
    """Decrypt what others have encrypted too."""


@dataclass(frozen=True, slots=True)
class Observer:
    """Who is told how it goes."""

    begun: Callable[[str], None]
    """With the name of a mailbox."""
    progress: Callable[[int, int], None]
    """Messages done, and all messages, of that mailbox."""
    ended: Callable[[str, Outcome], None]


async def carry_out(job: Job, login: ImapLogin, tools: Tools, state: Path, observer: Observer) -> None:
    """Do it. Raises SecMailProxyError, with nothing lost; the next run goes on where this one ended.

    `state` is the folder for journals.
    """
    if job.errand is Errand.ENCRYPT:
        # Without a key nothing is begun, and a dry run says so too.
        await tools.outbound.protect_at_rest(tools.address, _PROBE)
    client = await Client.connect(login)
    try:
        _refuse_unsafe(client, login.account.imap.host)
        for name in await _mailboxes(job.mailboxes, client, login.account.imap.host):
            observer.begun(from_wire(name))
            observer.ended(from_wire(name), await _one(job, client, name, tools, state, observer))
        await client.log_out()
    finally:
        client.abort()


async def _mailboxes(wanted: tuple[str, ...], client: Client, host: str) -> list[bytes]:
    """The mailboxes, each once. Raises UsageError, before any is touched, for one that cannot be opened."""
    listed = list(dict.fromkeys(map(mailbox_key, await client.mailboxes())))
    names = list(dict.fromkeys(mailbox_key(to_wire(name)) for name in wanted))
    for name in names:
        if name in listed:
            continue
        try:
            await client.open(name, read_only=True)  # servers need not list all that they have
        except Refused as refused:
            if refused.code not in _NOT_THERE:
                raise
            known = ", ".join(map(from_wire, listed[:_NAMED])) + (", ..." if len(listed) > _NAMED else "")
            raise UsageError(f'{host} has no mailbox "{from_wire(name)}"; it has: {known}.') from None
    return names or listed


async def _one(
    job: Job, client: Client, mailbox: bytes, tools: Tools, state: Path, observer: Observer
) -> Outcome:
    with journal_of(state, tools.address, mailbox) as journal:
        selection = await client.open(mailbox, read_only=job.dry_run)
        forms = {
            errand: form_for(errand, tools, mailbox, selection.uidvalidity, any_sender=job.any_sender)
            for errand in Errand
        }
        replacing = Replacing(client, mailbox, forms, journal, observer.progress)
        return await (replacing.look if job.dry_run else replacing.run)(job.errand, selection)


def _refuse_unsafe(client: Client, host: str) -> None:
    """Raises UpstreamUnavailable for a server where a message cannot be replaced for certain."""
    if not client.capabilities & {b"UIDPLUS", b"IMAP4REV2"}:
        raise UpstreamUnavailable(
            f"{host} does not offer UIDPLUS (RFC 4315): there is no safe way to delete single messages "
            "there, so nothing was done."
        )
    if b"X-GM-EXT-1" in client.capabilities:
        raise UpstreamUnavailable(
            f"{host} is Gmail, which keeps what is deleted from a mailbox in All Mail, in clear; nothing "
            "was done."
        )
