"""`python -m secmailproxy` and the console script `secmailproxy`."""

from __future__ import annotations

import os

from secmailproxy.cli import program


def main() -> None:
    """Run the command line and exit (SystemExit)."""
    # Whatever is written, to whichever folder, is for the owner alone.
    os.umask(0o077)
    program.main()


if __name__ == "__main__":
    main()
