"""FWD-06: what is queued leaves it delivered, or with its sender told; nothing waits for something else."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from secmailproxy.errors import ConfigError
from secmailproxy.forward.attempts import TOLD_NOBODY, UNKNOWN_TWICE, Patience
from secmailproxy.forward.deliveries import Deliveries
from secmailproxy.forward.hops import Hop, SendmailHop, SmarthostHop
from secmailproxy.forward.model import Product
from secmailproxy.forward.queue import ASIDE, Queue
from secmailproxy.forward.spool import Route
from secmailproxy.mime import header
from secmailproxy.mime.entity import parse
from secmailproxy.model import Envelope
from secmailproxy.smtp.smarthost import Smarthost, SmarthostSettings
from tests.fixtures.certificates import TestCA
from tests.fixtures.queued import ADMIN, SENDER, files, put, queue_of, sealed
from tests.smtp.peers import LOGIN, Answer, Peer, Scripted, cut

DAY = 86400.0


@dataclass
class Scene:
    """A queue, its deliveries to a scripted smarthost, and a clock that is moved by hand."""

    folder: Path
    peer: Scripted
    deliveries: Deliveries
    queue: Queue
    alarms: list[str]
    aside: list[str]
    shift: float = 0.0
    known: set[str] = field(default_factory=set)

    def now(self) -> float:
        import time

        return time.time() + self.shift

    def sent(self) -> Counter[str]:
        """How often each message came whole, by its Message-ID."""
        ids = [header.value(parse(one), "Message-ID") for one in self.peer.messages]
        return Counter((one or b"").decode() for one in ids)

    async def later(self, seconds: float) -> float | None:
        """Deliver what is due after so much time."""
        self.shift += seconds
        return await self.deliveries.due()


Start = Callable[..., contextlib.AbstractAsyncContextManager[Scene]]


@pytest.fixture
def scene(ca: TestCA, tmp_path: Path) -> Start:
    """`scene(script, patience=…)`."""

    @contextlib.asynccontextmanager
    async def start(script: Mapping[str, Answer] | None = None, **patience: float) -> AsyncIterator[Scene]:
        async with Scripted(script or {}, tls=ca.server_context()).running() as peer:
            settings = SmarthostSettings("localhost", peer.port, ca_file=ca.ca_file, timeout=5.0)
            smarthost = Smarthost(settings)
            folder = tmp_path / "spool"
            queue, aside = queue_of(folder)
            alarms: list[str] = []

            def hop(route: Route) -> Hop:
                if route.via == "sendmail":
                    return SendmailHop(Path(route.name))
                if route.name == "gone@example.org":
                    raise ConfigError("there is no account gone@example.org in the configuration")
                return SmarthostHop(smarthost, lambda: LOGIN)

            made = Scene(folder, peer, None, queue, alarms, aside)  # type: ignore[arg-type]  # follows
            made.deliveries = Deliveries(queue, hop, lambda: Patience(**patience), alarms.append, made.now)
            yield made
            await smarthost.close()

    return start


def reply_to(rcpt: Mapping[str, bytes]) -> Answer:
    """RCPT is answered by the address; 250 for the others."""

    async def answer(peer: Peer) -> None:
        address = peer.lines[-1][9:].partition(b">")[0].decode()
        await peer.say(rcpt.get(address, b"250 2.1.5 ok\r\n"))

    return answer


async def test_many_go_over_few_connections_and_the_queue_is_empty(scene: Start) -> None:
    async with scene() as it:
        for number in range(40):
            put(it.folder, sealed(number))
        assert await it.deliveries.due() is None
        assert it.sent() == Counter({f"<{number}@host.example>": 1 for number in range(40)})
        assert len(it.peer.peers) <= 5
        assert files(it.folder) == []


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
async def test_a_temporary_refusal_waits_and_tries_again(verb: str, scene: Start) -> None:
    async with scene({verb: b"451 4.3.0 not now\r\n"}) as it:
        name = put(it.folder)
        pause = await it.deliveries.due()
        assert pause is not None
        assert 55 < pause <= 60
        progress = it.queue.progress(name)
        assert (progress.tries, progress.why, progress.held) == (1, "4.3.0 not now", "")
        assert await it.later(50) is not None
        assert it.queue.progress(name).tries == 1
        it.peer.script[verb] = b"354 go\r\n" if verb == "DATA" else b"250 2.0.0 ok\r\n"
        assert await it.later(10) is None
        assert it.sent()["<0@host.example>"] == (2 if verb == "." else 1)
        assert files(it.folder) == []


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
async def test_fwd_08_who_sent_it_is_told_with_the_encrypted_messages_header_alone(
    verb: str, scene: Start
) -> None:
    """FWD-08: and the notification has the null sender and is answered by nobody."""
    async with scene({verb: b"550 5.7.1 go away\r\n"}) as it:
        name = put(it.folder, sealed(7))
        await it.deliveries.due()
        (notice,) = it.queue.names()
        assert notice.startswith(f"{name}-undelivered-0-")
        with it.queue.taken(notice) as taken:
            product = taken.product(0)
            assert product.envelope == Envelope("", (SENDER,))
        text = product.octets.decode()
        assert "Auto-Submitted: auto-replied\r\n" in text
        assert "\r\nFinal-Recipient: rfc822; admin@example.org\r\nAction: failed\r\nStatus: 5.7.1\r\n" in text
        assert "Diagnostic-Code: smtp; 550 5.7.1 go away\r\n" in text
        assert "Message-ID: <7@host.example>\r\nSubject: Encrypted system mail\r\n" in text
        assert "BEGIN PGP MESSAGE" not in text
        noise = sealed(7).octets.split(b"\r\n\r\n")[-1].splitlines()[0]
        assert noise.decode() not in text
        it.peer.script[verb] = b"354 go\r\n" if verb == "DATA" else b"250 2.0.0 ok\r\n"
        before = len(it.peer.messages)
        assert await it.deliveries.due() is None
        assert len(it.peer.messages) == before + 1
        assert b"MAIL FROM:<>\r\n" in it.peer.lines
        assert files(it.folder) == []


async def test_nobody_answers_the_null_sender_or_nobody(scene: Start) -> None:
    """Then the message is held, and somebody is alarmed."""
    async with scene({"RCPT": b"550 5.1.1 who?\r\n"}) as it:
        names = {put(it.folder, sealed(1, mail_from="")), put(it.folder, sealed(2), bounces="")}
        notice = Product(b"Subject: told\r\n\r\nx\r\n", Envelope("", (ADMIN,)), is_notice=True)
        names.add(put(it.folder, notice))
        assert await it.deliveries.due() is None
        assert set(it.queue.names()) == names
        assert {it.queue.progress(one).held for one in names} == {TOLD_NOBODY}
        assert len(it.alarms) == 3
        assert await it.later(DAY) is None
        assert len([line for line in it.peer.lines if line.startswith(b"RCPT")]) == 3
        it.peer.script["RCPT"] = b"250 2.1.5 ok\r\n"
        for one in names:
            it.queue.release(one)
        assert await it.deliveries.due() is None
        assert files(it.folder) == []


async def test_fwd_06_after_the_final_dot_it_is_sent_once_more_then_held(scene: Start) -> None:
    """FWD-06: at most one duplicate, whatever the server does."""
    async with scene({".": cut}) as it:
        name = put(it.folder)
        for _ in range(5):
            await it.later(DAY)
        assert it.sent()["<0@host.example>"] == 2
        assert it.queue.progress(name).held == UNKNOWN_TWICE
        assert it.alarms == [f"the queued message {name} is held: {UNKNOWN_TWICE}"]


async def test_fwd_06_the_mark_is_there_before_the_message_and_gone_after_it(scene: Start) -> None:
    """FWD-06: whoever comes after a kill knows that the message may have left."""
    async with scene() as it:
        name = put(it.folder)
        marks: list[bool] = []

        async def look(peer: Peer) -> None:
            marks.append(it.queue.progress(name).begun)
            await peer.say(b"354 go\r\n" if peer.lines[-1] == b"DATA\r\n" and len(marks) == 1 else LATER)

        async def read(peer: Peer) -> None:
            await look(peer)
            peer.messages.append(await peer._message())
            await look(peer)

        it.peer.script["DATA"] = read
        await it.deliveries.due()
        assert marks == [False, True]
        assert not it.queue.progress(name).begun


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


LATER = b"451 4.3.0 later\r\n"


async def test_a_disk_that_cannot_be_written_sends_nothing_and_is_not_hammered(
    scene: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene() as it:
        name = put(it.folder)
        tries = []

        def full(*_: object) -> None:
            tries.append(1)
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as context:
            context.setattr(os, "rename", full)
            pause = await it.deliveries.due()
        assert pause is not None
        assert 55 < pause <= 60
        assert (len(tries), it.peer.messages) == (1, [])
        assert await it.later(60) is None
        assert it.sent()["<0@host.example>"] == 1
        assert name not in it.queue.names()


async def test_what_somebody_looks_at_is_tried_a_moment_later(scene: Start) -> None:
    async with scene() as it:
        name = put(it.folder)
        other = put(it.folder, sealed(1))
        with it.queue.taken(name):
            pause = await it.deliveries.due()
        assert pause is not None
        assert 0 < pause <= 1
        assert other not in it.queue.names()
        assert await it.later(1) is None
        assert len(it.sent()) == 2


async def test_one_that_fails_keeps_no_other_waiting(scene: Start) -> None:
    async with scene() as it:
        it.peer.script["RCPT"] = reply_to({"bad@example.org": b"451 4.2.0 full\r\n"})
        bad = [put(it.folder, sealed(number, ("bad@example.org",))) for number in range(5)]
        for number in range(10, 20):
            put(it.folder, sealed(number))
        await it.deliveries.due()
        assert len(it.sent()) == 10
        assert it.queue.names() == bad


async def test_a_connection_that_one_message_breaks_serves_the_others(scene: Start) -> None:
    async with scene() as it:

        async def fall(peer: Peer) -> None:
            await (cut(peer) if b"bad@" in peer.lines[-1] else peer.say(b"250 2.1.5 ok\r\n"))

        it.peer.script["RCPT"] = fall
        bad = put(it.folder, sealed(0, ("bad@example.org",)))
        for number in range(10, 20):
            put(it.folder, sealed(number))
        await it.deliveries.due()
        assert len(it.sent()) == 10
        assert it.queue.names() == [bad]
        assert it.queue.progress(bad).unknown == 0


@pytest.mark.parametrize("script", [{"CONNECT": b"554 5.3.2 closed\r\n"}, {"AUTH": b"535 5.7.8 wrong\r\n"}])
async def test_a_server_that_does_not_serve_is_asked_once(script: Mapping[str, Answer], scene: Start) -> None:
    async with scene(script) as it:
        names = [put(it.folder, sealed(number)) for number in range(20)]
        pause = await it.deliveries.due()
        assert len(it.peer.peers) == 1
        assert all(it.queue.progress(one).tries == 1 for one in names)
        assert pause is not None
        assert pause <= 60
        put(it.folder, sealed(21))
        await it.deliveries.due()
        assert len(it.peer.peers) == 1
        it.deliveries.spare_nobody()
        it.queue.hasten(names[0])
        await it.deliveries.due()
        assert len(it.peer.peers) == 2
        it.peer.script |= {"CONNECT": b"220 peer ESMTP\r\n", "AUTH": b"235 2.7.0 ok\r\n"}
        assert await it.later(130) is None
        assert len(it.sent()) == 21


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize("answer", [b"421 4.7.0 too many\r\n", cut])
async def test_a_server_that_ends_every_connection_is_left_alone(
    verb: str, answer: Answer, scene: Start
) -> None:
    """Neither a storm of logins, nor a message sent twice for each that waits."""
    async with scene({verb: answer}) as it:
        names = [put(it.folder, sealed(number)) for number in range(20)]
        pause = await it.deliveries.due()
        assert len(it.peer.peers) <= 6  # three in a row; so many are sent at once
        assert all(it.queue.progress(one).tries == 1 for one in names)
        assert pause is not None
        assert pause <= 60


async def test_a_clock_that_is_set_back_spares_no_server_for_years(scene: Start) -> None:
    async with scene({"CONNECT": b"554 5.3.2 closed\r\n"}) as it:
        put(it.folder)
        await it.deliveries.due()
        it.peer.script["CONNECT"] = b"220 peer ESMTP\r\n"
        assert await it.later(-5 * 365 * DAY) is None
        assert it.sent()["<0@host.example>"] == 1


async def test_nor_does_it_spare_what_could_not_be_written(
    scene: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene() as it:
        put(it.folder)
        with monkeypatch.context() as context:
            context.setattr(os, "rename", full)
            await it.deliveries.due()
        assert len(it.alarms) == 1
        assert await it.later(-5 * 365 * DAY) is None
        assert it.sent()["<0@host.example>"] == 1


async def test_fwd_06_whom_it_has_reached_is_never_forgotten(
    scene: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by a disk that takes a part of what is written, nor with the power."""
    said = {"later@example.org": b"450 4.2.0 busy\r\n"}
    write, fsync, synced = os.write, os.fsync, []
    async with scene({"RCPT": reply_to(said)}) as it:
        name = put(it.folder, sealed(0, (ADMIN, "later@example.org")))
        monkeypatch.setattr(os, "write", lambda to, octets: write(to, bytes(octets)[:7]))
        await it.deliveries.due()
        assert it.queue.progress(name).settled == {(0, ADMIN)}
        monkeypatch.setattr(os, "fsync", lambda one: (synced.append(one), fsync(one)))
        it.peer.script["CONNECT"] = it.peer.script["MAIL"] = b"421 4.3.2 down\r\n"
        await it.later(DAY)
        assert synced
        assert it.queue.progress(name).settled == {(0, ADMIN)}


async def test_a_state_that_cannot_be_read_now_sends_nothing_and_keeps_no_other(scene: Start) -> None:
    """It may say that the message is held, or whom it has reached."""
    async with scene() as it:
        name = put(it.folder)
        state = it.folder / f"{name}.state"
        state.mkdir()
        put(it.folder, sealed(1))
        pause = await it.deliveries.due()
        assert list(it.sent()) == ["<1@host.example>"]
        assert pause is not None
        assert pause > 55
        assert len(it.alarms) == 1
        state.rmdir()
        assert await it.later(60) is None
        assert it.sent() == {"<1@host.example>": 1, "<0@host.example>": 1}


async def test_a_configuration_that_is_wrong_is_the_reason(scene: Start) -> None:
    async with scene() as it:
        name = put(it.folder, route=Route("smarthost", "gone@example.org"))
        other = put(it.folder, sealed(1))
        await it.deliveries.due()
        assert it.queue.progress(name).why == "there is no account gone@example.org in the configuration"
        assert it.alarms == [f"the queued message {name} has no way out"]
        assert other not in it.queue.names()


async def test_when_its_lifetime_is_over_a_message_is_given_up(scene: Start) -> None:
    async with scene({".": b"451 4.3.0 later\r\n"}) as it:
        name = put(it.folder)
        for _ in range(4):
            await it.later(DAY)
        assert it.queue.names() == [name]
        await it.later(4 * DAY)
        (notice,) = it.queue.names()
        with it.queue.taken(notice) as taken:
            text = taken.product(0).octets.decode()
        assert "Status: 4.4.7\r\n" in text
        assert "451 4.3.0 later" in text


async def test_so_it_is_where_no_server_was_ever_reached(scene: Start) -> None:
    async with scene({"CONNECT": b"554 5.3.2 closed\r\n"}) as it:
        name = put(it.folder)
        for _ in range(6):
            await it.later(2 * DAY)
        assert [one.startswith(f"{name}-undelivered") for one in it.queue.names()] == [True]


async def test_each_recipient_has_a_fate_of_its_own(scene: Start) -> None:
    async with scene() as it:
        said = {"no@example.org": b"550 5.1.1 who?\r\n", "later@example.org": b"450 4.2.0 busy\r\n"}
        it.peer.script["RCPT"] = reply_to(said)
        name = put(it.folder, sealed(1, ("yes@example.org", "no@example.org", "later@example.org")))
        await it.deliveries.due()
        assert it.queue.look(name)[0].left(it.queue.progress(name)) == [(0, "later@example.org")]
        (notice,) = [one for one in it.queue.names() if one != name]
        with it.queue.taken(notice) as taken:
            told = taken.product(0).octets
        assert (told.count(b"Final-Recipient"), b"rfc822; no@example.org" in told) == (1, True)
        del said["later@example.org"]
        await it.later(DAY)
        assert it.peer.lines.count(b"RCPT TO:<yes@example.org>\r\n") == 1
        assert it.queue.names() == []


async def test_fwd_06_of_several_messages_none_is_sent_again_for_anothers_sake(scene: Start) -> None:
    """FWD-06: one file, three messages, the second of which has to wait."""
    async with scene() as it:
        it.peer.script["RCPT"] = reply_to({"slow@example.org": b"451 4.3.0 later\r\n"})
        name = put(it.folder, sealed(1), sealed(2, ("slow@example.org",)), sealed(3))
        await it.deliveries.due()
        await it.later(DAY)
        assert it.sent() == Counter({"<1@host.example>": 1, "<3@host.example>": 1})
        assert it.queue.progress(name).tries == 2
        it.peer.script["RCPT"] = b"250 2.1.5 ok\r\n"
        assert await it.later(DAY) is None
        assert set(it.sent().values()) == {1}
        assert files(it.folder) == []


async def test_one_message_twice_in_a_file_goes_by_sendmail_too(scene: Start, tmp_path: Path) -> None:
    program = tmp_path / "sendmail"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls; cat >> {tmp_path}/sent; test ! -e {tmp_path}/no\n'
    )
    program.chmod(0o755)
    (tmp_path / "no").touch()
    async with scene() as it:
        name = put(it.folder, sealed(1), sealed(2), route=Route("sendmail", str(program)))
        await it.deliveries.due()
        assert it.queue.progress(name).why == f"{program} ended with status 1"
        (tmp_path / "no").unlink()
        assert await it.later(60) is None
    assert (tmp_path / "calls").read_text().splitlines() == [f"-i -f {SENDER} -- {ADMIN}"] * 4


@pytest.fixture
def odd_files(tmp_path: Path) -> Path:
    """A queue with a good message among files that are none."""
    folder = tmp_path / "spool"
    good = put(folder, sealed(1))
    whole = (folder / f"{good}.mail").read_bytes()
    for name, octets in {
        "aempty.mail": b"",
        "bshort.mail": whole[:-1],
        "clonger.mail": whole + b"x",
        "dflipped.mail": whole[:-40] + b"?" + whole[-39:],
        "eother.mail": whole.replace(b'"format":1', b'"format":2'),
        "fjson.mail": b"[" * 5000 + b"\n",
        "gmore.mail": whole.replace(b'"octets":', b'"octets":-'),
        "notes.txt": b"mine",
    }.items():
        (folder / name).write_bytes(octets)
    (folder / "hfolder.mail").mkdir()
    (folder / "ilink.mail").symlink_to(folder / f"{good}.mail")
    os.mkfifo(folder / "jpipe.mail")
    (folder / "orphan.state").write_text("{}")
    (folder / f"{good}.state").write_text("not json")
    return folder


async def test_files_that_are_no_messages_are_named_and_set_aside(odd_files: Path, scene: Start) -> None:
    before = {one.name for one in odd_files.iterdir()}
    async with scene() as it:
        assert await it.deliveries.due() is None
        assert it.sent() == Counter({"<1@host.example>": 1})
        assert files(odd_files) == [ASIDE]
        aside = {one.name for one in (odd_files / ASIDE).iterdir()}
        assert aside == {one for one in before if one[1:] in _ODD or one == "notes.txt"}
        assert all(any(name in text for text in it.aside) for name in aside)
        assert (odd_files / ASIDE / "notes.txt").read_bytes() == b"mine"


_ODD = {
    "empty.mail", "short.mail", "longer.mail", "flipped.mail", "other.mail", "json.mail", "more.mail",
    "folder.mail", "link.mail", "pipe.mail",
}  # fmt: skip


async def test_a_state_that_cannot_be_read_may_have_been_an_attempt(scene: Start) -> None:
    async with scene({".": cut}) as it:
        name = put(it.folder)
        (it.folder / f"{name}.state").write_bytes(b"\xff")
        await it.deliveries.due()
        assert it.queue.progress(name).held == UNKNOWN_TWICE
        assert it.sent()["<0@host.example>"] == 1


async def test_what_was_not_finished_is_removed_after_a_while(scene: Start) -> None:
    async with scene() as it:
        put(it.folder)
        for name, age in {".old.new": 2 * 3600, ".young.new": 60}.items():
            path = it.folder / name
            path.write_bytes(b"half")
            at = it.now() - age
            os.utime(path, (at, at))
        await it.deliveries.due()
        assert files(it.folder) == [".young.new"]


async def test_what_is_held_stays_until_it_is_released(scene: Start) -> None:
    async with scene() as it:
        name = put(it.folder)
        held = put(it.folder, dataclasses.replace(sealed(2), held="for the escrow"))
        it.queue.hold(name)
        assert await it.later(30 * DAY) is None
        assert it.peer.peers == []
        it.queue.release(name)
        it.queue.release(held)
        assert await it.deliveries.due() is None
        assert len(it.sent()) == 2
