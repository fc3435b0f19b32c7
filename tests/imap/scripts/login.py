"""Ways in: LOGIN and AUTHENTICATE (RFCs 9051, 4616, 4959). The password is "correct horse"."""

from __future__ import annotations

from tests.imap.scripts import Refused, Script, Step


def _in(*steps: Step) -> Script:
    return Script(*steps, b"SELECT INBOX", b"FETCH 1 (UID RFC822.SIZE)", shows="SASL-IR", login=False)


LOGIN = {
    "login": _in(b'LOGIN <OWN> "correct horse"'),
    "login with quoted strings": _in(b'login "<OWN>" "correct horse"'),
    "login by literals": _in((b"LOGIN {<LENGTH>}", b"<OWN>", b" {13}", b"correct horse")),
    "login by one literal": _in((b'LOGIN "<OWN>" {13}', b"correct horse")),
    "login by literals that do not wait": _in(b"LOGIN {<LENGTH>+}\r\n<OWN> {13+}\r\ncorrect horse"),
    "login, pipelined": _in([b'LOGIN <OWN> "correct horse"', b"NAMESPACE", b"EXAMINE INBOX"]),
    "authenticate at once": _in(b"AUTHENTICATE PLAIN <PLAIN>"),
    "authenticate in two steps": _in((b"AUTHENTICATE PLAIN", b"<PLAIN>")),
    "login after failures": _in(
        Refused(b"LOGIN <OWN> wrong"),
        Refused(b"LOGIN <OWN>"),
        Refused((b"AUTHENTICATE PLAIN", b"*")),
        Refused(b"AUTHENTICATE PLAIN !"),
        Refused(b"AUTHENTICATE X-NONE"),
        Refused(b"SELECT INBOX"),
        b"NOOP",
        b'LOGIN <OWN> "correct horse"',
        Refused(b'LOGIN <OWN> "correct horse"'),
    ),
}
