"""Which domains nobody outside is asked about."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keystore.discovery.domains import refusal


@pytest.mark.parametrize(
    "domain", ["posteo.de", "a.b.c.eu", "xn--bcher-kva.de", "localhost.de", "example.de", "1.com"]
)
def test_an_ordinary_domain_is_asked(domain: str) -> None:
    assert refusal(domain) == ""


@pytest.mark.parametrize(
    ("domain", "why"),
    [
        ("test", "has no dot"),
        ("server", "has no dot"),
        ("", "is no domain"),
        ("a..b", "is no domain"),
        ("a b.de", "is no domain"),
        ("[192.0.2.1]", "is no domain"),
        ("192.0.2.1", "network address"),
        ("mail.test", "special"),
        ("a.b.invalid", "special"),
        ("x.localhost", "special"),
        ("example.org", "special"),
        ("mail.example.com", "special"),
        ("a.example", "special"),
        ("printer.local", "special"),
        ("nas.home.arpa", "special"),
        ("x.internal", "special"),
        ("x.corp", "special"),
        ("fritz.lan", "special"),
        ("x.alt", "special"),
        ("abc.onion", "over Tor only"),
        ("a" * 64 + ".de", "is no domain"),
        (".".join(["a" * 60] * 5), "is no domain"),
    ],
)
def test_a_special_domain_is_never_asked(domain: str, why: str) -> None:
    assert why in refusal(domain)


def test_what_the_owner_allows_is_asked_with_all_below_it() -> None:
    assert refusal("example.org", {"example.org"}) == ""
    assert refusal("mail.example.org", {"example.org"}) == ""
    assert refusal("example.com", {"example.org"}) != ""
    assert refusal("badexample.test", {"example.test"}) != ""


def test_onion_is_asked_over_tor_alone() -> None:
    assert refusal("abc.onion", tor=True) == ""
    assert refusal("abc.local", tor=True) != ""


@settings(max_examples=50)
@given(st.text(max_size=40), st.sampled_from(["test", "local", "onion", "internal"]))
def test_nothing_below_a_special_name_slips_through(prefix: str, special: str) -> None:
    assert refusal(f"{prefix}.{special}") != ""
