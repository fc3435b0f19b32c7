"""A mailbox whose owner has an S/MIME key alone: encrypted in place by S/MIME, and had back exactly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from keystore import smime
from secmailproxy.errands.plan import Errand, Left
from secmailproxy.errors import UpstreamUnavailable
from secmailproxy.mime import pkcs7
from secmailproxy.mime.entity import parse
from secmailproxy.mime.owncopy import for_rest
from tests.errands.conftest import Place, place_of
from tests.errands.test_replacing import KEPT, ODD, mail, mixed
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import leaked
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.relay import Relay
from tests.fixtures.smime_people import smime_user
from tests.fixtures.x509 import Authority


@pytest.fixture(scope="module")
def whole_place(dovecot: Dovecot, module_proxies: ProxyFactory, mail_authority: Authority) -> Iterator[Place]:
    """Somebody with a key of S/MIME and no other."""
    with place_of(smime_user(module_proxies, dovecot.mailbox("errand"), mail_authority)) as place:
        yield place


async def test_a_mailbox_is_encrypted_and_decrypted_in_place(place: Place) -> None:
    """IMAP-16: what stands at the server is AuthEnvelopedData; what comes back is the original."""
    originals, signed, sealed = await mixed(place)
    before = place.stored()
    outcome = await place.run(Errand.ENCRYPT)
    assert (outcome.replaced, outcome.left, outcome.failed) == (4, {Left.PROTECTED: 1}, [])
    after = place.stored()
    types = {parse(one.octets).content_type.param("smime-type") for one in after}
    assert types == {"authEnveloped-data"}
    assert {(one.flags, one.date) for one in after} == {(KEPT, before[0].date)}
    assert [place.opened(one) for one in after[1:]] == [*originals, signed]
    assert not [one for one in after if leaked(one.octets)]

    outcome = await place.run(Errand.DECRYPT)
    assert (outcome.replaced, outcome.left, outcome.failed) == (4, {Left.NOT_OURS: 1}, [])
    assert [one.octets for one in place.stored()] == [sealed, *originals, signed]


async def test_wherever_it_is_interrupted_one_of_each_is_left(place: Place, relay: Relay) -> None:
    """A copy is found again by its Content-ID, though the original has no Message-ID."""
    for cut in range(0, 100, 2):
        folder = place.folder(f"cut{cut}", ODD)
        relay.arm("server", cut)
        try:
            await place.run(Errand.ENCRYPT, folder, port=relay.port)
        except UpstreamUnavailable:
            assert relay.broken.is_set()
        assert {place.opened(one) for one in place.stored(folder)} == {ODD}
        assert not (await place.run(Errand.ENCRYPT, folder)).failed
        (after,) = place.stored(folder)
        assert place.opened(after) == ODD != after.octets
        if not relay.broken.is_set():
            break
    assert cut > 8
    assert set(place.journals()) == {b""}


async def test_what_proves_no_integrity_is_not_taken_for_our_own(place: Place) -> None:
    """Anybody can change EnvelopedData: what it says that it is the copy of does not take its place."""
    certificate = place.tools.keystore.certificate(place.user.fingerprint)
    assert certificate is not None
    ready = for_rest(parse(mail(place)[0]))
    made = smime.envelop(ready.payload, {certificate.octets: smime.NOTHING_STATED})
    place.append(pkcs7.enveloped(ready.outer, made.der, made.smime_type))
    outcome = await place.run(Errand.DECRYPT)
    assert (outcome.replaced, outcome.left) == (0, {Left.NOT_OURS: 1})
