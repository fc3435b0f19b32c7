"""Uploading to a verifying key server."""

from __future__ import annotations

import json

import pytest

from keystore.discovery.model import SourceFailed
from keystore.discovery.uploading import Status, Uploaded, upload
from tests.fixtures.hagrid import Hagrid
from tests.fixtures.web import Web, reply
from tests.keystore.discovery.test_wkd import JOE, certificate, key

SERVER = "https://keys.example.net"


async def test_a_first_upload_asks_for_the_mail(web: Web) -> None:
    hagrid = Hagrid("keys.example.net")
    hagrid.open_on(web)
    told = await upload(web.net(), certificate(), "Joe.Doe@example.org", SERVER)
    assert told == Uploaded(SERVER, Status.PENDING, asked=True)
    assert hagrid.certificates == {key(JOE).fingerprint: certificate()}
    assert hagrid.mails == [JOE], "as the server writes it"


@pytest.mark.parametrize("status", [Status.PUBLISHED, Status.REVOKED])
async def test_no_mail_where_nothing_is_to_be_confirmed(web: Web, status: Status) -> None:
    hagrid = Hagrid("keys.example.net", status={JOE: status.value})
    hagrid.open_on(web)
    assert await upload(web.net(), certificate(), JOE, SERVER) == Uploaded(SERVER, status, asked=False)
    assert not hagrid.mails


FINGERPRINT = str(key(JOE).fingerprint)
ODD: list[object] = [
    [],
    {},
    "sesame",
    {"key_fpr": "A" * 40, "status": {JOE: "published"}, "token": "T"},
    {"key_fpr": FINGERPRINT, "status": {"mallory@example.org": "published"}, "token": "T"},
    {"key_fpr": FINGERPRINT, "status": {JOE: "sesame"}, "token": "T"},
    {"key_fpr": FINGERPRINT, "status": {JOE: "unpublished"}, "token": {}},
    {"key_fpr": FINGERPRINT, "status": {JOE: ["unpublished"]}, "token": "T"},
    {"key_fpr": FINGERPRINT, "status": "sesame", "token": "T"},
]


@pytest.mark.parametrize(
    "answer",
    [*(reply(json.dumps(one).encode()) for one in ODD), reply(b"<html>sesame"), reply(b"[" * 60000)],
)
async def test_what_is_no_answer(web: Web, answer: bytes) -> None:
    web.serve(f"{SERVER}/vks/v1/upload", answer)
    with pytest.raises(SourceFailed, match="does not answer as a verifying key server") as failed:
        await upload(web.net(), certificate(), JOE, SERVER)
    assert "sesame" not in failed.value.text
    assert len(web.asked) == 1


@pytest.mark.parametrize(("status", "temporary"), [(400, False), (413, False), (429, True), (503, True)])
async def test_a_refusal(web: Web, status: int, temporary: bool) -> None:
    web.serve(f"{SERVER}/vks/v1/upload", reply(b'{"error": "sesame"}', status))
    with pytest.raises(SourceFailed, match=f"refused it \\(it answered {status}\\)") as failed:
        await upload(web.net(), certificate(), JOE, SERVER)
    assert failed.value.temporary is temporary
    assert "sesame" not in failed.value.text
