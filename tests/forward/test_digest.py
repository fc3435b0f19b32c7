"""Every collected message is in exactly one mail of a digest, whole; alike ones are shown once."""

from __future__ import annotations

import email
import email.policy
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.forward.digest import ATTACHED_MOST, CollectedMail, batches, collapse, sheets
from secmailproxy.forward.digestmail import ARCHIVE, digest_mail, text_mail
from secmailproxy.mime.entity import parse
from secmailproxy.mime.transfer import decoded_body
from secmailproxy.stamp import Stamp
from tests.fixtures.digests import START, archived, collected, cron, taken_out, text_of
from tests.fixtures.growth import assert_linear

STAMP = Stamp(datetime(2026, 11, 20, 7, tzinfo=UTC), "=-0123456789abcdef0123456789", "<1@host.example>")
BERLIN = ZoneInfo("Europe/Berlin")


def mails(messages: list[CollectedMail]) -> list[bytes]:
    """The mails of a digest called "nightly"."""
    return [digest_mail("nightly", one, "host@example.org", STAMP, BERLIN) for one in sheets(messages)]


SAID = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\r\n", b"x", b"\r", b"Subject: a\r\n", b"\r\n--=-0123456789abcdef", b"\0\r\n\n"]),
    st.sampled_from(["07:00:01 done", "07:15:02 done", "95% full", "96% full"]).map(cron),
    st.binary(max_size=60).map(
        lambda end: b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nopen ended\r\n' + end
    ),
)


@given(st.lists(SAID, max_size=12))
def test_every_message_is_in_exactly_one_mail_whole(octets: list[bytes]) -> None:
    carried = [one for mail in mails(collected(*octets)) for one in taken_out(mail)]
    assert Counter(carried) == Counter(octets)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), st.sampled_from("12")), min_size=1))
def test_counts_add_up(rows: list[tuple[str, str, str]]) -> None:
    messages = collected(*(cron(f"{text}%", host=host, command=name) for host, name, text in rows))
    groups = collapse(messages)
    assert sorted(one.name for group in groups for one in group.messages) == [one.name for one in messages]
    assert len(groups) == len(set(rows))
    (mail,) = mails(messages)
    tables = re.split(r"\r\n\r\nBy (?:host|sender|subject)\r\n\r\n", text_of(mail).partition("Messages")[0])
    for column, table in zip((0, 0, None), tables[1:], strict=True):
        counts = {name: int(count) for count, name in re.findall(r"(\d+)  (.+?)\r\n", table + "\r\n")}
        wanted = Counter(row[column] if column == 0 else f"{row[1]} {row[0]}" for row in rows)
        assert sum(counts.values()) == len(rows)
        assert sorted(counts.values()) == sorted(wanted.values())


def test_what_says_the_same_is_one_entry_with_its_times() -> None:
    messages = collected(
        cron("copied at 07:00:01, 3.2 seconds", number=1),
        cron("disk sda is at 95%", command="df", number=2),
        cron("copied at 07:15:09, 2.9 seconds", number=3),
        cron("copied at 07:30:59, 12 seconds", number=4),
    )
    (mail,) = mails(messages)
    text = text_of(mail)
    assert "Digest nightly: 4 messages, 2 different." in text
    assert "3 times, first 2026-11-20 08:00 +0100, last 2026-11-20 08:03 +0100" in text
    assert "> copied at 07:00:01, 3.2 seconds" in text
    assert "07:15:09" not in text
    parts = parse(mail).parts
    assert [part.body for part in parts if part.is_rfc822] == [
        messages[0].mail.octets,
        messages[1].mail.octets,
    ]
    files = archived(decoded_body(parts[-1]))
    assert files == {
        "001/00002-20261120T070200Z.eml": messages[2].mail.octets,
        "001/00003-20261120T070300Z.eml": messages[3].mail.octets,
    }
    assert f"All others are whole in {ARCHIVE}." in text


def test_other_programs_read_it() -> None:
    """The library of Python sees the same parts as we do."""
    (mail,) = mails(collected(cron("one"), cron("two ü")))
    read = email.message_from_bytes(mail, policy=email.policy.default)
    assert read["Subject"] == "Digest nightly: 2 messages, 2 different"
    assert read["Auto-Submitted"] == "auto-generated"
    text, *messages = read.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert [one.get_content().get_content().strip() for one in messages] == ["one", "two ü"]
    assert [one.get_filename() for one in messages] == [
        "001-cron-root-web1-backup.eml",
        "002-cron-root-web1-backup.eml",
    ]


def test_a_digest_that_is_too_large_is_several_mails() -> None:
    messages = collected(*(cron(f"{number}% full", number=number) for number in range(2 * ATTACHED_MOST + 1)))
    made = mails(messages)
    assert len(made) == 3
    assert [len(taken_out(mail)) for mail in made] == [ATTACHED_MOST, ATTACHED_MOST, 1]
    assert [("another mail follows" in text_of(mail)) for mail in made] == [True, True, False]
    assert b"Subject: Digest nightly, mail 3: 1 message, 1 different\r\n" in made[2]


PARTS = b"".join(b"--b\r\n\r\n%d\r\n" % number for number in range(900)) + b"--b--\r\n"
EXTREME = [
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n' + PARTS,
    b"X-Field: y\r\n" * 1001 + b"\r\nbody",
    b"X-Long: " + b"y" * 200_000 + b"\r\n\r\nbody",
    b"".join(b"Content-Type: message/rfc822\r\n\r\n" for _ in range(18)) + b"\r\nbody",
    b"".join(b"Content-Type: message/rfc822\r\n\r\n" for _ in range(40)) + b"\r\nbody",
]


@pytest.mark.parametrize("extreme", EXTREME, ids=range(len(EXTREME)))
def test_what_would_make_the_digest_unreadable_is_in_the_archive(extreme: bytes) -> None:
    (mail,) = mails(collected(extreme, cron("plain")))
    assert Counter(taken_out(mail)) == Counter([extreme, cron("plain")])
    assert extreme not in mail
    assert f"     in {ARCHIVE}" in text_of(mail)


def test_many_large_headers_are_several_mails() -> None:
    octets = [b"X: " + b"y" * 90_000 + b"%d\r\n\r\n%d%%" % (number, number) for number in range(6)]
    made = mails(collected(*octets))
    assert len(made) == 3
    assert Counter(one for mail in made for one in taken_out(mail)) == Counter(octets)


def test_hostile_words_stay_words() -> None:
    """A subject cannot add a line, a field or a file name of its own, or turn the text round."""
    octets = b"From: a@b\r\nSubject: =?utf-8?q?x=0D=0ABcc:_e@f=E2=80=AE=22=3B../../y?=\r\n\r\n\x1b[2J\r\n"
    (mail,) = mails(collected(octets))
    text = text_of(mail)
    assert '  1. x Bcc: e@f?";../../y' in text
    assert "\x1b" not in text
    assert b'filename="001-x-bcc-e-f-y.eml"' in mail
    assert b"\nBcc" not in mail.replace(octets, b"")


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 100))
def test_batches_leave_nothing_out_and_stay_below_the_limit(sizes: list[int], most: int) -> None:
    found = [sizes[one] for one in batches(sizes, most)]
    assert [size for batch in found for size in batch] == sizes
    assert all(batch and (sum(batch) <= most or len(batch) == 1) for batch in found)


def test_a_text_alone_is_a_simple_message() -> None:
    mail = text_mail("Heartbeat", "all is well\nänd quiet\n", "host@example.org", STAMP)
    root = parse(mail)
    assert root.content_type.full == "text/plain"
    assert decoded_body(root).decode() == "all is well\r\nänd quiet\r\n"


def test_the_times_are_those_of_collecting() -> None:
    late = collected(cron("x"), start=START.astimezone(UTC) + timedelta(days=200))
    assert "2027-06-08 09:00 +0200" in text_of(mails(late)[0])


def test_the_cost_grows_with_the_number_of_messages() -> None:
    def prepare(size: int) -> list[CollectedMail]:
        return collected(*(cron(f"{number % 300}% of disk full", number=number) for number in range(size)))

    assert_linear(prepare, mails, 400)
