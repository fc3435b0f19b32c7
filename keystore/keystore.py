"""The keystore: certificates, secret keys, and what can be done with them.

Synchronous and safe for threads; a second process may use the same folder at the same time, and what it
imports or deletes is noticed here at the next call. Calls that compute hold no lock. Opening asks for
nothing: the keystore key is fetched when a secret key is first needed, or by `unlock`.

Errors: StoreLocked (a holder is locked or absent, temporary), StoreDamaged, KeyRefused, NotReadable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from keystore import forms, openpgp
from keystore.certificates import Certificates
from keystore.database import PASSWORD, Database, Server
from keystore.errors import StoreLocked
from keystore.gnupg import Gnupg
from keystore.importing import Importer, Origin
from keystore.introducers import Introducers
from keystore.judging import judge
from keystore.messages import Messages
from keystore.model import (
    Certificate,
    DetachedSignature,
    Fingerprint,
    ImportResult,
    Opened,
    SignatureResult,
    Trust,
)
from keystore.peers import Peers
from keystore.roots import Roots, RootSettings
from keystore.secrets import HandedOver, Secrets
from keystore.settling import Settling
from keystore.store import Store
from keystore.token import Token, TokenSettings
from keystore.vault import Vault

if TYPE_CHECKING:
    from keystore.autocryptpeers import AutocryptPeers
    from keystore.discovery.answers import Answers, Taken
    from keystore.discovery.model import Offer, SourceKind
    from keystore.discovery.taking import Taking
    from keystore.exporting import Exports
    from keystore.holders import Holders
    from keystore.letterbox import Letterbox
    from keystore.ownkeys import OwnKeys
    from keystore.requests import Requests
    from keystore.restoring import Backups
    from keystore.smimemessages import SmimeMessages

DATABASE = "keystore.sqlite3"


@dataclass(frozen=True, slots=True)
class KeystoreSettings:
    """The keystore's folder (its own, mode 0700), GnuPG's home (None: its own default), S/MIME's roots.

    With `server`, the tables are there, and nothing but what belongs to this machine is in the folder.
    """

    folder: Path
    gnupg_home: Path | None = None
    roots: RootSettings = field(default_factory=RootSettings)
    server: Server | None = None
    token: TokenSettings = field(default_factory=TokenSettings)
    """The PKCS #11 token with secret keys of S/MIME, if there is one."""


class Keystore(Certificates):
    """Everything that the program knows about keys. Make one with `Keystore.open`."""

    def __init__(self, store: Store, vault: Vault, gnupg: Gnupg, roots: Roots, folder: Path) -> None:
        super().__init__(store, roots)
        self._vault = vault
        self._gnupg = gnupg
        self._folder = folder
        self._importer = Importer(store, vault, judge)
        self._messages = Messages(self._cache, vault, gnupg, judge)

    @classmethod
    def open(cls, settings: KeystoreSettings, secrets: Secrets) -> Keystore:
        """Open or create the keystore in `settings.folder`; KeystoreError says why it cannot be."""
        store = Store.open(settings.folder / DATABASE, settings.server, lambda: secrets.get(PASSWORD))
        roots, gnupg = Roots(settings.roots), Gnupg(settings.gnupg_home)
        token = Token(settings.token, secrets) if settings.token.module else None
        return cls(store, Vault(store, secrets, token), gnupg, roots, settings.folder)

    @property
    def database(self) -> Database:
        """Where the tables are: a file of this machine, or a server for several machines."""
        return self._store.database

    def agreed(self, name: str, proposal: bytes) -> bytes:
        """What all who share this keystore have agreed on under `name`: the first proposal, kept sealed."""
        return self._vault.agreed(name, proposal)

    def close(self) -> None:
        """Forget the secret keys and close the database."""
        self._vault.close()
        self._store.close()

    def unlock(self) -> None:
        """Fetch the keystore key and unwrap all own secret keys now. Raises StoreLocked or StoreDamaged."""
        self._vault.unlock()

    def hand_over(self) -> HandedOver:
        """Return the secrets with which another process of this program opens the same folder.

        To be passed on in memory only. Raises StoreLocked.
        """
        return self._vault.hand_over(self._store.database.secrets_used)

    @property
    def locked(self) -> bool:
        """Whether the keystore key is out of reach; tries to unlock, and may raise StoreDamaged."""
        try:
            self._vault.unlock()
        except StoreLocked:
            return True
        return False

    def steady(self) -> AbstractContextManager[None]:
        """Within the block, this thread notices no change of the store, and need not ask for one each time.

        For many questions about one message; nothing may be changed inside.
        """
        return self._store.steady()

    # -- certificates

    @property
    def version(self) -> tuple[int, int]:
        """A value that differs after each change of the store, by this process or another."""
        return self._store.version()

    # -- changes

    def import_keys(
        self,
        octets: bytes,
        *,
        source: str,
        passphrase: Callable[[], str] | None = None,
        trust: Trust | None = None,
        now: datetime | None = None,
        progress: Callable[[int, int], object] = lambda done, total: None,
    ) -> list[ImportResult]:
        """Import every key of a file; one result for each. KeyRefused: there is none.

        OpenPGP, armored or binary, or X.509: PEM, DER, PKCS #12, PKCS #7; a text may hold both. `passphrase`
        is asked once, for the secret keys. Without `trust`, new certificates are KNOWN, own ones VERIFIED;
        what was decided before stays, and one for an address that has another certificate is held.
        `progress` is told of OpenPGP how many of how many are done.
        """
        origin = Origin(source, trust, now or datetime.now(UTC))
        if not forms.is_x509(octets):
            return self._importer.take_all(octets, origin, passphrase, progress)
        from keystore.importing_x509 import (
            X509Importer,
        )  # its libraries take long to import, and many have no use for them

        importer = X509Importer(self._store, self._vault, self._judge)
        taken = importer.take_all(octets, origin, passphrase)
        both = openpgp.is_armored(octets) and not forms.is_der(octets)
        return taken + (self._importer.take_all(octets, origin, passphrase) if both else [])

    def generate(
        self,
        address: str,
        *,
        name: str = "",
        kind: openpgp.KeyKind = "ed25519",
        now: datetime | None = None,
        expires: timedelta | None = None,
    ) -> Certificate:
        """Make a key for an own address and store it; KeyRefused for an address that cannot be one.

        Its revocation certificate is on the disk before it (`keystore.revocationfiles`).
        """
        now = now or datetime.now(UTC)
        key = openpgp.generate(address, name=name, kind=kind, now=now, expires=expires)
        self.own_keys.birth(key, now)
        return self._importer.store_own(key, Origin("generated", None, now))

    def import_found(self, offer: Offer, kind: SourceKind, address: str, now: datetime) -> Taken:
        """Import what a source offers for an address (any case), if it is fit; see `discovery.taking`."""
        return self._taking.take(offer, kind, address, now)

    @cached_property
    def _taking(self) -> Taking:
        from keystore.discovery.taking import Taking  # as below

        return Taking(self._store, self._vault, self._judge)

    @cached_property
    def answers(self) -> Answers:
        """What the sources of certificates last answered."""
        from keystore.discovery.answers import Answers  # as below

        return Answers(self._store)

    @cached_property
    def own_keys(self) -> OwnKeys:
        """Changes own keys of OpenPGP: rotation, extension, user IDs, revocation."""
        from keystore.ownkeys import OwnKeys  # wanted by few commands

        return OwnKeys(self._store, self._vault, self._folder)

    @cached_property
    def holders(self) -> Holders:
        """Who holds secret keys in place of this keystore."""
        from keystore.holders import Holders  # as above

        return Holders(self._store, self._vault, self._gnupg, self._importer, self._judge)

    @cached_property
    def requests(self) -> Requests:
        """Own S/MIME keys that wait for their certificate."""
        from keystore.requests import Requests  # its libraries take long to import

        return Requests(self._store, self._vault)

    def delete(self, fingerprint: Fingerprint) -> None:
        """Remove a certificate, and our secret key with it; KeyRefused when it is not there."""
        self.settling.delete(self.demand(fingerprint))

    def set_trust(self, fingerprint: Fingerprint, trust: Trust) -> None:
        """Say how far a certificate is trusted; KeyRefused when it is not there.

        One that is KNOWN or VERIFIED by this is no longer held for any address.
        """
        self.settling.set_trust(self.demand(fingerprint), trust)

    def export(
        self, fingerprint: Fingerprint, *, secret: bool = False, passphrase: str | None = None
    ) -> bytes:
        """Return the certificate, or with `secret` our secret key, armored with CRLF line endings.

        X.509: the certificate as PEM, with the authorities above it that are known; the secret key with them
        as PKCS #12, binary. A secret key is protected by `passphrase`; without one it is in clear. KeyRefused
        when it is not there or GnuPG holds it.
        """
        return self.exports.export(self.demand(fingerprint), secret=secret, passphrase=passphrase)

    @cached_property
    def exports(self) -> Exports:
        """Certificates and keys in the forms in which they are given away."""
        from keystore.exporting import Exports  # as below

        return Exports(self, self._vault)

    # -- messages

    @cached_property
    def autocrypt(self) -> AutocryptPeers:
        """What mail has said by Autocrypt of correspondents and their certificates."""
        from keystore.autocryptpeers import AutocryptPeers  # commands have no use for it

        return AutocryptPeers(self._store, self._cache, self._taking, self._judge, self.peers)

    @cached_property
    def backups(self) -> Backups:
        """What makes a backup of all this, and brings one in."""
        from keystore.restoring import Backups  # rarely needed

        return Backups(self._store, self._vault, self._judge, self._folder)

    @cached_property
    def smime(self) -> SmimeMessages:
        """Messages of S/MIME; those of OpenPGP are made by the methods below."""
        # Their libraries take long to import, and many have no use for them.
        from keystore.learning import Learning
        from keystore.smimemessages import SmimeMessages

        learning = Learning(self._store, self._cache, self._judge)
        return SmimeMessages(self._cache, self._vault, self._judge, self.authorities, learning)

    def sign(self, octets: bytes, signer: Fingerprint, now: datetime) -> DetachedSignature:
        """Sign `octets` as they are; StoreLocked when the signer's holder does not answer."""
        return self._messages.sign(octets, self.demand(signer), now)

    def encrypt(
        self, octets: bytes, recipients: Sequence[Fingerprint], signer: Fingerprint | None, now: datetime
    ) -> bytes:
        """Return an armored message (CRLF), signed inside when there is a signer.

        Every recipient must be usable at `now`, or KeyRefused says which is not.
        """
        certificates = [self.demand(one) for one in dict.fromkeys(recipients)]
        return self._messages.encrypt(octets, certificates, self.demand(signer) if signer else None, now)

    def decrypt(self, ciphertext: bytes, now: datetime) -> Opened:
        """Open an OpenPGP message, armored or binary, with any own key, and judge its signatures.

        NotReadable says that it never will be with these keys; StoreLocked that it may be later.
        """
        return self._messages.decrypt(ciphertext, now)

    def addressees(self, ciphertext: bytes) -> tuple[str, ...]:
        """Key IDs (`HIDDEN` for a hidden one) that an OpenPGP message names as recipients; no key is touched.

        Raises NotReadable where it is no encrypted message.
        """
        return openpgp.key_ids(ciphertext)

    def verify(self, octets: bytes, signature: bytes, now: datetime) -> tuple[SignatureResult, ...]:
        """Judge the detached signatures over `octets`, armored or binary."""
        return self._messages.verify(octets, signature, now)

    def seal(self, octets: bytes, context: bytes) -> bytes:
        """Encrypt octets for keeping on this machine, bound to `context`."""
        return self._vault.seal(octets, context)

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """Return what `seal` was given; StoreDamaged for another context or changed octets."""
        return self._vault.unseal(sealed, context)

    def letterbox(self) -> Letterbox:
        """Return what opens the messages that were put through the slot of this keystore."""
        return self._vault.letterbox()

    # -- peers

    @cached_property
    def peers(self) -> Peers:
        """What was seen of correspondents."""
        return Peers(self._store)

    @cached_property
    def introducers(self) -> Introducers:
        """Certificates whose word the owner takes for others'."""
        return Introducers(self._store)

    @cached_property
    def settling(self) -> Settling:
        """Certificates that are held, and what becomes of them."""
        return Settling(self._store, self._cache, self._judge)
