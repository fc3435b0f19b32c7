"""What an encrypted message is taken apart into."""

from __future__ import annotations

import pytest

from keystore.errors import NotReadable
from keystore.openpgp import session
from keystore.openpgp.content import is_content
from keystore.openpgp.packet import MAX_PACKETS, Tag, packets, write

DATA = write(Tag.SEIPD, b"\1" + bytes(40))


def recipient(name: bytes, number: int) -> bytes:
    return write(Tag.PKESK, b"\3" + name + b"\1\x00\x20" + number.to_bytes(4, "big"))


def test_gpg_is_given_few_session_keys_of_one_name() -> None:
    """MIME-08: a card may take a second for each, and gpg is not waited for long."""
    hidden = b"".join(recipient(bytes(8), number) for number in range(500))
    named = b"".join(recipient(b"\7" * 8, number) for number in range(400))
    others = b"".join(recipient(number.to_bytes(8, "big"), number) for number in range(1, 50))
    message = session.take_apart(write(Tag.SKESK, b"\4\x09\0\2") + hidden + named + others + DATA)
    given = list(packets(message.without_passphrases()))
    assert len(given) == 8 + 8 + 49 + 1
    assert {one.tag for one in given} == {Tag.PKESK, Tag.SEIPD}


def test_a_message_has_a_bounded_number_of_packets() -> None:
    """MIME-08: whatever is looked for among them."""
    markers = write(Tag.MARKER, b"PGP") * MAX_PACKETS
    literal = write(Tag.LITERAL, b"b\0" + bytes(4))
    assert is_content(markers[:5] + literal)
    assert not is_content(markers + literal)
    assert session.take_apart(markers[:5] + DATA).recipients == ()
    with pytest.raises(NotReadable):
        session.take_apart(markers + DATA)
