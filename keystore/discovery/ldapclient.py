"""One search at an LDAP server: the door to sansldap, which knows the octets; connection and limits are ours.

Standards: RFC 4511 (sections 4.2 simple bind, 4.5 search, 4.14 StartTLS), RFC 4513 section 3.1.
Security: nothing but the request for TLS is said in clear, and nothing that was heard in clear is kept. An
address goes into the filter as a value of its own, never into a text that is parsed. Referrals are not
followed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sansldap

from keystore.discovery.model import SourceFailed

if TYPE_CHECKING:
    from keystore.discovery.ldap import LdapServer

MOST_ENTRIES = 16
_MOST_OCTETS = 2 * 1024 * 1024
_PIECE = 64 * 1024
_SECONDS = 20
_UNFINISHED = (sansldap.SearchResultEntry, sansldap.SearchResultReference)
_TEMPORARY = (
    sansldap.LDAPResultCode.TIME_LIMIT_EXCEEDED,
    sansldap.LDAPResultCode.BUSY,
    sansldap.LDAPResultCode.UNAVAILABLE,
    sansldap.LDAPResultCode.OTHER,
)


@dataclass(frozen=True, slots=True)
class Value:
    """One value of an entry that was found."""

    attribute: str
    """In lower case, without options such as ";binary"."""
    octets: bytes


async def search(
    server: LdapServer, tls: ssl.SSLContext, equal: Sequence[tuple[str, str]], wanted: Collection[str]
) -> list[Value]:
    """The values of the attributes `wanted` of all entries where one of `equal` (attribute, value) holds.

    Raises SourceFailed: not reached, not over verified TLS, refused, or nothing that is LDAP.
    """
    try:
        conversation = await _Conversation.open(server, tls)
        try:
            if server.bind_dn is not None:
                await conversation.bind(server.bind_dn, await asyncio.to_thread(_password, server))
            return await conversation.search(server.base, equal, wanted)
        finally:
            conversation.end()
    except ssl.SSLCertVerificationError as error:
        raise SourceFailed(f"{server}: its certificate is not valid ({error.verify_message})") from None
    except ssl.SSLError:
        raise SourceFailed(f"{server} does not answer in TLS") from None
    except OSError as error:
        raise SourceFailed(f"{server} cannot be reached ({error.strerror or type(error).__name__})") from None


def _password(server: LdapServer) -> str:
    file = server.password_file
    if file is None:
        return ""
    try:
        with file.open(encoding="utf-8") as stream:
            password = stream.readline(_PIECE).rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise SourceFailed(f"the password for {server} cannot be read from {file}") from None
    if not password:
        # Without one, a server takes it as a login of nobody (RFC 4513 section 5.1.2).
        raise SourceFailed(f"the first line of {file}, the password for {server}, is empty")
    return password


class _Conversation:
    """A connection to one server, one request at a time."""

    def __init__(
        self, server: LdapServer, reader: asyncio.StreamReader, transport: asyncio.Transport
    ) -> None:
        self._server = server
        self._reader, self._transport = reader, transport
        self._client = sansldap.LDAPClient()
        self._left = _MOST_OCTETS

    @classmethod
    async def open(cls, server: LdapServer, tls: ssl.SSLContext) -> _Conversation:
        """Connect; on return everything is under verified TLS."""
        made = cls(server, *await _connect(server, tls if server.implicit else None))
        if not server.implicit:
            try:
                await made._start_tls(tls)
            except BaseException:
                made.end()
                raise
        return made

    async def _start_tls(self, tls: ssl.SSLContext) -> None:
        self._client.extended_request(sansldap.ExtendedOperations.LDAP_START_TLS.value)
        *others, answer = await self._answers()
        if others or not isinstance(answer, sansldap.ExtendedResponse):
            raise self._not_ldap()
        self._demand_success(answer.result, "StartTLS")
        loop = asyncio.get_running_loop()
        # A new reader and a new session: whoever is on the way may have put words before the handshake.
        reader = asyncio.StreamReader(limit=_PIECE)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport = await loop.start_tls(self._transport, protocol, tls, server_hostname=self._server.host)
        if transport is None:
            raise ConnectionResetError
        reader.set_transport(transport)
        self._reader, self._transport = reader, transport
        self._client = sansldap.LDAPClient()

    async def bind(self, name: str, password: str) -> None:
        """Log in. Raises SourceFailed."""
        self._client.bind_simple(name, password)
        *others, answer = await self._answers()
        if others or not isinstance(answer, sansldap.BindResponse):
            raise self._not_ldap()
        self._demand_success(answer.result, "the login")

    async def search(
        self, base: str, equal: Sequence[tuple[str, str]], wanted: Collection[str]
    ) -> list[Value]:
        """See `search`; the values come in the order of the server."""
        filters: list[sansldap.LDAPFilter] = [
            sansldap.FilterEquality(attribute, value.encode("utf-8", "surrogateescape"))
            for attribute, value in equal
        ]
        self._client.search_request(
            base,
            size_limit=MOST_ENTRIES,
            time_limit=_SECONDS,
            filter=sansldap.FilterOr(filters),
            attributes=list(wanted),
        )
        asked = {_name(one) for one in wanted}
        *entries, done = await self._answers()
        if not isinstance(done, sansldap.SearchResultDone):
            raise self._not_ldap()
        if done.result.result_code is not sansldap.LDAPResultCode.SIZE_LIMIT_EXCEEDED:
            self._demand_success(done.result, f"the search below {base!r}")
        return [
            Value(_name(one.name), octets)
            for entry in entries
            if isinstance(entry, sansldap.SearchResultEntry)
            for one in entry.attributes
            if _name(one.name) in asked
            for octets in one.values
        ]

    async def _answers(self) -> list[sansldap.LDAPMessage]:
        """Send what was asked, and wait for all answers; the last is the one that ends the request."""
        self._transport.write(self._client.data_to_send())
        found: list[sansldap.LDAPMessage] = []
        while True:
            octets = await self._reader.read(_PIECE)
            self._left -= len(octets)
            if not octets:
                raise SourceFailed(f"{self._server} ended the connection")
            if self._left < 0:
                raise SourceFailed(f"{self._server} answers with more than {_MOST_OCTETS} octets")
            found += self._received(octets)
            if found and not isinstance(found[-1], _UNFINISHED):
                return found

    def _received(self, octets: bytes) -> list[sansldap.LDAPMessage]:
        try:
            return self._client.receive(octets)
        except Exception:  # noqa: BLE001  a parser of strangers' octets: whatever it raises, it is not LDAP
            raise self._not_ldap() from None

    def _demand_success(self, result: sansldap.LDAPResult, what: str) -> None:
        code = result.result_code
        if code is not sansldap.LDAPResultCode.SUCCESS:
            words = code.name.lower().replace("_", " ")
            raise SourceFailed(f"{self._server} refused {what} ({words})", temporary=code in _TEMPORARY)

    def _not_ldap(self) -> SourceFailed:
        return SourceFailed(f"{self._server} does not speak LDAP as it should")

    def end(self) -> None:
        """Hang up; a server needs no word of farewell."""
        self._transport.abort()


async def _connect(
    server: LdapServer, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.Transport]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_PIECE)
    transport, _ = await loop.create_connection(
        lambda: asyncio.StreamReaderProtocol(reader), server.host, server.port, ssl=tls
    )
    return reader, transport


def _name(attribute: str) -> str:
    """An attribute description without its options (RFC 4512 section 2.5)."""
    return attribute.partition(";")[0].lower()
