"""What a client wishes for one message: read from fields and the subject, and never against a rule."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore.model import Scheme
from secmailproxy.errors import NotAllowed
from secmailproxy.mime.entity import parse
from secmailproxy.rules import Protect, Rule
from secmailproxy.wishes import NO_WISH, SubjectWord, Wish, read, wished, without_words

NEVER, SIGN, PREFER, REQUIRE = Protect.NEVER, Protect.SIGN, Protect.PREFER, Protect.REQUIRE
BOB = "bob@example.org"
WORDS = (
    SubjectWord("[encrypt]", Wish(protect=REQUIRE)),
    SubjectWord("[clear]", Wish(protect=NEVER)),
    SubjectWord("[key]", Wish(attach_key=True)),
)


def wish_of(header: bytes) -> Wish:
    return read(parse(header + b"\r\nbody\r\n"), WORDS)


@pytest.mark.parametrize(
    ("header", "wish"),
    [
        (b"To: bob@example.org\r\n", NO_WISH),
        (b"X-Secmailproxy-Protect: require\r\n", Wish(protect=REQUIRE)),
        (b"x-SECMAILPROXY-protect :\r\n\tREQUIRE \r\n", Wish(protect=REQUIRE)),
        (b"X-Secmailproxy-Protect: never\r\nX-Secmailproxy-Protect: Never\r\n", Wish(protect=NEVER)),
        (b"X-Secmailproxy-Scheme: smime\r\n", Wish(scheme=Scheme.SMIME)),
        (b"X-Secmailproxy-Scheme: any\r\n", NO_WISH),
        (b"X-Secmailproxy-Subject: show\r\n", Wish(hide_subject=False)),
        (b"X-Secmailproxy-Attach-Key: yes\r\n", Wish(attach_key=True)),
        (b"X-Secmailproxy-Attach-Key: no\r\n", Wish(attach_key=False)),
        (b"Subject: [Encrypt] Hello [key]\r\n", Wish(protect=REQUIRE, attach_key=True)),
        (b"Subject: =?utf-8?Q?[encrypt]_=C3=BC?=\r\n", Wish(protect=REQUIRE)),
        (
            b"Subject: [encrypt]\r\nX-Secmailproxy-Protect: require\r\nX-Secmailproxy-Subject: hide\r\n",
            Wish(protect=REQUIRE, hide_subject=True),
        ),
        (b"Subject: an [encrypt] inside\r\n", NO_WISH),
        (b"Secmail-Verdict-0123456789abcdef: x\r\n", NO_WISH),
    ],
)
def test_wishes_are_read(header: bytes, wish: Wish) -> None:
    assert wish_of(header) == wish


@pytest.mark.parametrize(
    "header",
    [
        b"X-Secmailproxy-Protect: requre\r\n",
        b"X-Secmailproxy-Protect:\r\n",
        b"X-Secmailproxy-Protect: require, sign\r\n",
        b"X-Secmailproxy-Protect: =?utf-8?Q?require?=\r\n",
        b"X-Secmailproxy-Protect: require (please)\r\n",
        b"X-Secmailproxy-Protekt: require\r\n",
        b"X-Secmailproxy-Protect require\r\n",
        b"X-Secmailproxy: require\r\n",
        b"X-Secmail-Proxy-Protect: require\r\n",
        b"Secmailproxy-Protect: require\r\n",
        b"X_Secmailproxy_Protect: require\r\n",
        b"X-Secmailproxy-Scheme: pgp\r\n",
        b"X-Secmailproxy-Subject: true\r\n",
        b"X-Secmailproxy-Attach-Key: maybe\r\n",
        b"X-Secmailproxy-Protect: require\r\nX-Secmailproxy-Protect: sign\r\n",
        b"X-Secmailproxy-Protect: require\r\nX-Secmailproxy-Protect: requir\r\n",
        b"X-Secmailproxy-Protect: never\r\nSubject: [encrypt] x\r\n",
        b"Subject: [encrypt] x [clear]\r\n",
    ],
)
def test_what_cannot_be_obeyed_is_refused_without_its_text(header: bytes) -> None:
    with pytest.raises(NotAllowed) as refusal:
        wish_of(header)
    assert (refusal.value.smtp_code, refusal.value.enhanced_status) == (554, "5.7.1")
    for text in ("requre", "maybe", "Protekt"):
        assert text not in refusal.value.text


WEAK = (
    SubjectWord("[clear]", Wish(protect=NEVER)),
    SubjectWord("[sign]", Wish(protect=SIGN)),
    SubjectWord("[show]", Wish(hide_subject=False)),
)


@pytest.mark.parametrize("word", [one.word for one in WEAK])
@pytest.mark.parametrize(
    "field",
    [
        b"In-Reply-To: <1@x>",
        b"REFERENCES:\r\n <1@x>",
        b"X-Forwarded-Message-Id: <1@x>",
        b"Resent-To: carol@example.org",
    ],
)
def test_a_word_of_a_correspondent_cannot_ask_for_less_protection(word: str, field: bytes) -> None:
    """A subject comes back in the answer to it, with whatever stands at its end."""
    subject = f"Subject: hello {word}\r\n".encode()
    assert read(parse(subject + b"\r\n"), WEAK) != NO_WISH
    with pytest.raises(NotAllowed, match="less"):
        read(parse(subject + field + b"\r\n\r\n"), WEAK)
    if not field.startswith(b"Resent"):
        owners = f"Subject: {word} Re: hello\r\n".encode()
        assert read(parse(owners + field + b"\r\n\r\n"), WEAK) != NO_WISH


@pytest.mark.parametrize(
    "message",
    [
        "Subject: Re: hello [clear]\r\n\r\n",
        "Subject: Fwd: hello [clear]\r\n\r\n",
        "Subject: WG : hello [clear]\r\n\r\n",
        "Subject: Re[2]: hello [sign]\r\n\r\n",
        "Subject: =?utf-8?q?=E8=BD=AC=E5=8F=91=EF=BC=9Ahello?= [show]\r\n\r\n",
        "Subject: [bob@example.org: hello] [clear]\r\n\r\n",
        "Subject: hello [clear]\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: hello [clear]\r\n\r\n\r\n--b--\r\n",
    ],
)
def test_an_answer_is_known_by_its_subject_and_what_it_holds_too(message: str) -> None:
    """Some clients forward without a word on what they forward."""
    with pytest.raises(NotAllowed, match="less"):
        read(parse(message.encode()), WEAK)


def test_fields_are_the_owners_but_in_what_is_sent_on() -> None:
    answer, sent_on = b"In-Reply-To: <1@x>\r\n", b"Resent-From: alice@example.org\r\n"
    never = b"X-Secmailproxy-Protect: never\r\n"
    assert wish_of(answer + never).protect is NEVER
    with pytest.raises(NotAllowed, match="sent on"):
        wish_of(sent_on + never)
    for strong in (b"X-Secmailproxy-Protect: require\r\n", b"Subject: Re: x [encrypt]\r\n"):
        assert wish_of(answer + strong).protect is wish_of(sent_on + strong).protect is REQUIRE


@given(st.binary(max_size=20))
def test_no_value_of_a_field_is_ignored(value: bytes) -> None:
    """Obeyed or refused: there is no third way, so that no typing error sends in clear."""
    value = value.replace(b"\n", b"").replace(b"\r", b"")
    try:
        wish = wish_of(b"X-Secmailproxy-Protect: " + value + b"\r\n")
    except NotAllowed:
        assert value.strip().lower().decode("latin-1") not in [one.value for one in Protect]
    else:
        assert wish.protect is Protect(value.strip().lower().decode("latin-1"))


TABLE = {
    # rule: (wish never, sign, prefer, require); None is refused
    NEVER: (NEVER, SIGN, PREFER, REQUIRE),
    SIGN: (None, SIGN, PREFER, REQUIRE),
    PREFER: (NEVER, SIGN, PREFER, REQUIRE),
    REQUIRE: (None, None, None, REQUIRE),
}


@pytest.mark.parametrize(
    ("rule", "wish", "outcome"),
    [
        (rule, wish, outcome)
        for rule, outcomes in TABLE.items()
        for wish, outcome in zip((NEVER, SIGN, PREFER, REQUIRE), outcomes, strict=True)
    ],
)
def test_a_wish_strengthens_a_rule_and_chooses_where_it_prefers(
    rule: Protect, wish: Protect, outcome: Protect | None
) -> None:
    if outcome is not None:
        assert wished(Rule(protect=rule), Wish(protect=wish), BOB).protect is outcome
        return
    with pytest.raises(NotAllowed, match=r"weaker than the rule for <bob@example\.org>"):
        wished(Rule(protect=rule), Wish(protect=wish), BOB)


def test_a_wish_cannot_show_a_subject_that_required_encryption_hides() -> None:
    show, hide = Wish(hide_subject=False), Wish(hide_subject=True)
    with pytest.raises(NotAllowed, match='subject "show"'):
        wished(Rule(protect=REQUIRE), show, BOB)
    assert wished(Rule(protect=REQUIRE, hide_subject=False), show, BOB).hide_subject is False
    assert wished(Rule(), show, BOB).hide_subject is False
    assert wished(Rule(protect=REQUIRE, hide_subject=False), hide, BOB).hide_subject is True


def test_a_wish_chooses_a_scheme_only_where_the_rule_leaves_it_open() -> None:
    for asked, wanted in itertools.product((None, *Scheme), (None, *Scheme)):
        rule, wish = Rule(scheme=asked), Wish(scheme=wanted)
        if asked and wanted and asked is not wanted:
            with pytest.raises(NotAllowed, match="scheme"):
                wished(rule, wish, BOB)
        else:
            assert wished(rule, wish, BOB).scheme is (wanted or asked)


def test_words_are_taken_out_of_every_subject_and_nothing_else_changes() -> None:
    message = b"Subject: [encrypt] a\r\nX-Y:  kept \r\nSUBJECT: b [key]\r\n\r\n[encrypt] body\r\n"
    left = b"Subject: a\r\nX-Y:  kept \r\nSUBJECT: b\r\n\r\n[encrypt] body\r\n"
    assert without_words(parse(message), WORDS).octets == left
    root = parse(left)
    assert without_words(root, WORDS) is root
    assert without_words(parse(message), ()).octets == message
