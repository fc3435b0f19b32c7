"""Asking web servers that may be anybody's."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from keystore.discovery.fetching import HostMissing, fetch, post_json
from keystore.discovery.model import SourceFailed
from keystore.discovery.net import NetSettings, open_net
from tests.fixtures.web import Asked, Page, Web, reply

URL = "https://keys.example.net/alice"


def redirect(location: str, status: int = 302) -> bytes:
    return reply(status=status, headers=f"Location: {location}\r\n")


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 So\r\n\r\n")
    while not writer.is_closing():
        writer.write(bytes(65536))
        await writer.drain()
        await asyncio.sleep(0)


async def drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 So\r\nContent-Length: 1000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 So\r\n")
    while not writer.is_closing():
        writer.write(b"X-Y: " + b"z" * 1000 + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0)


async def test_what_is_there(web: Web) -> None:
    web.serve(URL, reply(b"octets"))
    assert await fetch(web.net(), URL + "?l=a") == b"octets"
    (asked,) = web.asked
    assert asked.url == URL + "?l=a"
    assert "cookie" not in asked.headers
    assert "referer" not in asked.headers
    assert asked.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [404, 410])
async def test_what_is_not_there(web: Web, status: int) -> None:
    web.serve(URL, reply(b"<html>", status))
    assert await fetch(web.net(), URL) is None


HOSTILE: list[tuple[Page, str, bool]] = [
    (reply(b"sesame", 403), "answered 403", False),
    (reply(b"sesame", 429), "answered 429", True),
    (reply(b"sesame", 503), "answered 503", True),
    (reply(b"sesame", 204), "answered 204", False),
    (b"sesame\r\n\r\n", "did not answer rightly", True),
    (b"HTTP/1.1 200 So\r\nContent-Length: 9\r\n\r\nshort", "took longer", True),
    (reply(gzip.compress(bytes(9 * 2**20)), headers="Content-Encoding: gzip\r\n"), "compressed", False),
    (reply(bytes(3 * 2**20)), "more than 2048 KiB", False),
    (endless, "more than 2048 KiB", False),
    (drip, "took longer", True),
    (headers, "did not answer rightly", True),
    (redirect(URL), "from one address to the next", False),
    (redirect("http://keys.example.net/alice"), "leads elsewhere", False),
    (redirect("https://other.example.net/alice"), "leads elsewhere", False),
    (redirect("https://keys.example.net:8443/alice"), "leads elsewhere", False),
    (redirect("https://sesame@keys.example.net/alice"), "leads elsewhere", False),
    (redirect("file:///etc/passwd"), "leads elsewhere", False),
    (redirect("https://[sesame"), "did not answer rightly", True),
]


@pytest.mark.parametrize(("page", "said", "temporary"), HOSTILE)
async def test_hostile_servers(web: Web, page: Page, said: str, temporary: bool) -> None:
    """Each is left soon, with a sentence that has nothing of the server's in it."""
    web.serve(URL, page)
    with pytest.raises(SourceFailed) as failed:
        await fetch(web.net(), URL, seconds=0.2 if "longer" in said else 20)
    assert said in failed.value.text
    assert failed.value.text.startswith("keys.example.net ")
    assert "sesame" not in failed.value.text
    assert failed.value.temporary is temporary
    assert not isinstance(failed.value, HostMissing)
    assert len(web.asked) <= 4


async def test_redirections_on_the_same_host(web: Web) -> None:
    web.serve(URL, redirect("/elsewhere?a=b", 301))
    web.serve("https://keys.example.net/elsewhere", reply(b"octets"))
    assert await fetch(web.net(), URL) == b"octets"
    assert web.urls == [URL, "https://keys.example.net/elsewhere?a=b"]


async def test_no_such_host(web: Web) -> None:
    with pytest.raises(HostMissing, match=r"there is no host keys\.example\.net") as failed:
        await fetch(web.net(), URL)
    assert not failed.value.temporary


async def test_a_name_that_may_exist(web: Web) -> None:
    """The resolver is out of reach: that says nothing of the name."""
    web.unresolved.add("keys.example.net")
    with pytest.raises(SourceFailed, match="cannot be reached") as failed:
        await fetch(web.net(), URL)
    assert failed.value.temporary
    assert not isinstance(failed.value, HostMissing)


async def test_a_name_that_does_not_exist_for_the_system(web: Web) -> None:
    """RFC 6761 section 6.4: no resolver has an address for it."""
    with pytest.raises(HostMissing):
        await fetch(open_net(NetSettings(ca_file=web.ca_file)), "https://keys.invalid/")


async def test_a_server_that_is_not_who_it_should_be(web: Web) -> None:
    web.serve("https://keys.example.com/", reply(b"octets"))
    with pytest.raises(SourceFailed, match="certificate that is not trusted"):
        await fetch(web.net(), "https://keys.example.com/")
    assert not web.asked
    platform = replace(web.net(), http=open_net(NetSettings(proxy=web.proxy)).http)
    web.serve(URL, reply(b"octets"))
    with pytest.raises(SourceFailed, match="certificate that is not trusted"):
        await fetch(platform, URL)
    assert not web.asked


async def test_authorities_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_bytes(b"")
    for file in (tmp_path / "empty.pem", tmp_path / "missing.pem"):
        with pytest.raises(SourceFailed, match="authorities") as failed:
            await fetch(open_net(NetSettings(ca_file=file)), URL)
        assert not failed.value.temporary


async def test_nothing_is_asked_in_clear(web: Web) -> None:
    web.serve("http://keys.example.net/", reply(b"octets"))
    with pytest.raises(SourceFailed, match="https alone"):
        await fetch(web.net(), "http://keys.example.net/")
    assert not web.asked


@pytest.mark.parametrize("kind", ["proxy", "socks"])
async def test_with_a_proxy_everything_goes_through_it(web: Web, kind: str) -> None:
    """Names too: both proxies see the name, and the way has no resolver."""
    net = open_net(NetSettings(ca_file=web.ca_file, proxy=getattr(web, kind)))
    assert net.resolver is None
    web.serve(URL, reply(b"octets"))
    assert await fetch(net, URL) == b"octets"
    with pytest.raises(HostMissing, match="through the proxy"):
        await fetch(net, "https://openpgpkey.example.net/")
    assert web.connected == ["keys.example.net:443", "openpgpkey.example.net:443"]


async def test_a_proxy_that_is_not_there(web: Web) -> None:
    """It says nothing of the host that was to be asked: nothing is concluded, and nobody asked directly."""
    web.serve(URL, reply(b"octets"))
    for proxy in ("socks5h://proxy.invalid:9050", "http://proxy.invalid:3128", "http://127.0.0.1:1"):
        with pytest.raises(SourceFailed) as failed:
            await fetch(open_net(NetSettings(ca_file=web.ca_file, proxy=proxy)), URL)
        assert failed.value.temporary
        assert not isinstance(failed.value, HostMissing)
    assert not web.asked


async def test_the_environment_names_no_proxy(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "ALL_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, web.proxy)
    web.serve("https://keys.invalid/", reply(b"octets"))
    with pytest.raises(HostMissing):
        await fetch(open_net(NetSettings(ca_file=web.ca_file)), "https://keys.invalid/")
    assert not web.connected


@pytest.mark.parametrize(
    "url",
    [
        "socks5://127.0.0.1:9050",
        "https://127.0.0.1:9050",
        "127.0.0.1:9050",
        "socks5h://127.0.0.1",
        "http://me:sesame@proxy.example.org:3128",
        "http://proxy.example.org:99999",
        "http://[proxy",
        "http://proxy.example.org:3128/path",
        "",
    ],
)
def test_what_is_no_proxy(url: str) -> None:
    with pytest.raises(ValueError, match=r"write|no URL|not supported") as refused:
        open_net(NetSettings(proxy=url))
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize("way", ["https://127.0.0.1", "socks5h://127.0.0.1", "http://127.0.0.1"])
@pytest.mark.parametrize("said", [b"", b"\x05\x00\x05\x04\x00\x01" + bytes(6), b"HTTP/1.1 502 No\r\n\r\n"])
async def test_no_connection_stays_open(web: Web, way: str, said: bytes) -> None:
    """Whatever is cancelled or fails while TLS or a proxy's protocol is agreed on: the peer sees the end."""
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def unhelpful(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        with suppress(OSError):
            while await reader.read(4096):
                pass
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        gone.set_result(None)

    server = await asyncio.start_server(unhelpful, "127.0.0.1", 0)
    place = f"{way}:{server.sockets[0].getsockname()[1]}"
    proxied = not way.startswith("https")
    net = open_net(NetSettings(ca_file=web.ca_file, proxy=place if proxied else None))
    with pytest.raises(SourceFailed):
        await fetch(net, URL if proxied else place, seconds=0.1)
    await asyncio.wait_for(gone, 10)
    server.close()


async def test_post(web: Web) -> None:
    def page(asked: Asked) -> bytes:
        return reply(asked.method.encode() + asked.headers["content-type"].encode() + asked.body, 400)

    web.serve(URL, page)
    answer = await post_json(web.net(), URL, b'{"a": 1}')
    assert (answer.status, answer.octets) == (400, b'POSTapplication/json{"a": 1}')
    assert "POST" not in repr(answer)


async def test_a_post_is_not_redirected(web: Web) -> None:
    web.serve(URL, redirect(URL, 308))
    with pytest.raises(SourceFailed, match="leads elsewhere"):
        await post_json(web.net(), URL, b"{}")
    assert len(web.asked) == 1
