"""What a server can do, as the client hears it: the allow-list and nothing else (IMAP-15)."""

from __future__ import annotations

from pathlib import Path

import pytest

from secmailproxy.imap import capability

PASSED = """
    IMAP4rev1 UIDPLUS MOVE UNSELECT IDLE NAMESPACE ID CHILDREN SPECIAL-USE CREATE-SPECIAL-USE LIST-EXTENDED
    LIST-STATUS LIST-MYRIGHTS QUOTA QUOTA=RES-STORAGE ACL RIGHTS=texk ENABLE CONDSTORE QRESYNC ESEARCH
    SEARCHRES WITHIN I18NLEVEL=1 OBJECTID SAVEDATE METADATA METADATA-SERVER X-GM-EXT-1 XLIST
    APPENDLIMIT APPENDLIMIT=35651584 BINARY PREVIEW MULTIAPPEND REPLACE PARTIAL SORT
    SORT=DISPLAY ESORT THREAD=REFERENCES THREAD=ORDEREDSUBJECT
""".split()
OWN = ["LITERAL-", "INPROGRESS"]
STRIPPED = """
    IMAP4rev2 UTF8=ACCEPT UTF8=ONLY STATUS=SIZE PREVIEW=FUZZY SNIPPET=FUZZY COMPRESS=DEFLATE NOTIFY
    CATENATE URLAUTH URL-PARTIAL URLAUTH=BINARY CONVERT FILTERS LOGIN-REFERRALS MAILBOX-REFERRALS
    JMAPACCESS SASL-IR STARTTLS LOGINDISABLED AUTH=PLAIN AUTH=SCRAM-SHA-256 AUTH=GSSAPI CONTEXT=SEARCH
    CONTEXT=SORT MULTISEARCH THREAD=REFS SEARCH=FUZZY UIDONLY
    UIDBATCHES MESSAGELIMIT=1000 LANGUAGE LITERAL+ ANNOTATE-EXPERIMENT-1 UNAUTHENTICATE X-NEW
""".split()


@pytest.mark.parametrize("name", [*PASSED, *STRIPPED])
def test_each_capability_passes_or_is_stripped(name: str) -> None:
    for spelled in (name, name.lower()):
        assert capability.admit(spelled.encode()).split() == [
            word.encode() for word in ([spelled, *OWN] if name in PASSED else OWN)
        ]


@pytest.mark.parametrize("name", [*PASSED, *OWN, *STRIPPED])
def test_each_capability_is_in_the_table_of_the_documentation(name: str) -> None:
    """docs/standards.md says of each whether it passes, is our own or is stripped, and why."""
    standards = (Path(__file__).parents[2] / "docs" / "standards.md").read_text()
    section = standards.partition("## Capabilities")[2].partition("\n## ")[0]
    said = {
        word.strip(",`"): row.split("|")[2].split()[0]
        for row in section.splitlines()
        if row.startswith("| ") and row.count("|") >= 4
        for word in row.split("|")[1].split()
    }
    kind = "passed" if name in PASSED else "own" if name in OWN else "stripped"
    stem = name.partition("=")[0] + "=*"
    assert said.get(name, said.get(stem, "stripped" if name == "X-NEW" else None)) == kind


@pytest.mark.parametrize(
    ("line", "heard"),
    [
        (
            b"* CAPABILITY IMAP4rev1 COMPRESS=DEFLATE IDLE CATENATE UIDPLUS STARTTLS AUTH=PLAIN\r\n",
            b"* CAPABILITY IMAP4rev1 IDLE UIDPLUS LITERAL- INPROGRESS\r\n",
        ),
        (
            b"* capability imap4rev1 quota=storage CATENATE\r\n",
            b"* CAPABILITY imap4rev1 quota=storage LITERAL- INPROGRESS\r\n",
        ),
        (
            b"OK [CAPABILITY IMAP4rev1 OBJECTID UTF8=ACCEPT] Logged in.\r\n",
            b"OK [CAPABILITY IMAP4rev1 OBJECTID LITERAL- INPROGRESS] Logged in.\r\n",
        ),
        (b"OK [ALERT] CAPABILITY is a word\r\n", b"OK [ALERT] CAPABILITY is a word\r\n"),
        (b"* 3 FETCH (FLAGS ())\r\n", b"* 3 FETCH (FLAGS ())\r\n"),
    ],
)
def test_lists_are_cut_to_what_passes(line: bytes, heard: bytes) -> None:
    assert capability.rewrite(line) == heard


@pytest.mark.parametrize(
    ("arguments", "admitted"),
    [
        (b" CONDSTORE", b"CONDSTORE"),
        (b" utf8=accept qresync X", b"qresync"),
        (b" UTF8=ACCEPT", b""),
        (b" IMAP4rev2", b""),
        (b"", b""),
    ],
)
def test_what_may_be_enabled(arguments: bytes, admitted: bytes) -> None:
    assert capability.admit_enable(arguments) == admitted


def test_commands_that_pass_are_not_those_that_touch_content_or_state() -> None:
    assert not capability.PASSED_COMMANDS & capability.STATE_COMMANDS
    for name in ("FETCH", "UID FETCH", "APPEND", "REPLACE", "STARTTLS", "COMPRESS", "AUTHENTICATE", "NOTIFY"):
        assert name not in capability.PASSED_COMMANDS | capability.STATE_COMMANDS
