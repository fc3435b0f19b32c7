"""Thunderbird: an account from autoconfig, reading in chunks, writing, a second start, a repaired folder."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.clients import ALICE, Account
from tests.fixtures.documented import thunderbird_verdicts
from tests.fixtures.people import SUBJECT, TEXT
from tests.fixtures.processes import service_folder, wait_until
from tests.fixtures.thunderbird import Running, Thunderbird, autoconfig

LARGEST_WHOLE = 98304
"""mail.imap.min_chunk_size_threshold: what is larger is fetched in chunks when it is displayed."""


@pytest.fixture
def thunderbird() -> Iterator[Thunderbird]:
    with service_folder("thunderbird") as folder:
        yield Thunderbird(folder)


def displayed(run: Running, folder: str, uid: int) -> bytes:
    """The message as Thunderbird's display gets it, without what its own store puts before it."""
    octets = base64.b64decode(run.call("streamed", folder, uid))
    return re.sub(rb"\A(X-Mozilla-[A-Za-z0-9]+: .*\r?\n)+", b"", octets)


def fetched_bodies(run: Running) -> list[str]:
    """The commands of this run that asked for whole messages or for parts of them."""
    return [line for line in run.said() if re.search(r"fetch .*BODY\.PEEK\[(TEXT)?\]", line)]


def check_list(run: Running, presented: list[bytes]) -> None:
    """The list shows the protected subjects and the sizes of what is presented."""
    listed = run.call("listed", "INBOX")
    assert [one["uid"] for one in listed] == [1, 2, 3, 4, 5]
    assert listed[3]["subject"] == SUBJECT
    assert [one["size"] for one in listed] == [len(message) for message in presented]
    assert not any(one["read"] or one["flagged"] for one in listed)


def check_display(run: Running, presented: list[bytes]) -> None:
    """IMAP-07: every message is displayed as presented, the large one in chunks, and kept so."""
    for uid, message in enumerate(presented, 1):
        assert displayed(run, "INBOX", uid) == message
    large = [re.search(r"BODY\.PEEK\[\]<(\d+)\.(\d+)>", line) for line in fetched_bodies(run)]
    chunks = [(int(match[1]), int(match[2])) for match in large if match]
    assert len(presented[4]) > LARGEST_WHOLE
    assert [start for start, _ in chunks] == list(range(0, len(presented[4]), 65536))
    fetched = fetched_bodies(run)
    stored = [one["stored"] for one in run.call("listed", "INBOX")]
    assert all(size and size >= len(message) for size, message in zip(stored, presented, strict=True))
    for uid, message in enumerate(presented, 1):
        assert displayed(run, "INBOX", uid) == message
    assert fetched_bodies(run) == fetched


def check_second_start(run: Running, presented: list[bytes]) -> None:
    """All that is asked again of the inbox are the flags."""
    run.call("getMessages")
    wait_until(lambda: "IDLE" in run.said("INBOX"), "idling")
    check_list(run, presented)
    for uid, message in enumerate(presented, 1):
        assert displayed(run, "INBOX", uid) == message
    fetches = [line for line in run.said("INBOX") if "fetch" in line]
    assert fetches
    assert all(line.endswith("(FLAGS)") for line in fetches)


def check_flags(run: Running, account: Account) -> None:
    """Both directions; that of the server comes while Thunderbird idles."""
    run.call("markRead", "INBOX", 1)
    run.call("star", "INBOX", 4)
    run.call("tag", "INBOX", 4, "$label2")
    wait_until(
        lambda: account.flags() == [{"\\Seen"}, set(), set(), {"\\Flagged", "$label2"}, set()],
        lambda: str(account.flags()),
    )
    wait_until(lambda: run.said("INBOX")[-1] == "IDLE", "idling again")
    account.store(5, "\\Flagged")
    wait_until(lambda: run.call("listed", "INBOX")[4]["flagged"], "news of the flag")


def check_moves(run: Running, account: Account, presented: list[bytes]) -> None:
    """The protected message that was moved is the same in its new folder."""
    run.call("copy", "INBOX", [4], "Archive", True)
    run.call("remove", "INBOX", [3])
    run.call("open", "Archive", 2)
    run.call("open", "Trash", 1)
    assert account.presented("Archive")[1] == presented[3]
    assert account.presented("Trash") == [presented[2]]
    assert [one["subject"] for one in run.call("listed", "Archive")][1] == SUBJECT
    assert displayed(run, "Archive", 2) == presented[3]
    assert displayed(run, "Trash", 1) == presented[2]
    wait_until(lambda: len(account.flags()) == 3, "the inbox without them")


def check_writing(run: Running, account: Account) -> None:
    """Draft, template and sent mail are ciphertext on the server, and the plaintext in Thunderbird."""
    for mode, folder, to in (
        ("SaveAsDraft", "Drafts", "carol@example.test"),
        ("SaveAsTemplate", "Templates", "carol@example.test"),
        ("Now", "Sent", account.address),
    ):
        run.call("compose", mode, to, SUBJECT, TEXT)
        (stored,) = wait_until(lambda name=folder: account.mailbox.stored(name), folder)
        assert b"BEGIN PGP MESSAGE" in stored
        run.call("getMessages")
        run.call("open", folder, 1)
        (listed,) = run.call("listed", folder)
        assert listed["subject"] == SUBJECT
        message = displayed(run, folder, listed["uid"])
        assert [message] == account.presented(folder)
        assert TEXT.encode() in message
    arrived = wait_until(lambda: account.mailbox.stored()[3:], "delivery")
    assert b"BEGIN PGP MESSAGE" in arrived[0]
    run.call("getMessages")
    assert run.call("listed", "INBOX")[-1]["subject"] == SUBJECT
    account.assert_nothing_leaked()


def connections(port: int) -> int:
    """How many there are to a listener on 127.0.0.1 at this moment (proc(5), net/tcp)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1] == f"0100007F:{port:04X}" and row[3] == "01" for row in rows)


def check_connections(run: Running, port: int) -> None:
    """All folders at once, over the five connections that Thunderbird allows itself."""
    folders = [["Archive", 2], ["Drafts", 1], ["Templates", 1], ["Sent", 1], ["Trash", 1], ["INBOX", 4]]
    run.evaluate("return Promise.all(arguments[0].map(one => open(...one)))", folders)
    wait_until(lambda: connections(port) == 5, lambda: str(connections(port)))


def check_verdict(run: Running, field_name: str) -> None:
    """With the documented settings, keywords are tags with names, and the field stands above the message."""
    found = run.call("displayVerdict", "INBOX", 5)
    assert found["tags"] == ["signed", "encrypted"]
    assert found["row"] == "$secmailencrypted"
    assert run.evaluate(
        "return MailServices.tags.getTopKey(arguments[0])", "$secmailencrypted $secmailbad"
    ) == ("$secmailbad")
    (field,) = found["fields"]
    said = f"{field_name}:signed+encrypted; signature=valid; signer={ALICE}; trust=known;"
    assert field.startswith(said), field


@pytest.mark.client(
    "Thunderbird", "reads", "flags", "moves", "deletes", "drafts", "sent", "searches", "idles", "again"
)
def test_an_account_from_autoconfig_and_two_starts(
    thunderbird: Thunderbird, accounts: Callable[[], Account]
) -> None:
    account = accounts()
    presented = account.presented()
    thunderbird.add_configuration("example.test", autoconfig(account.proxy))
    # By default Thunderbird downloads all in the background, whole; now each comes when it is displayed.
    thunderbird.set_prefs({"mail.server.default.autosync_offline_stores": False})
    field_name = account.proxy.home.verdict_field
    thunderbird.set_prefs(thunderbird_verdicts(field_name))
    with thunderbird.started() as run:
        made = run.call("createAccount", account.address, account.password)
        assert made == {"source": "xml-from-disk", "host": "127.0.0.1", "port": account.proxy.imap_port}
        run.call("getMessages")
        check_list(run, presented)
        check_display(run, presented)
    thunderbird.set_prefs({"mail.server.default.autosync_offline_stores": True})
    with thunderbird.started() as run:
        check_second_start(run, presented)
        check_flags(run, account)
        check_moves(run, account, presented)
        check_writing(run, account)
        check_connections(run, account.proxy.imap_port)
        assert run.call("search", "INBOX", "plain") == [1]
        check_verdict(run, field_name)


def test_a_folder_known_from_before_is_repaired(
    thunderbird: Thunderbird, accounts: Callable[[], Account]
) -> None:
    """Thunderbird first knew the account without the proxy: what it kept is ciphertext until it is told."""
    account = accounts()
    presented, stored = account.presented(), account.mailbox.stored()
    direct = account.mailbox.server
    authority = "".join(direct.ca.ca_file.read_text().splitlines()[1:-1])
    with thunderbird.started() as run:
        run.call(
            *("createDirectAccount", account.address, account.password),
            *("localhost", direct.imaps_port, authority),
        )
        run.call("getMessages")
        assert displayed(run, "INBOX", 4) == stored[3]
        run.call("changeServer", "127.0.0.1", account.proxy.imap_port, "plain", account.password)
    with thunderbird.started() as run:
        run.call("getMessages")
        assert run.call("listed", "INBOX")[3]["subject"] == "[...]"
        assert displayed(run, "INBOX", 4) == stored[3]
        run.call("repair", "INBOX")
        wait_until(lambda: len(run.call("listed", "INBOX")) == 5, "the repaired folder")
        check_list(run, presented)
        for uid, message in enumerate(presented, 1):
            assert displayed(run, "INBOX", uid) == message
