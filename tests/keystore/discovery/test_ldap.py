"""The source "ldap" with OpenLDAP's slapd, and with servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import pytest
import sansldap
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from keystore import openpgp
from keystore.discovery.ldap import Ldap, LdapServer, read_url
from keystore.discovery.model import Offer, SourceFailed, SourceKind
from keystore.discovery.net import Net, NetSettings, open_net
from keystore.keystore import Keystore
from keystore.model import Scheme, Trust
from tests.fixtures import x509
from tests.fixtures.certificates import TestCA, authority
from tests.fixtures.keystores import NOW
from tests.fixtures.processes import free_port
from tests.fixtures.slapd import BASE, PASSWORD, READER, Slapd, slapd

AUTHORITY = x509.root()
BOB = AUTHORITY.person("bob@example.test")
OLD_BOB = AUTHORITY.person("bob@example.test", number=1)
ALICE = Path("tests/corpus/openpgp/alice.asc").read_bytes()
SECRET_KEY = Path("tests/corpus/openpgp/bob-secret.asc").read_bytes()


def bundle(*issued: x509.Issued) -> bytes:
    return pkcs7.serialize_certificates([one.certificate for one in issued], Encoding.DER)


PEOPLE = {
    "bob@example.test": {"userCertificate;binary": [BOB.der, OLD_BOB.der]},
    "bob@example.test#again": {"userSMIMECertificate": [bundle(BOB, AUTHORITY)]},
    "alice@example.test": {"pgpKey": [ALICE]},
    "secret@example.test": {"pgpKey": [SECRET_KEY]},
    "broken@example.test": {"userSMIMECertificate": [b"no bundle"], "pgpKey": [b"no key"]},
    "none@example.test": {},
    "eve@example.test": {
        "userCertificate;binary": [BOB.der],
        "proxyAddresses": [b"SMTP:eve@example.test", b"smtp:evelyn@example.test", b"X500:/o=evelyn"],
    },
    "star*(x)\\2a@example.test": {"pgpKey": [ALICE]},
    "closed@example.test": {"userCertificate;binary": [BOB.der]},
    **{f"many@example.test#{number}": {"userCertificate;binary": [BOB.der]} for number in range(6)},
}


@pytest.fixture(scope="module")
def directory(ca: TestCA) -> Iterator[Slapd]:
    with slapd(ca, PEOPLE) as found:
        yield found


def source(ca: TestCA, server: LdapServer) -> Ldap:
    return Ldap([server], net(ca))


def net(ca: TestCA, proxy: str | None = None) -> Net:
    return open_net(NetSettings(ca_file=ca.ca_file, proxy=proxy))


def over_tls(directory: Slapd) -> LdapServer:
    return read_url(f"ldaps://localhost:{directory.tls_port}/{BASE}")


def over_start_tls(directory: Slapd) -> LdapServer:
    return read_url(f"ldap://localhost:{directory.port}/{BASE}")


def summary(offers: Sequence[Offer]) -> list[tuple[Scheme, bytes]]:
    return [(offer.scheme, offer.octets) for offer in offers]


@pytest.mark.parametrize("server_of", [over_tls, over_start_tls])
async def test_certificates_are_found_over_both_kinds_of_tls(
    ca: TestCA, directory: Slapd, server_of: Callable[[Slapd], LdapServer]
) -> None:
    """RFC 4523: binary values; a bundle gives those inside, the authority's too, each once."""
    server = server_of(directory)
    offers = await source(ca, server).find("bob@example.test")
    expected = [(Scheme.SMIME, one.der) for one in (BOB, OLD_BOB, AUTHORITY)]
    assert sorted(summary(offers), key=str) == sorted(expected, key=str)
    assert {offer.where for offer in offers} == {str(server)}


async def test_an_openpgp_certificate_is_found(ca: TestCA, directory: Slapd) -> None:
    (offer,) = await source(ca, over_tls(directory)).find("alice@example.test")
    assert offer.scheme is Scheme.OPENPGP
    assert openpgp.certificate(offer.octets).addresses == ("alice@example.org",)


async def test_what_is_found_serves_and_is_trusted_by_nobodys_word(
    ca: TestCA, directory: Slapd, keystore: Keystore
) -> None:
    for offer in await source(ca, over_tls(directory)).find("bob@example.test"):
        keystore.import_found(offer, SourceKind.LDAP, "bob@example.test", NOW)
    stored = keystore.certificates("bob@example.test")
    assert {one.fingerprint for one in stored} == {BOB.fingerprint, OLD_BOB.fingerprint}
    assert {one.trust for one in stored} == {Trust.UNKNOWN}
    assert keystore.select("bob@example.test", NOW, scheme=Scheme.SMIME).usable
    assert keystore.certificate(AUTHORITY.fingerprint) is None  # no authority comes in by this way


async def test_of_a_secret_key_only_the_certificate_is_offered(ca: TestCA, directory: Slapd) -> None:
    (offer,) = await source(ca, over_tls(directory)).find("secret@example.test")
    (key,) = openpgp.parse_keys(offer.octets)
    assert key.secret_octets is None


@pytest.mark.parametrize("address", ["none@example.test", "nobody@example.test", "broken@example.test", "*"])
async def test_nothing_of_use_is_no_failure(ca: TestCA, directory: Slapd, address: str) -> None:
    assert await source(ca, over_tls(directory)).find(address) == []


async def test_a_person_of_active_directory_is_found_by_each_address(ca: TestCA, directory: Slapd) -> None:
    """Further addresses are in proxyAddresses, with their kind before them."""
    for address in ("eve@example.test", "Evelyn@example.test"):
        assert summary(await source(ca, over_tls(directory)).find(address)) == [(Scheme.SMIME, BOB.der)]
    assert await source(ca, over_tls(directory)).find("X500:/o=evelyn") == []


async def test_an_address_is_a_value_and_no_expression(ca: TestCA, directory: Slapd) -> None:
    """What would be a wildcard or a parenthesis in the text of a filter (RFC 4515) finds itself alone."""
    (offer,) = await source(ca, over_tls(directory)).find("star*(x)\\2a@example.test")
    assert offer.scheme is Scheme.OPENPGP
    for address in ("*@example.test", "bob@example.test)(mail=*", "bo*@example.test"):
        assert await source(ca, over_tls(directory)).find(address) == []


async def test_a_search_that_finds_more_than_the_server_gives_is_of_use(ca: TestCA, directory: Slapd) -> None:
    assert summary(await source(ca, over_tls(directory)).find("many@example.test")) == [
        (Scheme.SMIME, BOB.der)
    ]


async def test_entries_for_a_login(ca: TestCA, directory: Slapd, tmp_path: Path) -> None:
    """A password is read from the first line of its file, and is in no text."""
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\nnot this\n")
    url = f"ldaps://localhost:{directory.tls_port}/{BASE}"
    assert await source(ca, read_url(url)).find("closed@example.test") == []
    known = read_url(url, bind_dn=READER, password_file=file)
    assert summary(await source(ca, known).find("closed@example.test")) == [(Scheme.SMIME, BOB.der)]
    file.write_text("wrong\n")
    with pytest.raises(SourceFailed, match="refused the login") as failure:
        await source(ca, known).find("closed@example.test")
    assert "wrong" not in failure.value.text
    assert not failure.value.temporary
    for text in ("", "\n"):
        file.write_text(text)
        with pytest.raises(SourceFailed, match="is empty"):
            await source(ca, known).find("closed@example.test")
    file.unlink()
    with pytest.raises(SourceFailed, match="cannot be read"):
        await source(ca, known).find("closed@example.test")


async def test_a_wrong_base_is_named(ca: TestCA, directory: Slapd) -> None:
    server = read_url(f"ldaps://localhost:{directory.tls_port}/dc=nowhere")
    with pytest.raises(SourceFailed, match=r"below 'dc=nowhere' \(no such object\)"):
        await source(ca, server).find("bob@example.test")


async def test_only_configured_domains_are_asked_for(ca: TestCA, directory: Slapd) -> None:
    server = read_url(f"ldaps://localhost:{free_port()}/{BASE}", domains=("example.org",))
    assert await source(ca, server).find("bob@example.test") == ()


async def test_another_directory_answers_where_one_fails(ca: TestCA, directory: Slapd) -> None:
    away = read_url(f"ldaps://localhost:{free_port()}/{BASE}")
    both = Ldap([away, over_tls(directory)], net(ca))
    assert await both.find("alice@example.test")
    with pytest.raises(SourceFailed, match="cannot be reached"):
        await both.find("nobody@example.test")


@pytest.mark.parametrize("server_of", [over_tls, over_start_tls])
async def test_a_server_that_is_not_verified_is_not_asked(
    directory: Slapd, server_of: Callable[[Slapd], LdapServer]
) -> None:
    """RFC 4513 section 3.1.3."""
    with authority() as another, pytest.raises(SourceFailed, match="its certificate is not valid"):
        await source(another, server_of(directory)).find("bob@example.test")


Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def server(
    answering: Answering, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[LdapServer]:
    """A server that does what it likes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answering(reader, writer)
        except OSError:
            return
        finally:
            writer.transport.abort()

    listener = await asyncio.start_server(serve, host, 0, ssl=tls)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        name = "localhost" if host == "127.0.0.1" else host
        yield read_url(f"{'ldaps' if tls else 'ldap'}://{name}:{port}/{BASE}")


async def asked(reader: asyncio.StreamReader, session: sansldap.LDAPServer) -> sansldap.LDAPMessage:
    return session.receive(await reader.read(65536))[0]


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()
    await reader.read()


async def flooding(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    session = sansldap.LDAPServer()
    request = await asked(reader, session)
    entry = [sansldap.PartialAttribute("cn", [bytes(60000)])]
    for _ in range(40):
        session.search_result_entry(request.message_id, "cn=x", entry)
    writer.write(session.data_to_send())
    await writer.drain()
    await reader.read()


async def other_attributes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Values of attributes that nobody asked for, and a reference to elsewhere."""
    session = sansldap.LDAPServer()
    request = await asked(reader, session)
    entry = [sansldap.PartialAttribute("cACertificate;binary", [BOB.der])]
    session.search_result_entry(request.message_id, "cn=x", entry)
    session.search_result_reference(request.message_id, ["ldap://127.0.0.1:1/"])
    session.search_result_done(request.message_id)
    writer.write(session.data_to_send())
    await writer.drain()
    await reader.read()


async def refuses_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    session = sansldap.LDAPServer()
    request = await asked(reader, session)
    session.extended_response(request.message_id, result_code=sansldap.LDAPResultCode.UNAVAILABLE)
    writer.write(session.data_to_send())
    await writer.drain()
    assert await reader.read() == b""  # nothing more is said in clear


async def says_more_than_it_was_asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An answer to a question that will be asked under TLS, put before the handshake."""
    session = sansldap.LDAPServer()
    request = await asked(reader, session)
    session.extended_response(request.message_id)
    writer.write(session.data_to_send() + b"0\x0c\x02\x01\x02e\x07\n\x01\x00\x04\x00\x04\x00")
    await writer.drain()
    assert await reader.read() == b""


@pytest.mark.parametrize(
    ("answering", "implicit", "reason"),
    [
        (hang_up, True, "ended the connection"),
        (hang_up, False, "ended the connection"),
        (garbage, True, "does not speak LDAP"),
        (garbage, False, "does not speak LDAP"),
        (flooding, True, "more than"),
        (refuses_tls, False, r"refused StartTLS \(unavailable\)"),
        (says_more_than_it_was_asked, False, "does not speak LDAP"),
    ],
)
async def test_servers_that_misbehave(ca: TestCA, answering: Answering, implicit: bool, reason: str) -> None:
    tls = ca.server_context() if implicit else None
    async with server(answering, tls) as bad:
        with pytest.raises(SourceFailed, match=reason):
            await source(ca, bad).find("bob@example.test")


async def test_a_name_that_is_not_the_servers_is_not_asked(ca: TestCA) -> None:
    """Its certificate is good, and for another name."""
    async with server(other_attributes, ca.server_context(), host="127.0.0.2") as other:
        with pytest.raises(SourceFailed, match="its certificate is not valid"):
            await source(ca, other).find("bob@example.test")


async def test_what_was_not_asked_for_is_not_taken(ca: TestCA) -> None:
    async with server(other_attributes, ca.server_context()) as odd:
        assert await source(ca, odd).find("bob@example.test") == []


async def test_a_server_without_tls_is_not_asked(ca: TestCA) -> None:
    async with server(garbage) as plain:
        implicit = read_url(f"ldaps://localhost:{plain.port}/{BASE}")
        with pytest.raises(SourceFailed, match="does not answer in TLS"):
            await source(ca, implicit).find("bob@example.test")


async def test_with_a_proxy_nothing_is_asked(ca: TestCA, directory: Slapd) -> None:
    behind = net(ca, f"socks5h://127.0.0.1:{free_port()}")
    with pytest.raises(SourceFailed, match="since a proxy is configured"):
        await Ldap([over_tls(directory)], behind).find("bob@example.test")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://host/dc=x", "begin with ldaps"),
        ("ldapi:///dc=x", "begin with ldaps"),
        ("ldaps:///dc=x", "begin with ldaps"),
        ("ldaps://host", "base of the search"),
        ("ldaps://reader:secret@host/dc=x", "do not belong"),
        ("ldaps://host/dc=x?mail", "nothing may follow"),
        ("ldaps://host:port/dc=x", "port"),
    ],
)
def test_urls_that_name_no_directory(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refusal:
        read_url(url)
    assert "secret" not in str(refusal.value)


def test_urls_of_directories() -> None:
    """RFC 4516: percent signs, and the ports of both schemes."""
    assert read_url("ldaps://Dir.example.org/ou=A%20B,dc=x") == LdapServer(
        "dir.example.org", 636, True, "ou=A B,dc=x"
    )
    assert read_url("ldap://dir.example.org/dc=x") == LdapServer("dir.example.org", 389, False, "dc=x")
