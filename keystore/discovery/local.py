"""The sources that ask nobody: the public ring of the user's GnuPG, and a folder of files.

Security: gpg is run so that it asks no server (`keystore.gnupg`); nothing here opens a connection.
"""

from __future__ import annotations

import asyncio
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from keystore import openpgp
from keystore.discovery.keyfile import MOST_OCTETS, Offers, offers_in
from keystore.discovery.model import Offer, SourceFailed, SourceKind
from keystore.errors import KeyRefused, StoreLocked
from keystore.gnupg import Gnupg
from keystore.model import lower_case

_THREADS = ThreadPoolExecutor(4, "keys")
"""Of their own: a disk or a gpg that does not answer holds up searches, and nothing else in a thread."""
Result = TypeVar("Result")
MOST_FILES = 10_000
"""In a folder; those beyond, by name, are passed over."""


async def _aside(work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work)


class GnupgRing:
    """The source "gnupg"."""

    kind = SourceKind.GNUPG

    def __init__(self, gnupg: Gnupg) -> None:
        """Nothing runs yet."""
        self._gnupg = gnupg

    async def find(self, address: str) -> Sequence[Offer]:
        """As `Source`; what the ring holds for the address, in any case."""
        try:
            octets = await _aside(lambda: self._gnupg.claiming(address))
            keys = openpgp.parse_keys(octets) if octets else ()
        except (StoreLocked, KeyRefused) as error:
            raise SourceFailed(str(error)) from None
        return [Offer(one.certificate_octets, "GnuPG") for one in keys]


class Folder:
    """The source "folder". Files that have changed are read again; those in folders below are not read."""

    kind = SourceKind.FOLDER

    def __init__(self, folder: Path) -> None:
        """Nothing is read yet."""
        self._folder = folder
        self._lock = threading.Lock()
        self._read: dict[str, tuple[tuple[int, int], Offers]] = {}

    async def find(self, address: str) -> Sequence[Offer]:
        """As `Source`."""
        return await _aside(lambda: self._find(lower_case(address)))

    def _find(self, address: str) -> list[Offer]:
        try:
            with self._lock:
                return [offer for offers in self._files() for offer in offers.get(address, ())]
        except OSError as error:
            raise SourceFailed(f"the folder {self._folder} cannot be read: {error.strerror}") from None

    def _files(self) -> Iterator[Offers]:
        there = sorted(one for one in self._folder.iterdir() if not one.name.startswith("."))[:MOST_FILES]
        for name in self._read.keys() - {one.name for one in there}:
            del self._read[name]
        for path in there:
            state = path.stat()
            if not stat.S_ISREG(state.st_mode) or state.st_size > MOST_OCTETS:
                continue
            mark = (state.st_mtime_ns, state.st_size)
            known = self._read.get(path.name)
            if known is None or known[0] != mark:
                known = self._read[path.name] = (mark, offers_in(path.read_bytes(), path.name))
            yield known[1]
