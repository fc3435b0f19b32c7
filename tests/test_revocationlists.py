"""Lists of revoked certificates are fetched from a real web server, by the clock and by the command."""

from __future__ import annotations

import asyncio

import pytest

from keystore.keystore import Keystore
from keystore.model import Purpose, Reason, Trust
from keystore.revocationtable import MAX_OCTETS
from secmailproxy.revocationlists import Fetched, Fetching, Pace, fetch, fetch_all
from tests.fixtures.crls import ListServer, list_server, points_to, revocation_list
from tests.fixtures.keystores import credentials, keystore, make_keystore
from tests.fixtures.processes import free_port
from tests.fixtures.x509 import NOW, Issued, addresses, key_usage, name, private_key, root

__all__ = ["credentials", "keystore", "list_server", "make_keystore"]

ROOT = root("Fetched Root", number=290)
AT_ONCE = Pace((0.0, 0.0), (0.01, 0.02), (0.0, 0.0))


def person(address: str, number: int = 291) -> Issued:
    """Somebody whose certificate says that its list is at `address`."""
    usage = key_usage("digital_signature", "key_agreement")
    names = addresses(f"p{number}@example.org")
    return ROOT.issue(name(f"P {number}"), private_key("p256", number), usage, names, points_to(address))


@pytest.fixture
def believing(keystore: Keystore) -> Keystore:
    """A keystore that believes the root."""
    keystore.import_keys(ROOT.pem, source="a test", trust=Trust.VERIFIED)
    return keystore


def test_a_list_is_fetched_and_counts(believing: Keystore, list_server: ListServer) -> None:
    gone = person(list_server.address("/a.crl"))
    believing.import_keys(gone.pem, source="a test")
    list_server.content["/a.crl"] = revocation_list(ROOT, gone)
    assert list(fetch_all(believing, NOW)) == [Fetched(list_server.address("/a.crl"), "")]
    assert list_server.asked == ["/a.crl"]
    assert believing.usability(gone.fingerprint, Purpose.ENCRYPT, NOW).reason is Reason.REVOKED


@pytest.mark.parametrize("kind", ["http", "socks5h"])
def test_with_a_proxy_nothing_is_asked_beside_it(
    believing: Keystore, list_server: ListServer, kind: str
) -> None:
    """Who reaches the network over Tor is not told of by a list; here nobody listens where the proxy was."""
    gone = person(list_server.address("/a.crl"))
    believing.import_keys(gone.pem, source="a test")
    list_server.content["/a.crl"] = revocation_list(ROOT, gone)
    (found,) = fetch_all(believing, NOW, f"{kind}://127.0.0.1:{free_port()}")
    assert (bool(found.failure), list_server.asked) == (True, [])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (404, "answered 404"),
        (b"<html></html>", "no list"),
        (b"0" * (MAX_OCTETS + 1), "larger than"),
        ("/a.crl", "from one address to the next"),
        ("file:///etc/passwd", "sends us elsewhere"),
        ("http://127.0.0.1:1/", "sends us elsewhere"),
        ("//localhost/", "sends us elsewhere"),
        ("http://[", "could not be reached"),
    ],
)
def test_what_is_no_list_is_noted(
    believing: Keystore, list_server: ListServer, content: bytes | int | str, why: str
) -> None:
    """Among them a server that sends us round and round, and to places that are not the web."""
    believing.import_keys(person(list_server.address("/a.crl")).pem, source="a test")
    list_server.content["/a.crl"] = content
    (found,) = fetch_all(believing, NOW)
    assert why in found.failure
    (row,) = believing.authorities.revocations.all()
    assert (row.failure, row.this_update) == (found.failure, None)


def test_a_redirection_is_followed(believing: Keystore, list_server: ListServer) -> None:
    believing.import_keys(person(list_server.address("/a.crl")).pem, source="a test")
    list_server.content |= {"/a.crl": list_server.address("/b.crl"), "/b.crl": revocation_list(ROOT)}
    (found,) = fetch_all(believing, NOW)
    assert found.failure == ""


def test_a_redirection_leads_to_nothing_else_on_this_machine(
    believing: Keystore, list_server: ListServer
) -> None:
    """Whoever is on the way to a server of http could else make us ask anything of anybody."""
    believing.import_keys(person(list_server.address("/a.crl")).pem, source="a test")
    list_server.content["/a.crl"] = f"http://localhost:{list_server.port}/shutdown"
    (found,) = fetch_all(believing, NOW)
    assert "elsewhere" in found.failure
    assert list_server.asked == ["/a.crl"]


async def test_an_answer_without_end_takes_its_time_and_no_more(
    believing: Keystore, list_server: ListServer
) -> None:
    believing.import_keys(person(list_server.address("/a.crl")).pem, source="a test")
    list_server.content["/a.crl"] = None
    (wanted,) = believing.authorities.wanted()
    assert "took longer" in (await fetch(believing, wanted, NOW, seconds=0.3)).failure


async def test_nobody_waits_for_an_answer_when_we_are_told_to_stop(
    believing: Keystore, list_server: ListServer
) -> None:
    believing.import_keys(person(list_server.address("/a.crl")).pem, source="a test")
    list_server.content["/a.crl"] = None
    running = asyncio.create_task(Fetching(believing, lambda: NOW, AT_ONCE).run())
    async with asyncio.timeout(20):
        while not list_server.asked:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    # As the end of the program does: it waits for threads.
    await asyncio.get_running_loop().shutdown_default_executor()
    assert not list_server.over.is_set()


async def test_a_try_that_is_yet_to_come_counts_for_nothing(
    believing: Keystore, list_server: ListServer
) -> None:
    """The clock was wrong when it was noted."""
    believing.import_keys(person(list_server.address("/a.crl")).pem, source="a test")
    (wanted,) = believing.authorities.wanted()
    believing.authorities.revocations.failed(wanted, "no network", NOW.replace(year=NOW.year + 9))
    running = asyncio.create_task(Fetching(believing, lambda: NOW, AT_ONCE).run())
    try:
        async with asyncio.timeout(20):
            while not list_server.asked:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_the_clock_asks_once_a_day(believing: Keystore, list_server: ListServer) -> None:
    """Round after round, and one that failed like one that did not; a new certificate's is asked for."""
    moment = [NOW]
    one, other, bad = (list_server.address(path) for path in ("/a.crl", "/b.crl", "/bad.crl"))
    list_server.content |= {"/a.crl": revocation_list(ROOT), "/b.crl": revocation_list(ROOT)}
    for number, address in ((291, one), (292, bad)):
        believing.import_keys(person(address, number).pem, source="a test")
    running = asyncio.create_task(Fetching(believing, lambda: moment[0], AT_ONCE).run())

    async def asked(paths: set[str], times: int) -> None:
        async with asyncio.timeout(20):
            while {path for path in paths if list_server.asked.count(path) == times} != paths:
                await asyncio.sleep(0.01)

    try:
        await asked({"/a.crl", "/bad.crl"}, 1)
        believing.import_keys(person(other, 293).pem, source="a test")
        await asked({"/b.crl"}, 1)
        assert sorted(list_server.asked) == ["/a.crl", "/b.crl", "/bad.crl"]
        moment[0] = NOW.replace(year=NOW.year + 1)
        await asked({"/a.crl", "/bad.crl", "/b.crl"}, 2)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
