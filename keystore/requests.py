"""Own S/MIME keys that wait for their certificate: each in a row of `requests` until an authority issues it.

Security: the private key is sealed under the keystore key, bound to its name. It leaves this table in the
same transaction that stores it with its certificate. Anybody can have any key certified, so a certificate
finds its key only where it names no address but those that were asked for.

Standards: RFC 2986 (PKCS #10).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from keystore.errors import KeyRefused, StoreDamaged
from keystore.model import Certificate, lower_case
from keystore.smime.key import PrivateKey, from_pkcs8, to_pkcs8
from keystore.smime.request import (
    RequestKind,
    key_name,
    key_name_in,
    new_private,
    request_pem,
    signing_request,
)
from keystore.store import Store, stored_moment, stored_time
from keystore.vault import Vault


@dataclass(frozen=True, slots=True)
class Request:
    """What an authority is asked for."""

    name: str
    """The SHA-256 of the public key, hexadecimal."""
    addresses: tuple[str, ...]
    """Lower case."""
    made: datetime
    pem: bytes = field(repr=False)
    """PKCS #10, LF."""


class Requests:
    """The table of one store. Raises StoreLocked, StoreDamaged."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault

    def all(self) -> list[Request]:
        """Those that wait, oldest first."""
        rows = self._store.rows("SELECT name, addresses, made, request FROM requests ORDER BY made, name")
        return [_request(row) for row in rows]

    def of(self, addresses: Sequence[str]) -> Request | None:
        """The newest one that asks for exactly these addresses, in any case and order."""
        wanted = {lower_case(one) for one in addresses}
        return next((one for one in reversed(self.all()) if set(one.addresses) == wanted), None)

    def make(self, addresses: Sequence[str], name: str, kind: RequestKind, now: datetime) -> Request:
        """Make a private key, keep it, and return the request. Raises KeyRefused."""
        if not addresses:
            raise KeyRefused("a request needs an address")
        private = new_private(kind)
        octets = signing_request(private, addresses, name)
        key = key_name(private)
        sealed = self._vault.seal(to_pkcs8(private), _context(key))
        asked = " ".join(dict.fromkeys(lower_case(one) for one in addresses))
        self._store.write(
            "INSERT INTO requests VALUES (?, ?, ?, ?, ?)", key, asked, stored_time(now), octets, sealed
        )
        return Request(key, tuple(asked.split(" ")), stored_moment(stored_time(now)), request_pem(octets))

    def key_for(self, certificate: Certificate) -> PrivateKey | None:
        """The private key that waits for this certificate; None where none does.

        Raises KeyRefused where the certificate names other addresses than those asked for.
        """
        if not self._store.rows("SELECT 1 FROM requests LIMIT 1"):
            return None  # nearly always, and to look at a key takes its time
        key = key_name_in(certificate.octets)
        rows = self._store.rows("SELECT addresses, sealed FROM requests WHERE name = ?", key)
        if not rows:
            return None
        asked = str(rows[0][0]).split(" ")
        if not certificate.addresses or not set(certificate.addresses) <= set(asked):
            named = ", ".join(certificate.addresses) or "no address"
            raise KeyRefused(
                f"it was issued for your request for {', '.join(asked)}, but names {named}: ask the "
                "authority, or make a request for the addresses that it names"
            )
        return self._opened(key, bytes(rows[0][1]))

    def _opened(self, key: str, sealed: bytes) -> PrivateKey:
        octets = self._vault.unseal(sealed, _context(key))
        try:
            return from_pkcs8(octets)
        except KeyRefused:
            raise StoreDamaged("a requested key is damaged: restore the keystore from a backup") from None

    def bring(self, old: Store, key: bytes) -> None:
        """Take over what waits in another store, under the keystore key `key`. Raises StoreDamaged."""
        for name, addresses, made, request, sealed in old.rows(
            "SELECT name, addresses, made, request, sealed FROM requests"
        ):
            mine = self._vault.resealed(bytes(sealed), _context(name), key)
            self._store.write(
                "INSERT INTO requests VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                name,
                addresses,
                made,
                request,
                mine,
            )

    def fulfilled(self, certificate: bytes) -> None:
        """Forget the request for this certificate (DER): its key is stored beside it in this transaction."""
        self._store.write("DELETE FROM requests WHERE name = ?", key_name_in(certificate))


def _request(row: tuple[str, str, str, bytes]) -> Request:
    name, addresses, made, octets = row
    return Request(name, tuple(addresses.split(" ")), stored_moment(made), request_pem(bytes(octets)))


def _context(key: str) -> bytes:
    return b"certificate request " + key.encode("ascii")
