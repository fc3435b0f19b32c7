"""Who writes to whom with which protection, and what arrived."""

from __future__ import annotations

import base64
import email
import email.policy
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from enum import Enum

from tests.fixtures.dovecot import Mailbox
from tests.fixtures.people import GnuPGUser, ProxyUser
from tests.fixtures.x509 import Issued


class Protection(Enum):
    """What Alice's proxy does; the values are the words of docs/interoperability.md."""

    SIGNED = "OpenPGP, signed"
    ENCRYPTED = "OpenPGP, encrypted"
    SMIME_SIGNED = "S/MIME, signed"
    SMIME_ENCRYPTED = "S/MIME, encrypted"

    @property
    def encrypts(self) -> bool:
        """Whether nobody but the recipients can read it; then it is signed, and the subject is hidden."""
        return self in (Protection.ENCRYPTED, Protection.SMIME_ENCRYPTED)


OPENPGP = (Protection.SIGNED, Protection.ENCRYPTED)
SMIME = (Protection.SMIME_SIGNED, Protection.SMIME_ENCRYPTED)


@dataclass(frozen=True)
class People:
    """Alice, who sends, and those who get her mail and have no proxy."""

    alice: ProxyUser
    bob: GnuPGUser
    """Gets what is encrypted."""
    blind: GnuPGUser
    """The blind recipient of one letter."""
    carol: Mailbox
    """Alice knows no certificate of hers, so that she gets what is signed only."""

    reader: ProxyUser
    """Bob and Carol with a proxy of their own, for the side that reads."""
    listed: Mailbox
    """One more of theirs, behind the same proxy, for what came by a mailing list."""
    dora: Mailbox
    """Has an S/MIME certificate and no other, so that she gets what it encrypts."""
    erin: Mailbox
    """Gets what is signed with S/MIME, by a rule."""
    alices: Issued
    """Alice's S/MIME certificate and key."""
    doras: Issued
    fay: Mailbox
    """Behind the proxy that reads, with an S/MIME key: for what other programs have written."""
    fays: Issued

    def recipient(self, protection: Protection) -> Mailbox:
        """Whom Alice writes to for this protection."""
        return {
            Protection.SIGNED: self.carol,
            Protection.ENCRYPTED: self.bob.mailbox,
            Protection.SMIME_SIGNED: self.erin,
            Protection.SMIME_ENCRYPTED: self.dora,
        }[protection]

    def signer(self, protection: Protection) -> tuple[str, ...]:
        """What names Alice's certificate: its fingerprint; of X.509 two, or for mutt the address."""
        if protection in SMIME:
            return self.alices.fingerprint_sha1, self.alices.fingerprint, self.alice.address
        return (self.alice.fingerprint,)


@dataclass(frozen=True)
class Delivery:
    """One message: `octets` as the recipient's server has it, `written` as Alice's client wrote it (CRLF)."""

    kind: str
    octets: bytes
    written: bytes


@dataclass(frozen=True)
class Post:
    """Everything that was sent."""

    people: People
    arrived: Mapping[tuple[Protection, str], Delivery]

    def of(self, protection: Protection) -> list[Delivery]:
        """The letters with this protection."""
        return [delivery for (one, _), delivery in self.arrived.items() if one is protection]


def _outside(octets: bytes) -> tuple[EmailMessage, bytes]:
    """The header section, interpreted, and the body as it is; a whole message would take long to parse."""
    head, _, body = octets.partition(b"\r\n\r\n")
    return email.message_from_bytes(head, policy=email.policy.SMTP), body


def _between_delimiters(header: EmailMessage, body: bytes) -> list[bytes]:
    """The parts of a multipart, read with nothing but RFC 2046: what stands between delimiter lines."""
    _, *parts, end = (b"\r\n" + body).split(b"\r\n--" + header.get_param("boundary").encode())
    assert end.startswith(b"--")
    return [part.removeprefix(b"\r\n") for part in parts]


def signed_parts(octets: bytes) -> tuple[bytes, bytes]:
    """What is signed of a multipart/signed message (CRLF), octet for octet, and the decoded signature."""
    header, body = _outside(octets)
    assert header["Content-Type"].content_type == "multipart/signed", header["Content-Type"]
    payload, signature = _between_delimiters(header, body)
    return payload, email.message_from_bytes(signature).get_payload(decode=True)


def ciphertext(octets: bytes) -> bytes:
    """The armored OpenPGP message of a multipart/encrypted message, or the DER of an S/MIME one."""
    header, body = _outside(octets)
    if header["Content-Type"].content_type == "application/pkcs7-mime":
        return base64.b64decode(body)
    assert header["Content-Type"].content_type == "multipart/encrypted", header["Content-Type"]
    version, encrypted = _between_delimiters(header, body)
    assert version.startswith(b"Content-Type: application/pgp-encrypted\r\n")
    return encrypted.partition(b"\r\n\r\n")[2]


def message_id(octets: bytes) -> str:
    """The Message-ID without its brackets; it is never hidden."""
    return str(_outside(octets)[0]["Message-ID"]).strip("<>")


def verdict(reader: ProxyUser, octets: bytes) -> tuple[str, dict[str, str]]:
    """The verdict field of what a proxy presents: its first words, and its items."""
    value = octets.partition(f"{reader.verdict_field}: ".encode())[2].partition(b"(")[0].decode()
    status, *items = (item.strip() for item in value.split(";"))
    return status, dict(item.split("=", 1) for item in items if item)
