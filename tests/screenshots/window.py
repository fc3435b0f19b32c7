"""Thunderbird without a display, which photographs itself."""

from __future__ import annotations

import base64
from pathlib import Path

from tests.fixtures.documented import thunderbird_verdicts
from tests.fixtures.people import ProxyUser
from tests.fixtures.processes import service_folder
from tests.fixtures.thunderbird import Running, Thunderbird, autoconfig
from tests.screenshots.mail import BEST, BROKEN, LETTERS

SCRIPT = Path(__file__).with_suffix(".js")
WIDTH, HEIGHT, MESSAGE_HEIGHT = 960, 545, 265
"""Pixels, of the window and of the message in it."""
PREFS: dict[str, object] = {
    "mail.pane_config.dynamic": 0,  # the message below the list
    "mail.threadpane.listview": 1,  # a table
    "mail.rights.version": 1,  # no bar about rights
}


def take_thunderbird(user: ProxyUser, best: Path, broken: Path) -> None:
    """The list, with the best message opened in one picture, and a bad one in the other."""
    with service_folder("thunderbird") as folder:
        thunderbird = Thunderbird(folder)
        thunderbird.add_configuration(user.address.partition("@")[2], autoconfig(user.proxy))
        thunderbird.set_prefs({**PREFS, **thunderbird_verdicts(user.verdict_field)})
        with thunderbird.started() as run:
            run.call("createAccount", user.address, user.mailbox.password)
            run.call("getMessages")
            run.call("open", "INBOX", LETTERS)
            for uid, picture in ((BEST, best), (BROKEN, broken)):
                _call(run, "arrange", WIDTH, HEIGHT, MESSAGE_HEIGHT)
                _call(run, "choose", uid)
                picture.write_bytes(_photograph(run))


def _call(run: Running, name: str, *arguments: object) -> None:
    run.evaluate(f"{SCRIPT.read_text()}\nreturn {name}(...arguments)", *arguments)


def _photograph(run: Running) -> bytes:
    """What is in the tab: PNG."""
    found = run.marionette.command("WebDriver:FindElement", using="css selector", value="#tabpanelcontainer")[
        "value"
    ]
    (element,) = found.values()
    shot = run.marionette.command("WebDriver:TakeScreenshot", id=element, full=False, hash=False)
    return base64.b64decode(shot["value"])
