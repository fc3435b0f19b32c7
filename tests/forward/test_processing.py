"""The desk: the order of things, and that nothing is lost, doubled or sent in clear when a step fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore.errors import KeystoreError
from keystore.model import Fingerprint
from secmailproxy.errors import ConfigError, NotAllowed, NoUsableCertificate, UpstreamUnavailable
from secmailproxy.forward.model import (
    Action,
    Collect,
    Conditions,
    Drop,
    Entrance,
    Forward,
    ForwardSettings,
    Keep,
    PassOn,
    Product,
    Receipt,
    Rule,
    SystemMail,
    Target,
)
from secmailproxy.forward.processing import Desk
from secmailproxy.model import Envelope

ADMIN = Target("admin@example.org", (Fingerprint("A" * 40),))
OPS = Target("ops@example.org", (Fingerprint("B" * 40),))
MARK = "secmailproxy-0123456789abcdef0123"
PLAIN = b"From: root\r\nSubject: windmill\r\n\r\nThe windmill is crooked.\r\n"
MAIL = SystemMail(PLAIN, "root@host", (), Entrance.PIPE)
KEEP, DAILY = Keep("/var/mail/copy", "mbox"), Collect("daily")
TO_ADMIN = Forward((ADMIN.address,))


@dataclass
class Office:
    """All parts of a desk: they note what they are told in order, and one of them fails."""

    failing: str = ""
    error: Exception = field(default_factory=lambda: OSError(28, "No space left on device"))
    noted: list[str] = field(default_factory=list)
    sent: list[Product] = field(default_factory=list)
    stored: dict[object, bytes] = field(default_factory=dict)
    mail: SystemMail = field(init=False)

    def note(self, step: str) -> None:
        self.noted.append(step)
        if step.split()[0] == self.failing:
            raise self.error

    def seal(self, mail: SystemMail, action: Forward, targets: Sequence[Target]) -> tuple[Product, ...]:
        self.note(f"seal {' '.join(one.address for one in targets)}")
        return tuple(Product(b"sealed\r\n", Envelope(mail.mail_from, (one.address,))) for one in targets)

    @contextmanager
    def attempt(self, mail: SystemMail) -> Iterator[Office]:
        self.mail = mail
        yield self
        self.note("leave")

    def keep(self, action: Keep) -> None:
        self.note("keep")
        self.stored[action] = self.mail.octets

    def finish(self) -> None:
        self.note("finish")

    def collect(self, mail: SystemMail, action: Collect) -> None:
        self.note("collect")
        self.stored[action] = mail.octets

    def take(self, products: Sequence[Product]) -> None:
        self.note("take")
        self.sent += products

    def desk(self, *actions: Action, **settings: object) -> Desk:
        """With one rule for every message that says `actions`; without any, no rule."""
        rules = (Rule("one", Conditions(), Conditions(), actions),) if actions else ()
        chosen = ForwardSettings(
            targets=(ADMIN, OPS), to=ADMIN.address, rules=rules, mark=MARK, via="sendmail"
        )
        return Desk(replace(chosen, **settings), self, self, self, self)  # type: ignore[arg-type]  # of any type


@pytest.fixture
def office() -> Office:
    return Office()


def test_sealing_comes_first_and_one_hand_over_last(office: Office) -> None:
    desk = office.desk(KEEP, TO_ADMIN, DAILY, Forward((OPS.address,), sign=True))
    assert desk.process(MAIL) == Receipt("one", sent=2, kept=1, collected=1)
    assert office.noted == [
        "seal admin@example.org",
        "seal ops@example.org",
        "keep",
        "collect",
        "take",
        "finish",
        "leave",
    ]
    assert set(office.stored.values()) == {PLAIN}


def test_without_a_rule_it_goes_to_the_target(office: Office) -> None:
    assert office.desk().process(MAIL) == Receipt("", sent=1, kept=0, collected=0)
    assert office.noted == ["seal admin@example.org", "take"]


def test_nobody_gets_a_message_twice(office: Office) -> None:
    desk = office.desk(TO_ADMIN, Forward((OPS.address, "ADMIN@example.org"), sign=True), Forward(sign=True))
    assert desk.process(MAIL).sent == 2
    assert office.noted == ["seal admin@example.org", "seal ops@example.org", "take"]


@pytest.mark.parametrize(
    ("actions", "noted"),
    [
        ([KEEP], ["keep", "finish", "leave"]),
        ([DAILY], ["collect"]),
        ([Drop()], []),
        ([KEEP, DAILY], ["keep", "collect", "finish", "leave"]),
    ],
)
def test_what_is_not_forwarded_is_not_handed_over(
    actions: list[Action], noted: list[str], office: Office
) -> None:
    office.desk(*actions).process(MAIL)
    assert office.noted == noted


ERRORS = [
    OSError(28, "No space left"),
    KeystoreError("x"),
    NoUsableCertificate("x"),
    UpstreamUnavailable("x"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("failing", ["seal", "keep", "collect", "take"])
def test_fwd_01_whatever_fails_nothing_is_sent_and_the_next_try_does_all(
    failing: str, error: Exception, office: Office
) -> None:
    """A copy may be there already then; to write it once is promised by those who store (see their tests)."""
    desk = office.desk(KEEP, DAILY, TO_ADMIN)
    office.failing, office.error = failing, error
    with pytest.raises(type(error)):
        desk.process(MAIL)
    assert office.sent == []
    before = ["seal admin@example.org", "keep", "collect", "take"]
    assert office.noted == before[: [step.split()[0] for step in before].index(failing) + 1]
    office.failing, office.noted = "", []
    assert desk.process(MAIL) == Receipt("one", 1, 1, 1)
    assert office.noted == [*before, "finish", "leave"]


@pytest.mark.parametrize("failing", ["finish", "leave"])
def test_once_it_is_handed_over_no_error_brings_it_again(failing: str, office: Office) -> None:
    office.failing = failing
    assert office.desk(KEEP, TO_ADMIN).process(MAIL) == Receipt("one", 1, 1, 0)


class _Blotted:
    """A journal in which nothing can be noted, whatever its promise."""

    def note(self, *_: object) -> None:
        raise ValueError("blot")


def test_fwd_01_a_journal_that_fails_changes_nothing(office: Office) -> None:
    """An error after the hand-over would bring the message again, and again after that."""
    desk = replace(office.desk(TO_ADMIN), journal=_Blotted())  # type: ignore[arg-type]  # it is one in all but name
    assert desk.process(MAIL).sent == 1
    office.failing = "take"
    with pytest.raises(OSError, match="No space left"):
        desk.process(MAIL)


@pytest.mark.parametrize("action", [KEEP, DAILY])
def test_what_cannot_be_stored_here_keeps_all_back(action: Action, office: Office) -> None:
    desk = office.desk(TO_ADMIN, KEEP, DAILY)
    desk = replace(desk, keeper=None) if action is KEEP else replace(desk, collector=None)
    with pytest.raises(ConfigError, match="not possible here"):
        desk.process(MAIL)
    assert office.noted == []


def test_what_is_passed_on_goes_as_it_came(office: Office) -> None:
    mail = SystemMail(PLAIN, "", ("root", "x@elsewhere.example"), Entrance.SMTP)
    assert office.desk(PassOn(), TO_ADMIN).process(mail).sent == 2
    plain, sealed = office.sent
    assert plain == Product(PLAIN, Envelope("", ("root", "x@elsewhere.example")), is_plain=True)
    assert not sealed.is_plain
    assert office.noted == ["seal admin@example.org", "take"]


@pytest.mark.parametrize(
    ("mail", "via"),
    [
        (MAIL, "sendmail"),
        (replace(MAIL, rcpt_tos=("root",)), "smarthost"),
        (replace(MAIL, rcpt_tos=("root",), octets=b"Received: x\r\n" * 51 + PLAIN), "smtp"),
        (replace(MAIL, rcpt_tos=("root\n",)), "smtp"),
        (replace(MAIL, rcpt_tos=("root",), mail_from="a\0@b"), "smtp"),
        (replace(MAIL, rcpt_tos=("root",), octets=PLAIN + b"50%\r.\r\n"), "smtp"),
        (replace(MAIL, rcpt_tos=("root",), octets=PLAIN + b"x\n.\r\nMAIL FROM:<a@b>\r\n"), "smtp"),
    ],
)
def test_what_cannot_be_passed_on_stays(mail: SystemMail, via: str, office: Office) -> None:
    with pytest.raises((ConfigError, NotAllowed)):
        office.desk(PassOn(), KEEP, via=via).process(mail)
    assert office.noted == []


LOOPS = [
    b"X-Loop: %s\r\n" % MARK.encode(),
    b"Delivered-To: ADMIN@example.org\r\n",
    b"Received: by x\r\n" * 51,
]


@pytest.mark.parametrize("fields", LOOPS)
def test_fwd_05_loops_are_refused_before_anything_is_made(fields: bytes, office: Office) -> None:
    with pytest.raises(NotAllowed, match="mail loop"):
        office.desk(TO_ADMIN, KEEP).process(replace(MAIL, octets=fields + PLAIN))
    assert office.noted == []


def test_fwd_05_a_digest_that_comes_back_is_not_collected(office: Office) -> None:
    """It would be in the next one, with all that was in it, for ever."""
    came_back = replace(MAIL, octets=b"X-Loop: %s\r\n" % MARK.encode() + PLAIN)
    with pytest.raises(NotAllowed, match="mail loop"):
        office.desk(KEEP, Collect("daily")).process(came_back)
    assert office.noted == []


def test_fwd_05_what_the_machine_says_by_itself_is_forwarded(office: Office) -> None:
    """Cron says that it is automatic, and so is all system mail; it is forwarded, and never answered."""
    mail = SystemMail(b"Auto-Submitted: auto-generated\r\n" + PLAIN, "", (), Entrance.PIPE)
    assert office.desk().process(mail).sent == 1


def test_fwd_05_a_bounce_of_our_own_is_not_forwarded_by_a_server_that_wants_a_sender(office: Office) -> None:
    """What it bounced from would bounce again, to the same account, for ever."""
    quoting = PLAIN + b"X-Loop: %s\r\n" % MARK.encode()
    bounce = SystemMail(quoting, "", (), Entrance.IMAP)
    with pytest.raises(NotAllowed, match="bounce"):
        office.desk(via="smarthost").process(bounce)
    assert office.noted == []
    # Elsewhere the sender stays null, and nothing comes back.
    assert office.desk(via="sendmail").process(bounce).sent == 1
    # A person may quote it, and our own notices do.
    assert office.desk(via="smarthost").process(replace(bounce, mail_from="a@b.c")).sent == 1
    own = replace(bounce, entrance=Entrance.OWN, rcpt_tos=(OPS.address,))
    assert office.desk(via="smarthost").process(own).sent == 1


def test_aliases_of_the_file_choose_the_target(office: Office, tmp_path: Path) -> None:
    aliases = tmp_path / "aliases"
    aliases.write_text("root: ops@example.org\n")
    mail = replace(MAIL, rcpt_tos=("root",))
    office.desk(aliases=str(aliases)).process(mail)
    assert office.noted == ["seal ops@example.org", "take"]
    aliases.write_text("root: nobody@elsewhere.example\n")
    with pytest.raises(ConfigError, match=r"nobody@elsewhere\.example"):
        office.desk(aliases=str(aliases)).process(mail)
    aliases.unlink()
    office.desk(aliases=str(aliases)).process(mail)
    assert office.noted[2:] == ["seal admin@example.org", "take"]
    aliases.mkdir()
    with pytest.raises(ConfigError, match="Is a directory"):
        office.desk(aliases=str(aliases)).process(mail)


ACTIONS = st.lists(
    st.sampled_from([KEEP, DAILY, TO_ADMIN, Forward(), Forward((OPS.address,)), Drop(), PassOn()])
)
STEPS = st.sampled_from(["", "seal", "keep", "collect", "take"])
RCPT_TOS = st.sampled_from([(), ("root",), ("root", OPS.address), ("x@elsewhere.example",)])


@given(st.lists(st.tuples(ACTIONS, st.booleans()), max_size=3), STEPS, RCPT_TOS)
def test_no_rules_send_clear_and_each_message_is_somewhere(
    rules: list[tuple[list[Action], bool]], failing: str, rcpt_tos: tuple[str, ...]
) -> None:
    """Unless a rule says "pass-on" or "drop" in these words."""
    office = Office(failing)
    values = tuple(_rules(rules))
    try:
        office.desk(rules=values).process(replace(MAIL, rcpt_tos=rcpt_tos))
    except (OSError, ConfigError):
        assert office.sent == []  # it stays with whoever brought it
        return
    said = [action for one in values for action in one.actions]
    assert all(one.octets != PLAIN for one in office.sent) or PassOn() in said
    assert office.sent or office.stored or Drop() in said
    addresses = [one.envelope.rcpt_tos for one in office.sent if not one.is_plain]
    assert len(set(addresses)) == len(addresses)


def _rules(drawn: list[tuple[list[Action], bool]]) -> Iterator[Rule]:
    for actions, goes_on in drawn:
        yield Rule("r", Conditions(), Conditions(), tuple(actions) or (KEEP,), goes_on)
