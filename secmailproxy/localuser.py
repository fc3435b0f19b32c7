"""Which user of this machine is at the other end of a connection, where the system tells (Linux).

All users share the loopback addresses. With this a user who guesses at a password is locked out alone, and
not the owner of the account, whose mail client comes from the same address.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from asyncio.trsock import TransportSocket
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

Endpoint: TypeAlias = tuple[str, int]
"""Address, and port."""

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def guest(peer: Endpoint, here: Endpoint) -> str:
    """The client of a connection as one who guesses: its address, and its user where that is known.

    `here` is our end. May block for as long as the system takes to list its connections.
    """
    user = None
    for table in _TABLES:
        try:
            user = user_in(table.read_text(encoding="ascii").splitlines(), peer, here)
        except OSError:
            continue
        if user is not None:
            break
    return peer[0] if user is None else f"{peer[0]} user {user}"


def user_in(lines: Iterable[str], peer: Endpoint, here: Endpoint) -> int | None:
    """The number of the user who has the socket from `peer` to `here`, in a table as in /proc/net/tcp."""
    wanted = {(coded(peer, mapped=mapped), coded(here, mapped=mapped)) for mapped in (False, True)}
    for line in lines:
        columns = line.split()
        if len(columns) > 7 and (columns[1], columns[2]) in wanted:
            return int(columns[7])
    return None


def coded(endpoint: Endpoint, *, mapped: bool) -> str:
    """As the table has it: words of 32 bits in the machine's order; `mapped`: IPv4 at a socket of IPv6."""
    address = ipaddress.ip_address(endpoint[0])
    octets = address.packed
    if mapped and address.version == 4:
        octets = bytes(10) + b"\xff\xff" + octets
    words = (int.from_bytes(octets[at : at + 4], sys.byteorder) for at in range(0, len(octets), 4))
    return "".join(f"{word:08X}" for word in words) + f":{endpoint[1]:04X}"


def user_at(connection: socket.socket | TransportSocket | None) -> int | None:
    """The number of the user at the other end of a Unix socket (unix(7), SO_PEERCRED); None where unknown."""
    if connection is None or connection.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return None
    try:
        found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return None
    return int(struct.unpack("3i", found)[1])
