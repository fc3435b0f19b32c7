"""Own keys changed, as gpg 2.2 and Sequoia see them afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pysequoia
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keystore import openpgp, policy
from keystore.errors import KeyRefused, NotReadable
from keystore.model import Purpose
from tests.keystore.oracle import Oracle, oracle

DAY = timedelta(days=1)
NOW = datetime.now(UTC).replace(microsecond=0)
THEN = NOW - 60 * DAY
ALICE = "alice@example.org"


@pytest.fixture(scope="module")
def gpg() -> Iterator[Oracle]:
    with oracle() as home:
        yield home


def rows(gpg: Oracle, fingerprint: str, *kinds: str) -> list[list[str]]:
    """What gpg lists of a key: the lines of these kinds, in their fields."""
    listing = gpg.run("--with-colons", "--list-keys", fingerprint).stdout.decode()
    return [line.split(":") for line in listing.splitlines() if line.split(":")[0] in kinds]


def ends(gpg: Oracle, fingerprint: str) -> list[datetime | None]:
    """When the primary key and its subkeys end, as gpg reads it."""
    found = [row[6] for row in rows(gpg, fingerprint, "pub", "sub")]
    return [datetime.fromtimestamp(int(one), UTC) if one else None for one in found]


def to(key: openpgp.SecretKey, at: datetime = NOW, text: bytes = b"text") -> bytes:
    """A message as we encrypt it to the key."""
    keys = policy.usability(openpgp.facts(key.certificate_octets), Purpose.ENCRYPT, at).keys
    return openpgp.encrypt(text, [(key.certificate_octets, keys)], None, at)


def read(key: openpgp.SecretKey, ciphertext: bytes) -> bytes:
    return openpgp.open_message(ciphertext, [key], lambda issuer: [], NOW).octets


def test_correspondents_programs_use_the_new_subkey_and_the_old_one_ends_after_the_overlap(
    gpg: Oracle,
) -> None:
    """A rotation."""
    key = openpgp.generate(ALICE, now=THEN)
    gpg.run("--import", data=key.certificate_octets)
    before = gpg.run("--encrypt", "-r", key.fingerprint, data=b"old mail").stdout
    changed, subkey = openpgp.rotated(key, NOW, expires=NOW + 700 * DAY, overlap=90 * DAY)
    gpg.run("--import", data=changed.certificate_octets)
    assert ends(gpg, key.fingerprint) == [None, NOW + 90 * DAY, NOW + 700 * DAY]
    after = gpg.encrypts(NOW + DAY, key.fingerprint)
    assert after is not None
    assert [subkey[-16:]] == list(openpgp.key_ids(after)) != list(openpgp.key_ids(before))
    assert (read(changed, before), read(changed, after)) == (b"old mail", b"?")
    with pytest.raises(NotReadable, match="none of the keys"):
        read(key, after)
    made = pysequoia.encrypt(b"hello", recipients=[pysequoia.Cert.from_bytes(changed.certificate_octets)])
    assert subkey[-16:] in openpgp.key_ids(bytes(made))


def test_gpg_holds_a_rotated_key_whole(gpg: Oracle) -> None:
    """It reads old and new mail with what is exported."""
    key = openpgp.generate("whole@example.org", now=THEN)
    changed, _ = openpgp.rotated(key, NOW, expires=None, overlap=None)
    gpg.run("--import", data=changed.to_octets())
    assert [gpg.run("--decrypt", data=to(one)).stdout for one in (key, changed)] == [b"text", b"text"]
    assert ends(gpg, key.fingerprint) == [None, None, None]


@pytest.mark.parametrize("end", [NOW + 400 * DAY, NOW + DAY, None], ids=["later", "sooner", "never"])
def test_gpg_reads_another_end(gpg: Oracle, end: datetime | None) -> None:
    """Of a key that is about to expire: later, sooner than before, never."""
    key = openpgp.generate(f"end-{end and end.day}@example.org", now=THEN, expires=90 * DAY)
    gpg.run("--import", data=key.certificate_octets)
    assert ends(gpg, key.fingerprint) == [THEN + 90 * DAY] * 2
    changed = openpgp.extended(key, NOW, end)
    gpg.run("--import", data=changed.certificate_octets)
    assert ends(gpg, key.fingerprint) == [end, end]
    assert openpgp.certificate(changed.certificate_octets).expires == end
    late = NOW + 399 * DAY
    assert (gpg.encrypts(late, key.fingerprint) is None) == (end == NOW + DAY)


def test_an_expired_key_lives_again_and_what_was_replaced_keeps_its_end(gpg: Oracle) -> None:
    """Extension after a rotation."""
    key = openpgp.generate("again@example.org", now=THEN, expires=59 * DAY)
    with pytest.raises(KeyRefused, match="expired"):
        openpgp.rotated(key, NOW, expires=None, overlap=None)
    older, _ = openpgp.rotated(key, NOW - 30 * DAY, expires=NOW + DAY, overlap=10 * DAY)
    changed = openpgp.extended(older, NOW, NOW + 300 * DAY)
    gpg.run("--import", data=changed.certificate_octets)
    assert ends(gpg, key.fingerprint) == [NOW + 300 * DAY, NOW - 20 * DAY, NOW + 300 * DAY]
    assert read(changed, to(changed)) == b"text"


def test_gpg_sees_user_ids_come_and_go(gpg: Oracle) -> None:
    """Several identities of one key."""
    key = openpgp.generate(ALICE, name="Alice", now=THEN, expires=900 * DAY)
    more = openpgp.with_user_id(key, "Work <work@example.com>", NOW)
    gpg.run("--import", data=more.certificate_octets)
    assert [(row[1] == "r", row[9]) for row in rows(gpg, key.fingerprint, "uid")] == [
        (False, f"Alice <{ALICE}>"),
        (False, "Work <work@example.com>"),
    ]
    assert ends(gpg, key.fingerprint) == [THEN + 900 * DAY] * 2
    assert gpg.encrypts(NOW + DAY, "work@example.com") is not None
    assert openpgp.certificate(more.certificate_octets).addresses == (ALICE, "work@example.com")
    less = openpgp.without_user_id(more, f"Alice <{ALICE}>", NOW)
    gpg.run("--import", data=less.certificate_octets)
    states = {row[9]: row[1] for row in rows(gpg, key.fingerprint, "uid")}
    assert (states[f"Alice <{ALICE}>"], states["Work <work@example.com>"] == "r") == ("r", False)
    assert openpgp.certificate(less.certificate_octets).addresses == ("work@example.com",)
    with pytest.raises(KeyRefused, match="only user ID"):
        openpgp.without_user_id(less, "Work <work@example.com>", NOW)
    back = openpgp.with_user_id(less, f"Alice <{ALICE}>", NOW, first=True)
    assert openpgp.certificate(back.certificate_octets).addresses == (ALICE, "work@example.com")
    assert policy.valid_user_ids(openpgp.facts(back.certificate_octets), NOW + DAY)[0].startswith("Alice")
    gpg.run("--import", data=back.certificate_octets)
    assert rows(gpg, key.fingerprint, "uid")[0][9] == f"Alice <{ALICE}>"


def test_a_key_of_gpg_is_changed_with_its_subkey_that_signs(gpg: Oracle) -> None:
    """NIST curves, and the signature that a signing subkey makes over its binding."""
    gpg.run("--quick-generate-key", "NIST <nist@example.org>", "nistp256", "cert,sign", "2y")
    [fingerprint] = gpg.fingerprints("nist@example.org")
    for algorithm, use in (("ed25519", "sign"), ("nistp384", "encr")):
        gpg.run("--quick-add-key", fingerprint, algorithm, use, "1y")
    key = openpgp.unlock(gpg.binary_secret(fingerprint), None)
    later = openpgp.extended(key, NOW, NOW + 1000 * DAY)
    changed, subkey = openpgp.rotated(later, NOW, expires=None, overlap=30 * DAY)
    stated = openpgp.facts(changed.certificate_octets)
    assert stated.broken == 0
    gpg.run("--import", data=changed.certificate_octets)
    assert [one and one.date() for one in ends(gpg, fingerprint)] == [
        (NOW + 1000 * DAY).date(),
        (NOW + 1000 * DAY).date(),
        (NOW + 30 * DAY).date(),
        None,
    ]
    made = gpg.encrypts(NOW + DAY, fingerprint)
    assert made is not None
    assert list(openpgp.key_ids(made)) == [subkey[-16:]]
    far = policy.usability(stated, Purpose.SIGN, NOW + 999 * DAY)
    assert openpgp.key_fingerprints(key.certificate_octets)[1] in far.keys


def test_a_key_of_version_6_is_changed() -> None:
    """Sequoia reads what was said; all statements of the key stand at the key itself."""
    key = openpgp.generate(ALICE, kind="ed25519-v6", now=THEN, expires=90 * DAY)
    changed, subkey = openpgp.rotated(
        openpgp.extended(openpgp.with_user_id(key, "work@example.com", NOW), NOW, NOW + 500 * DAY),
        NOW,
        expires=None,
        overlap=30 * DAY,
    )
    seen = pysequoia.Cert.from_bytes(changed.certificate_octets)
    assert seen.expiration == NOW + 500 * DAY
    assert {str(one) for one in seen.user_ids} == {ALICE, "work@example.com"}
    message = to(changed, NOW + timedelta(minutes=1))
    assert list(openpgp.key_ids(message)) == [subkey[:16]]
    assert [read(changed, one) for one in (to(key), message)] == [b"text", b"text"]
    assert openpgp.facts(changed.certificate_octets).broken == 0


STEPS = {
    "rotate": lambda key, at: openpgp.rotated(key, at, expires=None, overlap=DAY)[0],
    "extend": lambda key, at: openpgp.extended(key, at, at + 500 * DAY),
    "for ever": lambda key, at: openpgp.extended(key, at, None),
    "add": lambda key, at: openpgp.with_user_id(key, "work@example.com", at),
    "first": lambda key, at: openpgp.with_user_id(key, f"Alice <{ALICE}>", at, first=True),
}
BORN = openpgp.generate(ALICE, name="Alice", now=THEN, expires=900 * DAY)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=6))
def test_whatever_is_done_in_one_second_mail_stays_readable_and_statements_count(
    steps: list[str],
) -> None:
    """Property: no secret half is ever lost, and each statement is in force a few seconds later."""
    key, sent = BORN, [to(BORN)]
    for count, step in enumerate(steps):
        after = STEPS[step](key, NOW)
        assert after.secret_fingerprints >= key.secret_fingerprints
        assert openpgp.merge(key.certificate_octets, after.certificate_octets) == after.certificate_octets
        key = openpgp.SecretKey.from_octets(after.to_octets())
        sent.append(to(key, NOW + timedelta(seconds=count + 1)))
    assert {read(key, one) for one in sent} == {b"text"}
    stated = openpgp.facts(key.certificate_octets)
    assert stated.broken == 0
    extended = [one for one in steps if one in ("extend", "for ever")]
    end = {"extend": NOW + 500 * DAY, "for ever": None}[extended[-1]] if extended else THEN + 900 * DAY
    assert policy.expiry(stated) == end
    assert len({tuple(openpgp.key_ids(one)) for one in sent}) == 1 + steps.count("rotate")


def offline(key: openpgp.SecretKey) -> openpgp.SecretKey:
    """The key as it is used where its primary key is kept elsewhere."""
    bare = {one: key.secret_of(one) for one in key.secret_fingerprints if one != key.fingerprint}
    return openpgp.SecretKey(key.certificate_octets, bare)


CHANGES = [
    pytest.param(lambda key: openpgp.rotated(key, NOW, expires=None, overlap=None), id="rotate"),
    pytest.param(lambda key: openpgp.extended(key, NOW, None), id="extend"),
    pytest.param(lambda key: openpgp.with_user_id(key, "a@example.com", NOW), id="add"),
    pytest.param(lambda key: openpgp.revocation_certificate(key, NOW), id="revoke"),
]


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_made_without_the_secret_primary_key(change) -> None:
    with pytest.raises(KeyRefused, match="is not here"):
        change(offline(BORN))


@pytest.mark.parametrize("change", CHANGES[:3])
def test_a_revoked_key_stays_as_it_is(change) -> None:
    octets = openpgp.revoked(BORN.certificate_octets, openpgp.revocation_certificate(BORN, NOW))
    with pytest.raises(KeyRefused, match="revoked, which is for ever"):
        change(BORN.with_certificate(octets))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda: openpgp.extended(BORN, NOW, NOW - DAY), "lie in the future"),
        (lambda: openpgp.extended(BORN, NOW, NOW + 200 * 365 * DAY), "cannot end on"),
        (lambda: openpgp.extended(BORN, THEN - DAY, None), "clock of this machine"),
        (lambda: openpgp.without_user_id(BORN, "nobody@example.org", NOW), "no such user ID"),
    ],
)
def test_what_cannot_be_is_refused(change, text: str) -> None:
    with pytest.raises(KeyRefused, match=text):
        change()
