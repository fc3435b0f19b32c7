"""Lists of revoked certificates: which are believed, and what an entry means."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography import x509

from keystore.errors import KeyRefused
from keystore.smime.crl import covers, distribution_points, is_revoked, parse_list, read_list
from tests.fixtures.crls import points_to, revocation_list
from tests.fixtures.x509 import DAY, NOW, Authority, Extension, key_usage, name, private_key, root

HERE = "http://lists.example.org/mail.crl"
ROOT = root("Lists Root", number=260)
PERSON = ROOT.person("alice@example.org", number=261)
OTHER = root("Other Root", number=262)


def scope(**stated: object) -> Extension:
    """The extension with which a list says what it is for."""
    values = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return x509.IssuingDistributionPoint(**{**values, **stated}), True  # type: ignore[arg-type]  # of a table


def at(address: str) -> Extension:
    return scope(full_name=[x509.UniformResourceIdentifier(address)])


def _no_crl_sign() -> Authority:
    made = ROOT.issue(
        name("No lists"),
        private_key("p256", 263),
        (x509.BasicConstraints(True, None), True),
        key_usage("key_cert_sign"),
    )
    return Authority(made.certificate, made.key)


STRANGE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "damaged"),
    "a page": (lambda: b"<html>Not found</html>", "damaged"),
    "another issuer's": (lambda: revocation_list(OTHER), "another issuer"),
    "another key": (lambda: revocation_list(ROOT, key=OTHER.key), "signature is wrong"),
    "of the future": (
        lambda: revocation_list(ROOT, this_update=NOW + DAY, next_update=NOW + 2 * DAY),
        "dated in the future",
    ),
    "changes only": (
        lambda: revocation_list(ROOT, extensions=((x509.DeltaCRLIndicator(1), True),)),
        "changes only",
    ),
    "others' certificates": (
        lambda: revocation_list(ROOT, extensions=(scope(indirect_crl=True),)),
        "a part only",
    ),
    "some reasons": (
        lambda: revocation_list(
            ROOT,
            extensions=(scope(only_some_reasons=frozenset({x509.ReasonFlags.key_compromise})),),
        ),
        "a part only",
    ),
    "another address": (
        lambda: revocation_list(ROOT, extensions=(at("http://elsewhere.example/"),)),
        "another address",
    ),
    "a critical extension": (
        lambda: revocation_list(ROOT, extensions=(STRANGE,)),
        "critical extension 1.2.3.4",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_believed(case: str) -> None:
    make, why = REFUSED[case]
    with pytest.raises(KeyRefused, match=why):
        read_list(make(), ROOT.der, HERE, NOW)


def test_who_may_not_sign_lists() -> None:
    authority = _no_crl_sign()
    with pytest.raises(KeyRefused, match="may not sign lists"):
        read_list(revocation_list(authority), authority.der, HERE, NOW)


def test_any_octet_changed_is_refused() -> None:
    whole = revocation_list(ROOT, PERSON)
    for at_octet in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[at_octet] ^= 1
        with pytest.raises(KeyRefused):
            read_list(bytes(changed), ROOT.der, HERE, NOW)


def test_what_is_believed() -> None:
    found = read_list(revocation_list(ROOT, PERSON, extensions=(at(HERE),)), ROOT.der, HERE, NOW)
    assert (found.this_update, found.next_update) == (NOW, NOW + 7 * DAY)
    assert covers(parse_list(found.octets), PERSON.der)


@pytest.mark.parametrize(
    ("reason", "spoils_what_was_signed_before"),
    [
        (None, True),
        (x509.ReasonFlags.key_compromise, True),
        (x509.ReasonFlags.ca_compromise, True),
        (x509.ReasonFlags.certificate_hold, True),
        (x509.ReasonFlags.superseded, False),
        (x509.ReasonFlags.affiliation_changed, False),
        (x509.ReasonFlags.cessation_of_operation, False),
    ],
)
def test_what_an_entry_means(reason: x509.ReasonFlags | None, spoils_what_was_signed_before: bool) -> None:
    """Given back in good order, a certificate has signed what it signed before."""
    parsed = parse_list(revocation_list(ROOT, PERSON, reason=reason, revoked_at=NOW - DAY))
    assert is_revoked(parsed, PERSON.der, NOW)
    assert is_revoked(parsed, PERSON.der, NOW - DAY)
    assert is_revoked(parsed, PERSON.der, NOW - 2 * DAY) is spoils_what_was_signed_before
    assert not is_revoked(parsed, ROOT.person("bob@example.org", number=264).der, NOW)


def test_a_list_for_authorities_says_nothing_of_people() -> None:
    of_authorities = parse_list(revocation_list(ROOT, extensions=(scope(only_contains_ca_certs=True),)))
    of_people = parse_list(revocation_list(ROOT, extensions=(scope(only_contains_user_certs=True),)))
    assert [covers(of_authorities, one) for one in (PERSON.der, ROOT.der)] == [False, True]
    assert [covers(of_people, one) for one in (PERSON.der, ROOT.der)] == [True, False]


def test_which_addresses_are_asked() -> None:
    """http and https only, without credentials, a few of them."""
    one = ROOT.issue(
        name("Alice"),
        private_key("p256"),
        points_to(
            "ldap://lists.example.org/cn=x",
            "file:///etc/passwd",
            "http://user:secret@lists.example.org/",
            "http://lists.example.org:99999/",
            "http:///no-host",
            "http://lists.example.org/a b",
            HERE,
            "https://lists.example.org/mail.crl",
            *(f"http://many.example.org/{number}" for number in range(9)),
        ),
    )
    found = distribution_points(one.der)
    assert found[:2] == (HERE, "https://lists.example.org/mail.crl")
    assert len(found) == 4
    assert distribution_points(PERSON.der) == ()
