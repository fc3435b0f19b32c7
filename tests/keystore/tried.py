"""`python -m tests.keystore.tried` runs the tests that docs/keystore.md names, and writes how many passed.

The table says what was tried with which counterpart; the last column is how many tests passed, and the line
below it the versions of the programs, as they were in that run.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "keystore.md"
TITLE = "## What was tested"
_VERSIONS = "The programs of that run: "
_ROW = re.compile(
    r"^\| (?P<what>[^|]+) \| (?P<counterpart>[^|]+) \| (?P<tests>`[^|]+`) \| (?P<passed>[^|]*) \|$"
)

PROGRAMS = {
    "GnuPG": ("gpg", "--version"),
    "OpenSSL": ("openssl", "version"),
    "NSD": ("nsd", "-v"),
    "Unbound": ("unbound", "-V"),
    "OpenLDAP": ("slapd", "-VV"),
    "SoftHSM": ("softhsm2-util", "--version"),
    "gnome-keyring": ("gnome-keyring-daemon", "--version"),
    "PostgreSQL": ("psql", "--version"),
    "Dovecot": ("dovecot", "--version"),
}


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    counterpart: str
    tests: str
    """As it is written: paths in backquotes, those after the first in the folder of the one before."""
    passed: str

    @property
    def paths(self) -> list[str]:
        """The files and folders of tests, from the root."""
        found: list[str] = []
        for name in re.findall(r"`([^`]+)`", self.tests):
            folder = found[-1].rpartition("/")[0] + "/" if found and "/" not in name else ""
            found.append(folder + name)
        return found


def rows(text: str) -> Iterator[Row]:
    """Those of the table below TITLE."""
    for line in text[text.index(TITLE) :].splitlines():
        if match := _ROW.match(line):
            yield Row(**match.groupdict())


def outcomes(paths: set[str]) -> Counter[tuple[str, bool]]:
    """(File, whether it passed) -> number of tests."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadscope"]
        subprocess.run([*command, f"--junit-xml={report}", *sorted(paths)], cwd=ROOT, check=False)
        found: Counter[tuple[str, bool]] = Counter()
        for case in ElementTree.parse(report).iter("testcase"):
            name = case.get("classname", "").split(".")
            parts = [part for part in name if not part[:1].isupper()]
            found["/".join(parts) + ".py", len(case) == 0] += 1
        return found


def versions() -> str:
    """Name and version of each program."""
    found = []
    for name, command in PROGRAMS.items():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        match = re.search(r"\d+(?:\.\d+)+", done.stdout + done.stderr)
        found.append(f"{name} {match[0] if match else '?'}")
    return ", ".join(found)


def written(text: str) -> str:
    """The document with what came out now."""
    table = list(rows(text))
    came = outcomes({path for row in table for path in row.paths})

    def count(row: Row, passed: bool) -> int:
        return sum(
            number
            for (file, was), number in came.items()
            if was is passed and any(file == path or file.startswith(path) for path in row.paths)
        )

    for row in table:
        failed = count(row, False)
        cell = f"{count(row, True)}" + (f", {failed} failed" if failed else "")
        line = f"| {row.what} | {row.counterpart} | {row.tests} | {{}} |"
        text = text.replace(line.format(row.passed), line.format(cell))
    return re.sub(rf"{_VERSIONS}.*", f"{_VERSIONS}{versions()}.", text)


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
