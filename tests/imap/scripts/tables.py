"""All scripts."""

from __future__ import annotations

from tests.imap.scripts import Script
from tests.imap.scripts.contents import CONTENTS
from tests.imap.scripts.corners import CORNERS
from tests.imap.scripts.extensions import EXTENSIONS
from tests.imap.scripts.fetching import FETCHING
from tests.imap.scripts.login import LOGIN
from tests.imap.scripts.mailboxes import MAILBOXES
from tests.imap.scripts.messages import MESSAGES
from tests.imap.scripts.protected import PROTECTED
from tests.imap.scripts.searching import SEARCHING

ALL: dict[str, Script] = {
    **CONTENTS,
    **CORNERS,
    **EXTENSIONS,
    **FETCHING,
    **LOGIN,
    **MAILBOXES,
    **MESSAGES,
    **PROTECTED,
    **SEARCHING,
}
