"""The doors that strangers' octets come through, and what must hold behind each whatever comes.

A door is a function of octets that returns, or raises AssertionError; any other exception is a finding too.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from keystore.errors import NotReadable
from keystore.keystore import Keystore, KeystoreSettings
from keystore.openpgp import content, session, signature
from keystore.openpgp.packet import Malformed, binary, packets
from keystore.secrets import SystemdSecrets
from keystore.vault import KEY_NAME
from keystore.wrap import new_key
from secmailproxy import inbound, verdict
from secmailproxy.errors import LimitExceeded
from secmailproxy.imap.rendering import form_of
from secmailproxy.mime import (
    address,
    entity,
    header,
    parameter,
    presented,
    section,
    shown,
    structure,
    transfer,
)
from secmailproxy.mime.entity import Entity
from secmailproxy.model import DecryptionState, Verdict

FIELD = "Secmail-Verdict-01234567890123456789"
NOW = datetime(2026, 11, 25, tzinfo=UTC)
ALICE = "alice@example.org"
WORDS = b"The windmill, at noon."
"""In each of the valid messages, and in no other."""
CORPUS = Path(__file__).parents[1] / "corpus"


def every(root: Entity) -> list[Entity]:
    """The entity and all in it."""
    return [root, *(one for part in root.parts for one in every(part))]


def structures(octets: bytes) -> None:
    """Spans nest and cover; what is presented is storable; every item can be written."""
    try:
        root = entity.parse(octets)
    except LimitExceeded:
        root = entity.leaf(octets)
    assert (root.start, root.end) == (0, len(octets))
    for one in every(root):
        assert one.header + one.body == one.whole
        assert one.start <= one.body_start <= one.end
        for before, after in zip(one.parts, one.parts[1:], strict=False):
            assert before.end <= after.start
        transfer.decoded_body(one)
    whole = section.section(root, section.Section())
    assert whole == octets
    for item in (*structure.structures(root), structure.imap_envelope(root)):
        assert item.startswith(b"(")
        assert item.endswith(b")")
    with suppress(LimitExceeded):
        settled = presented.settled(root, entity.Limits())
        without = presented.without_field(settled, FIELD)
        assert b"\0" not in without
        assert without.count(b"\r\n") == without.count(b"\n") == without.count(b"\r")


def fields(octets: bytes) -> None:
    """Pieces joined are the value; an author is one plain address."""
    assert b"".join(piece.octets for piece in header.pieces(octets)) == octets
    header.decode_words(octets)
    address.address_list(octets)
    kind = parameter.content_type(octets)
    assert kind.maintype == kind.maintype.lower()
    parameter.token_and_parameters(octets)
    author = shown.sole_author([b"From: " + octets])
    assert author is None or (author.count("@") == 1 and author.isprintable() and " " not in author)
    inbound.classify(b"Content-Type: " + octets + b"\r\n\r\n", FIELD)


def openpgp(octets: bytes) -> None:
    """Packets add up; nothing but our own refusals."""
    with suppress(Malformed):
        for packet in packets(octets):
            assert next(packets(packet.octets)) == packet
            with suppress(Malformed):
                signature.parse_signature(packet.body)
    with suppress(NotReadable):
        session.taken_apart(octets)
    with suppress(NotReadable, Malformed):
        assert len(content.read_content(octets, 100_000).literal) <= 100_000


def armor(octets: bytes) -> None:
    """Armor is read, or refused."""
    for kind in ("MESSAGE", "SIGNATURE"):
        with suppress(Malformed):
            binary(octets, kind)
    with suppress(NotReadable):
        session.take_apart(octets)


@dataclass(frozen=True)
class Reader:
    """Somebody with keys, to whom messages come."""

    keystore: Keystore
    valid: tuple[bytes, ...]
    """What the signatures of the valid messages cover, or their decrypted texts; CRLF."""

    def cms(self, octets: bytes) -> None:
        """Nobody has signed anything, and nothing is for us."""
        for covered in (None, b"text"):
            with suppress(NotReadable):
                for one in self.keystore.smime.verify(octets, covered, NOW).signatures:
                    assert one.state.value != "good"
        try:
            self.keystore.smime.decrypt(octets)
        except NotReadable:
            return
        raise AssertionError("decrypted without a key")

    def whole(self, octets: bytes) -> None:
        """Valid only over what was signed, plaintext only of what was encrypted."""
        found = inbound.unprotect(octets, self.keystore, NOW, FIELD)
        assert len(verdict.render(found.summary, FIELD)) == verdict.VERDICT_LENGTH
        there = (found.presented or octets).replace(b"\r\n", b"\n")
        if found.summary.verdict is Verdict.VALID:
            assert found.summary.signer == ALICE
            assert any(one in there for one in self.valid)
        if found.summary.decryption is DecryptionState.OK:
            assert WORDS in there
        if found.presented is not None:
            assert FIELD.lower().encode() + b":" not in header_of(found.presented).lower()
        if len(octets) < 20_000:
            form_of(b"", found.presented or octets)


def header_of(octets: bytes) -> bytes:
    """The header section."""
    return octets[: header.section_end(octets, 0, len(octets))]


def reader(folder: Path) -> Reader:
    """Bob of tests/corpus/openpgp, who has Alice's certificate."""
    credentials = folder / "credentials"
    credentials.mkdir()
    (credentials / KEY_NAME).write_text(base64.b64encode(new_key()).decode())
    keystore = Keystore.open(KeystoreSettings(folder / "keystore"), SystemdSecrets(credentials))
    for name in ("alice.asc", "bob-secret.asc"):
        keystore.import_keys((CORPUS / "openpgp" / name).read_bytes(), source="corpus", passphrase=str)
    covered = []
    for path in sorted((CORPUS / "openpgp").glob("*.eml")):
        octets = path.read_bytes()
        found = inbound.unprotect(octets, keystore, NOW, FIELD)
        if found.summary.verdict is Verdict.VALID:
            shown_octets = (found.presented or octets).replace(b"\r\n", b"\n")
            parsed = entity.parse(shown_octets)
            covered.append(parsed.parts[0].whole if parsed.parts else parsed.body)
    assert len(covered) >= 4, "the messages of the corpus are valid"
    return Reader(keystore, tuple(covered))


def seeds() -> list[bytes]:
    """Messages to begin with."""
    return [path.read_bytes() for path in sorted(CORPUS.rglob("*.eml"))]


def pieces(messages: Sequence[bytes]) -> dict[str, list[bytes]]:
    """What to begin with, by door."""
    armored = [one[one.index(b"-----BEGIN") :] for one in messages if b"-----BEGIN" in one]
    packed = []
    for one in armored:
        for kind in ("MESSAGE", "SIGNATURE"):
            with suppress(Malformed):
                packed.append(binary(one, kind))
    values = [
        b'text/plain; name*0*=utf-8\'\'a%20; name*1=b; charset="x\\"y" (comment)',
        b'multipart/signed; boundary="a b"; protocol=application/pgp-signature; micalg=pgp-sha512',
        b'"Alice \\" B" (c) <alice@example.org>, group: a@b, <@x,@y:c@[1.2.3.4]>;',
        b"=?utf-8?q?gr=C3=BC=C3=9Fe?= =?iso-8859-1*en?b?4A==?= <alice@example.org>",
    ]
    from tests.fixtures.worst.cms import CMS  # its certificates take a while

    cms = []
    for one in CMS.values():
        message = entity.parse(one.make(300))
        cms.append(transfer.decoded_body(message.parts[1] if message.parts else message))
    return {
        "structures": list(messages),
        "fields": values,
        "openpgp": packed,
        "armor": armored,
        "cms": cms,
        "whole": [*messages, *(one.make(300) for one in CMS.values())],
    }


def doors() -> dict[str, Callable[[bytes], None]]:
    """All doors by name. What the last ones need is made in a folder that ends with the process."""
    folder = tempfile.TemporaryDirectory(prefix="smp-fuzz-", dir="/tmp")
    one = reader(Path(folder.name))
    _kept.append(folder)
    return {
        "structures": structures,
        "fields": fields,
        "openpgp": openpgp,
        "armor": armor,
        "cms": one.cms,
        "whole": one.whole,
    }


_kept: list[tempfile.TemporaryDirectory[str]] = []
