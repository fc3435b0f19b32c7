"""What lies in the INBOX of a script at its start: messages with CRLF, oldest first."""

from __future__ import annotations

from pathlib import Path

from tests.imap.scripts.corners import (
    ADDRESSES_MAIL,
    HEADERS_MAIL,
    PARTS_MAIL,
    SUBJECTS_MAIL,
    THREADS_MAIL,
)

_CORPUS = Path(__file__).parents[2] / "corpus" / "openpgp"

SHORT = b"""From: Ada <ada@example.org>
To: bob@example.org
Subject: lunch
Date: Mon, 02 Mar 2026 10:00:00 +0100
Message-ID: <lunch@example.org>

Soup, as ever.
"""
NESTED = b"""From: "Ada L." <ada@example.org>
To: Bob <bob@example.org>, "C, D" <c.d@example.org>
Cc: group: e@example.org, f@example.org;
Subject: =?utf-8?q?Caf=C3=A9?= and
 more
Date: Tue, 03 Mar 2026 11:00:00 +0000
Message-ID: <nested@example.org>
In-Reply-To: <lunch@example.org>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="outer"

Preamble.
--outer
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Caf=C3=A9 at noon.
--inner
Content-Type: text/html

<p>noon</p>
--inner--
--outer
Content-Type: message/rfc822
Content-Description: forwarded

From: x@example.org
Subject: inside
Content-Type: multipart/mixed; boundary=deep

--deep

text of the forwarded message
--deep
Content-Type: image/png; name="dot.png"
Content-Disposition: attachment; filename="dot.png"
Content-ID: <dot@example.org>
Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==
Content-Language: en, de
Content-Location: http://example.org/dot
Content-Transfer-Encoding: base64

iVBORw0KGgo=
--deep--
--outer--
Epilogue.
"""
EIGHT_BIT = "From: Zoë <z@example.org>\nSubject: ünquoted \xff\n\nÄ 8-bit body.\n".encode("latin-1")
HEADER_ONLY = b"Subject: nothing else\nX-Long: " + b"word " * 60 + b"\n"
EMPTY_BODY = b"From: a@example.org\nSubject: empty\n\n"
LARGE = b"From: a@example.org\nSubject: large\n\n" + b"0123456789 " * 9 + b"\n" + b"line of text\n" * 2000
BROKEN = b"""From: a@example.org, <, "unclosed
Subject: broken
Content-Type: multipart/mixed; boundary="never"

--other
nothing ends here
"""

PLAIN = [SHORT, NESTED, EIGHT_BIT, HEADER_ONLY, EMPTY_BODY, LARGE, BROKEN, SHORT.replace(b"lunch", b"dinner")]


def _crlf(message: bytes) -> bytes:
    return message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _protected() -> list[bytes]:
    """Encrypted and signed mail between plain mail; the keys lie beside it."""
    paths = sorted(path for path in _CORPUS.glob("*.eml"))
    assert len(paths) > 3
    mixed = [SHORT]
    for path in paths:
        mixed += [path.read_bytes(), NESTED]
    return mixed


MAIL: dict[str, list[bytes]] = {
    "nothing": [],
    "plain": [_crlf(message) for message in PLAIN],
    "mixed": [_crlf(message) for message in _protected()],
    "addresses": [_crlf(message) for message in ADDRESSES_MAIL],
    "headers": [_crlf(message) for message in HEADERS_MAIL],
    "subjects": [_crlf(message) for message in SUBJECTS_MAIL],
    "threads": [_crlf(message) for message in THREADS_MAIL],
    "parts": [_crlf(message) for message in PARTS_MAIL],
}
