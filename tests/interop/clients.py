"""Mail programs that read a Maildir: notmuch, mutt and NeoMutt."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.fixtures.clients import Workplace, crlf
from tests.interop.letters import SIGNATURES, Leaf, leaf, leaves
from tests.interop.post import Delivery, Protection, message_id
from tests.interop.readers import Reader, Reading, Ring

NOTMUCH = "[database]\npath={maildir}\n[user]\nname=Bob\nprimary_email=bob@example.test\n"


def _maildir(ring: Ring, deliveries: Sequence[Delivery]) -> Path:
    """A Maildir with the messages in their order, as a server keeps them: LF."""
    folder = ring.folder / "mail"
    for name in ("cur", "new", "tmp"):
        (folder / name).mkdir(parents=True)
    for number, delivery in enumerate(deliveries):
        (folder / "cur" / f"{number:02}.test:2,S").write_bytes(delivery.octets.replace(b"\r\n", b"\n"))
    return folder


def by_notmuch(ring: Ring, _protection: Protection, deliveries: Sequence[Delivery]) -> Iterator[Reading]:
    """notmuch new, and notmuch show as its front ends call it."""
    config = ring.folder / "notmuch-config"
    config.write_text(NOTMUCH.format(maildir=_maildir(ring, deliveries)))

    def notmuch(*words: str) -> bytes:
        return subprocess.run(
            ["notmuch", f"--config={config}", *words],
            env={**os.environ, "HOME": str(ring.folder), "LC_ALL": "C.UTF-8"},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout

    notmuch("new", "--quiet")
    show = ("show", "--decrypt=true", "--entire-thread=false")
    threads = json.loads(notmuch(*show, "--verify", "--include-html", "--format=json", "*"))
    found = {message["id"]: message for thread in threads for message, _ in thread}
    for delivery in deliveries:
        name = message_id(delivery.octets)
        message = found[name]

        def raw(part: int, name: str = name) -> bytes:
            return notmuch(*show, "--format=raw", f"--part={part}", f"id:{name}")

        status = message["crypto"]
        signatures = status.get("signed", {}).get("status", [])
        yield Reading(
            status.get("decrypted", {}).get("status") == "full",
            frozenset(one["fingerprint"] for one in signatures if one["status"] == "good"),
            message["headers"]["Subject"],
            [one for part in message["body"] for one in _notmuch_leaves(part, raw)],
        )


def _notmuch_leaves(part: Mapping[str, Any], raw: Callable[[int], bytes]) -> Iterator[Leaf]:
    content = part.get("content")
    if part["content-type"] == "multipart/encrypted":
        yield from _notmuch_leaves(part["content"][1], raw)
    elif part["content-type"] == "multipart/signed":
        yield from _notmuch_leaves(part["content"][0], raw)
    elif part["content-type"] == "message/rfc822":
        for message in part["content"]:
            for one in message["body"]:
                yield from _notmuch_leaves(one, raw)
    elif isinstance(content, list):
        for one in content:
            yield from _notmuch_leaves(one, raw)
    else:
        octets = content.encode() if content is not None else raw(part["id"])
        yield leaf(part["content-type"], part.get("filename"), octets)


MUTT = """set folder="{home}"
set mbox_type=Maildir
set crypt_use_gpgme=yes
set crypt_verify_sig=yes
set pager="{home}/keep"
set prompt_after=no
set wait_key=no
set quit=yes
set sort=mailbox-order
set delete=no
set confirmappend=no
ignore *
unignore subject message-id
set charset=utf-8
"""
KEEP = '#!/bin/sh\ncat "$1" >>{home}/shown\necho %% >>{home}/shown\n'
SHOWN = re.compile(
    r"^Message-ID: <(?P<name>[^>]*)>\nSubject: [^\n]*\n(?:[ \t][^\n]*\n)*\n"
    r"(?P<enveloped>\[-- The following data is S/MIME encrypted --\]\n\n)?"
    r"\[-- Begin signature information --\]\n(?P<signature>.*)\[-- End signature information --\]\n\n"
    r"\[-- The following data is (?P<protection>[^\n]*) --\]\n\n"
    r"Subject: (?P<subject>.*?)\n\n.*\n\[-- End of (?P=protection) data --\]\n"
    r"(?(enveloped)\n\[-- End of S/MIME encrypted data --\]\n)\Z",
    re.DOTALL | re.MULTILINE,
)
"""What mutt displays: outer header, verdict, subject of the protected header, decoded, and text."""


def _by(program: str) -> Reader:
    def read(ring: Ring, protection: Protection, deliveries: Sequence[Delivery]) -> Iterator[Reading]:
        home = ring.folder
        place = Workplace(home)
        keep = place.write("keep", KEEP.format(home=home))
        keep.chmod(0o700)
        maildir = _maildir(ring, deliveries)
        for name in ("cur", "new", "tmp"):
            (home / "copies" / name).mkdir(parents=True)
        keys = "<first-entry><display-message>" + "<next-entry><display-message>" * (len(deliveries) - 1)
        keys += f"<tag-pattern>~A<enter><tag-prefix><decrypt-copy>{home}/copies<enter><quit>"
        rc = place.write("rc", MUTT.format(home=home))
        with place.terminal(program, "-n", "-F", rc, "-f", maildir, "-e", f"push '{keys}'") as terminal:
            said = terminal.wait()
        screens = (home / "shown").read_text().split("%%\n")[:-1]
        copies = {message_id(octets): octets for octets in map(crlf, _files(home / "copies"))}
        shown = {found["name"]: found for screen in screens if (found := SHOWN.search(screen))}
        assert len(shown) == len(deliveries), said
        for delivery in deliveries:
            name = message_id(delivery.octets)
            yield _as_shown(shown[name], copies[name])

    return read


def _as_shown(shown: re.Match[str], copy: bytes) -> Reading:
    names = re.findall(r"Fingerprint: ([0-9A-F ]+)|aka: <([^>]+)>", shown["signature"])
    good = names if shown["signature"].startswith("Good signature") else []
    return Reading(
        bool(shown["enveloped"]) or shown["protection"] == "PGP/MIME signed and encrypted",
        frozenset(fingerprint.replace(" ", "") or address for fingerprint, address in good),
        re.sub(r"\s*\n\s+", " ", shown["subject"]),
        [one for one in leaves(copy) if one[0] not in SIGNATURES],
    )


def _files(maildir: Path) -> Iterator[bytes]:
    for path in sorted(maildir.glob("[cn]*/*")):
        yield path.read_bytes()


by_mutt = _by("mutt")
by_neomutt = _by("neomutt")
