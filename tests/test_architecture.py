"""A module that says it is PURE is one that import-linter holds to it."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTRACT = "decisions and protocol cores do no input or output"


def test_pure_modules_are_in_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (held,) = [contract["source_modules"] for contract in contracts if contract["name"] == CONTRACT]
    say_so = []
    for path in (one for package in ("secmailproxy", "keystore") for one in (ROOT / package).rglob("*.py")):
        if "PURE" in (ast.get_docstring(ast.parse(path.read_bytes())) or ""):
            say_so.append(".".join(path.relative_to(ROOT).with_suffix("").parts))
    assert len(say_so) > 30
    assert [one for one in say_so if one not in held and one.rpartition(".")[0] not in held] == []
