"""Aliases: the syntax as postalias of Postfix reads it, and what stands behind a name."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from secmailproxy.errors import ConfigError, LimitExceeded
from secmailproxy.forward.aliases import (
    INCLUDED_MOST,
    Other,
    Resolved,
    read_aliases,
    resolve,
    wrong_lines,
)
from secmailproxy.forward.aliasfile import resolve_name
from tests.fixtures.growth import assert_linear

TEXT = r"""
# the administrator
root:   sysmail, admin@example.org
   # a comment inside
    , third@example.org

"web master" : root,
    :include:/lists/web

Postmaster: Root
backup: "|/usr/local/bin/log it, now", /var/mail/backup, |"cmd a, b"
loop: loop, x@example.org
one: two
two: one
named: "Some Body, Esq." <named@example.org>, (a comment) plain@example.org (another)
local: \local, away@example.org
root: somebody@else.example
odd: "quoted"@example.org, -oQ/tmp, good@example.org
missing: :include:/lists/none, :include:relative
cyclic: :include:/lists/cyclic
empty:
"""
FILES = {
    "/lists/web": "# people\nweb@example.org,\n  www@example.org\nPostmaster\n",
    "/lists/cyclic": "cyclic\n:include:/lists/cyclic\nlast@example.org\n",
}
ROOT = ("sysmail", "admin@example.org", "third@example.org")


def read(path: str) -> str:
    if path not in FILES:
        raise FileNotFoundError(path)
    return FILES[path]


BEHIND = [
    ("root", ROOT, ()),
    ("ROOT", ROOT, ()),
    ("web master", (*ROOT, "web@example.org", "www@example.org"), ()),
    ("postmaster", ROOT, ()),
    ("backup", (), (Other.COMMAND, Other.FILE, Other.COMMAND)),
    ("loop", ("loop", "x@example.org"), ()),
    ("one", ("one",), ()),
    ("named", ("named@example.org", "plain@example.org"), ()),
    ("local", ("local", "away@example.org"), ()),
    ("odd", ("good@example.org",), (Other.WRONG, Other.WRONG)),
    ("missing", (), (Other.UNREADABLE, Other.UNREADABLE)),
    ("cyclic", ("cyclic", "last@example.org"), (Other.UNREADABLE,)),
    ("empty", (), ()),
    ("nobody-else", ("nobody-else",), ()),
    ("user@example.org", ("user@example.org",), ()),
]


@pytest.mark.parametrize(("name", "addresses", "left_out"), BEHIND)
def test_what_stands_behind_a_name(
    name: str, addresses: tuple[str, ...], left_out: tuple[Other, ...]
) -> None:
    assert resolve(name, read_aliases(TEXT), read) == Resolved(addresses, left_out)


def test_postalias_reads_the_same_lines(tmp_path: Path) -> None:
    """The table that Postfix makes of this file has the same names, and the same words for each."""
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n")
    (tmp_path / "aliases").write_text(TEXT.replace("empty:\n", ""))
    table = f"hash:{tmp_path}/aliases"
    made = subprocess.run(["postalias", "-c", tmp_path, table], capture_output=True, check=True, text=True)
    assert "duplicate entry" in made.stderr
    listed = subprocess.run(
        ["postalias", "-c", tmp_path, "-s", table], capture_output=True, check=True, text=True
    )
    theirs = dict(
        line.split(":", 1) for line in listed.stdout.splitlines() if not line.startswith(("@", "YP_"))
    )
    ours = read_aliases((tmp_path / "aliases").read_text())
    assert {name.strip('"') for name in theirs} == set(ours)
    for name, value in theirs.items():
        words = [word.replace(" ", "").removeprefix("\\") for word in ours[name.strip('"')]]
        assert value.replace(" ", "").replace("\t", "") == ",".join(words)


WRONG = [
    ("root: a@example.org\nno colon here\n", (2,)),
    ("  continued: nothing\n: nobody\nroot: a@example.org\n", (2,)),
    ("a: b\n\n\ntwo words: c\nroot:a@example.org\n+auto.aliases\n", (4, 6)),
    ("root: a@example.org\n", ()),
]


@pytest.mark.parametrize(("text", "numbers"), WRONG)
def test_a_wrong_line_keeps_no_other_mail_back(text: str, numbers: tuple[int, ...]) -> None:
    assert wrong_lines(text) == numbers
    assert resolve("root", read_aliases(text), read).addresses == ("a@example.org",)


def test_expansion_has_an_end() -> None:
    chain = "".join(f"a{number}: a{number + 1}\n" for number in range(60))
    with pytest.raises(LimitExceeded, match="more than 50"):
        resolve("a0", read_aliases(chain), read)
    wide = "root: " + ", ".join(f"u{number}@example.org" for number in range(1001)) + "\n"
    with pytest.raises(LimitExceeded, match="more than 1000"):
        resolve("root", read_aliases(wide), read)
    # Each name stands for the next one twice: it grows as fast as anything can.
    twice = "".join(f"a{number}: a{number + 1}, a{number + 1}\n" for number in range(40))
    with pytest.raises(LimitExceeded):
        resolve("a0", read_aliases(twice), read)


def test_the_file_is_read_anew(tmp_path: Path) -> None:
    path, more = tmp_path / "aliases", tmp_path / "more"
    more.write_text("m@example.org\n")
    path.write_text(f"root: a@example.org, :include:{more}\n")
    assert resolve_name("root", str(path)).addresses == ("a@example.org", "m@example.org")
    path.write_text("root: b@example.org\n")
    assert resolve_name("root", str(path)).addresses == ("b@example.org",)
    path.write_bytes(b"\xef\xbb\xbfroot: \xff, c@example.org  # \xe4\n# \xfc\n")
    assert resolve_name("root", str(path)) == Resolved((), (Other.WRONG, Other.WRONG))
    path.write_bytes(b"# \xfc\r\nroot: \xff@b, c@example.org\r\n")
    assert resolve_name("root", str(path)) == Resolved(("c@example.org",), (Other.WRONG,))
    with pytest.raises(ConfigError, match="No such file"):
        resolve_name("root", str(tmp_path / "none"))


def test_a_named_pipe_that_is_included_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Its owner could stop all mail of whoever includes it."""
    path, pipe = tmp_path / "aliases", tmp_path / "pipe"
    os.mkfifo(pipe)
    path.write_text(f"root: a@example.org, :include:{pipe}\n")
    assert resolve_name("root", str(path)) == Resolved(("a@example.org",), (Other.UNREADABLE,))
    with pytest.raises(ConfigError, match="no regular file"):
        resolve_name("root", str(pipe))


def test_files_that_are_included_again_and_again_have_an_end() -> None:
    read_so_far: list[str] = []

    def large(path: str) -> str:
        read_so_far.append(path)
        return "# nothing\n" * (INCLUDED_MOST // 100)

    with pytest.raises(LimitExceeded, match="include more than"):
        resolve("root", read_aliases("root: " + ", ".join([":include:/large"] * 500)), large)
    assert len(read_so_far) == 11


@pytest.mark.parametrize("unclosed", ['"', "(", "<"])
def test_what_is_not_closed_is_looked_for_once(unclosed: str) -> None:
    assert_linear(lambda size: "root: " + f"{unclosed}\\" * size, read_aliases, 20_000)
