"""Logging in with an OAuth access token: what a client sends, and what is sent to a smarthost.

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

__all__ = ["FAILURE_ANSWER", "credentials", "initial_response", "is_base64", "mechanisms"]

_BY_PASSWORD = frozenset({"PLAIN", "LOGIN", "CRAM-MD5"})
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_RESPONSES = {
    "XOAUTH2": re.compile(
        r"user=(?P<name>[^\x01]+)\x01auth=Bearer (?P<token>[^\x01]+)\x01\x01", re.IGNORECASE
    ),
    "OAUTHBEARER": re.compile(
        r"[ny],a=(?P<name>[^\x01,]+),\x01(?:[A-Z]+=[^\x01]*\x01)*?auth=Bearer (?P<token>[^\x01]+)\x01"
        r"(?:[A-Z]+=[^\x01]*\x01)*\x01",
        re.IGNORECASE,
    ),
}
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_ESCAPES = {"=2C": ",", "=3D": "="}

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


def is_base64(challenge: str) -> bool:
    """Whether a server's challenge can be handed on as it is."""
    return _BASE64.fullmatch(challenge) is not None


def credentials(mechanism: Mechanism, response: bytes) -> Credentials | None:
    """What a client says, without base64; None for what is no response of the mechanism or names no user.

    The token has the form of one, so that nothing else can follow it to the smarthost.
    """
    try:
        found = _RESPONSES[mechanism].fullmatch(response.decode("utf-8"))
    except UnicodeDecodeError:
        return None
    if found is None or not _TOKEN.fullmatch(found["token"]) or _CONTROL.search(found["name"]):
        return None
    name = found["name"]
    if mechanism == "OAUTHBEARER":
        name = re.sub("=2C|=3D", lambda match: _ESCAPES[match[0]], name)
    return Credentials(name, found["token"], mechanism)
