"""A stolen disk: of all that the proxy has read, sent, found and collected, its home tells nothing."""

from __future__ import annotations

import base64
import stat
from collections.abc import Iterator
from pathlib import Path

from keystore import openpgp
from keystore.model import Trust
from tests.fixtures.digests import cron
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import SECRETS, SUBJECT, introduce, letter, proxy_user
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import SECRETS_PASSPHRASE, ProxyFactory, ProxyHome

MORE = """
search = "presented"

[forward]
via = "sendmail"
sendmail = "/bin/false"
sender = "host@example.org"

[[forward.targets]]
address = "{address}"
fingerprint = "{fingerprint}"

[[forward.digests]]
name = "nightly"
every = "daily"

[[forward.rules]]
name = "all"
do = {{ collect = "nightly" }}
"""


def forms(secret: bytes) -> Iterator[bytes]:
    """As it may stand in a file: as it is, in base64 wherever it begins, in hexadecimal."""
    yield secret
    for skipped in range(3):
        yield base64.b64encode(bytes(skipped) + secret)[4 if skipped else 0 : -4]
    yield secret.hex().encode()
    yield secret.hex().upper().encode()


def secrets_of(home: ProxyHome) -> dict[str, bytes]:
    """What opens mail or accounts: name -> octets."""
    with home.keystore() as keystore:
        found = {"keystore key": base64.b64decode(keystore.hand_over().value)}
        for certificate in keystore.certificates():
            if certificate.holder.value == "own":
                armored = keystore.export(certificate.fingerprint, secret=True)
                (parsed,) = openpgp.parse_keys(armored)
                assert parsed.secret_octets is not None
                public = certificate.octets
                # Of 32 octets, as a scalar has, two of these windows are a part at least.
                for at in range(0, len(parsed.secret_octets) - 16, 8):
                    part = parsed.secret_octets[at : at + 16]
                    if part not in public and len(set(part)) > 10:
                        found[f"octets {at} of {certificate.fingerprint}"] = part
    assert len(found) >= 1 + 2 * 2, "the key's two scalars are there"
    return found


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_stolen_disk_tells_nothing(proxies: ProxyFactory, dovecot: Dovecot) -> None:
    """Read, sent, drafted, searched for, answered, collected: then every file is looked through."""
    alice, bob = (proxy_user(proxies, dovecot.mailbox(name)) for name in ("alice", "bob"))
    introduce(alice, bob)
    bob.home.add_config(MORE.format(address=alice.address, fingerprint=alice.fingerprint))
    with bob.home.keystore() as keystore:
        keystore.set_trust(alice.fingerprint, Trust.VERIFIED)
    bob.home.set_secret(f"password:{bob.address}", bob.mailbox.password)
    alice.send(bob.address, letter(alice.address, bob.address))
    wait_until(bob.mailbox.stored, "delivery")

    assert SECRETS[0] in bob.read()[0]
    with bob.proxy.imap(bob.mailbox, None) as client:
        client.append("Drafts", "(\\Draft)", "", letter(bob.address, alice.address))
        client.select("INBOX")
        assert client.search(None, "TEXT", "windmill") == ("OK", [b"1"])
        assert client.search(None, "SUBJECT", f'"{SUBJECT}"') == ("OK", [b"1"])
    bob.send(alice.address, letter(bob.address, alice.address))
    collected = cron("crooked windmill southwest treasure fiftyseven latitude whereabouts")
    bob.home.run("forward", data=collected)
    assert list(bob.home.folders.collected.iterdir())
    running = looked_through(bob.home)
    assert bob.proxy.stop() == 0
    assert running | looked_through(bob.home) == set()

    permissions = {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in files(bob.home.folders.state)}
    assert permissions == {0}
    # The search itself finds what is there: the passphrase's own file is no part of the state.
    assert SECRETS_PASSPHRASE.encode() in (bob.home.folder / "passphrase").read_bytes()


def looked_through(home: ProxyHome) -> set[tuple[str, str]]:
    """Which secret stands in which file, the log included, but for the file that holds the passphrase."""
    named = {word.decode(): word for word in SECRETS} | secrets_of(home)
    named["passphrase of the secrets"] = SECRETS_PASSPHRASE.encode()
    wanted = {name: set(forms(secret)) for name, secret in named.items()}
    found = set()
    for path in files(home.folder):
        if path == home.folder / "passphrase":
            continue
        content = path.read_bytes()
        lower = content.lower()
        for name, one in wanted.items():
            plain = named[name] in SECRETS
            if any(form in (lower if plain and form == named[name] else content) for form in one):
                found.add((name, path.name))
    return found
