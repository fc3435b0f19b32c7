"""S/MIME keys on a PKCS #11 token: SoftHSM, which has the only copy of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from keystore.errors import KeyRefused, NotReadable, StoreLocked
from keystore.keystore import Keystore, KeystoreSettings
from keystore.model import Holder, ImportAction, SignatureState, Trust
from keystore.roots import RootSettings
from keystore.smime.key import spki_of
from keystore.token import PIN_NAME, Token, TokenSettings
from tests.fixtures.token import MODULE, PIN, SoftToken, soft_token
from tests.fixtures.x509 import NOW, Authority, Issued, OpenSSL, openssl, root

__all__ = ["openssl"]

OCTETS = b"Content-Type: text/plain\r\n\r\nUnder the windmill.\r\n"
KINDS = ("rsa2048", "p256", "p384")


class Secrets:
    """A place for secrets that is gone with the test."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def get(self, name: str) -> str | None:
        return self.values.get(name)

    def set(self, name: str, value: str) -> None:
        self.values[name] = value

    def delete(self, name: str) -> None:
        self.values.pop(name, None)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return root("Token Root").authority("Token Mail")


@pytest.fixture(scope="module")
def people(authority: Authority) -> dict[str, Issued]:
    return {kind: authority.person(f"{kind}@example.org", kind, 70) for kind in KINDS}


@pytest.fixture(scope="module")
def token(people: dict[str, Issued]) -> Iterator[SoftToken]:
    with soft_token(*people.values()) as made:
        yield made


@pytest.fixture
def secrets() -> Secrets:
    return Secrets()


@pytest.fixture
def keystore(token: SoftToken, secrets: Secrets, tmp_path: Path, authority: Authority) -> Iterator[Keystore]:
    """One that has taken the token's certificates in."""
    anchor = tmp_path / "root.pem"
    anchor.write_bytes(authority.chain)
    roots = RootSettings((anchor,), False)
    settings = KeystoreSettings(tmp_path / "keystore", roots=roots, token=token.settings)
    with closing(Keystore.open(settings, secrets)) as opened:
        opened.import_keys(authority.pem, source="authority")
        results = opened.holders.take_from_token(lambda: PIN, now=NOW)
        assert [(one.action, one.secret) for one in results] == [(ImportAction.ADDED, True)] * len(KINDS)
        yield opened


def encrypted(openssl: OpenSSL, *readers: Issued, words: tuple[str, ...] = ()) -> bytes:
    files = [openssl.file(f"{number}.pem", one.pem) for number, one in enumerate(readers)]
    start = ["cms", "-encrypt", "-binary", "-outform", "DER", "-aes256", *words]
    return openssl(*start, *files, octets=OCTETS)


def test_certificates_of_the_token_are_own_ones(keystore: Keystore, people: dict[str, Issued]) -> None:
    for kind, person in people.items():
        [found] = keystore.own(f"{kind}@example.org")
        assert (found.holder, found.trust) == (Holder.PKCS11, Trust.VERIFIED)
        assert found.octets == person.der
    assert keystore.holders.relies_on_token
    again = keystore.holders.take_from_token(None, now=NOW)
    assert {(one.action, one.secret) for one in again} == {(ImportAction.UNCHANGED, True)}
    with pytest.raises(KeyRefused, match="does not leave it"):
        keystore.export(again[0].fingerprint, secret=True)


@pytest.mark.parametrize("kind", KINDS)
def test_signs_what_openssl_verifies(
    kind: str, keystore: Keystore, people: dict[str, Issued], openssl: OpenSSL, authority: Authority
) -> None:
    made = keystore.smime.sign(OCTETS, people[kind].fingerprint, NOW)
    trusted = openssl.file("root.pem", authority.chain)
    words = ["-verify", "-inform", "DER", "-in", openssl.file("made.der", made.der)]
    content = openssl.file("octets", OCTETS)
    assert openssl("cms", *words, "-binary", "-content", content, "-CAfile", trusted) == OCTETS
    [judged] = keystore.smime.verify(made.der, OCTETS, NOW).signatures
    assert judged.state is SignatureState.GOOD


@pytest.mark.parametrize("kind", KINDS)
def test_opens_what_openssl_encrypts(
    kind: str, keystore: Keystore, people: dict[str, Issued], openssl: OpenSSL
) -> None:
    assert keystore.smime.decrypt(encrypted(openssl, people[kind])).octets == OCTETS


def test_opens_what_we_encrypt(keystore: Keystore, people: dict[str, Issued]) -> None:
    for person in people.values():
        made = keystore.smime.encrypt(OCTETS, [person.fingerprint], NOW)
        assert keystore.smime.decrypt(made.der).octets == OCTETS


def test_oaep(keystore: Keystore, people: dict[str, Issued], openssl: OpenSSL) -> None:
    reader = openssl.file("reader.pem", people["rsa2048"].pem)
    words = ["cms", "-encrypt", "-binary", "-outform", "DER", "-aes256", "-recip", reader]
    made = openssl(*words, "-keyopt", "rsa_padding_mode:oaep", octets=OCTETS)
    assert keystore.smime.decrypt(made).octets == OCTETS


def test_damage_is_the_messages(keystore: Keystore, people: dict[str, Issued], openssl: OpenSSL) -> None:
    """A refusal of the token would be "try later", and keep the mailbox unread with the message in it."""
    for kind in ("rsa2048", "p256"):
        message = bytearray(encrypted(openssl, people[kind]))
        name = people[kind].certificate.serial_number.to_bytes(20).lstrip(b"\0")
        at = message.index(name) + len(name) + (60 if kind == "rsa2048" else 30)
        message[at] ^= 1
        with pytest.raises(NotReadable):
            keystore.smime.decrypt(bytes(message))


class TestAway:
    """StoreLocked, never an answer that would be remembered."""

    def demand_locked(self, keystore: Keystore, people: dict[str, Issued], message: bytes, why: str) -> None:
        for action in (
            lambda: keystore.smime.sign(OCTETS, people["p256"].fingerprint, NOW),
            lambda: keystore.smime.decrypt(message),
        ):
            with pytest.raises(StoreLocked, match=why) as caught:
                action()
            assert PIN not in str(caught.value)

    def test_taken_out_and_put_back(
        self, keystore: Keystore, people: dict[str, Issued], openssl: OpenSSL, token: SoftToken
    ) -> None:
        message = encrypted(openssl, people["p256"])
        assert keystore.smime.decrypt(message).octets == OCTETS
        with token.taken_out():
            self.demand_locked(keystore, people, message, "is not there")
        assert keystore.smime.decrypt(message).octets == OCTETS

    @pytest.mark.parametrize("kind", ["p256", "rsa2048"])
    def test_what_is_no_signature(self, keystore: Keystore, people: dict[str, Issued], kind: str) -> None:
        """Of the token, and so for a while: no message is refused for good by it."""
        holder = keystore._vault.token
        keystore.smime.sign(OCTETS, people[kind].fingerprint, NOW)
        name = next(spki for spki in holder._keys if spki == spki_of(people[kind].der))
        key, wrong = holder._keys[name], SimpleNamespace(sign=lambda octets, **_: b"\1" * 64)
        holder._keys[name] = wrong
        try:
            with pytest.raises(StoreLocked, match="no signature by this key"):
                keystore.smime.sign(OCTETS, people[kind].fingerprint, NOW)
        finally:
            holder._keys[name] = key

    def test_a_token_that_never_answers_keeps_one_thread_and_no_more(
        self, keystore: Keystore, people: dict[str, Issued], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        holder = keystore._vault.token
        monkeypatch.setattr(holder, "_seconds", 0.05)
        taken, released = threading.Event(), threading.Event()

        def hangs() -> None:
            with holder._alone():
                taken.set()
                released.wait()

        with ThreadPoolExecutor(1) as threads:
            threads.submit(hangs)
            taken.wait()
            try:
                with pytest.raises(StoreLocked, match="does not answer"):
                    keystore.smime.sign(OCTETS, people["p256"].fingerprint, NOW)
                holder.close()
            finally:
                released.set()
        assert keystore.smime.sign(OCTETS, people["p256"].fingerprint, NOW).der

    def test_no_pin(
        self, keystore: Keystore, secrets: Secrets, people: dict[str, Issued], openssl: OpenSSL
    ) -> None:
        message = encrypted(openssl, people["p256"])
        keystore._vault.token.close()
        del secrets.values[PIN_NAME]
        self.demand_locked(keystore, people, message, "PIN .* is not known")

    def test_a_wrong_pin_is_tried_once(
        self, keystore: Keystore, secrets: Secrets, people: dict[str, Issued], openssl: OpenSSL
    ) -> None:
        """A token locks itself after a few: what is kept must not use them up, over many starts either."""
        message = encrypted(openssl, people["p256"])
        secrets.values[PIN_NAME] = "9999-9999"
        keystore._vault.token.close()
        with pytest.raises(StoreLocked, match="is wrong"):
            keystore.smime.decrypt(message)
        self.demand_locked(keystore, people, message, "a wrong PIN before")
        anew = Token(keystore._vault.token._settings, secrets)
        with pytest.raises(StoreLocked, match="a wrong PIN before"):
            anew.certificates()
        with pytest.raises(StoreLocked, match="is wrong"):
            keystore.holders.take_from_token(lambda: "8888-8888", now=NOW)
        assert secrets.values[PIN_NAME] == "9999-9999"
        keystore.holders.take_from_token(lambda: PIN, now=NOW)
        assert secrets.values[PIN_NAME] == PIN
        assert keystore.smime.decrypt(message).octets == OCTETS

    @pytest.mark.parametrize(
        ("settings", "why"),
        [
            (TokenSettings(MODULE, "another"), "is not there"),
            (TokenSettings(Path("/nonexistent.so"), ""), "cannot be used"),
        ],
    )
    def test_another_token(
        self, settings: TokenSettings, why: str, token: SoftToken, secrets: Secrets
    ) -> None:
        with pytest.raises(StoreLocked, match=why):
            Token(settings, Secrets()).log_in(lambda: PIN)

    def test_none_is_configured_any_more(
        self,
        keystore: Keystore,
        secrets: Secrets,
        people: dict[str, Issued],
        openssl: OpenSSL,
        tmp_path: Path,
    ) -> None:
        with closing(Keystore.open(KeystoreSettings(tmp_path / "keystore"), secrets)) as without:
            self.demand_locked(without, people, encrypted(openssl, people["p256"]), "none is configured")
            with pytest.raises(KeyRefused, match=r"section \[pkcs11\]"):
                without.holders.take_from_token(lambda: PIN)
