"""Addresses and parameters of MAIL and RCPT, octet for octet (SMTP-12)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.smtp.commands import Path, Refused, mail_path, rcpt_path

ALL = {"DSN", "SMTPUTF8", "8BITMIME"}


@pytest.mark.parametrize(
    ("argument", "path"),
    [
        ("FROM:<a@example.org>", Path("a@example.org")),
        ("from: <a@example.org>", Path("a@example.org")),
        ("FROM:<>", Path("")),
        ('FROM:<"a b\\"@"@example.org>', Path('"a b\\"@"@example.org')),
        ("FROM:<@relay.example,@b.example:a@example.org>", Path("a@example.org")),
        ("FROM:<postmaster>", Path("postmaster")),
        ("FROM:<a@[127.0.0.1]>", Path("a@[127.0.0.1]")),
        ("FROM:<a@example.org> SIZE=1000", Path("a@example.org", (), 1000)),
        ("FROM:<a@example.org> AUTH=<>", Path("a@example.org")),
        ("FROM:<a@example.org> body=8bitmime", Path("a@example.org", ("body=8bitmime",))),
        (
            "FROM:<ä@example.org>  SMTPUTF8  BODY=8BITMIME",
            Path("ä@example.org", ("SMTPUTF8", "BODY=8BITMIME"), smtputf8=True),
        ),
        (
            "FROM:<a@example.org> RET=hdrs ENVID=QQ314159+3DaBc SIZE=5",
            Path("a@example.org", ("RET=hdrs", "ENVID=QQ314159+3DaBc"), 5),
        ),
    ],
)
def test_mail(argument: str, path: Path) -> None:
    """SMTP-12: case and xtext of parameters stay; SIZE and AUTH end here."""
    assert mail_path(argument, ALL) == path


@pytest.mark.parametrize(
    ("argument", "offered", "code"),
    [
        ("", ALL, 501),
        ("<a@example.org>", ALL, 501),
        ("FROM:a@example.org", ALL, 501),
        ("FROM:<a@example.org", ALL, 501),
        ("FROM:<a@example.org>SIZE=5", ALL, 501),
        ("FROM:<a b@example.org>", ALL, 501),
        ("FROM:<a@b@example.org>", ALL, 501),
        ("FROM:<a@example.org> SIZE=x", ALL, 501),
        ("FROM:<a@example.org> SIZE", ALL, 501),
        ("FROM:<a@example.org> SIZE=1 SIZE=2", ALL, 501),
        ("FROM:<a@example.org> BODY=BINARYMIME", ALL, 501),
        ("FROM:<a@example.org> SMTPUTF8=1", ALL, 501),
        ("FROM:<a@example.org> RET=HDRS", {"8BITMIME"}, 555),
        ("FROM:<a@example.org> ENVID=x", {"8BITMIME"}, 555),
        ("FROM:<a@example.org> SMTPUTF8", {"DSN"}, 555),
        ("FROM:<a@example.org> RET=HDRS\u2003ENVID=x", ALL, 501),
        ("FROM:<a@example.org> ENVID=x\u00a0y", ALL, 501),
        ("FROM:<a@example.org> XYZ=1", ALL, 555),
        ("FROM:<a@example.org> NOTIFY=NEVER", ALL, 555),
        ("FROM:<ä@example.org>", ALL, 553),
    ],
)
def test_mail_refused(argument: str, offered: set[str], code: int) -> None:
    """SMTP-12: nothing is taken that the smarthost would not get."""
    with pytest.raises(Refused) as refused:
        mail_path(argument, offered)
    assert refused.value.reply.code == code


@pytest.mark.parametrize(
    ("argument", "offered", "smtputf8", "expected"),
    [
        ("TO:<b@example.org>", (), False, Path("b@example.org")),
        (
            "TO:<b@example.org> NOTIFY=success,Failure ORCPT=rfc822;Bob+2Bx@Example.org",
            ALL,
            False,
            Path("b@example.org", ("NOTIFY=success,Failure", "ORCPT=rfc822;Bob+2Bx@Example.org")),
        ),
        ("TO:<bö@example.org>", ALL, True, Path("bö@example.org", smtputf8=True)),
        ("TO:<bö@example.org>", ALL, False, 553),
        ("TO:<>", ALL, False, 501),
        ("TO:<Postmaster>", (), False, Path("Postmaster")),
        ("TO:<b@[IPv6:::1]>", (), False, Path("b@[IPv6:::1]")),
        *(
            # Servers read these as another address, or complete them: a rule could be evaded.
            (f"TO:<{evasive}>", ALL, False, 501)
            for evasive in (
                "b",
                "b(x)@example.org",
                "b@example.org(x)",
                "b@(x)example.org",
                "\\b@example.org",
                "b,c@example.org",
                "b:c@example.org",
                "b;c@example.org",
                'b."c"@example.org',
                "b@example.org,example.net",
                "b@[127.0.0.1]x",
            )
        ),
        ("TO:<b@example.org> NOTIFY=NEVER,DELAY", ALL, False, 501),
        ("TO:<b@example.org> NOTIFY=NEVER", (), False, 555),
        ("TO:<b@example.org> SIZE=5", ALL, False, 555),
    ],
)
def test_rcpt(argument: str, offered: set[str], smtputf8: bool, expected: Path | int) -> None:
    """SMTP-12 for RCPT."""
    if isinstance(expected, Path):
        assert rcpt_path(argument, offered, smtputf8=smtputf8) == expected
        return
    with pytest.raises(Refused) as refused:
        rcpt_path(argument, offered, smtputf8=smtputf8)
    assert refused.value.reply.code == expected


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_argument_is_read_or_refused(argument: str) -> None:
    """No other error, and never a blank, an angle bracket or a line ending in what is sent on unquoted."""
    for text in (argument, f"FROM:<{argument}>", f"FROM:<a@example.org> {argument}"):
        try:
            path = mail_path(text, ALL)
        except Refused as refused:
            assert str(refused.reply.code) in {"501", "553", "555"}  # noqa: PT017  both outcomes are right
            continue
        assert all(word and not any(letter.isspace() for letter in word) for word in path.options)
        if '"' not in path.address:
            assert not set(path.address) & set(" <>\r\n")
