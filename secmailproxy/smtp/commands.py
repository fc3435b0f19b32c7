"""The arguments of MAIL and RCPT: addresses and parameters, octet for octet.

PURE. Standards: RFC 5321 section 4.1.2 (Mailbox, esmtp-param), RFC 1870 (SIZE), RFC 6152 (BODY), RFC 6531
(SMTPUTF8), RFC 3461 section 4 (RET, ENVID, NOTIFY, ORCPT), RFC 4954 section 5 (AUTH=).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from secmailproxy.model import Reply

_LOCAL_NAME = re.compile(r":[ ]*<(?P<address>[A-Za-z0-9_][A-Za-z0-9_.+-]*)>(?:[ ]+(?P<parameters>.*))?")
"""An address without a domain, such as root: not in the standard, but what programs of one machine say."""
_PATH = re.compile(
    r"""
    :[ ]*<
    (?:@[^\s<>:]+:)?                                  # a source route is accepted and dropped
    (?P<address>
        (?:"(?:[^"\\]|\\.)*"|[^\s<>"@(),:;\[\\\]]+)  # local part, quoted or not, no comments
        @(?:\[[^\s<>"@(),;\[\\\]]+\]|[^\s<>"@(),:;\[\\\]]+)
        |[Pp][Oo][Ss][Tt][Mm][Aa][Ss][Tt][Ee][Rr]     # the one that may be bare (RFC 5321 section 4.1.1.3)
        |                                             # the null sender
    )
    >(?:[ ]+(?P<parameters>.*))?
    """,
    re.VERBOSE,
)
_PARAMETER = re.compile(r"(?P<keyword>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[^\s=]+))?")
_VALUES = {
    "SIZE": re.compile(r"\d{1,20}"),
    "BODY": re.compile(r"7BIT|8BITMIME", re.IGNORECASE),
    "RET": re.compile(r"FULL|HDRS", re.IGNORECASE),
    "ENVID": re.compile(r"\S{1,100}"),
    "NOTIFY": re.compile(r"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY))*", re.IGNORECASE),
    "ORCPT": re.compile(r"[^\s;]+;\S{1,500}"),
    "AUTH": re.compile(r"\S+"),
}

MAIL_PARAMETERS = {"SIZE": "", "BODY": "", "AUTH": "", "SMTPUTF8": "SMTPUTF8", "RET": "DSN", "ENVID": "DSN"}
"""Parameters of MAIL, each with the EHLO keyword that the smarthost must offer for it, or ""."""

RCPT_PARAMETERS = {"NOTIFY": "DSN", "ORCPT": "DSN"}
"""The same for RCPT."""

_DROPPED = frozenset({"SIZE", "AUTH"})
"""Not sent on: SIZE is that of the plaintext, and AUTH= is for relays that trust each other."""


class Refused(Exception):
    """The command is answered with this reply and changes nothing."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.reply = Reply(code, text)


@dataclass(frozen=True, slots=True)
class Path:
    """An address with its parameters."""

    address: str
    """Addr-spec as the client wrote it; "" for the null sender."""
    options: tuple[str, ...] = ()
    """Parameters to be sent on, as the client wrote them."""
    size: int = 0
    """Of SIZE=, 0 when not given."""
    smtputf8: bool = False


def mail_path(argument: str, offered: Collection[str], *, local: bool = False) -> Path:
    """Read "FROM:<address> parameters"; `offered` are the EHLO keywords of the smarthost. Raises Refused.

    With `local`, a bare local name such as root is a sender too.
    """
    return _path("FROM", argument, MAIL_PARAMETERS, offered, local=local)


def rcpt_path(argument: str, offered: Collection[str], *, smtputf8: bool, local: bool = False) -> Path:
    """Read "TO:<address> parameters"; `smtputf8` tells what MAIL asked for. Raises Refused.

    With `local`, a bare local name such as root is a recipient too.
    """
    path = _path("TO", argument, RCPT_PARAMETERS, offered, smtputf8=smtputf8, local=local)
    if not path.address:
        raise Refused(501, "5.1.3 the recipient is empty")
    return path


def _path(
    keyword: str,
    argument: str,
    known: dict[str, str],
    offered: Collection[str],
    *,
    smtputf8: bool = False,
    local: bool = False,
) -> Path:
    found = None
    if argument[: len(keyword)].upper() == keyword:
        rest = argument[len(keyword) :]
        found = _PATH.fullmatch(rest) or (_LOCAL_NAME.fullmatch(rest) if local else None)
    if found is None:
        raise Refused(501, f"5.5.4 syntax: {keyword}:<address>")
    parameters = _parameters(found["parameters"] or "", known, offered)
    smtputf8 = smtputf8 or "SMTPUTF8" in parameters
    address = found["address"]
    if not address.isascii() and not smtputf8:
        raise Refused(553, "5.6.7 an address outside ASCII needs SMTPUTF8")
    size = parameters["SIZE"].partition("=")[2] if "SIZE" in parameters else "0"
    options = tuple(written for name, written in parameters.items() if name not in _DROPPED)
    return Path(address, options, int(size), smtputf8)


def _parameters(text: str, known: dict[str, str], offered: Collection[str]) -> dict[str, str]:
    """Keyword in upper case to the parameter as written."""
    parameters: dict[str, str] = {}
    for word in filter(None, text.split(" ")):  # no other character is a blank here
        found = _PARAMETER.fullmatch(word)
        if found is None or not word.isascii():
            raise Refused(501, "5.5.4 syntax error in a parameter")
        name = found["keyword"].upper()
        if name not in known or (known[name] and known[name] not in offered):
            raise Refused(555, f"5.5.4 parameter {name} is not supported")
        value, pattern = found["value"], _VALUES.get(name)
        right = value is None if pattern is None else value is not None and pattern.fullmatch(value)
        if name in parameters or not right:
            raise Refused(501, f"5.5.4 parameter {name} is wrong")
        parameters[name] = word
    return parameters
