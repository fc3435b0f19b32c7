"""The files under examples/ are right, and the documents show the same lines."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from secmailproxy.config import Config
from secmailproxy.folders import Folders
from tests.fixtures.instructions import steps
from tests.fixtures.systemmail import EXAMPLES, example

DOCUMENT = "system-mail.md"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_configurations_are_right(path: Path, tmp_path: Path) -> None:
    folders = Folders(tmp_path / "config.toml", tmp_path / "state", tmp_path / "cache")
    config = Config.parse(path.read_bytes(), folders)
    assert config.forward_settings().targets


@pytest.mark.parametrize(
    ("document", "section", "name"),
    [
        (DOCUMENT, "Five minutes", "system-mail.toml"),
        ("system-mail-debian.md", "Step by step", "system-mail-without-mta.toml"),
    ],
)
def test_the_configurations_of_the_documents_are_the_examples(document: str, section: str, name: str) -> None:
    (shown,) = [one.text for one in steps(document, section) if one.language == "toml"]
    plain = re.sub(r"(?<=[0-9A-F]) +(?=[0-9A-F])", "", shown)
    assert tomllib.loads(plain) == tomllib.loads(example(name))


def lines(text: str) -> list[str]:
    """Without comments and empty lines; the recipient is that of the configuration or said."""
    kept = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [line.replace(" --to admin@example.org", "") for line in kept]


def test_the_recipe_of_the_document_is_the_example() -> None:
    (shown,) = steps(DOCUMENT, "I have procmail")
    assert lines(example("procmailrc")) == ["LOGABSTRACT=no", *lines(shown.text)]


def test_aliases_and_forward_of_the_document_are_the_examples() -> None:
    (shown,) = steps(DOCUMENT, "I have an MTA")
    assert lines(example("aliases")) == re.findall(r"echo '(root: .*)'", shown.text)
    assert lines(example("forward")) == re.findall(r"echo '(\"\|.*)'", shown.text)


@pytest.mark.parametrize(
    ("name", "section", "title"),
    [
        ("main.cf", "some addresses", "main.cf, some addresses"),
        ("main.cf", "all mail", "main.cf, all mail"),
        ("master.cf", "where", "master.cf"),
    ],
)
def test_postfix_lines_of_the_document_are_the_examples(name: str, section: str, title: str) -> None:
    blocks = steps("system-mail-server.md", "As a server")
    shown = [one.text for one in blocks if one.text.startswith(f"# {title}\n")]
    assert [lines(one) for one in shown] == [lines(example(f"postfix/{name}", section))]
