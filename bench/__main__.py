"""`python -m bench [PART ...]`: a table with the aims. The parts are those of PARTS; default: all."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from bench.measure import Aim, Row

PARTS = ("crypto", "smtp", "source", "imap", "fetch", "footprint", "hostile", "forward", "keystore")
PROGRAMS = {
    "gpg": ["gpg", "--version"],
    "Dovecot": ["dovecot", "--version"],
    "mbsync": ["mbsync", "--version"],
}


def main() -> int:
    """0 when every aim was met."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"some of: {', '.join(PARTS)} (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    os.environ["PATH"] += ":/usr/sbin"
    rows: list[Row] = []
    if not options.json:
        print(machine() + "\n")
        print(f"{'what':<48} {'ours':>22} {'other':>22} {'result':>16}  aim")
    for part in options.parts or PARTS:
        for row in importlib.import_module(f"bench.{part}").rows():
            rows.append(row)
            if not options.json:
                print(line(row), flush=True)
    if options.json:
        print(json.dumps({"machine": machine(), "rows": [as_json(row) for row in rows]}, indent=2))
    return 0 if all(row.met is not False for row in rows) else 1


def machine() -> str:
    """The machine and the versions that matter."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next(
        (one.partition(": ")[2] for one in lines if one.startswith("model name")), platform.machine()
    )
    parts = [
        f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        f"{platform.system()} {platform.release()}",
        f"Python {sys.version.split()[0]}",
        f"rpgp-py {version('rpgp-py')}",
        *(f"{name} {first_number(argv)}" for name, argv in PROGRAMS.items()),
    ]
    return "; ".join(parts)


def first_number(argv: list[str]) -> str:
    """The version that a program names in its first line."""
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split("\n")[0].split()
    return next((word for word in said if word[0].isdigit()), "?")


def duration(value: float) -> str:
    """Seconds, for people."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.2f} ms"


def line(row: Row) -> str:
    """One line of the table."""
    bound = "" if row.aim is Aim.NONE else f"{row.aim.value} {row.bound:g}: {'met' if row.met else 'MISSED'}"
    ours, other = (
        f"{name} {f'{value:.0f} MB' if row.unit == 'MB' else duration(value)}"
        for name, value in ((row.ours_name, row.ours), (row.other_name, row.other))
    )
    return f"{row.what:<48} {ours:>22} {other:>22} {row.result:>8.2f} {row.unit:<8} {bound}"


def as_json(row: Row) -> dict[str, object]:
    """Plain values."""
    return {**asdict(row), "aim": row.aim.value, "met": row.met}


sys.exit(main())
