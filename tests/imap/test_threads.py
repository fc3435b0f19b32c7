"""Identifiers and threads as such; against Dovecot in test_ordering.py."""

from __future__ import annotations

import pytest

from secmailproxy.imap.sortkeys import Sorted
from secmailproxy.imap.threads import by_references, by_subject, message_ids
from tests.fixtures.growth import assert_linear


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, []),
        (b"", []),
        (b"<a@b>", [b"a@b"]),
        (b"<a@b> text <c @ d>\r\n\t<e@f>", [b"a@b", b"c@d", b"e@f"]),
        (b'<"a \\" b"@c> <none> <d@e', [b'a " b@c']),
        (b"<(comment)a@b> <c@d>", [b"c@d"]),
        (b"a@b", []),
    ],
)
def test_identifiers(value: bytes | None, found: list[bytes]) -> None:
    assert message_ids(value) == found


def message(number: int, *earlier: int, subject: str = "") -> Sorted:
    references = " ".join(f"<{one}@x>" for one in earlier)
    header = f"Message-ID: <{number}@x>\r\nReferences: {references}\r\nSubject: {subject}\r\n\r\n"
    return Sorted(number, header.encode(), number, 0)


@pytest.mark.parametrize(
    ("messages", "threads"),
    [
        ([], b""),
        ([message(1), message(2, 1), message(3, 1, 2), message(4, 1)], b"(1 (2 3)(4))"),
        ([message(1), message(2, 9), message(3, 9)], b"(1)((2)(3))"),
        ([message(1, subject="a"), message(2, subject="Re: a"), message(3, subject="a")], b"((1 2)(3))"),
        ([message(1, 2), message(2, 1)], b"(2 1)"),
    ],
)
def test_references(messages: list[Sorted], threads: bytes) -> None:
    assert by_references(messages) == threads


def test_ordered_subjects() -> None:
    messages = [message(number, subject="ab"[number % 2]) for number in range(1, 6)]
    assert by_subject(messages) == b"(1 (3)(5))(2 4)"


@pytest.mark.parametrize("step", [1, -1])
def test_a_thread_as_long_as_the_mailbox(step: int) -> None:
    def mailbox(size: int) -> list[Sorted]:
        return [message(number, number + step) for number in range(2, size + 2)]

    assert by_references(mailbox(5000)).count(b" ") >= 4998
    assert_linear(mailbox, by_references, 5000)


@pytest.mark.parametrize("piece", [b"<", b"<a", b"< ", b'<"', b'<"\\', b'<"a"@b ', b"<a@b(", b"<a>"])
def test_hostile_references_cost_little(piece: bytes) -> None:
    assert_linear(lambda size: piece * (size // len(piece)), message_ids, 250_000)
