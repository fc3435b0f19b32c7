"""Recipes as users of procmail write them, and the same as rules: procmail and we agree on each message."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from secmailproxy.config import Config
from secmailproxy.folders import Folders
from secmailproxy.forward.message import envelope_sender, from_pipe
from secmailproxy.forward.model import Entrance, SystemMail
from secmailproxy.forward.rules import decide

TARGET = f'[[forward.targets]]\naddress = "admin@example.org"\nfingerprint = "{"A" * 40}"\n'

MESSAGES = {
    "cron": b"From root Thu Jan  1 00:00:00 2026\nFrom: root (Cron Daemon)\nTo: root\n"
    b"Subject: Cron <root@web1> test -x /usr/sbin/anacron\nX-Cron-Env: <LOGNAME=backup>\n\nall is well\n",
    "backup": b"From: backup@web1.example\nTo: ops@example.org\nCc: Root <root@web1.example>\n"
    b"Subject: [backup] done\n\n0 errors\nUser: bob\n",
    "bounce": b"From MAILER-DAEMON Thu Jan  1 00:00:00 2026\nReturn-Path: <>\n"
    b"From: MAILER-DAEMON@web1.example (Mail Delivery System)\nTo: root@web1.example\n"
    b"Subject: Undelivered Mail Returned to Sender\nAuto-Submitted: auto-replied\n\nfailed for bob\n",
    "list": b"From: Bob <bob@example.net>\nTo: users@lists.example.net\nSubject: Re: disks\n"
    b"List-Id: Users <users.lists.example.net>\nPrecedence: list\n\nwhich disk?\n",
    "smart": b"From: root@web1.example\nTo: root@web1.example\nSubject: SMART error on web1\n\n"
    b"Device: /dev/sda\nFAILED to read\n",
    "large": b"From: root@web1.example\nTo: root@web1.example\nSubject: Logwatch for web1\n\n"
    + b"sshd: failed for bob\n" * 1000,
    "spam": b"From: rich@example.com\nTo: undisclosed-recipients:;\nSubject: WIN\nX-Spam-Flag: YES\n\nwin\n",
    "bare": b"Subject: nothing\n\n",
}

RECIPES = {
    "subject": (
        ":0\n* ^Subject:.*Cron\nhit/",
        'match = { header = { Subject = "cron" } }',
    ),
    "exact subject, case counted": (
        ":0 D\n* ^Subject: \\[backup\\] done$\nhit/",
        'match = { header = { Subject = "(?-i)^\\\\[backup\\\\] done$" } }',
    ),
    "several conditions": (
        ":0\n* ^From:.*root\n* ^To:.*root\n* ^X-Cron-Env: <LOGNAME=backup\nhit/",
        'match = { header = { From = "root", To = "root", X-Cron-Env = "^<LOGNAME=backup" } }',
    ),
    "^TO_": (
        ":0\n* ^TO_root\nhit/",
        'match = { header = { To = "(^|[^-a-z0-9_.])root" } }\ndo = { keep = "/hit" }\n'
        '[[forward.rules]]\nmatch = { header = { Cc = "(^|[^-a-z0-9_.])root" } }',
    ),
    "not ^FROM_DAEMON": (
        ":0\n* ! ^FROM_DAEMON\nhit/",
        'unless = { mail_from = "^$", header = { Precedence = "junk|bulk|list", '
        'From = "(^|[^(.%@a-z0-9])(mailer-daemon|mailer|daemon|postmaster|root|server|system)($|[%@> ])" } }',
    ),
    "small ones": (":0\n* < 400\nhit/", "match = { smaller = 400 }"),
    "large ones": (":0\n* > 10000\nhit/", "match = { larger = 10000 }"),
    "body": (":0 B\n* ^FAILED\nhit/", 'match = { body = "^failed" }'),
    "body, but not that": (
        ":0\n* B ?? failed\n* ! B ?? ^Device\nhit/",
        'match = { body = "failed" }\nunless = { body = "^device" }',
    ),
    "or": (
        ":0\n* ^Subject:.*(SMART error|degraded|Logwatch)\nhit/",
        'match = { header = { Subject = "SMART error|degraded|Logwatch" } }',
    ),
    "nested": (
        ":0\n* ^From:.*@web1\n{\n :0\n * ^Subject:.*SMART\n hit/\n\n :0 B\n * bob\n hit/\n}",
        'match = { header = { From = "@web1", Subject = "SMART" } }\ndo = { keep = "/hit" }\n'
        '[[forward.rules]]\nmatch = { header = { From = "@web1" }, body = "bob" }',
    ),
    "a field that is there": (":0\n* ^List-Id:\nhit/", 'match = { header = { List-Id = "" } }'),
    "a field that is not there": (":0\n* ! ^From:\nhit/", 'unless = { header = { From = "" } }'),
    "an exception first": (
        ":0\n* ^X-Spam-Flag: YES\n/dev/null\n\n:0\nhit/",
        'match = { header = { X-Spam-Flag = "^YES" } }\ndo = "drop"\n[[forward.rules]]',
    ),
    "a copy, and on": (
        ":0 c\n* ^To:.*root\nhit/\n\n:0\n* ^Subject:.*Undelivered\n/dev/null",
        'match = { header = { To = "root" } }\ndo = { keep = "/hit" }\ncontinue = true\n'
        '[[forward.rules]]\nmatch = { header = { Subject = "Undelivered" } }\ndo = "drop"',
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_and_its_rules_are_for_the_same_messages(name: str, tmp_path: Path) -> None:
    recipe, rules = RECIPES[name]
    assert by_rules(rules, tmp_path) == by_procmail(recipe, tmp_path) != []


def by_procmail(recipe: str, folder: Path) -> list[str]:
    """For which messages the recipe has put something into the Maildir "hit"."""
    (folder / "rc").write_text(f"MAILDIR={folder}\nDEFAULT=/dev/null\n{recipe}\n")
    found: list[str] = []
    for name, octets in MESSAGES.items():
        before = len(list(folder.glob("hit/new/*")))
        subprocess.run(["procmail", "-m", "rc"], input=octets, cwd=folder, check=True, timeout=30)
        if len(list(folder.glob("hit/new/*"))) > before:
            found.append(name)
    return found


def by_rules(rules: str, folder: Path) -> list[str]:
    """The same of our rules, the last of which keeps a copy unless it says what to do."""
    if "do = " not in rules.rpartition("[[forward.rules]]")[2]:
        rules += '\ndo = { keep = "/hit" }'
    toml = f"[[forward.rules]]\n{rules}\n{TARGET}"
    settings = Config.parse(toml.encode(), Folders(folder / "config.toml", folder, folder)).forward_settings()
    found = []
    for name, octets in MESSAGES.items():
        came_from = envelope_sender(octets)
        sender = "sender@host.example" if came_from is None else came_from
        mail = SystemMail(from_pipe(octets), sender, (), Entrance.PIPE)
        if any(getattr(action, "path", "") == "/hit" for action in decide(mail, settings).actions):
            found.append(name)
    return found
