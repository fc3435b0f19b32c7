"""Where certificates lie in a Web Key Directory."""

from __future__ import annotations

import subprocess

import pytest

from keystore.discovery.directory import hashed, places


def test_the_example_of_the_draft() -> None:
    advanced, direct = places("Joe.Doe@example.org")
    file = "hu/iy9q119eutrkn8s1mk4r39qejnbu3n5q?l=Joe.Doe"
    assert advanced.url == f"https://openpgpkey.example.org/.well-known/openpgpkey/example.org/{file}"
    assert direct.url == f"https://example.org/.well-known/openpgpkey/{file}"


@pytest.mark.parametrize("local", ["a", "JoE", "joe+tag", "o'neil", "x" * 64])
def test_gnupg_finds_the_same_place(local: str) -> None:
    listed = subprocess.run(
        ["/usr/lib/gnupg/gpg-wks-client", "--print-wkd-hash", f"{local}@example.org"],
        capture_output=True,
        check=True,
    )
    assert listed.stdout.split()[0].decode() == hashed(local)


def test_only_ascii_letters_are_made_small() -> None:
    assert hashed("JÜRGEN") == hashed("jÜrgen") != hashed("jürgen")


def test_the_local_part_is_escaped() -> None:
    for place in places("a/b?c#d&l=e ü@example.org"):
        assert place.query == "l=a%2Fb%3Fc%23d%26l%3De%20%C3%BC"
        assert place.url.endswith(f"/hu/{hashed('a/b?c#d&l=e ü')}?{place.query}")
