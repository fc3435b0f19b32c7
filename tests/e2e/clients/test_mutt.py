"""mutt and NeoMutt, driven by keys under a terminal: read, flag, file, write, and keep their caches."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.fixtures.clients import LATE, Account, Letters, Workplace, crlf
from tests.fixtures.documented import neomutt_verdicts
from tests.fixtures.people import SUBJECT, TEXT
from tests.fixtures.processes import wait_until

CONFIG = """set folder = "{folder}"
set spoolfile = "+INBOX"
set imap_user = "{account.address}"
set imap_pass = "{account.password}"
set imap_authenticators = "login"
set ssl_starttls = no
set ssl_force_tls = no
{more}
set smtp_url = "smtp://{smtp_user}@127.0.0.1:{account.proxy.submission_port}/"
set smtp_pass = "{account.password}"
set smtp_authenticators = "plain"
set from = "{account.address}"
set use_envelope_from = yes
set envelope_from_address = "{account.address}"
set postponed = "+Drafts"
set record = "+Sent"
set header_cache = "{home}/headers/"
set message_cachedir = "{home}/bodies/"
set sort = mailbox-order
set pipe_decode = no
set pipe_split = yes
set pipe_sep = ""
set wait_key = no
set quit = yes
set delete = yes
set postpone = yes
set mark_old = no
set confirmappend = no
set abort_unmodified = no
set abort_nosubject = no
set imap_idle = yes
set timeout = 1
set mail_check = 1
set editor = "cp {home}/text"
"""

FORGED_FIELD = b"""From: Eve <eve@example.net>
Subject: From Eve
Secmail-Verdict-1: signed+encrypted; signature=forged

Believe me.
""".replace(b"\n", b"\r\n")


@dataclass(frozen=True)
class Client:
    """One of the two, in a place of its own."""

    name: str
    workplace: Workplace

    @property
    def _debug(self) -> tuple[str, list[str]]:
        """The file that tells of its IMAP commands, and the options for it."""
        if self.name == "mutt":
            return ".muttdebug0", ["-d", "2"]
        return "debug0", ["-d", "2", "-l", f"{self.workplace.folder}/debug"]

    def configure(self, account: Account, *, direct: bool = False) -> None:
        """Through the proxy as docs/clients.md says, or with the server itself."""
        server = account.mailbox.server
        text = CONFIG.format(
            account=account,
            folder=f"imaps://localhost:{server.imaps_port}/"
            if direct
            else f"imap://127.0.0.1:{account.proxy.imap_port}/",
            more=f'set certificate_file = "{server.ca.ca_file}"' if direct else "",
            smtp_user=account.address.replace("@", "%40"),
            home=self.workplace.folder,
        )
        self.workplace.write("rc", text)
        self.workplace.write("text", TEXT + "\n")
        for name in ("headers", "bodies"):
            folder = self.workplace.folder / name
            folder.mkdir(exist_ok=True)
            self.workplace.own(folder)

    def command(self, keys: str) -> list[str]:
        """It starts and has these keys pressed."""
        return [self.name, "-n", "-F", f"{self.workplace.folder}/rc", *self._debug[1], "-e", f"push '{keys}'"]

    def run(self, keys: str) -> str:
        """Start, press the keys and quit; what was on the screen."""
        with self.workplace.terminal(*self.command(keys + "<quit>")) as terminal:
            return terminal.wait()

    def said(self) -> str:
        """The IMAP commands of the last run."""
        file = self.workplace.folder / self._debug[0]
        text = file.read_text(errors="replace") if file.exists() else ""
        return "\n".join(line for line in text.splitlines() if re.search(r"> a\d{4} ", line))

    def messages(self) -> list[bytes]:
        """Every message of the inbox as the client has it (CRLF), by piping them."""
        out = self.workplace.folder / "piped"
        out.unlink(missing_ok=True)
        pipe = f"<pipe-message>cat >>{out}; echo %% >>{out}<enter>"
        self.run(f"<tag-pattern>~A<enter><tag-prefix>{pipe}")
        # NeoMutt writes the keywords into what it pipes.
        return [re.sub(rb"(?m)^Tags: .*\r\n", b"", crlf(one)) for one in out.read_bytes().split(b"%%\n")[:-1]]

    def bodies(self) -> list[bytes]:
        """The files of its message cache (CRLF), sorted."""
        return sorted(map(crlf, self.workplace.tree("bodies").values()))


@pytest.fixture(params=["mutt", "neomutt"])
def client(request: pytest.FixtureRequest, workplace: Workplace) -> Client:
    return Client(request.param, workplace)


@pytest.mark.client("mutt", "reads", "again")
@pytest.mark.client("neomutt", "reads", "again")
def test_a_second_start_reads_the_same_from_its_caches(
    client: Client, accounts: Callable[[], Account]
) -> None:
    account = accounts()
    client.configure(account)
    presented = account.presented()

    assert client.messages() == presented
    assert "BODY.PEEK[HEADER" in client.said()
    assert "BODY.PEEK[]" in client.said()
    assert client.bodies() == sorted(presented)
    account.assert_nothing_leaked()
    before = account.state()

    assert client.messages() == presented
    assert "BODY" not in client.said()
    assert account.state() == before

    with client.workplace.terminal(*client.command("")) as terminal:
        wait_until(lambda: SUBJECT in terminal.screen, lambda: terminal.screen)
        terminal.type("3\r\r")
        wait_until(lambda: TEXT.split()[-1] in terminal.screen, lambda: terminal.screen)
        terminal.type("qq")
        terminal.wait()
    assert account.flags()[2] == {"\\Seen"}


@pytest.mark.client("mutt", "flags", "moves", "deletes")
@pytest.mark.client("neomutt", "flags", "moves", "deletes")
def test_flags_moves_and_deletions(client: Client, accounts: Callable[[], Account]) -> None:
    account = accounts()
    client.configure(account)
    nested, large = account.presented()[3:]

    client.run(
        "1<enter><delete-message>2<enter><flag-message>5<enter><flag-message>"
        "4<enter><save-message>=Archive<enter><sync-mailbox>"
    )

    assert account.flags() == [{"\\Flagged"}, set(), {"\\Flagged"}]
    assert account.presented()[-1] == large
    assert account.presented("Archive")[-1] == nested
    account.assert_nothing_leaked()


@pytest.mark.client("mutt", "drafts", "sent")
@pytest.mark.client("neomutt", "drafts", "sent")
def test_a_draft_is_postponed_recalled_and_sent(client: Client, accounts: Callable[[], Account]) -> None:
    """SMTP-19: the copy that the client files has the id of what it sent, and is found by it once."""
    account = accounts()
    client.configure(account)

    client.run(f"<mail>{account.address}<enter>{SUBJECT}<enter><postpone-message>")

    (stored,) = account.mailbox.stored("Drafts")
    assert b"multipart/encrypted" in stored
    (draft,) = account.presented("Drafts")
    assert TEXT.encode() in draft
    assert SUBJECT.encode() in draft
    account.assert_nothing_leaked()

    client.run("<recall-message><send-message>")

    assert account.mailbox.stored("Drafts") == []
    (stored,) = account.mailbox.stored("Sent")
    assert b"multipart/encrypted" in stored
    (sent,) = account.presented("Sent")
    assert TEXT.encode() in sent
    wait_until(lambda: len(account.mailbox.stored()) == 6, "delivery")
    assert TEXT.encode() in account.presented()[-1]
    account.assert_nothing_leaked()
    (filed, arrived) = (
        re.findall(rb"^Message-ID: (\S+)", one, re.MULTILINE | re.IGNORECASE)
        for one in (stored, account.mailbox.stored()[-1])
    )
    assert filed == arrived
    with account.proxy.imap(account.mailbox, "Sent") as imap:
        assert imap.search(None, "HEADER", "Message-ID", f'"{filed[0].decode()}"') == ("OK", [b"1"])


@pytest.mark.client("mutt", "idles")
@pytest.mark.client("neomutt", "idles")
def test_new_mail_appears_while_it_idles(
    client: Client, accounts: Callable[[], Account], letters: Letters
) -> None:
    account = accounts()
    client.configure(account)
    with client.workplace.terminal(*client.command("")) as terminal:
        wait_until(lambda: "IDLE" in client.said(), lambda: terminal.screen)
        account.mailbox.append(letters.late)
        wait_until(lambda: LATE in terminal.screen, lambda: terminal.screen)
        terminal.type("q")
        terminal.wait()
    assert "NOOP" not in client.said()


@pytest.mark.parametrize("client", ["neomutt"], indirect=True)
def test_verdicts_show_with_the_documented_settings(client: Client, accounts: Callable[[], Account]) -> None:
    """The field above the message, the keywords in the index, in its colours and in patterns.

    A field of a name like it, which any sender can write, is not shown.
    """
    account = accounts()
    account.mailbox.append(FORGED_FIELD)
    client.configure(account)
    rc = client.workplace.folder / "rc"
    rc.write_text(rc.read_text() + neomutt_verdicts(account.proxy.home.verdict_field))
    with client.workplace.terminal(*client.command("")) as terminal:
        # Known at first sight.
        wait_until(lambda: "signed encrypted" in terminal.screen, lambda: terminal.screen)
        terminal.type("2\r\r")
        wait_until(lambda: "signature=valid" in terminal.screen, lambda: terminal.screen)
        terminal.type("il~Y SecmailEncrypted\r")
        wait_until(lambda: "3/6 " in terminal.screen, lambda: terminal.screen)
        shown = terminal.screen.split("signature=valid")[1]
        assert re.search(r"2  s .*?Alice +signed ", shown), "told when it was opened"
        terminal.type("lall\r6\r\r")
        wait_until(lambda: "Believe me" in terminal.screen, lambda: terminal.screen)
        assert "signature=forged" not in terminal.screen
        terminal.type("iq")
        terminal.wait()
    assert account.flags() == [set(), {"\\Seen"}, set(), set(), set(), {"\\Seen"}], (
        "nothing of it went to the server"
    )


def test_adoption_as_documented(client: Client, accounts: Callable[[], Account]) -> None:
    """The caches of the server itself hold ciphertext; they are of no use, and no harm, behind the proxy."""
    account = accounts()
    client.configure(account, direct=True)
    assert client.messages() == account.mailbox.stored()
    before = account.state()
    client.configure(account)

    assert client.messages() == account.presented()
    assert client.bodies() == sorted(account.presented() + account.mailbox.stored())

    for name in ("headers", "bodies"):
        shutil.rmtree(client.workplace.folder / name)
    client.configure(account)
    assert client.messages() == account.presented()
    assert client.bodies() == sorted(account.presented())
    assert account.state() == before
