"""How many connections one address may have, and what is logged of those beyond."""

from __future__ import annotations

import logging

import pytest

from secmailproxy.admission import Admission
from secmailproxy.logs import KeyValueFormatter


def test_each_address_has_its_share() -> None:
    admission = Admission("imap", limit=2)
    assert admission.enter("127.0.0.1")
    assert admission.enter("127.0.0.1")
    assert not admission.enter("127.0.0.1")
    assert admission.enter("::1")
    admission.leave("127.0.0.1")
    assert admission.enter("127.0.0.1")


def test_a_changed_limit_binds_those_who_come() -> None:
    admission = Admission("imap", limit=2)
    assert admission.enter("127.0.0.1")
    assert admission.enter("127.0.0.1")
    admission.limit = 1
    admission.leave("127.0.0.1")
    assert not admission.enter("127.0.0.1")
    admission.limit = 2
    assert admission.enter("127.0.0.1")


def test_a_refusal_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    admission = Admission("submission", limit=1)
    with caplog.at_level(logging.WARNING, "secmailproxy"):
        assert admission.enter("::1")
        assert not admission.enter("::1")
    (line,) = [KeyValueFormatter().format(record) for record in caplog.records]
    assert line.endswith(
        ' level=warning from=admission event="submission too many connections" client=::1 limit=1'
    )
