"""Programs that read OpenPGP mail, each with a key ring of its own: Bob's key and Alice's certificate."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pysequoia
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from tests.fixtures.gnupg import GnuPG
from tests.fixtures.x509 import Gpgsm, Issued, OpenSSL
from tests.interop.letters import Leaf, leaves, subject
from tests.interop.post import Delivery, Protection, ciphertext, signed_parts


@dataclass(frozen=True)
class Reading:
    """What a program made of one message."""

    decrypted: bool
    good: frozenset[str]
    """Whose signatures it calls good: fingerprints of certificates, or addresses where it says no more."""
    subject: str
    """As it shows it, decoded."""
    leaves: list[Leaf]


@dataclass(frozen=True)
class Ring:
    """A folder for one reader, and the keys to put there."""

    gnupg: GnuPG
    """With Bob's secret key and Alice's certificate."""
    key: bytes
    """Bob's, armored, without a passphrase."""
    certificate: bytes
    """Alice's, armored."""
    certificate_fingerprint: str
    doras: Issued
    """Dora's S/MIME certificate and key, which gpgsm has."""
    root: x509.Certificate
    """What she trusts."""

    @property
    def folder(self) -> Path:
        """The HOME of the reader, with its key ring in `.gnupg`."""
        return self.gnupg.home.parent


Reader = Callable[[Ring, Protection, Sequence[Delivery]], Iterator[Reading]]


def by_gpg(ring: Ring, protection: Protection, deliveries: Sequence[Delivery]) -> Iterator[Reading]:
    """A detached signature over the exact octets; or one OpenPGP message, signed inside."""
    for delivery in deliveries:
        if protection.encrypts:
            done = ring.gnupg.run("--decrypt", data=ciphertext(delivery.octets))
            payload = done.stdout
        else:
            payload, signature = signed_parts(delivery.octets)
            (ring.folder / "signed").write_bytes(payload)
            done = ring.gnupg.run("--verify", "-", str(ring.folder / "signed"), data=signature)
        yield _reading(payload, good_by_gpg(done.stderr), decrypted=b"DECRYPTION_OKAY" in done.stderr)


def good_by_gpg(status: bytes) -> frozenset[str]:
    """The primary fingerprints of valid signatures, out of gpg's status lines."""
    lines = status.decode(errors="replace").splitlines()
    return frozenset(line.split()[-1] for line in lines if line.startswith("[GNUPG:] VALIDSIG "))


def by_sq(ring: Ring, protection: Protection, deliveries: Sequence[Delivery]) -> Iterator[Reading]:
    """Sequoia's program; it ends in failure unless the one certificate that it is given has signed."""
    for name, octets in (("alice.asc", ring.certificate), ("bob.asc", ring.key)):
        (ring.folder / name).write_bytes(octets)
    signer = ["--signer-cert", ring.folder / "alice.asc"]
    for delivery in deliveries:
        if protection.encrypts:
            words = ["decrypt", *signer, "--recipient-key", ring.folder / "bob.asc"]
            given = ciphertext(delivery.octets)
        else:
            given, signature = signed_parts(delivery.octets)
            (ring.folder / "signature").write_bytes(signature)
            words = ["verify", *signer, "--detached", ring.folder / "signature"]
        done = subprocess.run(["sq", *words], input=given, capture_output=True, check=False)
        good = {ring.certificate_fingerprint} if done.returncode == 0 else set()
        payload = done.stdout if protection.encrypts else given
        yield _reading(payload, good, decrypted=protection.encrypts and done.returncode == 0)


def by_pysequoia(ring: Ring, protection: Protection, deliveries: Sequence[Delivery]) -> Iterator[Reading]:
    """Python's email package takes the message apart, Sequoia as a library does the rest."""
    alice = pysequoia.Cert.from_bytes(ring.certificate)
    bob = pysequoia.Tsk.from_bytes(ring.key)
    for delivery in deliveries:
        if protection.encrypts:
            opened = pysequoia.decrypt(
                bytes=ciphertext(delivery.octets), decryptor=bob.decryptor(), store=lambda _: [alice]
            )
            payload = opened.bytes
        else:
            payload, octets = signed_parts(delivery.octets)
            signature = pysequoia.Sig.from_bytes(octets)
            opened = pysequoia.verify(bytes=payload, store=lambda _: [alice], signature=signature)
        good = {one.certificate.upper() for one in opened.valid_sigs}
        yield _reading(payload, good, decrypted=protection.encrypts)


def by_openssl(ring: Ring, protection: Protection, deliveries: Sequence[Delivery]) -> Iterator[Reading]:
    """openssl cms takes whole messages; it trusts the root alone."""
    openssl = OpenSSL(ring.folder)
    roots = openssl.file("root.pem", ring.root.public_bytes(Encoding.PEM))
    for delivery in deliveries:
        message = openssl.decrypt(delivery.octets, ring.doras) if protection.encrypts else delivery.octets
        options = ("-CAfile", roots, "-purpose", "smimesign", "-signer", "signer.pem")
        payload = openssl("cms", "-verify", *options, octets=message)
        signer = x509.load_pem_x509_certificate((ring.folder / "signer.pem").read_bytes())
        good = {signer.fingerprint(hashes.SHA1()).hex().upper()}
        yield _reading(payload, good, decrypted=protection.encrypts)


def by_gpgsm(ring: Ring, protection: Protection, deliveries: Sequence[Delivery]) -> Iterator[Reading]:
    """gpgsm takes DER."""
    gpgsm = Gpgsm(ring.gnupg.home)
    for delivery in deliveries:
        entity = gpgsm.decrypt(ciphertext(delivery.octets)) if protection.encrypts else delivery.octets
        payload, signature = signed_parts(entity)
        for name, octets in (("signed", payload), ("signature", signature)):
            (ring.folder / name).write_bytes(octets)
        done = gpgsm.run("--verify", str(ring.folder / "signature"), str(ring.folder / "signed"))
        status = done.stderr.decode().splitlines()
        good = {line.split()[2] for line in status if line.startswith("[GNUPG:] VALIDSIG ")}
        yield _reading(payload, good, decrypted=protection.encrypts)


def _reading(payload: bytes, good: frozenset[str] | set[str], *, decrypted: bool) -> Reading:
    return Reading(decrypted, frozenset(good), subject(payload), leaves(payload))
