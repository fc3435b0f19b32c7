"""All scripts."""

from __future__ import annotations

from tests.imap.scripts import Script
from tests.imap.scripts.contents import CONTENTS
from tests.imap.scripts.mailboxes import MAILBOXES

ALL: dict[str, Script] = {**MAILBOXES, **CONTENTS}
