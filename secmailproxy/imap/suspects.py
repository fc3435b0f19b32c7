"""Which messages this process was opening when it ended: they are opened in a process of their own next time.

A message that ends the process that opens it would otherwise do so again after every start, since mail
clients ask again. What stands in the files are hashes of messages as the server has them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from secmailproxy.errors import ConfigError
from secmailproxy.folders import make_private, write_privately

_HASH = 32
"""Octets of one hash."""
_LEFT = "left"


class Suspects:
    """Kept in a folder that one process at a time uses."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError where the folder cannot be used."""
        make_private(folder)
        self._folder = folder
        self._left: set[bytes] = set()
        try:
            former = list(folder.iterdir())
            for path in former:
                octets = path.read_bytes()
                # The end of a file may be missing; half of a hash is none.
                self._left |= {octets[at : at + _HASH] for at in range(0, len(octets) - _HASH + 1, _HASH)}
            self._write()
            for path in former:
                if path.name != _LEFT:
                    path.unlink()
        except OSError as error:
            raise ConfigError(
                f"Cannot use {error.filename}: {error.strerror}. Delete what is in {folder}."
            ) from None

    def __contains__(self, one: bytes) -> bool:
        """Whether the message with this hash was being opened when a former process ended."""
        return one in self._left

    @contextmanager
    def opening(self, hashes: Iterable[bytes]) -> Iterator[None]:
        """For as long as the block lasts, these messages would be to blame. May raise OSError."""
        path = self._folder / secrets.token_hex(8)
        # Not flushed to the disk: the process may end, and the machine is not meant.
        try:
            path.write_bytes(b"".join(hashes))
            yield
        finally:
            path.unlink(missing_ok=True)

    def cleared(self, one: bytes) -> None:
        """The message was opened, or it is known that it cannot be."""
        if one in self._left:
            self._left.discard(one)
            self._write()

    def _write(self) -> None:
        if self._left:
            write_privately(self._folder / _LEFT, b"".join(sorted(self._left)))
        else:
            (self._folder / _LEFT).unlink(missing_ok=True)
