"""The two accounts of the demonstration: each a configuration, a keystore and a running proxy of its own.

Each account has its own SECMAILPROXY_HOME, as two people on two machines would; all they share is the mail
server and the certificates that they gave to each other. Secrets are in the encrypted file backend, under a
passphrase that is random and goes away with the folder.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from keystore.keystore import Keystore
from keystore.model import Fingerprint
from keystore.secrets import open_secrets
from secmailproxy.accounts import password_secret
from secmailproxy.config import Config
from secmailproxy.demo.clients import MailClient
from secmailproxy.demo.servers import MailServer
from secmailproxy.folders import Folders, write_privately
from secmailproxy.service import Service
from secmailproxy.verdict import field_name

_GRACE = 5.0

_CONFIG = """\
[listen]
imap = "127.0.0.1:0"
submission = "127.0.0.1:0"

[secrets]
backend = "file"
passphrase_file = "passphrase"

[[rules]]
to = "@{strict_domain}"
protect = "require"

[[accounts]]
address = "{address}"
name = "{name}"
imap = {{ host = "localhost", port = {imap_port}, tls = "implicit", ca_file = "{ca_file}" }}
smtp = {{ host = "localhost", port = {smtp_port}, tls = "starttls", ca_file = "{ca_file}" }}
"""

_FORWARD = """
[forward]
account = "{address}"

[[forward.targets]]
address = "{to}"
fingerprint = "{fingerprint}"
"""


@dataclass(frozen=True, slots=True)
class Home:
    """One person: an address, a password at the mail server, and a folder that holds everything."""

    address: str
    name: str
    password: str = field(repr=False)
    folder: Path

    @property
    def folders(self) -> Folders:
        """The places under the folder, as SECMAILPROXY_HOME would make them."""
        return Folders(self.folder / "config.toml", self.folder / "state", self.folder / "cache")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy and what a mail client needs to know of it."""

    home: Home
    fingerprint: Fingerprint
    client: MailClient
    verdict_field: str


def make_home(home: Home, server: MailServer, strict_domain: str) -> Fingerprint:
    """Write the configuration, keep the password, generate the key. Blocks."""
    home.folders.prepare()
    write_privately(home.folder / "passphrase", secrets.token_urlsafe(24).encode() + b"\n")
    text = _CONFIG.format(
        strict_domain=strict_domain,
        address=home.address,
        name=home.name,
        imap_port=server.imap_port,
        smtp_port=server.smtp_port,
        ca_file=server.tls.ca_file,
    )
    write_privately(home.folders.config_file, text.encode())
    config = Config.load(home.folders)
    store = open_secrets(config.secrets_settings(None))
    store.set(password_secret(home.address), home.password)  # for `forward`, which has nobody to ask
    with closing(Keystore.open(config.keystore_settings(), store)) as keystore:
        return keystore.generate(home.address, name=home.name, now=datetime.now(UTC)).fingerprint


def give_certificate(giver: Home, fingerprint: Fingerprint, taker: Home) -> None:
    """Import the giver's certificate into the taker's keystore, and pin it for `forward`. Blocks."""
    with closing(_keystore(giver)) as theirs, closing(_keystore(taker)) as ours:
        ours.import_keys(theirs.export(fingerprint), source=f"given by {giver.name}", passphrase=None)
    forward = _FORWARD.format(address=taker.address, to=giver.address, fingerprint=fingerprint)
    write_privately(taker.folders.config_file, taker.folders.config_file.read_bytes() + forward.encode())


def _keystore(home: Home) -> Keystore:
    config = Config.load(home.folders)
    return Keystore.open(config.keystore_settings(), open_secrets(config.secrets_settings(None)))


@asynccontextmanager
async def running_proxy(home: Home, fingerprint: Fingerprint) -> AsyncIterator[Proxy]:
    """Serve this home, in this process, until the block ends."""
    config = await asyncio.to_thread(Config.load, home.folders)
    store = open_secrets(config.secrets_settings(None))
    keystore = await asyncio.to_thread(Keystore.open, config.keystore_settings(), store)
    with closing(keystore):
        service = Service(config, keystore, store)
        report = await service.start()
        try:
            imap, submission = (int(one.rpartition(":")[2]) for one in (report.imap, report.submission))
            client = MailClient(imap, submission, home.address, home.password)
            yield Proxy(home, fingerprint, client, field_name(home.folders.verdict_token()))
        finally:
            await service.stop(_GRACE)
