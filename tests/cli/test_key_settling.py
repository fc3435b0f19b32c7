"""`secmailproxy key settle` and `key peers`, and what `status` says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click.testing
import pytest
import segno

from keystore import openpgp
from keystore.keystore import Keystore
from keystore.model import Trust
from keystore.peers import PeerSeen
from secmailproxy.cli import program
from secmailproxy.cli.context import Passphrase
from secmailproxy.cli.key.common import opened

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
BOB = "bob@example.org"
FIRST, SECOND, THIRD = (openpgp.generate(BOB, now=NOW - age * DAY) for age in (9, 5, 1))
ENDED = openpgp.generate(BOB, now=NOW - 20 * DAY, expires=10 * DAY)

Run = Callable[..., str]


@pytest.fixture
def run(home: Path) -> Run:
    """Run a command in this process; what it says."""

    def call(*words: str, data: bytes = b"", code: int = 0) -> str:
        result = click.testing.CliRunner().invoke(program, words, input=data)
        assert result.exit_code == code, (result.stdout, result.stderr)
        return result.stdout + result.stderr

    return call


@pytest.fixture
def bring(run: Run) -> Callable[..., None]:
    def call(*keys: openpgp.SecretKey) -> None:
        for key in keys:
            run("key", "import", "-", data=openpgp.armor(key.certificate_octets, "PUBLIC KEY BLOCK"))

    return call


def shown(run: Run) -> dict[str, str]:
    """Fingerprint -> state."""
    document = json.loads(run("key", "settle", BOB, "--json"))
    assert document["version"] == 1
    return {one["fingerprint"]: one["state"] for one in document["certificates"]}


def test_both_are_shown_and_one_command_settles_it(run: Run, bring: Callable[..., None]) -> None:
    bring(FIRST, SECOND)
    text = run("key", "settle", BOB)
    assert text.index("in use") < text.index("held since")
    assert "telephone" not in text
    assert f"key settle {BOB} --take FINGERPRINT" in text
    assert shown(run) == {FIRST.fingerprint: "in use", SECOND.fingerprint: "held"}
    assert f"problem   {BOB}: another certificate than before came on {NOW:%Y-%m-%d}" in run("status", code=3)
    assert run("key", "settle", BOB, "--take") == f"{SECOND.fingerprint} is used for {BOB} from now on\n"
    assert shown(run) == {SECOND.fingerprint: "in use", FIRST.fingerprint: "set aside"}
    assert "nothing to settle" in run("key", "settle", BOB)
    assert "another certificate" not in run("status", code=3)


def test_lists_say_what_waits(run: Run, bring: Callable[..., None]) -> None:
    bring(FIRST, SECOND)
    told = f"not used for {BOB}, which has another one: secmailproxy key settle {BOB}"
    listed = run("key", "list").split("\n\n")
    assert [told in one for one in listed] == [SECOND.fingerprint in one for one in listed]
    assert f"held  {told}" in run("key", "show", SECOND.fingerprint)
    (shown,) = json.loads(run("key", "show", SECOND.fingerprint, "--json"))["keys"]
    assert shown["held_for"] == [BOB]
    run("key", "settle", BOB, "--keep")
    assert told not in run("key", "list")


def test_the_old_one_is_kept(run: Run, bring: Callable[..., None]) -> None:
    bring(FIRST, SECOND)
    assert "nothing has changed" in run("key", "settle", BOB, "--keep")
    assert shown(run) == {FIRST.fingerprint: "in use", SECOND.fingerprint: "set aside"}
    assert "there is nothing to settle" in run("key", "settle", BOB, "--keep")
    # Whoever changes their mind names the certificate, as people write fingerprints.
    spaced = " ".join(SECOND.fingerprint[at : at + 4] for at in range(0, 40, 4)).lower()
    run("key", "settle", BOB, "--take", spaced)
    assert shown(run)[SECOND.fingerprint] == "in use"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--take", "--keep"), 64, "not both"),
        (("--take",), 64, "2 certificates wait"),
        (("--take", "A" * 40), 65, "no certificate"),
    ],
)
def test_what_cannot_be_settled_so(
    run: Run, bring: Callable[..., None], words: tuple[str, ...], code: int, said: str
) -> None:
    bring(FIRST, SECOND, THIRD)
    assert said in run("key", "settle", BOB, *words, code=code)
    assert shown(run)[FIRST.fingerprint] == "in use"


def test_an_address_without_certificate(run: Run) -> None:
    (line,) = run("key", "settle", BOB).splitlines()
    assert line.startswith(
        f"there is no certificate for {BOB}; to look for one: secmailproxy key find {BOB};"
    )


def test_peers(run: Run, bring: Callable[..., None]) -> None:
    assert "no correspondents yet" in run("key", "peers")
    bring(FIRST, SECOND)
    with opened(Passphrase()) as keystore:
        assert isinstance(keystore, Keystore)
        keystore.set_trust(FIRST.fingerprint, Trust.VERIFIED)
        keystore.peers.seen(
            PeerSeen(BOB, NOW - DAY, FIRST.fingerprint, encrypted=True),
            PeerSeen(BOB, NOW, written=True),
            PeerSeen("carol@example.org", NOW - DAY),
        )
    text = run("key", "peers")
    assert f"{BOB}\n    2 messages, first seen {NOW - DAY:%Y-%m-%d}, last seen {NOW:%Y-%m-%d}" in text
    assert f"OpenPGP {FIRST.fingerprint}, verified" in text
    assert f"secmailproxy key settle {BOB}" in text
    document = json.loads(run("key", "peers", "bob", "--json"))
    [peer] = document["peers"]
    assert (peer["address"], peer["count"], peer["conflict"]) == (BOB, 2, True)
    assert peer["certificates"] == [
        {"scheme": "openpgp", "fingerprint": FIRST.fingerprint, "trust": "verified"}
    ]
    assert "No correspondent" in run("key", "peers", "dave", code=69)


def test_an_introducer(run: Run, bring: Callable[..., None]) -> None:
    bring(FIRST)
    assert "nobody's word" in run("key", "introducer")
    said = run("key", "introducer", FIRST.fingerprint, "--domain", "Example.ORG", "--domain", "x.example")
    assert said == f"{FIRST.fingerprint} for example.org, x.example\n"
    document = json.loads(run("key", "introducer", "--json"))
    assert [one["domains"] for one in document["introducers"]] == [["example.org", "x.example"]]
    assert run("key", "introducer", FIRST.fingerprint) == f"{FIRST.fingerprint} for everybody\n"
    assert "nobody's word" in run("key", "introducer", FIRST.fingerprint, "--remove")
    assert "Give the fingerprint" in run("key", "introducer", "--remove", code=64)


def test_what_was_scanned_is_verified_and_used(run: Run, bring: Callable[..., None]) -> None:
    """Also where it was held: both people have looked at it."""
    bring(FIRST, SECOND)
    run("key", "generate", "alice@example.org")
    said = run("key", "verify", BOB, "--own", "alice@example.org")
    assert "yours:" in said
    assert FIRST.fingerprint[:4] in said
    assert "--scanned" in said
    assert shown(run)[SECOND.fingerprint] == "held"
    assert "is verified" in run("key", "verify", BOB, "--scanned", f"openpgp4fpr:{SECOND.fingerprint}")
    assert shown(run) == {SECOND.fingerprint: "in use", FIRST.fingerprint: "set aside"}
    document = json.loads(run("key", "verify", BOB, "--own", "alice@example.org", "--json"))
    assert (document["other"], document["verified"]) == (SECOND.fingerprint, False)
    assert document["own_qr"] == f"OPENPGP4FPR:{document['own']}"
    [listed] = json.loads(run("key", "list", SECOND.fingerprint, "--json"))["keys"]
    assert listed["trust"] == "verified"


@pytest.mark.parametrize(
    ("scanned", "code", "said"), [("A" * 40, 65, "none of the certificates"), ("AB12", 64, "whole")]
)
def test_what_does_not_match_verifies_nothing(
    run: Run, bring: Callable[..., None], scanned: str, code: int, said: str
) -> None:
    bring(FIRST)
    assert said in run("key", "verify", BOB, "--scanned", scanned, code=code)
    [listed] = json.loads(run("key", "list", BOB, "--json"))["keys"]
    assert listed["trust"] == "known"


def test_where_none_is_in_use_the_command_that_decides_is_told(run: Run, bring: Callable[..., None]) -> None:
    bring(FIRST, SECOND)
    run("key", "delete", FIRST.fingerprint, "--yes")
    assert f"no certificate is in use for {BOB}; see: secmailproxy key settle {BOB}" in run(
        "key", "verify", BOB
    )


def test_the_code_in_the_terminal_is_the_fingerprint(run: Run, bring: Callable[..., None]) -> None:
    """Two rows of modules in one line of text, light on dark."""
    bring(FIRST)
    run("key", "generate", "alice@example.org")
    own = json.loads(run("key", "list", "alice@example.org", "--json"))["keys"][0]["fingerprint"]
    said = run("key", "verify", BOB, "--own", "alice@example.org")
    lines = [line for line in said.splitlines() if "\N{FULL BLOCK}" in line]
    halves = {"█": (0, 0), "▀": (0, 1), "▄": (1, 0), " ": (1, 1)}
    drawn = [[halves[char][half] for char in line] for line in lines for half in (0, 1)]
    inside = [bytearray(row[2:-2]) for row in drawn[2 : 2 + len(lines[0]) - 4]]
    assert inside == list(segno.make(f"OPENPGP4FPR:{own}", error="m", micro=False).matrix)
