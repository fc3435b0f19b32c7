"""The authorities that vouch for S/MIME certificates unasked: the platform's, and those that are named.

They are read when mail first asks for them, and once for each process. Platforms choose their roots for the
web; where one keeps a list for mail apart, as Fedora and Arch Linux do, that is taken.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from keystore.errors import KeyRefused, KeystoreError

_FOR_MAIL = (
    Path("/etc/pki/ca-trust/extracted/pem/email-ca-bundle.pem"),
    Path("/etc/ca-certificates/extracted/email-ca-bundle.pem"),
)
_MOST_OCTETS = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RootSettings:
    """Which roots are believed for S/MIME."""

    files: tuple[Path, ...] = ()
    """PEM or DER: one certificate or several in each."""
    platform: bool = True


class Roots:
    """The roots of one configuration. Safe for threads."""

    def __init__(self, settings: RootSettings) -> None:
        """Nothing is read yet."""
        self._settings = settings

    @cached_property
    def all(self) -> tuple[bytes, ...]:
        """The roots (DER). Raises KeystoreError, naming the file that cannot be read."""
        found = [der for file in self._settings.files for der in read_roots(file)]
        return tuple(dict.fromkeys((*found, *self.of_platform)))

    @property
    def of_platform(self) -> tuple[bytes, ...]:
        """Those of the platform; none where it has no list or is not to be asked. Raises KeystoreError."""
        file = platform_file() if self._settings.platform else None
        return () if file is None else _authorities(file)


def platform_file() -> Path | None:
    """Where the platform keeps its roots in one file; None where it does not."""
    import ssl  # takes long to import, and many have no use for it

    paths = ssl.get_default_verify_paths()
    chosen = [] if os.environ.get(paths.openssl_cafile_env) else list(_FOR_MAIL)
    if paths.cafile is not None:
        chosen.append(Path(paths.cafile))
    return next((file for file in chosen if file.is_file()), None)


def read_roots(file: Path) -> tuple[bytes, ...]:
    """The authorities (DER) in a file that somebody has named. Raises KeystoreError, naming it."""
    found = _authorities(file)
    if not found:
        raise KeystoreError(f"{file} holds no certificate of an authority; name a file of PEM certificates")
    return found


def _authorities(file: Path) -> tuple[bytes, ...]:
    from keystore import smime  # its libraries take long to import, and many have no use for them

    try:
        with file.open("rb") as opened:
            octets = opened.read(_MOST_OCTETS + 1)
    except OSError as error:
        raise KeystoreError(f"the authorities in {file} cannot be read: {error.strerror}") from None
    if len(octets) > _MOST_OCTETS:
        raise KeystoreError(f"{file} is larger than {_MOST_OCTETS // 2**20} MiB; no list of authorities is")
    try:
        certificates = smime.read(octets, _no_passphrase).certificates
    except KeyRefused as refusal:
        raise KeystoreError(f"the authorities in {file} cannot be read: {refusal}") from None
    return tuple(one for one in certificates if _is_root(one))


def _is_root(der: bytes) -> bool:
    from keystore import smime  # as above

    try:
        found = smime.facts(der)
    except KeyRefused:
        # A platform's list may hold what this program cannot read; the others serve all the same.
        return False
    return found.is_authority or found.version == 1


def _no_passphrase() -> str:
    raise KeyRefused("it is protected by a passphrase, as no list of authorities is")
