"""NeoMutt in an xterm on a display of its own (Xvfb), photographed by ImageMagick."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fixtures.documented import neomutt_verdicts
from tests.fixtures.people import ProxyUser
from tests.fixtures.processes import die_with_parent, end, service_folder, wait_until
from tests.screenshots.mail import BROKEN, CONTRACT, LETTERS, SIGNED

COLUMNS, LINES = 104, 20
CONFIG = """set folder = "imap://127.0.0.1:{user.proxy.imap_port}/"
set spoolfile = "+INBOX"
set imap_user = "{user.address}"
set imap_pass = "{user.mailbox.password}"
set ssl_starttls = no
set ssl_force_tls = no
set sort = reverse-date
set pager_index_lines = 7
set mark_old = no
set wait_key = no
"""


def take_neomutt(user: ProxyUser, picture: Path) -> None:
    """The list and a message, after the signed ones were opened."""
    with service_folder("neomutt") as folder, _display() as display:
        settings = CONFIG.format(user=user) + neomutt_verdicts(user.verdict_field)
        (folder / "rc").write_text(settings)
        keys = "".join(f"{1 + LETTERS - uid}<enter><display-message><exit>" for uid in (SIGNED, BROKEN))
        (folder / "push").write_text(f"push '{keys}1<enter><display-message>'\n")
        command = [
            *("xterm", "-geometry", f"{COLUMNS}x{LINES}+0+0", "-fa", "DejaVu Sans Mono", "-fs", "11"),
            *("-bg", "black", "-fg", "gray90", "+sb", "-tn", "xterm-256color"),
            *("-e", "script", "-q", "-f", "-c", "neomutt -n -F rc -e 'source push'", "drawn"),
        ]
        environment = {**os.environ, "DISPLAY": display, "HOME": str(folder), "LC_ALL": "C.UTF-8"}
        process = subprocess.Popen(
            command, cwd=folder, env=environment, preexec_fn=die_with_parent, start_new_session=True
        )
        try:
            drawn = folder / "drawn"
            wait_until(lambda: drawn.exists() and CONTRACT.encode() in drawn.read_bytes(), "the message")
            _photograph(display, picture)
        finally:
            end(process)


@contextmanager
def _display() -> Iterator[str]:
    """Its name, such as ":1"."""
    reader, writer = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1280x800x24", "-nolisten", "tcp"],
        pass_fds=[writer],
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
        start_new_session=True,
    )
    os.close(writer)
    try:
        with open(reader, "rb") as stream:
            number = stream.readline().decode().strip()
        assert number, "Xvfb did not start"
        yield f":{number}"
    finally:
        end(server)


def _photograph(display: str, picture: Path) -> None:
    """The whole display without its empty margin, as soon as nothing changes any more."""

    def seen() -> bytes:
        command = ["import", "-display", display, "-window", "root", "-trim", "png:-"]
        return subprocess.run(command, check=True, capture_output=True).stdout

    shots = [b"", seen()]

    def still() -> bool:
        shots.append(seen())
        return shots[-1] == shots[-2]

    wait_until(still, "a picture that stands still")
    picture.write_bytes(shots[-1])
