"""What each recipe leaked, lost or mangled, read by the administrator and by a stranger."""

from __future__ import annotations

import email
import email.policy
import re
from email.message import EmailMessage
from pathlib import Path

from tests.comparison.mail import SAMPLES, SECRETS, Sample
from tests.comparison.recipes import ADDRESS, CLASSIC, OURS, Departure, Machine, machine
from tests.fixtures.gnupg import encrypted_by, opened_by

WHOLE = "arrives whole"
KEPT = "stays with the MTA, which tries again"
TRY_LATER = 75

_ARMOR = re.compile(rb"-----BEGIN PGP MESSAGE-----.*?-----END PGP MESSAGE-----\n?", re.DOTALL)


def compare(folder: Path) -> list[tuple[str, str, str]]:
    """For each sample its name, and what the classic recipe and ours made of it."""
    found = [_column(folder / name, recipe) for name, recipe in (("classic", CLASSIC), ("ours", OURS))]
    return [(sample.name, *cells) for sample, *cells in zip(SAMPLES, *found, strict=True)]


def _column(folder: Path, recipe: str) -> list[str]:
    with machine(folder / "usual", recipe) as usual, machine(folder / "late", recipe, expired=True) as late:
        return [_tried(sample, late if sample.expired else usual) for sample in SAMPLES]


def _tried(sample: Sample, here: Machine) -> str:
    message = _octets(sample, here)
    status, departures = here.deliver(message)
    if not departures and status == TRY_LATER:
        return KEPT
    return "; ".join(_findings(sample, message, departures, here)) or WHOLE


def _octets(sample: Sample, here: Machine) -> bytes:
    if sample.returned:
        _, (first,) = here.deliver(SAMPLES[0].octets)
        # An alias in a circle: what left for the administrator is delivered to root.
        return first.octets.replace(f"To: {ADDRESS}".encode(), b"To: root")
    if not sample.octets:
        head = "From: backup@other.example\nTo: root\nSubject: ...\nDate: Sat, 21 Nov 2026 04:00:00 +0000"
        inner = SAMPLES[0].octets.replace(b"\n", b"\r\n")
        return encrypted_by(here.reader, head, inner, "-r", ADDRESS).replace(b"\r\n", b"\n")
    return sample.octets


def _findings(sample: Sample, message: bytes, departures: list[Departure], here: Machine) -> list[str]:
    """In the words of the table."""
    found = []
    if any(_seen(one) for one in departures):
        found.append("leaks words of the message")
    if sample.returned and departures:
        return [*found, "is sent round again"]
    if "-oQ" in sample.octets.decode("latin-1") and any(
        "-oQ" in word for one in departures for word in one.arguments
    ):
        found.append("puts the sender into a command line")
    if message.startswith(b"Return-Path: <>") and not all("<>" in one.arguments for one in departures):
        found.append("can be answered with a bounce")
    if not departures:
        return [*found, "does not reach the administrator, and nobody is told"]
    opened = [_opened(one, here) for one in departures]
    if None in opened:
        return [*found, "sends an empty message; the content stays behind"]
    return found + _losses(message, b"".join(one or b"" for one in opened))


def _seen(departure: Departure) -> bool:
    everything = departure.octets.lower() + " ".join(departure.arguments).lower().encode()
    return any(word in everything for word in SECRETS)


def _opened(departure: Departure, here: Machine) -> bytes | None:
    """What the administrator reads, LF; None for nothing."""
    if b"multipart/encrypted" in departure.octets:
        plaintext, _ = opened_by(here.reader, departure.octets)
    elif (armor := _ARMOR.search(departure.octets)) is not None:
        plaintext = here.reader.run("--decrypt", data=armor[0]).stdout
    else:
        return None
    return plaintext.replace(b"\r\n", b"\n")


def _losses(message: bytes, plaintext: bytes) -> list[str]:
    if b"multipart/encrypted" in message:
        # Encrypted twice, and the type that says what it is has gone with the header.
        return (
            []
            if _inner(SAMPLES[0].octets) in plaintext
            else ["is encrypted a second time, and no longer says so"]
        )
    header, _, _ = message.partition(b"\n\n")
    found = [] if header in plaintext else ["loses the header"]
    if message.strip() in plaintext:
        return found
    original: EmailMessage = email.message_from_bytes(message, policy=email.policy.default)
    text = plaintext.decode("utf-8", "replace").encode()
    leaves = [part for part in original.walk() if not part.is_multipart()]
    readable = (_decoded(part) in text for part in leaves)
    return found if all(readable) else [*found, "mangles the content"]


def _inner(octets: bytes) -> bytes:
    return octets.partition(b"\n\n")[2].strip()


def _decoded(part: EmailMessage) -> bytes:
    """A leaf as a reader sees it: UTF-8, LF."""
    content = part.get_content()
    return (content if isinstance(content, bytes) else content.encode()).strip()


def table(rows: list[tuple[str, str, str]]) -> str:
    """The rows as Markdown."""
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
