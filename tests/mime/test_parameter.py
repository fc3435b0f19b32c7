"""Content-Type for decisions; what IMAP shows of it is compared with Dovecot in test_structure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.mime.parameter import ContentType, content_type, media_type, token_and_parameters


@pytest.mark.parametrize(
    ("value", "full", "params"),
    [
        (b"text/plain", "text/plain", {}),
        (b" Text/HTML (c); Charset=UTF-8", "text/html", {"charset": "UTF-8"}),
        (
            b'multipart/signed; boundary="a\\"b"; PROTOCOL="x/y"',
            "multipart/signed",
            {"boundary": 'a"b', "protocol": "x/y"},
        ),
        (b"a/b; name*=utf-8''%C3%BC", "a/b", {"name": "ü"}),
        (b"a/b; name*0*=utf-8''%C3; name*1*=%BC; name*2=.txt", "a/b", {"name": "ü.txt"}),
        (b"a/b; name*=unknown''%FC", "a/b", {"name": "ü"}),
        (b"a/b; name*=no-quotes", "a/b", {"name*": "no-quotes"}),
        (b"a/b; x=1; x=2", "a/b", {"x": "1"}),
        (b"", "application/octet-stream", {}),
        (b"multipart", "application/octet-stream", {}),
        (b"multipart/encrypted boundary=x", "application/octet-stream", {}),
        (b"/x", "application/octet-stream", {}),
        (b'"multipart/encrypted"', "application/octet-stream", {}),
        (b"multipart/(comment)mixed;boundary=x", "multipart/mixed", {"boundary": "x"}),
    ],
)
def test_content_types(value: bytes, full: str, params: dict[str, str]):
    kind = content_type(value)
    assert kind.full == full
    assert {name: kind.param(name) for name, _ in kind.params} == params


def test_a_parameter_that_is_not_there():
    assert ContentType().param("x") is None


@given(st.binary(max_size=60))
def test_any_value_is_read(value: bytes):
    content_type(value)
    media_type(value)
    token_and_parameters(value)
    content_type(b"a/b;" + value)
    token_and_parameters(b"a;" + value)


def test_after_a_thousand_parameters_no_more_are_read() -> None:
    """MIME-08: a header section has room for a hundred thousand, and they are read more than once."""
    kind = content_type(b"a/b" + b"; x=y" * 2000 + b"; boundary=late")
    assert len(kind.params) == 1000
    assert kind.param("boundary") is None
    broken = content_type(b"a/b" + b"; =" * 2000 + b"; boundary=late")
    assert broken.param("boundary") is None
