"""SORT and THREAD order protected mail by what is presented: as the server does in a copy in clear."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from secmailproxy.policy import Protect
from tests.fixtures.copies import Both, copy_presented
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import ProxyUser, letter, protect, proxy_user
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.transcript import direct, proxied

SUBJECTS = [
    "beta",
    "Re: alpha",
    "[list] alpha (fwd)",
    "Fwd: [x] re: Beta",
    "[fwd: gamma]",
    "=?utf-8?q?=C3=84pfel?=",
    "apfel",
    "[only blob]",
    "",
    "re: [a] [b]: delta",
    "  spaced   out ",
    "Zeta",
    "=?iso-8859-1?q?re:_alpha?=",
]
FROMS = [
    "Zoe Last <alice@example.org>",
    "bob@example.org",
    '"adam" <carol@example.org>',
    "=?utf-8?q?=C3=96zil?= <dave@example.org>",
    "group: mary@example.org;",
    "<eve@example.org>",
]
DATES = [
    "Mon, 02 Mar 2026 10:00:00 +0100",
    "Mon, 02 Mar 2026 10:00:00 -0500",
    "Sun, 01 Mar 2026 23:59:59 +0000",
    "nonsense",
    "Tue, 03 Mar 2026 00:00:30 GMT",
]


def relations(number: int) -> str:
    """Identifiers: answers, missing parents, doubles, loops, and some that are none."""
    odd = {
        4: "Message-ID: <3@example.test>\r\n",
        5: "",
        6: 'Message-ID: <"quoted 6"@example.test>\r\n',
        7: 'Message-ID: <7@example.test>\r\nIn-Reply-To: your mail <"quoted 6"@example.test>\r\n',
        8: "Message-ID: <8@example.test>\r\nReferences: <9@example.test>\r\n",
        9: "Message-ID: <9@example.test>\r\nReferences: <8@example.test>\r\n",
        10: "Message-ID: < 10 @ example.test >\r\nReferences: <none> <a@b> <(c)d@e>\r\n"
        "\t<0@example.test>\r\n",
        11: "Message-ID: no brackets\r\nIn-Reply-To: <10@example.test>\r\n",
    }
    if number in odd:
        return odd[number]
    line = f"Message-ID: <{number}@example.test>\r\n"
    if number % 3 == 0:
        line += f"References: <gone@example.test> <{number // 2}@example.test>\r\n"
    elif number % 3 == 1:
        line += f"In-Reply-To: <{number + 4}@example.test> <x@y>\r\n"
    return line


def written(number: int, address: str) -> bytes:
    """One of many letters that differ in all that can be sorted by."""
    pick = [SUBJECTS, FROMS, DATES]
    subject, sender, date = (values[number * 7 % len(values)] for values in pick)
    subject_line = f"Subject: {subject}\r\n" if number % 11 else ""
    date_line = f"Date: {date}\r\n" if number % 9 else ""
    cc = f"Cc: {FROMS[number % 5]}\r\n" if number % 2 else ""
    return (
        f"From: {sender}\r\nTo: {FROMS[(number + 1) % 6]}, <{address}>\r\n{cc}{subject_line}{date_line}"
        f"{relations(number)}\r\n" + "text\r\n" * (number % 6)
    ).encode()


@pytest.fixture(scope="module")
def both(dovecot: Dovecot, module_proxies: ProxyFactory) -> Iterator[Both]:
    """Plain and presented mail, one after the other, and the copy of it."""
    user = proxy_user(module_proxies, dovecot.mailbox("sorter"))
    user.home.add_config('search = "presented"\n')
    stranger = proxy_user(module_proxies, dovecot.mailbox("stranger"))
    with (
        proxied(user.proxy, user.mailbox) as imap,
        direct(user.mailbox) as plain,
        direct(dovecot.mailbox("sorted")) as copy,
    ):
        for number, octets in enumerate(mail(user, stranger)):
            date = b'"%02d-Mar-2026 12:00:00 +0000"' % (1 + number * 5 % 28)
            # What goes through the proxy is encrypted, and presented as it was written.
            way = imap if number % 2 else plain
            way.ok(b"APPEND Drafts " + date + b" {%d}" % len(octets), octets)
        imap.ok(b"SELECT Drafts")
        copy_presented(imap, copy)
        yield Both(imap, copy)


def mail(user: ProxyUser, stranger: ProxyUser) -> list[bytes]:
    """Drafts, and other mail."""
    clear = letter(user.address, user.address)
    protected = [protect(user, clear), protect(user, clear, Protect.SIGN), protect(stranger, clear)]
    return [*(written(number, user.address) for number in range(30)), *protected]


PAIRS = list(itertools.permutations(["SUBJECT", "FROM", "SIZE", "DATE", "CC"], 2))
CRITERIA = ["ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO"]


@pytest.mark.parametrize("verb", [b"SORT", b"UID SORT"])
@pytest.mark.parametrize("reverse", ["", "REVERSE "])
@pytest.mark.parametrize("criterion", CRITERIA)
def test_each_criterion(both: Both, verb: bytes, reverse: str, criterion: str) -> None:
    both.same(verb + f" ({reverse}{criterion}) UTF-8 ALL".encode())


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_several_criteria(both: Both, one: str, other: str) -> None:
    both.same(f"UID SORT ({one} REVERSE {other}) US-ASCII ALL".encode())


@pytest.mark.parametrize(
    "command",
    [
        b"UID SORT RETURN () (SUBJECT) UTF-8 ALL",
        b"SORT RETURN (MIN MAX COUNT) (REVERSE SUBJECT) UTF-8 ALL",
        b"SORT RETURN (ALL COUNT) (DATE) UTF-8 BODY text",
        b"SORT RETURN (COUNT MIN) (DATE) UTF-8 SUBJECT nonsense",
        b"SORT (SUBJECT) UTF-8 SUBJECT nonsense",
        b"UID SORT (REVERSE DATE) UTF-8 SUBJECT alpha",
        b"UID SORT (SUBJECT) UTF-8 NOT SUBJECT whereabouts",
        b"UID SORT (SUBJECT) UTF-8 OR TEXT treasure FROM alice",
        b"SORT (SIZE) UTF-8 3:9",
        b"SORT (SUBJECT NONSENSE) UTF-8 ALL",
    ],
)
def test_results_and_programs(both: Both, command: bytes) -> None:
    if b"NONSENSE" in command:
        assert both.proxied.command(command)[-1].startswith(b"T BAD")
    else:
        both.same(command)


@pytest.mark.parametrize("verb", [b"THREAD", b"UID THREAD"])
@pytest.mark.parametrize("algorithm", [b"REFERENCES", b"ORDEREDSUBJECT"])
@pytest.mark.parametrize(
    "program",
    [b"ALL", b"1:15", b"NOT SUBJECT alpha", b"SUBJECT nonsense", b"3:20 TEXT text", b"5:9,30:33", b"UID 2,3"],
)
def test_threads(both: Both, verb: bytes, algorithm: bytes, program: bytes) -> None:
    both.same(verb + b" " + algorithm + b" UTF-8 " + program)


@pytest.mark.parametrize("seed", range(40))
def test_threads_of_any_messages(both: Both, seed: int) -> None:
    some = random.Random(seed).sample(range(1, 34), 12)
    both.same(b"UID THREAD REFERENCES UTF-8 UID " + b",".join(b"%d" % uid for uid in some))
