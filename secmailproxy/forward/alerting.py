"""Looks at the certificates of system mail, and says what `alerts` finds worth saying: in the log, by mail.

The log lines have a stable form: `event="certificate of system mail" role=... address=... certificate=...
days=... why=...` and `event="system mail needs attention" why=...`.

Mail goes to the addresses of forward.alert, encrypted to a certificate pinned for them or the only one in the
keystore. Who has none gets the bare form, which tells nothing of any event: to be listed there is to ask for
it. It has the null sender, so that nothing answers it. What was said is in a file that outlasts restarts.

Security: nothing that fails here changes what becomes of a message.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from keystore.errors import KeystoreError
from keystore.files import replace_file
from keystore.model import Fingerprint, Purpose, Scheme
from secmailproxy.errors import ConfigError, NoUsableCertificate, SecMailProxyError, SigningKeyUnusable
from secmailproxy.folders import make_private
from secmailproxy.forward import alerts
from secmailproxy.forward.alerts import HORIZON, Fact, Memory, Said
from secmailproxy.forward.hostkey import host_certificate
from secmailproxy.forward.model import (
    Entrance,
    Forward,
    ForwardSettings,
    Outlet,
    Product,
    SystemMail,
    Target,
)
from secmailproxy.forward.seals import KeystoreSeals
from secmailproxy.forward.target import pinned
from secmailproxy.logs import place
from secmailproxy.model import Envelope
from secmailproxy.stamp import RANDOM_OCTETS, Stamp

if TYPE_CHECKING:
    from keystore.keystore import Keystore

log = logging.getLogger(__name__)

_FILE = "system-mail-alerts.json"
_PAUSE = 6 * 3600.0
"""Seconds between two looks at the certificates."""


def _now() -> datetime:
    return datetime.now(UTC)


# -- what there is


def facts_of(settings: ForwardSettings, keystore: Keystore, now: datetime) -> tuple[Fact, ...]:
    """Every certificate that system mail needs: of targets, the escrow, and the host where it signs."""
    targets = [("target", one) for one in settings.targets]
    if settings.escrow is not None:
        targets.append(("escrow", settings.escrow))
    found = [fact for role, target in targets for fact in _of_target(role, target, keystore, now)]
    if _signs(settings):
        schemes = {_scheme(target, keystore, now) for _, target in targets}
        found += [_of_host(settings, scheme, keystore, now) for scheme in Scheme if scheme in schemes]
    return tuple(found)


def _of_target(role: str, target: Target, keystore: Keystore, now: datetime) -> Iterator[Fact]:
    fingerprints = target.fingerprints
    if not fingerprints:
        try:
            fingerprints = pinned(keystore, target, now).fingerprints
        except NoUsableCertificate as error:
            yield Fact(role, target.address, "", why=error.text)
    for one in fingerprints:
        usability = keystore.usability(one, Purpose.ENCRYPT, now)
        ends = end_of(keystore, one, Purpose.ENCRYPT, now) if usability.usable else None
        yield Fact(role, target.address, one, ends, usability.explanation)


def _signs(settings: ForwardSettings) -> bool:
    actions = [action for rule in settings.rules for action in rule.actions]
    return any(isinstance(one, Forward) and one.sign for one in (settings.default, *actions))


def _scheme(target: Target, keystore: Keystore, now: datetime) -> Scheme:
    """Of what the target reads, as far as that can be told."""
    try:
        return pinned(keystore, target, now).scheme
    except SecMailProxyError:
        return Scheme.OPENPGP


def _of_host(settings: ForwardSettings, scheme: Scheme, keystore: Keystore, now: datetime) -> Fact:
    try:
        own = host_certificate(keystore, settings, scheme, now).fingerprint
    except SigningKeyUnusable as error:
        return Fact("host key", settings.sender, settings.host_key, why=error.text)
    return Fact("host key", settings.sender, own, end_of(keystore, own, Purpose.SIGN, now))


def end_of(keystore: Keystore, fingerprint: Fingerprint, purpose: Purpose, now: datetime) -> datetime | None:
    """The second from which it cannot be used, by whatever key in it ends first; None beyond HORIZON.

    It can be used at `now`.
    """

    def is_usable(at: datetime) -> bool:
        return keystore.usability(fingerprint, purpose, at).usable

    start, second = now.replace(microsecond=0), timedelta(seconds=1)
    if is_usable(start + HORIZON):
        return None
    low, high = 0, HORIZON // second
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_usable(start + middle * second) else (low, middle)
    return start + high * second


# -- what is said


class Alerts:
    """Says what is worth saying. Methods block, but for `due`; may be used by several processes at once."""

    def __init__(
        self,
        settings: Callable[[], ForwardSettings],
        keystore: Keystore,
        outlet: Callable[[ForwardSettings], Outlet],
        folder: Path,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        """`folder` is that of the state. `settings` must have a sender."""
        self._settings = settings
        self._keystore = keystore
        self._outlet = outlet
        self._folder = folder
        self._clock = clock

    async def due(self) -> float | None:
        """Say what is due of the certificates; in how many seconds to look again."""
        await asyncio.to_thread(self.warn)
        return _PAUSE

    def warn(self) -> tuple[Fact, ...]:
        """Say what is due of the certificates, and return it. Raises KeystoreError, OSError."""
        settings, now = self._settings(), self._clock()
        facts = facts_of(settings, self._keystore, now)
        if not facts:
            return ()
        with self._memory() as memory:
            if memory is None:
                return ()
            due = alerts.due_warnings(facts, memory, now)
            for one in due:
                log.warning(
                    "certificate of system mail",
                    extra={
                        "role": one.role,
                        "address": one.address,
                        "certificate": one.fingerprint or "none",
                        "days": one.stage(now),
                        "why": one.why or f"ends {one.ends:%Y-%m-%dT%H:%M:%SZ}",
                    },
                )
            if due:
                self._write(memory)  # what could not be kept would be said again and again
                self._send([one.sentence() for one in due], settings, now)
            after = alerts.after_warnings(facts, memory, now)
            if after != memory:  # the plans of pipes are for a folder as it was
                self._write(after)
        return due

    def tell(self, why: str) -> None:
        """Say that messages are not encrypted, or wait for a person; at most once a day for each `why`.

        `why` is one line without content. Whatever fails is logged.
        """
        try:
            self._tell(why)
        except Exception as error:  # noqa: BLE001  the message must not suffer from it
            log.error("an alert could not be sent", extra=place(error))

    def _tell(self, why: str) -> None:
        settings, now = self._settings(), self._clock()
        with self._memory() as memory:
            if memory is None or not alerts.cause_is_due(why, memory, now):
                return
            log.error("system mail needs attention", extra={"why": why})
            self._write(memory)  # as above
            self._send([why], settings, now)
            self._write(alerts.after_cause(why, memory, now))

    def _send(self, sentences: Sequence[str], settings: ForwardSettings, now: datetime) -> None:
        if settings.alert:
            self._outlet(settings).take(
                [self._alert(one, sentences, settings, now) for one in settings.alert]
            )

    def _alert(
        self, rcpt_to: str, sentences: Sequence[str], settings: ForwardSettings, now: datetime
    ) -> Product:
        domain = settings.sender.rpartition("@")[2]
        stamp = Stamp.fresh(now, domain, os.urandom(RANDOM_OCTETS))
        octets = alerts.full_alert(sentences, os.uname().nodename, settings.sender, rcpt_to, stamp)
        pins = {one.address.lower(): one for one in settings.targets}
        target = pins.get(rcpt_to.lower(), Target(rcpt_to, ()))
        # Without an escrow, or the alert would be held with what it tells of.
        seals = KeystoreSeals(self._keystore, replace(settings, escrow=None), lambda: now)
        try:
            (product,) = seals.seal(SystemMail(octets, "", (), Entrance.OWN), Forward(), (target,))
        except (NoUsableCertificate, ConfigError, KeystoreError):
            bare = alerts.bare_alert(settings.sender, rcpt_to, stamp, settings.mark)
            sender = settings.sender if settings.via == "smarthost" else ""
            return Product(bare, Envelope(sender, (rcpt_to,)), is_notice=True)
        return product

    # -- what was said

    @contextmanager
    def _memory(self) -> Iterator[Memory | None]:
        """What was said, for one process at a time; None while another one speaks."""
        make_private(self._folder)
        descriptor = os.open(self._folder / f"{_FILE}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            yield read_memory(self._folder)
        finally:
            os.close(descriptor)

    def _write(self, memory: Memory) -> None:
        write_memory(self._folder, memory)


def write_memory(folder: Path, memory: Memory, name: str = _FILE) -> None:
    """Keep what was said, in `folder`. Raises OSError."""
    told = {
        "warnings": {key: [said.stage, said.about] for key, said in memory.warnings.items()},
        "causes": {key: when.isoformat() for key, when in memory.causes.items()},
    }
    replace_file(folder / name, json.dumps(told, indent=1, sort_keys=True).encode())


def read_memory(folder: Path, name: str = _FILE) -> Memory:
    """What was said. Of a file that is damaged, nothing: something is said twice then. Raises OSError."""
    try:
        told = json.loads((folder / name).read_bytes())
        return Memory(
            {str(key): Said(int(stage), str(about)) for key, (stage, about) in told["warnings"].items()},
            {str(key): datetime.fromisoformat(when).astimezone(UTC) for key, when in told["causes"].items()},
        )
    except FileNotFoundError:
        return Memory({}, {})
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        log.warning("a damaged file is ignored", extra={"file": name})
        return Memory({}, {})
