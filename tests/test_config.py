"""The configuration: what is accepted, and that every refusal says file, line, key, problem and remedy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore.model import Scheme
from keystore.secrets import SecretsSettings
from secmailproxy.accounts import Account, ImapUpstream, Login
from secmailproxy.config import Config
from secmailproxy.config_errors import ConfigProblems, key_lines
from secmailproxy.enclosing import Sharing
from secmailproxy.errors import ConfigError
from secmailproxy.folders import Folders
from secmailproxy.policy import Protect
from secmailproxy.wishes import SubjectWord, Wish
from tests.fixtures.certificates import TestCA

ACCOUNT = """
[[accounts]]
address = "alice@example.org"
imap = { host = "imap.example.org" }
smtp = { host = "smtp.example.org" }
"""


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "config.toml", tmp_path / "state", tmp_path / "cache")


def problems(text: str, folders: Folders) -> list[str]:
    """The problems of a text, without the name of the file."""
    with pytest.raises(ConfigProblems) as caught:
        Config.parse(text.encode(), folders)
    prefix = str(folders.config_file)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(prefix) for line in lines)
    assert len(lines) == len(caught.value.problems)
    return [line.removeprefix(prefix) for line in lines]


def test_the_least_configuration_has_safe_defaults(folders: Folders) -> None:
    config = Config.parse(ACCOUNT.encode(), folders)
    assert (str(config.listen.imap), str(config.listen.submission)) == ("127.0.0.1:1143", "127.0.0.1:1025")
    account = config.accounts[0]
    assert (account.imap.port, account.imap.tls) == (993, "implicit")
    assert (account.smtp.port, account.smtp.tls) == (465, "implicit")
    assert account.imap_username == account.smtp_username == "alice@example.org"
    assert (account.login, account.encrypt_drafts, account.encrypt_sent) == ("mailbox", True, True)
    assert config.secrets.backend == "keyring"
    assert config.rules == ()


def test_each_account_says_which_keys_go_along(folders: Folders) -> None:
    """Addresses are found in any case; who is no account has the defaults."""
    other = ACCOUNT.replace('"alice@', '"Bob@').replace(
        "imap =", 'autocrypt = false\nprefer_encrypt = "mutual"\nattach_key = true\nimap =', 1
    )
    settings = Config.parse((ACCOUNT + other).encode(), folders).outbound_settings()
    assert settings.sharing_of("ALICE@example.org") == Sharing()
    assert settings.sharing_of("", "bob@EXAMPLE.org") == Sharing(
        autocrypt=False, mutual=True, attach_key=True
    )
    assert settings.sharing_of("", "carol@example.org") == Sharing(
        autocrypt=True, mutual=False, attach_key=False
    )
    (problem,) = problems(ACCOUNT.replace("imap =", 'prefer_encrypt = "always"\nimap =', 1), folders)
    assert "prefer_encrypt" in problem
    assert "mutual" in problem


def test_everything_can_be_said(folders: Folders, tmp_path: Path, ca: TestCA) -> None:
    (tmp_path / "ca.pem").write_bytes(ca.ca_file.read_bytes())
    (tmp_path / "secret").write_text("one two\nthree\n")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "gnupg").mkdir()
    config = Config.parse(
        b"""
        listen = { imap = "[::1]:143", submission = "localhost:0" }
        [secrets]
        backend = "file"
        path = "s.json"
        passphrase_file = "secret"
        [keystore]
        gnupg_home = "gnupg"
        [service]
        grace_seconds = 5
        log_level = "debug"
        [submission]
        max_octets = 1000000
        timeout_seconds = 10
        [[rules]]
        to = "@example.com"
        from = "*.example.org"
        protect = "require"
        fingerprints = ["0123 4567 89ab cdef 0123 4567 89ab cdef 0123 4567"]
        hide_subject = false
        [[accounts]]
        address = "alice@example.org"
        name = "Alice"
        login = "local"
        encrypt_drafts = false
        imap = { host = "i", port = 143, tls = "starttls", username = "al", ca_file = "ca.pem" }
        smtp = { host = "::1", port = 587, tls = "starttls" }
        [forward]
        account = "ALICE@example.org"
        via = "sendmail"
        [[forward.targets]]
        address = "root@example.org"
        fingerprint = "0123456789ABCDEF0123456789ABCDEF01234567"
        """,
        folders,
    )
    assert (config.listen.imap.host, config.listen.imap.port) == ("::1", 143)
    assert config.account_values() == (
        Account(
            "alice@example.org",
            ImapUpstream("i", 143, "starttls", tmp_path / "ca.pem"),
            name="Alice",
            login=Login.LOCAL,
            imap_username="al",
            encrypt_drafts=False,
        ),
    )
    settings = config.secrets_settings(None)
    assert isinstance(settings, SecretsSettings)
    assert (settings.backend, settings.path) == ("file", tmp_path / "s.json")
    assert settings.passphrase is not None
    assert settings.passphrase() == "one two"
    assert config.keystore_settings().gnupg_home == tmp_path / "gnupg"
    assert config.keystore_settings().folder == tmp_path / "state" / "keystore"
    rule = config.outbound_settings().rules[0]
    assert (rule.to, rule.from_, rule.protect) == ("@example.com", "*.example.org", Protect.REQUIRE)
    assert rule.fingerprints == ("0123456789ABCDEF0123456789ABCDEF01234567",)
    smarthost = config.smarthost_settings(config.accounts[0])
    assert (smarthost.host, smarthost.port, smarthost.tls) == ("::1", 587, "starttls")
    assert smarthost.timeout == 10.0
    # What is shown can be read again.
    again = Config.model_validate(config.as_json())
    assert again.as_json() == config.as_json()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[listen]\nimap = '0.0.0.0:143'\n", ":2: listen.imap: '0.0.0.0' is not a loopback address"),
        ("[listen]\nimap = '[::]:143'\n", ":2: listen.imap: '::' is not a loopback address"),
        ("[listen]\nimap = 'mail.example.org:143'\n", ":2: listen.imap: 'mail.example.org' is not a"),
        ("[listen]\nimap = '127.0.0.1'\n", ":2: listen.imap: '127.0.0.1' is not \"host:port\""),
        ("[listen]\nimap = '127.0.0.1:65536'\n", ":2: listen.imap.port: must be less than or equal to 65535"),
        ("[listen]\nimap = '127.0.0.1:1025'\n", ":1: listen: imap and submission have the same address"),
        ("[listen]\nimap = 1143\n", ':2: listen.imap: must be text in quotes, such as "127.0.0.1:1143"'),
        ("[listen]\nimap = { host = '0.0.0.0', port = 1143 }\n", ":2: listen.imap: must be text in quotes"),
        ("[listen]\nimpa = 1\n", ":2: listen.impa: there is no such option; did you mean 'imap'?"),
        ("[listen]\nx = 1\n", ":2: listen.x: there is no such option; the options here are imap, submission"),
        ('[[rule]]\nto = "*"\n', ":1: rule: there is no such option; did you mean 'rules'?"),
        ("listn = 1\n", ":1: listn: there is no such option; did you mean 'listen'?"),
        ("[secrets]\nbackend = 'clear'\n", ":2: secrets.backend: must be one of 'keyring', 'file'"),
        ("[secrets]\npassphrase_file = 'no'\n", ":2: secrets.passphrase_file: there is no file"),
        ("[service]\ngrace_seconds = 'long'\n", ":2: service.grace_seconds: must be a whole number"),
        ("[[rules]]\nto = 'bob'\n", ":2: rules[0].to: 'bob' is no pattern; write an address"),
        ("[[rules]]\nhide_subject = 'no!'\n", ":2: rules[0].hide_subject: must be true or false"),
        ("[[rules]]\nfingerprints = ['AB']\n", ":2: rules[0].fingerprints[0]: 'AB' is not a fingerprint"),
        ("[[rules]]\nscheme = 'pgp'\n", ":2: rules[0].scheme: must be one of 'any', 'openpgp', 'smime'"),
        ("[[rules]]\naccount = 'work'\n", ":2: rules[0].account: 'work' is not a mail address"),
        (
            ACCOUNT + "[[rules]]\naccount = 'x@work.example'\n",
            ": a rule is for the account x@work.example, which is no account here",
        ),
        ("[[wishes]]\nprotect = 'sign'\n", ":1: wishes[0].word: is missing"),
        ("[[wishes]]\nword = '[encrypt]'\n", ":1: wishes[0]: a word wishes nothing; add protect"),
        ("[[wishes]]\nword = 'two words'\nprotect = 'sign'\n", ":2: wishes[0].word: 'two words' is not one"),
        ("[[wishes]]\nword = ''\nprotect = 'sign'\n", ":2: wishes[0].word: '' is not one word"),
        ("[[wishes]]\nword = '[x]'\nprotect = 'encrypt'\n", ":3: wishes[0].protect: must be one of"),
        (
            "[[wishes]]\nword = '[x]'\nprotect = 'sign'\n[[wishes]]\nword = '[X]'\nattach_key = true\n",
            ": two of [[wishes]] have the word [x]; remove one of them",
        ),
        (
            ACCOUNT.replace("[[accounts]]", "[[accounts]]\naliases = ['ALICE@example.org']"),
            ": alice@example.org is an account here and an alias too; remove the alias",
        ),
        (
            ACCOUNT.replace("[[accounts]]", "[[accounts]]\naliases = ['a@x.example', 'A@x.example']"),
            ": two accounts have the alias a@x.example; remove one of them",
        ),
        ("[[rules]]\nto = 3\n", ":2: rules[0].to: must be text in quotes"),
        ("rules = 3\n", ":1: rules: must be a list"),
        (ACCOUNT.replace("address =", "name ="), ":2: accounts[0].address: is missing; add it"),
        (
            ACCOUNT + "[accounts.imap.more]\n",
            ":6: is not TOML:",
        ),
        (
            ACCOUNT.replace('org" }', 'org", tls = "none" }', 1),
            ":4: accounts[0] (alice@example.org).imap.tls: must be one of 'implicit', 'starttls'",
        ),
        (
            ACCOUNT.replace('org" }', 'org", ca_file = "nowhere.pem" }', 1),
            ":4: accounts[0] (alice@example.org).imap.ca_file: there is no file",
        ),
        (
            ACCOUNT.replace('"imap.example.org"', '"https://imap.example.org"'),
            ":4: accounts[0] (alice@example.org).imap.host: must be a host name",
        ),
        (ACCOUNT.replace("alice@example.org", "alice"), ":3: accounts[0] (alice).address: 'alice' is not"),
        (ACCOUNT + ACCOUNT.replace("alice@", "ALICE@"), ": two accounts have the address alice@example.org"),
        *(
            (
                ACCOUNT + f'subject_mark = "{mark}"\n',
                ":6: accounts[0] (alice@example.org).subject_mark: must be 6 to 40",
            )
            for mark in ("signed", "verified", "k-47", "kestrel 47")
        ),
        ("[forward]\naccount = 'a@b.c'\n", ": forward.account is a@b.c, which is no account here"),
        ("a = \n", ":1: is not TOML: Invalid value"),
        ("a = 1\na = 2\n", ":2: is not TOML: Cannot overwrite a value"),
    ],
)
def test_each_mistake_is_explained(text: str, expected: str, folders: Folders) -> None:
    found = problems(text, folders)
    assert len(found) == 1
    assert found[0].startswith(expected), found[0]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(folders: Folders) -> None:
    text = "[listen]\nimap = 1\nx = 2\n[service]\nlog_level = 'loud'\n[[rules]]\nto = ''\n"
    found = problems(text, folders)
    assert [line.split(":")[1] for line in found] == ["2", "3", "5", "7"]


def test_a_file_that_is_no_text(folders: Folders) -> None:
    with pytest.raises(ConfigProblems, match=r"config.toml:2: is not UTF-8 text"):
        Config.parse(b"# \n# \xff\n", folders)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_octets_are_read_or_refused_with_text(octets: bytes) -> None:
    folders = Folders(Path("/nowhere/config.toml"), Path("/nowhere/state"), Path("/nowhere/cache"))
    try:
        Config.parse(octets, folders)
    except ConfigError as error:
        assert str(error).startswith("/nowhere/config.toml")  # noqa: PT017  # most inputs raise, not all


def test_lines_of_keys() -> None:
    text = "a = 1\n[b.c]\n d = 2\n[[e]]\nf = 1\n[[e]]\n'g' = 1\n[e.h]\ni = 1\n# j = 1\n"
    assert key_lines(text) == {
        ("a",): 1,
        ("b", "c"): 2,
        ("b", "c", "d"): 3,
        ("e",): 4,
        ("e", 0): 4,
        ("e", 0, "f"): 5,
        ("e", 1): 6,
        ("e", 1, "g"): 7,
        ("e", 1, "h"): 8,
        ("e", 1, "h", "i"): 9,
    }


def test_load_without_a_file_names_the_remedy(folders: Folders) -> None:
    with pytest.raises(ConfigError, match=r"no configuration at .*config.toml; run: secmailproxy setup"):
        Config.load(folders)


def test_a_file_that_others_can_write_is_refused(folders: Folders) -> None:
    folders.config_file.write_text(ACCOUNT)
    folders.config_file.chmod(0o666)
    with pytest.raises(ConfigError, match=r"can be written by others; run: chmod 600"):
        Config.load(folders)
    folders.config_file.chmod(0o644)
    assert len(Config.load(folders).accounts) == 1


@pytest.mark.parametrize("value", ["'yes'", "'false'", "1"])
def test_only_true_and_false_switch(folders: Folders, value: str) -> None:
    assert problems(f"[[rules]]\nhide_subject = {value}\n", folders) == [
        ":2: rules[0].hide_subject: must be true or false (without quotes)"
    ]


def test_a_private_authority_is_a_certificate(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate\n")
    text = ACCOUNT.replace('"imap.example.org"', '"imap.example.org", ca_file = "ca.pem"')
    (problem,) = problems(text, folders)
    assert f"imap.ca_file: {tmp_path / 'ca.pem'} holds no certificate in PEM form" in problem


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (b"secret\n", 0o644, "can be read by others; run: chmod 600"),
        (b"\nsecret\n", 0o600, "is empty"),
        (b"\xff\n", 0o600, "is not UTF-8"),
    ],
)
def test_the_passphrase_file_is_checked(
    folders: Folders, tmp_path: Path, content: bytes, mode: int, message: str
) -> None:
    file = tmp_path / "passphrase"
    file.write_bytes(content)
    file.chmod(mode)
    config = Config.parse(b"[secrets]\nbackend = 'file'\npassphrase_file = 'passphrase'\n", folders)
    passphrase = config.secrets_settings(None).passphrase
    assert passphrase is not None
    with pytest.raises(ConfigError, match=message) as caught:
        passphrase()
    assert "secret" not in str(caught.value).replace(str(tmp_path), "")


def test_the_environment_chooses_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECMAILPROXY_HOME", str(tmp_path))
    assert Folders.of_user() == Folders(tmp_path / "config.toml", tmp_path / "state", tmp_path / "cache")
    monkeypatch.delenv("SECMAILPROXY_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert Folders.of_user().config_file == tmp_path / "xdg" / "secmailproxy" / "config.toml"
    assert os.fspath(Folders.of_user().state).endswith("secmailproxy")


def test_the_example_is_right(tmp_path: Path) -> None:
    octets = (Path(__file__).parents[1] / "examples" / "config.toml").read_bytes()
    config = Config.parse(octets, Folders(tmp_path / "config.toml", tmp_path / "state", tmp_path / "cache"))
    assert [one.address for one in config.accounts] == ["alice@example.org", "alice@work.example"]
    assert [rule.protect for rule in config.rules] == ["require", "sign"]


def test_rules_wishes_and_aliases_reach_what_decides(folders: Folders) -> None:
    config = Config.parse(
        (
            "[[rules]]\nscheme = 'smime'\naccount = 'ALICE@example.org'\n[[rules]]\nscheme = 'any'\n"
            "[[wishes]]\nword = '[x]'\nprotect = 'require'\nscheme = 'openpgp'\nhide_subject = false\n"
            + ACCOUNT.replace("[[accounts]]", "[[accounts]]\naliases = ['Info@Example.org']")
        ).encode(),
        folders,
    )
    settings = config.outbound_settings()
    assert [(rule.scheme, rule.account) for rule in settings.rules] == [
        (Scheme.SMIME, "ALICE@example.org"),
        (None, ""),
    ]
    wish = Wish(protect=Protect.REQUIRE, scheme=Scheme.OPENPGP, hide_subject=False)
    assert settings.words == (SubjectWord("[x]", wish),)
    assert settings.aliases == {"info@example.org": "alice@example.org"}
    assert (
        config.account_of("INFO@example.org") == config.account_of("other@example.org") == "alice@example.org"
    )
    assert config.account_values()[0].aliases == ("Info@Example.org",)
