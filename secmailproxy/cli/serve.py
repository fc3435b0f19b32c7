"""`secmailproxy serve`: all accounts, until told to stop."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from importlib import import_module
from typing import TYPE_CHECKING

import click

from keystore.errors import KeystoreError
from secmailproxy.cli.context import Passphrase, load_config, open_secrets, passphrase_options, print_json

if TYPE_CHECKING:
    from secmailproxy.config import Config
    from secmailproxy.startreport import Report
    from secmailproxy.supervision import Supervisor

log = logging.getLogger(__name__)

_LISTENERS = {
    "imap": "IMAP        {}",
    "submission": "submission  {}",
    "imaps": "IMAP        {}, TLS",
    "submissions": "submission  {}, TLS",
    "smtp": "SMTP        {}, system mail",
    "lmtp": "LMTP        {}, system mail",
}


@click.command("serve")
@passphrase_options
@click.option(
    "--ready-fd",
    type=click.IntRange(min=0),
    metavar="N",
    help='Write "READY imap=HOST:PORT submission=HOST:PORT" to file descriptor N once everything listens.',
)
@click.option("--json", "as_json", is_flag=True, help="Print the start-up report as JSON.")
def command(passphrase: Passphrase, ready_fd: int | None, as_json: bool) -> None:
    """Serve IMAP and submission on this machine for all accounts of the configuration.

    Point the mail client at the addresses that the report names. SIGTERM stops after the submissions in
    flight, SIGHUP reads the configuration again. Logs go to stderr.

    The passphrase is that of the encrypted secrets file ([secrets] backend = "file").
    """
    from secmailproxy.logs import start_logging
    from secmailproxy.memory import keep_in_memory
    from secmailproxy.supervision import Supervisor, harden_process, only_instance

    harden_process()
    unlocked = keep_in_memory()
    config = load_config()
    start_logging(config.service.log_level)
    if unlocked:
        log.info("memory can be written to swap", extra={"reason": unlocked})
    config.folders.prepare()
    for path in config.folders.closed():
        log.warning("a file could be read or written by others until now", extra={"path": str(path)})
    with only_instance(config.folders.state):
        _serve(config, passphrase, Supervisor(ready_fd), as_json=as_json)


def _serve(config: Config, passphrase: Passphrase, supervisor: Supervisor, *, as_json: bool) -> None:
    secrets = open_secrets(config, passphrase)
    with ThreadPoolExecutor(1) as reader:
        # The key of the secrets file takes as long to derive as the modules to import, and lets Python go on.
        reader.submit(import_module, "secmailproxy.service")
        if config.secrets.backend == "file":
            with suppress(KeystoreError):
                # What is wrong here the service finds again, and says it better.
                secrets.get("keystore-key")
    from keystore.keystore import Keystore
    from secmailproxy.names import Loop
    from secmailproxy.service import Service, serve

    def tell(report: Report) -> None:
        if as_json:
            print_json(dataclasses.asdict(report))
        else:
            click.echo(startup_text(report, config))

    async def run() -> None:
        await serve(Service(config, keystore, secrets), load_config, supervisor, tell)

    with (
        closing(Keystore.open(config.keystore_settings(), secrets)) as keystore,
        asyncio.Runner(loop_factory=Loop) as runner,
    ):
        runner.run(run())


def startup_text(report: Report, config: Config) -> str:
    """The report for people."""
    lines = [f"secmailproxy is ready ({config.folders.config_file})"]
    for name, bound in report.listeners.items():
        starttls = ", STARTTLS" if name == "submission" and report.starttls else ""
        lines.append(f"  {_LISTENERS[name].format(bound)}{starttls}")
    lines += [f"  watching    {one}" for one in report.watched]
    for account in report.accounts:
        password = "the mailbox's own password" if account.login == "mailbox" else "the local password"
        lines += [
            f"  {account.address} (IMAP {account.imap}, SMTP {account.smtp}); log in with {password}",
            f"    key {account.fingerprint or '-'}: {account.key_state}",
        ]
    if not report.accounts and "imap" in report.listeners:
        lines.append("  no accounts yet; run: secmailproxy setup you@your.domain")
    return "\n".join(lines)
