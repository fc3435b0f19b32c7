"""FWD-02 with a target of S/MIME, by the pipe: OpenSSL reads the report and the digest octet for octet."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from keystore.model import Trust
from secmailproxy.cli import program
from secmailproxy.folders import HOME_VARIABLE
from secmailproxy.mime.canonical import crlf
from secmailproxy.mime.entity import parse
from tests.fixtures.digests import taken_out
from tests.fixtures.proxy import empty_home
from tests.fixtures.x509 import Authority, OpenSSL

ADMIN = "smime@example.org"
REPORT = (
    b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@web1> treasure %d\nX-Cron-Env: <SECRET=1>\n"
    b"MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n"
    b"The windmill \xc3\xbc \xff is crooked. 50%%\r100%%\nFrom here\n.\n%d no line end"
)


def test_fwd_02_a_target_of_smime(
    tmp_path: Path, mail_authority: Authority, openssl: OpenSSL, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, out = empty_home(tmp_path / "home"), tmp_path / "out"
    out.mkdir()
    script = tmp_path / "handover"
    script.write_text(f"#!/bin/sh\ncat > {out}/$$.mail\n")
    script.chmod(0o755)
    admin = mail_authority.person(ADMIN, "rsa2048", 7)
    with home.keystore() as keystore:
        (found,) = keystore.import_keys(admin.pem, source="test", trust=Trust.VERIFIED)
    home.add_config(
        f'[forward]\nvia = "sendmail"\nsendmail = "{script}"\nsender = "bounces@host.example"\n'
        '[[forward.digests]]\nname = "nightly"\nevery = "daily"\n'
        '[[forward.rules]]\nmatch = { header = { Subject = "treasure [12]" } }\n'
        'do = { collect = "nightly" }\n'
        f'[[forward.targets]]\naddress = "{ADMIN}"\nfingerprint = "{found.fingerprint}"\n'
    )
    originals = [crlf(REPORT % (number, number)) for number in (1, 2, 3)]
    monkeypatch.setenv(HOME_VARIABLE, str(home.folder))
    for number in (1, 2, 3):
        done = CliRunner().invoke(program, ["forward"], input=REPORT % (number, number))
        assert done.exit_code == 0, done.output
    # A digest that is not configured any more waits for nothing.
    home.folders.config_file.write_text(home.folders.config_file.read_text().replace("nightly", "weekly"))
    (sent,) = [path.read_bytes() for path in out.iterdir()]
    assert not [word for word in (b"treasure", b"windmill", b"crooked", b"SECRET") if word in sent]
    assert parse(openssl.decrypt(crlf(sent), admin)).body == originals[2]

    assert CliRunner().invoke(program, ["queue", "run"]).exit_code == 0
    (digest,) = [octets for path in out.iterdir() if (octets := path.read_bytes()) != sent]
    assert b"igest" not in digest
    assert sorted(taken_out(openssl.decrypt(crlf(digest), admin))) == originals[:2]
