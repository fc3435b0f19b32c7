"""For whom a listener takes system mail."""

from __future__ import annotations

import pytest

from secmailproxy.forward.acceptance import is_accepted
from secmailproxy.forward.model import ForwardSettings, Target

SETTINGS = ForwardSettings(
    targets=(Target("Admin@example.org", ()),), local_domains=("host.example.test", "localhost")
)


@pytest.mark.parametrize(
    ("rcpt_to", "patterns", "accepted"),
    [
        ("root", (), True),
        ("postmaster", (), True),
        ("root@host.example.test", (), True),
        ("root+cron@HOST.example.test", (), True),
        ("root@localhost", (), True),
        ("admin@EXAMPLE.org", (), True),
        ("bob@example.org", (), False),
        ("root@sub.host.example.test", (), False),
        ("root@host.example.test.example.net", (), False),
        ('"bob@example.net"@localhost', (), False),
        ('"root@localhost"@example.net', (), False),
        ("bob%example.net@localhost", (), False),
        ("example.net!bob@localhost", (), False),
        ("example.net!bob", (), False),
        ("bob%example.com@example.net", ("@example.net",), False),
        ("bob%example.com@example.net", ("*",), True),
        ("@localhost", (), False),
        ("", (), True),
        ("bob@example.net", ("@example.net",), True),
        ("bob@a.example.net", ("@example.net",), False),
        ("bob@a.example.net", ("*.example.net",), True),
        ("bob@example.net", ("carol@example.net",), False),
        ("bob@example.net", ("*",), True),
    ],
)
def test_who_is_accepted(rcpt_to: str, patterns: tuple[str, ...], accepted: bool) -> None:
    """This machine's names, targets, and what is named.

    A rule may pass on what was accepted, and Postfix makes bob@example.net of bob%example.net@localhost: a
    stranger would be relayed to.
    """
    assert is_accepted(rcpt_to, SETTINGS, patterns) is accepted
