"""The tables of the keystore's database, and how older ones become them.

    certificates   one row for each certificate, with its scheme and what the owner thinks of it
    addresses      the addr-specs of its user IDs, lower case
    keys           its primary key and subkeys, to find a certificate by an issuer or recipient
    secret_keys    which holder has its secret half; for our own, the wrapped octets
    capabilities   what the program of an S/MIME certificate's owner last said that it reads
    revocations    lists of revoked certificates, by the address where they are
    peers          what was seen of a correspondent
    held           certificates that are not used for an address, for it has another one (`holding`)
    introducers    certificates whose word the owner takes for others' (`introducers`)
    lookups        what each source last answered when it was asked for an address's certificates
    x509           which certificates of S/MIME are authorities', and
    x509_names     how messages name each
    autocrypt      what mail has said of certificates by Autocrypt, by the address that they are of
    requests       own S/MIME keys, sealed, that wait for their certificate
    changes        the number of changes of what is remembered in memory (`Store.version`), in one row
    facts          single values: the check value of the keystore key

A table is never changed where it stands: `MIGRATIONS` grows at its end. What may be written in it says
`keystore.database`.
"""

from keystore.database import Tables

APPLICATION_ID = 0x534D5031
MIGRATIONS = (
    """
    CREATE TABLE certificates (
        fingerprint TEXT PRIMARY KEY,
        octets BLOB NOT NULL,
        trust TEXT NOT NULL,
        source TEXT NOT NULL,
        added TEXT NOT NULL
    ) STRICT;
    CREATE TABLE addresses (
        address TEXT NOT NULL,
        certificate TEXT NOT NULL REFERENCES certificates (fingerprint) ON DELETE CASCADE,
        PRIMARY KEY (address, certificate)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX addresses_by_certificate ON addresses (certificate);
    CREATE TABLE keys (
        key_id TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        certificate TEXT NOT NULL REFERENCES certificates (fingerprint) ON DELETE CASCADE,
        PRIMARY KEY (key_id, fingerprint, certificate)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX keys_by_certificate ON keys (certificate);
    CREATE TABLE secret_keys (
        certificate TEXT PRIMARY KEY REFERENCES certificates (fingerprint) ON DELETE CASCADE,
        holder TEXT NOT NULL,
        wrapped BLOB,
        CHECK ((holder = 'own') = (wrapped IS NOT NULL))
    ) STRICT;
    CREATE TABLE peers (
        address TEXT PRIMARY KEY,
        seen TEXT NOT NULL,
        encrypted TEXT,
        signer TEXT
    ) STRICT;
    CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
    """,
    "ALTER TABLE certificates ADD COLUMN scheme TEXT NOT NULL DEFAULT 'openpgp'",
    """
    CREATE TABLE capabilities (
        certificate TEXT PRIMARY KEY REFERENCES certificates (fingerprint) ON DELETE CASCADE,
        octets BLOB NOT NULL,
        stated TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE revocations (
        address TEXT PRIMARY KEY,
        tried TEXT NOT NULL,
        failure TEXT NOT NULL,
        octets BLOB,
        authority TEXT,
        this_update TEXT,
        next_update TEXT,
        CHECK ((octets IS NULL) = (authority IS NULL)),
        CHECK ((octets IS NULL) = (this_update IS NULL)),
        CHECK ((octets IS NULL) = (next_update IS NULL))
    ) STRICT
    """,
    """
    CREATE TABLE lookups (
        address TEXT NOT NULL,
        source TEXT NOT NULL,
        asked TEXT NOT NULL,
        until TEXT NOT NULL,
        failure TEXT NOT NULL,
        given TEXT NOT NULL,
        PRIMARY KEY (address, source)
    ) STRICT;
    CREATE INDEX lookups_by_end ON lookups (until)
    """,
    """
    CREATE TABLE x509 (
        certificate TEXT PRIMARY KEY REFERENCES certificates (fingerprint) ON DELETE CASCADE,
        authority INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE x509_names (
        name BLOB NOT NULL,
        serial TEXT,
        certificate TEXT NOT NULL REFERENCES certificates (fingerprint) ON DELETE CASCADE,
        PRIMARY KEY (name, certificate)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX x509_names_by_serial ON x509_names (serial);
    CREATE INDEX x509_names_by_certificate ON x509_names (certificate);
    CREATE INDEX x509_authorities ON x509 (certificate) WHERE authority = 1;
    CREATE INDEX certificates_by_trust ON certificates (trust);
    ALTER TABLE certificates ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX certificates_to_index ON certificates (fingerprint) WHERE scheme = 'smime' AND indexed = 0
    """,
    # Nothing was ever written to the peers of before.
    """
    DROP TABLE peers;
    CREATE TABLE peers (
        address TEXT PRIMARY KEY,
        first_seen TEXT NOT NULL,
        last_seen TEXT NOT NULL,
        count INTEGER NOT NULL,
        written TEXT,
        encrypted TEXT,
        signer TEXT
    ) STRICT;
    CREATE TABLE held (
        address TEXT NOT NULL,
        certificate TEXT NOT NULL REFERENCES certificates (fingerprint) ON DELETE CASCADE,
        since TEXT NOT NULL,
        source TEXT NOT NULL,
        settled TEXT,
        PRIMARY KEY (address, certificate)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX held_by_certificate ON held (certificate)
    """,
    """
    CREATE TABLE autocrypt (
        address TEXT PRIMARY KEY,
        last_seen TEXT,
        autocrypt_timestamp TEXT,
        certificate TEXT,
        mutual INTEGER NOT NULL,
        gossip_timestamp TEXT,
        gossip_certificate TEXT
    ) STRICT
    """,
    """
    CREATE TABLE requests (
        name TEXT PRIMARY KEY,
        addresses TEXT NOT NULL,
        made TEXT NOT NULL,
        request BLOB NOT NULL,
        sealed BLOB NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE introducers (
        certificate TEXT PRIMARY KEY REFERENCES certificates (fingerprint) ON DELETE CASCADE,
        domains TEXT NOT NULL,
        since TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE changes (number INTEGER NOT NULL) STRICT;
    INSERT INTO changes VALUES (0)
    """,
)
"""Statements that lead from version n to n + 1."""

TABLES = Tables("secmailproxy_keystore", "keystore", MIGRATIONS, APPLICATION_ID)
