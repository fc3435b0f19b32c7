"""SMTP-10: the notification of a partial failure reaches the sender's INBOX once, whatever breaks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keystore.model import Scheme
from secmailproxy import inbound
from secmailproxy.accounts import Account, Accounts, ImapUpstream, Login, SubmissionAccount, password_secret
from secmailproxy.errands.reports import Patience, Reports
from secmailproxy.errands.spool import Spool, waiting
from secmailproxy.forward.alerts import Fact
from secmailproxy.model import Envelope, Reply
from secmailproxy.smtp.delivery import Failure
from secmailproxy.smtp.smarthost import Credentials, Smarthost, SmarthostSettings
from tests.errands.conftest import Place
from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.people import SUBJECT, leaked, letter
from tests.fixtures.relay import Relay
from tests.fixtures.x509 import Authority, own
from tests.smtp.peers import until

FAILURES = [
    Failure(("dave@example.org",), Reply(554, "5.7.1 spam")),
    Failure(("erin@example.org",), Reply(451, "4.4.2 the connection was lost"), unknown=True),
]
BLIND = (b"dave@", b"erin@")


@dataclass
class StoredPasswords:
    """What is in the secrets."""

    values: dict[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        return self.values.get(name)


@dataclass
class Desk:
    """One account whose messages fail in part; its server is reached by way of the relay."""

    place: Place
    mailbox: Mailbox
    relay: Relay
    folder: Path
    login: Login = Login.MAILBOX
    secrets: StoredPasswords = field(default_factory=StoredPasswords)
    running: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def message(self) -> bytes:
        return letter(self.mailbox.address, "bob@example.org")

    @property
    def account(self) -> Account:
        ca_file = self.mailbox.server.ca.ca_file
        server = ImapUpstream("localhost", self.relay.port, "implicit", ca_file)
        return Account(self.mailbox.address, server, login=self.login)

    def reports(self, *accounts: Account, first: float = 0.05) -> Reports:
        """As after a start of the program."""
        known = Accounts(accounts or (self.account,), {}, self.secrets)
        spool = Spool(self.folder, self.place.tools.keystore)
        made = Reports(spool, known, self.place.tools.outbound, Patience(first, 0.2))
        known.tell_of_logins(made.logged_in)
        return made

    def start(self, reports: Reports) -> None:
        self.running.append(asyncio.create_task(reports.run()))

    async def stop(self) -> None:
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)
        self.running.clear()

    async def fail(self, reports: Reports, password: str | None = None) -> None:
        """A message of this account fails in part."""
        given = self.mailbox.password if password is None else password
        smarthost = Smarthost(SmarthostSettings("localhost", 1))
        account = SubmissionAccount(self.mailbox.address, smarthost, Credentials(self.mailbox.address, given))
        envelope = Envelope(self.mailbox.address, ("bob@example.org", "dave@example.org", "erin@example.org"))
        await reports.partly_delivered(account, self.message, envelope, FAILURES)

    async def delivered(self) -> bytes:
        """The one notification in the INBOX, as soon as nothing waits any more."""
        await until(lambda: not waiting(self.folder))
        (octets,) = self.mailbox.stored()
        return octets


@pytest.fixture
async def office(whole_place: Place, dovecot: Dovecot, relay: Relay, tmp_path: Path) -> AsyncIterator[Desk]:
    mailbox = dovecot.mailbox("partly")
    whole_place.tools.keystore.generate(mailbox.address)
    desk = Desk(whole_place, mailbox, relay, tmp_path / "notifications")
    yield desk
    await desk.stop()


@pytest.mark.parametrize("scheme", Scheme)
async def test_it_comes_encrypted_and_is_read_like_any_mail(
    scheme: Scheme, office: Desk, dovecot: Dovecot, mail_authority: Authority
) -> None:
    """The provider learns nothing of blind recipients, nor of the subject; so with an S/MIME key alone."""
    if scheme is Scheme.SMIME:
        office.mailbox = dovecot.mailbox("smime")
        own(office.place.tools.keystore, mail_authority.person(office.mailbox.address, "rsa2048", 41))
    reports = office.reports()
    office.start(reports)
    await office.fail(reports)
    stored = await office.delivered()
    assert not [word for word in BLIND if word in stored]
    assert not leaked(stored)
    assert (b"smime-type=authEnveloped-data" in stored) is (scheme is Scheme.SMIME)
    tools = office.place.tools
    opened = inbound.unprotect(stored, tools.keystore, tools.clock(), tools.field_name).presented
    assert opened is not None
    assert all(word in opened for word in BLIND)
    assert b"\r\nAuto-Submitted: auto-replied\r\n" in opened
    assert f"Subject: {SUBJECT}".encode() in opened
    assert leaked(opened) == leaked(SUBJECT.encode())


async def test_a_key_that_ends_is_told_once(office: Desk, dovecot: Dovecot) -> None:
    """Encrypted, though told again after a restart; in clear where the key has ended."""
    fact = Fact("key", office.mailbox.address, "0" * 40, datetime.now(UTC) + timedelta(days=5))
    for _ in range(2):
        reports = office.reports()
        office.start(reports)
        await reports.remind(fact, "secmailproxy key extend")
        reports.logged_in(office.mailbox.address, office.mailbox.password)
        stored = await office.delivered()
        await office.stop()
    assert b"key extend" not in stored
    tools = office.place.tools
    opened = inbound.unprotect(stored, tools.keystore, tools.clock(), tools.field_name).presented
    assert opened is not None
    assert b"can be used until" in opened
    assert b"secmailproxy key extend" in opened
    office.mailbox = dovecot.mailbox("ended")
    reports = office.reports()
    office.start(reports)
    await reports.remind(replace(fact, address=office.mailbox.address), "secmailproxy key extend")
    reports.logged_in(office.mailbox.address, office.mailbox.password)
    assert b"secmailproxy key extend" in await office.delivered()


async def test_without_a_key_it_says_less(office: Desk, dovecot: Dovecot) -> None:
    office.mailbox = dovecot.mailbox("keyless")
    reports = office.reports()
    office.start(reports)
    await office.fail(reports)
    stored = await office.delivered()
    assert b"dave@example.org" in stored
    assert not leaked(stored)


@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_connection_that_breaks_at_any_point_neither_loses_nor_doubles(
    side: str, office: Desk, dovecot: Dovecot
) -> None:
    """Also where the server has stored it and the OK was lost."""
    stored_before = []
    for cut in range(20):
        office.mailbox = dovecot.mailbox("broken")
        office.place.tools.keystore.generate(office.mailbox.address)
        office.relay.arm(side, cut)
        reports = office.reports()
        await office.fail(reports)
        office.start(reports)
        done = asyncio.create_task(office.delivered())
        broken = asyncio.create_task(office.relay.broken.wait())
        await asyncio.wait({done, broken}, return_when=asyncio.FIRST_COMPLETED)
        is_broken = office.relay.broken.is_set()
        stored_before.append(len(office.mailbox.stored()))
        office.relay.arm(side)
        await done
        broken.cancel()
        await office.stop()
        if not is_broken:
            break
    assert not is_broken
    assert 0 in stored_before[:-1]
    assert side == "client" or 1 in stored_before[:-1]


async def test_dying_before_it_leaves_the_spool_does_not_double_it(office: Desk) -> None:
    reports = office.reports()
    await office.fail(reports)
    (path,) = office.folder.iterdir()
    octets = path.read_bytes()
    office.start(reports)
    first = await office.delivered()
    await office.stop()
    path.write_bytes(octets)
    office.secrets.values[password_secret(office.mailbox.address)] = office.mailbox.password
    office.start(office.reports())
    assert await office.delivered() == first


async def test_after_a_restart_it_waits_for_a_login(office: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """The password of a session was in memory only; the next one delivers."""
    before = office.reports()
    await office.fail(before)
    assert office.mailbox.stored() == []
    caplog.set_level(logging.WARNING)
    after = office.reports()
    office.start(after)
    await until(lambda: "a notification waits for the next login" in caplog.messages)
    assert "notifications wait" in caplog.messages
    after.logged_in("somebody@else.example", "x")
    after.logged_in(office.mailbox.address.upper(), office.mailbox.password)
    await office.delivered()


async def test_a_local_login_needs_no_session(office: Desk) -> None:
    """The stored password serves, also after a restart."""
    office.login = Login.LOCAL
    office.secrets.values[password_secret(office.mailbox.address)] = office.mailbox.password
    await office.fail(office.reports())
    office.start(office.reports())
    await office.delivered()


async def test_a_refused_password_is_forgotten_until_the_next_login(
    office: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as that of a smarthost with passwords of its own."""
    reports = office.reports()
    office.start(reports)
    await office.fail(reports, password="of the smarthost alone")
    await until(lambda: "a notification waits for the next login" in caplog.messages)
    assert len(waiting(office.folder)) == 1
    reports.logged_in(office.mailbox.address, office.mailbox.password)
    await office.delivered()


async def test_a_refusal_is_tried_again_and_logged(office: Desk, caplog: pytest.LogCaptureFixture) -> None:
    office.relay.refusals = {b" APPEND ": b"NO [OVERQUOTA] Full."}
    reports = office.reports()
    office.start(reports)
    await office.fail(reports)
    await office.delivered()
    (told,) = [one for one in caplog.records if "notification waits" in one.message]
    assert "Full" in told.why
    assert not any(word.decode() in caplog.text for word in BLIND)


async def test_one_that_is_damaged_does_not_keep_the_next_one_waiting(
    office: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """It is neither delivered nor thrown away; the log names the file."""
    reports = office.reports()
    await office.fail(reports)
    (damaged,) = office.folder.iterdir()
    damaged.write_bytes(damaged.read_bytes()[:-1])
    # The next one may come first in the folder.
    damaged = damaged.rename(office.folder / f"0{damaged.name}")
    await office.fail(reports)
    office.start(reports)
    await until(office.mailbox.stored)
    await until(lambda: "notification waits" in caplog.text)
    assert list(office.folder.iterdir()) == [damaged]
    assert len(office.mailbox.stored()) == 1


async def test_a_spool_that_cannot_be_read_is_tried_again(office: Desk) -> None:
    """Nothing that is wrong with it ends the delivery for good."""
    reports = office.reports()
    await office.fail(reports)

    class Broken(type(office.folder)):
        """A folder that cannot be listed once."""

        times = iter([OSError(5, "Input/output error")])

        def glob(self, pattern: str) -> object:
            for error in self.times:
                raise error
            return super().glob(pattern)

    reports._spool = replace(reports._spool, folder=Broken(office.folder))
    office.start(reports)
    await office.delivered()


async def test_an_access_token_is_no_password_of_the_mailbox(office: Desk) -> None:
    """It is not tried there, and takes no password away that serves."""
    reports = office.reports()
    await office.fail(reports)
    smarthost = Smarthost(SmarthostSettings("localhost", 1))
    token = Credentials(office.mailbox.address, "token", "OAUTHBEARER")
    account = SubmissionAccount(office.mailbox.address, smarthost, token)
    await reports.partly_delivered(
        account, office.message, Envelope(account.address, ("bob@example.org",)), FAILURES[:1]
    )
    office.start(reports)
    await until(lambda: not waiting(office.folder))
    assert len(office.mailbox.stored()) == 2


async def test_one_account_that_cannot_be_served_does_not_keep_others_waiting(
    office: Desk, dovecot: Dovecot
) -> None:
    """One is no account any more, the other has come later."""
    gone, office.mailbox = office.mailbox, dovecot.mailbox("later")
    office.place.tools.keystore.generate(office.mailbox.address)
    reports = office.reports()
    office.start(reports)
    await replace(office, mailbox=gone).fail(reports)
    await office.fail(reports)
    await until(lambda: len(waiting(office.folder)) == 1)
    assert len(office.mailbox.stored()) == 1
    (left,) = waiting(office.folder)
    assert left.account == gone.address
    assert gone.stored() == []


async def test_what_cannot_be_written_is_delivered_all_the_same(
    office: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    """Never an error for the client, who would send the message to everybody again."""
    office.folder.write_bytes(b"in the way of the folder")
    reports = office.reports()
    office.start(reports)
    await office.fail(reports)
    assert [one.levelname for one in caplog.records if "cannot be kept" in one.message] == ["ERROR"]
    await until(office.mailbox.stored)
    await until(lambda: not reports.waiting())
    assert len(office.mailbox.stored()) == 1
