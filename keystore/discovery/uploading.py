"""Uploading an own certificate to a verifying key server.

It is given out by fingerprint at once, and by address only after the link in a mail to it was opened.

Security: what the server answers is data; of its texts only the words of the protocol are repeated.

Standards: the API of Hagrid, /vks/v1/upload and /vks/v1/request-verify (keys.openpgp.org/about/api).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from urllib.parse import urlsplit

from keystore import openpgp
from keystore.discovery.fetching import post_json
from keystore.discovery.keyservers import VKS_SERVER, server_url
from keystore.discovery.model import SourceFailed
from keystore.discovery.net import Net
from keystore.model import lower_case
from keystore.openpgp.certificate import facts

_MOST_OCTETS = 64 * 1024


class Status(StrEnum):
    """What a server says of an address of an uploaded certificate."""

    UNPUBLISHED = "unpublished"
    PENDING = "pending"
    """A mail with a link is on its way."""
    PUBLISHED = "published"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What became of an upload."""

    server: str
    """https://..."""
    status: Status
    asked: bool
    """Whether the server was just asked to send its mail."""


async def upload(net: Net, certificate: bytes, address: str, server: str = VKS_SERVER) -> Uploaded:
    """Upload a binary certificate, and have its address confirmed by mail where that is still to be done.

    The certificate should hold no other address. Raises SourceFailed; ValueError for what is no server.
    """
    url = server_url(server)
    text = openpgp.armor(certificate, "PUBLIC KEY BLOCK").decode("ascii")
    answer = await _asked(net, f"{url}/vks/v1/upload", {"keytext": text})
    if answer.get("key_fpr") != facts(certificate).fingerprint:
        raise _odd(url)
    name, status = _status(answer, address, url)
    token = answer.get("token")
    if status not in (Status.UNPUBLISHED, Status.PENDING):
        return Uploaded(url, status, asked=False)
    if not isinstance(token, str):
        raise _odd(url)
    answer = await _asked(net, f"{url}/vks/v1/request-verify", {"token": token, "addresses": [name]})
    return Uploaded(url, _status(answer, address, url)[1], asked=True)


async def _asked(net: Net, url: str, question: Mapping[str, object]) -> Mapping[str, object]:
    answer = await post_json(net, url, json.dumps(question).encode("ascii"), octets=_MOST_OCTETS)
    if answer.status != HTTPStatus.OK:
        refused = HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR
        passing = not refused or answer.status == HTTPStatus.TOO_MANY_REQUESTS
        raise SourceFailed(
            f"{urlsplit(url).hostname} refused it (it answered {answer.status})", temporary=passing
        )
    try:
        values = json.loads(answer.octets)
    except (ValueError, RecursionError):
        raise _odd(url) from None
    if not isinstance(values, dict):
        raise _odd(url)
    return values


def _status(answer: Mapping[str, object], address: str, url: str) -> tuple[str, Status]:
    """What is said of the address, with the address as the server writes it."""
    told = answer.get("status")
    for name, status in told.items() if isinstance(told, dict) else ():
        if lower_case(str(name)) == lower_case(address) and status in list(Status):
            return name, Status(status)
    raise _odd(url)


def _odd(url: str) -> SourceFailed:
    return SourceFailed(
        f"{urlsplit(url).hostname} does not answer as a verifying key server does", temporary=False
    )
