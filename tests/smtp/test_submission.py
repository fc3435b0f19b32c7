"""What the client is told is what the smarthost did; what fails above it is answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest

from keystore.model import Scheme
from secmailproxy.accounts import SubmissionAccount
from secmailproxy.errors import (
    KeystoreLocked,
    NoUsableCertificate,
    SecMailProxyError,
    SigningKeyUnusable,
)
from secmailproxy.logs import KeyValueFormatter
from secmailproxy.model import Envelope, Protection
from secmailproxy.smtp.delivery import Failure
from tests.smtp.peers import (
    DOT,
    MESSAGE,
    USERNAME,
    Answer,
    Client,
    PassThrough,
    Peer,
    PlainCopy,
    Proxy,
    Scripted,
    Sink,
    cut,
    reset,
    stall,
    submit,
    until,
)

Scripts = Callable[..., Awaitable[Scripted]]
Proxies = Callable[..., Awaitable[Proxy]]
Clients = Callable[..., Awaitable[Client]]

# Replies of the smarthost at each verb, and what the client is told.

CLOSED = b"451 4.4.2 localhost:PORT closed the connection or broke the protocol\r\n"
NONSENSE = b"451 4.4.2 localhost:PORT answered with something that is not SMTP\r\n"
SILENT = b"451 4.4.2 localhost:PORT did not answer in time\r\n"
UNKNOWN_USER = b"550-5.1.1 unknown\r\n550 5.1.1 user\r\n"

AT_EACH_VERB: Mapping[str, tuple[Mapping[str, Answer], str, bytes]] = {
    "MAIL 5yz": ({"MAIL": b"550 5.7.1 not your address\r\n"}, "MAIL", b"550 5.7.1 not your address\r\n"),
    "MAIL 4yz": ({"MAIL": b"451 busy\r\n"}, "MAIL", b"451 4.0.0 busy\r\n"),
    "MAIL cut": (
        {"MAIL": cut},
        "MAIL",
        CLOSED,
    ),
    "MAIL reset": (
        {"MAIL": reset},
        "MAIL",
        CLOSED,
    ),
    "MAIL stalls": ({"MAIL": stall}, "MAIL", SILENT),
    "RCPT 5yz": (
        {"RCPT": b"550-5.1.1 unknown\r\n550 5.1.1 user\r\n"},
        "RCPT",
        b"550-5.1.1 unknown\r\n550 5.1.1 user\r\n",
    ),
    "RCPT 4yz": ({"RCPT": b"450 4.2.0 greylisted\r\n"}, "RCPT", b"450 4.2.0 greylisted\r\n"),
    "RCPT 251": ({"RCPT": b"251 2.1.5 will forward\r\n"}, "RCPT", b"251 2.1.5 will forward\r\n"),
    "RCPT control": ({"RCPT": b"550 5.1.1 a\x07\x1b[2Jb\xff\r\n"}, "RCPT", b"550 5.1.1 a [2Jb\r\n"),
    "RCPT nonsense": (
        {"RCPT": b"hello\r\n"},
        "RCPT",
        NONSENSE,
    ),
    "RCPT cut": (
        {"RCPT": cut},
        "RCPT",
        CLOSED,
    ),
    "RCPT stalls": ({"RCPT": stall}, "RCPT", SILENT),
    "DATA 5yz": ({"DATA": b"554 5.5.1 no\r\n"}, ".", b"554 5.5.1 no\r\n"),
    "DATA 4yz": ({"DATA": b"452 4.3.1 no room\r\n"}, ".", b"452 4.3.1 no room\r\n"),
    "DATA 250": (
        {"DATA": b"250 2.0.0 done already\r\n"},
        ".",
        b"451 4.4.2 localhost:PORT answered DATA with 250\r\n",
    ),
    "DATA cut": (
        {"DATA": cut},
        ".",
        CLOSED,
    ),
    "dot 250": ({".": b"250 2.0.0 Ok: queued as 4bXYZ\r\n"}, ".", b"250 2.0.0 Ok: queued as 4bXYZ\r\n"),
    "dot 250 without code": ({".": b"250 Ok\r\n"}, ".", b"250 2.0.0 Ok\r\n"),
    "dot 5yz": ({".": b"554 5.7.1 looks like spam\r\n"}, ".", b"554 5.7.1 looks like spam\r\n"),
    "dot 4yz": ({".": b"451 4.7.1 try again\r\n"}, ".", b"451 4.7.1 try again\r\n"),
    "dot 354": ({".": b"354 more\r\n"}, ".", b"451 4.4.2 localhost:PORT answered the message with 354\r\n"),
    "dot cut": ({".": cut}, ".", CLOSED),
    "dot reset": (
        {".": reset},
        ".",
        CLOSED,
    ),
    "dot stalls": ({".": stall}, ".", SILENT),
}


@pytest.mark.parametrize("case", AT_EACH_VERB)
async def test_the_client_is_told_what_the_smarthost_did(
    case: str, scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """SMTP-01, SMTP-02, SMTP-18: a message counts only with the smarthost's 250, and is sent once at most."""
    script, verb, expected = AT_EACH_VERB[case]
    peer = await scripted(script)
    front = await proxy(peer.port, upstream={"timeout": 0.5, "final_timeout": 0.5})
    user = await client(front.port)
    replies = {"MAIL": await user.ask(b"MAIL FROM:<alice@example.org>")}
    if replies["MAIL"].startswith(b"2"):
        replies["RCPT"] = await user.ask(b"RCPT TO:<bob@example.org>")
    if replies.get("RCPT", b"").startswith(b"2"):
        replies["."] = await submit(user)
    assert replies[verb] == expected.replace(b"PORT", str(peer.port).encode())
    assert len(peer.messages) == (1 if case.startswith("dot") or case == "RCPT 251" else 0)
    assert (await user.ask(b"NOOP")).startswith(b"250 ")
    if verb == ".":
        peer.script.update({"DATA": b"354 go\r\n", ".": b"250 2.0.0 second\r\n"})
        await user.begin()
        assert await submit(user) == b"250 2.0.0 second\r\n"


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
async def test_421_of_the_smarthost_is_passed_on_and_ends_the_connection(
    verb: str, scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """RFC 5321 section 3.8: so the client knows that this session is over."""
    peer = await scripted({verb: b"421 4.3.2 shutting down\r\n"})
    user = await client((await proxy(peer.port)).port)
    reply = await user.ask(b"MAIL FROM:<alice@example.org>")
    if verb != "MAIL":
        reply = await user.ask(b"RCPT TO:<bob@example.org>")
    if verb in ("DATA", "."):
        reply = await submit(user)
    assert reply == b"421 4.3.2 shutting down\r\n"
    assert await user.reply() == b""


async def test_the_smarthost_cannot_be_reached_at_mail(sink: Sink, proxy: Proxies, client: Clients) -> None:
    """451 4.4.1 with the reason, and the session goes on."""
    front = await proxy(sink.port)
    user = await client(front.port)
    await front.smarthost.close()
    object.__setattr__(front.smarthost.settings, "port", 1)
    reply = await user.ask(b"MAIL FROM:<alice@example.org>")
    assert reply.startswith(b"451 4.4.1 localhost:1 cannot be reached")
    assert (await user.ask(b"NOOP")).startswith(b"250 ")


# Clients that leave, smarthosts that take their time.


@pytest.mark.parametrize("way", ["close", "half-close", "reset"])
async def test_a_client_that_leaves_after_the_dot_does_not_stop_the_relay(
    way: str, scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """SMTP-03: the message reaches the smarthost once, though it takes its time, and is accepted."""
    release = asyncio.Event()
    accepted: list[Peer] = []

    async def slow(peer: Peer) -> None:
        await release.wait()
        await peer.say(b"250 2.0.0 queued\r\n")
        accepted.append(peer)

    peer = await scripted({".": slow})
    front = await proxy(peer.port)
    user = await client(front.port)
    await user.begin()
    assert (await user.ask(b"DATA")).startswith(b"354 ")
    if way != "half-close":
        await user.send(MESSAGE + DOT)
        await until(lambda: peer.messages)
    if way == "close":
        user.writer.close()
    elif way == "reset":
        user.writer.transport.abort()
    else:
        user.writer.write(MESSAGE + DOT)
        user.writer.write_eof()
        await until(lambda: peer.messages)
    release.set()
    await until(lambda: accepted)
    assert peer.messages == [MESSAGE + DOT]
    if way == "half-close":
        assert await user.reply() == b"250 2.0.0 queued\r\n"
    await until(lambda: not front.server._sessions)
    assert front.smarthost._idle


async def test_a_client_that_leaves_before_the_dot_sends_nothing(
    scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """A message that was not completed is none."""
    peer = await scripted()
    front = await proxy(peer.port)
    user = await client(front.port)
    await user.begin()
    assert (await user.ask(b"DATA")).startswith(b"354 ")
    await user.send(MESSAGE)
    user.writer.close()
    await until(lambda: not front.server._sessions)
    assert "DATA" not in peer.verbs()


@pytest.mark.parametrize("where", ["MAIL", "RCPT", ".", "protect"])
async def test_a_handler_slower_than_the_idle_timeout_still_delivers_its_reply(
    where: str, scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """SMTP-04."""
    idle = 0.1

    async def slow(peer: Peer) -> None:
        await asyncio.sleep(3 * idle)
        await peer.say(b"250 2.0.0 slow\r\n")

    class Slow(PassThrough):
        async def protect(
            self, envelope: Envelope, message: bytes, *, sender: str, account: str, **_: object
        ) -> Sequence[PlainCopy]:
            await asyncio.sleep(3 * idle)
            return await super().protect(envelope, message, sender=sender, account=account)

    peer = await scripted({} if where == "protect" else {where: slow})
    front = await proxy(peer.port, Slow() if where == "protect" else None, idle_timeout=idle)
    user = await client(front.port)
    await user.begin()
    assert (await submit(user)).startswith(b"250 ")


async def test_an_idle_client_is_told_and_disconnected(sink: Sink, proxy: Proxies, client: Clients) -> None:
    """RFC 5321 section 4.5.3.2.7."""
    user = await client((await proxy(sink.port, idle_timeout=0.05)).port, login=False)
    assert (await user.reply()).startswith(b"220 ")
    assert await user.reply() == b"421 4.4.2 idle for too long\r\n"
    assert await user.reply() == b""


# Policy and failures of our own.


class Strict(PassThrough):
    """A rule demands encryption, and there is a key for bob alone."""

    async def check_recipient(self, sender: str, rcpt_to: str, *, account: str, **_: object) -> None:
        """As Outbound does."""
        if rcpt_to != "bob@example.org":
            raise NoUsableCertificate(f"no encryption key for <{rcpt_to}> (key expired 2026-01-02)")


async def test_one_account_does_not_speak_for_another(sink: Sink, proxy: Proxies, client: Clients) -> None:
    """The key that signs is chosen by the sender: it must not be that of somebody else's account."""
    user = await client((await proxy(sink.port)).port)
    refused = await user.ask(b"MAIL FROM:<Carol@example.org>")
    assert refused.startswith(b"554 5.7.1 "), refused
    assert b"another account" in refused
    assert (await user.ask(b"MAIL FROM:<alias@example.org>")).startswith(b"250 ")


async def test_a_recipient_without_key_is_refused_and_nothing_sent_to_it(
    sink: Sink, proxy: Proxies, client: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    """SMTP-06, SMTP-05: refused at RCPT; the others may go on. The log says so, without the address."""
    caplog.set_level(logging.INFO)
    user = await client((await proxy(sink.port, Strict())).port)
    assert (await user.ask(b"MAIL FROM:<alice@example.org>")).startswith(b"250 ")
    assert await user.ask(b"RCPT TO:<mallory@example.org>") == (
        b"550 5.7.5 no encryption key for <mallory@example.org> (key expired 2026-01-02)\r\n"
    )
    assert (await user.ask(b"DATA")).startswith(b"503 5.5.1 ")
    assert (await user.ask(b"RCPT TO:<bob@example.org>")).startswith(b"250 ")
    assert (await submit(user)).startswith(b"250 ")
    assert [one.rcpt_tos for one in sink.accepted] == [("bob@example.org",)]
    (told,) = [
        KeyValueFormatter().format(one) for one in caplog.records if one.getMessage() == "submission refused"
    ]
    assert told.endswith(" reply=550 status=5.7.5")
    assert "mallory" not in told


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (KeystoreLocked("unlock the keyring"), b"451 4.7.5 unlock the keyring\r\n"),
        (SigningKeyUnusable("the key has expired"), b"554 5.7.5 the key has expired\r\n"),
        (ValueError("the plan"), b"451 4.3.0 internal error (ref "),
        (OSError(28, "the plan"), b"451 4.3.0 internal error (ref "),
    ],
)
@pytest.mark.parametrize("where", ["check_recipient", "protect"])
async def test_our_own_failures_are_answered_and_nothing_is_sent(
    where: str,
    error: Exception,
    reply: bytes,
    scripted: Scripts,
    proxy: Proxies,
    client: Clients,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """SMTP-07, SMTP-18: no text of an unexpected exception, neither in the reply nor in the log."""

    class Broken(PassThrough):
        async def check_recipient(self, sender: str, rcpt_to: str, *, account: str, **_: object) -> None:
            if where == "check_recipient":
                raise error

        async def protect(
            self, envelope: Envelope, message: bytes, *, sender: str, account: str, **_: object
        ) -> Sequence[PlainCopy]:
            raise error

    peer = await scripted()
    user = await client((await proxy(peer.port, Broken())).port)
    assert (await user.ask(b"MAIL FROM:<alice@example.org>")).startswith(b"250 ")
    answer = await user.ask(b"RCPT TO:<bob@example.org>")
    if where == "protect":
        answer = await submit(user)
    assert answer.startswith(reply)
    assert peer.messages == []
    lines = "\n".join(map(KeyValueFormatter().format, caplog.records))
    assert "the plan" not in lines
    if not isinstance(error, SecMailProxyError):
        reference = answer.decode().rpartition("ref ")[2].rstrip(")\r\n")
        assert f"reference={reference} exception={type(error).__name__} at=test_submission.py:" in lines
    assert (await user.ask(b"NOOP")).startswith(b"250 ")


class Split(PassThrough):
    """A copy for each recipient."""

    async def protect(
        self, envelope: Envelope, message: bytes, *, sender: str, account: str, **_: object
    ) -> Sequence[PlainCopy]:
        """As for Bcc."""
        return tuple(PlainCopy((rcpt_to,), message) for rcpt_to in envelope.rcpt_tos)


async def test_a_split_message(sink: Sink, proxy: Proxies, client: Clients) -> None:
    """The connection of the first transaction serves again; the client sees one reply."""
    user = await client((await proxy(sink.port, Split())).port)
    await user.begin(b"bob@example.org", b"carol@example.org")
    assert await submit(user) == b"250 2.0.0 Ok: queued as 1\r\n"
    assert [one.rcpt_tos for one in sink.accepted] == [("bob@example.org",), ("carol@example.org",)]
    assert sink.connections == 2 + 1  # the first one told what the smarthost offers


async def test_a_partial_failure_is_250_and_one_report(
    scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """SMTP-10: the report is told whose message it was, and which copies failed."""
    answers = iter([b"250 2.0.0 first\r\n", b"552 5.2.2 full\r\n"])
    reported: list[tuple[str, ...]] = []

    async def dot(peer: Peer) -> None:
        await peer.say(next(answers))

    async def report(
        account: SubmissionAccount, message: bytes, envelope: Envelope, failures: Sequence[Failure]
    ) -> None:
        assert (account.address, message) == (USERNAME, MESSAGE)
        reported.extend(failure.rcpt_tos for failure in failures)

    peer = await scripted({".": dot})
    user = await client((await proxy(peer.port, Split(), report=report)).port)
    await user.begin(b"bob@example.org", b"carol@example.org")
    assert await submit(user) == b"250 2.0.0 first\r\n"
    assert reported == [("carol@example.org",)]


async def test_copies_for_other_recipients_are_not_sent(
    scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """Nobody is lost and nobody added, whatever goes wrong above us."""

    class Wrong(PassThrough):
        async def protect(
            self, envelope: Envelope, message: bytes, *, sender: str, account: str, **_: object
        ) -> Sequence[PlainCopy]:
            return (PlainCopy(("eve@example.org",), message),)

    peer = await scripted()
    user = await client((await proxy(peer.port, Wrong())).port)
    await user.begin()
    assert (await submit(user)).startswith(b"451 4.3.0 ")
    assert peer.messages == []


async def test_a_recipient_named_twice_gets_one_copy(sink: Sink, proxy: Proxies, client: Clients) -> None:
    """Some clients do."""
    user = await client((await proxy(sink.port, Split())).port)
    await user.begin(b"bob@example.org", b"bob@example.org")
    assert (await submit(user)).startswith(b"250 ")
    assert [one.rcpt_tos for one in sink.accepted] == [("bob@example.org",)]


@pytest.mark.parametrize("reply", [b"250 2.0.0 kept as 4711\r\n", b"554 5.7.1 no\r\n"])
async def test_the_log_says_how_a_message_left_and_the_reply_is_the_smarthosts_own(
    reply: bytes, scripted: Scripts, proxy: Proxies, client: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    """SMTP-01: no word of ours is added; the log says what was done, without addresses."""

    class Signing(PassThrough):
        async def protect(
            self, envelope: Envelope, message: bytes, *, sender: str, account: str, **_: object
        ) -> Sequence[PlainCopy]:
            return [PlainCopy(envelope.rcpt_tos, message, Protection.SIGNED, Scheme.OPENPGP)]

    peer = await scripted({".": reply})
    user = await client((await proxy(peer.port, Signing())).port)
    await user.begin()
    with caplog.at_level("INFO"):
        assert await submit(user) == reply
    (record,) = [one for one in caplog.records if one.message == "submission"]
    said = {name: getattr(record, name) for name in ("protection", "scheme", "copies", "recipients")}
    assert said == {"protection": "signed", "scheme": "openpgp", "copies": 1, "recipients": 1}
    assert "example.org" not in str(vars(record))


async def test_the_accounts_of_the_dot_count(scripted: Scripts, proxy: Proxies, client: Clients) -> None:
    """Not those of MAIL: the sender may have become another account meanwhile, or none (SIGHUP)."""
    peer = await scripted()
    front = await proxy(peer.port)
    user = await client(front.port)
    assert (await user.ask(b"MAIL FROM:<new@example.org>")).startswith(b"250 ")
    assert (await user.ask(b"RCPT TO:<bob@example.org>")).startswith(b"250 ")
    front.server._office.accounts.users |= {"new@example.org"}
    assert await submit(user) == (
        b"554 5.7.1 <new@example.org> is another account here; log in with it to send from it\r\n"
    )
    assert "DATA" not in peer.verbs()
    await user.begin()
    assert (await submit(user)).startswith(b"250 ")
