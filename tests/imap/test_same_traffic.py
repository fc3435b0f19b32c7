"""What the server is asked does not tell it what became of a message (MIME-06).

Messages of one shape, each in a mailbox of its own between two plain ones: one is opened, others cannot be,
or were tampered with, or say something else inside. A mail client does the same with each mailbox, through
a relay that hears what the server hears; and nothing is ever sent because a message was read.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from keystore.model import Trust
from tests.fixtures import forge
from tests.fixtures.desk import ALICE, BOB, EVE, MADE, TEXT, Desk, container, desk, message
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.forge import BLOCK
from tests.fixtures.forging_desk import ForgingDesk, forging_desk
from tests.fixtures.people import ProxyUser, proxy_user
from tests.fixtures.proxy import ProxyFactory, Upstream
from tests.fixtures.recorder import Recorder, recording
from tests.fixtures.transcript import RawImap, direct, proxied
from tests.fixtures.x509 import own, root

__all__ = ["desk", "forging_desk"]

PLAIN = b"From: a@example.org\r\nSubject: plain\r\n\r\nPlain.\r\n"
SYNC = b"UID RFC822.SIZE FLAGS INTERNALDATE BODY.PEEK[HEADER.FIELDS (From Subject Date Content-Type)]"
SCRIPT = [
    b"UID FETCH 1:* (%b)" % SYNC,
    b"UID FETCH 2 (UID RFC822.SIZE BODY.PEEK[])",
    b"UID FETCH 2 (BODY[])",
    b"UID FETCH 2 (FLAGS)",
    b"UID FETCH 2 (BODY.PEEK[TEXT]<0.50> BODY.PEEK[]<10.5>)",
    b"UID FETCH 2 (ENVELOPE BODYSTRUCTURE BODY)",
    b"UID FETCH 1:3 (BODY.PEEK[1] BODY.PEEK[1.MIME] BODY.PEEK[2.1] RFC822.HEADER)",
    b"UID FETCH 2 (BINARY.PEEK[1] BINARY.SIZE[1])",
    b"UID FETCH 1:3 (PREVIEW)",
    b"FETCH 1:* (ENVELOPE BODY.PEEK[HEADER])",
    b"FETCH 2 (RFC822 UID)",
    b"FETCH 1:3 FULL",
    b"UID FETCH 1:* (FLAGS RFC822.SIZE) (PARTIAL 1:2)",
    b"UID SEARCH UNSEEN",
    # Matches would be told: docs/search.md.
    b"SEARCH TEXT nowhere",
    b"UID SEARCH SUBJECT nowhere LARGER 9",
    b"UID SORT (SUBJECT) UTF-8 ALL",
    b"UID THREAD REFERENCES UTF-8 ALL",
    b"UID STORE 2 +FLAGS (\\Answered)",
    b"NOOP",
    b"CHECK",
]
AGAIN = [
    b"UID FETCH 1:* (%b)" % SYNC,
    b"UID FETCH 1:* (BODY.PEEK[])",
    b"FETCH 1:* (ENVELOPE BODYSTRUCTURE BODY.PEEK[])",
    b"UID SEARCH BODY nowhere",
]


@dataclass
class Observed:
    """Somebody whose server is listened to."""

    user: ProxyUser
    heard: Recorder
    smarthost: socket.socket
    """Never accepts; a connection to it waits here."""
    step: int
    """Each how many-th message is tried."""


@pytest.fixture(scope="module", params=["server", "presented"])
def observed(
    request: pytest.FixtureRequest,
    desk: Desk,
    forging_desk: ForgingDesk,
    dovecot: Dovecot,
    module_proxies: ProxyFactory,
) -> Iterator[Observed]:
    """Bob, with and without search in what is presented."""
    with (
        recording(dovecot.ca, dovecot.imaps_port) as heard,
        socket.create_server(("127.0.0.1", 0)) as smarthost,
    ):
        smarthost.setblocking(False)
        upstream = Upstream(dovecot.ca.ca_file, heard.port, smarthost.getsockname()[1], smtp_tls="implicit")
        user = proxy_user(module_proxies, dovecot.mailbox("observed"), upstream=upstream)
        user.home.add_config(f'search = "{request.param}"')
        with user.home.keystore() as keystore:
            keystore.import_keys(
                desk.keystore.export(desk.keys[BOB], secret=True), source="a test", passphrase=str
            )
            keystore.import_keys(desk.keystore.export(desk.keys["alice@example.org"]), source="a test")
            own(keystore, forging_desk.people[BOB])
            for one in (forging_desk.authority.pem, forging_desk.authority.chain):
                keystore.import_keys(one, source="a test", trust=Trust.VERIFIED)
        yield Observed(user, heard, smarthost, 1 if request.param == "server" else 3)


def changed(octets: bytes, before: bytes, after: bytes) -> bytes:
    """With the first `before` replaced, which is there."""
    assert before in octets
    return octets.replace(before, after, 1)


def damaged(armored: bytes) -> bytes:
    """An armored message with one octet of its ciphertext changed."""
    lines = armored.split(b"\r\n")
    at = len(lines) // 2
    lines[at] = (b"A" if lines[at][:1] != b"A" else b"B") + lines[at][1:]
    return b"\r\n".join(line for line in lines if not line.startswith(b"="))


def openpgp_encrypted(desk: Desk) -> dict[str, bytes]:
    """multipart/encrypted to Bob, or not quite."""
    armored = desk.keystore.encrypt(TEXT, [desk.keys[BOB]], None, MADE)
    return {
        "opens": container(armored),
        "signed inside": desk.encrypt(TEXT, "alice@example.org"),
        "signed inside by somebody unknown": desk.encrypt(TEXT, EVE),
        "for somebody else": container(desk.keystore.encrypt(TEXT, [desk.keys[EVE]], None, MADE)),
        "tampered": container(damaged(armored)),
        "no OpenPGP at all": container(b"nothing\r\n"),
        "nested": desk.encrypt(desk.encrypt(TEXT)),
        "deep inside": desk.encrypt(b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n" * 30),
        "large inside": desk.encrypt(TEXT + b"more\r\n" * 100_000),
    }


def openpgp_signed(desk: Desk) -> dict[str, bytes]:
    """multipart/signed by Alice, or not quite."""
    signed = desk.sign(TEXT)
    return {
        "good": signed,
        "changed": changed(signed, b"windmill", b"windmilk"),
        "by somebody unknown": desk.sign(TEXT, EVE),
        "no signature": signed[: signed.index(b"-----BEGIN")] + b"\r\n--sig--\r\n",
    }


def smime_enveloped(desk: ForgingDesk) -> dict[str, bytes]:
    """enveloped-data to Bob, or not quite."""
    whole = forge.envelope(TEXT, desk.people[BOB])
    tampered = replace(whole, ciphertext=whole.ciphertext[:-1] + bytes([whole.ciphertext[-1] ^ 1]))
    somebody = desk.authority.person("somebody@example.org", "rsa2048", 9)
    changed_iv = replace(whole, iv=bytes(BLOCK))

    def enveloped(der: bytes) -> bytes:
        return forge.pkcs7_mime(der, b"enveloped-data")

    return {
        "opens": desk.encrypt(TEXT),
        "signed inside": desk.encrypt(TEXT, ALICE),
        "opaque inside": desk.encrypt(desk.opaque(TEXT)),
        "for somebody else": enveloped(forge.envelope(TEXT, somebody).der),
        "wrong padding": enveloped(tampered.der),
        "other text": enveloped(changed_iv.der),
        "a key that does not open": enveloped(replace(whole, wrapped=bytes(256)).der),
        "no CMS": enveloped(b"nothing"),
        "signed inside, badly": desk.encrypt(changed(desk.sign(TEXT), b"windmill", b"windmilk")),
    }


def smime_opaque(desk: ForgingDesk) -> dict[str, bytes]:
    """signed-data of Alice's, or not quite."""
    stranger = root("Nobody", number=77).person(ALICE, number=78)
    return {
        "good": desk.opaque(TEXT),
        "changed": desk.opaque(TEXT, signed_digest=bytes(32)),
        "by somebody unknown": forge.pkcs7_mime(forge.sign(stranger, TEXT, opaque=True), b"signed-data"),
        "no CMS": forge.pkcs7_mime(b"nothing", b"signed-data"),
    }


def smime_signed(desk: ForgingDesk) -> dict[str, bytes]:
    """multipart/signed by Alice, or not quite."""
    return {
        "good": desk.sign(TEXT),
        "changed": changed(desk.sign(TEXT), b"windmill", b"windmilk"),
        "by another": desk.sign(TEXT, EVE),
        "no CMS": forge.multipart_signed(TEXT, b"nothing"),
    }


GROUPS: dict[str, Callable[[Any], dict[str, bytes]]] = {
    "OpenPGP encrypted": openpgp_encrypted,
    "OpenPGP signed": openpgp_signed,
    "S/MIME enveloped": smime_enveloped,
    "S/MIME opaque": smime_opaque,
    "S/MIME signed": smime_signed,
}


def asked(observed: Observed, name: str, protected: bytes) -> list[bytes]:
    """What the server hears of a client that reads the mailbox `name`, without tags and the name."""
    user = observed.user
    with direct(user.mailbox) as imap:
        imap.ok(b"CREATE %b" % name.encode())
        for octets in (PLAIN, protected, PLAIN):
            imap.ok(b"APPEND %b {%d}" % (name.encode(), len(octets)), octets)
    before = len(observed.heard.sent)
    for script in (SCRIPT, AGAIN):
        with proxied(user.proxy, user.mailbox) as imap:
            imap.ok(b"SELECT %b" % name.encode())
            for command in script:
                imap.command(command)
            idle(imap)
            imap.ok(b"UID COPY 2 %b" % name.encode())
            imap.ok(b"UID FETCH 4:* (%b)" % SYNC)
            imap.ok(b"UID FETCH 4:* (BODY.PEEK[])")
            imap.ok(b"CLOSE")
            imap.ok(b"EXAMINE %b" % name.encode())
            imap.ok(b"FETCH 2 (BODY[])")
            imap.ok(b"STATUS %b (MESSAGES UNSEEN)" % name.encode())
            imap.ok(b"LOGOUT")
    lines = bytes(observed.heard.sent[before:]).replace(name.encode(), b"BOX").split(b"\r\n")
    return [re.sub(rb"^\S+ (?=[A-Z])", b"", line) for line in lines]


def idle(imap: RawImap) -> None:
    """IDLE, and no more of it."""
    imap.send(b"i IDLE\r\n")
    assert imap.response().startswith(b"+")
    imap.send(b"DONE\r\n")
    while not imap.response().startswith(b"i "):
        pass


@pytest.mark.parametrize("group", GROUPS)
def test_the_server_hears_the_same_whatever_became_of_the_message(
    observed: Observed, desk: Desk, forging_desk: ForgingDesk, group: str
) -> None:
    expected: list[bytes] = []
    presented = set()
    people = forging_desk if group.startswith("S") else desk
    entities = list(GROUPS[group](people).items())[:: observed.step]
    for number, (name, entity) in enumerate(entities):
        mailbox = f"box-{list(GROUPS).index(group)}-{number:02}"
        heard = asked(observed, mailbox, message(entity))
        expected = expected or heard
        assert heard == expected, name
        with proxied(observed.user.proxy, observed.user.mailbox) as imap:
            imap.ok(b"EXAMINE %b" % mailbox.encode())
            (answer, *_) = imap.ok(b"UID FETCH 2 (BODY.PEEK[])")
            presented.update(re.findall(rb"Verdict-\w+: ([^;]+);\s+signature=([a-z-]+)", answer))
    # It is not that all came to the same.
    assert len(presented) >= 2
    assert len(expected) > 40
    with pytest.raises(BlockingIOError):
        observed.smarthost.accept()
