"""A user's GnuPG: a source of certificates, and the holder of secret keys that stay in its agent or card.

Listing and export go through python-gnupg; signing and decrypting run gpg with a status descriptor of its
own, so that nothing a message holds can pass for a status line. `gpg.conf` is not read: a recipient, a signer
or a weaker rule in it would change what we decided.

Security: a session key or content counts only with DECRYPTION_OKAY, integrity protection and exit status 0,
since gpg writes plaintext before it fails. Plaintext on gpg's output is thrown away unread. No passphrase
passes through here; the agent asks. python-gnupg's log is silenced, for it repeats what it reads.
This is the only importer of `gnupg`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keystore.errors import KeyRefused, NotReadable, StoreLocked
from keystore.model import DetachedSignature, Fingerprint

_ANSWER_SECONDS = 60.0
"""How long gpg may take, which includes a person who types a passphrase."""

_OPTIONS = (
    "--no-options",
    "--batch",
    "--no-tty",
    "--no-auto-key-locate",
    "--no-auto-key-retrieve",
)
_DIGESTS = {2: "sha1", 3: "ripemd160", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224"}
"""Hash algorithm IDs (RFC 9580 section 9.5) to the names in micalg (RFC 3156 section 5)."""

_DAMAGE_CODES = frozenset({4, 9, 10, 18, 19, 30, 38, 41, 79, 82, 89, 125})
"""libgpg-error codes (err-codes.h) that blame the message; others may blame the agent, card or person."""

_CANCELLED = frozenset({99, 198})
"""The codes that say that a person has cancelled a prompt."""

_ENDED_BY_OTHERS = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM})
"""A terminal, a supervisor, the system when memory runs out; a crash of gpg is not among them."""

_STATUS_PREFIX = b"[GNUPG:] "
_MAX_STATUS = 1024 * 1024


class HolderInDoubt(StoreLocked):
    """gpg did not open a message, and its error does not tell whether message or holder is at fault."""


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

    def all(self, keyword: str) -> list[tuple[str, ...]]:
        return [words for found, words in self.status if found == keyword]

    def has(self, *keywords: str) -> bool:
        return any(found in keywords for found, _ in self.status)

    def error_codes(self) -> list[int]:
        # "ERROR <location> <code>" and "FAILURE <location> <code>"; the upper half names the source.
        lines = [*self.all("ERROR"), *self.all("FAILURE")]
        return [int(words[1]) & 0xFFFF for words in lines if len(words) > 1 and words[1].isdigit()]


class Gnupg:
    """One GnuPG home. Every method raises StoreLocked when gpg, its agent, card or person does not answer."""

    def __init__(self, home: Path | None = None, *, seconds: float = _ANSWER_SECONDS) -> None:
        """`home` None means GnuPG's own default. Nothing runs yet."""
        self._home = home
        self._seconds = seconds

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
            raise StoreLocked("GnuPG is not installed, or gpg is not on PATH") from error
        except ValueError as error:
            raise StoreLocked(f"GnuPG cannot use its home {self._home or '~/.gnupg'}") from error
        ring.decode_errors = "replace"
        return ring

    # -- holder of secret keys

    def sign_detached(self, key: Fingerprint, octets: bytes) -> DetachedSignature:
        """Make a binary signature with exactly the (sub)key `key`."""
        outcome = self._run(
            ["--armor", "--digest-algo", "SHA512", "--local-user", f"{key}!", "--detach-sign"], octets
        )
        return DetachedSignature(_crlf(outcome.octets), f"pgp-{_digest_made(outcome, key)}")

    def sign_and_encrypt(self, key: Fingerprint, octets: bytes, recipients: Sequence[bytes]) -> bytes:
        """Return an armored message (CRLF), signed by `key`, encrypted to the certificates `recipients`.

        Each has one encryption key only, since gpg would choose by its own rules.
        """
        words = ["--armor", "--digest-algo", "SHA512", "--cipher-algo", "AES256", "--compress-algo", "none"]
        words += ["--trust-model", "always", "--no-encrypt-to", "--local-user", f"{key}!"]
        with tempfile.TemporaryDirectory(prefix="secmailproxy-") as folder:
            for number, certificate in enumerate(recipients):
                path = Path(folder, f"{number}.pgp")
                path.write_bytes(certificate)
                words += ["--recipient-file", str(path)]
            outcome = self._run([*words, "--sign", "--encrypt"], octets)
        if outcome.has("INV_RECP"):
            raise KeyRefused("GnuPG does not accept a recipient's certificate")
        _digest_made(outcome, key)
        if not outcome.has("END_ENCRYPTION") or not outcome.octets:
            raise StoreLocked(f"GnuPG did not sign and encrypt with {key}")
        return _crlf(outcome.octets)

    def session_key(self, ciphertext: bytes, *, held: bool) -> str:
        """Return "cipher:key" (number, hexadecimal) of a message that gpg has decrypted without fault.

        `held` says that the message names a key which GnuPG is known to hold: without it now, the holder is
        absent. NotReadable: no secret key, damaged, or without integrity protection; HolderInDoubt.
        """
        words = ["--skip-verify", "--show-session-key", "--decrypt"]
        outcome = self._run(words, ciphertext, wanted=False)
        _demand_decrypted(outcome, held=held)
        found = outcome.all("SESSION_KEY")
        if len(found) != 1 or len(found[0]) != 1:
            raise NotReadable("GnuPG found several layers of encryption", reason="unsupported")
        # With AEAD gpg writes "cipher.mode:key"; the mode is in the message too.
        cipher, _, key = found[0][0].partition(":")
        return f"{cipher.partition('.')[0]}:{key}"

    def unwrap(self, ciphertext: bytes, *, held: bool, session_key: str | None = None) -> bytes:
        """Return the OpenPGP message inside the encryption layer (compressed, signed or literal packets).

        For kinds of encryption that the in-process engine does not read; raises as `session_key` does. With
        `session_key` ("cipher:key") no secret key is needed.
        """
        if session_key is None:
            outcome = self._run(["--unwrap", "--decrypt"], ciphertext)
        else:
            with _handed_over(session_key) as descriptor:
                words = ["--override-session-key-fd", str(descriptor), "--unwrap", "--decrypt"]
                outcome = self._run(words, ciphertext, reads=(descriptor,))
        _demand_decrypted(outcome, held=held)
        return outcome.octets

    def _run(
        self, words: Sequence[str], octets: bytes, *, wanted: bool = True, reads: tuple[int, ...] = ()
    ) -> _Outcome:
        """Run gpg; with `wanted` False its output goes to the null device. `reads` are descriptors for it."""
        try:
            with _Status() as status:
                done = self._ran(words, octets, (status.descriptor, *reads), wanted=wanted)
        except FileNotFoundError as error:
            raise StoreLocked("GnuPG is not installed, or gpg is not on PATH") from error
        except OSError as error:
            raise StoreLocked(f"gpg cannot be started: {error.strerror}") from error
        if -done.returncode in _ENDED_BY_OTHERS:
            # What it has said until then, or not, is no property of the message.
            raise StoreLocked("gpg was ended before it was done; try again")
        return _Outcome(done.stdout or b"", _status_lines(bytes(status.octets)), done.returncode)

    def _ran(
        self, words: Sequence[str], octets: bytes, descriptors: tuple[int, ...], *, wanted: bool
    ) -> subprocess.CompletedProcess[bytes]:
        home = ("--homedir", str(self._home)) if self._home else ()
        try:
            with _time_of_its_own():
                return subprocess.run(
                    ["gpg", *_OPTIONS, *home, "--status-fd", str(descriptors[0]), *words],
                    input=octets,
                    stdout=subprocess.PIPE if wanted else subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=descriptors,
                    timeout=self._seconds,
                    env={**os.environ, "LC_ALL": "C.UTF-8"},
                    check=False,
                )
        except subprocess.TimeoutExpired:
            # From None: the exception holds gpg's output.
            raise StoreLocked(
                f"GnuPG did not answer within {self._seconds:.0f} seconds; is a passphrase prompt waiting?"
            ) from None


@contextlib.contextmanager
def _time_of_its_own() -> Iterator[None]:
    """What is started in the block may outlive what this process has of the processor for one message.

    gpg starts its agent where none runs; it keeps passphrases for hours, and would have had the same bound.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if soft == hard:
        yield
        return
    resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


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


def _demand_decrypted(outcome: _Outcome, *, held: bool) -> None:
    """Return when the whole message was decrypted and its integrity proven; raise otherwise."""
    failed = outcome.has("DECRYPTION_FAILED", "BADMDC", "DECRYPTION_COMPLIANCE_FAILED")
    # GOODMDC is said of AEAD too. DECRYPTION_INFO does not tell: gpg 2.2 gives "0 9 0" for EAX.
    proven = outcome.has("DECRYPTION_OKAY") and outcome.has("GOODMDC")
    if outcome.code == 0 and proven and not failed:
        return
    if outcome.has("DECRYPTION_INFO"):
        # The session key was right, so it is the message's fault.
        raise NotReadable("the message is damaged, or its integrity is not protected", reason="damaged")
    refusals = [code for code in outcome.error_codes() if code not in _DAMAGE_CODES]
    if outcome.all("ERROR") and refusals:
        raise (StoreLocked if _CANCELLED.intersection(refusals) else HolderInDoubt)(
            "GnuPG holds the key for this message but did not use it: the agent is locked, a passphrase "
            "prompt was cancelled, or the card is absent"
        )
    if outcome.has("NO_SECKEY") and not outcome.all("ERROR"):
        if held:
            raise HolderInDoubt(
                "GnuPG's secret key for this message is not reachable: is its agent or card absent?"
            )
        raise NotReadable("GnuPG has no secret key for this message", reason="no-secret-key")
    raise NotReadable("GnuPG cannot read the message", reason="damaged")


def _digest_made(outcome: _Outcome, key: Fingerprint) -> str:
    """Return the digest's name of the one signature that `key` made; raise when it was not made."""
    made = outcome.all("SIG_CREATED")
    # "SIG_CREATED <type> <key algorithm> <hash algorithm> <class> <time> <fingerprint>"
    right = len(made) == 1 and len(made[0]) == 6 and made[0][5] == key
    if outcome.code != 0 or not right or not outcome.octets:
        raise StoreLocked(
            f"GnuPG did not sign with the key {key}: the agent is locked, a passphrase prompt was cancelled, "
            "or the card is absent"
        )
    digest = _DIGESTS.get(int(made[0][2]))
    if digest is None:
        raise KeyRefused(f"GnuPG signed with a digest that mail has no name for (algorithm {made[0][2]})")
    return digest


def _reachable(entry: dict[str, Any]) -> bool:
    # Field 15: "#" is a stub without secret; "+" is in the agent; else a card's serial number.
    tokens = [
        entry.get("token", ""),
        *(sub.get("token", "") for sub in entry.get("subkey_info", {}).values()),
    ]
    return any(token not in {"#", ""} for token in tokens)


def _crlf(octets: bytes) -> bytes:
    return b"".join(line.rstrip(b"\r\n") + b"\r\n" for line in octets.splitlines())
