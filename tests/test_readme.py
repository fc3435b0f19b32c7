"""The README promises only what is there: files, commands, links in all documents."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from secmailproxy.cli import COMMANDS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", document.read_text())
    local = [link for link in links if "://" not in link]
    assert not [link for link in local if not (document.parent / link).exists()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_exists(document: Path) -> None:
    text = document.read_text()
    code = "\n".join([*re.findall(r"```.*?```", text, re.S), *re.findall(r"`[^`\n]+`", text)])
    named = set(re.findall(r"^\W*secmailproxy ([a-z]+)", code, re.M))
    assert named <= set(COMMANDS)


def test_the_two_commands_are_there_and_executable() -> None:
    block = (ROOT / "README.md").read_text().split("## Two commands")[1].split("```")[1]
    scripts = [line.split()[0] for line in block.splitlines()[1:] if line]
    assert scripts == ["examples/demo.sh", "tests/run.sh"]
    for script in [*scripts, ".ci/run", "tests/packages.sh", "examples/install.sh"]:
        assert (ROOT / script).stat().st_mode & 0o111, script
