"""`secmailproxy man`: manual pages from what `--help` says, one for each command.

Standards: man(7), as groff and mandoc read it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from secmailproxy import __version__
from secmailproxy.cli.exits import EXIT_STATUSES

SECTION = 1
_ENVIRONMENT = {
    "SECMAILPROXY_HOME": "A folder for configuration, state and cache, in place of the platform's own.",
    "SECMAILPROXY_DEBUG": "Set to 1: internal errors show their traceback. This may show parts of messages.",
}
_WORD = re.compile(r"`([^`]+)`")
_BLOCK = "\b"
_ESCAPES = str.maketrans(
    {"\\": "\\e", "-": "\\-", "~": "\\(ti", "^": "\\(ha", "'": "\\(aq", '"': "\\(dq", "\n": " "}
)


@click.command(short_help="Write the manual pages into a folder.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.pass_context
def command(context: click.Context, folder: Path) -> None:
    """Write the manual pages into FOLDER, one for each command; its files of the same names are replaced.

    Where `man` looks for them, such as ~/.local/share/man/man1: `man secmailproxy-key-import` shows one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages(context.find_root().command):
        (folder / f"{name}.{SECTION}").write_text(text, encoding="utf-8")


def pages(program: click.Command) -> Iterator[tuple[str, str]]:
    """The name of each page, such as "secmailproxy-key-import", and its text in roff."""
    settings = {"help_option_names": ["-h", "--help"], **program.context_settings}
    yield from _pages(click.Context(program, info_name="secmailproxy", **settings), ())


def _pages(context: click.Context, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    name = _page_name(context)
    below = _below(context)
    yield name, _page(context, above, below)
    for child in below:
        yield from _pages(child, (*above, name))


def _below(context: click.Context) -> list[click.Context]:
    group = context.command
    if not isinstance(group, click.Group):
        return []
    found = [(name, group.get_command(context, name)) for name in group.list_commands(context)]
    return [click.Context(one, parent=context, info_name=name) for name, one in found if one is not None]


def _page(context: click.Context, above: tuple[str, ...], below: list[click.Context]) -> str:
    command = context.command
    name = _page_name(context)
    lines = [
        f'.TH "{_escaped(name.upper())}" "{SECTION}" "" "secmailproxy {__version__}" "secmailproxy"',
        # Neither hyphenated nor stretched: names of commands are copied.
        ".nh",
        ".ad l",
        ".SH NAME",
        f"{_escaped(name)} \\- {_marked(_short(command))}",
        ".SH SYNOPSIS",
        f".B {_escaped(context.command_path)}",
        _escaped(" ".join(command.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        *_paragraphs(command.help or ""),
    ]
    options = [one for one in command.get_params(context) if isinstance(one, click.Option)]
    lines += _listed("OPTIONS", [record for one in options if (record := one.get_help_record(context))])
    lines += _listed("COMMANDS", [(one.info_name or "", f"{_short(one.command)}.") for one in below])
    if not above:
        statuses = [(str(number), f"{text[0].upper()}{text[1:]}.") for number, text in EXIT_STATUSES.items()]
        lines += _listed("EXIT STATUS", statuses)
        lines += _listed("ENVIRONMENT", list(_ENVIRONMENT.items()))
    others = [*above[-1:], *map(_page_name, below)]
    if others:
        lines.append(".SH SEE ALSO")
        # Commas stand between them, and none after the last.
        signs = [*[","] * (len(others) - 1), ""]
        lines += [f".BR {_escaped(one)} ({SECTION}){sign}" for one, sign in zip(others, signs, strict=True)]
    return "\n".join(lines) + "\n"


def _page_name(context: click.Context) -> str:
    return context.command_path.replace(" ", "-")


def _short(command: click.Command) -> str:
    return command.get_short_help_str(limit=200).rstrip(".")


def _paragraphs(text: str) -> Iterator[str]:
    """Help text: paragraphs, and blocks whose lines stay as they are."""
    for number, part in enumerate(re.split(r"\n\s*\n", text.strip())):
        lines = part.splitlines()
        if number:
            yield ".PP"
        if lines and lines[0].strip() == _BLOCK:
            yield from (".nf", *(_escaped(line.strip()) for line in lines[1:]), ".fi")
        else:
            yield _marked(" ".join(line.strip() for line in lines))


def _listed(title: str, entries: list[tuple[str, str]]) -> list[str]:
    if not entries:
        return []
    lines = [f".SH {title}"]
    for term, meaning in entries:
        lines += [".TP", _bold(term), _marked(meaning)]
    return lines


def _bold(text: str) -> str:
    return f"\\fB{_escaped(text)}\\fR"


def _marked(text: str) -> str:
    """Plain text as a line of roff; what stands in backticks is bold."""
    return _WORD.sub(r"\\fB\1\\fR", _escaped(" ".join(text.split())))


def _escaped(text: str) -> str:
    """Nothing in it is a request or an escape of roff, and hyphens can be copied into a shell."""
    escaped = text.translate(_ESCAPES)
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
