"""`python -m secmailproxy` and the console script `secmailproxy`."""

from __future__ import annotations

import os
import sys

from secmailproxy.cli import program


def main() -> None:
    """Run the command line and exit (SystemExit)."""
    # Whatever is written, to whichever folder, is for the owner alone.
    os.umask(0o077)
    _open_standard_streams()
    program.main()


def _open_standard_streams() -> None:
    """Whoever started us may have closed them: nothing else must ever get their descriptors."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # for the whole process


if __name__ == "__main__":
    main()
