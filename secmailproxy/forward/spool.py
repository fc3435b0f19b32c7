"""Our own queue, for machines without an MTA: the side that puts messages in.

Each hand-over is one file, however many messages it holds: it is there whole or not at all. (What is for an
escrow, to be held at once, has a file of its own, which comes first.) It is written under a temporary name,
synced, renamed, and its folder is synced; only then is the message ours to lose.
`queue` is the other side.

    <id>.mail    one line of JSON: when, which way, envelopes and sizes; then the messages
    <id>.state   how delivery goes, beside it (`queue`)
    .<id>.new    being written
    aside/       what is no such file, or damaged (`queue`)

Security: only encrypted messages are taken, and notices of our own that were marked as such: they have no
content of anybody's. The folder is for its owner alone (0700), as is each file (0600).
A pipe puts one message in and ends: nothing that takes time to import is imported here.
"""

from __future__ import annotations

import json
import os
import stat
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from keystore.files import sync_folder
from secmailproxy.errors import ConfigError, LimitExceeded, MalformedMessage, NotAllowed
from secmailproxy.forward.filing import MAIL, new_name, temporary, write
from secmailproxy.mime.assemble import Made, made
from secmailproxy.mime.entity import parse

if TYPE_CHECKING:
    from secmailproxy.forward.model import ForwardSettings, Product

FORMAT = 1
LINE_MOST = 1024 * 1024
"""Octets of the first line of a file."""
STATE = ".state"

Via = Literal["smarthost", "sendmail", "smtp"]


@dataclass(frozen=True, slots=True)
class Route:
    """The way out that was chosen for a message when it was put in."""

    via: Via
    name: str
    """The account's address, the sendmail program, or host:port."""


def route_of(settings: ForwardSettings) -> Route:
    """The route that the settings choose."""
    names = {"smarthost": settings.account, "sendmail": settings.sendmail, "smtp": settings.relay}
    return Route(settings.via, names[settings.via])


@dataclass(frozen=True, slots=True)
class Prepared:
    """Written and synced, and not yet in the queue."""

    folder: Path
    names: tuple[str, ...]

    def commit(self) -> str:
        """Into the queue, for good when this returns; the id of the last file. Raises OSError."""
        try:
            for name in self.names:
                os.rename(self.folder / temporary(name), self.folder / (name + MAIL))
            sync_folder(self.folder)
        except BaseException:
            # Whoever brought it will bring it again: what is there must not leave as well.
            for name in self.names:
                with suppress(OSError):
                    os.unlink(self.folder / (name + MAIL))
            raise
        return self.names[-1]

    def discard(self) -> None:
        """Forget what has not been committed."""
        for name in self.names:
            with suppress(OSError):
                os.unlink(self.folder / temporary(name))


@dataclass(frozen=True, slots=True)
class Spool:
    """The folder of the queue, as whoever brings messages knows it. Methods block."""

    folder: Path

    def put(self, products: Sequence[Product], route: Route, bounces: str = "", name: str = "") -> str:
        """All of them, or none; on the disk when this returns. The id of the queued message.

        `bounces` is who is told when it cannot be delivered, "" for nobody. With a `name` it has that id, and
        what is queued under it already is replaced. Raises NotAllowed for a message that is not encrypted,
        MalformedMessage for one without or with too many recipients, ConfigError for a folder that cannot be
        used, OSError.
        """
        with self.prepared(products, route, bounces, name) as prepared:
            return prepared.commit()

    @contextmanager
    def prepared(
        self, products: Sequence[Product], route: Route, bounces: str = "", name: str = ""
    ) -> Iterator[Prepared]:
        """As `put`, with what can fail done first: the block commits, or nothing stays behind."""
        for product in products:
            refuse_clear(product)
            if not product.envelope.rcpt_tos:
                raise MalformedMessage("a message for nobody cannot be queued")
        make_folder(self.folder)
        reasons = sorted({product.held for product in products}, reverse=True)
        prepared = Prepared(self.folder, tuple(name or new_name() for _ in reasons))
        try:
            for one, held in zip(prepared.names, reasons, strict=True):
                together = [product for product in products if product.held == held]
                line = first_line(together, route, bounces, held)
                if len(line) > LINE_MOST:
                    raise LimitExceeded("the message has too many recipients for the queue")
                write(self.folder / temporary(one), line, *(product.octets for product in together))
            yield prepared
        finally:
            prepared.discard()


def make_folder(folder: Path) -> None:
    """Have the folder of a queue, for its owner alone. Raises ConfigError, OSError."""
    try:
        found = os.lstat(folder)
    except FileNotFoundError:
        os.makedirs(folder.parent, 0o700, exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        # The folder's own name too must outlast a power cut.
        sync_folder(folder.parent)
        found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise ConfigError(f"{folder} is no folder of this user's; the queue cannot be kept there")
    if stat.S_IMODE(found.st_mode) & 0o077:
        os.chmod(folder, 0o700)


def refuse_clear(product: Product) -> None:
    """Raises NotAllowed for a message in clear, unless it is a notice of ours."""
    if product.is_plain or not (product.is_notice or is_encrypted(product.octets)):
        raise NotAllowed("a message that is not encrypted cannot wait in the queue")


def is_encrypted(octets: bytes) -> bool:
    """Whether the message is PGP/MIME or S/MIME encrypted as a whole."""
    return made(parse(octets)) is Made.ENCRYPTED


def first_line(products: Sequence[Product], route: Route, bounces: str, held: str) -> bytes:
    """What a file of the queue says of its messages."""
    told = {
        "format": FORMAT,
        "arrived": time.time(),
        "route": [route.via, route.name],
        "bounces": bounces,
        "held": held,
        "messages": [
            {
                "from": product.envelope.mail_from,
                "to": product.envelope.rcpt_tos,
                "mail_options": product.envelope.mail_options,
                "rcpt_options": product.envelope.rcpt_options,
                "octets": len(product.octets),
                "crc": zlib.crc32(product.octets),
                "notice": product.is_notice,
            }
            for product in products
        ],
    }
    return json.dumps(told, separators=(",", ":")).encode() + b"\n"
