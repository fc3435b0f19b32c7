"""What a machine calls itself, as Debian and others write it down."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from secmailproxy.forward import sender


@pytest.mark.parametrize(
    ("node", "name", "called", "names"),
    [
        ("web1", b"web1.example.org\n", "web1.example.org", ("web1", "web1.example.org")),
        ("Web1.Example.org", None, "Web1.Example.org", ("web1.example.org", "web1")),
        ("web1.example.org", b"web1.example.org\n", "web1.example.org", ("web1.example.org", "web1")),
        ("web1", b"example.org\n", "example.org", ("web1",)),
        ("web1", b"web10.example.org\n", "web10.example.org", ("web1",)),
        ("web1", b"", "web1", ("web1",)),
        ("web1", b"\xff\n", "web1", ("web1",)),
        ("web1", b"web1.example.org\nBcc: x@y\n", "web1.example.orgBccxy", ("web1", "web1.example.orgbccxy")),
    ],
)
def test_the_names_of_a_machine(
    node: str,
    name: bytes | None,
    called: str,
    names: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name of a whole company is not its own: people there are no local users."""
    if name is not None:
        (tmp_path / "mailname").write_bytes(name)
    monkeypatch.setattr(sender, "MAIL_NAME", tmp_path / "mailname")
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename=node))
    assert sender.mail_name() == called
    assert sender.own_names() == names
