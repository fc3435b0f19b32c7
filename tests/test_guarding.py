"""SMTP-20: answers to what came encrypted, or left so, do not leave in clear; with a real keystore."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from keystore.errors import StoreDamaged
from secmailproxy.errors import KeystoreLocked, NotAllowed, SecMailProxyError
from secmailproxy.guarding import ReplyGuard
from secmailproxy.model import Envelope, Protection
from secmailproxy.outbound import Outbound, OutboundSettings
from secmailproxy.policy import Protect, Rule
from secmailproxy.views import Views
from secmailproxy.wishes import SubjectWord, Wish
from tests.fixtures.desk import ALICE, BOB, NOW, Desk, container, desk

__all__ = ["desk"]

STRANGER = "nokey@example.com"
ANSWER = b"From: bob@example.org\r\nTo: %b\r\nIn-Reply-To: <Secret@example.org>\r\n%b\r\n> windmill\r\n"
NEVER = OutboundSettings((Rule(protect=Protect.NEVER),))


@pytest.fixture
def views(desk: Desk, tmp_path: Path) -> Iterator[Views]:
    with closing(Views.open(tmp_path / "views.sqlite3", desk.keystore)) as views:
        views.encrypted_ids.remember([b"secret@example.org"])
        yield views


async def leaves(
    desk: Desk,
    views: Views,
    to: str = STRANGER,
    more: bytes = b"",
    settings: OutboundSettings | None = None,
    message: bytes | None = None,
) -> Protection:
    """How an answer leaves."""
    guard = ReplyGuard(views.encrypted_ids)
    outbound = Outbound(desk.keystore, settings or OutboundSettings(), guard=guard)
    written = ANSWER % (to.encode(), more) if message is None else message
    copies = await outbound.protect(Envelope(BOB, (to,)), written, account=BOB)
    return copies[0].protection


async def test_an_answer_that_would_leave_in_clear_is_refused(desk: Desk, views: Views) -> None:
    """Signed is in clear, too; the reply says what to do, and nothing of the message."""
    with pytest.raises(NotAllowed, match="X-Secmailproxy-Protect: never") as refusal:
        await leaves(desk, views)
    assert (refusal.value.smtp_code, refusal.value.enhanced_status) == (554, "5.7.1")
    assert "windmill" not in refusal.value.text
    with pytest.raises(NotAllowed):
        await leaves(desk, views, settings=NEVER)


async def test_an_answer_that_is_encrypted_leaves(desk: Desk, views: Views) -> None:
    assert await leaves(desk, views, ALICE) is Protection.SIGNED_AND_ENCRYPTED


async def test_what_answers_something_else_leaves(desk: Desk, views: Views) -> None:
    message = (ANSWER % (STRANGER.encode(), b"")).replace(b"<Secret@", b"<other@")
    assert await leaves(desk, views, message=message) is Protection.SIGNED


@pytest.mark.parametrize("wish", [b"never", b"Sign"])
async def test_a_wish_for_this_message_lets_it_pass(wish: bytes, desk: Desk, views: Views) -> None:
    """The owner has said it for this message; a rule for all lifts nothing (above)."""
    more = b"X-Secmailproxy-Protect: %b\r\n" % wish
    assert await leaves(desk, views, more=more) in {Protection.NONE, Protection.SIGNED}


@pytest.mark.parametrize(
    ("subject", "lifts"),
    [
        (b"[Clear] Re: the windmill", True),
        (b"=?utf-8?q?=5Bclear=5D_Re=3A_x?=", True),
        (b"Re: the windmill [clear]", False),
        (b"Re: [clear] the windmill", False),
    ],
)
async def test_a_word_of_the_subject_lifts_it_only_where_the_writer_has_put_it(
    subject: bytes, lifts: bool, desk: Desk, views: Views
) -> None:
    """At the end it may be that of the sender who is answered."""
    settings = OutboundSettings(words=(SubjectWord("[clear]", Wish(protect=Protect.NEVER)),))
    more = b"Subject: %b\r\n" % subject
    if lifts:
        assert await leaves(desk, views, more=more, settings=settings) is Protection.NONE
        return
    with pytest.raises(NotAllowed, match="answers or forwards"):
        await leaves(desk, views, more=more, settings=settings)


async def test_a_wish_to_prefer_encryption_lifts_nothing(desk: Desk, views: Views) -> None:
    with pytest.raises(NotAllowed):
        await leaves(desk, views, more=b"X-Secmailproxy-Protect: prefer\r\n")


async def test_the_guard_can_be_switched_off_for_an_account(desk: Desk, views: Views) -> None:
    assert (
        await leaves(desk, views, settings=OutboundSettings(unguarded=frozenset({BOB}))) is Protection.SIGNED
    )
    with pytest.raises(NotAllowed):
        await leaves(desk, views, settings=OutboundSettings(unguarded=frozenset({ALICE})))


async def test_what_the_client_has_encrypted_leaves_and_what_it_has_signed_does_not(
    desk: Desk, views: Views
) -> None:
    head = (ANSWER % (ALICE.encode(), b"")).partition(b"\r\n\r\n")[0] + b"\r\n"
    part = b"Content-Type: text/plain\r\n\r\n> windmill\r\n"
    made = head + desk.encrypt(part)
    with pytest.raises(NotAllowed, match="draft"):
        await leaves(desk, views, message=made)
    theirs = desk.keystore.encrypt(part, [desk.keys[ALICE]], None, NOW)
    assert await leaves(desk, views, ALICE, message=head + container(theirs)) is Protection.ENCRYPTED
    with pytest.raises(NotAllowed, match="certificates of all"):
        await leaves(desk, views, message=head + desk.sign(part, BOB))


async def test_answers_to_own_encrypted_mail_are_guarded_and_to_own_clear_mail_are_not(
    desk: Desk, views: Views
) -> None:
    """By the id that the message left with, which may be ours."""
    for to in (ALICE, STRANGER):
        first = (
            b"From: bob@example.org\r\nMessage-ID: <to-%b>\r\nSubject: x\r\n\r\nwindmill\r\n" % to.encode()
        )
        await leaves(desk, views, to, message=first)
        again = (
            b"From: bob@example.org\r\nReferences: <to-%b>\r\nSubject: x\r\n\r\n> windmill\r\n" % to.encode()
        )
        if to == STRANGER:
            assert await leaves(desk, views, message=again) is Protection.SIGNED
            continue
        with pytest.raises(NotAllowed):
            await leaves(desk, views, message=again)


async def test_a_memory_that_cannot_be_read_lets_nothing_pass_in_clear(
    desk: Desk, views: Views, tmp_path: Path
) -> None:
    class Damaged:
        """A keystore whose key to this has changed."""

        def seal(self, octets: bytes, context: bytes) -> bytes:
            raise AssertionError

        def unseal(self, sealed: bytes, context: bytes) -> bytes:
            raise StoreDamaged("the seal is broken")

    with (
        closing(Views.open(tmp_path / "views.sqlite3", Damaged())) as damaged,
        pytest.raises(SecMailProxyError, match="seal is broken") as refusal,
    ):
        await leaves(desk, damaged)
    assert refusal.value.smtp_code == 451


async def test_many_that_leave_at_once_are_all_remembered(desk: Desk, views: Views) -> None:
    """They are written together; one whose writing is given up takes no other with it."""
    guard = ReplyGuard(views.encrypted_ids)

    async def leave(number: int) -> None:
        product = b"Message-ID: <many-%d@x>\r\n\r\nciphertext" % number
        await guard.check(b"", product, Protection.ENCRYPTED, account=BOB, settings=OutboundSettings())

    tasks = [asyncio.create_task(leave(number)) for number in range(50)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [one for one in outcomes[1:] if one is not None] == []
    assert all(views.encrypted_ids.any_known([b"many-%d@x" % number]) for number in range(1, 50))


async def test_a_memory_that_cannot_be_written_stops_everybody(desk: Desk, tmp_path: Path) -> None:
    """Also those whose ids another one would have written."""
    with closing(Views.open(tmp_path / "views.sqlite3", desk.keystore)) as views:
        guard = ReplyGuard(views.encrypted_ids)
    product = b"Message-ID: <1@x>\r\n\r\nciphertext"
    outcomes = await asyncio.gather(
        *(
            guard.check(b"", product, Protection.ENCRYPTED, account=BOB, settings=OutboundSettings())
            for _ in range(3)
        ),
        return_exceptions=True,
    )
    assert [type(one) for one in outcomes] == [KeystoreLocked] * 3
