"""What other programs think of the signatures of a message: good, not good, or nothing.

Each takes the message apart by its own means or by Python's, never by ours, and knows the keys of one corpus.
"""

from __future__ import annotations

import email
import email.policy
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import pysequoia
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from keystore import smime
from tests.fixtures.corpora import Keys
from tests.fixtures.gnupg import GnuPG
from tests.fixtures.x509 import Gpgsm, Issued

Opinion = bool | None
"""Whether the signature is good; None where the program is not asked, or says nothing."""
SMIME = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})


@dataclass(frozen=True)
class Bench:
    """Where the programs have their keys."""

    gnupg: GnuPG
    keys: Keys
    folder: Path
    """For their files."""


def furnished(gnupg: GnuPG, keys: Keys, folder: Path) -> Bench:
    """gpg and gpgsm with all of these keys; what one does not take, it does not have."""
    bench = Bench(gnupg, keys, folder)
    for armored in keys.openpgp:
        gnupg.run("--import", data=armored, check=False)
    gpgsm = Gpgsm(gnupg.home)
    roots = [one for pem in keys.roots for one in x509.load_pem_x509_certificates(pem)]
    (gnupg.home / "private-keys-v1.d").mkdir(mode=0o700, exist_ok=True)
    names = [one.fingerprint(hashes.SHA1()).hex().upper() for one in roots]
    (gnupg.home / "trustlist.txt").write_text("".join(f"{name} S relax\n" for name in names))
    for pem in (*keys.roots, *keys.others):
        gpgsm.run("--import", octets=pem, check=False)
    for octets, word in keys.containers:
        held = smime.read(octets, lambda word=word: word)
        found = {der: x509.load_der_x509_certificate(der) for der in held.certificates}
        for key in held.keys:
            [der] = [der for der in found if smime.belongs(key, der)]
            above = tuple(one for other, one in found.items() if other != der)
            gpgsm.own(Issued(found[der], key, above))
    (bench.folder / "roots.pem").write_bytes(b"".join(keys.roots))
    return bench


def by_notmuch(bench: Bench, messages: Mapping[str, bytes]) -> dict[str, Opinion]:
    """notmuch, by way of gmime, gpg and gpgsm: of the cryptographic envelope alone."""
    mail, config = bench.folder / "mail", bench.folder / "notmuch-config"
    (mail / "cur").mkdir(parents=True)
    names = {}
    for number, (title, octets) in enumerate(messages.items()):
        # Corpora use a Message-ID twice; notmuch takes such messages for one.
        marked = b"Message-ID: <%d@second.opinion>\n" % number + _without_message_id(octets)
        (mail / "cur" / f"{number}.x:2,").write_bytes(marked)
        names[f"{number}@second.opinion"] = title
    config.write_text(f"[database]\npath={mail}\n[user]\nname=x\nprimary_email=x@example.org\n")

    def notmuch(*words: str) -> bytes:
        home = {"HOME": str(bench.folder), "GNUPGHOME": str(bench.gnupg.home), "PATH": "/usr/bin:/bin"}
        command = ["notmuch", f"--config={config}", *words]
        return subprocess.run(command, env=home, capture_output=True, check=True).stdout

    notmuch("new", "--quiet")
    found = json.loads(
        notmuch("show", "--decrypt=true", "--verify", "--format=json", "--entire-thread=false", "*")
    )
    crypto = {one["id"]: one.get("crypto", {}) for one in _messages(found)}
    return {title: _good_by_notmuch(crypto.get(name, {})) for name, title in names.items()}


def _without_message_id(octets: bytes) -> bytes:
    return re.sub(rb"(?im)^message-id:.*\r?\n(?:[ \t].*\r?\n)*", b"", octets, count=1)


def _messages(node: Any) -> Iterator[dict[str, Any]]:
    """The messages among notmuch's threads."""
    if isinstance(node, dict):
        yield node
    for inner in node if isinstance(node, list) else []:
        yield from _messages(inner)


def _good_by_notmuch(crypto: dict[str, Any]) -> Opinion:
    status = crypto.get("signed", {}).get("status", [])
    return any(one["status"] == "good" for one in status)


def by_gpg(bench: Bench, messages: Mapping[str, bytes]) -> dict[str, Opinion]:
    """gpg itself, for OpenPGP at the root."""

    def good(octets: bytes, signature: bytes | None) -> Opinion:
        if signature is None:
            done = bench.gnupg.run("--decrypt", data=octets, check=False)
            if b"[GNUPG:] NEWSIG" not in done.stderr:
                return None  # signed within, if at all: not a matter of gpg's
        else:
            (bench.folder / "signed").write_bytes(octets)
            done = bench.gnupg.run("--verify", "-", str(bench.folder / "signed"), data=signature, check=False)
        return b"[GNUPG:] GOODSIG" in done.stderr and b"[GNUPG:] VALIDSIG" in done.stderr

    return {title: _of_openpgp(octets, good) for title, octets in messages.items()}


def by_pysequoia(bench: Bench, messages: Mapping[str, bytes]) -> dict[str, Opinion]:
    """Sequoia as a library, for signatures at the root."""
    certificates = []
    for armored in bench.keys.openpgp:
        certificates += [one for one in pysequoia.Cert.split_bytes(armored)]

    def good(octets: bytes, signature: bytes | None) -> Opinion:
        if signature is None:
            return None
        try:
            parsed = pysequoia.Sig.from_bytes(signature)
            opened = pysequoia.verify(bytes=octets, store=lambda _: certificates, signature=parsed)
        except Exception:  # noqa: BLE001  it has no other
            return False
        return bool(opened.valid_sigs)

    return {title: _of_openpgp(octets, good) for title, octets in messages.items()}


def by_openssl(bench: Bench, messages: Mapping[str, bytes]) -> dict[str, Opinion]:
    """openssl cms, for S/MIME signatures at the root; it knows no time but the present."""
    return {title: _by_openssl(bench, octets) for title, octets in messages.items()}


def _by_openssl(bench: Bench, octets: bytes) -> Opinion:
    kind = _kind(octets)
    if kind != "application/pkcs7-signature" and not (kind in SMIME and _is_signed_data(octets)):
        return None
    options = ["-CAfile", str(bench.folder / "roots.pem"), "-purpose", "smimesign", "-out", "/dev/null"]
    crlf = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    done = subprocess.run(["openssl", "cms", "-verify", *options], input=crlf, capture_output=True)
    return done.returncode == 0


def by_gpgsm(bench: Bench, messages: Mapping[str, bytes]) -> dict[str, Opinion]:
    """gpgsm itself, for S/MIME signatures at the root."""
    gpgsm = Gpgsm(bench.gnupg.home)
    found: dict[str, Opinion] = {}
    for title, octets in messages.items():
        kind = _kind(octets)
        found[title] = None
        if kind == "application/pkcs7-signature":
            part, signature = _signed_parts(octets)
            (bench.folder / "signed").write_bytes(part)
            (bench.folder / "signature").write_bytes(signature)
            words = ("--verify", str(bench.folder / "signature"), str(bench.folder / "signed"))
            found[title] = _good_by_gpgsm(gpgsm.run(*words, check=False).stderr)
        elif kind in SMIME and _is_signed_data(octets):
            found[title] = _good_by_gpgsm(gpgsm.run("--verify", octets=_body(octets), check=False).stderr)
    return found


def _good_by_gpgsm(status: bytes) -> bool:
    return b"[GNUPG:] GOODSIG" in status and b"[GNUPG:] TRUST_FULLY" in status


def _of_openpgp(octets: bytes, good: Callable[[bytes, bytes | None], Opinion]) -> Opinion:
    kind = _kind(octets)
    if kind == "application/pgp-signature":
        return good(*_signed_parts(octets))
    if kind == "application/pgp-encrypted":
        parts = _parsed(octets).get_payload()
        if isinstance(parts, list) and len(parts) == 2 and isinstance(parts[1], Message):
            return good(_decoded(parts[1]), None)
    return None


def _parsed(octets: bytes) -> Message:
    return email.message_from_bytes(octets, policy=email.policy.compat32)


def _kind(octets: bytes) -> str:
    """The protocol of multipart/signed and multipart/encrypted, else the type."""
    parsed = _parsed(octets)
    protocol = parsed.get_param("protocol")
    return protocol.lower() if isinstance(protocol, str) else parsed.get_content_type()


def _is_signed_data(octets: bytes) -> bool:
    return b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02" in _body(octets)[:40]


def _body(octets: bytes) -> bytes:
    return _decoded(_parsed(octets))


def _decoded(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _signed_parts(octets: bytes) -> tuple[bytes, bytes]:
    """What is signed, with CRLF, between the first two delimiter lines; and the decoded signature."""
    crlf = octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    boundary = str(_parsed(octets).get_boundary()).encode()
    pieces = re.split(rb"\r\n--" + re.escape(boundary) + rb"(?:--)?[ \t]*(?=\r\n|\Z)", crlf)
    if len(pieces) < 3:
        return b"", b""
    signature = email.message_from_bytes(pieces[2].removeprefix(b"\r\n"))
    return pieces[1].removeprefix(b"\r\n"), _decoded(signature)
