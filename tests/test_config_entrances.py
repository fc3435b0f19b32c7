"""[forward.listen] and [[forward.watch]]: what is wrong is told with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from secmailproxy.config import Config
from secmailproxy.config_errors import ConfigProblems
from secmailproxy.folders import Folders

ACCOUNT = """
[[accounts]]
address = "x@example.org"
imap = { host = "imap.example.org" }
smtp = { host = "smtp.example.org" }
"""
TARGET = f"""
[[forward.targets]]
address = "admin@example.org"
fingerprint = "{"A" * 40}"
"""


def parsed(toml: str, folder: Path = Path("/nonexistent")) -> Config:
    folders = Folders(folder / "config.toml", folder / "state", folder / "cache")
    return Config.parse(toml.encode(), folders)


@pytest.mark.parametrize(
    ("toml", "line", "said"),
    [
        ('[forward.listen]\nsmtp = "0.0.0.0:25"', 2, "not a loopback address"),
        ('[forward.listen]\nsmtp = "relative/path"', 2, 'write for example "/run/relative/path"'),
        (f'[forward.listen]\nlmtp = "/{"x" * 120}"', 2, "at most 107 octets"),
        ('[forward.listen]\nsmtp = "127.0.0.1:1"\nlmtp = "127.0.0.1:1"', 0, "same address and port"),
        ('[forward.listen]\nsmtp = "/run/x"\nlmtp = "/run/x"', 0, "same address and port"),
        ('[forward.listen]\nsmtp = "127.0.0.1:1143"', 0, "imap and smtp have the same address and port"),
        ('[forward.listen]\nlmtp = "127.0.0.1:1"\nrecipients = ["*"]', 1, "listen on a Unix socket"),
        ('[forward.listen]\nlmtp = "/x"\neveryone = true\nrecipients = ["*"]', 1, "without everyone"),
        ('[forward.listen]\nlmtp = "127.0.0.1:1"\nrecipients = ["root"]', 3, "is no pattern"),
        ('[[forward.watch]]\naccount = "y@example.org"', 0, "which is no account here"),
        ('[[forward.watch]]\naccount = "x@example.org"\n' * 2, 0, "two of [[forward.watch]] are for inbox"),
        ('[[forward.watch]]\naccount = "x@example.org"\nafter = "move"', 1, "needs move_to"),
        ('[[forward.watch]]\naccount = "x@example.org"\nmove_to = "A"', 1, "needs move_to"),
        (
            '[[forward.watch]]\naccount = "x@example.org"\nafter = "move"\nmove_to = "INBOX"',
            1,
            "move_to is the mailbox that is watched",
        ),
    ],
)
def test_what_is_wrong_is_told(toml: str, line: int, said: str) -> None:
    with pytest.raises(ConfigProblems) as caught:
        parsed(toml + ACCOUNT)
    (problem,) = caught.value.problems
    assert said in problem.text
    assert problem.line == line


def test_what_is_listened_on() -> None:
    """Mail clients are waited for unless there are targets and no account."""
    listen = '[forward.listen]\nsmtp = "[::1]:2525"\nlmtp = "/run/lmtp"\nrecipients = ["@example.net"]\n'
    everything = ["imap", "submission", "smtp", "lmtp"]
    assert list(parsed(listen).listeners) == everything
    assert list(parsed(listen + TARGET + ACCOUNT).listeners) == everything
    alone = parsed(listen + TARGET)
    assert {name: str(place) for name, place in alone.listeners.items()} == {
        "smtp": "[::1]:2525",
        "lmtp": "/run/lmtp",
    }
    told = alone.as_json()["forward"]["listen"]
    assert [told["smtp"], told["lmtp"], told["recipients"]] == ["[::1]:2525", "/run/lmtp", ["@example.net"]]
    assert list(parsed(TARGET).listeners) == []
    everybody = parsed('[forward.listen]\nlmtp = "/run/lmtp"\nrecipients = ["*"]')
    assert everybody.forward.listen.recipients == ("*",)
