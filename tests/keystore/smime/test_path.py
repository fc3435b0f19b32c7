"""Who vouches for an S/MIME certificate: the same hierarchies judged here and by openssl."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keystore.smime import SecretKey, sign
from keystore.smime.certificate import issued
from keystore.smime.path import (
    MAX_PATH,
    MOST_STEPS,
    Anchors,
    PathResult,
    PathState,
    RevocationState,
    judge_path,
)
from tests.fixtures.x509 import (
    DAY,
    NOW,
    Authority,
    Extension,
    Gpgsm,
    Issued,
    OpenSSL,
    addresses,
    key_usage,
    name,
    private_key,
    root,
)

ADDRESS = "alice@mail.example.org"
ROOT = root("Chains Root", number=200)
CA = x509.BasicConstraints(ca=True, path_length=None), True
SIGNS = key_usage("key_cert_sign", "crl_sign")
MAIL = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False
WEB = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False
SMTP_UTF8 = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9")
STRANGE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\x05\x00"), True


def authority(
    above: Authority, common_name: str, number: int, *extensions: Extension, **options: Any
) -> Authority:
    """One below `above`, with these extensions and no others (CA and key usage where there are none)."""
    kind = options.pop("kind", "p256")
    made = above.issue(name(common_name), private_key(kind, number), *(extensions or (CA, SIGNS)), **options)
    return Authority(made.certificate, made.key, made.above)


def constrained(*permitted: x509.GeneralName, excluded: Sequence[x509.GeneralName] = ()) -> Authority:
    """One that may put only certain names into certificates."""
    limits = x509.NameConstraints(list(permitted) or None, list(excluded) or None), True
    return authority(ROOT, "Constrained", 202, CA, SIGNS, limits)


def person(above: Authority, subject: x509.Name, *names: Extension) -> Issued:
    """Somebody whose names are all given."""
    return above.issue(subject, private_key("p256", 211), MAIL, *names)


def ders(certificates: Sequence[x509.Certificate]) -> list[bytes]:
    return [one.public_bytes(Encoding.DER) for one in certificates]


def judged(
    one: Issued,
    *roots: Issued,
    sent: Sequence[bytes] | None = None,
    moment: datetime = NOW,
    now: datetime = NOW,
) -> PathResult:
    """With all that is above it sent along, and `roots` (the usual one) believed."""
    anchors = Anchors(roots=tuple(each.der for each in roots or (ROOT,)))
    return judge_path(one.der, ders(one.above) if sent is None else sent, anchors, moment, now)


def openssl_accepts(openssl: OpenSSL, one: Issued) -> bool:
    """Whether openssl does, at this time, with the uppermost certificate as the root."""
    *between, top = one.above
    roots = openssl.file("root.pem", top.public_bytes(Encoding.PEM))
    along = openssl.file("between.pem", b"".join(each.public_bytes(Encoding.PEM) for each in between))
    end = openssl.file("end.pem", one.pem)
    words = ["verify", "-purpose", "smimesign", "-CAfile", roots, "-untrusted", along]
    try:
        openssl(*words, "-no-CApath", "-no-CAstore", end)
    except AssertionError:
        return False
    return True


MAIL_CA = authority(ROOT, "Mail", 201)
PERSON = MAIL_CA.person(ADDRESS, number=210)
EXPIRED = authority(ROOT, "Expired", 203, since=NOW - 3 * DAY, until=NOW - 2 * DAY)


def test_a_path_to_a_root_that_is_believed() -> None:
    found = judged(PERSON)
    assert found.valid
    assert (found.reason, found.revocation) == ("", RevocationState.NOT_CHECKED)
    assert found.chain == (PERSON.der, MAIL_CA.der, ROOT.der)


def test_authorities_of_the_store_stand_between() -> None:
    anchors = Anchors(roots=(ROOT.der,), known=(MAIL_CA.der,))
    assert judge_path(PERSON.der, [], anchors, NOW, NOW).valid
    assert judged(PERSON, sent=[]).state is PathState.UNTRUSTED


def test_a_chain_that_came_with_a_message_makes_itself_no_root() -> None:
    """The whole chain is there, its root too, and nobody here believes it; nor is it a root in the store."""
    found = judged(PERSON, root("Another Root", number=220))
    assert found.state is PathState.UNTRUSTED
    assert found.chain == ()
    anchors = Anchors(known=(MAIL_CA.der, ROOT.der))
    assert judge_path(PERSON.der, ders(PERSON.above), anchors, NOW, NOW).state is PathState.UNTRUSTED


def test_a_root_of_the_same_name_is_another_one() -> None:
    assert judged(PERSON, root("Chains Root", number=221)).state is PathState.UNTRUSTED


def test_what_the_owner_rejected_vouches_for_nobody() -> None:
    anchors = Anchors(roots=(ROOT.der,), rejected=frozenset({MAIL_CA.der}))
    assert judge_path(PERSON.der, ders(PERSON.above), anchors, NOW, NOW).state is PathState.UNTRUSTED
    anchors = Anchors(roots=(ROOT.der,), rejected=frozenset({ROOT.der}))
    assert judge_path(PERSON.der, ders(PERSON.above), anchors, NOW, NOW).state is PathState.UNTRUSTED


def test_for_whom_the_owner_verified_nobody_else_need_vouch() -> None:
    anchors = Anchors(verified=frozenset({PERSON.der}))
    assert judge_path(PERSON.der, [], anchors, NOW, NOW).valid
    late = NOW + 400 * DAY
    assert judge_path(PERSON.der, [], anchors, late, late).state is PathState.REFUSED


def _bits(length: int | None) -> Authority:
    return authority(ROOT, "Short", 204, (x509.BasicConstraints(ca=True, path_length=length), True), SIGNS)


def _mailbox(address: str) -> Extension:
    text = address.encode()
    value = x509.OtherName(SMTP_UTF8, b"\x0c" + bytes([len(text)]) + text)
    return x509.SubjectAlternativeName([value]), False


def _subject(*more: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return name("Alice", *more)


ORGANISATION = (NameOID.ORGANIZATION_NAME, "Example Works")
IN_ORGANISATION = x509.Name([x509.NameAttribute(*ORGANISATION), *_subject()])
HOST = x509.RFC822Name("mail.example.org")
EMAIL = (NameOID.EMAIL_ADDRESS, ADDRESS)

HELD: dict[str, Callable[[], Issued]] = {
    "two authorities": lambda: authority(MAIL_CA, "Lower", 205).person(ADDRESS),
    "path length that suffices": lambda: authority(_bits(1), "Lower", 205).person(ADDRESS),
    "path length of none below": lambda: _bits(0).person(ADDRESS),
    "an authority for mail": lambda: authority(ROOT, "M", 206, CA, SIGNS, MAIL).person(ADDRESS),
    "an authority for mail and the web": lambda: authority(
        ROOT,
        "M",
        206,
        CA,
        SIGNS,
        (
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION, ExtendedKeyUsageOID.SERVER_AUTH]),
            False,
        ),
    ).person(ADDRESS),
    "the host": lambda: constrained(HOST).person(ADDRESS),
    "the host in other letters": lambda: constrained(x509.RFC822Name("MAIL.example.org")).person(ADDRESS),
    "the mailbox": lambda: constrained(x509.RFC822Name(ADDRESS)).person(ADDRESS),
    "the domain": lambda: constrained(x509.RFC822Name(".example.org")).person(ADDRESS),
    "another host excluded": lambda: constrained(excluded=[x509.RFC822Name("example.org")]).person(ADDRESS),
    "the address in the subject": lambda: person(constrained(HOST), _subject(EMAIL)),
    "the organisation": lambda: person(
        constrained(x509.DirectoryName(x509.Name([x509.NameAttribute(*ORGANISATION)]))),
        IN_ORGANISATION,
        addresses(ADDRESS),
    ),
    "hosts of the web constrained": lambda: constrained(HOST, x509.DNSName("example.org")).person(ADDRESS),
    "a policy": lambda: authority(
        ROOT,
        "P",
        206,
        CA,
        SIGNS,
        (x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)]), True),
    ).person(ADDRESS),
    "RSA": lambda: authority(ROOT, "R", 0, CA, SIGNS, kind="rsa2048").person(ADDRESS),
}
BROKEN: dict[str, tuple[Callable[[], Issued], str]] = {
    "an expired authority": (lambda: EXPIRED.person(ADDRESS), "expired on"),
    "an authority of the future": (
        lambda: authority(ROOT, "Future", 203, since=NOW + DAY).person(ADDRESS),
        "valid only since",
    ),
    "path length": (lambda: authority(_bits(0), "Lower", 205).person(ADDRESS), "more authorities"),
    "no authority": (
        lambda: _as_authority(MAIL_CA.person("mallory@example.org", number=207)).person(ADDRESS),
        "no authority that is believed",
    ),
    "no basic constraints": (
        lambda: authority(ROOT, "None", 208, SIGNS).person(ADDRESS),
        "no authority that is believed",
    ),
    "key usage": (
        lambda: authority(ROOT, "Lists only", 208, CA, key_usage("crl_sign")).person(ADDRESS),
        "may not issue",
    ),
    "an authority for the web": (
        lambda: authority(ROOT, "Web", 209, CA, SIGNS, WEB).person(ADDRESS),
        "not for certificates of mail",
    ),
    "one above it for the web": (
        lambda: authority(authority(ROOT, "Web", 209, CA, SIGNS, WEB), "Mail", 208, CA, SIGNS, MAIL).person(
            ADDRESS
        ),
        "not for certificates of mail",
    ),
    "a certificate for the web": (
        lambda: MAIL_CA.issue(name("Alice"), private_key("p256"), WEB, addresses(ADDRESS)),
        "emailProtection",
    ),
    "another host": (lambda: constrained(HOST).person("alice@other.example.org"), "its address"),
    "a host below": (
        lambda: constrained(x509.RFC822Name("example.org")).person(ADDRESS),
        "its address",
    ),
    "a host that only ends so": (
        lambda: constrained(x509.RFC822Name(".example.org")).person("alice@badexample.org"),
        "its address",
    ),
    "another mailbox": (
        lambda: constrained(x509.RFC822Name("bob@mail.example.org")).person(ADDRESS),
        "its address",
    ),
    "an excluded host": (lambda: constrained(excluded=[HOST]).person(ADDRESS), "its address"),
    "an excluded host in other letters": (
        lambda: constrained(excluded=[x509.RFC822Name("MAIL.example.ORG")]).person(ADDRESS),
        "its address",
    ),
    "one of two addresses": (
        lambda: person(constrained(HOST), _subject(), addresses(ADDRESS, "alice@elsewhere.example")),
        "its address",
    ),
    "another address in the subject": (
        lambda: person(constrained(x509.RFC822Name("elsewhere.example")), _subject(EMAIL)),
        "its address",
    ),
    "an address beyond ASCII": (
        lambda: person(
            constrained(x509.RFC822Name("example.org")), _subject(), _mailbox("älice@elsewhere.example")
        ),
        "its address",
    ),
    "a host that only looks like ASCII": (
        lambda: person(
            constrained(x509.RFC822Name("bank.example")), _subject(), _mailbox("alice@ban\u212a.example")
        ),
        "its address",
    ),
    "an address whose host may be an excluded one in another form": (
        lambda: person(
            constrained(excluded=[x509.RFC822Name("xn--bcher-kva.example")]),
            _subject(),
            _mailbox("alice@bücher.example"),
        ),
        "its address",
    ),
    "an excluded address beyond ASCII": (
        lambda: person(constrained(excluded=[HOST]), _subject(), _mailbox("älice@mail.example.org")),
        "its address",
    ),
    "another organisation": (
        lambda: person(
            constrained(x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "X")]))),
            IN_ORGANISATION,
            addresses(ADDRESS),
        ),
        "its subject",
    ),
    "an excluded organisation in other letters": (
        lambda: person(
            constrained(
                excluded=[
                    x509.DirectoryName(
                        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "EXAMPLE  works")])
                    )
                ]
            ),
            IN_ORGANISATION,
            addresses(ADDRESS),
        ),
        "its subject",
    ),
    "a constraint further up": (
        lambda: authority(constrained(HOST), "Lower", 205).person("alice@other.example"),
        "its address",
    ),
    "a critical extension of an authority": (
        lambda: authority(ROOT, "Strange", 208, CA, SIGNS, STRANGE).person(ADDRESS),
        "critical extension 1.2.3.4.5",
    ),
    "a critical extension": (
        lambda: MAIL_CA.issue(name("Alice"), private_key("p256"), MAIL, STRANGE, addresses(ADDRESS)),
        "critical extension 1.2.3.4.5",
    ),
}


def test_a_weak_key_of_an_authority_is_refused() -> None:
    """RSA of 1024 bits, which openssl 3.0 still takes."""
    found = judged(authority(ROOT, "Weak", 0, CA, SIGNS, kind="rsa1024").person(ADDRESS))
    assert found.state is PathState.REFUSED
    assert "weak algorithm" in found.reason


GPGSM: dict[str, tuple[Callable[[Authority], Issued], bool]] = {
    "two authorities": (lambda top: authority(authority(top, "G1", 205), "G2", 206).person(ADDRESS), True),
    "an expired authority": (
        lambda top: authority(top, "G3", 205, until=NOW - DAY / 2).person(ADDRESS),
        False,
    ),
    "path length": (
        lambda top: authority(
            authority(top, "G4", 205, (x509.BasicConstraints(ca=True, path_length=0), True), SIGNS), "G5", 206
        ).person(ADDRESS),
        False,
    ),
    "no authority": (
        lambda top: _as_authority(top.person("m@example.org", number=207)).person(ADDRESS),
        False,
    ),
    "a critical extension": (
        lambda top: authority(top, "G6", 205, CA, SIGNS, STRANGE).person(ADDRESS),
        False,
    ),
}


def test_gpgsm_judges_alike(gpgsm: Gpgsm, mail_authority: Authority) -> None:
    """A second opinion on a few of them, by signatures over mail."""
    top = Authority(mail_authority.above[0], private_key("p256", 100))
    for case, (make, held) in GPGSM.items():
        one = make(top)
        assert judged(one, top).valid is held, case
        made = sign(b"mail", SecretKey(one.der, one.key), ders(one.above[:-1]), NOW)
        (gpgsm.home / "octets").write_bytes(b"mail")
        (gpgsm.home / "signature").write_bytes(made.der)
        files = [str(gpgsm.home / name) for name in ("signature", "octets")]
        status = gpgsm.run("--verify", *files, check=False).stderr
        good = b"[GNUPG:] GOODSIG" in status and b"[GNUPG:] TRUST_FULLY" in status
        assert good is held, (case, status.decode(errors="replace"))


def _as_authority(one: Issued) -> Authority:
    return Authority(one.certificate, one.key, one.above)


@pytest.mark.parametrize("case", HELD)
def test_what_is_in_order(case: str, openssl: OpenSSL) -> None:
    """RFC 5280 section 6.1, RFC 8550; openssl agrees."""
    found = judged(HELD[case]())
    assert (found.state, found.reason) == (PathState.VALID, "")
    assert openssl_accepts(openssl, HELD[case]())


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_not(case: str, openssl: OpenSSL) -> None:
    """Never laxer than openssl."""
    make, why = BROKEN[case]
    found = judged(make())
    assert not found.valid
    assert why in found.reason
    assert not openssl_accepts(openssl, make())


@pytest.fixture(scope="module")
def made_by_openssl(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """DER: a root of version 1 that signs itself with SHA-1, and people under it, by SHA-256 and SHA-1."""
    openssl = OpenSSL(tmp_path_factory.mktemp("openssl"))
    openssl.file("end.cnf", f"extendedKeyUsage=emailProtection\nsubjectAltName=email:{ADDRESS}\n".encode())
    words = ["req", "-new", "-newkey", "rsa:2048", "-nodes"]
    openssl(*words, "-keyout", "root.key", "-out", "root.csr", "-subj", "/CN=Old Root")
    openssl(*words, "-keyout", "end.key", "-out", "end.csr", "-subj", "/CN=Alice")
    openssl(
        "x509", "-req", "-in", "root.csr", "-signkey", "root.key", "-sha1", "-days", "9", "-out", "root.pem"
    )
    words = ["x509", "-req", "-in", "end.csr", "-CA", "root.pem", "-CAkey", "root.key", "-set_serial", "7"]
    words += ["-days", "9", "-extfile", "end.cnf", "-outform", "DER"]
    return {
        "root": openssl("x509", "-in", "root.pem", "-outform", "DER"),
        "sha256": openssl(*words, "-sha256"),
        "sha1": openssl(*words, "-sha1"),
    }


def test_an_old_root_is_believed_for_its_name_and_key(made_by_openssl: dict[str, bytes]) -> None:
    """Version 1 states nothing of itself, and the hash under a root's own signature proves nothing."""
    anchors, later = Anchors(roots=(made_by_openssl["root"],)), NOW + DAY
    assert judge_path(made_by_openssl["sha256"], [], anchors, later, later).valid
    assert judge_path(made_by_openssl["sha1"], [], anchors, later, later).state is PathState.REFUSED


def test_version_1_stands_nowhere_else(made_by_openssl: dict[str, bytes]) -> None:
    anchors = Anchors(known=(made_by_openssl["root"],))
    found = judge_path(made_by_openssl["sha256"], [made_by_openssl["root"]], anchors, NOW + DAY, NOW + DAY)
    assert found.state is PathState.UNTRUSTED


def _crossed(count: int) -> list[bytes]:
    """Authorities that have all certified one another, and themselves."""
    mesh = [
        Authority(root(f"Mesh {one}", number=230 + one).certificate, private_key("p256", 230 + one))
        for one in range(count)
    ]
    return [authority(above, f"Mesh {one}", 230 + one).der for above in mesh for one in range(count)]


def test_a_hostile_bundle_costs_little() -> None:
    """MIME-08: a hundred authorities that certified one another in circles, and the true one."""
    mesh = _crossed(10)
    one = Authority(root("Mesh 0", number=230).certificate, private_key("p256", 230)).person(ADDRESS)
    for sent in (mesh, mesh[::-1], [MAIL_CA.der, *mesh]):
        before = issued.cache_info().misses
        assert judged(one, sent=sent).state is PathState.UNTRUSTED
        assert issued.cache_info().misses - before <= MOST_STEPS
    assert judged(PERSON, sent=[MAIL_CA.der, *mesh]).valid
    assert judged(PERSON, sent=[b"", b"0", PERSON.der, PERSON.der, MAIL_CA.der]).valid


def test_a_path_has_an_end() -> None:
    long = ROOT
    for number in range(MAX_PATH - 2):
        long = authority(long, f"Level {number}", 240 + number)
    assert judged(long.person(ADDRESS)).valid
    longer = authority(long, "One more", 250)
    assert judged(longer.person(ADDRESS)).state is PathState.UNTRUSTED


def test_of_several_paths_one_in_force_counts() -> None:
    """An authority certified by two roots, one of which has expired; and by one that is not believed."""
    gone, other = root("Gone", number=251), root("Other", number=252)
    key = private_key("p256", 201)
    crossed = [
        gone.issue(name("Mail"), key, CA, SIGNS, since=NOW - 3 * DAY, until=NOW - 2 * DAY).der,
        other.issue(name("Mail"), key, CA, SIGNS).der,
        MAIL_CA.der,
    ]
    assert judged(PERSON, gone, ROOT, sent=crossed).chain == (PERSON.der, MAIL_CA.der, ROOT.der)
    refused = judged(PERSON, gone, sent=crossed)
    assert refused.state is PathState.REFUSED
    assert "expired" in refused.reason


def test_the_moment_of_signing_and_the_present_decide() -> None:
    """What has expired by now counts no more, as with Thunderbird; nor does what was signed too early."""
    old, then = _old_root(), NOW - DAY * 2.5
    lower = authority(old, "Lower", 253, since=NOW - 3 * DAY, until=NOW - 2 * DAY)
    one = lower.issue(name("Alice"), private_key("p256"), MAIL, addresses(ADDRESS), since=NOW - 3 * DAY)
    short = old.person(ADDRESS, since=NOW - 3 * DAY, until=NOW - 2 * DAY)
    assert judged(one, old, moment=then, now=then).valid
    assert judged(short, old, moment=then, now=then).valid
    assert "an authority above the signer expired on" in judged(one, old, moment=then).reason
    assert "the signer's certificate: expired" in judged(short, old, moment=then).reason
    young = authority(old, "Young", 255).issue(
        name("Alice"), private_key("p256"), MAIL, addresses(ADDRESS), since=NOW - 3 * DAY
    )
    assert judged(young, old).valid
    assert "valid only since" in judged(young, old, moment=then).reason


def _old_root() -> Authority:
    """A root that has been there for some days."""
    above = root("Old Root", number=254)
    made = above.issue(name("Old Root"), above.key, CA, SIGNS, since=NOW - 9 * DAY)
    return Authority(made.certificate, above.key)


def test_octets_that_are_no_certificate_are_refused() -> None:
    found = judge_path(b"nothing", [], Anchors(), NOW, NOW)
    assert found.state is PathState.REFUSED
    assert "not an X.509 certificate" in found.reason
