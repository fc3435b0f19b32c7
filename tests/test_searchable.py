"""What of a message is found by which term: Dovecot, searching the same octets, is the reference."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.searchable import Key, Searchable, fold, pack, searchable, unpack
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.transcript import RawImap, direct

HEAD = b"From: a@example.org\r\nDate: Mon, 02 Mar 2026 23:30:00 -0500\r\n"
MAIL = [
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= from =?iso-8859-1?q?K=F6ln?=\r\n\r\nplain words\r\n",
    b"Subject: folded\r\n\t  subject\r\n   here\r\nX-Odd:value\r\nX-Odd: second  value\r\n\r\n"
    b"text over\r\nlines\r\n",
    b'To: "Quoted, Name" <q@example.org>, Bare Name <b@example.org> (comment), undisclosed:;\r\n'
    b"Cc: =?utf-8?q?J=C3=B6rg?= <joerg@example.org>,\r\n"
    b" group: one@example.net, Two <two@example.net>;\r\n\r\nx\r\n",
    b"Content-Type: text/html; charset=utf-8\r\n\r\n<p>bold <b>wo</b>rd &auml; caf\xc3\xa9</p>\r\n",
    b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    b"na=EFve soft=\r\nbreak\r\n",
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"c3VwcsOqbWUgdHJlYXN1cmUg4oSr4pmCIO+sgW5kIO2VnOq4gCDDnw==\r\n",
    b"Content-Type: text/plain; charset=x-unknown\r\n\r\nunknown charset\r\n",
    b"Content-Transfer-Encoding: x-odd\r\n\r\nunknown encoding\r\n",
    b"Content-Type: application/pdf\r\n\r\nnot text at all\r\n",
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npreamble words\r\n--b\r\n"
    b"Content-Type: text/plain\r\nContent-Description: described\r\n\r\nfirst part\r\n--b\r\n"
    b"Content-Type: message/rfc822\r\n\r\nSubject: embedded subject\r\nX-Inner: deep\r\n\r\nembedded body\r\n"
    b"--b\r\nContent-Type: application/octet-stream; name=blob\r\n\r\nbinary words\r\n--b--\r\nepilogue\r\n",
    b'To: start <a@b>, <@r1,@r2:route@y>, "we ird"@y, foo, "" <e@b>, grp: N <n@b>;, "q=x" <a@b>,\r\n'
    b" a.b <d@b>, =?utf-8?q?a=2Cb?= <x@y>, broken <broken, undisclosed:;\r\n\r\n"
    b"decomposed \xc7\x96 \xc4\xb3 \xf0\x9d\x90\x80\r\n",
    b"no colon line\r\nSubject: after\r\n\r\nbody\r\n",
    b"Subject:\r\nX-Empty: \r\nKeywords: one\r\nKeywords: two\r\n\r\n",
    b"Subject: raw \xff octets \xc3\xa4\r\n\r\nbroken \xff\xfe utf-8 \xc3\xa4 here\r\n",
]
TERMS = (
    "GRÜSSE grüße Grüße köln KOLN subject|folded subject|subject here|value|second value|second  value"
    '|text over|over\r\nlines|quoted, name|"quoted, name"|name <q@|bare name|comment|(comment)|undisclosed'
    "|undisclosed:|jörg|JORG|joerg@|group: one|one@example.net, two|bold <b>wo|word|café|CAFE|naïve"
    "|softbreak|suprême|treasure|Å|♂|find|ﬁnd|한|글|ß|ss|unknown charset|unknown encoding|not text|preamble"
    "|first part|described|embedded subject|deep|embedded body|binary words|blob|epilogue|no colon"
    '|after|one|two|raw|octets|broken|ä|<@r1|ird"@y|foo@m|, ""|n <n@b>;|q=x <|a.b <|"a.b" <|a,b <x@y>'
    "|syntax_e|ǖ|ĳ|\U0001d400|A|a@b|<e@b>, grp|here|content-type|subject: |x-inner: deep|example.org"
    "|2026|x\r\n|utf-8 ä"
)
LIST = [term for part in TERMS.split("|") for term in ([part] if " " in part else part.split())]
KEYS = ["SUBJECT", "FROM", "TO", "CC", "BCC", "BODY", "TEXT"]
NAMES = ["Subject", "x-odd", "X-Empty", "Keywords", "To", "Cc", "Content-Type", "X-Inner", "X-None", "Date"]


def uids(responses: list[bytes]) -> set[int]:
    """Of an untagged SEARCH."""
    found = [one for one in responses if one.startswith(b"* SEARCH")]
    return {int(number) for one in found for number in one.split()[2:]}


def quoted(term: str) -> tuple[bytes, ...]:
    """A term as the last argument: the announcement of a literal, and the literal."""
    octets = term.encode()
    return b"{%d}" % len(octets), octets


def ask(imap: RawImap, key: str, term: str) -> set[int]:
    """What the server finds."""
    head, literal = quoted(term)
    return uids(imap.ok(b"UID SEARCH CHARSET UTF-8 " + key.encode() + b" " + head, literal))


def ours(kept: dict[int, Searchable], key: str, term: str) -> set[int]:
    """What we find."""
    name, _, field = key.partition(" ")
    wanted = Key(name, fold(term), fold(field))
    return {uid for uid, one in kept.items() if wanted.matches(one)}


def stored(imap: RawImap, messages: list[bytes]) -> dict[int, Searchable]:
    """Append the messages and read each for ourselves."""
    for octets in messages:
        imap.ok(b"APPEND INBOX {%d}" % len(octets), octets)
    imap.ok(b"SELECT INBOX")
    return {uid: searchable(octets) for uid, octets in enumerate(messages, 1)}


@pytest.fixture(scope="module")
def table(dovecot: Dovecot) -> Iterator[tuple[RawImap, dict[int, Searchable]]]:
    """The messages above on the server, and what we made of them."""
    with direct(dovecot.mailbox("searched")) as imap:
        yield imap, stored(imap, [HEAD + octets for octets in MAIL])


@pytest.mark.parametrize("key", KEYS + [f"HEADER {name}" for name in NAMES])
def test_terms_are_found_where_the_server_finds_them(
    table: tuple[RawImap, dict[int, Searchable]], key: str
) -> None:
    imap, kept = table
    for term in [*LIST, *([""] if key.startswith("HEADER") else [])]:
        assert (term, ours(kept, key, term)) == (term, ask(imap, key, term))


def test_terms_from_odd_mail(dovecot: Dovecot, odd_mail: list[bytes]) -> None:
    """Words of each message, searched in all of them."""
    chance = random.Random(16)
    messages = [octets.replace(b"\0", b"?") for octets in odd_mail if len(octets) < 100_000]
    messages = chance.sample(messages, min(60, len(messages)))
    with direct(dovecot.mailbox("odd")) as imap:
        kept = stored(imap, messages)
        terms = set()
        for one in kept.values():
            words = re.findall(rb"[^\s\xff\x00-\x1f\x7f]{4,20}", one.text)
            terms.update(word.decode(errors="replace") for word in chance.sample(words, min(2, len(words))))
        for term in sorted(terms):
            for key in ("TEXT", "BODY", chance.choice(KEYS)):
                assert (key, term, ours(kept, key, term)) == (key, term, ask(imap, key, term))


@given(st.binary(max_size=300))
def test_anything_can_be_packed(octets: bytes) -> None:
    found = searchable(b"Subject: " + octets + b"\r\n\r\n" + octets)
    assert unpack(pack(found)) == found


@pytest.mark.parametrize(
    "charset", ["base64", "hex", "rot13", "zip", "bz2", "uu", "quopri", "undefined", "mbcs"]
)
def test_what_is_no_charset_is_no_obstacle(charset: str) -> None:
    """One such message would keep all others from being searched."""
    word = f"=?{charset}?q?words?="
    octets = (
        f"Subject: {word}\r\nFrom: {word} <a@b>\r\nContent-Type: text/plain; charset={charset}\r\n\r\nwords"
    )
    found = searchable(octets.encode())
    assert Key("SUBJECT", b"WORDS").matches(found)
    assert Key("FROM", b"WORDS").matches(found)
    assert Key("BODY", b"WORDS").matches(found)


@pytest.mark.parametrize("day", ["9" * 20 + " Jan 2026", "1 Jan " + "9" * 5000, "0 Jan 0", "1 Jan 99999"])
def test_a_date_that_is_none_is_no_obstacle(day: str) -> None:
    assert searchable(f"Date: {day} 10:00:00 +0000\r\n\r\nx".encode()).sent == 0


def test_long_text_is_folded_as_short_text_is() -> None:
    text = "a\u00e9\ufffd\ufffd\uac01" * 50_000
    assert fold(text) == fold(text[:5]) * 50_000
    assert fold("\ufffd" * 200_000) == "\ufffd".encode()
