"""Which program opens which cipher, as docs/interoperability.md says; Thunderbird in `test_thunderbird`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fixtures.x509 import Gpgsm, OpenSSL
from tests.interop.ciphers import CIPHERS, LETTER, Sealed
from tests.interop.letters import subject
from tests.interop.matrix import table
from tests.interop.post import ciphertext, signed_parts


def by_openssl(sealed: Sealed, openssl: OpenSSL, _: Gpgsm) -> bytes:
    return openssl.decrypt(sealed.octets, sealed.reader)


def by_gpgsm(sealed: Sealed, _: OpenSSL, gpgsm: Gpgsm) -> bytes:
    gpgsm.own(sealed.reader)
    done = gpgsm.run("--decrypt", octets=ciphertext(sealed.octets), check=False)
    return done.stdout if b"[GNUPG:] DECRYPTION_OKAY" in done.stderr else b""


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("program", [by_openssl, by_gpgsm])
def test_a_program_opens_what_the_document_says(
    program: Callable[[Sealed, OpenSSL, Gpgsm], bytes],
    cipher: str,
    sealed: dict[str, Sealed],
    openssl: OpenSSL,
    gpgsm: Gpgsm,
) -> None:
    """RFC 8551: what is opened is the signed message, with its header."""
    (row,) = (one for one in table("key and cipher") if one["key and cipher"] == cipher)
    inside = program(sealed[cipher], openssl, gpgsm)
    opened = bool(inside) and subject(signed_parts(inside)[0]) == LETTER.subject
    assert row[program.__name__.removeprefix("by_")] == ("yes" if opened else "-")


def test_the_document_has_a_row_for_each_cipher() -> None:
    assert [one["key and cipher"] for one in table("key and cipher")] == list(CIPHERS)
