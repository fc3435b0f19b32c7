"""`secmailproxy forward test`, and rules in the pipe: what is told happens, and a test changes nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from keystore.model import Fingerprint
from secmailproxy.cli import program
from secmailproxy.folders import HOME_VARIABLE
from tests.fixtures.proxy import ProxyHome, empty_home

ADMIN, OPS = "admin@example.org", "ops@example.com"
CRON = (
    b"Return-Path: <root@host>\nFrom: root\nTo: root\nSubject: Cron <root@host> treasure\n"
    b"X-Cron-Env: <SHELL=/bin/sh>\n\nThe windmill is crooked.\n"
)
SECRETS = ("treasure", "windmill", "SHELL")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[ProxyHome, Fingerprint, Fingerprint]:
    """A home with two targets and their certificates."""
    home = empty_home(tmp_path_factory.mktemp("forward") / "home")
    with home.keystore() as keystore:
        admin, ops = keystore.generate(ADMIN).fingerprint, keystore.generate(OPS).fingerprint
    home.folders.verdict_token()
    return home, admin, ops


@pytest.fixture
def home(
    made: tuple[ProxyHome, Fingerprint, Fingerprint], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> ProxyHome:
    """With a stand-in for sendmail that keeps what it gets; each test writes rules of its own."""
    home, admin, ops = made
    sendmail = tmp_path / "sendmail"
    sendmail.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/words; cat > {tmp_path}/sent\n')
    sendmail.chmod(0o755)
    (home.folder / "config.toml").write_text(
        '[secrets]\nbackend = "file"\npassphrase_file = "passphrase"\n'
        f'[forward]\nvia = "sendmail"\nsendmail = "{sendmail}"\nsender = "bounce@host.example"\n'
        f'aliases = ""\nto = "{ADMIN}"\n'
        f'[[forward.targets]]\naddress = "{ADMIN}"\nfingerprint = "{admin}"\n'
        f'[[forward.targets]]\naddress = "{OPS}"\nfingerprints = ["{ops}", "{admin}"]\n'
    )
    monkeypatch.setenv(HOME_VARIABLE, str(home.folder))
    return home


def run(*words: str, data: bytes = CRON) -> Result:
    result = CliRunner().invoke(program, ["forward", *words], input=data)
    assert not [word for word in SECRETS if word in result.output]
    return result


def told_of(*words: str, data: bytes = CRON, status: int = 0) -> dict[str, Any]:
    result = run("test", "-", "--json", *words, data=data)
    assert result.exit_code == status, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def names(lines: list[str]) -> list[str]:
    """Of the fields of a header section."""
    return [line.partition(":")[0] for line in lines if not line.startswith(" ")]


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_it_says_which_rule_speaks_and_what_would_leave_and_changes_nothing(
    home: ProxyHome, made: tuple[ProxyHome, Fingerprint, Fingerprint], tmp_path: Path
) -> None:
    home.add_config(
        '[[forward.rules]]\nname = "large"\nmatch = { larger = 100000 }\ndo = "drop"\n'
        f'[[forward.rules]]\nname = "keep"\nmatch = {{ header = {{ Subject = "^cron" }} }}\n'
        f'do = [{{ keep = "{tmp_path}/copies/" }}]\ncontinue = true\n'
        '[[forward.rules]]\nname = "ops"\nunless = { body = "waterwheel" }\n'
        f'do = [{{ forward = "{OPS}", subject = "replaced", subject_text = "From the machine" }}]\n'
    )
    before = tree(home.folder)
    told = told_of()
    assert tree(home.folder) == before
    assert not list(tmp_path.glob("copies*"))
    assert not (tmp_path / "sent").exists()
    assert told["rules"] == [
        {"name": "large", "holds": False, "why_not": "match: larger = 100000: it does not"},
        {"name": "keep", "holds": True, "why_not": None},
        {"name": "ops", "holds": True, "why_not": None},
    ]
    assert told["rule"] == "keep, ops"
    assert told["actions"] == [
        {"action": "keep", "path": f"{tmp_path}/copies", "form": "maildir"},
        {"action": "forward", "subject": "replaced", "sign": False},
    ]
    (product,) = told["leaves"]
    _, admin, ops = made
    assert (product["rcpt_tos"], product["fingerprints"]) == ([OPS], [ops, admin])
    assert (product["mail_from"], product["via"]) == ("bounce@host.example", "sendmail")
    assert "Subject: From the machine" in product["header"]
    # What was told is what happens.
    assert run().exit_code == 0
    sent = (tmp_path / "sent").read_text().splitlines()
    assert names(sent[: sent.index("")]) == names(product["header"])
    assert "Subject: From the machine" in sent
    (copy,) = (tmp_path / "copies" / "new").iterdir()
    assert copy.read_bytes() == CRON


def test_it_is_told_for_people_too(home: ProxyHome, tmp_path: Path) -> None:
    home.add_config(
        '[[forward.rules]]\nname = "other"\nmatch = { mail_from = "^$" }\ndo = "pass-on"\n'
        f'[[forward.rules]]\nname = "mine"\ndo = [{{ keep = "{tmp_path}/mbox" }}, "forward"]\n'
    )
    file = tmp_path / "message"
    file.write_bytes(CRON)
    result = run("test", str(file))
    assert result.exit_code == 0
    assert 'other: does not speak. match: mail_from = "^$": it does not.\nmine: speaks.\n' in result.stdout
    assert f"Keeps a plain copy in {tmp_path}/mbox (mbox).\n" in result.stdout
    assert f"  from <bounce@host.example> to {ADMIN}\n" in result.stdout
    assert "  | Subject: Encrypted system mail\n" in result.stdout
    assert result.stdout.endswith("Nothing was sent or kept: this was a test.\n")


def test_options_stand_before_or_after(
    home: ProxyHome, made: tuple[ProxyHome, Fingerprint, Fingerprint]
) -> None:
    for words in (["--to", OPS, "test", "-", "--json"], ["test", "-", "--json", "--to", OPS]):
        (product,) = json.loads(run(*words).stdout)["leaves"]
        assert product["rcpt_tos"] == [OPS]
    told = told_of("--to", OPS, "--fingerprint", made[1], "--mail-from", "<>", "--rcpt-to", "root")
    assert told["leaves"][0]["fingerprints"] == [made[1]]
    assert told["envelope"] == {"mail_from": "", "rcpt_tos": ["root"]}


def test_what_would_stay_is_75_and_says_why(home: ProxyHome) -> None:
    told = told_of("--rcpt-to", "x@elsewhere.example", status=75)
    assert "no [[forward.targets]] for x@elsewhere.example" in told["deferred"]
    assert told["leaves"] == []
    result = run("test", "-", "--to", "nobody@example.org")
    assert result.exit_code == 75
    assert "It would stay where it is (75): no encryption key for <nobody@example.org>" in result.stdout


def test_wrong_words_are_told_as_everywhere(home: ProxyHome) -> None:
    assert run("test").exit_code == 64
    assert run("test", "/nowhere").exit_code == 64
    home.add_config("[[forward.rules]]\n")
    assert run("test", "-").exit_code == 78
    # The pipe gives its message back whatever is wrong.
    assert run().exit_code == 75


def test_what_is_passed_on_is_shown_without_its_words(home: ProxyHome, tmp_path: Path) -> None:
    home.add_config('[[forward.rules]]\nmatch = { rcpt_to = "^root$" }\ndo = ["pass-on"]\n')
    (product,) = told_of("--rcpt-to", "root")["leaves"]
    assert (product["protection"], product["header"], product["rcpt_tos"]) == ("none", [], ["root"])
    assert run("--rcpt-to", "root").exit_code == 0
    assert (tmp_path / "sent").read_bytes() == CRON
    assert (tmp_path / "words").read_text().split() == ["-i", "-f", "root@host", "--", "root"]
    assert "Leaves IN CLEAR" in run("test", "-", "--rcpt-to", "root").stdout


def test_what_came_encrypted_is_known(home: ProxyHome, tmp_path: Path) -> None:
    assert run().exit_code == 0
    sealed = b"".join(
        line for line in (tmp_path / "sent").read_bytes().splitlines(True) if b"X-Loop" not in line
    )
    (product,) = told_of(data=sealed)["leaves"]
    assert (product["protection"], product["fingerprints"]) == ("encrypted", [])
    assert told_of(data=(tmp_path / "sent").read_bytes(), status=75)["deferred"].endswith("(mail loop)")


def test_fwd_01_rules_that_keep_and_drop_end_with_0_and_nothing_leaves(
    home: ProxyHome, tmp_path: Path
) -> None:
    home.add_config(
        f'[[forward.rules]]\nmatch = {{ body = "windmill" }}\ndo = [{{ keep = "{tmp_path}/mbox" }}]\n'
        '[[forward.rules]]\ndo = "drop"\n'
    )
    assert run().exit_code == 0
    assert CRON in (tmp_path / "mbox").read_bytes()
    assert run(data=b"Subject: other\n\nother\n").exit_code == 0
    assert (tmp_path / "mbox").read_bytes().count(b"\nSubject:") == 1
    assert not (tmp_path / "sent").exists()


def test_fwd_01_a_hand_over_that_fails_leaves_one_copy(home: ProxyHome, tmp_path: Path) -> None:
    home.add_config(f'[[forward.rules]]\ndo = [{{ keep = "{tmp_path}/copies/" }}, "forward"]\n')
    good = (tmp_path / "sendmail").read_text()
    (tmp_path / "sendmail").write_text("#!/bin/sh\nexit 75\n")
    assert run().exit_code == 75
    assert run().exit_code == 75
    (tmp_path / "sendmail").write_text(good)
    assert run().exit_code == 0
    assert len(list((tmp_path / "copies" / "new").iterdir())) == 1
    assert (tmp_path / "sent").exists()
