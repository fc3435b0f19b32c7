"""What a heartbeat tells of the machine: what cannot be told is said so, and keeps no mail from leaving."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from keystore.keystore import Keystore
from secmailproxy.config import Config
from secmailproxy.folders import Folders
from secmailproxy.forward.collected import collected_of
from secmailproxy.forward.model import Collect, SystemMail
from secmailproxy.mime import header
from secmailproxy.mime.entity import parse
from secmailproxy.monitoring import digests_of
from tests.fixtures.digests import cron, system, taken_out, text_of
from tests.fixtures.keystores import credentials, keystore, make_keystore
from tests.fixtures.queued import put

__all__ = ["credentials", "keystore", "make_keystore"]

CONFIG = b"""[forward]
via = "sendmail"
sender = "root@host.example.org"
heartbeat = "daily"
[[forward.targets]]
address = "admin@example.org"
fingerprint = "0123456789ABCDEF0123456789ABCDEF01234567"
[[forward.digests]]
name = "nightly"
every = "daily"
at = "07:00"
"""


def test_what_cannot_be_told_stops_neither_heartbeat_nor_digest(keystore: Keystore, tmp_path: Path) -> None:
    """Such as a journal that somebody else has written, or an entry that nobody can open."""
    folders = Folders(tmp_path / "config.toml", tmp_path / "state", tmp_path / "cache")
    config, sent = Config.parse(CONFIG, folders), list[SystemMail]()
    digests = digests_of(lambda: config, keystore, lambda: "root@host.example.org", sent.append)
    (folders.journal / f"{datetime.now(UTC):%Y-%m-%d}.journal").mkdir(parents=True)
    put(folders.spool)
    (folders.spool / "aside").mkdir()
    (folders.spool / "aside" / "x.mail").touch()
    collected = collected_of(folders, keystore)
    collected.collect(system(cron("one")), Collect("nightly"))
    (entry,) = (folders.collected / "nightly").iterdir()
    old = datetime.now(UTC) - timedelta(days=3)
    os.rename(entry, entry.with_name(f"{old:%Y%m%dT%H%M%S%fZ}-{'0' * 16}.collected"))
    collected.collect(system(cron("two")), Collect("former"))
    assert digests.do() > 0
    (mail,) = sent  # a digest to the same recipients serves as the heartbeat
    assert taken_out(mail.octets) == [cron("two")]
    text = text_of(mail.octets)
    assert "since then\r\n\r\n  cannot be told: Is a directory\r\n" in text
    assert "  1 set aside in " in text
    assert "      1  nightly, since " in text
    (folders.collected / "former").rmdir()
    folders.heartbeat.unlink()
    digests.do()
    subject = header.text(parse(sent[-1].octets), "Subject")
    assert subject is not None
    assert subject.endswith(": 4 to look at")
