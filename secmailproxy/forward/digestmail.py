"""The mail that carries a digest: a text with counts, then the messages. PURE: octets out, CRLF.

    multipart/mixed
      text/plain            counts by host, sender and subject; each group with its times and first words
      message/rfc822        the first message of a group, as it came; so for each group
      application/gzip      a tar archive of all the others, each a file

Mixed with attached messages, not multipart/digest, which many clients show as one long text or not at all.

Standards: RFC 2046 sections 5.1.3 and 5.2.1, RFC 2183 (Content-Disposition), RFC 3834 section 5.
Security: this is inside the encryption; outside nothing of it is seen.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo

from secmailproxy.forward.digest import CollectedMail, Group, Sheet
from secmailproxy.forward.facts import shown, steady
from secmailproxy.forward.tally import counted
from secmailproxy.mime.canonical import embedding
from secmailproxy.mime.transfer import encode_base64
from secmailproxy.stamp import Stamp

ARCHIVE = "more-messages.tar.gz"
_SLUG_MOST = 40
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")


def digest_mail(
    name: str, sheet: Sheet, author: str, stamp: Stamp, zone: tzinfo, postscript: str = ""
) -> bytes:
    """The whole message. `name` is the digest's, `author` an address for From; both have been checked.

    `postscript` is text (LF) that follows the list, such as a heartbeat's.
    """
    names = [file_name(number, group) for number, group in enumerate(sheet.groups, 1)]
    text = "\n".join(_text(name, sheet, names, zone))
    parts = [_text_part(f"{text}\n{postscript}")]
    parts += [
        _attached(group, file) for group, file in zip(sheet.groups, names, strict=True) if group.attachable
    ]
    archive = _archive(sheet)
    if archive:
        parts.append(_archive_part(archive))
    return own_mail(title(name, sheet), parts, author, stamp)


def text_mail(subject: str, text: str, author: str, stamp: Stamp) -> bytes:
    """A whole message of our own with nothing but a text (LF)."""
    return own_mail(subject, [_text_part(text)], author, stamp)


def own_mail(subject: str, parts: list[bytes], author: str, stamp: Stamp) -> bytes:
    """A message of `parts`, each an entity; `subject` is ASCII. One part alone is the body."""
    head = (
        f"From: {author}\r\nSubject: {subject}\r\nDate: {stamp.date}\r\nMessage-ID: {stamp.message_id}\r\n"
        "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
    ).encode("ascii")
    if len(parts) == 1:
        return head + parts[0]
    delimiter = b"--" + stamp.boundary.encode("ascii")
    body = b"".join(delimiter + b"\r\n" + part + b"\r\n" for part in parts) + delimiter + b"--\r\n"
    encoding = next(one for one in ("binary", "8bit", "7bit") if one in {*map(embedding, parts), "7bit"})
    kind = f'Content-Type: multipart/mixed; boundary="{stamp.boundary}"\r\n'
    return head + f"{kind}Content-Transfer-Encoding: {encoding}\r\n\r\n".encode("ascii") + body


def title(name: str, sheet: Sheet) -> str:
    """The subject of a digest's mail."""
    part = "" if sheet.number == 1 and sheet.is_last else f", mail {sheet.number}"
    return f"Digest {name}{part}: {_messages(sheet.count)}, {len(sheet.groups)} different"


def file_name(number: int, group: Group) -> str:
    """What the attached message of a group is called: its number in the text, and words of its subject."""
    slug = _NOT_IN_NAMES.sub("-", group.facts.subject.lower())[:_SLUG_MOST].strip("-")
    return f"{number:03d}-{slug}.eml" if slug else f"{number:03d}.eml"


def local_time(moment: datetime, zone: tzinfo) -> str:
    """Such as "2026-11-21 07:00 +0100"."""
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M %z")


def _messages(count: int) -> str:
    return "1 message" if count == 1 else f"{count} messages"


def _text(name: str, sheet: Sheet, names: list[str], zone: tzinfo) -> Iterator[str]:
    times = [message.at for message in sheet.messages]
    yield f"{title(name, sheet)}."
    yield f"Collected from {local_time(min(times), zone)} to {local_time(max(times), zone)}."
    if not sheet.is_last:
        yield "This is not all: another mail follows."
    yield from _tables(sheet)
    yield from ("", "Messages", "")
    for number, (group, file) in enumerate(zip(sheet.groups, names, strict=True), 1):
        yield from _entry(number, group, file, zone)
    yield "Each different message is attached whole as it came first."
    if any(group.count > 1 or not group.attachable for group in sheet.groups):
        yield f"All others are whole in {ARCHIVE}."


def _tables(sheet: Sheet) -> Iterator[str]:
    tables: tuple[tuple[str, Callable[[Group], str]], ...] = (
        ("By host", lambda group: group.facts.host),
        ("By sender", lambda group: group.facts.sender),
        ("By subject", lambda group: steady(group.facts.subject)),
    )
    for head, fact in tables:
        yield from ("", head, "")
        yield from counted((fact(group), group.count) for group in sheet.groups)


def _entry(number: int, group: Group, file: str, zone: tzinfo) -> Iterator[str]:
    facts = group.facts
    yield f"{number:3d}. {facts.subject}"
    yield f"     {facts.sender}, {facts.host}"
    first, last = (local_time(group.messages[at].at, zone) for at in (0, -1))
    yield f"     {first}" if group.count == 1 else f"     {group.count} times, first {first}, last {last}"
    yield f"     {file}" if group.attachable else f"     in {ARCHIVE}"
    if group.preview:
        yield f"     > {shown(group.preview)}"
    yield ""


def _text_part(text: str) -> bytes:
    octets = text.replace("\n", "\r\n").encode("utf-8", "replace")
    head = (
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: {embedding(octets)}\r\n\r\n"
    )
    return head.encode("ascii") + octets


def _attached(group: Group, file: str) -> bytes:
    octets = group.messages[0].mail.octets
    head = (
        f'Content-Type: message/rfc822\r\nContent-Disposition: attachment; filename="{file}"\r\n'
        f"Content-Transfer-Encoding: {embedding(octets)}\r\n\r\n"
    )
    return head.encode("ascii") + octets


def _archive_part(octets: bytes) -> bytes:
    head = (
        f'Content-Type: application/gzip; name="{ARCHIVE}"\r\n'
        f'Content-Disposition: attachment; filename="{ARCHIVE}"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
    )
    return head.encode("ascii") + encode_base64(octets)


def _archive(sheet: Sheet) -> bytes:
    """A tar archive of what is not attached; empty where all is."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for folder, group in enumerate(sheet.groups, 1):
            rest = list(enumerate(group.messages, 1))[1 if group.attachable else 0 :]
            for number, message in rest:
                archive.addfile(_file(folder, number, message), io.BytesIO(message.mail.octets))
        files = archive.getmembers()
    return gzip.compress(packed.getvalue(), mtime=0) if files else b""


def _file(folder: int, number: int, message: CollectedMail) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"{folder:03d}/{number:05d}-{message.at.astimezone(UTC):%Y%m%dT%H%M%SZ}.eml")
    info.size = len(message.mail.octets)
    # Times before 1970 have no form in an archive.
    info.mtime = max(0, int(message.at.timestamp()))
    info.mode = 0o600
    return info
