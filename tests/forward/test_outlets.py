"""FWD-06: what is handed over is taken whole or not at all, whatever the way, and never comes back to us."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from secmailproxy.errors import ConfigError, NotAllowed, UpstreamUnavailable
from secmailproxy.forward.handover import by_sendmail
from secmailproxy.forward.model import ForwardSettings, Outlet, Product
from secmailproxy.forward.outlets import outlet_of
from secmailproxy.forward.queue import Queue
from secmailproxy.forward.spool import Route
from secmailproxy.forward.wake import HANDED_OVER
from secmailproxy.model import Envelope
from tests.fixtures.queued import ADMIN, SENDER, files, sealed

CLEAR = Product(b"Subject: x\r\n\r\npassed on\r\n", Envelope("root@host", ("list@host",)), is_plain=True)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def sendmail(tmp_path: Path) -> Path:
    """Writes down its recipients; fails while there is a file `no`."""
    path = tmp_path / "sendmail"
    path.write_text(
        f'#!/bin/sh\ncat >/dev/null; test -e {tmp_path}/no && exit 75\necho "$5" >> {tmp_path}/taken\n'
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def outlet(spool: Path, sendmail: Path) -> Callable[..., tuple[Outlet, list[int]]]:
    """Make an outlet, and what counts how often somebody was woken."""

    def make(via: str) -> tuple[Outlet, list[int]]:
        woken: list[int] = []
        settings = ForwardSettings(sender=SENDER, via=via, sendmail=str(sendmail), account="host@example.org")
        return outlet_of(settings, spool, lambda: woken.append(1)), woken

    return make


def taken(folder: Path) -> list[str]:
    path = folder / "taken"
    return path.read_text().split() if path.exists() else []


def test_a_smarthost_gets_all_from_the_queue(outlet: Callable, spool: Path) -> None:
    made, woken = outlet("smarthost")
    made.take([sealed(1), sealed(2)])
    queue = Queue(spool)
    (name,) = queue.names()
    assert queue.look(name)[0].route == Route("smarthost", "host@example.org")
    assert queue.look(name)[0].bounces == SENDER
    assert woken == [1]
    with pytest.raises(NotAllowed):
        made.take([CLEAR])
    with pytest.raises(NotAllowed):
        made.take([sealed(3), CLEAR])
    assert (queue.names(), woken) == ([name], [1])


def test_one_message_goes_to_sendmail_directly(outlet: Callable, spool: Path, tmp_path: Path) -> None:
    made, woken = outlet("sendmail")
    made.take([sealed(1)])
    made.take([CLEAR])
    assert taken(tmp_path) == [ADMIN, "list@host"]
    (tmp_path / "no").touch()
    with pytest.raises(UpstreamUnavailable, match="status 75"):
        made.take([sealed(2)])
    assert (spool.exists(), woken) == (False, [])


def test_several_go_through_the_queue_to_sendmail(
    outlet: Callable, spool: Path, tmp_path: Path, sendmail: Path
) -> None:
    """FWD-06: were one refused after another was taken, a retry would send that one again."""
    made, woken = outlet("sendmail")
    made.take([sealed(1), sealed(2)])
    (name,) = Queue(spool).names()
    assert Queue(spool).look(name)[0].route == Route("sendmail", str(sendmail))
    assert (taken(tmp_path), woken) == ([], [1])


def test_what_is_for_the_escrow_waits_whatever_the_way(outlet: Callable, spool: Path, tmp_path: Path) -> None:
    made, _ = outlet("sendmail")
    made.take([dataclasses.replace(sealed(1), held="no usable certificate")])
    (name,) = Queue(spool).names()
    assert Queue(spool).progress(name).held == "no usable certificate"
    assert taken(tmp_path) == []


def test_one_in_clear_beside_encrypted_ones_is_handed_over_first(
    outlet: Callable, spool: Path, tmp_path: Path
) -> None:
    """When it is refused nothing else has left either, and nothing of it is on the disk."""
    made, woken = outlet("sendmail")
    (tmp_path / "no").touch()
    with pytest.raises(UpstreamUnavailable):
        made.take([sealed(1), CLEAR, sealed(2)])
    assert files(spool) == []
    (tmp_path / "no").unlink()
    made.take([sealed(1), CLEAR, sealed(2)])
    assert taken(tmp_path) == ["list@host"]
    (name,) = Queue(spool).names()
    assert len(Queue(spool).look(name)[0].messages) == 2
    assert b"passed on" not in (spool / f"{name}.mail").read_bytes()
    assert woken == [1]
    # Not for good: the rules can be mended, and a watched mailbox must not leave the message alone for ever.
    with pytest.raises(ConfigError, match="several messages in clear"):
        made.take([CLEAR, CLEAR])
    assert taken(tmp_path) == ["list@host"]


def test_a_queue_that_cannot_be_written_lets_nothing_leave(
    outlet: Callable, spool: Path, tmp_path: Path
) -> None:
    made, _ = outlet("sendmail")
    spool.write_text("in the way")
    with pytest.raises(ConfigError):
        made.take([sealed(1), CLEAR])
    assert taken(tmp_path) == []


SCRIPT = "#!/usr/bin/python3\nfrom secmailproxy.__main__ import main\nmain()\n"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("secmailproxy", "#!/bin/sh\n"),
        ("secmailproxy-sendmail", "#!/bin/sh\n"),
        ("sendmail", SCRIPT),
        ("sendmail", '#!/bin/sh\nexec /opt/bin/python -m secmailproxy sendmail "$@"\n'),
    ],
)
def test_a_sendmail_that_is_us_is_refused_before_it_runs(name: str, text: str, tmp_path: Path) -> None:
    real = tmp_path / "bin" / name
    real.parent.mkdir()
    real.write_text(text)
    real.chmod(0o755)
    link = tmp_path / "sendmail"
    link.symlink_to(real)
    for program in (real, link):
        with pytest.raises(ConfigError, match=r"is secmailproxy itself; name .* forward\.sendmail"):
            by_sendmail(program, SENDER, [ADMIN], b"x\r\n")


def test_who_was_called_by_our_sendmail_calls_none(
    sendmail: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard is in the environment of what we run, and stops whoever finds it, however it got there."""
    sendmail.write_text(f'#!/bin/sh\necho "${HANDED_OVER}" > {tmp_path}/guard; cat >/dev/null\n')
    by_sendmail(sendmail, SENDER, [ADMIN], b"x\r\n")
    assert (tmp_path / "guard").read_text() == "1\n"
    assert HANDED_OVER not in os.environ
    monkeypatch.setenv(HANDED_OVER, "1")
    with pytest.raises(ConfigError, match="mail loop"):
        by_sendmail(sendmail, SENDER, [ADMIN], b"x\r\n")
