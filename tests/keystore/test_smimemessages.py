"""S/MIME envelopes opened with the keys of a store, signatures of gpgsm, and what hostile mail costs."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from keystore import smime
from keystore.errors import NotReadable, StoreLocked
from keystore.keystore import Keystore
from keystore.model import SignatureState, Trust
from keystore.smime import ber
from keystore.smimesignatures import MAX_ATTEMPTS, MAX_CANDIDATES
from tests.fixtures.cms import (
    BY_RSA,
    DATA,
    DIGESTS,
    INTEGER_0,
    NULL,
    SIGNING_TIME,
    Signing,
    a_set,
    attribute,
    oid,
    sequence,
    signed_data,
    string,
    usual,
)
from tests.fixtures.growth import assert_linear
from tests.fixtures.keystores import KeystoreFactory
from tests.fixtures.x509 import (
    DAY,
    NOW,
    Authority,
    Gpgsm,
    Issued,
    OpenSSL,
    learn,
    own,
    private_key,
    root,
)

OCTETS = b"Content-Type: text/plain\r\n\r\nUnder the windmill.\r\n"


def encrypted(openssl: OpenSSL, *readers: Issued, words: tuple[str, ...] = ()) -> bytes:
    """What `openssl cms` makes of `OCTETS`, AES-256-GCM."""
    files = [openssl.file(f"{number}.pem", one.pem) for number, one in enumerate(readers)]
    start = ["cms", "-encrypt", "-binary", "-outform", "DER", "-aes-256-gcm", *words]
    return openssl(*start, *files, octets=OCTETS)


def test_own_keys_of_every_age_open(keystore: Keystore, openssl: OpenSSL, mail_authority: Authority) -> None:
    """A renewed certificate of one key, and an older one that has expired long ago: by either name."""
    old = NOW - 900 * DAY
    people = [
        mail_authority.person("alice@example.org", "rsa2048", 1, since=old, until=old + 30 * DAY),
        mail_authority.person("alice@example.org", "rsa2048", 1),
        mail_authority.person("alice@example.org", "p256", 2, since=old, until=old + 30 * DAY),
    ]
    for one in people:
        own(keystore, one)
    for one in people:
        for words in ((), ("-keyid",)):
            opened = keystore.smime.decrypt(encrypted(openssl, one, words=words))
            assert (opened.octets, opened.authenticated) == (OCTETS, True)
    assert keystore.smime.decrypt(encrypted(openssl, *people)).octets == OCTETS


def test_a_name_in_another_encoding(keystore: Keystore, openssl: OpenSSL, mail_authority: Authority) -> None:
    """The issuer's name as a PrintableString where the certificate has a UTF8String."""
    alice = own(keystore, mail_authority.person("alice@example.org", "p256", 1))
    cms = encrypted(openssl, alice)
    written = b"\x0c\x16Example Mail Authority"
    assert written in cms
    assert keystore.smime.decrypt(cms.replace(written, b"\x13\x16EXAMPLE MAIL AUTHORITY")).octets == OCTETS
    with pytest.raises(NotReadable, match="no secret key"):
        keystore.smime.decrypt(cms.replace(written, b"\x13\x16Example Mall Authority"))


def test_mail_for_others(keystore: Keystore, openssl: OpenSSL, mail_authority: Authority) -> None:
    learn(keystore, bob := mail_authority.person("bob@example.org", "p256", 3))
    with pytest.raises(NotReadable, match="no secret key") as caught:
        keystore.smime.decrypt(encrypted(openssl, bob))
    assert caught.value.reason == "no-secret-key"


def test_a_locked_store_is_not_the_messages_fault(
    make_keystore: KeystoreFactory, openssl: OpenSSL, mail_authority: Authority, credentials: Path
) -> None:
    """And it locks nothing but what needs its keys."""
    alice = own(make_keystore("home"), mail_authority.person("alice@example.org", "p256", 1))
    bob = mail_authority.person("bob@example.org", "p256", 3)
    for file in credentials.iterdir():
        file.unlink()
    locked = make_keystore("home")
    with pytest.raises(StoreLocked):
        locked.smime.decrypt(encrypted(openssl, bob, alice))
    with pytest.raises(NotReadable, match="no secret key"):
        locked.smime.decrypt(encrypted(openssl, bob))
    assert None in locked.smime.recipients(encrypted(openssl, bob, alice))
    with pytest.raises(NotReadable, match="damaged"):
        locked.smime.decrypt(encrypted(openssl, alice)[:-20])


def test_what_gpgsm_signs_is_good(keystore: Keystore, gpgsm: Gpgsm, mail_authority: Authority) -> None:
    """Opaque and detached, BER, by RSA and ECDSA. (gpgsm 2.2 signs on P-256 only.)"""
    for one in (mail_authority.pem, mail_authority.chain):
        keystore.import_keys(one, source="a test", trust=Trust.VERIFIED)
    for kind in ("rsa2048", "p256"):
        signer = mail_authority.person(f"{kind}@example.org", kind, 0)
        gpgsm.own(signer)
        for words, covered in ((["--detach-sign"], OCTETS), (["--sign"], None)):
            cms = gpgsm.run(*words, "--local-user", signer.fingerprint_sha1, octets=OCTETS).stdout
            assert cms.startswith(b"0\x80")
            content = keystore.smime.verify(cms, covered, NOW + timedelta(minutes=1))
            (result,) = content.signatures
            assert (result.state, result.reason) == (SignatureState.GOOD, ""), (kind, words)
            assert content.octets == (None if covered else OCTETS)


def test_a_flood_of_recipients(keystore: Keystore, mail_authority: Authority) -> None:
    """Each with our serial number and another issuer, which must be compared with ours."""
    alice = own(keystore, mail_authority.person("alice@example.org", "rsa2048", 1))
    serial = ber.elements(ber.only(smime.names_in_messages(alice.der)[0], ber.SEQUENCE).inside)[1].whole

    def envelope(number: int) -> bytes:
        infos = []
        for one in range(number):
            letters = sequence(oid("2.5.4.3"), ber.element(0x0C, f"{one:0200}".encode()))
            name = sequence(sequence(a_set(letters)), serial)
            infos.append(sequence(INTEGER_0, name, sequence(oid(BY_RSA), NULL), string(b"x")))
        content = sequence(DATA, sequence(oid("2.16.840.1.101.3.4.1.2"), string(bytes(16))), b"\x80\x01x")
        data = sequence(INTEGER_0, a_set(*infos), content)
        return sequence(oid("1.2.840.113549.1.7.3"), ber.element(0xA0, data))

    def refused(cms: bytes) -> None:
        with pytest.raises(NotReadable):
            keystore.smime.decrypt(cms)

    assert_linear(envelope, refused, 4000)
    with pytest.raises(NotReadable, match="damaged"):
        keystore.smime.decrypt(envelope(5000))


def test_a_flood_of_signatures_and_certificates(keystore: Keystore) -> None:
    """Sixteen signatures, sixty-four certificates that each may be by: some are tried, and no more."""
    authority = root("Nobody", number=9)
    people = [authority.person(f"{number}@example.org", "p256", 9) for number in range(64)]
    identifier = smime.names_in_messages(people[0].der)[1]
    named = b"\x80" + identifier[1:]
    signer = Issued(people[0].certificate, private_key("p256", 10))
    infos = [Signing(signer=signer, attributes=usual(OCTETS), name=named).info] * 40
    found = keystore.smime.verify(signed_data(*infos, certificates=[one.der for one in people]), OCTETS, NOW)
    states = [one.state for one in found.signatures]
    assert len(states) == 16
    assert states.count(SignatureState.BAD) == MAX_ATTEMPTS // MAX_CANDIDATES
    assert states.count(SignatureState.UNACCEPTABLE) == 16 - MAX_ATTEMPTS // MAX_CANDIDATES
    assert all("too many" in one.reason for one in found.signatures[4:])


@pytest.mark.parametrize("where", ["digest", "signature", "parameters", "attribute", "time"])
def test_numbers_without_end(keystore: Keystore, where: str) -> None:
    """Object identifiers and times of megabytes, whose conversion would take hours."""
    huge = b"\xff" * 2_000_000 + b"\x01"
    signer = root("Nobody", number=9).person("mallory@example.org", "p256", 9)
    endless = ber.element(ber.OID, huge)
    signing = Signing(signer=signer, attributes=usual(OCTETS))
    match where:
        case "digest":
            info = sequence(
                ber.only(signing.info, ber.SEQUENCE).contents.replace(
                    sequence(oid(DIGESTS["sha256"])), sequence(endless)
                )
            )
        case "signature":
            info = replace(signing, algorithm=sequence(endless)).info
        case "parameters":
            inside = ber.element(0xA0, sequence(endless))
            info = replace(signing, algorithm=sequence(oid("1.2.840.113549.1.1.10"), sequence(inside))).info
        case "attribute":
            info = replace(signing, attributes=[*usual(OCTETS), attribute(endless, NULL)]).info
        case _:
            time = ber.element(0x17, b"9" * 2_000_000)
            info = replace(signing, attributes=[*usual(OCTETS), attribute(SIGNING_TIME, time)]).info
    cms = signed_data(info, certificates=[signer.der])
    with contextlib.suppress(NotReadable):
        found = keystore.smime.verify(cms, OCTETS, NOW).signatures
        assert all(one.state is not SignatureState.GOOD for one in found)
