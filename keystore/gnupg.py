"""A user's GnuPG: a source of certificates, and a reader of ciphers that are not ours.

Listing and export go through python-gnupg. Secret keys are the agent's (`keystore.agent`). Where the session
key of a message is known and its cipher is not ours, gpg decrypts, with a status descriptor of its own, so
that nothing a message holds can pass for a status line. `gpg.conf` is not read.

Security: content counts only with DECRYPTION_OKAY, integrity protection and exit status 0, since gpg writes
plaintext before it fails. No passphrase passes through here. python-gnupg's log is silenced, for it repeats
what it reads. This is the only importer of `gnupg`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keystore.agent import ANSWER_SECONDS, Agent, time_of_its_own
from keystore.domainnames import written
from keystore.errors import KeyRefused, NotReadable, StoreLocked
from keystore.model import Fingerprint

_OPTIONS = (
    "--no-options",
    "--batch",
    "--no-tty",
    "--no-auto-key-locate",
    "--no-auto-key-retrieve",
)
_ENDED_BY_OTHERS = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM})
"""A terminal, a supervisor, the system when memory runs out; a crash of gpg is not among them."""

_STATUS_PREFIX = b"[GNUPG:] "
_MAX_STATUS = 1024 * 1024


class GnupgAbsent(StoreLocked):
    """There is no gpg on this machine."""


@dataclass(frozen=True, slots=True)
class GnupgKey:
    """A key in the public ring; `secret` when the agent or a card has its secret half, whole or in part."""

    fingerprint: Fingerprint
    user_ids: tuple[str, ...]
    secret: bool


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one run of gpg left: its output, its status lines as (keyword, words), its exit status."""

    octets: bytes
    status: tuple[tuple[str, tuple[str, ...]], ...]
    code: int

    def has(self, *keywords: str) -> bool:
        return any(found in keywords for found, _ in self.status)


class Gnupg:
    """One GnuPG home. Every method raises StoreLocked when gpg does not answer."""

    def __init__(self, home: Path | None = None, *, seconds: float = ANSWER_SECONDS) -> None:
        """`home` None means GnuPG's own default. Nothing runs yet."""
        self._home = home
        self._seconds = seconds
        self.agent = Agent(home, seconds=seconds)

    # -- source of certificates

    def ring(self) -> list[GnupgKey]:
        """Return every key of the public ring."""
        ring = self._library()
        held = {entry["fingerprint"] for entry in ring.list_keys(secret=True) if _reachable(entry)}
        return [
            GnupgKey(
                fingerprint=Fingerprint(entry["fingerprint"]),
                user_ids=tuple(entry["uids"]),
                secret=entry["fingerprint"] in held,
            )
            for entry in ring.list_keys()
        ]

    def export(self, fingerprint: Fingerprint) -> bytes:
        """Return a certificate, binary; KeyRefused when the ring does not have it."""
        octets: bytes = self._library().export_keys(fingerprint, armor=False)
        if not octets:
            raise KeyRefused(f"GnuPG has no certificate {fingerprint}")
        return octets

    def claiming(self, address: str) -> bytes:
        """Return the certificates of the public ring with a user ID of this address, binary, in one piece.

        Nothing when there are none.
        """
        local, at, domain = address.rpartition("@")
        # The ring has it as its owner wrote it.
        forms = dict.fromkeys((f"<{address}>", f"<{local}{at}{written(domain)}>"))
        done = self._started(["--export", *forms], b"")
        if done.returncode:
            raise StoreLocked(f"GnuPG cannot read the ring in its home {self._home or '~/.gnupg'}")
        return done.stdout

    def _library(self) -> Any:
        import gnupg

        logging.getLogger("gnupg").disabled = True
        try:
            ring = gnupg.GPG(
                gnupghome=str(self._home) if self._home else None,
                options=["--no-options"],
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                encoding="utf-8",
            )
        except OSError as error:
            raise GnupgAbsent("GnuPG is not installed, or gpg is not on PATH") from error
        except ValueError as error:
            raise StoreLocked(f"GnuPG cannot use its home {self._home or '~/.gnupg'}") from error
        ring.decode_errors = "replace"
        return ring

    # -- ciphers that are not ours

    def unwrap(self, ciphertext: bytes, session_key: str) -> bytes:
        """Return the OpenPGP message inside the encryption layer (compressed, signed or literal packets).

        For kinds of encryption that are not read in this process; `session_key` is "cipher:key" (number,
        hexadecimal), and no secret key is needed. NotReadable: damaged, or without integrity protection.
        """
        with _handed_over(session_key) as descriptor:
            words = ["--override-session-key-fd", str(descriptor), "--unwrap", "--decrypt"]
            outcome = self._run(words, ciphertext, descriptor)
        _demand_decrypted(outcome)
        return outcome.octets

    def _run(self, words: Sequence[str], octets: bytes, reads: int) -> _Outcome:
        with _Status() as status:
            words = ["--status-fd", str(status.descriptor), *words]
            done = self._started(words, octets, (status.descriptor, reads))
        return _Outcome(done.stdout or b"", _status_lines(bytes(status.octets)), done.returncode)

    def _started(
        self, words: Sequence[str], octets: bytes, descriptors: Sequence[int] = ()
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            done = self._ran(words, octets, descriptors)
        except FileNotFoundError as error:
            raise GnupgAbsent("GnuPG is not installed, or gpg is not on PATH") from error
        except OSError as error:
            raise StoreLocked(f"gpg cannot be started: {error.strerror}") from error
        if -done.returncode in _ENDED_BY_OTHERS:
            # What it has said until then, or not, is no property of the message.
            raise StoreLocked("gpg was ended before it was done; try again")
        return done

    def _ran(
        self, words: Sequence[str], octets: bytes, descriptors: Sequence[int]
    ) -> subprocess.CompletedProcess[bytes]:
        home = ("--homedir", str(self._home)) if self._home else ()
        try:
            with time_of_its_own():
                return subprocess.run(
                    ["gpg", *_OPTIONS, *home, *words],
                    input=octets,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    pass_fds=descriptors,
                    timeout=self._seconds,
                    env={**os.environ, "LC_ALL": "C.UTF-8"},
                    check=False,
                )
        except subprocess.TimeoutExpired:
            # From None: the exception holds gpg's output.
            raise StoreLocked(f"gpg did not answer within {self._seconds:.0f} seconds") from None


@contextlib.contextmanager
def _handed_over(secret: str) -> Iterator[int]:
    """A descriptor from which gpg reads one line, so that no argument list holds it."""
    reading, writing = os.pipe()
    try:
        with open(writing, "w", encoding="ascii") as pipe:
            pipe.write(f"{secret}\n")
        yield reading
    finally:
        os.close(reading)


class _Status:
    """A pipe for status lines, read by a thread. Raises StoreLocked or OSError where there is no room."""

    def __init__(self) -> None:
        self.octets = bytearray()
        reading, self.descriptor = os.pipe()
        self._listener = threading.Thread(target=_listen, args=(reading, self.octets), daemon=True)
        try:
            self._listener.start()
        except RuntimeError as error:
            os.close(reading)
            os.close(self.descriptor)
            raise StoreLocked("gpg cannot be started: there are too many threads") from error

    def __enter__(self) -> _Status:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)
        self._listener.join()


def _listen(descriptor: int, status: bytearray) -> None:
    with open(descriptor, "rb", buffering=0) as pipe:
        while piece := pipe.read(65536):
            # Beyond the limit the rest is drained, so that gpg does not block, and the run counts as failed.
            if len(status) <= _MAX_STATUS:
                status += piece


def _status_lines(status: bytes) -> tuple[tuple[str, tuple[str, ...]], ...]:
    lines = []
    for line in status.split(b"\n"):
        if line.startswith(_STATUS_PREFIX):
            keyword, *words = line.removeprefix(_STATUS_PREFIX).decode("utf-8", "replace").split(" ")
            lines.append((keyword, tuple(words)))
    return tuple(lines)


def _demand_decrypted(outcome: _Outcome) -> None:
    """Return when the whole message was decrypted and its integrity proven; raise otherwise."""
    failed = outcome.has("DECRYPTION_FAILED", "BADMDC", "DECRYPTION_COMPLIANCE_FAILED")
    # GOODMDC is said of AEAD too. DECRYPTION_INFO does not tell: gpg 2.2 gives "0 9 0" for EAX.
    proven = outcome.has("DECRYPTION_OKAY") and outcome.has("GOODMDC")
    if outcome.code != 0 or not proven or failed:
        raise NotReadable("the message is damaged, or its integrity is not protected", reason="damaged")


def _reachable(entry: dict[str, Any]) -> bool:
    # Field 15: "#" is a stub without secret; "+" is in the agent; else a card's serial number.
    tokens = [
        entry.get("token", ""),
        *(sub.get("token", "") for sub in entry.get("subkey_info", {}).values()),
    ]
    return any(token not in {"#", ""} for token in tokens)
