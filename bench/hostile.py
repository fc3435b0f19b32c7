"""What the worst messages cost: processor time and memory of opening each, alone in a process of its own."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import process_time

from bench.measure import Aim, Row
from keystore.keystore import Keystore, KeystoreSettings
from keystore.secrets import SystemdSecrets
from keystore.vault import KEY_NAME
from keystore.wrap import new_key
from secmailproxy.imap.rendering import Renderer
from tests.fixtures.worst import Worst
from tests.fixtures.worst.cms import CMS
from tests.fixtures.worst.mime import MIME
from tests.fixtures.worst.pgp import Keys, pgp

SECONDS = 2.0
MEGABYTES = 256.0


def rows() -> Iterator[Row]:
    """Two rows for each message; slowest and largest last."""
    with tempfile.TemporaryDirectory(prefix="smp-bench-", dir="/tmp") as folder:
        names = json.loads(_run(folder, "--names"))
        for name in names:
            found = json.loads(_run(folder, name))
            what = f"{name}, {found['octets'] / 1024:,.0f} KiB"
            yield Row(what, "", found["seconds"], "", SECONDS, found["seconds"], "s", Aim.AT_MOST, SECONDS)
            yield Row(
                what, "", found["megabytes"], "", MEGABYTES, found["megabytes"], "MB", Aim.AT_MOST, MEGABYTES
            )


def _run(folder: str, name: str) -> str:
    argv = [sys.executable, "-m", "bench.hostile", folder, name]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        return json.dumps({"octets": 0, "seconds": float("inf"), "megabytes": float("inf")})
    return done.stdout


@contextmanager
def _store(folder: Path) -> Iterator[Keystore]:
    """A keystore with several own keys, made by the first who opens it."""
    credentials = folder / "credentials"
    if not credentials.exists():
        credentials.mkdir()
        (credentials / KEY_NAME).write_text(base64.b64encode(new_key()).decode())
    with closing(Keystore.open(KeystoreSettings(folder / "keystore"), SystemdSecrets(credentials))) as store:
        if not store.certificates("bob@example.org"):
            for kind in ("ed25519", "rsa3072", "rsa3072", "ed25519"):
                store.generate("bob@example.org", kind=kind)
            store.generate("alice@example.org", kind="ed25519")
        yield store


def worst(store: Keystore) -> dict[str, Worst]:
    """All of them."""
    own = store.certificates("bob@example.org")
    (alice,) = store.certificates("alice@example.org")
    signature = store.sign(b"something else", alice.fingerprint, datetime.now(UTC)).armored
    return {**MIME, **CMS, **pgp(Keys(tuple(one.octets for one in own), signature))}


def _peak() -> int:
    """The most memory so far, in KiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])


def main() -> None:
    """Open one message, and say what it cost."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    with _store(folder) as store:
        kinds = worst(store)
        if name == "--names":
            print(json.dumps(list(kinds)))
            return
        path = folder / "message"
        if len(sys.argv) == 3:
            # Made by a process of its own: what making it takes is not the reader's.
            subprocess.run([sys.executable, "-m", "bench.hostile", str(folder), name, "make"], check=True)
        else:
            path.write_bytes(kinds[name].make(kinds[name].most))
            return
        octets = path.read_bytes()
        now = datetime.now(UTC) + timedelta(days=1)
        renderer = Renderer(store, "Secmail-Verdict-00000000000000000000", lambda: now)
        renderer.view(b"From: a@example.org\r\n\r\n", signed=False)
        Path("/proc/self/clear_refs").write_text("5")
        before = _peak()
        began = process_time()
        view = renderer.view(octets, signed=False)
        took = process_time() - began
        after = _peak()
    verdict = (view.verdict or b"").decode("ascii", "replace")
    print(
        json.dumps(
            {
                "octets": len(octets),
                "seconds": took,
                "megabytes": (after - before) / 1024,
                "verdict": verdict.strip()[:300],
            }
        )
    )


if __name__ == "__main__":
    main()
