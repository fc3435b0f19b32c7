"""Revocation certificates of own keys, one file each, apart from the database and its key.

What ends a key must be at hand when the key is not: after a loss of the keystore, of its key, of a
passphrase. So these files are not encrypted. Whoever gets hold of one can end that key, and nothing else.

Standards: RFC 9580 section 5.2.1, type 0x20 (key revocation signature).
"""

from __future__ import annotations

import os
from pathlib import Path

from keystore.errors import KeystoreError
from keystore.files import replace_file
from keystore.model import Fingerprint

FOLDER = "revocation-certificates"
_TEXT = """\
The revocation certificate of the key {fingerprint}
{user_id}

Whoever has this file can end that key for everybody, for ever. It is for the day when the key is lost or
stolen and cannot be revoked by itself. Keep a copy where you keep no copy of the key, and where nobody
else gets at it: on paper, for instance.

To use it: secmailproxy key revoke {fingerprint} --certificate THIS-FILE
Other programs import it; the colon in the next line is against accidents, and must be taken out for them.

:{armored}"""


class RevocationFiles:
    """The files of one keystore, in a folder of their own, 0700, which is made when the first one is kept."""

    def __init__(self, keystore_folder: Path) -> None:
        self.folder = keystore_folder / FOLDER

    def path(self, fingerprint: Fingerprint) -> Path:
        """Where the certificate of this key is, or would be."""
        return self.folder / f"{fingerprint}.asc"

    def keep(self, fingerprint: Fingerprint, armored: bytes, user_id: str) -> Path:
        """Write the file, which is on the disk when this returns. Raises KeystoreError."""
        text = _TEXT.format(
            fingerprint=fingerprint, user_id=user_id, armored=armored.decode("ascii").replace("\r\n", "\n")
        )
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.chmod(self.folder, 0o700)
            replace_file(self.path(fingerprint), text.encode())
        except OSError as error:
            raise KeystoreError(
                f"{self.path(fingerprint)}, the revocation certificate, cannot be written: {error.strerror}"
            ) from error
        return self.path(fingerprint)

    def read(self, fingerprint: Fingerprint) -> bytes | None:
        """The file with the colon taken out; None where there is none. Raises KeystoreError."""
        try:
            return without_colon(self.path(fingerprint).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KeystoreError(f"{self.path(fingerprint)} cannot be read: {error.strerror}") from error


def without_colon(octets: bytes) -> bytes:
    """The file with the armor as programs read it; gpg keeps its own in the same form."""
    return octets.replace(b"\n:-----BEGIN PGP", b"\n-----BEGIN PGP")
