"""A locked key holder: temporary, and never ciphertext for good (IMAP-04)."""

from __future__ import annotations

from collections.abc import Callable

from tests.fixtures.dovecot import Dovecot
from tests.fixtures.gnupg import GnuPG, encrypted_by
from tests.fixtures.people import TEXT, letter
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.transcript import proxied


def test_a_locked_agent_gives_unavailable_and_later_the_plaintext(
    proxies: ProxyFactory, dovecot: Dovecot, gnupg_home: Callable[..., GnuPG]
) -> None:
    mailbox = dovecot.mailbox("locked")
    agent = gnupg_home("open sesame")
    agent.generate(mailbox.address)
    home = proxies.home(mailbox, config=f'[keystore]\ngnupg_home = "{agent.home}"\n')
    with home.keystore() as keystore:
        keystore.holders.take_from_gnupg(mailbox.address, secret=True)
    entity = f"Content-Type: text/plain\r\n\r\n{TEXT}\r\n".encode()
    header = f"From: {mailbox.address}\nTo: {mailbox.address}\nSubject: locked"
    mailbox.append(encrypted_by(agent, header, entity, "-r", mailbox.address))
    mailbox.append(letter(mailbox.address, mailbox.address))
    agent.end()  # a new agent knows no passphrase, and there is no terminal to ask for it

    with proxied(proxies.serve(home), mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        for item in (b"BODY.PEEK[]", b"RFC822.SIZE", b"ENVELOPE"):
            assert imap.command(b"UID FETCH 1 (%b)" % item)[-1].startswith(b"T NO [UNAVAILABLE]")
        assert imap.ok(b"UID FETCH 2 (BODY.PEEK[])")[0].startswith(b"* 2 FETCH")
        *others, completion = imap.command(b"UID FETCH 1:2 (BODY.PEEK[])")
        assert [one[:9] for one in others] == [b"* 2 FETCH"]
        assert completion.startswith(b"T NO [UNAVAILABLE]")
        draft = letter(mailbox.address, "b@example.org")
        # Encrypting to oneself needs no secret key; signing the sent copy does.
        assert imap.command(b"APPEND Sent {%d}" % len(draft), draft)[-1].startswith(b"T NO [UNAVAILABLE]")

        agent.run("--sign", data=b"unlock", check=True)
        assert TEXT.encode() in imap.ok(b"UID FETCH 1 (BODY.PEEK[])")[0]
        assert imap.ok(b"APPEND Sent {%d}" % len(draft), draft)
    assert mailbox.stored("Sent") != []
