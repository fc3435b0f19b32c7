"""Programs that write S/MIME mail in their default settings, each with Walter's key in a ring of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import formatdate

from tests.fixtures.clients import Workplace, crlf
from tests.fixtures.gnupg import GnuPG
from tests.fixtures.processes import wait_until
from tests.fixtures.x509 import Gpgsm, Issued, OpenSSL
from tests.interop.letters import TEXT, base64_lines, leaf, leaves, several
from tests.interop.post import People, verdict

GPGSM = "disable-crl-checks\ndisable-dirmngr\ndisable-policy-checks\n"
ENTITY = f"Content-Type: text/plain; charset=us-ascii\r\n\r\n{TEXT}\r\n".encode()
SUBJECT = "From elsewhere"
WALTER = "walter@example.test"


@dataclass(frozen=True)
class Desk:
    """A folder for one writer, with what it writes with."""

    gnupg: GnuPG
    """gpgsm there has Walter's key and the reader's certificate, and believes the root."""
    walter: Issued
    reader: Issued
    to: str
    """The address of the reader."""

    @property
    def gpgsm(self) -> Gpgsm:
        return Gpgsm(self.gnupg.home)

    @property
    def openssl(self) -> OpenSSL:
        return OpenSSL(self.gnupg.home.parent)

    def prepare(self) -> None:
        """Fill the key ring."""
        (self.gnupg.home / "private-keys-v1.d").mkdir(mode=0o700)
        (self.gnupg.home / "gpgsm.conf").write_text(GPGSM)
        self.gpgsm.trust(self.walter.above[-1])
        self.gpgsm.own(self.walter)
        self.gpgsm.run("--import", octets=self.reader.pem)

    def message(self, entity: bytes) -> bytes:
        """The entity with the header of a message (CRLF)."""
        head = f"From: <{WALTER}>\r\nTo: <{self.to}>\r\nSubject: {SUBJECT}\r\nDate: {formatdate()}\r\n"
        return head.encode() + b"MIME-Version: 1.0\r\n" + entity


Written = Iterator[tuple[str, bytes]]
"""What was done to a message, as the document says it, and the message (CRLF)."""
Writer = Callable[[Desk], Written]


def by_openssl(desk: Desk) -> Written:
    """openssl cms; what it writes has a header of MIME, and LF where it was not given CRLF."""
    openssl = desk.openssl
    key, own = openssl.file("key.pem", desk.walter.key_pem), openssl.file("cert.pem", desk.walter.pem)
    chain, reader = openssl.file("chain.pem", desk.walter.chain), openssl.file("to.pem", desk.reader.pem)
    sign = ("cms", "-sign", "-signer", own, "-inkey", key, "-certfile", chain)
    signed = openssl(*sign, octets=ENTITY)
    yield "signed", _from_openssl(desk, signed)
    yield "signed, opaque", _from_openssl(desk, openssl(*sign, "-nodetach", octets=ENTITY))
    yield "encrypted", _from_openssl(desk, openssl("cms", "-encrypt", reader, octets=ENTITY))
    yield "signed and encrypted", _from_openssl(desk, openssl("cms", "-encrypt", reader, octets=signed))
    gcm = ("cms", "-encrypt", "-aes-256-gcm", reader)
    yield "encrypted, AES-256-GCM", _from_openssl(desk, openssl(*gcm, octets=ENTITY))


def _from_openssl(desk: Desk, made: bytes) -> bytes:
    return desk.message(re.sub(rb"\r?\n", b"\r\n", made).removeprefix(b"MIME-Version: 1.0\r\n"))


def by_gpgsm(desk: Desk) -> Written:
    """gpgsm makes DER; MIME round it as RFC 8551 section 3 has it."""
    gpgsm, to = desk.gpgsm, desk.reader.fingerprint_sha1
    signature = gpgsm.run("--detach-sign", octets=ENTITY).stdout
    p7s = b'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\n'
    encoded = b"Content-Transfer-Encoding: base64\r\n\r\n"
    signed = several("signed", "sm=_1", [ENTITY, p7s + encoded + base64_lines(signature)])
    signed = signed.replace(b"/signed;", b'/signed; protocol="application/pkcs7-signature"; micalg=sha-256;')
    yield "signed", desk.message(signed)
    opaque = gpgsm.run("--sign", octets=ENTITY).stdout
    yield "signed, opaque", desk.message(_pkcs7("signed-data", opaque))
    for name, entity in (("encrypted", ENTITY), ("signed and encrypted", signed)):
        envelope = gpgsm.run("--encrypt", "--recipient", f"0x{to}", octets=entity).stdout
        yield name, desk.message(_pkcs7("enveloped-data", envelope))


def _pkcs7(smime_type: str, cms: bytes) -> bytes:
    head = f'Content-Type: application/pkcs7-mime; smime-type={smime_type}; name="smime.p7m"\r\n'
    return head.encode() + b"Content-Transfer-Encoding: base64\r\n\r\n" + base64_lines(cms)


MUTT = """set folder="{home}"
set crypt_use_gpgme=yes
set smime_is_default=yes
set smime_sign_as=0x{own}
set smime_default_key=0x{own}
set from="{sender}"
set realname=Walter
set use_envelope_from=no
set sendmail="{home}/keep"
set sendmail_wait=0
set editor="{home}/edit"
set copy=no
set sleep_time=0
set wait_key=no
set autoedit=yes
set edit_headers=yes
set postpone=no
set recall=no
set charset=utf-8
set crypt_autosign={sign}
set crypt_autoencrypt={encrypt}
"""
PROTECTIONS = {"signed": ("yes", "no"), "encrypted": ("no", "yes"), "signed and encrypted": ("yes", "yes")}


def _by(program: str) -> Writer:
    def write(desk: Desk) -> Written:
        place = Workplace(desk.gnupg.home.parent)
        home = place.folder
        place.write("keep", f'#!/bin/sh\ncat >"{home}/sent.new" && mv "{home}/sent.new" "{home}/sent"\n')
        place.write("edit", f'#!/bin/sh\necho "{TEXT}" >>"$1"\n')
        for script in ("keep", "edit"):
            (home / script).chmod(0o700)
        for name, (sign, encrypt) in PROTECTIONS.items():
            own = desk.walter.fingerprint_sha1
            rc = MUTT.format(own=own, sender=WALTER, home=home, sign=sign, encrypt=encrypt)
            words = ["-n", "-F", place.write("rc", rc), "-s", SUBJECT, desk.to]
            with place.terminal(program, *words) as terminal:
                wait_until(lambda: "Security:" in terminal.screen, "the menu")
                terminal.type("y")
                said = terminal.wait()
            assert (home / "sent").exists(), said
            yield name, crlf((home / "sent").read_bytes())
            (home / "sent").unlink()

    return write


by_mutt = _by("mutt")
by_neomutt = _by("neomutt")


def found(people: People, written: list[tuple[str, bytes]]) -> dict[str, dict[str, str]]:
    """What the proxy makes of messages: name -> cells of the document."""
    before = len(people.fay.stored())
    for _, octets in written:
        people.fay.append(octets)
    presented = people.reader.proxy.messages(people.fay)[before:]
    rows = {}
    for (name, _), octets in zip(written, presented, strict=True):
        status, items = verdict(people.reader, octets)
        text = leaf("text/plain", None, TEXT.encode())
        rows[name] = {
            "verdict": f"{status}, {items['signature']}",
            "content": "yes" if text in leaves(octets) else "-",
        }
    return rows
