"""FWD-03: warnings and alerts with real certificates: in the log, by mail, once, over restarts."""

from __future__ import annotations

import json
import logging
import os
import resource
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keystore.keystore import Keystore
from keystore.model import Fingerprint
from secmailproxy.errors import UpstreamUnavailable
from secmailproxy.forward.alerting import Alerts, facts_of
from secmailproxy.forward.alerts import BARE_TEXT
from secmailproxy.forward.model import Conditions, Forward, ForwardSettings, Product, Rule, Target
from secmailproxy.mime.assemble import openpgp_ciphertext
from secmailproxy.mime.entity import parse
from tests.fixtures import x509
from tests.fixtures.keystores import credentials, keystore, make_keystore
from tests.fixtures.x509 import Authority

__all__ = ["credentials", "keystore", "make_keystore"]

DAY = timedelta(days=1)
START = datetime.now(UTC).replace(microsecond=0)
SENDER, ADMIN, TRUSTEE = "root@host.example", "admin@example.org", "escrow@example.org"


@dataclass
class Post:
    """A way out that keeps what it takes; it may be closed."""

    products: list[Product] = field(default_factory=list)
    is_closed: bool = False

    def take(self, products: Sequence[Product]) -> None:
        if self.is_closed:
            raise UpstreamUnavailable("closed")
        self.products += products


@dataclass
class Office:
    """Alerts by a clock that the test sets."""

    keystore: Keystore
    settings: ForwardSettings
    folder: Path
    post: Post = field(default_factory=Post)
    now: datetime = START

    @property
    def alerts(self) -> Alerts:
        """As a new process has them."""
        return Alerts(
            lambda: self.settings, self.keystore, lambda _: self.post, self.folder, lambda: self.now
        )

    def warned(self, days: float) -> list[int | None]:
        """The stages that are told so many days after the start."""
        self.now = START + days * DAY
        return [fact.stage(self.now) for fact in self.alerts.warn()]

    def texts(self) -> list[bytes]:
        """What was sent, decrypted."""
        return [self.text(product) for product in self.post.products]

    def text(self, product: Product) -> bytes:
        """Of one that is encrypted, or not."""
        ciphertext = openpgp_ciphertext(parse(product.octets))
        assert (ciphertext is None) is product.is_notice
        return product.octets if ciphertext is None else self.keystore.decrypt(ciphertext, START).octets


@pytest.fixture
def ending(keystore: Keystore) -> Fingerprint:
    """The administrator's certificate, which ends in 40 days."""
    return keystore.generate(ADMIN, now=START - DAY, expires=41 * DAY).fingerprint


@pytest.fixture
def office(keystore: Keystore, ending: Fingerprint, tmp_path: Path) -> Office:
    """One target, who is alerted too."""
    settings = ForwardSettings((Target(ADMIN, (ending,)),), sender=SENDER, via="sendmail", alert=(ADMIN,))
    return Office(keystore, settings, tmp_path / "state")


def test_a_full_disk_is_no_storm_of_alerts(office: Office) -> None:
    """What cannot be remembered to have been said is not said by mail, and is said later."""
    office.now = START + 33 * DAY
    office.folder.mkdir()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        for _ in range(3):
            office.alerts.tell("no encryption key")
            with suppress(OSError):
                office.alerts.warn()
        os._exit(len(office.post.products))
    assert os.waitpid(child, 0)[1] == 0
    for _ in range(3):
        office.alerts.tell("no encryption key")
        office.alerts.warn()
    assert len(office.post.products) == 2


def test_fwd_03_warnings_30_7_1_and_0_days_before_the_end_each_once(
    office: Office, ending: Fingerprint, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        told = {days: office.warned(days) for days in (0, 9.9, 10, 10.1, 20, 32.9, 33, 36, 39, 39.9, 40, 41)}
    assert {days: stages for days, stages in told.items() if stages} == {10: [30], 33: [7], 39: [1], 40: [0]}
    *encrypted, bare = office.post.products
    assert len(encrypted) == 3
    for product in encrypted:
        text = office.text(product)
        assert f"target <{ADMIN}>, certificate {ending}: can be used until".encode() in text
        assert ending.encode() not in product.octets
        assert product.envelope.mail_from == ""
    assert bare.is_notice
    assert bare.octets.endswith(BARE_TEXT.encode())
    records = [record for record in caplog.records if record.message == "certificate of system mail"]
    assert [(vars(one)["days"], vars(one)["certificate"]) for one in records] == [
        *((30, ending), (7, ending), (1, ending), (0, ending))
    ]


def test_fwd_03_of_everything_that_is_used_the_end_is_known(
    keystore: Keystore, ending: Fingerprint, mail_authority: Authority, office: Office
) -> None:
    """Targets of both schemes, the escrow, and the host key for each scheme that is written in."""
    smime = x509.learn(keystore, mail_authority.person("smime@example.org", until=START + 20 * DAY))
    host = keystore.generate(SENDER, now=START - DAY, expires=11 * DAY)
    settings = ForwardSettings(
        (
            Target(ADMIN, (ending, Fingerprint("A" * 40))),
            Target("smime@example.org", ()),
            Target("nobody@example.org", ()),
        ),
        rules=(Rule("one", anything(), anything(), (Forward(sign=True),)),),
        sender=SENDER,
        escrow=Target(TRUSTEE, (host.fingerprint,)),
    )
    facts = facts_of(settings, keystore, START)
    found = [
        (one.role, one.address, one.fingerprint, one.ends and (one.ends - START) / DAY, one.why)
        for one in facts
    ]
    assert found == [
        ("target", ADMIN, ending, None, ""),
        ("target", ADMIN, "A" * 40, None, "no certificate"),
        ("target", "smime@example.org", smime.fingerprint, pytest.approx(20, abs=0.001), ""),
        ("target", "nobody@example.org", "", None, found[3][4]),
        ("escrow", TRUSTEE, host.fingerprint, pytest.approx(10, abs=0.001), ""),
        ("host key", SENDER, host.fingerprint, pytest.approx(10, abs=0.001), ""),
        ("host key", SENDER, "", None, f"no S/MIME key of <{SENDER}> can sign"),
    ]
    assert "none is known" in found[3][4]


def anything() -> Conditions:
    """Every message."""
    return Conditions()


def test_fwd_03_a_cause_is_told_once_a_day_over_restarts(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    for days in (0, 0.5, 0.99, 1.0, 1.5):
        office.now = START + days * DAY
        office.alerts.tell(f"no encryption key for <{TRUSTEE}> (expired)")
    office.alerts.tell("another cause")
    assert len(office.post.products) == 3
    texts = office.texts()
    assert [TRUSTEE.encode() in text for text in texts] == [True, True, False]
    records = [record for record in caplog.records if record.message == "system mail needs attention"]
    assert [vars(one)["why"][:7] for one in records] == ["no encr", "no encr", "another"]


def test_fwd_03_who_has_no_certificate_gets_the_bare_form_and_nobody_asks_for_none(office: Office) -> None:
    office.settings = ForwardSettings(
        office.settings.targets, sender=SENDER, via="smarthost", mark="mark", alert=("x@example.net", ADMIN)
    )
    office.alerts.tell(f"no encryption key for <{TRUSTEE}> (expired)")
    bare, full = office.post.products
    assert bare.octets.startswith(b"X-Loop: mark\r\nFrom: root@host.example\r\nTo: x@example.net\r\n")
    assert bare.octets.endswith(BARE_TEXT.encode())
    assert (bare.is_notice, full.is_notice) == (True, False)
    assert bare.envelope.mail_from == SENDER
    office.settings = ForwardSettings(office.settings.targets, sender=SENDER)
    office.alerts.tell("another cause")
    assert len(office.post.products) == 2


def test_fwd_03_what_could_not_be_sent_is_sent_later(office: Office) -> None:
    office.post.is_closed = True
    office.alerts.tell("a cause")
    with pytest.raises(UpstreamUnavailable):
        office.warned(10)
    office.post.is_closed = False
    office.alerts.tell("a cause")
    assert office.warned(10) == [30]
    assert len(office.post.products) == 2


def test_looking_again_changes_nothing_on_the_disk(office: Office) -> None:
    """A plan by which pipes forward is good as long as the folder is as it was."""
    assert office.warned(10) == [30]
    before = {path.name: path.stat().st_mtime_ns for path in (office.folder, *office.folder.iterdir())}
    assert office.warned(10.1) == []
    assert before == {
        path.name: path.stat().st_mtime_ns for path in (office.folder, *office.folder.iterdir())
    }


@pytest.mark.parametrize(
    "damage", [b"", b"[]", b'{"warnings": 1}', b"\xff", b'{"warnings": {}, "causes": {"a": "b"}}']
)
def test_a_damaged_memory_is_begun_anew(office: Office, damage: bytes) -> None:
    assert office.warned(10) == [30]
    file = office.folder / "system-mail-alerts.json"
    assert json.loads(file.read_bytes())["warnings"]
    file.write_bytes(damage)
    assert office.warned(10) == [30]
    assert office.warned(10) == []


def test_fwd_03_of_many_processes_at_once_one_speaks(office: Office) -> None:
    def tell() -> None:
        office.alerts.tell("a cause")

    threads = [threading.Thread(target=tell) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(office.post.products) == 1
