"""IMAP-16: whose only key is of S/MIME has drafts and sent mail as ciphertext there, and reads them here."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from tests.fixtures.clients import without_verdict
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import ATTACHMENT, TEXT, ProxyUser, leaked, letter
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.smime_people import smime_user
from tests.fixtures.x509 import Authority

HTML = b"<p>The <b>treasure</b> is where the windmill was.</p>\r\n"


@dataclass(frozen=True)
class Owner:
    """Alice, and what she would have after the loss of everything but her file of keys."""

    alice: ProxyUser
    again: ProxyUser

    def written(self, number: int) -> bytes:
        """A letter with a text, HTML and an attachment, unlike any other."""
        octets = letter(self.alice.address, "bob@example.test")
        octets = re.sub(rb"Message-ID: [^\r]+", b"Message-ID: <own-%d@example.test>" % number, octets)
        html = b"--letter\r\nContent-Type: text/html\r\n\r\n" + HTML
        return octets.replace(
            b"--letter\r\nContent-Type: text/csv", html + b"--letter\r\nContent-Type: text/csv"
        )


@pytest.fixture(scope="module")
def owner(module_proxies: ProxyFactory, dovecot: Dovecot, mail_authority: Authority) -> Owner:
    mailbox = dovecot.mailbox("smime")
    person = mail_authority.person(mailbox.address, "rsa2048", 40)
    return Owner(*(smime_user(module_proxies, mailbox, mail_authority, person) for _ in range(2)))


@pytest.mark.parametrize(("folder", "flags"), [("Drafts", r"(\Draft)"), ("Sent", r"(\Seen)")])
def test_what_is_filed_is_ciphertext_there_and_itself_here(owner: Owner, folder: str, flags: str) -> None:
    """Octet for octet; when the local store is lost, the same message under a verdict, HTML and all."""
    alice, written = owner.alice, owner.written(ord(folder[0]))
    with alice.proxy.imap(alice.mailbox, None) as client:
        status, answer = client.append(folder, flags, "", written)
        assert status == "OK", answer
    assert alice.read(folder) == [written]
    stored = [
        path.read_bytes() for path in (alice.mailbox.folder / f".{folder}").glob("*/*") if path.is_file()
    ]
    (octets,) = [one for one in stored if b"<own-%d@" % ord(folder[0]) in one]
    assert b"smime-type=authEnveloped-data" in octets
    assert not leaked(octets)

    (presented,) = owner.again.read(folder)
    field = re.escape(owner.again.verdict_field.encode())
    found = re.match(field + rb": (.*?);", presented)
    assert found is not None
    assert found[1] == b"encrypted"
    assert b"not authenticated" not in presented.partition(b"(")[0]
    for part in (TEXT.encode(), HTML, ATTACHMENT):
        assert part in presented
    body = written.partition(b"\r\n\r\n")[2]
    assert without_verdict(presented).partition(b"\r\n\r\n")[2] == body
