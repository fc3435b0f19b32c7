"""The story of the demonstration. Each step shows one promise and checks that it held."""

from __future__ import annotations

import asyncio
import imaplib
import os
import re
import smtplib
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

from secmailproxy.demo.clients import MailClient
from secmailproxy.demo.homes import Proxy
from secmailproxy.demo.servers import MailServer
from secmailproxy.errors import SecMailProxyError

STRICT_DOMAIN = "bank.example"
"""Alice's rules demand encryption to this domain."""

SUBJECT = "Surprise celebration on Thursday"
TEXT = """Dear Bob,

please come to the lighthouse at eight, and tell nobody about the fireworks.
The directions are attached.

Alice
"""
ATTACHMENT = b"station,lighthouse\r\nplatform,seventeen\r\npassword,rhododendron\r\n"
ATTACHMENT_NAME = "directions.csv"
SYSTEM_MAIL = b"""From: root@alice.example.org
To: root@alice.example.org
Subject: intrusion detected on database server

Failed authentication for administrator from 192.0.2.7
"""
_LEAST_WORD = 7  # a shorter word could stand in the ciphertext's letters by chance


class StepFailed(Exception):
    """A promise did not hold; the text says which."""


# The last two: a step finds less than it looks for, because an earlier one failed.
_FAILURES = (
    StepFailed,
    SecMailProxyError,
    OSError,
    smtplib.SMTPException,
    imaplib.IMAP4.error,
    LookupError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a step has to show: one sentence, and perhaps an exhibit of several lines."""

    sentence: str
    exhibit: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one step ended."""

    name: str
    title: str
    held: bool
    shown: Shown
    seconds: float


@dataclass(slots=True)
class Stage:
    """All that the steps work with, and what earlier steps left for later ones."""

    server: MailServer
    alice: Proxy
    bob: Proxy
    submitted: bytes = b""
    stored: bytes = field(default=b"", repr=False)

    @property
    def direct(self) -> MailClient:
        """Bob's mailbox without a proxy: what the provider sees."""
        bob = self.bob.client
        return MailClient(
            self.server.imap_port, 0, bob.username, bob.password, self.server.tls.client_context()
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One promise."""

    name: str
    title: str
    run: Callable[[Stage], Awaitable[Shown]]


async def tell(stage: Stage, report: Callable[[Outcome], None]) -> tuple[Outcome, ...]:
    """Run all steps in order; `report` gets each outcome at once. Never raises what a step raises."""
    outcomes = []
    for step in STEPS:
        began = time.monotonic()
        try:
            held, shown = True, await step.run(stage)
        except _FAILURES as error:
            held, shown = False, Shown(f"{type(error).__name__}: {error}")
        outcomes.append(Outcome(step.name, step.title, held, shown, time.monotonic() - began))
        report(outcomes[-1])
    return tuple(outcomes)


def _hold(condition: object, promise: str) -> None:
    if not condition:
        raise StepFailed(f"this did not hold: {promise}")


def _words(octets: bytes) -> set[bytes]:
    return {word.lower() for word in re.findall(rb"[A-Za-z]+", octets) if len(word) >= _LEAST_WORD}


def secret_words() -> set[bytes]:
    """Words of the message that nobody on the way may see."""
    return _words(SUBJECT.encode() + TEXT.encode() + ATTACHMENT)


def _compose(sender: str, rcpt_to: str, subject: str) -> EmailMessage:
    message = EmailMessage(policy=policy.SMTP)
    message["From"] = sender
    message["To"] = rcpt_to
    message["Subject"] = subject
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = make_msgid(domain="example.org")
    return message


def _verdict(octets: bytes, proxy: Proxy) -> str:
    """The value of the verdict field that this proxy put in, unfolded; "" when there is none."""
    value = message_from_bytes(octets, policy=policy.SMTP).get(proxy.verdict_field, "")
    return " ".join(str(value).partition("(")[0].split())


def _fields(octets: bytes, *names: bytes) -> list[str]:
    """The lines of these header fields, as they stand."""
    lines, wanted = [], False
    for line in octets.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        if not line.startswith((b" ", b"\t")):
            wanted = line.partition(b":")[0].lower() in names
        if wanted:
            lines.append(line.decode("utf-8", "replace"))
    return lines


def _lines_from(octets: bytes, mark: bytes, count: int) -> list[str]:
    """`count` lines of the message from `mark` on, and dots for the rest."""
    lines = octets[octets.index(mark) :].decode("utf-8", "replace").split("\r\n")
    return [*lines[:count], "..."]


async def _send(stage: Stage) -> Shown:
    alice, bob = stage.alice.home.person, stage.bob.home.person
    message = _compose(f"{alice.name} <{alice.address}>", f"{bob.name} <{bob.address}>", SUBJECT)
    message.set_content(TEXT)
    message.add_attachment(ATTACHMENT, maintype="text", subtype="csv", filename=ATTACHMENT_NAME)
    stage.submitted = message.as_bytes()
    await asyncio.to_thread(stage.alice.client.submit, bob.address, stage.submitted)
    return Shown(f'{alice.address} sent "{SUBJECT}" with {ATTACHMENT_NAME} to {bob.address}.')


async def _provider(stage: Stage) -> Shown:
    stage.stored = await asyncio.to_thread(stage.direct.newest)
    message = message_from_bytes(stage.stored, policy=policy.SMTP)
    _hold(message.get_content_type() == "multipart/encrypted", "the server holds multipart/encrypted")
    _hold(message["Subject"] == "[...]", "the subject is hidden")
    _hold(b"-----BEGIN PGP MESSAGE-----" in stage.stored, "the server holds OpenPGP ciphertext")
    seen = {word for word in secret_words() if word in stage.stored.lower()}
    _hold(not seen, f"no word of the message is in what the server holds (it has {sorted(seen)})")
    sentence = f"{len(stage.stored)} octets of ciphertext; none of {len(secret_words())} words is in them."
    exhibit = _fields(stage.stored, b"from", b"to", b"subject", b"content-type")
    exhibit += ["", *_lines_from(stage.stored, b"-----BEGIN PGP MESSAGE", 6)]
    return Shown(sentence, "\n".join(exhibit))


async def _read(stage: Stage) -> Shown:
    presented = await asyncio.to_thread(stage.bob.client.newest)
    message = message_from_bytes(presented, policy=policy.SMTP)
    _hold(message["Subject"] == SUBJECT, "the subject is the real one")
    body = message.get_body(("plain",))
    text = body.get_content().replace("\r\n", "\n") if body is not None else ""
    _hold(text == TEXT, "the text is the same")
    files = {part.get_filename(): part.get_payload(decode=True) for part in message.iter_attachments()}
    _hold(files == {ATTACHMENT_NAME: ATTACHMENT}, "the attachment is the same")
    verdict = _verdict(presented, stage.bob)
    signer = f"signer={stage.alice.address}"
    _hold("signature=valid" in verdict and signer in verdict, f"the verdict is valid (it is {verdict!r})")
    size, structure = await asyncio.to_thread(stage.bob.client.newest_size_and_structure)
    _hold(size == len(presented), "RFC822.SIZE is the size of what is presented")
    _hold(ATTACHMENT_NAME in structure, "BODYSTRUCTURE names the attachment")
    sentence = f"Text, subject and attachment are back; signed by {stage.alice.address}, valid."
    exhibit = [f"{stage.bob.verdict_field}:", f"  {verdict}", *_fields(presented, b"from", b"to", b"subject")]
    return Shown(sentence, "\n".join([*exhibit, "", *text.splitlines()]))


async def _tampered_ciphertext(stage: Stage) -> Shown:
    start = stage.stored.index(b"\r\n\r\n", stage.stored.index(b"BEGIN PGP MESSAGE")) + 4
    # In the middle of the armor: the session key still opens, the integrity check must not.
    at = (start + stage.stored.index(b"-----END PGP MESSAGE")) // 2
    at += stage.stored[at : at + 2] == b"\r\n" and 2
    swapped = b"A" if stage.stored[at : at + 1] != b"A" else b"B"
    tampered = stage.stored[:at] + swapped + stage.stored[at + 1 :]
    await stage.server.deliver(stage.bob.address, tampered)
    presented = await asyncio.to_thread(stage.bob.client.newest)
    verdict = _verdict(presented, stage.bob)
    _hold("signature=valid" not in verdict, "a changed message is not valid")
    _hold("not decrypted" in verdict, f"the verdict says that it was not decrypted (it is {verdict!r})")
    seen = {word for word in secret_words() if word in presented.lower()}
    _hold(not seen, "nothing of a damaged ciphertext is shown")
    return Shown("One letter of the ciphertext changed: nothing of it is shown, and the verdict says so.")


async def _tampered_text(stage: Stage) -> Shown:
    alice = stage.alice.home.person
    carol = "carol@example.com"
    message = _compose(f"{alice.name} <{alice.address}>", carol, "Price list")
    message.set_content("The price is 100 euro.\n")
    await asyncio.to_thread(stage.alice.client.submit, carol, message.as_bytes())
    rcpt_tos, signed = stage.server.outbox[-1]
    _hold(rcpt_tos == (carol,) and b"multipart/signed" in signed, "mail to a stranger leaves signed")
    verdicts = []
    for octets in (signed, signed.replace(b"100 euro", b"900 euro")):
        await stage.server.deliver(stage.bob.address, octets)
        verdicts.append(_verdict(await asyncio.to_thread(stage.bob.client.newest), stage.bob))
    _hold("signature=valid" in verdicts[0], f"the original is valid (it is {verdicts[0]!r})")
    _hold("signature=invalid" in verdicts[1], f"the changed copy is invalid (it is {verdicts[1]!r})")
    return Shown(
        f"{carol} has no key, so her mail leaves signed; the original is valid, a changed copy invalid."
    )


async def _plain(stage: Stage) -> Shown:
    # Blanks at line ends, a tab, 8-bit text, no final line end: what a re-printing program would alter.
    octets = (
        b"From:  News <news@example.com> \r\nTo: bob@example.org\r\nSUBJECT:\tplain as ever\r\n"
        b"X-Folded: one\r\n\t two \r\n\r\nGr\xc3\xbc\xc3\x9fe,\r\n  trailing blanks  \r\n.\r\nlast line"
    )
    await stage.server.deliver(stage.bob.address, octets)
    presented = await asyncio.to_thread(stage.bob.client.newest)
    _hold(presented == octets, "a plain message comes octet for octet")
    return Shown(f"All {len(octets)} octets are as they were; no field added, none removed.")


async def _refused(stage: Stage) -> Shown:
    address = f"clerk@{STRICT_DOMAIN}"
    sent = len(stage.server.outbox)
    message = _compose(stage.alice.address, address, "Account number")
    message.set_content("The account number is attached.\n")
    try:
        await asyncio.to_thread(stage.alice.client.submit, address, message.as_bytes())
    except smtplib.SMTPRecipientsRefused as refusal:
        code, text = refusal.recipients[address]
    else:
        raise StepFailed("this did not hold: a message that must be encrypted and cannot be is refused")
    _hold(code == 550 and text.startswith(b"5.7.5"), f"the refusal is 550 5.7.5 (it is {code})")
    _hold(address.encode() in text, "the refusal names the address")
    _hold(len(stage.server.outbox) == sent, "nothing left for a refused recipient")
    return Shown(
        "A rule demands encryption, there is no key: refused at RCPT, nothing left.",
        f"{code} {text.decode()}",
    )


async def _forward(stage: Stage) -> Shown:
    to = stage.bob.address
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "secmailproxy", "forward", "--to", to),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "SECMAILPROXY_HOME": str(stage.alice.home.person.folder)},
    )
    output, _ = await process.communicate(SYSTEM_MAIL)
    said = output.decode("utf-8", "replace").strip()
    _hold(process.returncode == 0, f"forward ends with 0 (it was {process.returncode}: {said})")
    stored = await asyncio.to_thread(stage.direct.newest)
    seen = {word for word in _words(SYSTEM_MAIL.partition(b"Subject:")[2]) if word in stored.lower()}
    _hold(
        not seen and b"BEGIN PGP MESSAGE" in stored,
        f"the server holds ciphertext only (it has {sorted(seen)})",
    )
    presented = await asyncio.to_thread(stage.bob.client.newest)
    _hold(b"Failed authentication for administrator" in presented, "the reader gets the whole message")
    sentence = (
        f"A log message from a pipe, encrypted whole to {to}; the server sees neither text nor subject."
    )
    return Shown(sentence, "secmailproxy forward --to " + to)


STEPS = (
    Step("send", "Alice sends a message", _send),
    Step("stored", "What the mail server stores", _provider),
    Step("read", "Bob reads it", _read),
    Step("tampered-ciphertext", "A tampered ciphertext", _tampered_ciphertext),
    Step("tampered-text", "A tampered signed text", _tampered_text),
    Step("plain", "A plain message", _plain),
    Step("refused", "A rule that requires encryption, and no key", _refused),
    Step("forward", "System mail from a pipe", _forward),
)
