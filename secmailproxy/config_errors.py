"""What is wrong in a configuration file, told so that it can be put right.

Each problem names the file, the line where it can be found, the key with the account's address, what is wrong
and what to do. Values of the file are quoted only where our own checks do so.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from secmailproxy.errors import ConfigError

Location = tuple[str | int, ...]
_HEADING = re.compile(r"\s*(\[\[?)\s*([^\[\]#]+?)\s*\]")
_ASSIGNMENT = re.compile(r"\s*([A-Za-z0-9_\-.\"' ]+?)\s*=")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `line` counts from 1; 0 when it cannot be told."""

    file: Path
    key: str
    line: int
    text: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{place}: {self.key}: {self.text}" if self.key else f"{place}: {self.text}"


class ConfigProblems(ConfigError):
    """The configuration file was read and is wrong in one or more places; the text has a line for each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)

    @classmethod
    def one(cls, file: Path, key: str, line: int, text: str) -> ConfigProblems:
        """A single problem."""
        return cls([Problem(file, key, line, text)])

    @classmethod
    def of_toml(cls, file: Path, text: str) -> ConfigProblems:
        """From the text of tomllib's error, which ends in "(at line N, column M)" or has no place."""
        found = re.search(r"\s*\(at line (\d+), column \d+\)", text)
        line = int(found[1]) if found else 0
        what = text[: found.start()] if found else text.removesuffix(" (at end of document)")
        return cls.one(file, "", line, f"is not TOML: {what}; correct this line (text values need quotes)")


def problems_of(
    error: ValidationError, data: Mapping[str, Any], text: str, file: Path, schema: type[BaseModel]
) -> list[Problem]:
    """The problems of a failed check, each with its line in `text` (the file's content)."""
    lines = key_lines(text)
    problems = []
    for detail in error.errors(include_url=False):
        location = (*detail["loc"], *getattr(detail.get("ctx", {}).get("error"), "location", ()))
        problems.append(
            Problem(file, _dotted(location, data), _line(location, lines), _words(detail, schema, location))
        )
    return sorted(problems, key=lambda problem: problem.line)


def _words(detail: Any, schema: type[BaseModel], location: Location) -> str:
    """What is wrong and the remedy, from one of pydantic's error details."""
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return f"there is no such option; {_suggestion(schema, location)}"
        case "missing":
            return "is missing; add it"
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return f"must be one of {context['expected'].replace(' or ', ', ')}"
        case "greater_than_equal" | "less_than_equal":
            return f"{detail['msg'].replace('Input should be', 'must be')}"
        case "bool_parsing" | "bool_type":
            return "must be true or false (without quotes)"
        case "int_parsing" | "int_type" | "int_from_float":
            return "must be a whole number (without quotes)"
        case "string_type":
            return 'must be text in quotes, such as "text"'
        case "string_pattern_mismatch" | "string_too_short":
            return 'must be a host name such as "mail.example.org", without port or scheme'
        case "tuple_type":
            return "must be a list; write [[...]] above each entry, or [..., ...]"
        case "model_type" | "model_attributes_type":
            return 'must be a table, such as { host = "mail.example.org" }'
    words: str = detail["msg"]
    return words


def _suggestion(schema: type[BaseModel], location: Location) -> str:
    known = _options(schema, location[:-1])
    near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"the options here are {', '.join(known)}" if known else "remove it"


def _options(schema: type[BaseModel], path: Location) -> list[str]:
    """The names that may stand in the table at `path`."""
    model: type[BaseModel] | None = schema
    for step in path:
        if isinstance(step, int) or model is None:
            continue
        field = next((one for name, one in model.model_fields.items() if (one.alias or name) == step), None)
        model = model_within(field.annotation) if field is not None else None
    return [one.alias or name for name, one in model.model_fields.items()] if model else []


def model_within(annotation: Any) -> type[BaseModel] | None:
    """The table that an annotation such as `tuple[Rule, ...]` holds, if any."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for one in get_args(annotation) if (model := model_within(one))), None)


def _dotted(location: Location, data: Any) -> str:
    """Such as "accounts[0] (alice@example.org).imap.port"."""
    words = ""
    for step in location:
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            data = None
        if isinstance(step, int):
            words += f"[{step}]"
            key = "name" if words.startswith("forward.rules[") else "address"
            if isinstance(data, Mapping) and isinstance(data.get(key), str):
                words += f" ({data[key]})"
        else:
            words += f".{step}" if words else step
    return words


def key_lines(text: str) -> dict[Location, int]:
    """The line on which each table and key is written. A scan for headings and assignments at line starts.

    Good enough to point at: what stands inside an inline table or a list has the line of its key, and text
    that looks like TOML inside a multi-line string can only mislead the line number, never the check.
    """
    lines: dict[Location, int] = {}
    counts: dict[str, int] = {}
    table: Location = ()
    for number, line in enumerate(text.splitlines(), 1):
        if heading := _HEADING.match(line):
            table = _table(heading[2], is_array=heading[1] == "[[", counts=counts)
            lines.setdefault(table, number)
            if heading[1] == "[[":
                lines.setdefault(table[:-1], number)
        elif assignment := _ASSIGNMENT.match(line):
            lines.setdefault((*table, *_names(assignment[1])), number)
    return lines


def _table(name: str, *, is_array: bool, counts: dict[str, int]) -> Location:
    """The location of a heading; arrays of tables count their entries."""
    names = _names(name)
    if is_array:
        key = ".".join(names)
        counts[key] = counts.get(key, -1) + 1
    location: list[str | int] = []
    for depth, one in enumerate(names, 1):
        location.append(one)
        if (index := counts.get(".".join(names[:depth]))) is not None:
            location.append(index)
    return tuple(location)


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def _line(location: Location, lines: Mapping[Location, int]) -> int:
    """The line of the location, or of the nearest table around it."""
    return next((lines[location[:end]] for end in range(len(location), 0, -1) if location[:end] in lines), 0)
