"""A Web Key Directory of our own, read by our own lookup and by the rules of the draft."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from keystore.discovery.directory import hashed
from keystore.discovery.publishing import tree, upload_instructions, write
from keystore.discovery.wkd import Wkd
from tests.fixtures.web import Web, reply
from tests.keystore.discovery.test_wkd import JOE, certificate

OPENPGPKEY = ".well-known/openpgpkey"


def serve(web: Web, root: Path, host: str) -> None:
    """What a web server does that has this folder as its root."""
    for file in root.rglob("*"):
        if file.is_file():
            web.serve(f"https://{host}/{file.relative_to(root)}", reply(file.read_bytes()))


@pytest.mark.parametrize("host", ["openpgpkey.example.org", "example.org"])
async def test_what_is_written_is_found(web: Web, tmp_path: Path, host: str) -> None:
    """By both methods, from one root."""
    write(tmp_path / "www", tree(JOE, certificate()))
    serve(web, tmp_path / "www" / "example.org", host)
    (offer,) = await Wkd(web.net()).find("Joe.Doe@example.org")
    assert offer.octets == certificate()


def test_the_files(tmp_path: Path) -> None:
    """Section 4.5: the policy file must be there; a web server must be able to read all of it."""
    write(tmp_path / "www", tree(JOE, certificate()))
    root = tmp_path / "www" / "example.org" / OPENPGPKEY
    files = {str(one.relative_to(root)) for one in root.rglob("*") if one.is_file()}
    name = hashed("joe.doe")
    assert files == {f"hu/{name}", "policy", f"example.org/hu/{name}", "example.org/policy"}
    modes = {stat.S_IMODE(one.stat().st_mode) for one in root.rglob("*") if one.is_file()}
    assert modes == {0o644}
    assert {stat.S_IMODE(one.stat().st_mode) for one in root.rglob("*") if one.is_dir()} == {0o755}


def test_what_was_there_stays(tmp_path: Path) -> None:
    write(tmp_path, tree(JOE, certificate()))
    policy = tmp_path / "example.org" / OPENPGPKEY / "policy"
    policy.write_bytes(b"auth-submit\n")
    write(tmp_path, tree("mallory@example.org", certificate("mallory@example.org")))
    write(tmp_path, tree(JOE, certificate() * 2))
    assert policy.read_bytes() == b"auth-submit\n"
    hu = policy.with_name("hu")
    assert (hu / hashed("joe.doe")).read_bytes() == certificate() * 2
    assert (hu / hashed("mallory")).read_bytes() == certificate("mallory@example.org")
    assert len(list(hu.iterdir())) == 2, "nothing half-made is left"


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        write(tmp_path / "file", tree(JOE, certificate()))


@pytest.mark.parametrize(
    "domain", ["../../etc", "a/b.org", "localhost", "..", ".org", "[192.0.2.1]", "EXAMPLE.org"]
)
def test_what_is_no_domain_is_no_folder(domain: str) -> None:
    with pytest.raises(ValueError, match="domain"):
        tree(f"joe@{domain}", certificate())


def test_the_instructions_name_both_places() -> None:
    text = "\n".join(upload_instructions(JOE))
    for part in ("https://openpgpkey.example.org/", "https://example.org/", hashed("joe.doe")):
        assert part in text
