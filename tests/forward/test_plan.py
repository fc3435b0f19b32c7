"""Plans: they repeat an answer while nothing has changed of what it was made of, and never say more."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keystore.model import Fingerprint
from secmailproxy.config import Config
from secmailproxy.folders import HOME_VARIABLE, Folders
from secmailproxy.forward import plan
from secmailproxy.forward.message import envelope_sender, from_pipe, refuse_loop
from secmailproxy.forward.model import Conditions as Holds
from secmailproxy.forward.model import Drop, Forward, ForwardSettings, Rule, SubjectMode, Target
from secmailproxy.forward.preparing import look, prepare
from secmailproxy.mime.assemble import Made, made
from secmailproxy.mime.canonical import embedding
from secmailproxy.mime.entity import parse
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import ProxyHome, empty_home

ADMIN = "admin@example.org"
SENDER = "bounce@host.example"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[ProxyHome, Fingerprint]:
    home = empty_home(tmp_path_factory.mktemp("plan") / "home")
    with home.keystore() as keystore:
        return home, keystore.generate(ADMIN).fingerprint


@pytest.fixture
def home(template: tuple[ProxyHome, Fingerprint], monkeypatch: pytest.MonkeyPatch) -> Iterator[ProxyHome]:
    """A home whose next message has no plan yet."""
    made_before, _ = template
    monkeypatch.setenv(HOME_VARIABLE, str(made_before.folder))
    config = made_before.folders.config_file.read_bytes()
    yield made_before
    for left in made_before.folders.state.glob("forward-plan-*"):
        left.unlink()
    if not made_before.folders.config_file.exists():
        made_before.folders.config_file.write_bytes(config)
    made_before.folders.config_file.chmod(0o600)
    made_before.folders.state.chmod(0o700)


def settings(home: ProxyHome) -> ForwardSettings:
    """As `secmailproxy forward` makes them for one target."""
    chosen = Config.load(home.folders).forward_settings()
    return replace(
        chosen,
        targets=(Target(ADMIN, ()),),
        default=replace(chosen.default, rcpt_tos=(ADMIN,)),
        via="sendmail",
        sendmail="/bin/true",
        sender=SENDER,
    )


def prepared(home: ProxyHome, chosen: ForwardSettings, words: list[str] | None = None) -> bool:
    """Whether a run of the full way leaves a plan; files that were just written are let settle."""
    newest = max(path.stat().st_ctime for path in [home.folders.config_file, *home.folders.state.rglob("*")])
    wait_until(lambda: time.time() > newest + 0.12, "the clock")
    before = look(home.folders)
    with home.keystore() as keystore:
        return prepare(home.folders, words or [], chosen, keystore, before)


def found(home: ProxyHome, words: list[str] | None = None, later: float = 0) -> plan.Fields | None:
    """What the quick way reads."""
    config, state = plan.places() or ("", "")
    assert Path(state) == home.folders.state
    return plan.read(plan.path(state, words or []), config, words or [], time.time() + later)


def test_a_plan_is_found_again(home: ProxyHome) -> None:
    assert prepared(home, settings(home))
    fields = found(home)
    assert fields is not None
    assert fields["rcpt_to"] == ADMIN.encode()
    assert fields["payload"].startswith(
        b"From: bounce@host.example\r\nTo: admin@example.org\r\nDate: \0date\0\r\n"
    )
    assert b"\0subject\0" not in fields["product"]
    (path,) = home.folders.state.glob("forward-plan-*")
    assert path.stat().st_mode & 0o777 == 0o600
    # Opening the keystore changes nothing.
    with home.keystore() as keystore:
        keystore.certificates()
        assert found(home) is not None
    assert found(home) is not None


def _touch(home: ProxyHome) -> None:
    home.folders.config_file.touch()


def _open_config(home: ProxyHome) -> None:
    home.folders.config_file.chmod(0o666)


def _open_state(home: ProxyHome) -> None:
    home.folders.state.chmod(0o755)


def _no_config(home: ProxyHome) -> None:
    home.folders.config_file.unlink()


def _other_key(home: ProxyHome) -> None:
    with home.keystore() as keystore:
        keystore.generate("somebody@example.org")


def _rejected(home: ProxyHome) -> None:
    from keystore.model import Trust

    with home.keystore() as keystore:
        for certificate in keystore.certificates("somebody@example.org"):
            keystore.set_trust(certificate.fingerprint, Trust.REJECTED)


def _unfinished_change(home: ProxyHome) -> None:
    (home.folders.keystore / "keystore.sqlite3-wal").write_bytes(b"x")


def _other_mark(home: ProxyHome) -> None:
    path = home.folders.state / "verdict-token"
    path.write_text("1" * 20)


def _plan_open(home: ProxyHome) -> None:
    next(home.folders.state.glob("forward-plan-*")).chmod(0o640)


def _plan_is_a_link(home: ProxyHome) -> None:
    path = next(home.folders.state.glob("forward-plan-*"))
    path.rename(home.folder / "elsewhere")
    path.symlink_to(home.folder / "elsewhere")


def _plan_is_a_pipe(home: ProxyHome) -> None:
    path = next(home.folders.state.glob("forward-plan-*"))
    path.unlink()
    os.mkfifo(path, 0o600)


CHANGES = [
    _touch,
    _open_config,
    _open_state,
    _no_config,
    _other_key,
    _rejected,
    _unfinished_change,
    _other_mark,
    _plan_open,
    _plan_is_a_link,
    _plan_is_a_pipe,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_any_change_of_what_it_was_made_of_ends_it(
    change: Callable[[ProxyHome], None], home: ProxyHome
) -> None:
    assert prepared(home, settings(home))
    assert found(home) is not None
    change(home)
    assert found(home) is None
    wal = home.folders.keystore / "keystore.sqlite3-wal"
    wal.unlink(missing_ok=True)


def test_it_ends_in_time_and_does_not_begin_before(home: ProxyHome) -> None:
    assert prepared(home, settings(home))
    assert found(home, later=23 * 3600) is not None
    assert found(home, later=24 * 3600) is None
    assert found(home, later=-60) is None


def test_it_is_for_the_same_call_alone(home: ProxyHome, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--to", ADMIN]
    assert prepared(home, settings(home), words)
    assert found(home, words) is not None
    config, state = plan.places() or ("", "")
    mine = plan.path(state, words)
    assert plan.read(mine, config, ["--to", "other@example.org"], time.time()) is None
    assert plan.read(mine, f"{config}.other", words, time.time()) is None
    monkeypatch.setattr(plan.secmailproxy, "__version__", "0.0.0")
    assert found(home, words) is None
    monkeypatch.undo()
    monkeypatch.setenv(HOME_VARIABLE, str(home.folder))
    monkeypatch.setenv("LOGNAME", "somebody-else")
    assert found(home, words) is None


def test_a_change_while_it_was_made_leaves_none(home: ProxyHome) -> None:
    chosen = settings(home)
    assert prepared(home, chosen)
    home.folders.config_file.touch()
    before = look(home.folders)
    with home.keystore() as keystore:
        # So lately that the next change could bear the same time.
        assert not prepare(home.folders, [], chosen, keystore, replace(before, moment=time.time()))
        wait_until(lambda: time.time() > before.moment + 0.3, "the clock")
        before = look(home.folders)
        home.folders.config_file.touch()
        assert not prepare(home.folders, [], chosen, keystore, before)


RULE = Rule("r", Holds(), Holds(), (Drop(),))
NOT_PLAIN = {
    "rules": {"rules": (RULE,)},
    "relay": {"via": "smtp"},
    "subject kept": {"default": Forward((ADMIN,), SubjectMode.KEPT)},
    "signed": {"default": Forward((ADMIN,), sign=True)},
    "two pins": {"targets": (Target(ADMIN, (Fingerprint("A" * 40), Fingerprint("B" * 40))),)},
    "unknown pin": {"targets": (Target(ADMIN, (Fingerprint("A" * 40),)),)},
    "not ASCII": {"sender": "bouncé@host.example"},
    "sendmail by PATH": {"sendmail": "sendmail"},
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_only_the_plainest_settings_have_one(name: str, home: ProxyHome) -> None:
    assert not prepared(home, replace(settings(home), **NOT_PLAIN[name]))
    assert not list(home.folders.state.glob("forward-plan-*"))


@pytest.mark.parametrize("words", [["test", "x"], ["--help"], ["--to"], ["--passphrase-fd", "0"]])
def test_only_plain_options_have_one(words: list[str], home: ProxyHome) -> None:
    assert not plan.are_plain(words)
    assert not prepared(home, settings(home), words)


def test_a_certificate_that_expires_soon_is_judged_at_every_message(home: ProxyHome) -> None:
    with home.keystore() as keystore:
        for days, address in ((20, "soon@example.org"), (90, "late@example.org")):
            keystore.generate(
                address, expires=timedelta(days=days), now=datetime.now(UTC) - timedelta(days=1)
            )
    for address, has_one in (("soon@example.org", False), ("late@example.org", True)):
        chosen = replace(settings(home), targets=(Target(address, ()),), default=Forward((address,)))
        assert prepared(home, chosen) is has_one


@given(
    st.dictionaries(st.text(st.characters(codec="ascii", exclude_characters=" \n"), min_size=1), st.binary())
)
def test_a_plan_is_read_as_it_was_written(fields: dict[str, bytes]) -> None:
    assert plan.from_octets(plan.to_octets(fields)) == fields


@given(st.data())
def test_a_damaged_plan_is_none(data: st.DataObject) -> None:
    whole = plan.to_octets({"key": b"K" * 40, "payload": b"P" * 40})
    octets = bytearray(whole)
    at = data.draw(st.integers(0, len(octets) - 1))
    octets[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match=r"plan|int|subsection|index"):
        plan.from_octets(bytes(octets))
    with pytest.raises(ValueError, match=r"plan|int|subsection|index"):
        plan.from_octets(whole[:at])


PLAIN = b"Subject: s\n\nx\n"
PLACES = [
    ({HOME_VARIABLE: "/srv/mail"}, True),
    ({HOME_VARIABLE: "/srv/mail/", "HOME": "/root"}, True),
    ({HOME_VARIABLE: "mail", "HOME": "/root"}, False),
    ({HOME_VARIABLE: "~/mail", "HOME": "/root"}, False),
    ({"HOME": "/home/sysmail"}, True),
    ({"HOME": "/home/sysmail", "XDG_CONFIG_HOME": "/etc/x", "XDG_STATE_HOME": "/var/x"}, True),
    ({"HOME": "/home/sysmail", "XDG_STATE_HOME": " /var/x "}, False),
    ({"HOME": "/home/sysmail", "XDG_STATE_HOME": "x"}, False),
    ({"HOME": "/home/sysmail", "XDG_STATE_HOME": ""}, True),
    ({}, False),
]


@pytest.mark.parametrize(("environment", "known"), PLACES)
def test_the_places_are_those_of_the_full_way(
    environment: dict[str, str], known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (HOME_VARIABLE, "HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = plan.places()
    assert (found is not None) is known
    if found is not None:
        full = Folders.of_user()
        assert tuple(map(Path, found)) == (full.config_file, full.state)


REFUSED = [
    b"",
    b"\n",
    b"no message",
    b"Subject: s\n",
    b"Subject: s\r\n\r\nx\r\n",
    b"Subject: s\n\nx\r\n",
    b"Subject: s\n\nx\0",
    b"Subject: \xe4\n\nx\n",
    b"X-A: \xe4\nSubject: s\n\nx\n",
    b"Subject: =?x\n y\n\nx\n",
    b"Subject: s\nSubject: t\n\nx\n",
    b"Subject: s\t\n\nx\n",
    b"Subject: " + b"s" * 500 + b"\n\nx\n",
    b" Subject: s\n\nx\n",
    b"From : a@b\nSubject: s\n\nx\n",
    b"Sub ject: s\n\nx\n",
    b"Subject : s\n\nx\n",
    b"Subject: s\nno field\n\nx\n",
    b"X-Loop: any\n\nx\n",
    b"Delivered-To: Admin@Example.ORG\n\nx\n",
    b"Delivered-To:\n <admin@example.org>\n\nx\n",
    b"Received: by x\n" * 51 + b"\nx\n",
    b"X-A: b\n" * 201 + b"\nx\n",
    b"Return-Path: <>\nReturn-Path: <a@b>\n\nx\n",
    b"Content-Type: multipart/mixed\n\n--b\n\nx\n--b--\n",
    b"Content-Type: multipart/signed; boundary=b\n\nx\n",
    b"Content-Type: multipart/encrypted; boundary=b\n\nx\n",
    b"Content-Type: application/pkcs7-mime\n\nx\n",
    b"Content-Type: message/rfc822\n\nSubject: s\n\nx\n",
    b"Content-Type: text/plain\nContent-Type: application/pkcs7-mime\n\nx\n",
    b"Subject: s\n\n-----BEGIN PGP MESSAGE-----\n",
    b"Subject: s\n\n" + b"x" * 999 + b"\n",
    b"Subject: s\n\n" + b"x\n" * (plan.MESSAGE_MOST // 2),
]
TAKEN = [
    (PLAIN, b"Subject: s\r\n", False),
    (b"From root@host Thu Jan  1\nReturn-Path: <>\nSubject: s\n\nx", b"Subject: s\r\n", True),
    (b"To: root\n\nx\n", b"", False),
    (b"Content-Type: text/plain; charset=UTF-8\n\nM\xc3\xbcnchen \xff\n", b"", False),
    (b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n\xe4\n--b--\n", b"", False),
    (b"Content-Type:\n Multipart/Report; boundary=b\n\n--b\nContent-Type: ;", b"", False),
    (b"From MAILER-DAEMON Thu Jan  1\nTo: root\n\nx\n", b"", True),
    (b"From MAILER-DAEMON Thu\nReturn-Path: <a@b>\nTo: root\n\nx\n", b"", False),
    (b"sUBJECT:s\nTo: a,\n b\nDelivered-To: root\nContent-Type: text/html\n\nx\n", b"sUBJECT:s\r\n", False),
    (b"Subject: s\n\n" + b"x" * 998 + b"\nFrom here\n.\n", b"Subject: s\r\n", False),
]


@pytest.mark.parametrize("octets", REFUSED, ids=range(len(REFUSED)))
def test_what_is_not_plain_goes_the_full_way(octets: bytes) -> None:
    assert plan.plain(octets, ADMIN.encode()) is None


@pytest.mark.parametrize(("octets", "subject", "null"), TAKEN, ids=range(len(TAKEN)))
def test_what_is_plain(octets: bytes, subject: bytes, null: bool) -> None:
    assert plan.plain(octets, ADMIN.encode()) == (subject, null, from_pipe(octets))


LINES = st.sampled_from(
    [
        *(line + b"\n" for octets in (*REFUSED, PLAIN) if len(octets) < 200 for line in octets.split(b"\n")),
        b"\n",
    ]
)


@given(st.lists(LINES | st.binary(max_size=20), max_size=12).map(b"".join))
@example(b"Return-Path: <>\nSubject:\n\n\n")
def test_what_is_plain_the_full_way_would_take_too(octets: bytes) -> None:
    """It would find the same message, sender and subject, and no reason to refuse it."""
    judged = plan.plain(octets, ADMIN.encode())
    if judged is None:
        return
    subject, null, message = judged
    assert from_pipe(octets) == message
    root = parse(message)
    refuse_loop(message, ADMIN, "any")
    assert (envelope_sender(octets) == "", made(root)) == (null, Made.NOTHING)
    assert embedding(message).encode() == plan.encoding(message)
    subjects = [field.raw(message) for field in root.fields if field.named("Subject")]
    assert b"".join(subjects) == subject
