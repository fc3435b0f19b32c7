"""OAuth access tokens on their way to the smarthost."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping

import pytest

from secmailproxy.accounts import Account, Accounts, Credentials, ImapUpstream, Login
from secmailproxy.errors import LoginRefused, UpstreamLost
from secmailproxy.smtp.sasl import initial_response, mechanisms
from secmailproxy.smtp.smarthost import Smarthost
from tests.smtp.peers import USERNAME, Answer, Peer, Scripted, cut

Scripts = Callable[..., Awaitable[Scripted]]
Hosts = Callable[..., Smarthost]

TOKEN = "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg=="
XOAUTH2 = Credentials(USERNAME, TOKEN, "XOAUTH2")
OAUTHBEARER = Credentials(USERNAME, TOKEN, "OAUTHBEARER")
EHLO = b"250-peer.example\r\n250 AUTH PLAIN XOAUTH2 OAUTHBEARER\r\n"
REASON = base64.b64encode(b'{"status":"400","schemes":"Bearer","scope":"https://mail.example/"}')


def test_the_octets_of_each_mechanism() -> None:
    """As in RFC 7628 section 4.1, and as the providers document XOAUTH2."""
    bearer = f"auth=Bearer {TOKEN}\1\1"
    assert base64.b64decode(initial_response(XOAUTH2, "h", 587)).decode() == f"user={USERNAME}\1{bearer}"
    odd = Credentials("a=b,c@example.org", TOKEN, "OAUTHBEARER")
    assert base64.b64decode(initial_response(odd, "smtp.example", 587)).decode() == (
        f"n,a=a=3Db=2Cc@example.org,\1host=smtp.example\1port=587\1{bearer}"
    )


@pytest.mark.parametrize("secret", ["", "two words", "a\1auth=Bearer b", "a\r\nQUIT", "a\0", "ü", "=", "a=b"])
@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_what_is_no_token_is_refused_before_it_is_sent(secret: str, mechanism: str) -> None:
    """So nothing can end its field and add another."""
    with pytest.raises(LoginRefused) as error:
        initial_response(Credentials(USERNAME, secret, mechanism), "h", 1)
    assert not secret or secret == "=" or secret not in error.value.text
    with pytest.raises(LoginRefused):
        initial_response(Credentials("a\1user=b", TOKEN, mechanism), "h", 1)


@pytest.mark.parametrize(
    ("offered", "usable"),
    [
        ("", set()),
        ("GSSAPI NTLM", set()),
        ("plain", {"password"}),
        ("CRAM-MD5 xoauth2", {"password", "XOAUTH2"}),
        ("OAUTHBEARER XOAUTH2", {"XOAUTH2", "OAUTHBEARER"}),
    ],
)
def test_the_mechanisms_offered(offered: str, usable: set[str]) -> None:
    """In any case of letters; passwords are one way, whatever carries them."""
    assert mechanisms(offered) == usable


@pytest.mark.parametrize("credentials", [XOAUTH2, OAUTHBEARER])
async def test_a_token_is_passed_on_and_its_connection_kept(
    credentials: Credentials, scripted: Scripts, smarthost: Hosts
) -> None:
    """Once, with the first line; the same secret by another mechanism is another login."""
    peer = await scripted({"EHLO": EHLO})
    host = smarthost(peer.port)
    assert host.mechanisms == set()
    await host.verify_login(credentials)
    await host.verify_login(credentials)
    sent = initial_response(credentials, "localhost", peer.port)
    assert peer.lines == [
        b"EHLO [127.0.0.1]\r\n",
        b"AUTH " + credentials.mechanism.encode() + b" " + sent + b"\r\n",
        b"RSET\r\n",
    ]
    assert host.mechanisms == {"password", "XOAUTH2", "OAUTHBEARER"}
    await host.verify_login(Credentials(USERNAME, TOKEN))
    assert len(peer.peers) == 2


def reason_then(last: Answer) -> Answer:
    """334 with the reason; after the client's next line, the last answer."""

    async def answer(peer: Peer) -> None:
        await peer.say(b"334 " + REASON + b"\r\n")
        peer.lines.append(await peer.reader.readline())
        await (peer.say(last) if isinstance(last, bytes) else last(peer))

    return answer


REFUSED = b"535-5.7.8 Username and Password not accepted.\r\n535 5.7.8 The token has expired\r\n"
REFUSALS: Mapping[str, tuple[Answer, type[Exception], tuple[int, str], str]] = {
    "with a reason": (
        reason_then(REFUSED),
        LoginRefused,
        (535, "5.7.8"),
        "Username and Password not accepted. The token has expired",
    ),
    "at once": (b"535 5.7.8 expired\r\n", LoginRefused, (535, "5.7.8"), "expired"),
    "for now": (reason_then(b"454 4.7.0 later\r\n"), LoginRefused, (454, "4.7.0"), "later"),
    "reason after reason": (
        reason_then(b"334 " + REASON + b"\r\n"),
        UpstreamLost,
        (451, "4.4.2"),
        "no proper reply to the login",
    ),
    "hangs up": (reason_then(cut), UpstreamLost, (451, "4.4.2"), "closed the connection"),
}


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize(
    ("credentials", "answered"),
    [(XOAUTH2, b"\r\n"), (OAUTHBEARER, b"AQ==\r\n")],
    ids=["XOAUTH2", "OAUTHBEARER"],
)
async def test_a_token_refused(
    case: str, credentials: Credentials, answered: bytes, scripted: Scripts, smarthost: Hosts
) -> None:
    """The server's words and codes; one attempt, with nothing else; no token in the error."""
    answer, kind, codes, text = REFUSALS[case]
    peer = await scripted({"EHLO": EHLO, "AUTH": answer})
    with pytest.raises(kind) as error:
        await smarthost(peer.port).verify_login(credentials)
    assert (error.value.smtp_code, error.value.enhanced_status) == codes
    assert text in error.value.text
    assert TOKEN not in error.value.text
    assert peer.verbs().count("AUTH") == 1
    if not isinstance(answer, bytes):
        assert peer.lines[2] == answered
    assert len(peer.peers) == 1


async def test_a_token_that_has_expired_meanwhile_is_refused_once(
    scripted: Scripts, smarthost: Hosts
) -> None:
    """Its connection is gone; the new login is refused, and nothing else is tried."""
    peer = await scripted({"EHLO": EHLO})
    host = smarthost(peer.port)
    await host.verify_login(XOAUTH2)
    peer.script.update({"MAIL": cut, "AUTH": reason_then(REFUSED)})
    async with host.begin(XOAUTH2) as transaction:
        with pytest.raises(LoginRefused, match="The token has expired"):
            await transaction.mail(USERNAME)
    assert [line.split()[1] for line in peer.lines if line.startswith(b"AUTH")] == [b"XOAUTH2"] * 2
    assert len(peer.peers) == 2


async def test_a_token_is_not_sent_to_a_server_that_does_not_ask_for_one(
    scripted: Scripts, smarthost: Hosts
) -> None:
    """Neither by that mechanism nor as a password."""
    peer = await scripted()
    with pytest.raises(LoginRefused, match="offers no login by XOAUTH2") as error:
        await smarthost(peer.port).verify_login(XOAUTH2)
    assert (error.value.smtp_code, error.value.enhanced_status) == (504, "5.5.4")
    assert "AUTH" not in peer.verbs()
    assert TOKEN not in repr(XOAUTH2)


async def test_an_account_with_a_local_password_takes_no_token(smarthost: Hosts) -> None:
    """It would say nothing about who asks."""
    account = Account(USERNAME, ImapUpstream("localhost", 993), login=Login.LOCAL)
    accounts = Accounts([account], {USERNAME: smarthost(1)}, {})
    with pytest.raises(LoginRefused, match="local password"):
        await accounts.authenticate_submission(USERNAME, TOKEN, "XOAUTH2")
