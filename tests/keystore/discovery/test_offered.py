"""What an answer offers, whatever it is."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import example, given, settings
from hypothesis import strategies as st

from keystore import openpgp
from keystore.discovery.model import SourceFailed
from keystore.discovery.offered import offers_for
from tests.keystore.discovery.test_wkd import JOE, certificate

WHOLE = certificate()


@settings(max_examples=30)
@given(
    st.binary(max_size=60)
    | st.tuples(st.integers(0, len(WHOLE)), st.binary(max_size=4)).map(
        lambda cut: WHOLE[: cut[0]] + cut[1] + WHOLE[cut[0] + len(cut[1]) :]
    )
)
@example(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
def test_any_octets(octets: bytes) -> None:
    """Nothing but SourceFailed is raised, and nothing is offered that does not claim the address."""
    with suppress(SourceFailed):
        for offer in offers_for("Joe.Doe@example.org", octets, "where", "who"):
            assert JOE in openpgp.certificate(offer.octets).addresses
