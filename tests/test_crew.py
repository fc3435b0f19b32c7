"""Who protects a message: this process, or another one; the outcome is the same, and no message is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from keystore.keystore import Keystore
from keystore.model import Fingerprint, Holder
from keystore.vault import Vault
from secmailproxy.crew import _LARGE, _MANY, Crew
from secmailproxy.errors import NoUsableCertificate
from secmailproxy.mime.assemble import openpgp_ciphertext
from secmailproxy.mime.entity import parse
from secmailproxy.model import Envelope
from secmailproxy.outbound import Copy, Outbound, OutboundSettings, Work
from secmailproxy.policy import Protect, Rule
from secmailproxy.workers import Urgency, Workers, program
from tests.fixtures.desk import ALICE, BOB, MADE, Desk, desk
from tests.fixtures.workers import Slow, hired, until

__all__ = ["desk"]

MESSAGE = (
    b"From: alice@example.org\r\nTo: bob@example.org\r\nSubject: mill\r\n\r\nMeet me at the windmill.\r\n"
)
LARGE = MESSAGE + b"A line of a large message.\r\n" * (_LARGE // 20)
STRANGER = "stranger@example.net"


class Counting(Keystore):
    """Counts what it encrypts."""

    made = 0

    def encrypt(
        self, octets: bytes, recipients: Sequence[Fingerprint], signer: Fingerprint | None, now: object
    ) -> bytes:
        """Encrypts."""
        self.made += 1
        return super().encrypt(octets, recipients, signer, now)  # type: ignore[arg-type]  # passed through


@dataclass
class Here:
    """An `Outbound` of this process with a crew, and what this process has encrypted itself."""

    keystore: Counting
    outbound: Outbound

    @classmethod
    def of(cls, desk: Desk, workers: Workers, *rules: Rule) -> Here:
        store = desk.keystore
        keystore = Counting(store._store, store._vault, store._gnupg, store.roots, store._folder)
        return cls(keystore, Outbound(keystore, OutboundSettings(rules), crew=Crew(workers)))

    async def protect(self, message: bytes = MESSAGE, rcpt_to: str = BOB) -> tuple[Copy, ...]:
        return await self.outbound.protect(Envelope(ALICE, (rcpt_to,)), message)


def is_sealed(desk: Desk, copies: Sequence[Copy], text: bytes = b"windmill") -> bool:
    (copy,) = copies
    ciphertext = openpgp_ciphertext(parse(copy.octets))
    assert ciphertext is not None
    return text in desk.keystore.decrypt(ciphertext, MADE).octets and text not in copy.octets


async def test_few_messages_start_no_process(desk: Desk) -> None:
    async with hired(desk) as workers:
        here = Here.of(desk, workers)
        for copies in await asyncio.gather(*(here.protect() for _ in range(_MANY - 1))):
            assert is_sealed(desk, copies)
        assert not workers.processes
    assert here.keystore.made == _MANY - 1


async def test_many_at_once_are_protected_by_other_processes(desk: Desk) -> None:
    async with hired(desk) as workers:
        here = Here.of(desk, workers)
        for copies in await asyncio.gather(*(here.protect() for _ in range(_MANY))):
            assert is_sealed(desk, copies)
        await until(workers, 2)
        made = here.keystore.made
        for copies in await asyncio.gather(*(here.protect() for _ in range(20))):
            assert is_sealed(desk, copies)
        assert here.keystore.made == made


async def test_a_large_message_waits_for_another_process(desk: Desk) -> None:
    """The engine would keep every session of this one waiting; so it is for all that a mailbox is given."""
    async with hired(desk) as workers:
        here = Here.of(desk, workers)
        assert is_sealed(desk, await here.protect(LARGE))
        assert b"large message" not in await here.outbound.protect_to_self(ALICE, LARGE, sign=True)
        assert b"large message" not in await here.outbound.protect_at_rest(ALICE, LARGE)
        assert here.keystore.made == 0


@pytest.mark.parametrize("message", [MESSAGE, LARGE], ids=["small", "large"])
async def test_messages_that_take_long_to_open_delay_no_submission(
    desk: Desk, tmp_path: Path, message: bytes
) -> None:
    """Whoever sends two of them would have both processes."""
    fifos = [tmp_path / name for name in ("one", "other")]
    for fifo in fifos:
        os.mkfifo(fifo)
    async with hired(desk) as workers:
        here = Here.of(desk, workers)
        workers.call()
        await until(workers, 2)
        opening = [asyncio.create_task(workers.tried(Slow(fifo), Urgency.SYNC)) for fifo in fifos]
        # That goes on when the other end is read.
        ends = [await asyncio.to_thread(fifo.open, "wb") for fifo in fifos]
        async with asyncio.timeout(60):
            assert is_sealed(desk, await here.protect(message))
        assert here.keystore.made == 1
        assert not any(one.done() for one in opening)
        for end in ends:
            end.close()
        assert [await one for one in opening] == [b"", b""]
        assert is_sealed(desk, await here.protect(message))
        assert here.keystore.made == 1, "they are back"


async def test_smtp_06_a_refusal_comes_back_as_it_is(desk: Desk) -> None:
    async with hired(desk) as workers:
        here = Here.of(desk, workers, Rule(protect=Protect.REQUIRE))
        workers.call()
        await until(workers, 2)
        with pytest.raises(NoUsableCertificate, match=STRANGER) as refusal:
            await here.protect(rcpt_to=STRANGER)
        assert refusal.value.smtp_code == 554


async def test_a_process_that_dies_loses_no_message(desk: Desk) -> None:
    async with hired(desk) as workers:
        here = Here.of(desk, workers)
        workers.call()
        await until(workers, 2)
        for process in workers.processes:
            os.kill(process, signal.SIGSTOP)
        submitting = [asyncio.create_task(here.protect()) for _ in range(6)]
        async with asyncio.timeout(30):
            while workers._queue.qsize() != 4:  # each process has one
                await asyncio.sleep(0)
        for process in workers.processes:
            os.kill(process, signal.SIGKILL)
        for copies in await asyncio.gather(*submitting):
            assert is_sealed(desk, copies)
    assert here.keystore.made == 6


async def test_a_process_that_cannot_start_loses_no_message(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent")
    async with hired(desk) as workers:
        here = Here.of(desk, workers)
        assert is_sealed(desk, await here.protect(LARGE))
    assert here.keystore.made == 1


async def test_a_program_that_was_updated_meanwhile_loses_no_message(desk: Desk) -> None:
    """What another version would answer is not even asked for."""
    async with hired(desk, program="another one") as workers:
        here = Here.of(desk, workers)
        assert is_sealed(desk, await here.protect(LARGE))
        assert here.keystore.made == 1
    async with hired(desk, program=program()) as workers:
        here = Here.of(desk, workers)
        assert is_sealed(desk, await here.protect(LARGE))
        assert here.keystore.made == 0


async def test_what_somebody_waits_for_comes_before_a_mailbox(desk: Desk) -> None:
    """A sync may have brought a thousand messages to open."""

    @dataclass(frozen=True)
    class Named:
        name: str

        def carry_out(self, _keystore: Keystore) -> str:
            return self.name

    async with hired(desk) as workers:
        workers.ready = 1  # so that tasks are taken, and wait
        tasks = [
            asyncio.create_task(workers.outcome(Named(str(urgency)), urgency))
            for urgency in (Urgency.SYNC, Urgency.SYNC, Urgency.SUBMISSION)
        ]
        await asyncio.sleep(0)
        order = [workers._queue.get_nowait()[0] for _ in tasks]
        for task in tasks:
            task.cancel()
    assert order == [Urgency.SUBMISSION, Urgency.SYNC, Urgency.SYNC]


@pytest.mark.parametrize("holder", [Holder.GNUPG, Holder.PKCS11])
def test_keys_that_others_hold_are_used_by_this_process(desk: Desk, holder: Holder) -> None:
    """They may ask for a passphrase, and nobody else should wait for that; a token knows one process."""

    class Elsewhere(Vault):
        def held_by(self, asked: Holder) -> list[Fingerprint]:
            return [desk.keys[ALICE]] if asked is holder else []

    store, settings = desk.keystore, OutboundSettings()
    vault = Elsewhere(store._store, store._vault._secrets)
    work = Work(settings, "_protect", (Envelope(ALICE, (BOB,)), MESSAGE, ALICE, "", None))
    assert work.carry_out(Keystore(store._store, vault, store._gnupg, store.roots, store._folder)) is None
    done = work.carry_out(store)
    assert done is not None
    assert done.value


def test_steady_is_over_after_the_block(desk: Desk) -> None:
    with desk.keystore.steady():
        seen = desk.keystore._store.version()
        desk.keystore._store.put_fact("test", b"1")
        assert desk.keystore._store.version() == seen
    assert desk.keystore._store.version() != seen
