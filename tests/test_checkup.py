"""The checks of `doctor` that depend on time and on what the keystore holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keystore.keystore import Keystore
from keystore.secrets import open_secrets
from secmailproxy.checkup import Check, check_all, worst
from secmailproxy.config import Config
from secmailproxy.errands.spool import Spool
from secmailproxy.folders import Folders
from secmailproxy.localtls import KEY_SECRET, VALID_FOR, LocalTls
from secmailproxy.status import status_of
from tests.fixtures.quicksecrets import quick_secrets
from tests.fixtures.x509 import DAY, NOW, Authority, own
from tests.smtp.test_notification import NOTIFICATION

ADDRESS = "alice@example.test"
CONFIG = f"""
[secrets]
backend = "file"
[[accounts]]
address = "{ADDRESS}"
imap = {{ host = "127.0.0.1", port = 1 }}
smtp = {{ host = "127.0.0.1", port = 1 }}
"""


def passphrase() -> str:
    return "open"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    folders = Folders(tmp_path / "c" / "config.toml", tmp_path / "s", tmp_path / "k")
    quick_secrets(folders.secrets_file, passphrase())
    return Config.parse(CONFIG.encode(), folders)


@pytest.fixture
def keystore(config: Config) -> Iterator[Keystore]:
    config.folders.prepare()
    opened = Keystore.open(config.keystore_settings(), open_secrets(config.secrets_settings(passphrase)))
    yield opened
    opened.close()


def findings(config: Config) -> dict[str, Check]:
    return {check.name: check for check in check_all(config, passphrase, datetime.now(UTC))}


@pytest.mark.parametrize(
    ("expires", "state", "text"),
    [
        (None, "ok", "never expires"),
        (timedelta(days=31), "ok", "expires 2"),
        (timedelta(days=30), "warn", "in 29 days"),
        (timedelta(days=1, hours=1), "warn", "in 1 days"),
    ],
)
def test_expiry(config: Config, keystore: Keystore, expires: timedelta | None, state: str, text: str) -> None:
    keystore.generate(ADDRESS, now=datetime.now(UTC), expires=expires)
    found = findings(config)
    assert (found["key"].state, text in found["key"].text) == (state, True), found["key"]
    assert found["round trip"].state == "ok", found["round trip"]
    assert bool(found["key"].remedy) is (state != "ok")


def test_a_subkey_that_ends_sooner_is_the_end_of_the_key(config: Config, keystore: Keystore) -> None:
    """As `status` and the reminder in the INBOX have it."""
    now = datetime.now(UTC)
    own = keystore.generate(ADDRESS, now=now)
    soon = now + timedelta(days=5)
    keystore.own_keys.rotate(own.fingerprint, now, expires=soon, overlap=timedelta(days=1))
    check = findings(config)["key"]
    assert (check.state, check.remedy) == ("warn", f"secmailproxy key extend {own.fingerprint}")
    assert f"expires {soon:%Y-%m-%d}, in 4 days" in check.text


def test_an_expired_key_fails(config: Config, keystore: Keystore) -> None:
    then, life = datetime.now(UTC) - timedelta(days=10), timedelta(days=5)
    fingerprint = keystore.generate(ADDRESS, now=then, expires=life).fingerprint
    found = findings(config)["key"]
    assert (found.state, "expired" in found.text) == ("fail", True)
    assert f"run: secmailproxy key extend {fingerprint}, or" in found.remedy
    keystore.own_keys.revoke(fingerprint, "none", datetime.now(UTC))
    assert f"run: secmailproxy key generate {ADDRESS}, or" in findings(config)["key"].remedy


def test_without_a_key_and_password(config: Config, keystore: Keystore) -> None:
    found = findings(config)
    assert (found["key"].state, found["password"].state) == ("fail", "warn")
    assert (found["IMAP server"].state, found["smarthost"].state) == ("warn", "warn")
    assert "round trip" not in found


def test_a_key_for_another_address_is_named(config: Config, keystore: Keystore) -> None:
    """A mistaken address, or a .p12 file for another one: the person hears of it."""
    keystore.generate("another@example.org", now=datetime.now(UTC))
    found = findings(config)["key"]
    assert found.state == "fail"
    assert found.remedy.endswith("(keys here are for another@example.org)")


def test_notifications_that_wait_are_named(config: Config, keystore: Keystore) -> None:
    """SMTP-10: also while the keystore is locked."""
    assert "notifications" not in findings(config)
    spool = Spool(config.folders.notifications, keystore)
    since = datetime(2026, 11, 20, 12, tzinfo=UTC)
    for name, age in (("a", 0), ("b", 2)):
        spool.put(name, replace(NOTIFICATION, account=ADDRESS), since - timedelta(hours=age))
    (found,) = [
        one for one in check_all(config, lambda: "shut", datetime.now(UTC)) if one.name == "notifications"
    ]
    assert (found.account, found.state) == (ADDRESS, "warn")
    assert found.text.startswith("2 about mail")
    assert found.text.endswith("2026-11-20 10:00")


def test_a_wrong_passphrase_ends_the_checkup(config: Config, keystore: Keystore) -> None:
    assert not keystore.locked
    found = list(check_all(config, lambda: "shut", datetime.now(UTC)))
    assert [(check.name, check.state) for check in found] == [("config", "ok"), ("secrets", "fail")]


@pytest.mark.parametrize(
    ("states", "expected"),
    [([], "ok"), (["ok"], "ok"), (["ok", "warn"], "warn"), (["fail", "warn", "ok"], "fail")],
)
def test_the_worst_counts(states: list[str], expected: str) -> None:
    assert worst([Check("x", "", state, "") for state in states]) == expected  # type: ignore[arg-type]  # literals


@pytest.mark.parametrize(
    ("age", "state", "text"),
    [
        (timedelta(), "ok", "localhost, 127.0.0.1, ::1, expires 2"),
        (VALID_FOR - timedelta(days=29), "warn", "in 28 days"),
        (VALID_FOR + timedelta(days=1), "fail", "expired 2"),
    ],
)
def test_the_certificate_of_the_listeners(
    config: Config, keystore: Keystore, age: timedelta, state: str, text: str
) -> None:
    """Nothing of it where there is none."""
    assert "certificate" not in findings(config)
    secrets = open_secrets(config.secrets_settings(passphrase))
    LocalTls(config.folders.certificate, secrets).make(datetime.now(UTC) - age)
    found = findings(config)["certificate"]
    assert (found.state, text in found.text) == (state, True), found
    assert ("certificate renew" in found.remedy) is (state != "ok")
    secrets.delete(KEY_SECRET)
    found = findings(config)["certificate"]
    assert (found.state, KEY_SECRET in found.text) == ("fail", True)


def test_a_listener_with_tls_lacks_its_certificate(config: Config, keystore: Keystore) -> None:
    text = f'[listen]\nimaps = "127.0.0.1:1993"\n{CONFIG}'
    found = findings(Config.parse(text.encode(), config.folders))["certificate"]
    assert (found.state, "certificate create" in found.remedy) == ("fail", True)


@pytest.mark.parametrize(
    ("left", "state", "text"), [(40, "ok", "expires 2"), (5, "warn", "in 4 days")], ids=["long", "short"]
)
def test_an_smime_key_is_checked_too(
    config: Config, keystore: Keystore, mail_authority: Authority, left: int, state: str, text: str
) -> None:
    own(keystore, mail_authority.person(ADDRESS, "p256", until=NOW + left * DAY))
    found = findings(config)
    assert (found["S/MIME key"].state, text in found["S/MIME key"].text) == (state, True), found
    assert found["S/MIME round trip"].state == "ok", found["S/MIME round trip"]
    assert "key" not in found
    keystore.generate(ADDRESS)
    found = findings(config)
    assert {"key", "round trip", "S/MIME key", "S/MIME round trip"} <= set(found)


@pytest.mark.parametrize(
    ("expires", "state", "text"),
    [
        (None, "ok", "can be used"),
        (timedelta(days=29), "warn", "can be used until 2"),
        (timedelta(seconds=1), "fail", "expired (on 2"),
    ],
)
def test_fwd_03_doctor_and_status_tell_of_the_certificates_of_system_mail(
    config: Config, keystore: Keystore, expires: timedelta | None, state: str, text: str
) -> None:
    admin = keystore.generate("admin@example.org", now=NOW - DAY, expires=expires and DAY + expires)
    if state == "fail":
        admin = keystore.generate("old@example.org", now=NOW - 3 * DAY, expires=DAY)
    toml = f'[[forward.targets]]\naddress = "a@b.example"\nfingerprint = "{admin.fingerprint}"\n'
    watched = Config.parse((CONFIG + toml).encode(), config.folders)
    found = findings(watched)["system mail"]
    assert (found.state, bool(found.remedy)) == (state, state != "ok")
    assert found.text.startswith(f"target <a@b.example>, certificate {admin.fingerprint}: {text}")
    problems = [one for one in status_of(watched, datetime.now(UTC)).problems if "system mail" in one]
    advice = "; `secmailproxy doctor` says what to do"
    assert problems == ([] if state == "ok" else [f"system mail: {found.text}{advice}"])


@pytest.mark.parametrize(
    ("content", "state", "text"),
    [
        (b"root: a@b.example\n", "ok", ""),
        (b"root: a@b.example\nno alias\n\n+auto.aliases\n# \xfc\n", "warn", "no alias in {}, line 2, 4"),
        (b"x\n" * 6, "warn", "no alias in {}, line 1, 2, 3, 4, 5 and others"),
        (None, "fail", "cannot read the aliases in {}: Is a directory"),
    ],
)
def test_mistakes_in_the_aliases_are_told(
    config: Config, keystore: Keystore, tmp_path: Path, content: bytes | None, state: str, text: str
) -> None:
    path, admin = tmp_path / "aliases", keystore.generate("admin@example.org")
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    toml = f'[forward]\naliases = "{path}"\n[[forward.targets]]\naddress = "a@b.example"\n'
    toml += f'fingerprint = "{admin.fingerprint}"\n'
    found = findings(Config.parse((CONFIG + toml).encode(), config.folders)).get("aliases")
    if state == "ok":
        assert found is None
        return
    assert found is not None
    assert (found.state, bool(found.remedy)) == (state, True)
    assert found.text.startswith(text.format(path))
