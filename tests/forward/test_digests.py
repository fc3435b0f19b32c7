"""FWD-06: a digest carries everything that was collected, once, whatever fails or dies on the way."""

from __future__ import annotations

import itertools
import os
import resource
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from keystore.errors import StoreLocked
from keystore.letterbox import Letterbox
from secmailproxy.errors import NoUsableCertificate
from secmailproxy.forward.collected import Collected
from secmailproxy.forward.digests import Digests, DigestSettings, local_zone
from secmailproxy.forward.heartbeat import Heartbeat, Section
from secmailproxy.forward.model import Collect, Entrance, SystemMail
from secmailproxy.forward.schedule import DigestPlan, HeartbeatPlan, Schedule
from secmailproxy.mime import header
from secmailproxy.mime.entity import parse
from tests.fixtures.digests import cron, system, taken_out, text_of
from tests.fixtures.dying import done_before_death
from tests.fixtures.growth import assert_linear

BOX = Letterbox(bytes(range(32)))
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SEVEN = Schedule.of("daily", "07:00")
NIGHTLY = DigestPlan("nightly", SEVEN, ("admin@example.org",))
TOMORROW = NOON + timedelta(days=1)


@dataclass
class Machine:
    """Where messages are collected and digests made; the clock stands until it is set."""

    folder: Path
    plans: tuple[DigestPlan, ...] = (NIGHTLY,)
    beat: HeartbeatPlan | None = None
    now: datetime = NOON
    sent: list[SystemMail] = field(default_factory=list)
    failure: Exception | None = None
    locked: bool = False

    @property
    def collected(self) -> Collected:
        return Collected(self.folder / "collected", lambda: BOX.slot, lambda: self.now)

    def collect(self, *octets: bytes, digest: str = "nightly") -> None:
        for one in octets:
            self.collected.collect(system(one), Collect(digest))

    def digests(self) -> Digests:
        """As after a start of the program."""
        return Digests(
            self.settings,
            self.collected,
            self.letterbox,
            self.process,
            self.folder / "slot",
            lambda: self.now,
        )

    def settings(self) -> DigestSettings:
        beat = self.beat and Heartbeat(self.beat, self.folder / "heartbeat.json", self.sections, "web1")
        return DigestSettings(self.plans, "host@example.org", ZoneInfo("UTC"), beat)

    def sections(self, since: datetime | None) -> Sequence[Section]:
        return [Section("Queue", [f"  2 wait since {since}"], is_alarming=True), Section("Certificates", [])]

    def letterbox(self) -> Letterbox:
        if self.locked:
            raise StoreLocked("the keyring is locked")
        return BOX

    def process(self, mail: SystemMail) -> None:
        if self.failure is not None:
            raise self.failure
        self.sent.append(mail)

    @property
    def carried(self) -> list[bytes]:
        """What arrived, out of all mails."""
        return [one for mail in self.sent for one in taken_out(mail.octets)]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_digest_goes_out_at_its_time_with_everything(machine: Machine) -> None:
    octets = [cron(f"{number}% full", number=number) for number in range(5)]
    machine.collect(*octets)
    digests = machine.digests()
    assert not digests.is_due(NOON + timedelta(hours=18, minutes=59))
    assert digests.is_due(NOON + timedelta(hours=19))
    assert digests.send(TOMORROW) == 1
    (mail,) = machine.sent
    assert Counter(taken_out(mail.octets)) == Counter(octets)
    assert (mail.entrance, mail.mail_from, mail.rcpt_tos) == (Entrance.OWN, "", ("admin@example.org",))
    assert not digests.is_due(TOMORROW)
    assert digests.send(TOMORROW) == 0
    assert machine.collected.entries("nightly") == []


def test_after_days_without_power_there_is_one_digest(machine: Machine) -> None:
    machine.collect(cron("one"))
    machine.now += timedelta(days=3)
    machine.collect(cron("two"))
    machine.now += timedelta(days=40)
    assert machine.digests().do() > 0
    assert machine.digests().do() > 0
    assert [len(taken_out(mail.octets)) for mail in machine.sent] == [2]


@pytest.mark.parametrize("failure", [NoUsableCertificate("expired"), OSError(28, "No space left")])
def test_a_digest_that_cannot_leave_waits_whole(failure: Exception, machine: Machine) -> None:
    machine.collect(cron("one"))
    machine.failure, machine.now = failure, TOMORROW
    digests = machine.digests()
    with pytest.raises(type(failure)):
        digests.send(TOMORROW)
    assert 0 < digests.do() <= 300
    machine.collect(cron("two"))
    machine.failure = None
    digests.do()
    assert machine.carried == [cron("one"), cron("two")]


def test_one_digest_that_fails_keeps_no_other(machine: Machine) -> None:
    machine.plans = (DigestPlan("broken", SEVEN, ("nobody@example.org",)), NIGHTLY)
    machine.collect(cron("one"), digest="broken")
    machine.collect(cron("two"))

    def process(mail: SystemMail) -> None:
        if mail.rcpt_tos == ("nobody@example.org",):
            raise NoUsableCertificate("none")
        machine.sent.append(mail)

    digests = Digests(machine.settings, machine.collected, machine.letterbox, process)
    with pytest.raises(NoUsableCertificate):
        digests.send(TOMORROW)
    assert machine.carried == [cron("two")]
    assert len(machine.collected.entries("broken")) == 1


def test_nor_does_one_that_nobody_has_thought_of(machine: Machine) -> None:
    machine.plans = (DigestPlan("broken", SEVEN, ("nobody@example.org",)), NIGHTLY)
    machine.beat = HeartbeatPlan(SEVEN, ("boss@example.org",))
    machine.collect(cron("one"), digest="broken")
    machine.collect(cron("two"))

    def process(mail: SystemMail) -> None:
        if mail.rcpt_tos == ("nobody@example.org",):
            raise RuntimeError("treasure")
        machine.sent.append(mail)

    digests = Digests(machine.settings, machine.collected, machine.letterbox, process)
    with pytest.raises(RuntimeError):
        digests.send(TOMORROW)
    assert [mail.rcpt_tos for mail in machine.sent] == [("admin@example.org",), ("boss@example.org",)]


def test_an_entry_that_cannot_be_read_now_keeps_no_other(machine: Machine) -> None:
    machine.collect(cron("one"))
    machine.now += timedelta(seconds=1)
    machine.collect(cron("two"))
    (first, _) = machine.collected.entries("nightly")
    path = machine.folder / "collected" / "nightly" / f"{first.name}.collected"
    letter = path.read_bytes()
    path.unlink()
    path.mkdir()
    digests = machine.digests()
    digests.send(TOMORROW)
    path.rmdir()
    path.write_bytes(letter)
    digests.send(TOMORROW)
    assert [taken_out(mail.octets) for mail in machine.sent] == [[cron("two")], [cron("one")]]


@pytest.mark.parametrize("kind", ["digest", "heartbeat"])
def test_fwd_06_a_full_disk_does_not_send_the_same_again_and_again(kind: str, machine: Machine) -> None:
    """What cannot be noted to have left does not leave."""
    if kind == "digest":
        machine.collect(*(cron(str(number), number=number) for number in range(40)))
    else:
        machine.beat = HeartbeatPlan(SEVEN)
    machine.now = TOMORROW
    (machine.folder / "slot").write_bytes(BOX.slot.to_octets())
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
        for _ in range(3):
            machine.digests().do()
        os._exit(len(machine.sent))
    assert os.waitpid(child, 0)[1] == 0
    machine.digests().do()
    machine.digests().do()
    assert len(machine.sent) == 1


def test_a_locked_keystore_keeps_what_was_collected(machine: Machine) -> None:
    machine.locked = True
    machine.collect(cron("one"))
    with pytest.raises(StoreLocked):
        machine.digests().send(TOMORROW)
    machine.locked = False
    machine.digests().send(TOMORROW)
    assert machine.carried == [cron("one")]


def test_what_is_tried_again_counts_once(machine: Machine) -> None:
    """A mail program that is told 75 brings the same octets again, within one digest and after it."""
    without_identity = b"Subject: df\r\n\r\n95%\r\n"
    machine.collect(cron("one"), cron("two"), cron("one"), without_identity, without_identity)
    machine.digests().send(TOMORROW)
    assert Counter(machine.carried) == Counter([cron("one"), cron("two"), without_identity, without_identity])
    machine.sent.clear()
    machine.now = TOMORROW
    machine.collect(cron("one"), without_identity)
    machine.digests().send(TOMORROW + timedelta(days=1))
    assert machine.carried == [without_identity]
    assert machine.collected.entries("nightly") == []


def test_a_digest_that_is_no_longer_configured_leaves_at_once(machine: Machine) -> None:
    machine.collect(cron("one"), digest="former")
    machine.digests().send(NOON)
    (mail,) = machine.sent
    assert mail.rcpt_tos == ()
    assert machine.carried == [cron("one")]


def test_what_cannot_be_opened_stays_and_keeps_no_other(machine: Machine) -> None:
    machine.collect(cron("one"), cron("two"))
    damaged = machine.collected.entries("nightly")[0]
    path = machine.folder / "collected" / "nightly" / f"{damaged.name}.collected"
    path.write_bytes(path.read_bytes()[:-1])
    digests = machine.digests()
    digests.send(TOMORROW)
    assert len(machine.carried) == 1
    assert path.exists()
    assert not digests.is_due(TOMORROW + timedelta(days=1))


def test_much_is_several_mails_none_larger_than_the_limit(machine: Machine) -> None:
    machine.plans = (DigestPlan("nightly", SEVEN, max_octets=50_000),)
    octets = [cron(f"{number}% full " + "x" * 9000, number=number) for number in range(12)]
    octets.append(cron("y" * 200_000))
    machine.collect(*octets)
    machine.digests().send(TOMORROW)
    assert Counter(machine.carried) == Counter(octets)
    assert sum(len(mail.octets) > 60_000 for mail in machine.sent) == 1
    subjects = [header.text(parse(mail.octets), "Subject") or "" for mail in machine.sent]
    assert [f"mail {number}:" in subject for number, subject in enumerate(subjects, 1)] == [True] * len(
        subjects
    )


def test_only_one_process_makes_digests(machine: Machine) -> None:
    machine.collect(cron("one"))
    inner: list[int] = []

    def process(mail: SystemMail) -> None:
        inner.append(machine.digests().send(TOMORROW))
        machine.sent.append(mail)

    Digests(machine.settings, machine.collected, machine.letterbox, process).send(TOMORROW)
    assert inner == [0]
    assert machine.carried == [cron("one")]


def test_the_slot_of_the_keystore_is_there_for_pipes(machine: Machine) -> None:
    (machine.folder / "slot").write_bytes(b"of another keystore")
    machine.collect(cron("one"))
    machine.digests().send(TOMORROW)
    assert (machine.folder / "slot").read_bytes() == BOX.slot.to_octets()


def test_fwd_06_a_process_killed_at_any_step_loses_nothing_and_doubles_one_mail_at_most(
    tmp_path: Path,
) -> None:
    """The hand-over is a file that is written and synced; death is by os._exit at each call of the system."""
    octets = [cron(f"{number}% full", number=number) for number in range(3)]
    doubled = 0
    for step in itertools.count():
        machine = Machine(tmp_path / str(step))
        machine.folder.mkdir()
        machine.collect(*octets)
        done = done_before_death(partial(_send, machine), step)
        sent = [path.read_bytes() for path in sorted(machine.folder.glob("sent-*"))]
        machine.digests().send(TOMORROW)
        carried = Counter(one for mail in sent for one in taken_out(mail)) + Counter(machine.carried)
        assert set(carried) == set(octets), step
        assert max(carried.values()) <= 2, step
        assert len(sent) + len(machine.sent) <= 2, step
        assert machine.collected.entries("nightly") == [], step
        doubled += len(sent) + len(machine.sent) == 2
        if done:
            break
    assert doubled  # else nothing died where it matters


def _send(machine: Machine) -> None:
    """Each mail as a file, which is there whole or not at all."""

    def process(mail: SystemMail) -> None:
        path = machine.folder / f"sent-{len(machine.sent)}"
        path.with_suffix(".new").write_bytes(mail.octets)
        path.with_suffix(".new").rename(path)

    Digests(machine.settings, machine.collected, machine.letterbox, process).send(TOMORROW)


def test_a_heartbeat_comes_when_there_is_nothing_to_say(machine: Machine) -> None:
    machine.beat = HeartbeatPlan(SEVEN, ("admin@example.org",))
    for hours in (0, 1, 18, 19, 20, 42, 43, 44):
        machine.now = NOON + timedelta(hours=hours)
        machine.digests().do()
    assert len(machine.sent) == 3  # the first at once, then one a day, however often the program starts
    first, second, _ = (text_of(mail.octets) for mail in machine.sent)
    assert "This is the first one." in first
    assert "The last sign of life was sent 2026-11-21 12:00 +0000." in second
    assert "Queue\r\n\r\n  2 wait since 2026-11-21" in second
    assert "Certificates\r\n\r\n  nothing" in second
    assert header.text(parse(machine.sent[0].octets), "Subject") == "Heartbeat of web1: 1 to look at"
    assert b"web1 is alive, and mail" in machine.sent[0].octets


@pytest.mark.parametrize(("by_digest", "mails"), [(True, 1), (False, 2)])
def test_a_digest_may_serve_as_heartbeat(*, by_digest: bool, mails: int, machine: Machine) -> None:
    machine.beat = HeartbeatPlan(SEVEN, ("admin@example.org",), by_digest)
    machine.digests().do()
    machine.sent.clear()
    machine.collect(cron("one"))
    machine.now = NOON + timedelta(hours=19)
    machine.digests().do()
    machine.digests().do()
    assert len(machine.sent) == mails
    assert ("State of web1" in text_of(machine.sent[0].octets)) is by_digest
    machine.now += timedelta(days=1)
    machine.digests().do()
    assert len(machine.sent) == mails + 1


def test_a_digest_to_others_is_no_heartbeat(machine: Machine) -> None:
    machine.beat = HeartbeatPlan(SEVEN, ("boss@example.org",))
    machine.collect(cron("one"))
    machine.now = TOMORROW
    machine.digests().do()
    assert [mail.rcpt_tos for mail in machine.sent] == [("admin@example.org",), ("boss@example.org",)]


def test_a_heartbeat_that_cannot_leave_is_tried_again(machine: Machine) -> None:
    machine.beat = HeartbeatPlan(SEVEN)
    machine.failure = NoUsableCertificate("expired")
    assert machine.digests().do() == 300
    machine.failure = None
    machine.digests().do()
    assert len(machine.sent) == 1


@pytest.mark.parametrize("state", [b"", b"[]", b'{"heartbeat": 7}', b'{"heartbeat": "x"}', b"\xff"])
def test_a_state_that_cannot_be_read_is_not_silence(state: bytes, machine: Machine) -> None:
    machine.beat = HeartbeatPlan(SEVEN)
    (machine.folder / "heartbeat.json").write_bytes(state)
    machine.digests().do()
    machine.digests().do()
    assert len(machine.sent) == 1


def test_a_heartbeat_that_cannot_be_remembered_stops_no_digest_and_does_not_leave(machine: Machine) -> None:
    machine.beat = HeartbeatPlan(SEVEN, ("admin@example.org",))
    (machine.folder / "heartbeat.json").mkdir()
    machine.collect(cron("one"))
    machine.now = TOMORROW
    assert machine.digests().do() == 300
    assert machine.digests().do() == 300
    assert machine.carried == [cron("one")]
    assert len(machine.sent) == 1


async def test_it_is_asked_by_the_rounds_without_holding_them_up(machine: Machine) -> None:
    machine.collect(cron("one"))
    machine.now = TOMORROW
    pause = await machine.digests().due()
    assert pause == timedelta(hours=19).total_seconds()
    assert machine.carried == [cron("one")]


def test_zones(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(local_zone("Europe/Berlin")) == "Europe/Berlin"
    for name in ("Europe/Bonn", "../../etc/passwd", "/etc/passwd"):
        with pytest.raises(ValueError, match="is no time zone"):
            local_zone(name)
    monkeypatch.setenv("TZ", ":Asia/Tokyo")
    assert NOON.astimezone(local_zone()).utcoffset() == timedelta(hours=9)
    monkeypatch.setenv("TZ", "nowhere")
    assert NOON.astimezone(local_zone()).utcoffset() == timedelta(0)
    monkeypatch.delenv("TZ")
    assert NOON.astimezone(local_zone()).utcoffset() == NOON.astimezone().utcoffset()


def test_the_cost_of_a_digest_grows_with_the_number_of_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = itertools.count()
    # What is measured is processor time; the disk has its own pace.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    def prepare(size: int) -> Machine:
        machine = Machine(tmp_path / str(next(count)))
        machine.folder.mkdir()
        machine.collect(*(cron(f"{number % 100}% of disk", number=number) for number in range(size)))
        return machine

    assert_linear(prepare, lambda machine: machine.digests().send(TOMORROW), 400)
