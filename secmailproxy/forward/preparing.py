"""Writes the plan by which `quick` forwards the next message of the same kind: see `plan`.

Only for the plainest configuration: no rules, the sendmail program or our own queue, one target with one
OpenPGP certificate of version 4, nothing signed. The templates are cut out of what the full way makes, so
there is one way to build a message.

Security: the stamps are taken before anything is read, and again at the end; what changed meanwhile, or so
lately that a second change would bear the same time, leaves no plan.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from keystore.errors import KeystoreError
from keystore.model import Purpose, Scheme, key_id
from keystore.openpgp.certificate import facts, single_key
from secmailproxy.errors import SecMailProxyError
from secmailproxy.folders import write_privately
from secmailproxy.forward import plan
from secmailproxy.forward.model import Forward, ForwardSettings, Product, SubjectMode, Target
from secmailproxy.forward.sealing import system_header
from secmailproxy.forward.spool import first_line, route_of
from secmailproxy.forward.target import pinned
from secmailproxy.mime import assemble
from secmailproxy.mime.entity import parse
from secmailproxy.mime.system import SUBJECT, SystemHeader, system_message
from secmailproxy.model import Envelope

if TYPE_CHECKING:
    from keystore.keystore import Keystore
    from keystore.model import Fingerprint
    from secmailproxy.folders import Folders

WINDOW = timedelta(hours=24)
"""How long a plan may be used; then everything is looked at again."""
IN_SIGHT = timedelta(days=31)
"""A certificate that expires sooner is judged at every message, for somebody must be warned."""
_TICK, _COARSE_TICK = 0.1, 3.0
"""Seconds. Clocks of file systems tick some hundred times in a second; those of a few in one or two."""
_MARKS = (plan.DATE, plan.MESSAGE_ID, plan.SUBJECT, plan.BOUNDARY, plan.CIPHERTEXT)
_ENCODING = b"Content-Transfer-Encoding: %s\r\n"


@dataclass(frozen=True, slots=True)
class Before:
    """What everything was made of before it was read."""

    paths: list[str]
    stamps: bytes
    moment: float


def look(folders: Folders) -> Before:
    """Take the stamps. Raises ValueError for a path that cannot be in a plan."""
    database = f"{folders.keystore}/keystore.sqlite3"
    paths = [
        f"{folders.config_file}",
        f"{folders.config_file.parent}/",
        f"{folders.state}/",
        f"{folders.keystore}/",
        f"{folders.state}/verdict-token",
        database,
        f"{database}-wal",
        f"{database}-journal",
    ]
    moment = time.time()
    return Before(paths, plan.stamps(paths), moment)


def prepare(
    folders: Folders,
    words: list[str],
    settings: ForwardSettings,
    keystore: Keystore,
    before: Before,
) -> bool:
    """Whether there is a plan now for these options of `forward`. Whatever goes wrong, there is none.

    `before` was taken before `settings` and `keystore` were read.
    """
    config, state = str(folders.config_file), str(folders.state)
    # What a server has can change without a trace on this machine.
    if (
        keystore.database.is_shared
        or plan.places() != (config, state)
        or not plan.are_plain(words)
        or not _is_plainest(settings)
    ):
        return False
    file = plan.path(state, words)
    if plan.read(file, config, words, before.moment) is not None:
        return True
    with suppress(OSError, ValueError, SecMailProxyError, KeystoreError):
        found = _key(keystore, settings.targets[0], datetime.fromtimestamp(before.moment, UTC))
        paths = [*before.paths, *([settings.sendmail] if settings.via == "sendmail" else [])]
        after = plan.stamps(paths)
        if found is None or not after.startswith(before.stamps) or not _is_settled(after, before.moment):
            return False
        fields = {
            "caller": plan.caller(words),
            "config": os.fsencode(folders.config_file),
            "stamps": after,
            "from": str(int(before.moment)).encode(),
            "until": str(int(before.moment + WINDOW.total_seconds())).encode(),
            "journal": os.fsencode(folders.journal),
            **_way(folders, settings),
            "key": found[0],
            "key_id": bytes.fromhex(key_id(found[1])),
            **_message(settings),
        }
        write_privately(Path(file), plan.to_octets(fields))
        return True
    return False


def _is_plainest(settings: ForwardSettings) -> bool:
    """Whether every plain message becomes one OpenPGP message for one target, handed to sendmail."""
    target = settings.targets[0]
    action = settings.default
    return (
        not settings.rules
        and (settings.via == "smarthost" or (settings.via == "sendmail" and os.path.isabs(settings.sendmail)))
        and action == Forward(rcpt_tos=(target.address,))
        and action.subject is SubjectMode.HIDDEN
        and len(target.fingerprints) <= 1
        and (target.address + settings.sender).isascii()
    )


def _is_settled(stamps: bytes, moment: float) -> bool:
    """Whether whatever is changed from now on gets another time than it has now."""
    for line in stamps.splitlines():
        words = line.partition(b" /")[0].split()
        if len(words) == plan.WORDS_OF_A_FILE:
            changed = int(words[plan.CHANGED])
            tick = _COARSE_TICK if changed % 1_000_000_000 == 0 else _TICK
            if changed / 1e9 > moment - tick:
                return False
    return True


def _key(keystore: Keystore, target: Target, now: datetime) -> tuple[bytes, Fingerprint] | None:
    """The key to encrypt to and its fingerprint, if it stays the same as long as the plan may be used."""
    chosen = pinned(keystore, target, now)
    fingerprint = chosen.fingerprints[0]
    certificate = keystore.certificate(fingerprint)
    if certificate is None or certificate.scheme is not Scheme.OPENPGP:
        return None
    stated = facts(certificate.octets)
    times = [now + WINDOW * part / 24 for part in range(25)] + [now + IN_SIGHT]
    judged = [keystore.usability(fingerprint, Purpose.ENCRYPT, one) for one in times]
    if (
        stated.version != 4
        or not judged[0].usable
        or any(one.keys[:1] != judged[0].keys[:1] for one in judged)
    ):
        return None
    if any(pinned(keystore, target, one) != chosen for one in times[:25]):
        return None
    key = judged[0].keys[0]
    return single_key(certificate.octets, key), key


def _way(folders: Folders, settings: ForwardSettings) -> plan.Fields:
    """How it leaves: the program, or the folder of the queue and the first line of a file in it."""
    if settings.via == "sendmail":
        return {"sendmail": os.fsencode(settings.sendmail)}
    envelope = Envelope(settings.sender, (settings.targets[0].address,))
    bounces = settings.bounces or settings.sender
    line = first_line([Product(b"", envelope)], route_of(settings), bounces, "")
    told = json.loads(line)
    for name, mark, value in (
        ("arrived", plan.ARRIVED, told["arrived"]),
        ("octets", plan.OCTETS, 0),
        ("crc", plan.CRC, 0),
    ):
        line = _marked(
            line, b'"%s":%s' % (name.encode(), json.dumps(value).encode()), b'"%s":%s' % (name.encode(), mark)
        )
    return {"spool": os.fsencode(folders.spool), "line": line}


def _marked(octets: bytes, found: bytes, instead: bytes) -> bytes:
    """Raises ValueError where it is not there exactly once."""
    if octets.count(found) != 1:
        raise ValueError("a message is no longer made so")
    return octets.replace(found, instead)


def _message(settings: ForwardSettings) -> plan.Fields:
    """The templates, and what else a message is made of: cut out of ones that the full way has made."""
    address = settings.targets[0].address
    token = os.urandom(16).hex()
    marks = {name: f"{token}-{name.strip(chr(0).encode()).decode()}" for name in _MARKS}
    head = system_header(settings.default, settings, settings.sender, (address,))
    seven, eight = (_cut(head, marks, body) for body in (b"sample\r\n", b"\xff\r\n"))
    product = assemble.encrypted(seven[1], marks[plan.CIPHERTEXT].encode(), marks[plan.BOUNDARY])
    payload, product = (_with_marks(one, marks) for one in (seven[0], product))
    if seven != eight or plan.SUBJECT in product or token.encode() in payload + product:
        raise ValueError("a message is no longer made so")
    return {
        "rcpt_to": address.encode(),
        "sender": settings.sender.encode(),
        "domain": settings.sender.lower().rpartition("@")[2].encode(),
        "subject": SUBJECT,
        "payload": payload,
        "product": product,
    }


def _cut(head: SystemHeader, marks: dict[bytes, str], body: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """What stands before the original in the payload, with marks, and the outer fields."""
    subject = f"Subject: {marks[plan.SUBJECT]}\r\n".encode()
    sample = subject + b"\r\n" + body
    ready = system_message(parse(sample), head, date=marks[plan.DATE], message_id=marks[plan.MESSAGE_ID])
    if not ready.payload.endswith(b"\r\n\r\n" + sample):
        raise ValueError("a message is no longer made so")
    payload = ready.payload.removesuffix(sample).replace(subject, plan.SUBJECT)
    return _marked(payload, _ENCODING % plan.encoding(sample), _ENCODING % plan.ENCODING), ready.outer


def _with_marks(octets: bytes, marks: dict[bytes, str]) -> bytes:
    for name, text in marks.items():
        octets = octets.replace(text.encode(), name)
    return octets
