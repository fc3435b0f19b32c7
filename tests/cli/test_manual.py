"""`secmailproxy man`: pages that real programs render without a warning, of the same words as --help."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click
import pytest

from secmailproxy.cli import program
from secmailproxy.cli.exits import EXIT_STATUSES
from tests.test_docs import ALL_COMMANDS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the command writes it, into a folder that it makes."""
    found = tmp_path_factory.mktemp("man") / "man1"
    with pytest.raises(SystemExit) as end:
        program.main(["man", str(found)])
    assert end.value.code == 0
    return found


def rendered(page: Path) -> str:
    """By man itself; overstriking removed."""
    shown = subprocess.run(
        ["man", "--warnings", "--local-file", str(page)],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "400", "MAN_KEEP_FORMATTING": ""},
        capture_output=True,
        check=True,
    )
    assert not shown.stderr, shown.stderr.decode()
    return " ".join(shown.stdout.decode().split())


def test_there_is_a_page_for_each_command_and_no_other(folder: Path) -> None:
    assert {page.name for page in folder.iterdir()} == {
        f"{name.replace(' ', '-')}.1" for name in ALL_COMMANDS
    }


def test_no_page_makes_groff_warn(folder: Path) -> None:
    pages = sorted(folder.iterdir())
    done = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8", *pages], capture_output=True, check=True)
    assert not done.stderr, done.stderr.decode()[:2000]


@pytest.mark.parametrize("name", ["secmailproxy", "secmailproxy key import", "secmailproxy completion"])
def test_what_help_says_is_on_the_page(folder: Path, name: str) -> None:
    """Every option with its text, each word of the description, and quotes and hyphens as they are."""
    shown = rendered(folder / f"{name.replace(' ', '-')}.1")
    command = ALL_COMMANDS[name]
    context = click.Context(command, info_name=name)
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            record = parameter.get_help_record(context)
            assert record is not None
            for words in record:
                assert " ".join(words.split()) in shown
    described = (command.help or "").replace("`", "").replace("\b", "")
    for paragraph in described.split("\n\n"):
        assert " ".join(paragraph.split()) in shown
    assert "-h, --help" in shown


def test_the_page_of_the_program_names_commands_and_exit_statuses(folder: Path) -> None:
    shown = rendered(folder / "secmailproxy.1")
    for name in ("setup", "key", "completion"):
        assert f" {name} " in shown
    for status, meaning in EXIT_STATUSES.items():
        sentence = f"{meaning[0].upper()}{meaning[1:]}.".replace("`", "")
        assert f"{status} {sentence}" in shown
    assert "SEE ALSO secmailproxy-setup(1), secmailproxy-serve(1)," in shown


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(SystemExit) as end:
        program.main(["man", str(file)])
    assert end.value.code == 64
