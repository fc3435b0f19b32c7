"""`secmailproxy queue`: what waits to be delivered, and what to do about it. Nothing is unlocked for it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keystore.errors import KeystoreError
from secmailproxy.cli.context import LateSecrets, load_config, passphrase_options, print_json
from secmailproxy.errors import ConfigError, SecMailProxyError, UsageError
from secmailproxy.folders import Folders
from secmailproxy.forward.wake import HASTE, inherited_lock, poke, see_to_delivery

if TYPE_CHECKING:
    from secmailproxy.config import Config
    from secmailproxy.dispatch import Dispatch
    from secmailproxy.forward.attempts import Progress
    from secmailproxy.forward.queue import Queue, Queued

_HEADER_MOST = 64 * 1024


@click.group("queue")
def command() -> None:
    """Encrypted system mail that waits to be delivered."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print the queue as JSON.")
def list_(as_json: bool) -> None:
    """List what waits: its id, how long, to whom, when it is tried again, and why it still waits."""
    from secmailproxy.forward.queue import Damaged, NotQueued

    queue, rows = _queue(), []
    for name in queue.names():
        try:
            rows.append(_told(*queue.look(name)))
        except NotQueued:
            continue  # it has left meanwhile
        except Damaged as error:
            rows.append({"id": name, "damaged": error.text})
    if as_json:
        print_json(rows)
    elif not rows:
        click.echo(f"The queue is empty ({queue.folder}).")
    for row in [] if as_json else rows:
        click.echo(_line(row))


@command.command("show")
@click.argument("ident", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def show(ident: str, as_json: bool) -> None:
    """Show one message: how its delivery goes, and the header that every server sees."""
    queue = _queue()
    queued, progress = queue.look(ident)
    told = _told(queued, progress) | {"headers": _headers(queue, queued)}
    if as_json:
        print_json(told)
        return
    for name, value in told.items():
        if name != "headers":
            text = ", ".join(value) if isinstance(value, list) else str(value)
            click.echo(f"{name:<12} {_printable(text)}")
    for header in told["headers"]:
        click.echo(f"\n{header}")


@command.command("flush")
@click.argument("idents", nargs=-1, metavar="[ID]...")
def flush(idents: tuple[str, ...]) -> None:
    """Try messages now: these, or all that are not held."""
    queue = _queue()
    names = _existing(queue, idents) or [one for one in queue.names() if not _is_held(queue, one)]
    try:
        _each(names, queue.hasten)
    finally:
        # What could be changed must not wait because of what could not.
        if names:
            see_to_delivery(queue.folder)
            poke(queue.folder, HASTE)
    click.echo(f"{len(names)} to be tried now")


@command.command("hold")
@click.argument("idents", nargs=-1, required=True, metavar="ID...")
def hold(idents: tuple[str, ...]) -> None:
    """Keep messages in the queue, undelivered, until they are released."""
    queue = _queue()
    _each(_existing(queue, idents), queue.hold)
    click.echo(f"{len(set(idents))} held")


@command.command("release")
@click.argument("idents", nargs=-1, required=True, metavar="ID...")
def release(idents: tuple[str, ...]) -> None:
    """Deliver held messages after all."""
    queue = _queue()
    names = _existing(queue, idents)
    try:
        _each(names, queue.release)
    finally:
        see_to_delivery(queue.folder)
    click.echo(f"{len(names)} released")


@command.command("drop")
@click.argument("idents", nargs=-1, required=True, metavar="ID...")
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(idents: tuple[str, ...], yes: bool) -> None:
    """Delete messages from the queue, undelivered. Nobody is told."""
    queue = _queue()
    names = _existing(queue, idents)
    if not yes:
        click.confirm(f"Delete {len(names)} undelivered for ever?", abort=True, err=True)
    _each(names, queue.drop)
    click.echo(f"{len(names)} deleted")


@command.command("run")
@passphrase_options
def run(passphrase: Callable[[], str] | None) -> None:
    """Do what is due now, and end: deliveries, digests, warnings. For a timer, where no daemon runs.

    Where a runner is at work already, it is told to look, and delivers.
    """
    from secmailproxy.logs import start_logging

    inherited = inherited_lock()
    current = _Current(passphrase)
    # What is said is for a person: a timer that mails each line must not do so all day.
    start_logging("warning")
    problem: KeystoreError | None = None
    with ExitStack() as stack:
        try:
            dispatch = _dispatch(current, stack)
        except KeystoreError as error:
            from secmailproxy.dispatch import Dispatch

            # What is queued is ciphertext, and leaves all the same.
            problem, dispatch = error, Dispatch(current.config, current)
        if not asyncio.run(_work(dispatch, inherited)):
            click.echo("A runner is at work; it was told to look.")
    if problem is not None:
        raise problem


class _Current:
    """The configuration as it is on the disk, with its secrets: a runner may live for days."""

    def __init__(self, passphrase: Callable[[], str] | None) -> None:
        """Raises ConfigError."""
        self.passphrase = passphrase
        self._file = Folders.of_user().config_file
        self._version = _version(self._file)
        self._config = load_config()
        self._secrets = LateSecrets(self._config, passphrase)

    def config(self) -> Config:
        """The last one that was right."""
        version = _version(self._file)
        if version != self._version:
            self._version = version
            with suppress(ConfigError):  # while it is being written, the old one will do
                self._config = load_config()
                self._secrets = LateSecrets(self._config, self.passphrase)
        return self._config

    def get(self, name: str) -> str | None:
        """A secret, from where the configuration has them now. Raises KeystoreError, SecMailProxyError."""
        self.config()
        return self._secrets.get(name)


def _version(file: Path) -> tuple[int, ...]:
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _dispatch(current: _Current, stack: ExitStack) -> Dispatch:
    """With digests and alerts. Raises KeystoreError. `stack` closes what is opened for it."""
    from keystore.keystore import Keystore
    from secmailproxy.dispatch import QUEUE_CAUSE, Dispatch, alerts_of
    from secmailproxy.forward.outlets import outlet_of
    from secmailproxy.forward.processing import desk_of
    from secmailproxy.forward.sender import with_sender
    from secmailproxy.monitoring import digests_of

    config = current.config()
    keystore = Keystore.open(config.keystore_settings(), LateSecrets(config, current.passphrase))
    stack.callback(keystore.close)
    settings = with_sender(config.forward_settings())
    desk = desk_of(config.folders, settings, keystore, outlet_of(settings, config.folders.spool))
    digests = digests_of(lambda: config, keystore, lambda: settings.sender, desk.process)
    alerts = alerts_of(current.config, keystore)
    return Dispatch(current.config, current, digests, alerts, alarm=lambda _: alerts.tell(QUEUE_CAUSE))


async def _work(dispatch: Dispatch, inherited: int | None) -> bool:
    """Whether it was us who did it."""
    # Who starts a pipe may be stopped with all that it has started: what is being sent is finished.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, dispatch.runner.close)
    try:
        if inherited is None:
            return await dispatch.runner.once()
        os.chdir("/")  # of a process that stays, the starter's folder must not be kept
        await dispatch.runner.until_empty(inherited)
        return True
    finally:
        await dispatch.close()


def _queue() -> Queue:
    from secmailproxy.forward.queue import Queue

    return Queue(Folders.of_user().spool)


def _is_held(queue: Queue, name: str) -> bool:
    from secmailproxy.forward.queue import Damaged

    try:
        return bool(queue.progress(name).held)
    except Damaged:
        return False


def _existing(queue: Queue, idents: Sequence[str]) -> list[str]:
    """The ids, each once. Raises NotQueued, before anything has been done, for one that is none."""
    names = list(dict.fromkeys(idents))
    known = set(queue.names())
    for name in names:
        if name not in known:
            queue.look(name)
    return names


def _each(names: Sequence[str], act: Callable[[str], None]) -> None:
    """What fails for one is said when it was done to the others."""
    failures = []
    for name in names:
        try:
            act(name)
        except SecMailProxyError as error:
            failures.append(error.text)
    if failures:
        raise UsageError("; ".join(failures))


def _told(queued: Queued, progress: Progress) -> dict[str, Any]:
    now = time.time()
    left = queued.left(progress)
    senders = dict.fromkeys(one.envelope.mail_from for one in queued.messages)
    state = "held" if progress.held else "waiting" if progress.tries else "new"
    return {
        "id": queued.name,
        "state": state,
        "arrived": _time(queued.arrived),
        "age_seconds": max(0, round(now - queued.arrived)),
        "octets": queued.octets,
        "from": [f"<{one}>" for one in senders],
        "to": [to for _, to in left],
        "via": queued.route.via,
        "next_hop": queued.route.name,
        "tries": progress.tries,
        "again": _time(progress.again) if progress.again > now and not progress.held else None,
        "reason": progress.held + (f": {progress.why}" if progress.held and progress.why else "")
        or progress.why
        or None,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _line(row: dict[str, Any]) -> str:
    if "damaged" in row:
        return f"{_printable(row['id'])}  {row['damaged']}"
    first = f"{row['id']}  {row['state']}  {_age(row['age_seconds'])}  {row['octets']} octets"
    lines = [f"{first}  to {', '.join(map(_printable, row['to']))}"]
    if row["reason"]:
        again = f"; again at {row['again']}" if row["again"] else ""
        lines.append(f"    {_printable(row['reason'])}{again}")
    return "\n".join(lines)


def _age(seconds: int) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _headers(queue: Queue, queued: Queued) -> list[str]:
    """The outer header of each message, as it lies in the queue."""
    with queue.taken(queued.name) as taken:
        heads = [taken.product(at).octets[:_HEADER_MOST] for at in range(len(queued.messages))]
    texts = [head.partition(b"\r\n\r\n")[0].decode("utf-8", "replace") for head in heads]
    return ["\n".join(map(_printable, text.splitlines())) for text in texts]


def _printable(text: str) -> str:
    """Nothing that a terminal would obey."""
    return "".join(one if one.isprintable() else " " for one in text)
