"""How messages name the X.509 certificates of a store, and which of those are authorities', to find them by.

Each is read once, when it is stored, or at the first question after. So a question costs the same however
many correspondents have been collected.
"""

from __future__ import annotations

from collections.abc import Iterable

from keystore import smime
from keystore.model import Fingerprint, Trust
from keystore.store import CERTIFICATE, Store, StoredCertificate, certificate_of

_PENDING = "SELECT fingerprint, octets FROM certificates WHERE scheme = 'smime' AND indexed = 0"
_OLDEST_FIRST = "ORDER BY c.added, c.fingerprint"
_OWN_FIRST = "ORDER BY CASE WHEN s.holder IS NULL THEN 1 ELSE 0 END, c.added, c.fingerprint"
_BY_NAME = f"{CERTIFICATE} JOIN x509_names n ON n.certificate = c.fingerprint"
_NAMED = f"{_BY_NAME} WHERE n.name = ? {_OWN_FIRST}"
_OF_SERIAL = f"{_BY_NAME} WHERE n.serial = ? {_OWN_FIRST}"
_AUTHORITIES = (
    f"{CERTIFICATE} JOIN x509 x ON x.certificate = c.fingerprint WHERE x.authority = 1 {_OLDEST_FIRST}"
)
_OF_PEOPLE = """
    SELECT c.octets FROM certificates c JOIN x509 x ON x.certificate = c.fingerprint
    WHERE x.authority = 0 AND c.trust <> ? ORDER BY c.added, c.fingerprint
"""
_VERIFIED = """
    SELECT c.octets FROM certificates c JOIN x509 x ON x.certificate = c.fingerprint
    WHERE x.authority = 0 AND c.trust = 'verified' AND c.scheme = 'smime'
"""


class X509Table:
    """The tables `x509` and `x509_names` of one store. Errors as in `Store`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._complete_at: tuple[int, int] | None = None

    def add(self, fingerprint: Fingerprint, der: bytes) -> None:
        """Enter a certificate that is stored already."""
        with self._store.transaction():
            self._store.write("DELETE FROM x509_names WHERE certificate = ?", fingerprint)
            self._store.write(
                "INSERT INTO x509 VALUES (?, ?) ON CONFLICT (certificate)"
                " DO UPDATE SET authority = excluded.authority",
                fingerprint,
                int(smime.facts(der).is_authority),
            )
            for name in dict.fromkeys(smime.names_in_messages(der)):
                serial = smime.serial_number(name)
                written = None if serial is None else str(serial)
                self._store.write("INSERT INTO x509_names VALUES (?, ?, ?)", name, written, fingerprint)
            self._store.write("UPDATE certificates SET indexed = 1 WHERE fingerprint = ?", fingerprint)

    def named(self, name: bytes) -> list[StoredCertificate]:
        """Return what messages call so (DER), own ones first, to the octet."""
        return self._found(_NAMED, name)

    def of_serial(self, serial: int) -> list[StoredCertificate]:
        """Return what has this serial number, own ones first."""
        return self._found(_OF_SERIAL, str(serial))

    def authorities(self) -> list[StoredCertificate]:
        """Return the certificates of authorities, oldest first."""
        return self._found(_AUTHORITIES)

    def verified(self) -> Iterable[bytes]:
        """Return the certificates (DER) of people that the owner has verified."""
        self._complete()
        return (bytes(row[0]) for row in self._store.rows(_VERIFIED))

    def of_people(self) -> list[bytes]:
        """Return the certificates (DER) of people that are not rejected, oldest first."""
        self._complete()
        return [bytes(row[0]) for row in self._store.rows(_OF_PEOPLE, Trust.REJECTED.value)]

    def _found(self, query: str, *values: object) -> list[StoredCertificate]:
        self._complete()
        return [certificate_of(row) for row in self._store.rows(query, *values)]

    def _complete(self) -> None:
        version = self._store.version()
        if version == self._complete_at:
            return
        # Of former versions, or stored by somebody who has not entered them.
        if self._store.rows(f"{_PENDING} LIMIT 1"):
            with self._store.transaction():
                for fingerprint, der in self._store.rows(_PENDING):
                    self.add(fingerprint, der)
        self._complete_at = version
