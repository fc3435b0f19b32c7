"""The documents are complete and right: commands, options, settings, dependencies, examples, links."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from secmailproxy.cli import COMMANDS, program
from secmailproxy.cli.exits import EXIT_STATUSES
from secmailproxy.config import Config
from secmailproxy.config_errors import model_within
from secmailproxy.config_values import ListenAddress
from secmailproxy.folders import Folders

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
DOCUMENTS = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"])


def sections(path: Path) -> dict[str, str]:
    """Title -> text up to the next title, of any level."""
    parts = re.split(r"(?m)^#+ (.+)\n", path.read_text(encoding="utf-8"))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> dict[str, list[str]]:
    """First cell -> the other cells, of every table row that begins with a code word."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {one[0]: one[1:] for one in cells}


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, groups included."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for one in command.list_commands(context):
            found = command.get_command(context, one)
            assert found is not None
            yield from commands(found, f"{name} {one}")


ALL_COMMANDS = dict(commands(program, "secmailproxy"))


def documented_commands() -> dict[str, str]:
    """Command -> its section in cli.md; the title may go on with arguments."""
    titles = {title: text for title, text in sections(DOCS / "cli.md").items() if title.startswith("`")}
    found = {}
    for title, text in titles.items():
        words = title.strip("`").split()
        plain = [word for word in words if word.islower() and word.replace("-", "_").isidentifier()]
        found[" ".join(plain)] = text
    return found


def test_cli_names_every_command_and_no_other() -> None:
    assert set(documented_commands()) == set(ALL_COMMANDS) - {"secmailproxy"}


@pytest.mark.parametrize("name", [name for name in ALL_COMMANDS if name != "secmailproxy"])
def test_cli_names_every_option_and_no_other(name: str) -> None:
    actual = {
        option
        for parameter in ALL_COMMANDS[name].params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }
    table = rows(documented_commands()[name])
    documented = {option for cell in table for option in re.findall(r"`(--?[a-z][a-z-]*)`", cell)}
    assert documented == actual
    for cell, (meaning,) in ((cell, rest) for cell, rest in table.items() if cell.startswith("`--")):
        assert meaning, cell


@pytest.mark.parametrize("name", list(ALL_COMMANDS))
def test_every_command_and_option_has_help(name: str) -> None:
    command = ALL_COMMANDS[name]
    assert (command.help or "").strip().endswith((".", "?", "!"))
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help or parameter.show_default, parameter.name


def test_the_table_of_commands_is_the_program() -> None:
    assert set(COMMANDS) == {name.split()[1] for name in ALL_COMMANDS if " " in name}


WITHOUT_JSON = {
    *("config autoconfig", "certificate export", "message open", "message seal", "completion"),  # a file each
    *("forward", "sendmail"),  # pipes: their output is a text for the sender
    *("queue drop", "queue flush", "queue hold", "queue release", "queue run"),  # they do, and say one line
    *("man", "store password"),
}


def test_whatever_lists_has_json() -> None:
    """All commands but those that print a file, take a message, or only do something."""
    leaves = {name: one for name, one in ALL_COMMANDS.items() if not isinstance(one, click.Group)}
    leaves["secmailproxy forward"] = ALL_COMMANDS["secmailproxy forward"]
    without = {
        name for name, one in leaves.items() if not any("--json" in option.opts for option in one.params)
    }
    assert without == {f"secmailproxy {name}" for name in WITHOUT_JSON}


def statuses_in(module: Path) -> Iterator[int]:
    """Numbers that the sources end with, as they are written: in calls, and as names and attributes."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(
                func=ast.Name(id="SystemExit") | ast.Attribute(attr="exit" | "_exit"), args=[first, *_]
            ):
                numbers = [one.value for one in ast.walk(first) if isinstance(one, ast.Constant)]
            case ast.Assign(targets=[ast.Name(id="exit_status")], value=ast.Constant(value=int(number))):
                numbers = [number]
            case _:
                continue
        yield from (number for number in numbers if isinstance(number, int))


def test_every_exit_status_is_in_one_table() -> None:
    """cli.md has the words of the man pages; errors and commands end with nothing else."""
    table = sections(DOCS / "cli.md")["Exit statuses"]
    documented = dict(re.findall(r"(?m)^\| (\d+) \| (.+) \|$", table))
    assert documented == {str(status): meaning for status, meaning in EXIT_STATUSES.items()}
    program_files = [ROOT / "secmailproxy" / name for name in ("errors.py", "__main__.py")]
    modules = [*program_files, *(ROOT / "secmailproxy" / "cli").rglob("*.py")]
    used = {status for module in modules for status in statuses_in(module)}
    assert {0, 1, 69, 78} < used
    assert used <= set(EXIT_STATUSES)


def models(model: type[BaseModel], title: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Title in configuration.md -> the table it describes."""
    for name, field in model.model_fields.items():
        inner = model_within(field.annotation)
        if inner is None or inner is ListenAddress:
            continue
        key = f"{title}.{name}" if title else name
        yield key, inner
        yield from models(inner, key)


SETTINGS = dict(models(Config, ""))


def setting_sections() -> dict[str, str]:
    titles = sections(DOCS / "configuration.md")
    return {title.strip("`[]"): text for title, text in titles.items() if title.startswith("`")}


def test_configuration_names_every_table_and_no_other() -> None:
    assert set(setting_sections()) == set(SETTINGS)


def default_of(field: FieldInfo) -> str:
    """As configuration.md writes it."""
    if field.is_required():
        return "required"
    if field.default is None:
        return "none"
    if isinstance(field.default, BaseModel) and not isinstance(field.default, ListenAddress):
        return "a table"
    if isinstance(field.default, BaseModel):
        return f'`"{field.default}"`'
    if field.default == ():
        return "`[]`"
    return f"`{json.dumps(field.default)}`"


@pytest.mark.parametrize("title", list(SETTINGS))
def test_configuration_names_every_option_with_its_default(title: str) -> None:
    actual = {
        f"`{field.alias or name}`": default_of(field) for name, field in SETTINGS[title].model_fields.items()
    }
    documented = {cell: rest[0] for cell, rest in rows(setting_sections()[title]).items()}
    assert documented == actual


def code_blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.+?)^```", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "path", sorted([*DOCS.rglob("*.md"), ROOT / "README.md"]), ids=lambda path: path.name
)
def test_examples_in_documents_are_right(path: Path, tmp_path: Path) -> None:
    folders = Folders(tmp_path / "config.toml", tmp_path / "state", tmp_path / "cache")
    for block in code_blocks(path, "toml"):
        Config.parse(block.encode(), folders)
    for block in code_blocks(path, "json"):
        json.loads(block)


@pytest.mark.parametrize(
    "path", sorted([*DOCS.rglob("*.md"), ROOT / "README.md"]), ids=lambda path: path.name
)
def test_links_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_pictures_are_shown_told_in_words_and_small() -> None:
    pictures = set((DOCS / "images").iterdir())
    shown = [
        (" ".join(words.split()), (path.parent / file).resolve())
        for path in DOCUMENTS
        for words, file in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
    ]
    assert pictures
    assert {file for _, file in shown} == pictures
    assert all(len(words) > 40 for words, _ in shown)
    assert {path.name for path in pictures if not path.read_bytes().startswith(b"\x89PNG\r\n")} == set()
    assert {path.name for path in pictures if path.stat().st_size > 150_000} == set()


def test_every_dependency_has_its_reason() -> None:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    names = {re.split(r"[\[<>=~! ]", one)[0] for one in wanted}
    text = (DOCS / "dependencies.md").read_text()
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
    documented = {name.strip() for cell in cells for name in cell.split(",")} - {"library"}
    assert documented == names


def anchors(path: Path) -> set[str]:
    """Of the titles of a document, as GitHub makes them."""
    titles = re.findall(r"(?m)^#+ (.+)$", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_into_documents_lead_to_a_title(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]*\.md|)#([^)]+)\)", path.read_text(encoding="utf-8"))
    lost = [one for one in links if one[1] not in anchors(path.parent / one[0] if one[0] else path)]
    assert lost == []


def test_the_architecture_names_every_module_of_system_mail_and_which_are_pure() -> None:
    text = sections(DOCS / "architecture.md")["System mail"]
    shown = {name: bool(star) for star, name in re.findall(r"(\*?)`([a-z]+)`", text)}
    told = {
        path.stem: "PURE" in (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
        for path in (ROOT / "secmailproxy" / "forward").glob("[a-z]*.py")
    }
    assert shown == told
