"""MIME-01, S/MIME: openssl and gpgsm read every letter, also after what relays do, as the document says."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from keystore.keystore import Keystore, KeystoreSettings
from keystore.model import Scheme
from keystore.secrets import SystemdSecrets
from keystore.vault import KEY_NAME
from keystore.wrap import new_key
from secmailproxy.mime.entity import parse
from secmailproxy.mime.pkcs7 import cms_octets
from secmailproxy.model import Envelope
from secmailproxy.outbound import Outbound, OutboundSettings
from secmailproxy.rules import Protect, Rule
from tests.fixtures.x509 import Authority, Gpgsm, Issued, OpenSSL, learn, own
from tests.interop.letters import LETTERS, leaves, subject
from tests.interop.matrix import said, table
from tests.interop.test_relays import RELAYS

ALICE, BOB = "alice@example.test", "bob@example.test"
READERS = ("openssl", "gpgsm")
PROTECTIONS = {"S/MIME, signed": Protect.SIGN, "S/MIME, encrypted": Protect.REQUIRE}


@dataclass(frozen=True)
class Mail:
    """What Alice has sent to Bob: `made` are the letters in the order of LETTERS, by protection."""

    bob: Issued
    written: list[bytes]
    made: dict[str, list[bytes]]


@pytest.fixture(scope="module")
def mail(tmp_path_factory: pytest.TempPathFactory, mail_authority: Authority) -> Iterator[Mail]:
    """Every letter in both protections."""
    folder = tmp_path_factory.mktemp("smime")
    (folder / KEY_NAME).write_text(base64.b64encode(new_key()).decode())
    opened = Keystore.open(KeystoreSettings(folder / "keystore"), SystemdSecrets(folder))
    with closing(opened) as keystore:
        own(keystore, mail_authority.person(ALICE, "rsa2048"))
        bob = learn(keystore, mail_authority.person(BOB, "rsa2048", 1))
        written = [one.written(f"{at}@example.test", ALICE, BOB) for at, one in enumerate(LETTERS.values())]

        async def protected(message: bytes, protect: Protect) -> bytes:
            rules = (Rule(protect=protect, scheme=Scheme.SMIME),)
            outbound = Outbound(keystore, OutboundSettings(rules))
            (copy,) = await outbound.protect(Envelope(ALICE, (BOB,)), message)
            return copy.octets

        made = {
            name: [asyncio.run(protected(message, protect)) for message in written]
            for name, protect in PROTECTIONS.items()
        }
        yield Mail(bob, written, made)


@pytest.fixture
def opened(
    openssl: OpenSSL, gpgsm: Gpgsm, mail: Mail, mail_authority: Authority
) -> Callable[[str, bytes], bytes]:
    """Decrypt and verify a message with the reader of this name: the payload. Fails where that fails."""
    gpgsm.own(mail.bob)

    def by_openssl(octets: bytes) -> bytes:
        is_encrypted = cms_octets(parse(octets)) is not None
        signed = openssl.decrypt(octets, mail.bob) if is_encrypted else octets
        return openssl.verify(signed, mail_authority.above[0])

    def by_gpgsm(octets: bytes) -> bytes:
        envelope = cms_octets(parse(octets))
        payload, signature = parse(gpgsm.decrypt(envelope) if envelope else octets).parts
        gpgsm.verifies(payload.whole, base64.b64decode(signature.body))
        return payload.whole

    return lambda reader, octets: {"openssl": by_openssl, "gpgsm": by_gpgsm}[reader](octets)


@pytest.mark.parametrize("protection", PROTECTIONS)
@pytest.mark.parametrize("reader", READERS)
def test_the_reader_finds_what_the_document_says(
    opened: Callable[[str, bytes], bytes], mail: Mail, reader: str, protection: str
) -> None:
    payloads = [opened(reader, octets) for octets in mail.made[protection]]
    pairs = list(zip(mail.written, payloads, strict=True))
    wanted = [one.subject for one in LETTERS.values()]
    facts = {
        "decrypts": "encrypted" in protection,
        "verifies": True,  # or `opened` would have failed
        "content": all(leaves(payload) == leaves(written) for written, payload in pairs),
        "subject": [subject(payload) for payload in payloads] == wanted,
    }
    (row,) = (
        one
        for one in table("S/MIME reader")
        if (one["S/MIME reader"], one["protection"]) == (reader, protection)
    )
    assert {name: row[name] for name in facts} == said(facts)
    found = subprocess.run([reader, "version" if reader == "openssl" else "--version"], capture_output=True)
    assert row["version"] in found.stdout.decode().splitlines()[0]


def test_the_document_has_a_row_for_each_reader_and_protection() -> None:
    rows = [(one["S/MIME reader"], one["protection"]) for one in table("S/MIME reader")]
    assert rows == [(reader, protection) for reader in READERS for protection in PROTECTIONS]


@pytest.mark.parametrize("relay", RELAYS)
def test_the_signature_survives_as_the_document_says(
    opened: Callable[[str, bytes], bytes], mail: Mail, relay: str
) -> None:
    """By openssl: of a letter with a part in base64, and of one whose text is all that transports change."""
    names = list(LETTERS)
    at = [names.index(one) for one in ("From lines and trailing blanks", "HTML with an image")]
    (row,) = (one for one in table("S/MIME on the way") if one["S/MIME on the way"] == relay)
    for protection in PROTECTIONS:
        survived = []
        for number in at:
            try:
                opened("openssl", RELAYS[relay](mail.made[protection][number]))
            except AssertionError:
                continue
            survived.append(number)
        wanted = {"yes": at, "not base64": at[:1]}[row[protection]]
        assert survived == wanted, protection


def test_the_document_has_a_row_for_each_relay() -> None:
    assert [one["S/MIME on the way"] for one in table("S/MIME on the way")] == list(RELAYS)
