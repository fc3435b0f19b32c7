"""imapfilter searches, flags and moves by rules in Lua."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fixtures.clients import Account, Workplace
from tests.fixtures.people import SUBJECT, TEXT

CONFIG = """options.timeout = 30
options.subscribe = true
account = IMAP {{
    server = '127.0.0.1', port = {account.proxy.imap_port},
    username = '{account.address}', password = '{account.password}',
}}
"""
RULES = f"""inbox = account.INBOX
old = inbox:contain_field('Message-ID', 'plain@example.net')
old:delete_messages()
inbox:is_larger(100000):mark_flagged()
matching = inbox:match_field('Subject', '{SUBJECT}')
matching:move_messages(account.Archive)
inbox:match_body('crooked windmill'):mark_seen()
for _, message in ipairs(account.Archive:select_all()) do
    box, uid = table.unpack(message)
    io.write('size ', box[uid]:fetch_size(), '\\n')
    io.write(box[uid]:fetch_message(), '\\n')
end
"""


@pytest.mark.client("imapfilter", "reads", "flags", "moves", "deletes", "searches")
def test_rules(accounts: Callable[[], Account], workplace: Workplace) -> None:
    account = accounts()
    _, signed, encrypted, nested, large = account.presented()
    config = workplace.write("rules.lua", CONFIG.format(account=account) + RULES)

    said = workplace.run("imapfilter", "-c", config)

    assert account.presented() == [signed, encrypted, large]
    assert account.flags() == [set(), {"\\Seen"}, {"\\Flagged", "\\Seen"}]
    assert account.presented("Archive")[-1] == nested
    assert f"size {len(nested)}\n" in said
    assert TEXT in said
    account.assert_nothing_leaked()
