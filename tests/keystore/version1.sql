-- A keystore as schema version 1 left it (sqlite3 .dump, with the two pragmas that name it).
PRAGMA application_id = 1397575729;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE addresses (
        address TEXT NOT NULL,
        certificate TEXT NOT NULL REFERENCES certificates (fingerprint) ON DELETE CASCADE,
        PRIMARY KEY (address, certificate)
    ) STRICT, WITHOUT ROWID;
INSERT INTO "addresses" VALUES('alice@example.org','0123456789ABCDEF0123456789ABCDEF01234567');
CREATE TABLE certificates (
        fingerprint TEXT PRIMARY KEY,
        octets BLOB NOT NULL,
        trust TEXT NOT NULL,
        source TEXT NOT NULL,
        added TEXT NOT NULL
    ) STRICT;
INSERT INTO "certificates" VALUES('0123456789ABCDEF0123456789ABCDEF01234567',X'6F6374657473','verified','a test','2026-11-21T12:00:00+00:00');
CREATE TABLE facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
INSERT INTO "facts" VALUES('name',X'76616C7565');
CREATE TABLE keys (
        key_id TEXT NOT NULL,
        fingerprint TEXT NOT NULL,
        certificate TEXT NOT NULL REFERENCES certificates (fingerprint) ON DELETE CASCADE,
        PRIMARY KEY (key_id, fingerprint, certificate)
    ) STRICT, WITHOUT ROWID;
INSERT INTO "keys" VALUES('89ABCDEF01234567','0123456789ABCDEF0123456789ABCDEF01234567','0123456789ABCDEF0123456789ABCDEF01234567');
CREATE TABLE peers (
        address TEXT PRIMARY KEY,
        seen TEXT NOT NULL,
        encrypted TEXT,
        signer TEXT
    ) STRICT;
INSERT INTO "peers" VALUES('bob@example.org','2026-11-21T12:00:00+00:00',NULL,NULL);
CREATE TABLE secret_keys (
        certificate TEXT PRIMARY KEY REFERENCES certificates (fingerprint) ON DELETE CASCADE,
        holder TEXT NOT NULL,
        wrapped BLOB,
        CHECK ((holder = 'own') = (wrapped IS NOT NULL))
    ) STRICT;
INSERT INTO "secret_keys" VALUES('0123456789ABCDEF0123456789ABCDEF01234567','own',X'77726170706564');
CREATE INDEX addresses_by_certificate ON addresses (certificate);
CREATE INDEX keys_by_certificate ON keys (certificate);
COMMIT;
