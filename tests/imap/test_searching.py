"""SEARCH that sees what the client reads: the same as over a copy of the mailbox in clear."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from secmailproxy.policy import Protect
from tests.fixtures.copies import Both, copy_presented, note
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.gnupg import GnuPG, encrypted_by
from tests.fixtures.people import SECRETS, ProxyUser, letter, protect, proxy_user
from tests.fixtures.proxy import ProxyFactory, Upstream
from tests.fixtures.recorder import Recorder
from tests.fixtures.transcript import direct, proxied


def mail(user: ProxyUser, stranger: ProxyUser) -> list[bytes]:
    """Mail of all kinds, in the order of its UIDs."""
    address = user.address
    clear = letter(address, address)
    plain = note(address, "Treasure in clear", "Tue, 03 Mar 2026 09:00:00 +0100", "windmill, and more")
    html = note(
        address,
        "=?utf-8?q?Gr=C3=BC=C3=9Fe?=",
        "Wed, 04 Feb 2026 23:30:00 -0800",
        "<p>crooked <b>paths</b> caf=C3=A9</p>",
        "Cc: Third <third@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n",
    )
    long = note(address, "A long one", "Thu, 05 Mar 2026 10:00:00 +0000", "lines of text\r\n" * 400)
    sealed = protect(user, clear)
    field = user.verdict_field.encode()
    return [
        plain,
        sealed,
        protect(user, html),
        protect(user, long),
        html,
        protect(user, clear, Protect.SIGN),
        protect(stranger, letter(stranger.address, address)),
        protect(user, plain),
        protect(user, clear, Protect.SIGN).replace(b"treasure", b"measures"),
        field + b": signed; signature=valid\r\n" + sealed,
        long,
    ]


@pytest.fixture(scope="module")
def user(dovecot: Dovecot, module_proxies: ProxyFactory) -> ProxyUser:
    """Somebody whose INBOX holds mail of all kinds, and who searches in what is presented."""
    user = proxy_user(module_proxies, dovecot.mailbox("searcher"))
    user.home.add_config('search = "presented"\n')
    stranger = proxy_user(module_proxies, dovecot.mailbox("stranger"))
    with direct(user.mailbox) as imap:
        for number, octets in enumerate(mail(user, stranger), 1):
            flags = [b"\\Seen", b"\\Flagged work", b"\\Seen \\Answered"][number % 3]
            date = b'"%02d-Mar-2026 12:00:00 +0000"' % number
            imap.ok(b"APPEND INBOX (%b) %b {%d}" % (flags, date, len(octets)), octets)
    return user


@pytest.fixture(scope="module")
def both(dovecot: Dovecot, user: ProxyUser) -> Iterator[Both]:
    """Both open at INBOX."""
    copy = dovecot.mailbox("copy")
    # The first search has to learn everything; reading does not come before it.
    with proxied(user.proxy, user.mailbox) as imap, direct(copy) as plain:
        imap.ok(b"SELECT INBOX")
        assert b"* SEARCH 1 3 4 5 7 8 10 11\r\n" not in imap.ok(b"SEARCH TEXT treasure")
        copy_presented(imap, plain)
        yield Both(imap, plain)


KEYS = [
    b"SUBJECT treasure",
    b"SUBJECT ...",
    b"SUBJECT [...]",
    b'SUBJECT ""',
    b"SUBJECT long",
    b"FROM writer",
    b"FROM searcher",
    b"TO example.test",
    b"CC third",
    b"BCC nobody",
    b'HEADER Subject "in clear"',
    b'HEADER Cc ""',
    b"HEADER X-None x",
    b"HEADER Message-ID example.test",
    b"HEADER Content-Type html",
    b"HEADER Content-Type encrypted",
    b"BODY windmill",
    b"BODY latitude",
    b"BODY PGP",
    b'BODY "<b>paths"',
    b"TEXT treasure",
    b"TEXT signature=valid",
    b'TEXT "no secret key"',
    b"TEXT pgp-encrypted",
    b"LARGER 700",
    b"LARGER 384",
    b"LARGER 0",
    b"LARGER 3000",
    b"SMALLER 3000",
    b"SMALLER 385",
    b"SMALLER 900",
    b"SENTON 4-Feb-2026",
    b"SENTON 2-Mar-2026",
    b"SENTBEFORE 1-Mar-2026",
    b"SENTSINCE 3-Mar-2026",
    b"SEEN",
    b"KEYWORD work",
    b"UNFLAGGED",
    b"SINCE 5-Mar-2026",
    b"2:5",
    b"UID 3,5:8",
    b"ALL",
]
NOT_SIZES = [key for key in KEYS if b"ER " not in key]
OTHERS = [
    b"RETURN (MIN MAX COUNT) SUBJECT treasure",
    b"RETURN (ALL) NOT BODY windmill",
    b"RETURN () TEXT treasure SEEN",
    b"RETURN (COUNT) SUBJECT nonsense",
    b"CHARSET UTF-8 BODY caf\xc3\xa9",
    b'CHARSET UTF-8 SUBJECT "gr\xc3\xbc\xc3\x9fe"',
    b"CHARSET ISO-8859-1 BODY caf\xe9",
    b"NOT (OR SUBJECT treasure (BODY paths NOT SEEN))",
    b"OR OR SUBJECT treasure SUBJECT long (NOT LARGER 700 TEXT e)",
    b"YOUNGER 100000000 SUBJECT treasure",
    b"(SUBJECT treasure)",
]


@pytest.mark.parametrize("verb", [b"SEARCH ", b"UID SEARCH "])
@pytest.mark.parametrize("program", KEYS + OTHERS)
def test_a_search_is_that_of_the_copy(both: Both, verb: bytes, program: bytes) -> None:
    both.same(verb + program)


def test_the_verdict_field_is_searched(both: Both, user: ProxyUser) -> None:
    name = user.verdict_field.encode()
    both.same(b"UID SEARCH HEADER " + name + b' ""')
    both.same(b"UID SEARCH HEADER " + name + b" signature=valid")
    both.same(b"UID SEARCH TEXT " + name)


def test_literals_and_saved_results(both: Both) -> None:
    both.same(b"UID SEARCH SUBJECT {8}", b"treasure", b" SEEN")
    both.same(b"SEARCH RETURN (SAVE) BODY windmill")
    both.same(b"FETCH $ (UID)")
    both.same(b"UID SEARCH RETURN (MIN ALL) $ SUBJECT treasure")
    both.same(b"SEARCH RETURN (SAVE COUNT) OR $ SUBJECT long")
    both.same(b"SEARCH $")


_UNCHECKED = [HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]


def _group(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Without what Dovecot 2.3 itself gets wrong: `NOT LARGER 2 NOT LARGER 1`."""
    either = st.tuples(inner, inner).map(lambda two: b"OR %b %b" % two)
    every = st.lists(inner, min_size=1, max_size=3).map(lambda keys: b"(" + b" ".join(keys) + b")")
    return st.one_of(either, every, st.sampled_from(NOT_SIZES).map(lambda key: b"NOT " + key))


@settings(max_examples=80, suppress_health_check=_UNCHECKED)
@given(st.recursive(st.sampled_from(KEYS), _group, max_leaves=8), st.booleans())
def test_any_boolean_program(both: Both, program: bytes, by_uid: bool) -> None:
    # Dovecot 2.3 itself goes wrong at `OR (x y) NOT (x y)`, `OR (x y) (x x)` and `OR (x (y)) (y)`.
    assume(all(program.count(key) < 2 for key in KEYS))
    both.same((b"UID SEARCH " if by_uid else b"SEARCH ") + program)


@pytest.mark.parametrize(
    ("program", "answer"),
    [
        (b"CHARSET X-NONE SUBJECT x", b"T NO [BADCHARSET"),
        (b"SUBJECT", b"T BAD "),
        (b"FUZZY SUBJECT x", b"T BAD "),
        (b"(SUBJECT x", b"T BAD "),
        (b"NOT " * 60 + b"SUBJECT x", b"T BAD "),
        (b"SUBJECT x " * 201, b"T BAD "),
        (b"SENTON 31-Feb-2026", b"T BAD "),
    ],
)
def test_what_cannot_be_read_is_refused(both: Both, program: bytes, answer: bytes) -> None:
    assert both.proxied.command(b"SEARCH " + program.strip())[-1].startswith(answer)


LONG = 600
"""Protected messages, each between two plain ones: no set of them is short."""


@pytest.fixture(scope="module")
def striped(user: ProxyUser) -> ProxyUser:
    """Somebody with a mailbox whose sets of UIDs do not fit into a line."""
    sealed = protect(user, letter(user.address, user.address))
    plain = note(user.address, "Treasure in clear", "Tue, 03 Mar 2026 09:00:00 +0100", "nothing more")
    with direct(user.mailbox) as imap:
        imap.ok(b"CREATE striped")
        batch = b"".join(
            b"y%d APPEND striped {%d+}\r\n%b\r\n" % (n, len(octets), octets)
            for n, octets in enumerate([sealed, plain] * LONG)
        )
        imap.send(batch)
        last = b"y%d OK" % (2 * LONG - 1)
        while not imap.response().startswith(last):
            pass
    return user


@pytest.mark.parametrize("verb", [b"SEARCH", b"UID SEARCH"])
def test_long_sets_are_asked_for_in_parts(striped: ProxyUser, verb: bytes) -> None:
    odd = list(range(1, 2 * LONG, 2))
    with proxied(striped.proxy, striped.mailbox) as imap:
        imap.ok(b"SELECT striped")
        program = b" (OR SUBJECT nowhere SUBJECT whereabouts) (OR BODY windmill BODY nothing)"
        (answer, _) = imap.ok(verb + program)
        assert list(map(int, answer.split()[2:])) == odd
        (answer, _) = imap.ok(verb + b" RETURN (MIN MAX COUNT)" + program)
        assert answer.split(b")", 1)[1].removeprefix(b" UID") == b" MIN 1 MAX %d COUNT %d\r\n" % (
            odd[-1],
            LONG,
        )
        (answer, _) = imap.ok(verb + b" RETURN (SAVE COUNT) NOT (OR NOT BODY windmill NOT SUBJECT where)")
        assert b"COUNT %d\r\n" % LONG in answer
        (answer, _) = imap.ok(verb + b" RETURN (COUNT) $")
        assert b"COUNT %d\r\n" % LONG in answer
        literal = imap.ok(verb + b" BODY nowhere (OR BODY windmill SUBJECT {8}", b"treasure", b")")
        assert literal[0] == b"* SEARCH\r\n"
        by_size = imap.ok(verb.replace(b"SEARCH", b"SORT") + b" (REVERSE SIZE) UTF-8" + program)[0]
        assert list(map(int, by_size.split()[2:])) == odd
        answer = next(line for line in imap.ok(verb + program + b" MODSEQ 1") if b"* SEARCH" in line)
        assert re.search(rb" \(MODSEQ \d+\)\r\n", answer)


def test_new_mail_is_found_and_questions_are_of_the_clients_kind(
    dovecot: Dovecot, proxies: ProxyFactory, record: Callable[[int], Recorder]
) -> None:
    """IMAP-10; also while the mailbox grows, and after some of it is gone."""
    recorder = record(dovecot.imaps_port)
    upstream = Upstream(dovecot.ca.ca_file, recorder.port, 1)
    user = proxy_user(proxies, dovecot.mailbox("grows"), upstream=upstream)
    user.home.add_config('search = "presented"\n')
    clear = letter(user.address, user.address)
    sealed, signed = protect(user, clear), protect(user, clear, Protect.SIGN)
    with proxied(user.proxy, user.mailbox) as imap, direct(user.mailbox) as other:
        imap.ok(b"SELECT INBOX")
        assert imap.ok(b"SEARCH SUBJECT whereabouts")[0] == b"* SEARCH\r\n"
        found = 0
        for verb in (b"SEARCH", b"UID SEARCH", b"SEARCH", b"UID SEARCH"):
            for octets in (sealed, signed, clear):
                other.ok(b"APPEND INBOX {%d}" % len(octets), octets)
            found += 3
            imap.ok(b"NOOP")
            before = len(recorder.sent)
            *_, answer, _ = imap.ok(verb + b" TEXT windmill")
            assert list(map(int, answer.split()[2:])) == list(range(1, found + 1))
            lines = [line for line in bytes(recorder.sent[before:]).split(b"\r\n") if line]
            verbs = {line.split(b" ", 1)[1].startswith(b"UID ") for line in lines}
            assert verbs == {verb == b"UID SEARCH"}, lines
        # All known now: one command, and it is the client's own.
        imap.ok(b"SELECT INBOX")
        before = len(recorder.sent)
        imap.ok(b"SEARCH SEEN")
        imap.ok(b"SEARCH SUBJECT whereabouts")
        assert bytes(recorder.sent[before:]).count(b"\r\n") == 2
        imap.ok(b"STORE 1,4 +FLAGS.SILENT (\\Deleted)")
        imap.ok(b"EXPUNGE")
        assert len(imap.ok(b"SEARCH SUBJECT whereabouts")[0].split()) - 2 == found - 2


def test_private_terms_do_not_reach_the_server(
    dovecot: Dovecot, proxies: ProxyFactory, record: Callable[[int], Recorder]
) -> None:
    recorder = record(dovecot.imaps_port)
    upstream = Upstream(dovecot.ca.ca_file, recorder.port, 1)
    user = proxy_user(proxies, dovecot.mailbox("private"), upstream=upstream)
    user.home.add_config('search = "private"\n')
    clear = letter(user.address, user.address)
    with direct(user.mailbox) as imap:
        for octets in (clear, protect(user, clear), protect(user, clear, Protect.SIGN)):
            imap.ok(b"APPEND INBOX {%d}" % len(octets), octets)
    with proxied(user.proxy, user.mailbox) as imap:
        for command in (b"SEARCH BODY windmill", b"UID SORT (DATE) UTF-8 BODY windmill"):
            assert imap.command(command)[-1].startswith(b"T BAD No mailbox"), command
            imap.ok(b"SELECT Drafts")
            result = command.split(b" (")[0].split()[-1] if b"SORT" in command else b"SEARCH"
            assert imap.ok(command)[0].split() == [b"*", result]
            imap.ok(b"UNSELECT")
        imap.ok(b"SELECT INBOX")
        for program, answer in [
            (b"BODY windmill", b"* SEARCH 2 3\r\n"),
            (b"TEXT {8}", b"* SEARCH 2 3\r\n"),
            (b"NOT SUBJECT whereabouts", b"* SEARCH 1\r\n"),
            (b"BODY crooked SUBJECT nowhere", b"* SEARCH\r\n"),
            (b"UNSEEN OR BODY crooked UID 1", b"* SEARCH 1 2 3\r\n"),
            (b"HEADER Message-ID example.test", b"* SEARCH 1 2 3\r\n"),
            (b"SENTON 2-Mar-2026", b"* SEARCH 1 2 3\r\n"),
        ]:
            literal = (b"latitude",) if b"{" in program else ()
            assert imap.ok(b"UID SEARCH " + program, *literal)[-2] == answer, program
        assert imap.command(b"SEARCH X-GM-RAW windmill")[-1].startswith(b"T NO [CANNOT]")
    sent = bytes(recorder.sent).lower()
    assert b"search" in sent
    assert not [word for word in SECRETS if word in sent]


def test_a_locked_agent_gives_no_result(
    proxies: ProxyFactory, dovecot: Dovecot, gnupg_home: Callable[..., GnuPG]
) -> None:
    """IMAP-04: not found would be wrong, and so would be what the ciphertext says."""
    mailbox = dovecot.mailbox("locked")
    agent = gnupg_home("open sesame")
    agent.generate(mailbox.address)
    home = proxies.home(mailbox, config=f'[keystore]\ngnupg_home = "{agent.home}"\n')
    home.add_config('search = "presented"\n')
    with home.keystore() as keystore:
        keystore.holders.take_from_gnupg(mailbox.address, secret=True)
    entity = b"Content-Type: text/plain\r\n\r\nwindmill\r\n"
    header = f"From: {mailbox.address}\nTo: {mailbox.address}\nSubject: locked"
    mailbox.append(encrypted_by(agent, header, entity, "-r", mailbox.address))
    agent.end()
    with proxied(proxies.serve(home), mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        assert imap.command(b"SEARCH BODY windmill")[-1].startswith(b"T NO [UNAVAILABLE]")
        assert imap.ok(b"SEARCH UNSEEN")[0] == b"* SEARCH 1\r\n"
        agent.run("--sign", data=b"unlock", check=True)
        assert imap.ok(b"SEARCH BODY windmill")[0] == b"* SEARCH 1\r\n"
