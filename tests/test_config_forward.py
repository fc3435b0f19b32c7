"""[forward] in the configuration: what the rules become, and mistakes told with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from secmailproxy.config import Config
from secmailproxy.config_errors import ConfigProblems
from secmailproxy.folders import Folders
from secmailproxy.forward.model import (
    Collect,
    Conditions,
    Drop,
    Forward,
    Keep,
    PassOn,
    Rule,
    SubjectMode,
    Target,
)
from secmailproxy.forward.schedule import DigestPlan, Every, HeartbeatPlan, Schedule
from secmailproxy.forward.severity import DEFAULT_WORDS

PIN, OTHER = "A" * 40, "B" * 64
TARGET = f'[[forward.targets]]\naddress = "admin@example.org"\nfingerprint = "{PIN}"\n'
DIGEST = '[[forward.digests]]\nname = "nightly"\n'
RULE = '[[forward.rules]]\nname = "one"\n'


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "config.toml", tmp_path / "state", tmp_path / "cache")


def test_all_options_of_system_mail(folders: Folders, tmp_path: Path) -> None:
    config = Config.parse(
        f"""
        [forward]
        via = "sendmail"
        sender = "bounces@host.example"
        to = "ADMIN@example.org"
        aliases = "aliases"
        local_domains = ["Host.Example"]
        subject = "replaced"
        subject_text = "From the machine"
        sign = true
        urgent_words = ["FIRE"]
        time_zone = "Europe/Berlin"
        heartbeat = "daily"
        heartbeat_at = "06:30"
        heartbeat_to = ["admin@example.org"]
        heartbeat_by_digest = false
        {TARGET}
        [[forward.digests]]
        name = "daily"
        [[forward.digests]]
        name = "each-hour"
        every = "hourly"
        at = ":10"
        rcpt_tos = ["Admin@example.org"]
        max_octets = 100000
        [[forward.targets]]
        address = "two@example.org"
        fingerprints = ["{PIN}", "{OTHER}", "{PIN}"]
        [[forward.rules]]
        match = {{ header = {{ Subject = ["a", "b"], "X-Cron-Env" = "c" }}, larger = 10, smaller = 20 }}
        unless = {{ mail_from = "d", rcpt_to = ["e"], body = "f", urgent = true }}
        do = [{{ keep = "a/" }}, {{ keep = "~/mbox" }}, {{ forward = "two@example.org", subject = "kept" }}]
        continue = true
        [[forward.rules]]
        name = "digest"
        do = [{{ collect = "daily" }}, "pass-on", {{ forward = true, sign = false, subject_text = "x" }}]
        continue = true
        [[forward.rules]]
        name = "last"
        do = "drop"
        """.encode(),
        folders,
    )
    assert [one.value() for one in config.forward.digests] == [
        DigestPlan("daily", Schedule(Every.DAILY, 420)),
        DigestPlan("each-hour", Schedule(Every.HOURLY, 10), ("Admin@example.org",), 100000),
    ]
    assert config.forward.heartbeat_value() == HeartbeatPlan(
        Schedule(Every.DAILY, 390), ("admin@example.org",), False
    )
    settings = config.forward_settings()
    default = Forward((), SubjectMode.REPLACED, "From the machine", True)
    assert settings.default == default
    assert settings.targets == (Target("admin@example.org", (PIN,)), Target("two@example.org", (PIN, OTHER)))
    assert settings.to == "ADMIN@example.org"
    assert settings.aliases == str(tmp_path / "aliases")
    assert {"host.example", "localhost"} <= set(settings.local_domains)
    assert settings.urgent_words == ("FIRE",)
    assert settings.rules == (
        Rule(
            "rule 1",
            Conditions(
                header=(("Subject", "a"), ("Subject", "b"), ("X-Cron-Env", "c")), larger=10, smaller=20
            ),
            Conditions(mail_from=("d",), rcpt_to=("e",), body=("f",), urgent=True),
            (
                Keep(str(tmp_path / "a"), "maildir"),
                Keep(str(Path("~/mbox").expanduser()), "mbox"),
                Forward(("two@example.org",), SubjectMode.KEPT, "From the machine", True),
            ),
            goes_on=True,
        ),
        Rule(
            "digest",
            Conditions(),
            Conditions(),
            (Collect("daily"), PassOn(), Forward((), SubjectMode.REPLACED, "x", False)),
            goes_on=True,
        ),
        Rule("last", Conditions(), Conditions(), (Drop(),)),
    )
    again = Config.model_validate(config.as_json())
    assert again.as_json() == config.as_json()


def test_without_options_all_goes_hidden_to_the_only_target(folders: Folders) -> None:
    settings = Config.parse(TARGET.encode(), folders).forward_settings()
    assert (settings.default, settings.rules, settings.to) == (Forward(), (), "")
    assert settings.urgent_words == DEFAULT_WORDS
    assert settings.aliases == "/etc/aliases"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (RULE, ":1: forward.rules[0] (one).do: is missing"),
        (RULE + "do = []\n", ":1: forward.rules[0] (one): do says nothing"),
        (
            RULE + 'do = "bounce"\n',
            ":3: forward.rules[0] (one).do[0]: 'bounce' is no action; write \"forward\"",
        ),
        (
            RULE + "do = [{ keap = '/x' }]\n",
            ":3: forward.rules[0] (one).do[0].keap: there is no such option; did",
        ),
        (
            RULE + 'do = "forward"\nmach = {}\n',
            ":4: forward.rules[0] (one).mach: there is no such option; did",
        ),
        (
            RULE + 'do = "forward"\nmatch = { subject = "x" }\n',
            ":4: forward.rules[0] (one).match.subject: there is no such option; the options here are header,",
        ),
        (
            RULE + 'do = "drop"\nmatch = { header = { Subject = "a(" } }\n',
            ":4: forward.rules[0] (one).match.header.Subject[0]: 'a(' is no regular expression (missing",
        ),
        (
            RULE + "do = \"drop\"\n[forward.rules.unless]\nlarger = 1\nbody = ['fine', '(?=x)']\n",
            ":6: forward.rules[0] (one).unless.body[1]: '(?=x)' is no regular expression (invalid",
        ),
        (
            RULE + f'do = "drop"\nmatch = {{ body = "{"x" * 1001}" }}\n',
            ":4: forward.rules[0] (one).match.body[0]: is longer than 1000",
        ),
        (
            RULE + 'do = "drop"\nmatch = { header = { "Sub ject" = "x" } }\n',
            ":4: forward.rules[0] (one).match.h",
        ),
        (
            RULE + 'do = "drop"\nmatch = { larger = 9, smaller = 10 }\n',
            ":1: forward.rules[0] (one): no message",
        ),
        (
            RULE
            + "do = 'drop'\nmatch = { header = { A = 'x' } }\nunless = { header = { a = ['y', 'x'] } }\n",
            ":1: forward.rules[0] (one): never holds",
        ),
        (RULE + 'do = ["drop", "forward"]\n', ":1: forward.rules[0] (one): drop stands alone"),
        (RULE + 'do = "drop"\ncontinue = true\n', ":1: forward.rules[0] (one): drop stands alone"),
        (
            RULE + 'do = [{ keep = "/x", collect = "y" }]\n',
            ":3: forward.rules[0] (one).do[0]: must be one of",
        ),
        (
            RULE + 'do = [{ keep = "/x", sign = true }]\n',
            ":3: forward.rules[0] (one).do[0]: subject, subject_",
        ),
        (
            RULE + "do = [{ forward = true, subject = 'x' }]\n",
            ":3: forward.rules[0] (one).do[0]: subject must be",
        ),
        (
            RULE + "do = [{ forward = true, subject = 'replaced' }]\n",
            ":3: forward.rules[0] (one).do[0]: subject",
        ),
        (
            TARGET + RULE + 'do = ["forward", { forward = "x@example.org" }]\n',
            ":6: forward.rules[0] (one).do[1]: there is no [[forward.targets]] for x@example.org",
        ),
        (
            RULE + 'do = [{ collect = "nightly" }]\n',
            ":3: forward.rules[0] (one).do[0]: there is no [[forward.digests]] called nightly",
        ),
        (DIGEST + DIGEST, ":3: forward.digests[1]: two digests are called nightly"),
        (DIGEST + "at = '7'\n", ":3: forward.digests[0].at: '7' is no time for daily; write"),
        (
            DIGEST + "rcpt_tos = ['a@b.c']\n",
            ":3: forward.digests[0].rcpt_tos: there is no [[forward",
        ),
        ("[[forward.digests]]\nname = '../x'\n", ":2: forward.digests[0].name: '../x' is no name"),
        (
            "[forward]\nheartbeat_to = ['a@b.c']\n",
            ":2: forward.heartbeat_to: there is no [[forward.targets]]",
        ),
        (
            "[forward]\nheartbeat = 'daily'\nheartbeat_at = ':00'\n",
            ":3: forward.heartbeat_at: ':00' is no time",
        ),
        ("[forward]\ntime_zone = 'Bonn'\n", ":2: forward.time_zone: 'Bonn' is no time zone"),
        (
            RULE + 'do = "pass-on"\n',
            ":3: forward.rules[0] (one).do[0]: pass-on hands the message on as it is",
        ),
        (
            RULE + 'do = "forward"\n[[forward.rules]]\nname = "late"\ndo = "drop"\nmatch = { larger = 9 }\n',
            ":4: forward.rules[1] (late): is never asked: 'one' above holds for every message",
        ),
        (
            RULE
            + 'do = "forward"\nmatch = { larger = 9 }\n[[forward.rules]]\nmatch = { larger = 9}\ndo = "drop"',
            ":5: forward.rules[1]: is never asked: 'one' above has the same conditions",
        ),
        (
            RULE
            + 'do = "forward"\nmatch = { larger = 9 }\n'
            + RULE.replace("one", "ONE")
            + 'do = "forward"\n',
            ":6: forward.rules[1] (ONE).name: two rules are called ONE",
        ),
        (TARGET + TARGET, ":4: forward.targets[1] (admin@example.org): two targets have the address"),
        (
            "[[forward.targets]]\naddress = 'a@b.c'\n",
            ":1: forward.targets[0] (a@b.c): no certificate is pinned",
        ),
        ("[forward]\nto = 'a@b.c'\n", ":2: forward.to: there is no [[forward.targets]] for a@b.c"),
        ("[forward]\nsubject = 'replaced'\n", ':2: forward.subject: subject = "replaced" needs subject_text'),
        ('[forward]\nsubject_text = "a\\nBcc: b"\n', ":2: forward.subject_text: must be one line"),
        ("[forward]\nurgent_words = ['x', ' ']\n", ":2: forward.urgent_words: an empty word would"),
    ],
)
def test_each_mistake_is_told_with_its_line(text: str, expected: str, folders: Folders) -> None:
    with pytest.raises(ConfigProblems) as caught:
        Config.parse(text.encode(), folders)
    (problem,) = str(caught.value).splitlines()
    assert problem.removeprefix(str(folders.config_file)).startswith(expected), problem


def test_rules_that_continue_hide_no_other(folders: Folders) -> None:
    text = RULE + "do = [{ keep = '/x' }]\ncontinue = true\n[[forward.rules]]\ndo = 'forward'\n"
    assert len(Config.parse(text.encode(), folders).forward.rules) == 2


def test_everyone_needs_a_socket(tmp_path: Path) -> None:
    """A port has no mode that could be opened to all: whoever wants it has misunderstood something."""
    folders = Folders(tmp_path / "config.toml", tmp_path / "state", tmp_path / "cache")
    octets = b'[forward.listen]\nsmtp = "127.0.0.1:2525"\neveryone = true\n'
    with pytest.raises(ConfigProblems, match="everyone opens Unix sockets to all users"):
        Config.parse(octets, folders)
