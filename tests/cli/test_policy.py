"""`secmailproxy policy test`: what it shows is what the proxy does; docs/policy.md shows what it shows."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from keystore.model import Fingerprint
from secmailproxy.cli import program
from secmailproxy.config import Config
from secmailproxy.errors import SecMailProxyError
from secmailproxy.folders import HOME_VARIABLE
from secmailproxy.model import Envelope
from secmailproxy.outbound import Outbound
from secmailproxy.smtp.replies import reply_for
from tests.fixtures.proxy import ProxyHome, empty_home

GUIDE = (Path(__file__).parents[2] / "docs/policy.md").read_text(encoding="utf-8")
ALICE, BOB, DAN = "alice@example.org", "bob@example.com", "dan@example.net"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> ProxyHome:
    """A home with the configuration of docs/policy.md, and keys for alice, bob and dan."""
    made = empty_home(tmp_path_factory.mktemp("policy") / "home")
    blocks = re.findall(r"(?ms)^```toml\n(.+?)^```", GUIDE)
    made.add_config("\n".join(blocks))
    with made.keystore() as keystore:
        for address in (ALICE, BOB, DAN):
            keystore.generate(address)
    return made


@pytest.fixture
def fingerprints(home: ProxyHome) -> dict[str, Fingerprint]:
    """By the names that the guide uses."""
    with home.keystore() as keystore:
        return {
            one.addresses[0].partition("@")[0].upper(): one.fingerprint for one in keystore.certificates()
        }


@pytest.fixture(scope="module")
def outbound(home: ProxyHome) -> Iterator[Outbound]:
    """What the proxy would do; opened once, for its secrets take long to derive."""
    with home.keystore() as keystore:
        yield Outbound(keystore, Config.load(home.folders).outbound_settings())


Try = Callable[..., Result]


@pytest.fixture
def policy_test(home: ProxyHome, monkeypatch: pytest.MonkeyPatch) -> Try:
    """Run the command with that home."""
    monkeypatch.setenv(HOME_VARIABLE, str(home.folder))
    return lambda *words: CliRunner().invoke(program, ["policy", "test", *words])


def test_the_guide_shows_what_the_command_says(
    policy_test: Try, fingerprints: dict[str, Fingerprint]
) -> None:
    sessions = "".join(re.findall(r"(?ms)^```console\n(.+?)^```", GUIDE))
    commands = re.findall(r"(?ms)^\$ secmailproxy policy test (.+?)\n(.*?)(?=^\$ |\Z)", sessions)
    assert len(commands) >= 5
    for words, shown in commands:
        said = policy_test(*shlex.split(words)).stdout
        for name, fingerprint in fingerprints.items():
            said = said.replace(fingerprint, name)
        assert said == shown, words


QUESTIONS: list[tuple[tuple[str, ...], str]] = [
    ((BOB,), ""),
    ((DAN,), ""),
    ((BOB, DAN), ""),
    (("x@tax.gov.example",), ""),
    ((DAN, "x@tax.gov.example"), ""),
    (("newsletter@example.com",), ""),
    ((BOB, "newsletter@example.com"), ""),
    (("eve@example.net",), ""),
    (("eve@example.com",), ""),
    ((BOB,), "X-Secmailproxy-Protect: sign"),
    ((DAN,), "X-Secmailproxy-Protect: sign"),
    ((DAN,), "X-Secmailproxy-Protect: requre"),
    ((DAN,), "Subject: [clear] hello"),
    (("eve@example.net",), "Subject: hello [encrypt]"),
    (("crew@lists.example.org",), ""),
    (("talk@lists.example.org", BOB), ""),
]


@pytest.mark.parametrize(
    ("sender", "rcpt_tos", "field"),
    [(ALICE, *question) for question in QUESTIONS]
    + [("info@example.org", (DAN,), "")]
    + [("unlisted@example.org", rcpt_tos, "") for rcpt_tos in ((DAN,), (BOB,), ("eve@example.net",))],
)
def test_what_is_shown_is_what_is_done(
    sender: str, rcpt_tos: tuple[str, ...], field: str, outbound: Outbound, policy_test: Try
) -> None:
    recipients = [word for rcpt_to in rcpt_tos for word in ("--to", rcpt_to)]
    result = policy_test("--from", sender, *recipients, *(("--header", field) if field else ()), "--json")
    shown: dict[str, Any] = json.loads(result.stdout)
    lines = [f"From: {sender}", f"To: {', '.join(rcpt_tos)}", *([field] if field else []), "", "Treasure", ""]

    async def submit() -> str:
        for rcpt_to in rcpt_tos:
            await outbound.check_recipient(sender, rcpt_to, account=ALICE)
        message = "\r\n".join(lines).encode()
        copies = await outbound.protect(Envelope(sender, rcpt_tos), message, account=ALICE)
        assert [list(copy.rcpt_tos) for copy in copies] == [one["recipients"] for one in shown["copies"]]
        return copies[0].protection.value

    try:
        done = (asyncio.run(submit()), 0, "")
    except SecMailProxyError as error:
        reply = reply_for(error, "")
        done = ("refused", error.exit_status, f"{reply.code} {reply.text}")
    reply_shown = shown["refusal"]["reply"] if shown["refusal"] else ""
    assert (shown["decision"], result.exit_code, reply_shown) == done


def test_json_tells_rules_certificates_and_reasons(
    policy_test: Try, fingerprints: dict[str, Fingerprint]
) -> None:
    result = policy_test("--from", ALICE, "--to", BOB, "--cc", DAN, "--json")
    shown = json.loads(result.stdout)
    assert [one["rule"]["number"] for one in shown["recipients"]] == [2, None]
    assert shown["recipients"][0]["rule"]["text"] == 'to = "@example.com", protect = "require"'
    assert shown["recipients"][0]["schemes"] == [
        {
            "scheme": "openpgp",
            "certificates": [fingerprints["BOB"]],
            "why": f"certificate {fingerprints['BOB']}, verified",
        }
    ]
    everybody = [fingerprints[name] for name in ("BOB", "DAN", "ALICE")]
    assert shown["copies"] == [{"recipients": [BOB, DAN], "certificates": everybody}]
    assert (shown["signer"], shown["scheme"]) == (fingerprints["ALICE"], "openpgp")


def test_an_alias_signs_with_the_key_of_its_account(
    policy_test: Try, fingerprints: dict[str, Fingerprint]
) -> None:
    said = policy_test("--from", "info@example.org", "--to", DAN).stdout
    assert f"signed with {fingerprints['ALICE']} ({ALICE})" in said
    refused = policy_test("--from", "unlisted@example.org", "--to", DAN)
    assert refused.exit_code == 69
    assert "add the address to `aliases` of the account alice@example.org" in refused.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", BOB), "--from"),
        (("--from", ALICE), "give --to, --cc or --bcc"),
        (("--from", "alice", "--to", BOB), "--from needs an address"),
        (("--from", ALICE, "--to", "bob"), "--to needs an address"),
        (("--from", ALICE, "--to", BOB, "--account", "x@y.example"), "the accounts are: alice@example.org"),
        (("--from", ALICE, "--to", BOB, "--header", "no field"), "one line with a colon"),
        (("--from", ALICE, "--to", BOB, "--header", "A: b\nTo: c"), "one line with a colon"),
    ],
)
def test_bad_input_is_explained(words: tuple[str, ...], said: str, policy_test: Try) -> None:
    result = policy_test(*words)
    assert result.exit_code == 64
    assert said in result.stderr
    assert result.stdout == ""


def test_another_account_is_refused_at_mail(
    home: ProxyHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = empty_home(tmp_path / "home")
    second = '\n[[accounts]]\naddress = "work@example.org"\nimap = {host = "h"}\nsmtp = {host = "h"}'
    other.folders.config_file.write_text(home.folders.config_file.read_text() + second)
    monkeypatch.setenv(HOME_VARIABLE, str(other.folder))
    words = ["policy", "test", "--from", "info@example.org", "--to", DAN, "--account", "work@example.org"]
    result = CliRunner().invoke(program, words)
    assert "Refused at MAIL: 554 5.7.1 <info@example.org> is another account here" in result.stdout
    assert result.exit_code == 77
