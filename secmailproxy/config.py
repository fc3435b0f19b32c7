"""The configuration: one TOML file, checked in full before anything starts.

The models below are the schema; docs/configuration.md explains each option. `Config.load` reads and checks
the file; the methods make the small settings value of each module, so that nothing below knows this file.

Security: unknown keys are errors, so that a misspelt option cannot be silently ignored; listeners are bound
to loopback only; there is no way to write down a connection without verified TLS.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from secmailproxy.accounts import Account, ImapUpstream, Login
from secmailproxy.admission import Limits
from secmailproxy.config_accounts import AccountSection, refuse_shared_addresses
from secmailproxy.config_autocrypt import AutocryptSection
from secmailproxy.config_discovery import Discovery
from secmailproxy.config_errors import ConfigProblems, problems_of
from secmailproxy.config_forward import Forward
from secmailproxy.config_rules import RuleSection, WishSection, refuse_repeated
from secmailproxy.config_store import StoreSection
from secmailproxy.config_token import Pkcs11
from secmailproxy.config_values import (
    ExistingFile,
    ExistingFolder,
    ListenAddress,
    Listener,
    Octets,
    RootsFile,
    Section,
    Switch,
    refuse_one_port_twice,
)
from secmailproxy.errors import ConfigError
from secmailproxy.folders import Folders, refuse_writable_by_others
from secmailproxy.model import SearchScope

if TYPE_CHECKING:
    from keystore.discovery.sources import DiscoverySettings
    from keystore.keystore import KeystoreSettings
    from keystore.secrets import SecretsSettings
    from secmailproxy.forward.model import ForwardSettings
    from secmailproxy.outbound import OutboundSettings
    from secmailproxy.smtp.smarthost import SmarthostSettings


Rate = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
"""How often in a minute."""
_LIMITS = Limits()


class Listen(Section):
    """[listen]"""

    imap: Listener = ListenAddress(host="127.0.0.1", port=1143)
    submission: Listener = ListenAddress(host="127.0.0.1", port=1025)
    imaps: Listener | None = None
    submissions: Listener | None = None
    connections_per_client: Annotated[int, Field(strict=True, ge=1, le=1000)] = _LIMITS.connections
    connections_per_minute: Rate = _LIMITS.connections_per_minute
    messages_per_minute: Rate = _LIMITS.messages_per_minute
    mistakes_per_minute: Rate = _LIMITS.mistakes_per_minute
    login_failures: Annotated[int, Field(strict=True, ge=3, le=1000)] = _LIMITS.login_failures
    lock_seconds: Annotated[int, Field(strict=True, ge=1, le=900)] = _LIMITS.lock_seconds

    @model_validator(mode="after")
    def _apart(self) -> Listen:
        refuse_one_port_twice(self.addresses)
        return self

    @property
    def addresses(self) -> dict[str, ListenAddress]:
        """The listeners there are, by the name of their option."""
        named = {name: getattr(self, name) for name in ("imap", "submission", "imaps", "submissions")}
        return {name: address for name, address in named.items() if address is not None}

    @property
    def limits(self) -> Limits:
        """What each client address may do at each listener."""
        return Limits(
            self.connections_per_client,
            self.connections_per_minute,
            self.messages_per_minute,
            self.mistakes_per_minute,
            self.login_failures,
            self.lock_seconds,
        )

    @property
    def reading(self) -> tuple[ListenAddress, bool]:
        """Where a mail client is sent to read, and whether it finds TLS there from the first octet."""
        return (self.imaps, True) if self.imaps is not None else (self.imap, False)

    @property
    def sending(self) -> tuple[ListenAddress, bool]:
        """The same for submission."""
        return (self.submissions, True) if self.submissions is not None else (self.submission, False)


class Secrets(Section):
    """[secrets]"""

    backend: Literal["keyring", "file", "systemd"] = "keyring"
    path: str = ""
    passphrase_file: ExistingFile = None


class KeystoreSection(Section):
    """[keystore]"""

    gnupg_home: ExistingFolder = None


class Smime(Section):
    """[smime]"""

    roots: tuple[RootsFile, ...] = ()
    platform_roots: Switch = True
    revocation: Switch = True
    harvest: Switch = True


class Service(Section):
    """[service]"""

    grace_seconds: Annotated[int, Field(strict=True, ge=0, le=3600)] = 30
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class Submission(Section):
    """[submission]"""

    max_octets: Octets = 50 * 1024 * 1024
    timeout_seconds: Annotated[int, Field(strict=True, ge=5, le=600)] = 60


class Config(Section):
    """The whole configuration, checked. Immutable; read it again for a new one."""

    listen: Listen = Listen()
    secrets: Secrets = Secrets()
    keystore: KeystoreSection = KeystoreSection()
    store: StoreSection = StoreSection()
    pkcs11: Pkcs11 = Pkcs11()
    smime: Smime = Smime()
    autocrypt: AutocryptSection = AutocryptSection()
    discovery: Discovery = Discovery()
    service: Service = Service()
    submission: Submission = Submission()
    rules: tuple[RuleSection, ...] = ()
    wishes: tuple[WishSection, ...] = ()
    accounts: tuple[AccountSection, ...] = ()
    forward: Forward = Forward()
    _folders: Folders = PrivateAttr(default_factory=Folders.of_user)

    @classmethod
    def load(cls, folders: Folders | None = None) -> Config:
        """Read and check the configuration file. Raises ConfigError (ConfigProblems for what is in it)."""
        folders = folders or Folders.of_user()
        path = folders.config_file
        try:
            refuse_writable_by_others(path)
            octets = path.read_bytes()
        except FileNotFoundError:
            raise ConfigError(
                f"There is no configuration at {path}; run: secmailproxy setup you@your.domain (for system "
                "mail: write [forward] there, or run this as the user whose pipe or service it is)"
            ) from None
        except PermissionError as error:
            raise ConfigError(
                f"Cannot read {path}: {error.strerror}. Run this as the user to whom it belongs, or set "
                "SECMAILPROXY_HOME."
            ) from None
        except OSError as error:
            raise ConfigError(f"Cannot read {path}: {error.strerror}.") from None
        return cls.parse(octets, folders)

    @classmethod
    def defaults(cls, backend: Literal["keyring", "file"]) -> Config:
        """Without accounts: for commands about keys and single messages, before a file has been written."""
        config = cls(secrets=Secrets(backend=backend))
        config.folders.prepare()
        return config

    @classmethod
    def parse(cls, octets: bytes, folders: Folders) -> Config:
        """Check the octets of a configuration file that lies at `folders.config_file`."""
        path = folders.config_file
        try:
            text = octets.decode("utf-8")
            data: dict[str, Any] = tomllib.loads(text)
        except UnicodeDecodeError as error:
            line = octets.count(b"\n", 0, error.start) + 1
            raise ConfigProblems.one(path, "", line, "is not UTF-8 text; save it as UTF-8") from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigProblems.of_toml(path, str(error)) from None
        try:
            config = cls.model_validate(data, context={"folder": path.parent})
        except ValidationError as error:
            raise ConfigProblems(problems_of(error, data, text, path, cls)) from None
        config._folders = folders
        return config

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        refuse_shared_addresses(self.accounts)
        refuse_repeated([one.word for one in self.wishes], "two of [[wishes]] have the word")
        for rule in self.rules:
            if rule.account and self.account(rule.account) is None:
                raise ValueError(
                    f"a rule is for the account {rule.account}, which is no account here; correct it or add "
                    "the account"
                )
        chosen = self.forward.account
        if chosen and self.account(chosen) is None:
            raise ValueError(
                f"forward.account is {chosen}, which is no account here; correct it or add the account"
            )
        for watch in self.forward.watch:
            if self.account(watch.account) is None:
                raise ValueError(
                    f"[[forward.watch]] is for {watch.account}, which is no account here; correct it or add "
                    "the account"
                )
        refuse_repeated(
            [f"{one.mailbox} of {one.account.lower()}" for one in self.forward.watch],
            "two of [[forward.watch]] are for",
        )
        refuse_one_port_twice({**self.listen.addresses, **self.forward.listen.addresses})
        return self

    @property
    def listeners(self) -> dict[str, ListenAddress]:
        """All that is listened on, by name; nothing for mail clients where only system mail is served."""
        only_system_mail = not self.accounts and bool(self.forward.targets)
        return ({} if only_system_mail else self.listen.addresses) | self.forward.listen.addresses

    @property
    def folders(self) -> Folders:
        """Where this configuration came from and what belongs to it."""
        return self._folders

    def account(self, address: str) -> AccountSection | None:
        """The account with this address, without regard to case."""
        return next((one for one in self.accounts if one.address.lower() == address.lower()), None)

    def account_of(self, sender: str) -> str:
        """The address of the account that sends as `sender`: by address, alias, or the only one; else ""."""
        wanted = sender.lower()
        for one in self.accounts:
            if wanted in (one.address.lower(), *map(str.lower, one.aliases)):
                return one.address
        return self.accounts[0].address if len(self.accounts) == 1 else ""

    def others(self, account: str) -> frozenset[str]:
        """Addresses and aliases of the other accounts; none where there is no `account`."""
        return frozenset(
            address
            for one in self.accounts
            if account and one.address != account
            for address in (one.address, *one.aliases)
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values, every default filled in, names as in the file. There are no secrets in it."""
        data: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
        for table, addresses in (
            (data["listen"], self.listen.addresses),
            (data["forward"]["listen"], self.forward.listen.addresses),
        ):
            table |= {name: str(address) for name, address in addresses.items()}
        return data

    def account_values(self) -> tuple[Account, ...]:
        """The accounts as the listeners know them."""
        return tuple(
            Account(
                address=one.address,
                name=one.name,
                aliases=one.aliases,
                login=Login(one.login),
                imap=ImapUpstream(one.imap.host, one.imap.port, one.imap.tls, one.imap.ca_file),
                imap_username=one.imap.username,
                smtp_username=one.smtp.username,
                encrypt_drafts=one.encrypt_drafts,
                encrypt_sent=one.encrypt_sent,
                encrypt_other=one.encrypt_other,
                verdict_keywords=one.verdict_keywords,
                subject_mark=one.subject_mark,
                search=SearchScope(one.search),
                inline_pgp=one.inline_pgp,
            )
            for one in self.accounts
        )

    # The imports inside the next five are local so that a command pays only for the modules it uses.

    def keystore_settings(self) -> KeystoreSettings:
        """For `keystore.keystore.Keystore.open`."""
        from keystore.keystore import KeystoreSettings
        from keystore.roots import RootSettings

        roots = RootSettings(self.smime.roots, self.smime.platform_roots)
        token = self.pkcs11.settings()
        return KeystoreSettings(
            self.folders.keystore, self.keystore.gnupg_home, roots, self.store.server, token
        )

    def secrets_settings(self, passphrase: Callable[[], str] | None) -> SecretsSettings:
        """For `keystore.secrets.open_secrets`. `passphrase` serves where no passphrase_file is set."""
        from keystore.secrets import SecretsSettings

        file = self.secrets.passphrase_file
        path = self.folders.secrets_file
        if self.secrets.path:
            path = self.folders.config_file.parent / Path(self.secrets.path).expanduser()
        return SecretsSettings(
            backend=self.secrets.backend,
            path=path if self.secrets.backend == "file" else None,
            passphrase=(lambda: _passphrase_of(file)) if file is not None else passphrase,
        )

    def outbound_settings(self) -> OutboundSettings:
        """For `secmailproxy.outbound.Outbound`."""
        from secmailproxy.enclosing import Sharing
        from secmailproxy.outbound import OutboundSettings
        from secmailproxy.rules import normal_address

        return OutboundSettings(
            rules=tuple(one.value() for one in self.rules),
            words=tuple(one.value() for one in self.wishes),
            aliases={normal_address(alias): one.address for one in self.accounts for alias in one.aliases},
            sharing={
                one.address.lower(): Sharing(one.autocrypt, one.prefer_encrypt == "mutual", one.attach_key)
                for one in self.accounts
            },
            marks=tuple(one.subject_mark for one in self.accounts if one.subject_mark),
            unguarded=frozenset(one.address.lower() for one in self.accounts if not one.reply_guard),
        )

    def discovery_settings(self) -> DiscoverySettings:
        """For `keystore.discovery.sources`."""
        return self.discovery.value(self.keystore.gnupg_home)

    def forward_settings(self) -> ForwardSettings:
        """For `secmailproxy.forward.processing.Desk`; makes this installation's loop mark."""
        return self.forward.value(self)

    def smarthost_settings(self, account: AccountSection) -> SmarthostSettings:
        """For `secmailproxy.smtp.smarthost.Smarthost`."""
        from secmailproxy.smtp.smarthost import SmarthostSettings

        server = account.smtp
        return SmarthostSettings(
            host=server.host,
            port=server.port,
            tls=server.tls,
            ca_file=server.ca_file,
            timeout=float(self.submission.timeout_seconds),
        )


def _passphrase_of(file: Path) -> str:
    """The first line of secrets.passphrase_file, which nobody else may read."""
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077 and not os.environ.get("CREDENTIALS_DIRECTORY"):
            raise ConfigError(f"{file} holds a passphrase and can be read by others; run: chmod 600 {file}")
        text = file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except OSError as error:
        raise ConfigError(f"Cannot read the passphrase file {file}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"The passphrase file {file} is not UTF-8 text.") from None
    if not text:
        raise ConfigError(f"The first line of the passphrase file {file} is empty.")
    return text
