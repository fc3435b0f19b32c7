"""Recipients with S/MIME keys of each kind, whose programs have stated what they read."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime

from keystore.keystore import Keystore
from keystore.model import Fingerprint
from keystore.smime.capabilities import statement
from secmailproxy.mime.entity import parse
from secmailproxy.sealing_smime import SmimeSealer
from secmailproxy.stamp import Stamp
from tests.fixtures.x509 import Authority, Issued, learn
from tests.interop.letters import LETTERS
from tests.interop.post import People

LETTER = LETTERS["plain text"]


@dataclass(frozen=True)
class Sealed:
    """A message that is signed and encrypted."""

    reader: Issued
    octets: bytes


@dataclass(frozen=True)
class Cipher:
    """A kind of key, and what its owner has stated."""

    kind: str
    number: int
    stated: bytes = b""

    def sealed(self, keystore: Keystore, people: People, authority: Authority) -> Sealed:
        """A letter from Alice, as the proxy makes it."""
        reader = learn(keystore, authority.person(f"reader{self.number}@example.test", self.kind, 60))
        now = datetime.now(UTC)
        keystore.smime.learn_capabilities(Fingerprint(reader.fingerprint), self.stated, now)
        written = LETTER.written(
            f"cipher{self.number}@example.test", people.alice.address, f"reader{self.number}@example.test"
        )
        stamp = Stamp(now, f"=-{secrets.token_hex(20)}", f"<{format_datetime(now)}>")
        signer = Fingerprint(people.alices.fingerprint)
        copy = (Fingerprint(reader.fingerprint), signer)
        (octets,) = SmimeSealer(keystore).encrypted(parse(written), [copy], signer, stamp, hidden=True)
        return Sealed(reader, octets)


CIPHERS = {
    "RSA, AES-256-CBC": Cipher("rsa2048", 1),
    "RSA, AES-256-GCM": Cipher("rsa2048", 2, statement(rsa=False)),
    "RSA with OAEP, AES-256-GCM": Cipher("rsa2048", 3, statement(rsa=True)),
    "P-256, AES-256-CBC": Cipher("p256", 4),
    "P-384, AES-256-CBC": Cipher("p384", 5),
    "P-384, AES-256-GCM": Cipher("p384", 6, statement(rsa=False)),
}
"""Row of docs/interoperability.md -> who reads."""
