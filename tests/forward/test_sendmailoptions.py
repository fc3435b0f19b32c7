"""FWD-04, FWD-07: the command line of sendmail, side by side with Postfix' own command."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.errors import MalformedMessage, UsageError
from secmailproxy.forward.sendmailinput import collected, header_recipients
from secmailproxy.forward.sendmailoptions import CommandLine, Mode, command_line
from tests.fixtures.postdrop import Dropped, SendmailOfPostfix
from tests.fixtures.processes import own_user

PLAIN = (
    b"To: Bob <bob@b.example>, root\nCc: c@c.example\nBcc: hidden@d.example\nSubject: x\n\nbody\n.\nmore\n"
)
RESENT = b"Resent-To: again@e.example\nTo: bob@b.example\nResent-Bcc: f@f.example\n\nbody\n"
HOSTILE = b"To: bob@b.example\nSubject: $(touch /tmp/x); `id`\n -oQ/tmp\n\nBcc: body@x.example\n"

SAME: list[tuple[list[str], bytes]] = [
    # cron of Debian, cron of others, mailx, git, unattended-upgrades, logwatch
    (["-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root"], PLAIN),
    (["-i", "-FCronDaemon", "-odi", "-oem", "-oi", "-t", "-f", "root"], PLAIN),
    (["-i", "--", "root"], PLAIN),
    (["-i", "bob@b.example", "c@c.example"], PLAIN),
    (["-oi", "-t"], PLAIN),
    (["-t"], PLAIN),
    # the sender
    (["-f", "me@a.example", "root"], PLAIN),
    (["-fme@a.example", "root"], PLAIN),
    (["-rme@a.example", "root"], PLAIN),
    (["-f", "", "root"], PLAIN),
    (["-f", "<>", "root"], PLAIN),
    (["-f<>", "root"], PLAIN),
    (["-f", "Full Name <me@a.example>", "root"], PLAIN),
    (["-f", "one@a.example", "-f", "two@a.example", "root"], PLAIN),
    (["-foo@a.example", "root"], PLAIN),
    # bundles, values glued and apart, what is ignored
    (["-ti"], PLAIN),
    (["-it"], PLAIN),
    (["-tif", "me@a.example"], PLAIN),
    (["-tfme@a.example"], PLAIN),
    (["-bm", "root"], PLAIN),
    (["-N", "never", "-R", "hdrs", "-V", "abc", "root"], PLAIN),
    (["-O", "QueueDirectory=/tmp", "-o7", "-om", "-G", "-U", "-m", "-L", "x", "root"], PLAIN),
    (["-h5", "-p", "smtp", "-A", "m", "-e", "m", "-c", "-x", "root"], PLAIN),
    # lists, names, groups, comments
    (["Bob <bob@b.example>, root"], PLAIN),
    (["bob@b.example,c@c.example", "d@d.example"], PLAIN),
    (["root (the administrator)"], PLAIN),
    (["friends: a@a.example, b@b.example;"], PLAIN),
    (["a@a.example <a@a.example>, [ops] <root>"], PLAIN),
    # -t: the header, with arguments, and of a resent message
    (["-t", "more@m.example"], PLAIN),
    (["-t"], RESENT),
    (["-t", "root"], RESENT),
    (["-t"], HOSTILE),
    (["-t"], b"To: a@a.example <a@a.example>,\n b@b.example <b@b.example>\nCc: [ops] <root>\n\nx"),
    (["-t"], b"To: undisclosed-recipients:;\nBcc: a@a.example\n\nx"),
    (["-t"], b"From root Thu Jan  1\n>From x\nTo: a@a.example\n\nx\n"),
    (["-t"], b"TO:a@a.example\ncc : b@b.example\n\nTo: c@c.example\n"),
    (["-t"], b"To: a@a.example,\n b@b.example\r\n\n"),
    (["-t"], b"To: a@a.example\nno field\nCc: b@b.example\n\nx\n"),
    # wrong
    ([], PLAIN),
    (["-f", "me@a.example"], PLAIN),
    (["-t"], b"Subject: nobody\n\nTo: a@a.example\n"),
    (["-t"], b"To: a@a.example <a@a.example>,\n b@b.example <b@b.example>\nCc: [ops] <root>\n\nx"),
    (["-t"], b"To: undisclosed-recipients:;\n\nx"),
    (["-zz", "root"], PLAIN),
    (["-f"], PLAIN),
    (["-o"], PLAIN),
    (["-B", "9BIT", "root"], PLAIN),
    (["-bz"], PLAIN),
    (["-bp", "root"], PLAIN),
    (["-bs", "root"], PLAIN),
    (["-q", "root"], PLAIN),
    (["-qfoo"], PLAIN),
    (["-qI"], PLAIN),
    (["-qR"], PLAIN),
    (["-qS1"], PLAIN),
    (["-Xlog", "root"], PLAIN),
    (["-t", "-bp"], PLAIN),
    (["-qIabc", "-bp"], PLAIN),
    (["-qIabc", "root"], PLAIN),
]


def ours(words: list[str], octets: bytes) -> Dropped:
    """What we make of the same call."""
    try:
        line = command_line("/usr/sbin/sendmail", words)
        message = collected(octets, ends_at_dot=line.ends_at_dot)
        rcpt_tos = (*line.rcpt_tos, *(header_recipients(message) if line.from_header else ()))
        if not rcpt_tos:
            raise UsageError("no recipient")
    except (UsageError, MalformedMessage):
        return Dropped(accepted=False)
    return Dropped(True, own_user() if line.sender is None else line.sender, rcpt_tos)


@pytest.mark.parametrize(("words", "octets"), SAME)
def test_fwd_07_the_envelope_is_that_of_postfix(
    words: list[str], octets: bytes, postfix_sendmail: SendmailOfPostfix
) -> None:
    assert ours(words, octets) == postfix_sendmail.run(words, octets)


REFUSED = [
    (["--", "-t"], "a recipient cannot be read"),
    (["-t", "--", "-oQ/tmp"], "a recipient cannot be read"),
    (["-"], "a recipient cannot be read"),
    (["root", "-f", "x"], "a recipient cannot be read"),
    (["--", "<-t@x.example>"], "a recipient cannot be read"),
    (["--", "a@-x.example"], "a recipient cannot be read"),
    (["-f", "-oQ/tmp", "root"], "sender .-f. cannot be read"),
    (["-f-oQ/tmp", "root"], "sender .-f. cannot be read"),
    (["-f", "a@b\nBcc: x@y", "root"], "sender .-f. cannot be read"),
    (["a@b.example\nBcc: x@y.example"], "a recipient cannot be read"),
    (["|/bin/sh"], "a recipient cannot be read"),
    (["/etc/passwd"], "a recipient cannot be read"),
    ([":include:/etc/passwd"], "a recipient cannot be read"),
    (["alice bob"], "a recipient cannot be read"),
    (['"a b"@c.example'], "a recipient cannot be read"),
    (["a@b.example; c@d.example"], "a recipient cannot be read"),
    (["a\udcff@b.example"], "a recipient cannot be read"),
    ([""], "a recipient is empty"),
    (["-bv", "root"], "mode of -b is not supported"),
    (["-bd"], "no daemon to start"),
    (["-bi"], "-bi is not supported"),
    (["-I"], "-I is not supported"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED)
def test_fwd_04_what_postfix_would_take_and_we_refuse(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        command_line("sendmail", words)
    assert not [word for word in words if len(word) > 3 and word in refused.value.text]


MODES = [
    ("sendmail", ["-bs"], CommandLine(Mode.SMTP)),
    ("sendmail", ["-bp"], CommandLine(Mode.LIST)),
    ("/usr/bin/mailq", [], CommandLine(Mode.LIST)),
    ("mailq", ["-q"], CommandLine(Mode.FLUSH)),
    ("sendmail", ["-q"], CommandLine(Mode.FLUSH)),
    ("sendmail", ["-qIabc"], CommandLine(Mode.FLUSH, queue_id="abc")),
    ("sendmail", ["-qRexample.org"], CommandLine(Mode.FLUSH)),
    ("sendmail", ["-q30m"], CommandLine(Mode.NOTHING)),
    ("sendmail", ["-bH"], CommandLine(Mode.NOTHING)),
    ("sendmail", ["-n", "-i", "root"], CommandLine(rcpt_tos=("root",), ends_at_dot=False)),
    (
        "sendmail",
        ["-oi", "-F", "A B", "root"],
        CommandLine(Mode.DELIVER, None, "A B", ("root",), False, False),
    ),
]


@pytest.mark.parametrize(("program", "words", "meant"), MODES)
def test_modes(program: str, words: list[str], meant: CommandLine) -> None:
    assert command_line(program, words) == meant


def test_the_names_of_other_programs() -> None:
    with pytest.raises(UsageError, match="nothing to initialize"):
        command_line("/usr/bin/newaliases", [])


@given(st.lists(st.text(alphabet='-tifroqbFX <>@,a\n"\udc80', max_size=6), max_size=5))
def test_fwd_04_no_address_can_be_an_option_or_a_line(words: list[str]) -> None:
    try:
        line = command_line("sendmail", words)
    except UsageError:
        return
    for address in (*line.rcpt_tos, line.sender or ""):
        assert not address.startswith("-")
        assert "@-" not in address
        assert not set(address) & set(' \n"<>,;:|')
