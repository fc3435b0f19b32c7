"""The answers that `setup` needs: from options, from the account as it is, from discovery, from a person.

In that order. Without a terminal, or with --non-interactive, what is missing is an error naming the options.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from keystore.errors import KeystoreError
from secmailproxy.accounts import Tls
from secmailproxy.autoconfig.providers import provider_of
from secmailproxy.autoconfig.servers import Server, Servers
from secmailproxy.cli.context import Passphrase
from secmailproxy.config import Config
from secmailproxy.config_accounts import AccountSection
from secmailproxy.config_writer import AccountEntry, ServerEntry
from secmailproxy.enrol import KeyWish, Wish
from secmailproxy.errors import UsageError
from secmailproxy.folders import Folders

if TYPE_CHECKING:
    from secmailproxy.autoconfig.discovery import Discovery

Kind = Literal["imap", "smtp"]
_PORTS: dict[tuple[Kind, Tls], int] = {
    ("imap", "implicit"): 993,
    ("imap", "starttls"): 143,
    ("smtp", "implicit"): 465,
    ("smtp", "starttls"): 587,
}
_USUAL_TLS = {"imaps": "127.0.0.1:1993", "submissions": "127.0.0.1:1465"}
_WORDS: dict[Kind, str] = {"imap": "IMAP server", "smtp": "Submission server (SMTP)"}


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a server before anybody is asked."""

    host: str
    port: int
    tls: Tls
    username: str
    ca_file: Path | None = None


class Answers:
    """The answers for one account."""

    def __init__(self, address: str, flags: dict[str, Any], folders: Folders, *, asks: bool) -> None:
        """Raises UsageError for options that exclude each other, ConfigError for a broken configuration."""
        self.folders = folders
        self._flags = flags
        self._asks = asks
        self._config = Config.load(folders) if folders.config_file.exists() else Config.parse(b"", folders)
        self._before: AccountSection | None = self._config.account(address)
        self.address = self._before.address if self._before else address
        self._found = Servers()
        chosen = [name for name in ("generate_key", "adopt_key", "key_from_gnupg", "no_key") if flags[name]]
        if len(chosen) > 1:
            options = " and ".join(f"--{name.replace('_', '-')}" for name in chosen)
            raise UsageError(f"{options} exclude each other.")
        self._choose_backend()

    async def discover(self, discovery: Discovery) -> None:
        """Ask the network, unless everything is known or --no-discovery forbids it."""
        from secmailproxy.autoconfig.discovery import ascii_domain

        domain = ascii_domain(self.address)
        complete = self._before is not None or (self._flags["imap_host"] and self._flags["smtp_host"])
        if not complete and not self._flags["no_discovery"]:
            self._found = await discovery.find(self.address)
        provider = provider_of(domain)
        if provider and provider.needs_app_password and self._asks:
            click.echo(
                f"{provider.name} wants a password made for mail programs (an app password).", err=True
            )

    def wish(self) -> Wish:
        """Everything but the passwords. Raises UsageError for what is missing."""
        missing = [] if self._asks else [kind for kind in _WORDS if not self._host_known(kind)]
        if missing:
            raise UsageError(self._missing(missing))
        self._try_keyring()
        name = self._flags["name"]
        if name is None and self._before is None and self._asks:
            name = click.prompt(
                "Your name, for the key (may be empty)", default="", show_default=False, err=True
            )
        imap, smtp = self._server("imap"), self._server("smtp")
        before = self._before
        account = AccountEntry(
            self.address,
            imap,
            smtp,
            name=name if name is not None else (before.name if before else ""),
            login=self._flags["login"] or (before.login if before else "mailbox"),
        )
        adopt, local_tls = self._flags["adopt_key"] or "", self._flags["local_tls"]
        return Wish(account, self._tables(), self._key(), adopt, local_tls)

    def password(self) -> str:
        """The mailbox's password: given, stored (when nothing may be asked), or asked."""
        given: Passphrase = self._flags["password"]
        if given.given:
            return given()
        if self._asks:
            return Passphrase(prompt=f"Password of {self.address} at its servers")()
        stored = self._stored_password()
        if stored is None:
            raise UsageError("The password is missing: use --password-file or --password-fd.")
        return stored

    @property
    def may_ask_password_again(self) -> bool:
        """Whether a person typed it, who can have mistyped it."""
        return self._asks and not self._flags["password"].given

    def local_password(self) -> str | None:
        """The local password if one was given; else one is made where it is needed."""
        given: Passphrase = self._flags["local_password"]
        return given() if given.given else None

    def secrets_passphrase(self) -> Callable[[], str]:
        """The passphrase of the secrets file, asked twice when the file is new."""

        def ask() -> str:
            if not self._asks:
                raise UsageError(
                    "The secrets file needs a passphrase: use --secrets-passphrase-file, or a terminal."
                )
            is_new = not self.folders.secrets_file.exists()
            answer: str = click.prompt(
                "Passphrase for the secrets file", hide_input=True, confirmation_prompt=is_new, err=True
            )
            return answer

        return ask

    def _stored_password(self) -> str | None:
        from keystore.secrets import open_secrets
        from secmailproxy.accounts import password_secret

        if self._before is None:
            return None
        settings = self._config.secrets_settings(self.secrets_passphrase())
        return open_secrets(settings).get(password_secret(self.address))

    def _choose_backend(self) -> None:
        """A keystore's key cannot follow when the backend changes under it; a passphrase is for the file."""
        has_passphrase = self._flags["secrets_passphrase_file"] is not None
        if not self.folders.config_file.exists() and (has_passphrase or self.folders.secrets_file.exists()):
            self._flags["secrets"] = self._flags["secrets"] or "file"
        wanted, present = self._flags["secrets"], self._config.secrets.backend
        if has_passphrase and (wanted or present) != "file":
            raise UsageError(
                "--secrets-passphrase-file goes with --secrets file, and the secrets are in "
                f'"{wanted or present}".'
            )
        if wanted and wanted != present and self._config.accounts:
            raise UsageError(
                f'The secrets of the present accounts are in "{present}"; --secrets {wanted} would leave '
                "them behind. Leave the option out, or set SECMAILPROXY_HOME to a new folder."
            )

    def _try_keyring(self) -> None:
        """Where there is no keyring, say so before anything is asked, and offer the encrypted file."""
        from keystore.secrets import SecretsSettings, open_secrets

        if (self._flags["secrets"] or self._config.secrets.backend) != "keyring":
            return
        try:
            open_secrets(SecretsSettings("keyring"))
        except KeystoreError as error:
            if not self._asks or self._config.accounts:
                raise
            click.echo(f"secmailproxy: {error}", err=True)
            click.confirm(
                "Keep passwords in a file encrypted under a passphrase instead?",
                default=True,
                abort=True,
                err=True,
            )
            self._flags["secrets"] = "file"

    def _tables(self) -> dict[str, dict[str, Any]]:
        secrets: dict[str, Any] = {}
        if self._flags["secrets"]:
            secrets["backend"] = self._flags["secrets"]
        if self._flags["secrets_passphrase_file"]:
            secrets["passphrase_file"] = str(self._flags["secrets_passphrase_file"].absolute())
        # Who has a configuration already sees no new traffic.
        discovery = {} if self.folders.config_file.exists() else {"wkd": True}
        return {"listen": self._listen(), "secrets": secrets, "discovery": discovery}

    def _listen(self) -> dict[str, str]:
        """Where mail clients come in, as far as it changes."""
        names = ("imap", "submission", *_USUAL_TLS)
        given = {name: self._flags[f"listen_{name}"] for name in names}
        if self._flags["local_tls"]:
            present = self._config.listen.addresses
            given |= {
                name: usual for name, usual in _USUAL_TLS.items() if not given[name] and name not in present
            }
        return {name: address for name, address in given.items() if address is not None}

    def _key(self) -> KeyWish:
        if self._flags["generate_key"]:
            return "generate"
        if self._flags["adopt_key"]:
            return "adopt"
        if self._flags["key_from_gnupg"]:
            return "gnupg"
        if self._flags["no_key"]:
            return "none"
        if self._asks and self._before is None and shutil.which("gpg"):
            wants_gnupg = click.confirm("Use a key that your GnuPG has already?", default=False, err=True)
            return "gnupg" if wants_gnupg else "keep"
        return "keep"

    def _host_known(self, kind: Kind) -> bool:
        found = getattr(self._found, kind)
        return bool(self._flags[f"{kind}_host"] or self._before or (found and found.is_vouched))

    def _missing(self, kinds: list[Kind]) -> str:
        texts = []
        for kind in kinds:
            found: Server | None = getattr(self._found, kind)
            hint = f" (the {found.source} names {found.host}, outside the mail domain)" if found else ""
            texts.append(f"the {_WORDS[kind]} is not known{hint}; use --{kind}-host")
        return f"For {self.address}: {'; '.join(texts)}."

    def _server(self, kind: Kind) -> ServerEntry:
        known = self._known(kind)
        host = self._flags[f"{kind}_host"] or (known.host if known else "") or self._ask_host(kind)
        same = known if known and known.host == host else None
        tls: Tls = self._flags[f"{kind}_tls"] or (same.tls if same else self._ask_tls(kind))
        keeps_port = same is not None and same.tls == tls
        port = self._flags[f"{kind}_port"] or (
            same.port if same and keeps_port else self._ask_port(kind, tls)
        )
        username = self._flags[f"{kind}_user"] or (same.username if same else self._ask_username(kind))
        ca_file: Path | None = self._flags["ca_file"]
        if ca_file is not None:
            ca_file = ca_file.absolute()
        elif same is not None:
            ca_file = same.ca_file
        is_address = username.lower() == self.address.lower()
        return ServerEntry(host, port, tls, "" if is_address else username, ca_file)

    def _known(self, kind: Kind) -> _Known | None:
        """The server as it is configured, else as it was found and agreed to."""
        if self._before is not None:
            server = getattr(self._before, kind)
            return _Known(
                server.host, server.port, server.tls, server.username or self.address, server.ca_file
            )
        found: Server | None = getattr(self._found, kind)
        if found is None or self._flags[f"{kind}_host"]:
            return None
        if self._asks:
            click.echo(f"{_WORDS[kind]}: {found.host}, port {found.port} ({found.source})", err=True)
        if not found.is_vouched and not click.confirm(
            f"{found.host} is outside the mail domain and DNS alone names it. Send your password there?",
            default=False,
            err=True,
        ):
            return None
        return _Known(found.host, found.port, found.tls, found.username)

    def _ask_host(self, kind: Kind) -> str:
        answer: str = click.prompt(_WORDS[kind], err=True)
        return answer

    def _ask_tls(self, kind: Kind) -> Tls:
        if self._asks and not self._flags[f"{kind}_port"]:
            choice: Any = click.Choice(["implicit", "starttls"])
            answer = click.prompt(f"{_WORDS[kind]}, TLS", type=choice, default="implicit", err=True)
            return "starttls" if answer == "starttls" else "implicit"
        is_starttls = self._flags[f"{kind}_port"] == _PORTS[kind, "starttls"]
        return "starttls" if is_starttls else "implicit"

    def _ask_port(self, kind: Kind, tls: Tls) -> int:
        usual = _PORTS[kind, tls]
        if not self._asks:
            return usual
        answer: int = click.prompt(
            f"{_WORDS[kind]}, port", type=click.IntRange(1, 65535), default=usual, err=True
        )
        return answer

    def _ask_username(self, kind: Kind) -> str:
        if not self._asks:
            return self.address
        answer: str = click.prompt(f"{_WORDS[kind]}, user name", default=self.address, err=True)
        return answer
