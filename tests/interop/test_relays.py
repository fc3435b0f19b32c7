"""MIME-01: what relays do to messages breaks no signature, with the exceptions of docs/interoperability.md.

What a mailing list adds to the text breaks the verdict, and never the message.
"""

from __future__ import annotations

import mailbox
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from secmailproxy import inbound
from secmailproxy.mime.canonical import crlf
from secmailproxy.model import Verdict
from tests.fixtures.people import leaked
from tests.fixtures.x509 import Authority, OpenSSL
from tests.interop import relays
from tests.interop.letters import LETTERS, leaves
from tests.interop.matrix import table
from tests.interop.post import OPENPGP, SMIME, Delivery, Post, Protection, ciphertext, signed_parts, verdict
from tests.interop.readers import good_by_gpg
from tests.interop.relays import Relay, header_and_body

RELAYS: dict[str, Relay] = {
    "base64 in lines of 76": relays.rewrapped(76),
    "base64 in lines of 60": relays.rewrapped(60),
    "base64 in lines of 78": relays.rewrapped(78),
    "line ends become LF": relays.in_lf,
    "line ends become LF, then CRLF": relays.crlf_again,
    "blanks at line ends stripped": relays.without_trailing_blanks,
    "outer header folded at 78 columns": relays.refolded(78, b" "),
    "outer header folded with tabs at 40": relays.refolded(40, b"\t"),
    "outer header unfolded": relays.refolded(998, b" "),
    '"From " becomes ">From "': relays.from_escaped,
    "8-bit converted to 7-bit": relays.downgraded,
    "lines of more than 998 broken": relays.broken_at_998,
    "Received, DKIM and List fields added": relays.traced,
    "name of a list put before the subject": relays.subject_marked,
    "blank lines at the end": relays.ended_by_blank_lines,
}
NEVER_CHANGE = {
    "base64 in lines of 76",
    "line ends become LF, then CRLF",
    "8-bit converted to 7-bit",
    "lines of more than 998 broken",
}
"""Relays that find nothing to do in what we send."""

PROTECTIONS = pytest.mark.parametrize("protection", Protection, ids=lambda one: one.value)


@pytest.fixture(scope="module")
def verifies(
    post: Post, mail_authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Protection, bytes], bool]:
    """Whether gpg or openssl decrypts a message where that is due and finds Alice's good signature in it."""
    people = post.people
    openssl = OpenSSL(tmp_path_factory.mktemp("openssl"))
    roots = openssl.file("roots.pem", mail_authority.above[0].public_bytes(Encoding.PEM))

    @cache
    def opened_by_gpg(octets: bytes) -> bool:
        status = people.bob.gnupg.run("--decrypt", data=octets, check=False).stderr
        return good_by_gpg(status) == {people.alice.fingerprint}

    @cache
    def verified_by_gpg(payload: bytes, signature: bytes) -> bool:
        path = openssl.folder / openssl.file("signed", payload)
        status = people.bob.gnupg.run("--verify", "-", str(path), data=signature, check=False).stderr
        return good_by_gpg(status) == {people.alice.fingerprint}

    @cache
    def opened_by_openssl(message: bytes) -> bool:
        return verified_by_openssl(*signed_parts(openssl.decrypt(message, people.doras)))

    @cache
    def verified_by_openssl(payload: bytes, signature: bytes) -> bool:
        files = ("-in", openssl.file("signature", signature), "-content", openssl.file("signed", payload))
        words = ["openssl", "cms", "-verify", "-binary", "-inform", "DER", *files, "-CAfile", roots]
        return subprocess.run(words, cwd=openssl.folder, capture_output=True, check=False).returncode == 0

    def verify(protection: Protection, message: bytes) -> bool:
        if protection in SMIME:
            return (
                opened_by_openssl(message)
                if protection.encrypts
                else verified_by_openssl(*signed_parts(message))
            )
        return (
            opened_by_gpg(ciphertext(message))
            if protection.encrypts
            else verified_by_gpg(*signed_parts(message))
        )

    return verify


@pytest.fixture(scope="module")
def judged(post: Post) -> Iterator[Callable[[bytes], Verdict]]:
    """Our own verdict."""
    with post.people.reader.home.keystore() as keystore:

        @cache
        def judge(message: bytes) -> Verdict:
            return inbound.unprotect(
                message, keystore, datetime.now(UTC), "Secmail-Verdict-x"
            ).summary.verdict

        yield judge


def survivors(deliveries: list[Delivery], relay: Relay, good: Callable[[bytes], bool]) -> str:
    """Of which letters a message is good after the relay, as the document says it."""
    kinds = {delivery.kind for delivery in deliveries if good(crlf(relay(delivery.octets)))}
    if kinds == LETTERS.keys():
        return "yes"
    in_base64 = {
        delivery.kind
        for delivery in deliveries
        if b"transfer-encoding: base64" in signed_parts(delivery.octets)[0].lower()
    }
    return "not base64" if kinds == LETTERS.keys() - in_base64 else f"only {sorted(kinds)}"


@PROTECTIONS
@pytest.mark.parametrize("name", RELAYS)
def test_the_signature_survives_as_the_document_says(
    name: str,
    protection: Protection,
    post: Post,
    verifies: Callable[[Protection, bytes], bool],
    judged: Callable[[bytes], Verdict],
) -> None:
    deliveries, relay = post.of(protection), RELAYS[name]
    (row,) = (one for one in table("on the way") if one["on the way"] == name)
    assert survivors(deliveries, relay, lambda one: verifies(protection, one)) == row[protection.value]
    assert survivors(deliveries, relay, lambda one: judged(one) is Verdict.VALID) == row[protection.value]
    if name in NEVER_CHANGE:
        assert all(relay(delivery.octets) == delivery.octets for delivery in deliveries)


def test_the_document_has_a_row_for_each_relay() -> None:
    assert [row["on the way"] for row in table("on the way")] == list(RELAYS)


@PROTECTIONS
def test_procmail_and_an_mbox(
    protection: Protection, post: Post, verifies: Callable[[Protection, bytes], bool], tmp_path: Path
) -> None:
    box = tmp_path / "box"
    rc = tmp_path / "rc"
    rc.write_text(f"DEFAULT={box}\nSHELL=/bin/sh\n")
    rc.chmod(0o600)
    deliveries = post.of(protection)
    for delivery in deliveries:
        octets = relays.in_lf(delivery.octets)
        subprocess.run(
            ["procmail", "-f", "alice@example.test", "-m", rc], input=octets, check=True, timeout=60
        )
    with closing(mailbox.mbox(box, create=False)) as found:
        stored = [found.get_bytes(key) for key in found.keys()]  # noqa: SIM118  # mbox iterates over messages
    assert len(stored) == len(deliveries)
    assert all(verifies(protection, crlf(octets)) for octets in stored)


@pytest.fixture
def by_list(post: Post) -> Callable[[list[bytes]], list[bytes]]:
    """What our own IMAP side presents of messages that come by a mailing list."""
    people = post.people

    def arrive(messages: list[bytes]) -> list[bytes]:
        before = len(people.listed.stored())
        for octets in messages:
            people.listed.deliver(octets)
        return people.reader.proxy.messages(people.listed)[before:]

    return arrive


def texts(octets: bytes) -> list[bytes]:
    """The readable texts of a message."""
    return [content for kind, _, content in leaves(octets) if kind == "text/plain"]


@pytest.mark.parametrize("footer", [relays.footer_in_text, relays.footer_as_part])
def test_a_footer_breaks_the_verdict_of_signed_mail_and_not_the_message(
    footer: Relay, post: Post, by_list: Callable[[list[bytes]], list[bytes]]
) -> None:
    """Through our own IMAP side: not valid, and every word still there, with the footer."""
    letters = [one for one in post.of(Protection.SIGNED) if texts(one.written)]
    presented = by_list([footer(delivery.octets) for delivery in letters])
    for delivery, octets in zip(letters, presented, strict=True):
        assert verdict(post.people.reader, octets)[1].get("signature") != "valid", delivery.kind
        shown = b"".join(texts(octets))
        assert all(text.rstrip() in shown for text in texts(delivery.written)), delivery.kind
        assert b"digging mailing list" in shown


@pytest.mark.parametrize("protection", [Protection.SIGNED, Protection.SMIME_SIGNED])
def test_a_footer_in_the_text_breaks_the_signature_for_others_too(
    protection: Protection, post: Post, verifies: Callable[[Protection, bytes], bool]
) -> None:
    for delivery in post.of(protection):
        assert not verifies(protection, relays.footer_in_text(delivery.octets)), delivery.kind


def test_a_footer_beside_encrypted_mail_leaves_it_closed_and_whole(
    post: Post, by_list: Callable[[list[bytes]], list[bytes]]
) -> None:
    """What stands beside a ciphertext could be made to carry it away (MIME-06): it is shown as it came."""
    deliveries = post.of(Protection.ENCRYPTED)
    for delivery, octets in zip(
        deliveries, by_list([relays.footer_as_part(one.octets) for one in deliveries]), strict=True
    ):
        assert verdict(post.people.reader, octets)[1].get("signature") != "valid", delivery.kind
        assert not leaked(octets)
        assert header_and_body(delivery.octets)[1] in octets
        assert b"digging mailing list" in octets


@pytest.mark.parametrize("protection", OPENPGP)
def test_a_footer_after_the_last_delimiter_is_no_part_of_the_message(
    protection: Protection,
    post: Post,
    by_list: Callable[[list[bytes]], list[bytes]],
    verifies: Callable[[Protection, bytes], bool],
) -> None:
    """RFC 2046 section 5.1.1: readers ignore it, so nobody sees it as signed."""
    delivery = post.arrived[protection, "plain text"]
    octets = relays.footer_at_the_end(delivery.octets)
    assert verifies(protection, octets)
    (presented,) = by_list([octets])
    assert verdict(post.people.reader, presented)[1].get("signature") == "valid"
    assert texts(presented) == texts(delivery.written)
