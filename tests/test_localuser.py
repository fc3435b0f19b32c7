"""Who is at the other end of a connection."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from secmailproxy.localuser import coded, guest, user_in

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:0477 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 11 1
   1: 0100007F:0477 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 12 1
   2: 0200007F:C350 0100007F:0477 01 00000000:00000000 00:00000000 00000000  1002        0 13 1
   3: 0100007F:C350 0100007F:0477 01 00000000:00000000 00:00000000 00000000  1001        0 14 1
   4: broken
"""
HERE = ("127.0.0.1", 1143)


@pytest.mark.parametrize(
    ("peer", "user"),
    [
        (("127.0.0.1", 50000), 1001),
        (("127.0.0.2", 50000), 1002),
        (("127.0.0.1", 50001), None),
        (("::1", 50000), None),
    ],
)
def test_the_other_end_is_found(
    peer: tuple[str, int], user: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not our own end, not the listener, and nobody who has but the same port."""
    monkeypatch.setattr(sys, "byteorder", "little")
    assert user_in(TABLE.splitlines(), peer, HERE) == user


def test_sockets_of_ipv6() -> None:
    line = "0: {} {} 01 0:0 0:0 0 7 0 1"
    for peer, here in ((("::1", 50000), ("::1", 1143)), (("127.0.0.1", 50000), HERE)):
        row = line.format(coded(peer, mapped=True), coded(here, mapped=True))
        assert user_in([row], peer, here) == 7
        assert len(row.split()[1]) == 37


@pytest.mark.parametrize("listens", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("mapped", [False, True])
def test_a_real_connection(listens: str, mapped: bool) -> None:
    """Also one that a socket of IPv6 makes to an address of IPv4."""
    family = socket.AF_INET6 if ":" in listens else socket.AF_INET
    with socket.create_server((listens, 0), family=family) as server:
        port = server.getsockname()[1]
        where = f"::ffff:{listens}" if mapped and family is socket.AF_INET else listens
        with socket.create_connection((where, port)) as client:
            accepted, peer = server.accept()
            with accepted:
                expected = f"{listens} user {os.getuid()}" if sys.platform == "linux" else listens
                assert guest(peer[:2], accepted.getsockname()[:2]) == expected
            assert client.fileno() >= 0
    assert guest(("127.0.0.1", 1), ("127.0.0.1", 2)) == "127.0.0.1"
