"""What other programs sign and encrypt with S/MIME arrives, judged rightly, through the running proxy.

As docs/interoperability.md says; Thunderbird, which takes longest to start, is in `test_thunderbird`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fixtures.gnupg import GnuPG
from tests.fixtures.x509 import Authority
from tests.interop.matrix import written_by
from tests.interop.post import People
from tests.interop.writers import WALTER, Desk, Writer, by_gpgsm, by_mutt, by_neomutt, by_openssl, found

WRITERS: dict[str, Writer] = {
    "openssl": by_openssl,
    "gpgsm": by_gpgsm,
    "mutt": by_mutt,
    "neomutt": by_neomutt,
}


@pytest.fixture
def desk(rings: Callable[[], GnuPG], people: People, mail_authority: Authority) -> Desk:
    """A new key ring."""
    walter = mail_authority.person(WALTER, "rsa2048", 63)
    made = Desk(rings(), walter, people.fays, people.fay.address)
    made.prepare()
    return made


@pytest.mark.parametrize("program", WRITERS)
def test_we_read_what_others_write(program: str, desk: Desk, people: People) -> None:
    assert found(people, list(WRITERS[program](desk))) == written_by(program)
