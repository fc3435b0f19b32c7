"""Logging in at a smarthost with an OAuth access token: what is sent, and which mechanisms can be used.

PURE. Standards: RFC 7628 (OAUTHBEARER), RFC 6750 section 2.1 (form of a token), RFC 5801 section 4 (names);
XOAUTH2 as the large providers document it.

Security: a user name or token that could end its field, and so add another, is refused before it is sent.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from secmailproxy.accounts import Credentials, Mechanism
from secmailproxy.errors import LoginRefused

__all__ = ["FAILURE_ANSWER", "initial_response", "mechanisms"]

_BY_PASSWORD = frozenset({"PLAIN", "LOGIN", "CRAM-MD5"})
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

FAILURE_ANSWER: Mapping[Mechanism, bytes] = {"XOAUTH2": b"", "OAUTHBEARER": base64.b64encode(b"\x01")}
"""The line that must follow a 334 with the reason of a failure (RFC 7628 section 3.2.3)."""


def mechanisms(offered: str) -> frozenset[Mechanism]:
    """What of the parameters of the EHLO keyword AUTH we can use, every kind of password being one."""
    names = set(offered.upper().split())
    usable: set[Mechanism] = {name for name in FAILURE_ANSWER if name in names}
    return frozenset(usable | {"password"} if names & _BY_PASSWORD else usable)


def initial_response(credentials: Credentials, host: str, port: int) -> bytes:
    """The first and only thing that is said, in base64 without line ends.

    Raises LoginRefused for what is no access token, or a user name with control characters.
    """
    username, token = credentials.username, credentials.secret
    if not _TOKEN.fullmatch(token) or _CONTROL.search(username):
        raise LoginRefused("This is no OAuth access token, or the user name has control characters.")
    bearer = f"auth=Bearer {token}\x01\x01"
    if credentials.mechanism == "XOAUTH2":
        text = f"user={username}\x01{bearer}"
    else:
        name = username.replace("=", "=3D").replace(",", "=2C")
        text = f"n,a={name},\x01host={host}\x01port={port}\x01{bearer}"
    return base64.b64encode(text.encode("utf-8", "surrogateescape"))
