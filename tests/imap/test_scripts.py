"""The differential runner: scripts of commands, direct and proxied, octet for octet.

Requirements IMAP-01, IMAP-18, IMAP-24.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.player import Player, fill
from tests.fixtures.proxy import ACCOUNT, Proxy, Upstream, proxy_factory
from tests.fixtures.transcript import direct, proxied, without_keywords
from tests.imap.scripts import Script
from tests.imap.scripts.mail import MAIL
from tests.imap.scripts.tables import ALL

KEYS = Path(__file__).parents[1] / "corpus" / "openpgp"


@dataclass(frozen=True)
class Stage:
    """Two mailboxes for each script, and a proxy for one of them."""

    direct: dict[str, Mailbox]
    proxied: dict[str, Mailbox]
    proxy: Proxy


@pytest.fixture(scope="module")
def stage(rich_dovecot: Dovecot) -> Iterator[Stage]:
    """A server with all extensions, and one proxy that holds the keys of the mixed mail."""
    boxes = []
    for where in ("direct", "proxied"):
        boxes.append({name: rich_dovecot.mailbox(where) for name in ALL})
        for name, script in ALL.items():
            fill(boxes[-1][name], MAIL[script.mail])
    upstream = Upstream(rich_dovecot.ca.ca_file, rich_dovecot.imaps_port, 1)
    with proxy_factory(upstream) as factory:
        home = factory.home(*(box for name, box in boxes[1].items() if ALL[name].mail != "mixed"))
        for name, box in boxes[1].items():
            if ALL[name].mail == "mixed":
                # Other flags than the server has are for tests of their own.
                home.add_config(ACCOUNT.format(address=box.address, **vars(upstream)))
                home.add_config("verdict_keywords = false")
        with home.keystore() as keystore:
            for name in ("alice.asc", "bob-secret.asc"):
                keystore.import_keys((KEYS / name).read_bytes(), source="the tests", passphrase=str)
        yield Stage(*boxes, factory.serve(home))


@pytest.mark.parametrize("name", ALL)
def test_a_script_gives_the_same_transcript(name: str, stage: Stage) -> None:
    script: Script = ALL[name]
    plain, behind = stage.direct[name], stage.proxied[name]
    expected = Player(plain, lambda login: direct(plain, login=login)).play(script)
    got = Player(behind, lambda login: proxied(stage.proxy, behind, login=login)).play(script)
    for (step, one), (_, other) in zip(expected, got, strict=True):
        assert [without_keywords(response) for response in other] == one, step
