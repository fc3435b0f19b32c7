"""The two accounts of the demonstration: each a configuration, a keystore and a running proxy of its own.

Each account has its own SECMAILPROXY_HOME, as two people on two machines would; all they share is the mail
server and the certificates that they gave to each other. Secrets are in the encrypted file backend, under a
passphrase that is random and goes away with the folder.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from keystore.keystore import Keystore
from keystore.model import Fingerprint
from keystore.secrets import Secrets, open_secrets
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
class Person:
    """An address, a password at the mail server, and a folder that holds everything."""

    address: str
    name: str
    password: str = field(repr=False)
    folder: Path

    @property
    def folders(self) -> Folders:
        """The places under the folder, as SECMAILPROXY_HOME would make them."""
        return Folders(self.folder / "config.toml", self.folder / "state", self.folder / "cache")


@dataclass(frozen=True, slots=True)
class Home:
    """A person's configuration and opened keystore, with the own key in it. Close it at the end."""

    person: Person
    store: Secrets
    keystore: Keystore
    fingerprint: Fingerprint

    def close(self) -> None:
        """Forget the keys."""
        self.keystore.close()


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy and what a mail client needs to know of it."""

    home: Home
    client: MailClient
    verdict_field: str

    @property
    def address(self) -> str:
        """Whose proxy it is."""
        return self.home.person.address


def make_home(person: Person, server: MailServer, strict_domain: str) -> Home:
    """Write the configuration, keep the password, generate the key. Blocks."""
    person.folders.prepare()
    write_privately(person.folder / "passphrase", secrets.token_urlsafe(24).encode() + b"\n")
    text = _CONFIG.format(
        strict_domain=strict_domain,
        address=person.address,
        name=person.name,
        imap_port=server.imap_port,
        smtp_port=server.smtp_port,
        ca_file=server.tls.ca_file,
    )
    write_privately(person.folders.config_file, text.encode())
    config = Config.load(person.folders)
    store = open_secrets(config.secrets_settings(None))
    store.set(password_secret(person.address), person.password)  # for `forward`, which has nobody to ask
    keystore = Keystore.open(config.keystore_settings(), store)
    return Home(person, store, keystore, keystore.generate(person.address, name=person.name).fingerprint)


def give_certificate(giver: Home, taker: Home) -> None:
    """Import the giver's certificate into the taker's keystore, and pin it for `forward`. Blocks."""
    certificate = giver.keystore.export(giver.fingerprint)
    taker.keystore.import_keys(certificate, source=f"given by {giver.person.name}")
    path = taker.person.folders.config_file
    forward = _FORWARD.format(
        address=taker.person.address, to=giver.person.address, fingerprint=giver.fingerprint
    )
    write_privately(path, path.read_bytes() + forward.encode())


@asynccontextmanager
async def running_proxy(home: Home) -> AsyncIterator[Proxy]:
    """Serve this home, in this process, until the block ends."""
    person = home.person
    config = await asyncio.to_thread(Config.load, person.folders)
    service = Service(config, home.keystore, home.store)
    report = await service.start()
    try:
        imap, submission = (int(report.listeners[one].rpartition(":")[2]) for one in ("imap", "submission"))
        client = MailClient(imap, submission, person.address, person.password)
        yield Proxy(home, client, field_name(person.folders.verdict_token()))
    finally:
        await service.stop(_GRACE)
