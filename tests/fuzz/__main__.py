"""`python -m tests.fuzz [DOOR] [options of libFuzzer]`: mutate octets and hand them to the doors.

Without DOOR, the first octet of an input chooses the door. Findings are written to the folder named by
-artifact_prefix; `python -m tests.fuzz DOOR FILE` does one of them again.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["secmailproxy", "keystore"]):
    import keystore.smimemessages  # noqa: F401  imported late by the keystore, but to be watched too
    from tests.fuzz import doors


def main() -> None:
    """Does not return: libFuzzer ends the process."""
    names = list(doors.pieces([]))
    chosen = sys.argv.pop(1) if len(sys.argv) > 1 and sys.argv[1] in names else None
    open_door = doors.doors()
    begin = doors.pieces(doors.seeds())

    def any_door(octets: bytes) -> None:
        if octets:
            open_door[names[octets[0] % len(names)]](octets[1:])

    run: Callable[[bytes], None] = open_door[chosen] if chosen else any_door
    with tempfile.TemporaryDirectory(prefix="smp-seeds-", dir="/tmp") as folder:
        for number, name in enumerate(names):
            for count, octets in enumerate(begin[name]):
                if chosen in (None, name):
                    start = b"" if chosen else bytes([number])
                    Path(folder, f"{name}-{count}").write_bytes(start + octets)
        files = [] if any(Path(word).is_file() for word in sys.argv[1:]) else [folder]
        atheris.Setup([*sys.argv, "-max_len=16384", *files], run)
        atheris.Fuzz()


main()
