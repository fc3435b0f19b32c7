"""The IMAP client of the errands: aioimaplib's commands, and responses read from the octets as they came.

The connection, its TLS (implicit or STARTTLS) and the login are those of `imap.upstream`; aioimaplib takes
over when somebody is logged in. It sends the commands, hands over literals and waits for completions. It
hears nothing else of what the server says: it takes octets out of untagged responses, counts parentheses in
strings and gets lost in long answers (docs/decisions/0008-errands.md). Those are read by `imap.wire` and
`imap.grammar` instead. One command at a time; after any doubt the connection is gone.

Standards: RFC 9051, RFC 4315 (UIDPLUS). Security: no response is logged; sizes and silence are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Coroutine, Iterable
from datetime import datetime
from typing import Any

from aioimaplib import aioimaplib

from secmailproxy.accounts import ImapLogin
from secmailproxy.errands.facts import CODE, Answer, Facts, Selection, facts_of, has_body
from secmailproxy.errors import SecMailProxyError, UpstreamLost, UpstreamUnavailable
from secmailproxy.imap import grammar, upstream
from secmailproxy.imap.numbers import Numbers
from secmailproxy.imap.wire import Fragment, ResponseSplitter, WireError

SILENCE_SECONDS = 120.0
"""Without an octet in either direction; RFC 9051 asks no server to answer within a time."""
UIDS_AT_ONCE = 200
_UIDS_IN_LINE = 300_000
"""Fit a line of the length that `imap.wire` allows."""
ANSWER_OCTETS = 256 * 1024 * 1024
"""Of the untagged responses to one command, all together."""

_COMPLETION = re.compile(rb"([A-Za-z0-9]+) (OK|NO|BAD)\b ?(.*)", re.IGNORECASE | re.DOTALL)
_LISTED = re.compile(rb'\* LIST \(([^)]*)\) (?:NIL|"(?:\\.|[^"\\])") ', re.IGNORECASE)
_EXISTS = re.compile(rb"\* (\d+) EXISTS\b", re.IGNORECASE)
_NOT_MAIL = re.compile(rb"\\(?:noselect|nonexistent|all|flagged)\b", re.IGNORECASE)
"""Names without a mailbox, and views of other mailboxes (RFC 6154)."""


class Refused(SecMailProxyError):
    """The server answered NO or BAD. `code` is its response code in upper case, "" for none."""

    def __init__(self, what: str, answer: bytes) -> None:
        code = CODE.match(answer)
        self.code = code[1].decode().upper() if code else ""
        words = "".join(chr(one) for one in answer if 32 <= one < 127)[:200].rstrip(". ")
        super().__init__(f"The mail server refuses {what}: {words or 'no reason given'}.")


class _Line(asyncio.Protocol):
    """Between the connection and aioimaplib, which hears completions and continuations, simplified."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self.heard = 0
        self.untagged: list[bytes] = []
        self.completion = b""
        self.news = asyncio.Event()
        """Set when the server tells how many messages there are, which it does when one has come."""
        self.library = aioimaplib.IMAP4ClientProtocol(asyncio.get_running_loop())
        self.library.connection_made(transport)
        self.library.state = aioimaplib.AUTH
        self._transport = transport
        self._splitter = ResponseSplitter()
        self._parts: list[bytes] = []
        self._octets = 0

    def expect(self) -> None:
        """A command follows."""
        self.untagged = []
        self._octets = 0
        self.completion = b""

    def data_received(self, data: bytes) -> None:
        self.heard += len(data)
        self._octets += len(data)
        try:
            if self._octets > ANSWER_OCTETS:
                raise WireError("the server sends more than was asked for")
            for piece in self._splitter.feed(data):
                self._parts.append(piece.octets)
                if isinstance(piece, Fragment) and piece.last:
                    response = b"".join(self._parts)
                    self._parts.clear()
                    self._respond(response)
        except (WireError, aioimaplib.AioImapException) as error:
            self._end(error)

    def _respond(self, response: bytes) -> None:
        if response.startswith(b"* "):
            self.untagged.append(response)
            if _EXISTS.match(response):
                self.news.set()
        elif response.startswith(b"+"):
            self.library.data_received(b"+ go on\r\n")
        elif (completion := _COMPLETION.match(response)) is not None:
            self.completion = completion[3].strip()
            self.library.data_received(b"%b %b done\r\n" % (completion[1], completion[2].upper()))
        else:
            raise WireError("the server sends something that is no response")

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc)

    def _end(self, error: Exception | None) -> None:
        self._transport.abort()
        if not self.lost.done():
            self.lost.set_result(str(error) if isinstance(error, WireError) else "the connection was lost")


class Client:
    """One connection, logged in. Every error but `Refused` ends it."""

    def __init__(self, server: upstream.Upstream, host: str) -> None:
        """`server` is logged in, and nothing is in flight."""
        # The streams keep the connection open as long as they live.
        self._server = server
        self._host = host
        transport = server.writer.transport
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._line = _Line(transport)
        self._uidvalidity = b""
        """Of the mailbox that is open."""
        self.capabilities = frozenset(server.capabilities.upper().split())
        self._line.library.capabilities = {one.decode("ascii", "replace") for one in self.capabilities}
        if b"IMAP4REV2" in self.capabilities:
            self._line.library.capabilities.add("UIDPLUS")  # a part of it, RFC 9051 appendix E

    @property
    def size_limit(self) -> int:
        """Octets of a message that the server takes (RFC 7889), as far as it tells."""
        told = [one[12:] for one in self.capabilities if one.startswith(b"APPENDLIMIT=")]
        return int(told[0]) if told and told[0].isdigit() else ANSWER_OCTETS

    @classmethod
    async def connect(cls, login: ImapLogin) -> Client:
        """Connect over verified TLS and log in. Raises LoginRefused, UpstreamUnavailable."""
        logging.getLogger("aioimaplib").setLevel(logging.CRITICAL)  # its records hold what is sent
        server = await upstream.log_in(login, b"")
        client = cls(server, login.account.imap.host)
        await client._take_over()
        return client

    async def _take_over(self) -> None:
        self._transport.set_protocol(self._line)
        self._server.reader.feed_eof()
        self._line.data_received(await self._server.reader.read())
        if not self._transport.is_reading():
            self._transport.resume_reading()

    async def log_out(self) -> None:
        """End politely; a server that does not answer to that has done all that was asked all the same."""
        with contextlib.suppress(SecMailProxyError):
            await self._run("to log out", self._line.library.logout())

    def abort(self) -> None:
        """Close at once."""
        self._server.abort()

    async def mailboxes(self) -> list[bytes]:
        """The names (modified UTF-7) of all mailboxes that can be opened and hold messages of their own."""
        answer = await self._run("to list mailboxes", self._library("LIST", '""', '"*"'))
        names = []
        for line in answer.untagged:
            listed = _LISTED.match(line)
            if listed is not None and not _NOT_MAIL.search(listed[1]):
                with contextlib.suppress(grammar.GrammarError):
                    names.append(grammar.Source(line, listed.end()).astring())
        return names

    async def open(self, mailbox: bytes, *, read_only: bool) -> Selection:
        """SELECT or EXAMINE. Raises UpstreamUnavailable without UIDVALIDITY or UIDNEXT, Refused."""
        name = quoted(mailbox)
        command = self._library("EXAMINE", name) if read_only else self._line.library.select(name)
        answer = await self._run("to open the mailbox", command)
        self._line.library.state = aioimaplib.SELECTED
        uidvalidity, uidnext = answer.code(b"UIDVALIDITY"), answer.code(b"UIDNEXT")
        if not uidvalidity or not uidvalidity.isdigit():
            raise UpstreamUnavailable(f"{self._host} gives this mailbox no lasting UIDs (UIDVALIDITY).")
        if not uidnext or not uidnext.isdigit():
            raise UpstreamUnavailable(f"{self._host} does not tell the next UID (UIDNEXT).")
        self._uidvalidity = uidvalidity
        permanent = answer.code(b"PERMANENTFLAGS")
        may_delete = permanent is None or rb"\deleted" in permanent.lower()
        counts = [int(told[1]) for line in answer.untagged if (told := _EXISTS.match(line)) is not None]
        read_only = answer.code(b"READ-ONLY") is not None or not may_delete
        return Selection(int(uidvalidity), int(uidnext), counts[-1] if counts else 0, read_only)

    async def sync(self) -> None:
        """Have the server take notice of what others did meanwhile (NOOP)."""
        await self._run("to tell what is new", self._library("NOOP"))

    @property
    def can_idle(self) -> bool:
        """Whether the server tells of new messages by itself (RFC 2177)."""
        return b"IDLE" in self.capabilities

    def heed(self) -> None:
        """From now on, `idle` returns at once when the server has told of a message meanwhile."""
        self._line.news.clear()

    def stir(self) -> None:
        """Have `idle` return."""
        self._line.news.set()

    async def idle(self, seconds: float) -> None:
        """Until there may be a new message, at most so long (IDLE). Raises Refused, UpstreamLost."""
        line = self._line
        line.expect()
        task = asyncio.create_task(line.library.idle())
        begun = asyncio.create_task(line.library.wait_for_idle_response())
        news = asyncio.create_task(line.news.wait())
        try:
            await self._one_of(SILENCE_SECONDS, task, begun)
            if begun.done():
                await self._one_of(seconds, task, news, patient=True)
            if not task.done():
                line.library.idle_done()
                await self._completed(task)
            if task.result().result != "OK":
                raise Refused("to tell of new messages", line.completion)
        except aioimaplib.AioImapException:
            raise UpstreamLost(f"{self._host} does not speak IMAP as expected.") from None
        finally:
            for one in (task, begun, news):
                one.cancel()
            await asyncio.gather(task, begun, news, return_exceptions=True)

    async def _one_of(self, seconds: float, *tasks: asyncio.Task[Any], patient: bool = False) -> None:
        """Wait until one is done; it is no fault of the server if none is, when it is `patient`."""
        lost = self._line.lost
        done, _ = await asyncio.wait({*tasks, lost}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if lost in done:
            raise UpstreamLost(f"{self._host}: {lost.result()}.")
        if not done and not patient:
            self._server.abort()
            raise UpstreamLost(f"{self._host} has not answered for {seconds:.0f} seconds.")

    async def facts(self, uids: Iterable[int], items: str = "") -> dict[int, Facts]:
        """Of those of `uids` that exist: flags, and more FETCH items that are named."""
        found: dict[int, Facts] = {}
        ordered = sorted(uids)
        for at in range(0, len(ordered), UIDS_AT_ONCE):
            for text in Numbers.each(ordered[at : at + UIDS_AT_ONCE]).texts():
                found |= await self._fetch(text.decode(), items)
        return found

    async def existing(self, selection: Selection) -> list[int]:
        """The UIDs of the messages that were there when the mailbox was opened."""
        top = selection.uidnext - 1
        step = top if selection.exists <= _UIDS_IN_LINE else _UIDS_IN_LINE
        found: set[int] = set()
        for low in range(1, top + 1, max(step, 1)):
            found |= await self._search(f"{low}:{min(top, low + step - 1)}")
        return sorted(uid for uid in found if uid <= top)

    async def existing_from(self, low: int) -> list[int]:
        """The UIDs from `low` on that exist."""
        return sorted(one for one in await self._search(f"{low}:*") if one >= low)

    async def _search(self, uids: str) -> set[int]:
        command = self._line.library.search("UID", uids, charset=None, by_uid=True)
        answer = await self._run("to search", command)
        return _found(answer)

    async def message(self, uid: int) -> Facts | None:
        """One message whole, with its flags and date; None when there is none."""
        return (await self._fetch(str(uid), "RFC822.SIZE INTERNALDATE BODY.PEEK[]")).get(uid)

    async def _fetch(self, uids: str, items: str) -> dict[int, Facts]:
        asked = f"(UID FLAGS {items})".replace(" )", ")")
        answer = await self._run(
            "to be read", self._line.library.fetch(uids, asked, by_uid=True, timeout=None)
        )
        found: dict[int, dict[str, bytes]] = {}
        for response in answer.untagged:
            if grammar.is_fetch(response):
                try:
                    read = grammar.parse_fetch_response(response)
                except grammar.GrammarError:
                    raise UpstreamLost(f"{self._host} sends a response that cannot be read.") from None
                if read.uid is not None:
                    # An update may come apart from the answer; what was told last counts.
                    found.setdefault(read.uid, {}).update(read.attributes)
        wanted = set(re.findall(r"INTERNALDATE|RFC822\.SIZE", items))
        return {
            uid: facts_of(uid, told)
            for uid, told in found.items()
            if "FLAGS" in told and wanted <= told.keys() and ("BODY" not in items or has_body(told))
        }

    async def append(self, mailbox: bytes, octets: bytes, flags: frozenset[bytes], date: bytes) -> int:
        """Store a message in the open mailbox; its UID. Raises Refused, UpstreamLost without a right UID."""
        listed = f"({' '.join(sorted(one.decode('ascii') for one in flags))})"
        command = self._line.library.append(octets, quoted(mailbox), listed, date.decode("ascii"), None)
        answer = await self._run("to store a message", command)
        return self._new_uid(answer.code(b"APPENDUID"))

    async def holds(self, message_id: str) -> bool:
        """Whether the open mailbox has a message with this Message-ID (with its angle brackets)."""
        command = self._line.library.search("HEADER", "Message-ID", f'"{message_id}"', charset=None)
        return bool(_found(await self._run("to search", command)))

    async def deposit(self, mailbox: bytes, octets: bytes, date: datetime) -> None:
        """Store a new message in any mailbox; also at a server that tells no UIDs. Raises Refused."""
        command = self._line.library.append(octets, quoted(mailbox), "()", date, None)
        await self._run("to store a message", command)

    async def copy(self, uid: int, mailbox: bytes) -> int:
        """Copy a message within the open mailbox; the UID of the copy. Raises as `append` does."""
        answer = await self._run(
            "to copy a message", self._line.library.copy(str(uid), quoted(mailbox), by_uid=True)
        )
        return self._new_uid(answer.code(b"COPYUID"), b"%d" % uid)

    async def move(self, uid: int, mailbox: bytes) -> None:
        """Move a message of the open mailbox to another one. Raises Refused."""
        name = quoted(mailbox)
        if b"MOVE" in self.capabilities or b"IMAP4REV2" in self.capabilities:
            self._line.library.capabilities.add("MOVE")
            await self._run("to move a message", self._line.library.move(str(uid), name, by_uid=True))
            return
        await self._run("to copy a message", self._line.library.copy(str(uid), name, by_uid=True))
        await self.delete(uid)

    async def delete(self, uid: int) -> None:
        """Delete one message, and no other; without UIDPLUS it is only marked. Raises Refused."""
        await self.store([uid], "+", [rb"\Deleted"])
        if b"UIDPLUS" in self.capabilities or b"IMAP4REV2" in self.capabilities:
            await self.expunge([uid])

    def _new_uid(self, code: bytes | None, *source: bytes) -> int:
        *where, told = (code or b"").split() or [b""]
        if where != [self._uidvalidity, *source] or not told.isdigit():
            raise UpstreamLost(f"{self._host} does not tell the UID of what it has stored.")
        return int(told)

    async def store(self, uids: Iterable[int], sign: str, flags: Iterable[bytes]) -> None:
        """Add ("+") or take away ("-") flags. Raises Refused."""
        listed = b" ".join(sorted(flags)).decode("ascii")
        for text in Numbers.each(uids).texts():
            await self._run(
                "to change flags",
                self._line.library.store(text.decode(), f"{sign}FLAGS.SILENT", f"({listed})", by_uid=True),
            )

    async def expunge(self, uids: Iterable[int]) -> None:
        """UID EXPUNGE: of `uids` those that have the flag Deleted. Raises Refused."""
        for text in Numbers.each(uids).texts():
            await self._run("to delete a message", self._line.library.expunge(text.decode(), by_uid=True))

    def _library(self, name: str, *arguments: str) -> Coroutine[Any, Any, Any]:
        simple: Coroutine[Any, Any, Any] = self._line.library.simple_command(name, *arguments)
        return simple

    async def _run(self, what: str, command: Coroutine[Any, Any, Any]) -> Answer:
        """Carry out one command of the library. Raises Refused, UpstreamLost."""
        line = self._line
        line.expect()
        task = asyncio.create_task(command)
        try:
            await self._completed(task)
            result = task.result().result
        except aioimaplib.AioImapException:
            raise UpstreamLost(f"{self._host} does not speak IMAP as expected.") from None
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if result != "OK":
            raise Refused(what, line.completion)
        return Answer(line.untagged, line.completion)

    async def _completed(self, task: asyncio.Task[Any]) -> None:
        line = self._line
        while not task.done():
            before = (line.heard, self._transport.get_write_buffer_size())
            done, _ = await asyncio.wait(
                {task, line.lost}, timeout=SILENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if line.lost in done and task not in done:
                raise UpstreamLost(f"{self._host}: {line.lost.result()}.")
            if not done and before == (line.heard, self._transport.get_write_buffer_size()):
                self._server.abort()
                raise UpstreamLost(f"{self._host} has not answered for {SILENCE_SECONDS:.0f} seconds.")


def _found(answer: Answer) -> set[int]:
    lines = [line[8:].split() for line in answer.untagged if line[:8].upper() == b"* SEARCH"]
    return {int(word) for words in lines for word in words if word.isdigit()}


def quoted(mailbox: bytes) -> str:
    """A mailbox name as a quoted string. Raises UpstreamUnavailable for one that has no such form."""
    if not mailbox.isascii() or any(octet < 32 or octet == 127 for octet in mailbox):
        raise UpstreamUnavailable("The mail server has a mailbox whose name is not in modified UTF-7.")
    text: str = aioimaplib.quoted(mailbox.decode("ascii"))
    return text
