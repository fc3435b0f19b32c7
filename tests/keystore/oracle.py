"""GnuPG at any time of day: keys made and edited in the past, and gpg's own opinion of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from tests.fixtures.gnupg import GnuPG
from tests.fixtures.processes import service_folder


@dataclass(frozen=True)
class Oracle(GnuPG):
    """A GnuPG home in which every call names its time."""

    def at(self, when: datetime, *words: str, data: bytes = b"", check: bool = True) -> bytes:
        """Run gpg with its clock standing at `when`; its standard output."""
        clock = f"--faked-system-time={when:%Y%m%dT%H%M%S}!"
        return self.run(clock, *words, data=data, check=check).stdout

    def edit(self, when: datetime, fingerprint: str, *answers: str) -> None:
        """Answer the questions of `gpg --edit-key`, one word each."""
        clock = f"--faked-system-time={when:%Y%m%dT%H%M%S}!"
        lines = "".join(f"{answer}\n" for answer in answers).encode()
        self.run(clock, "--expert", "--command-fd=0", "--edit-key", fingerprint, data=lines)

    def fingerprints(self, query: str) -> list[str]:
        """Fingerprints of the primary key and the subkeys, in their order."""
        listing = self.run("--with-colons", "--with-subkey-fingerprint", "--list-keys", query).stdout.decode()
        return [line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr")]

    def binary(self, query: str) -> bytes:
        """The certificate, binary."""
        return self.run("--export", query).stdout

    def binary_secret(self, query: str, *, subkeys_only: bool = False) -> bytes:
        """The secret key, binary."""
        command = "--export-secret-subkeys" if subkeys_only else "--export-secret-keys"
        return self.run(command, query).stdout

    def encrypts(self, when: datetime, fingerprint: str) -> bytes | None:
        """What gpg encrypts to this certificate at `when`, or None when it refuses."""
        clock = f"--faked-system-time={when:%Y%m%dT%H%M%S}!"
        done = self.run(clock, "--encrypt", "--recipient", fingerprint, data=b"?", check=False)
        return done.stdout if done.returncode == 0 else None

    def says(self, octets: bytes, signature: bytes, when: datetime) -> str:
        """gpg's status lines on a detached signature."""
        with service_folder("verify") as folder:
            (folder / "octets").write_bytes(octets)
            clock = f"--faked-system-time={when:%Y%m%dT%H%M%S}!"
            words = ["--verify", "-", str(folder / "octets")]
            return self.run(clock, *words, data=signature, check=False).stderr.decode(errors="replace")


@contextlib.contextmanager
def oracle(passphrase: str = "") -> Iterator[Oracle]:
    """A new home, and no agent left afterwards."""
    with service_folder("oracle") as folder:
        folder.chmod(0o700)
        # The agent would otherwise spend 0.1 s and more on each use of a passphrase.
        (folder / "gpg-agent.conf").write_text("s2k-count 65536\n")
        gpg = Oracle(folder, passphrase)
        try:
            yield gpg
        finally:
            gpg.end()
