"""`python -m tests.screenshots`: the pictures of docs/clients.md, anew, in docs/images."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.screenshots.mail import bobs_mailbox
from tests.screenshots.terminal import take_neomutt
from tests.screenshots.window import take_thunderbird

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
PACKAGES = {"Xvfb": "xvfb", "xterm": "xterm", "import": "imagemagick", "script": "bsdutils"}
"""Program and Debian package, beside what the tests need."""
COLOURS = 128


def main() -> int:
    """0 when all were taken."""
    os.environ["PATH"] += ":/usr/sbin"
    if missing := [package for program, package in PACKAGES.items() if not shutil.which(program)]:
        subprocess.run([ROOT / "tests" / "packages.sh", *missing], check=True)
    IMAGES.mkdir(exist_ok=True)
    best, broken, terminal = (
        IMAGES / f"{name}.png" for name in ("thunderbird-verified", "thunderbird-bad", "neomutt")
    )
    with bobs_mailbox() as bob:
        take_thunderbird(bob, best, broken)
        take_neomutt(bob, terminal)
    pictures = [best, broken, terminal]
    subprocess.run(["mogrify", "-strip", "-dither", "None", "-colors", str(COLOURS), *pictures], check=True)
    for picture in pictures:
        sys.stdout.write(f"{picture.relative_to(ROOT)}: {picture.stat().st_size} octets\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
