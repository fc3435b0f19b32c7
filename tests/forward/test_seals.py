"""What system mail becomes: whole inside, for those who were pinned; or held; or nothing leaves.

gpg and openssl read it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keystore.errors import StoreLocked
from keystore.keystore import Keystore, KeystoreSettings
from keystore.model import Fingerprint, Scheme
from keystore.secrets import SystemdSecrets
from keystore.vault import KEY_NAME
from keystore.wrap import new_key
from secmailproxy.errors import NoUsableCertificate, SigningKeyUnusable
from secmailproxy.forward.digest import sheets
from secmailproxy.forward.digestmail import digest_mail
from secmailproxy.forward.message import from_pipe
from secmailproxy.forward.model import Entrance, Forward, ForwardSettings, Product, SystemMail, Target
from secmailproxy.forward.seals import KeystoreSeals
from secmailproxy.inbound import unprotect
from secmailproxy.mime import header
from secmailproxy.mime.assemble import openpgp_ciphertext
from secmailproxy.mime.canonical import crlf
from secmailproxy.mime.entity import parse, parse_or_leaf
from secmailproxy.mime.system import SUBJECT
from secmailproxy.mime.transfer import decoded_body
from secmailproxy.model import DecryptionState, Verdict
from secmailproxy.stamp import Stamp
from tests.fixtures.digests import collected, taken_out
from tests.fixtures.gnupg import GnuPG, opened_by
from tests.fixtures.x509 import Authority, Issued, OpenSSL, own

HOST, SENDER, ADMIN = "host.example", "root@host.example", "admin@example.org"
CORPUS = sorted((Path(__file__).parent.parent / "corpus").glob("*.eml"))
MAIL = (
    b"Return-Path: <root@host.example>\r\nFrom: root (Cron Daemon)\r\nTo: root\r\n"
    b"Subject: Cron <root@host> rm -rf /secret\r\nX-Cron-Env: <PASSWORD=secret>\r\n\r\nsecret\r\n"
)
AWKWARD = [
    b"A: b\n\nno line end",
    b"From root@x Thu Jan  1 00:00:00 2026\nA: b\n\n8-bit \xfc\xff\n",
    b"A: b\r\n\r\nFrom here\r\n.\r\ntrailing \r\n",
    b"A: b\r\n\r\nbare\nand\r\0\r\n",
    b"A: b\n\nbare\rin LF\r\n\xc3\x28 not UTF-8\n",
    b"A: b\n\n" + b"x" * 5000,
    b"A: b\n",
]
CLOCK = datetime.now(UTC)
PLAIN, SIGNED = Forward(), Forward(sign=True)


@pytest.fixture(scope="module")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keystore]:
    """With a key of the host and one of the administrator, whose secret half is here to look inside."""
    credentials = tmp_path_factory.mktemp("credentials")
    (credentials / KEY_NAME).write_text(base64.b64encode(new_key()).decode())
    settings = KeystoreSettings(tmp_path_factory.mktemp("keystore") / "store")
    with closing(Keystore.open(settings, SystemdSecrets(credentials))) as opened:
        for address in (SENDER, ADMIN):
            opened.generate(address, now=CLOCK - timedelta(days=1))
        yield opened


@pytest.fixture(scope="module")
def smime_admin(keystore: Keystore, mail_authority: Authority) -> Issued:
    """Another administrator, with S/MIME."""
    return own(keystore, mail_authority.person("smime@example.org", "rsa2048", 7))


def fingerprint(keystore: Keystore, address: str) -> Fingerprint:
    """Of the only certificate of an address."""
    (found,) = keystore.certificates(address)
    return found.fingerprint


def target(keystore: Keystore, address: str = ADMIN) -> Target:
    """An address with its certificate pinned."""
    return Target(address, (fingerprint(keystore, address),))


def seal(
    keystore: Keystore,
    octets: bytes,
    *targets: Target,
    action: Forward = PLAIN,
    mail_from: str = SENDER,
    now: datetime = CLOCK,
    **settings: object,
) -> tuple[Product, ...]:
    """The products; default: for the administrator."""
    chosen = ForwardSettings(**{"sender": SENDER, "via": "sendmail", "mark": "mark", **settings})  # type: ignore[arg-type]  # options of the tests
    mail = SystemMail(octets, mail_from, (), Entrance.PIPE)
    return KeystoreSeals(keystore, chosen, lambda: now).seal(mail, action, targets or (target(keystore),))


def inside(keystore: Keystore, octets: bytes) -> bytes:
    """The payload of a product of OpenPGP."""
    ciphertext = openpgp_ciphertext(parse(octets))
    assert ciphertext is not None
    return keystore.decrypt(ciphertext, datetime.now(UTC)).octets


def embedded(payload: bytes) -> bytes:
    """What follows the header of a payload."""
    return payload.partition(b"\r\n\r\n")[2]


@given(st.binary(max_size=300), st.booleans())
@example(b"\0", True)
@example(b"\r", False)
def test_fwd_02_any_octets_come_back(keystore: Keystore, octets: bytes, is_crlf: bool) -> None:
    """A message whose first line ends in LF gets CRLF at every LF that has none; all else is untouched."""
    brought = (b"A: b\r\n\r\n" if is_crlf else b"A: b\n\n") + octets
    expected = (
        brought if is_crlf else b"A: b\r\n\r\n" + octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    )
    (product,) = seal(keystore, from_pipe(brought))
    assert embedded(inside(keystore, product.octets)) == expected


def test_fwd_02_gnupg_reads_every_file_of_the_corpus_octet_for_octet(
    keystore: Keystore, gnupg_home: Callable[..., GnuPG]
) -> None:
    gnupg = gnupg_home()
    gnupg.take(keystore.export(fingerprint(keystore, ADMIN), secret=True))
    originals = [path.read_bytes() for path in CORPUS] + AWKWARD
    assert len(CORPUS) > 8
    for octets in originals:
        message = from_pipe(octets)
        assert message == crlf(octets.removeprefix(b"From root@x Thu Jan  1 00:00:00 2026\n"))
        (product,) = seal(keystore, message)
        plaintext, _ = opened_by(gnupg, product.octets)
        assert embedded(plaintext) == message
        assert parse_or_leaf(plaintext).content_type.full == "message/rfc822"


def test_fwd_02_a_digest_is_the_payload_itself_and_gnupg_reads_every_message_in_it(
    keystore: Keystore, smime_admin: Issued, openssl: OpenSSL, gnupg_home: Callable[..., GnuPG]
) -> None:
    """Nobody has to open an attachment to see it; outside, nothing says how many messages there were."""
    originals = [from_pipe(octets) for octets in [path.read_bytes() for path in CORPUS] + AWKWARD]
    (sheet,) = sheets(collected(*originals))
    stamp = Stamp(datetime(2026, 11, 21, 12, tzinfo=UTC), "=-" + "7" * 40, "<1@host.example>")
    octets = digest_mail("nightly", sheet, SENDER, stamp, UTC)
    seals = KeystoreSeals(
        keystore, ForwardSettings(sender=SENDER, via="sendmail", mark="mark"), lambda: CLOCK
    )
    both = (target(keystore), Target("smime@example.org", (Fingerprint(smime_admin.fingerprint),)))
    products = seals.seal(SystemMail(octets, "", (), Entrance.OWN), Forward(), both)
    gnupg = gnupg_home()
    gnupg.take(keystore.export(fingerprint(keystore, ADMIN), secret=True))
    opened = opened_by(gnupg, products[0].octets)[0], openssl.decrypt(products[1].octets, smime_admin)
    for product, plaintext in zip(products, opened, strict=True):
        root = parse(plaintext)
        assert root.content_type.full == "multipart/mixed"
        assert (header.text(root, "Subject") or "").startswith(f"Digest nightly: {len(originals)} messages, ")
        assert sorted(taken_out(plaintext)) == sorted(originals)
        assert b"igest" not in product.octets
        assert product.envelope.mail_from == ""


def test_fwd_02_openssl_reads_it_octet_for_octet(
    keystore: Keystore, smime_admin: Issued, openssl: OpenSSL
) -> None:
    for octets in (MAIL, *AWKWARD):
        message = from_pipe(octets)
        (product,) = seal(
            keystore, message, Target("smime@example.org", (Fingerprint(smime_admin.fingerprint),))
        )
        assert b"secret" not in product.octets
        assert embedded(openssl.decrypt(product.octets, smime_admin)) == message


def test_fwd_08_the_outside_is_the_allow_list_and_tells_nothing(
    keystore: Keystore, smime_admin: Issued
) -> None:
    products = seal(keystore, MAIL, target(keystore), target(keystore, "smime@example.org"))
    assert len(products) == 2
    for product in products:
        assert b"secret" not in product.octets.lower()
        names = [field.name for field in parse(product.octets).fields]
        assert names[:8] == [
            *("From", "To", "Date", "Message-ID", "Subject", "Auto-Submitted", "X-Loop", "MIME-Version")
        ]
        assert all(name.startswith("Content-") for name in names[8:])
        assert SUBJECT in product.octets


def addressed(products: tuple[Product, ...]) -> list[tuple[str, ...]]:
    """Who gets which product."""
    return [product.envelope.rcpt_tos for product in products]


def test_targets_share_a_message_where_the_envelope_says_as_much(
    keystore: Keystore, smime_admin: Issued
) -> None:
    """One scheme and one domain: one message; else none learns of another."""
    pins = fingerprint(keystore, ADMIN), fingerprint(keystore, SENDER)
    one, two = Target(ADMIN, pins[:1]), Target("second@Example.org", pins)
    far, smime = Target("far@example.net", pins[:1]), target(keystore, "smime@example.org")
    products = seal(keystore, MAIL, one, far, two, smime)
    assert addressed(products) == [
        (ADMIN, "second@Example.org"),
        ("far@example.net",),
        ("smime@example.org",),
    ]
    shared, lonely, _ = (parse(product.octets) for product in products)
    assert header.value(shared, "To") == b"admin@example.org, second@Example.org"
    assert b"example.org" not in b"".join(field.raw(lonely.octets) for field in lonely.fields)
    ciphertexts = [openpgp_ciphertext(root) or b"" for root in (shared, lonely)]
    assert [len(keystore.addressees(one)) for one in ciphertexts] == [2, 1]


@pytest.mark.parametrize(
    ("mail_from", "via", "expected"),
    [
        ("", "sendmail", ""),
        ("", "smtp", ""),
        ("", "smarthost", SENDER),
        ("evil@example.net", "sendmail", SENDER),
        ("evil@example.net", "smarthost", SENDER),
    ],
)
def test_the_envelope_sender_is_ours_or_null(
    keystore: Keystore, mail_from: str, via: str, expected: str
) -> None:
    (product,) = seal(keystore, MAIL, mail_from=mail_from, via=via)
    assert product.envelope.mail_from == expected


def test_fwd_05_what_is_encrypted_already_is_passed_on_to_all(keystore: Keystore) -> None:
    (first,) = seal(keystore, MAIL)
    (second,) = seal(keystore, first.octets, target(keystore), Target("x@example.net", ()), mark="m2")
    assert second.octets == b"X-Loop: m2\r\n" + first.octets.replace(b"X-Loop: mark\r\n", b"")
    assert addressed((second,)) == [(ADMIN, "x@example.net")]


ENDED = CLOCK + timedelta(days=3)


@pytest.fixture(scope="module")
def ending(keystore: Keystore) -> Fingerprint:
    """A certificate that ends in two days."""
    return keystore.generate("ending@example.org", now=CLOCK, expires=timedelta(days=2)).fingerprint


ABSENT = Target("absent@example.org", (Fingerprint("A" * 40),))
NONE_KNOWN = Target("nobody@example.org", ())


@pytest.mark.parametrize("lacking", [ABSENT, NONE_KNOWN, "expired", "rejected algorithm"])
@pytest.mark.parametrize("others", ["alone", "beside another"])
@pytest.mark.parametrize("escrow", ["none", "usable", "ended"])
def test_fwd_03_without_a_usable_certificate_it_is_deferred_or_held(
    keystore: Keystore,
    ending: Fingerprint,
    mail_authority: Authority,
    lacking: Target | str,
    others: str,
    escrow: str,
) -> None:
    """The truth table: a usable escrow gets what others cannot read, held; without one nothing leaves."""
    if lacking == "expired":
        lacking = Target("ending@example.org", (ending,))
    elif isinstance(lacking, str):
        weak = learn_weak(keystore, mail_authority)
        lacking = Target("weak@example.org", (weak,))
    trustees = {
        "none": None,
        "usable": Target("escrow@example.net", (fingerprint(keystore, SENDER),)),
        "ended": Target("escrow@example.net", (ending,)),
    }
    targets = (lacking,) if others == "alone" else (target(keystore), lacking)
    if escrow != "usable":
        with pytest.raises(NoUsableCertificate, match=f"no encryption key for <{lacking.address}>") as raised:
            seal(keystore, MAIL, *targets, now=ENDED, escrow=trustees[escrow])
        assert "secret" not in raised.value.text
        return
    *sent, held = seal(keystore, MAIL, *targets, now=ENDED, escrow=trustees[escrow])
    assert addressed(tuple(sent)) == ([(ADMIN,)] if others == "beside another" else [])
    assert not any(product.held for product in sent)
    assert held.held.startswith(f"no encryption key for <{lacking.address}>")
    assert addressed((held,)) == [("escrow@example.net",)]
    assert lacking.address.encode() not in held.octets
    assert embedded(inside(keystore, held.octets)) == MAIL


def learn_weak(keystore: Keystore, authority: Authority) -> Fingerprint:
    """A certificate with a key that policy does not allow."""
    person = authority.person("weak@example.org", "rsa1024")
    keystore.import_keys(person.pem, source="a test")
    return Fingerprint(person.fingerprint)


def test_fwd_03_what_two_targets_lack_is_held_once(keystore: Keystore) -> None:
    trustee = Target("escrow@example.net", (fingerprint(keystore, SENDER),))
    (held,) = seal(keystore, MAIL, ABSENT, NONE_KNOWN, escrow=trustee)
    assert ABSENT.address in held.held
    assert NONE_KNOWN.address in held.held


def test_a_signed_message_is_valid_for_us_and_good_for_gnupg(
    keystore: Keystore, gnupg_home: Callable[..., GnuPG]
) -> None:
    (product,) = seal(keystore, MAIL, action=SIGNED)
    read = unprotect(product.octets, keystore, datetime.now(UTC), "Secmail-Verdict-1")
    assert (read.summary.verdict, read.summary.signer) == (Verdict.VALID, SENDER)
    assert read.summary.decryption is DecryptionState.OK
    assert read.presented is not None
    assert MAIL in read.presented
    gnupg = gnupg_home()
    gnupg.take(keystore.export(fingerprint(keystore, ADMIN), secret=True))
    gnupg.take(keystore.export(fingerprint(keystore, SENDER)))
    _, status = opened_by(gnupg, product.octets)
    assert f"[GNUPG:] VALIDSIG {fingerprint(keystore, SENDER)}" in status


def test_a_host_key_signs_for_its_own_address(keystore: Keystore) -> None:
    """Readers believe a signature for the addresses of its key alone."""
    chosen = fingerprint(keystore, SENDER)
    (product,) = seal(keystore, MAIL, action=SIGNED, sender="bounces@host.example", host_key=chosen)
    assert product.envelope.mail_from == "bounces@host.example"
    read = unprotect(product.octets, keystore, datetime.now(UTC), "Secmail-Verdict-1")
    assert (read.summary.verdict, read.summary.signer) == (Verdict.VALID, SENDER)


@pytest.mark.parametrize("octets", [MAIL, *AWKWARD[1:5]])
def test_a_signed_message_of_smime_is_verified_by_openssl_and_by_us(
    octets: bytes, keystore: Keystore, smime_admin: Issued, mail_authority: Authority, openssl: OpenSSL
) -> None:
    smime = target(keystore, "smime@example.org")
    options = {"sender": "smime@example.org", "host_key": fingerprint(keystore, SENDER)}
    (product,) = seal(keystore, from_pipe(octets), smime, action=SIGNED, **options)
    content = openssl.verify(openssl.decrypt(product.octets, smime_admin), mail_authority.above[0])
    payload = parse(content)
    is_encoded = payload.content_type.full == "message/global"
    assert is_encoded is (octets in AWKWARD[3:])
    assert (decoded_body(payload) if is_encoded else payload.body) == from_pipe(octets)
    read = unprotect(product.octets, keystore, datetime.now(UTC), "Secmail-Verdict-1")
    assert read.summary.scheme is Scheme.SMIME
    assert (read.summary.verdict, read.summary.signer) == (Verdict.VALID, "smime@example.org")


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        ({"sender": "other@host.example"}, "no OpenPGP key of <other@host.example> can sign"),
        ({"host_key": "A" * 40}, "no secret key for forward.host_key A{40}"),
        ({"now": ENDED, "sender": "ending@example.org"}, "ending@example.org> can sign .*expired"),
    ],
)
def test_without_a_key_that_signs_nothing_leaves(
    keystore: Keystore, ending: Fingerprint, settings: dict[str, object], refusal: str
) -> None:
    with pytest.raises(SigningKeyUnusable, match=refusal):
        seal(keystore, MAIL, action=SIGNED, **settings)  # type: ignore[arg-type]  # options of the tests


def test_a_host_key_that_has_ended_does_not_sign(keystore: Keystore, ending: Fingerprint) -> None:
    with pytest.raises(SigningKeyUnusable, match="cannot sign: expired"):
        seal(keystore, MAIL, action=SIGNED, now=ENDED, host_key=ending)


def test_fwd_01_a_locked_keystore_encrypts_and_does_not_sign(keystore: Keystore, tmp_path: Path) -> None:
    """Which is StoreLocked: the pipe ends with 75, and the message comes again."""
    locked = KeystoreSettings(tmp_path / "store")
    key = base64.b64encode(new_key()).decode()
    (tmp_path / KEY_NAME).write_text(key)
    with closing(Keystore.open(locked, SystemdSecrets(tmp_path))) as opened:
        opened.generate(SENDER)
        opened.import_keys(keystore.export(fingerprint(keystore, ADMIN)), source="a test")
    (tmp_path / KEY_NAME).unlink()
    with closing(Keystore.open(locked, SystemdSecrets(tmp_path))) as opened:
        (product,) = seal(opened, MAIL)
        assert embedded(inside(keystore, product.octets)) == MAIL
        with pytest.raises(StoreLocked):
            seal(opened, MAIL, action=SIGNED, now=datetime.now(UTC))
