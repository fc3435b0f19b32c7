"""SMTP-20: which messages were secret is remembered for good, and nobody else can read it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag

from secmailproxy.imap.rendering import Renderer
from secmailproxy.outbound import Outbound, OutboundSettings
from secmailproxy.views import Kind, View, Views, message_hash
from tests.fixtures.desk import ALICE, BOB, FIELD, NOW, TEXT, Desk, container, desk, message, protected
from tests.test_views import FORM, Aead

__all__ = ["desk"]

HEAD = b"Message-ID: <secret-1@example.org>\r\nSubject: secretword\r\n\r\n"
ENCRYPTED = b"Secmail-Verdict-1: encrypted; signature=none;\r\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "views.sqlite3"


@pytest.fixture
def views(path: Path) -> Iterator[Views]:
    with closing(Views.open(path, Aead())) as views:
        yield views


def form(number: int, verdict: bytes = ENCRYPTED, *, came_encrypted: bool = True) -> View:
    head = verdict + HEAD.replace(b"-1@", b"-%d@" % number)
    return replace(FORM, verdict=verdict, header=head, came_encrypted=came_encrypted)


def test_what_is_presented_is_remembered_across_restarts_and_accounts(views: Views, path: Path) -> None:
    box = views.mailbox("a@example.test", b"INBOX", 7)
    views.classify(box, b"1:2", {1: Kind.SEALED, 2: Kind.SEALED})
    assert not views.encrypted_ids.any_known([b"secret-1@example.org"])
    views.fix(box, {1: (message_hash(b"1"), form(1)), 2: (message_hash(b"2"), form(2, came_encrypted=False))})
    views.encrypted_ids.remember([b"sent@example.org"])
    with closing(Views.open(path, Aead())) as again:
        known = again.encrypted_ids
        assert known.any_known([b"x@y", b"secret-1@example.org"])
        assert known.any_known([b"sent@example.org"])
        assert not known.any_known([b"secret-2@example.org", b"secret-1@example.or"])
        assert not known.any_known([])


def test_a_form_and_its_id_are_kept_together_or_not_at_all(views: Views, path: Path) -> None:
    """Nobody has read what is not remembered."""
    box = views.mailbox("a@example.test", b"INBOX", 7)
    views.classify(box, b"1:2", {1: Kind.SEALED, 2: Kind.SEALED})
    with pytest.raises(LookupError):
        views.fix(box, {1: (message_hash(b"1"), form(1)), 2: (message_hash(b"no form"), None)})
    assert views.view(box, 1) is None
    assert not views.encrypted_ids.any_known([b"secret-1@example.org"])
    views.fix(box, {1: (message_hash(b"1"), form(1))})
    assert views.encrypted_ids.any_known([b"secret-1@example.org"])


def test_the_file_tells_no_id_without_the_key(views: Views, path: Path) -> None:
    views.encrypted_ids.remember([b"secret-1@example.org"])
    octets = b"".join(one.read_bytes() for one in path.parent.iterdir())
    assert b"secret-1" not in octets
    with closing(sqlite3.connect(path)) as database:
        ((mark,),) = database.execute("SELECT mark FROM encrypted_id")
        database.execute("UPDATE encrypted_id_key SET sealed = zeroblob(60)")
        database.commit()
    assert len(mark) == 16
    with closing(Views.open(path, Aead())) as again, pytest.raises(InvalidTag):
        again.encrypted_ids.any_known([b"secret-1@example.org"])


def test_two_processes_share_one_key(views: Views, path: Path) -> None:
    with closing(Views.open(path, Aead())) as other:
        other.encrypted_ids.remember([b"a@x"])
        views.encrypted_ids.remember([b"b@x"])
        assert views.encrypted_ids.any_known([b"a@x"])
        assert other.encrypted_ids.any_known([b"b@x"])


@pytest.mark.parametrize(
    ("verdict", "remembered"),
    [
        (ENCRYPTED, True),
        (b"Secmail-Verdict-1: signed+encrypted; signature=valid;\r\n", True),
        (b"Secmail-Verdict-1: not decrypted; reason=encrypted;\r\n", False),
        (b"Secmail-Verdict-1: signed; signature=valid;\r\n", False),
        (b"", False),
    ],
)
def test_forms_of_earlier_sessions_are_remembered_once(
    verdict: bytes, remembered: bool, views: Views, path: Path
) -> None:
    """Those that an older version kept, by what their verdict says; one by one, however many."""
    for number in range(250):
        old = form(number, verdict, came_encrypted=False)
        views.keep_form("a@example.test", message_hash(b"%d" % number), old)
    views.remember_old_forms()
    assert all(
        views.encrypted_ids.any_known([b"secret-%d@example.org" % number]) is remembered
        for number in range(250)
    )
    views.keep_form("a@example.test", message_hash(b"new"), form(999, ENCRYPTED, came_encrypted=False))
    with closing(Views.open(path, Aead())) as again:
        again.remember_old_forms()
        assert not again.encrypted_ids.any_known([b"secret-999@example.org"])


@pytest.mark.parametrize(
    ("kind", "came_encrypted"),
    [
        ("encrypted", True),
        ("signed+encrypted", True),
        ("at rest", False),
        ("draft", False),
        ("unreadable", False),
    ],
)
async def test_only_what_others_encrypted_counts(kind: str, came_encrypted: bool, desk: Desk) -> None:
    """A draft, sent mail or a mailbox that we keep encrypted may have been anything on its way."""
    plain = message(TEXT)
    outbound = Outbound(desk.keystore, OutboundSettings())
    match kind:
        case "encrypted":
            octets = message(desk.encrypt(protected()))
        case "signed+encrypted":
            octets = message(desk.encrypt(protected(), ALICE))
        case "at rest":
            octets = await outbound.protect_at_rest(BOB, plain)
        case "draft":
            octets = await outbound.protect_to_self(BOB, plain, sign=False)
        case _:
            octets = message(
                container(b"-----BEGIN PGP MESSAGE-----\r\n\r\nnot\r\n-----END PGP MESSAGE-----")
            )
    view = Renderer(desk.keystore, FIELD, lambda: NOW).view(octets, signed=False)
    assert view.came_encrypted is came_encrypted
