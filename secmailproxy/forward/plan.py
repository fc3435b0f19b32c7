"""What was found out about a pipe before, kept on disk: the next message needs only the key and the octets.

A plan is written by the full way (`preparing`) after it has sent a message, and read by `quick`. It holds
what that message showed to be true, and the stamps of everything that this was read from. Where anything
differs, or the message is not of the plainest kind, there is no plan, and the full way decides.

    asked before each use    the same options, user, machine, program; the clock is within the window
                             the configuration, the keystore, the loop mark and the sendmail program are the
                             files they were, and their folders as closed as they were
    asked of each message    LF, lines as mail has them, a header in ASCII with one simple Subject; text, or a
                             multipart of the ordinary kinds, or nothing said; nothing that could be a loop,
                             nothing that is encrypted already

Security: a plan holds no secret. It never allows what the full way would refuse: it can only repeat an answer
that was given to the same question, while nothing has changed of what the answer was made of.
"""

# Imported by pipes: no re, dataclasses, enum, json, pathlib; each costs more than all that is done here.
import os
import stat
import sys
import time

import secmailproxy

HOME_VARIABLE = "SECMAILPROXY_HOME"
SLOTS = 256
"""So many ways of calling the pipe are remembered at the same time."""
MESSAGE_MOST = 1024 * 1024
"""Octets; what is larger takes so long that the start no longer matters."""

DATE, MESSAGE_ID, SUBJECT, ENCODING, BOUNDARY, CIPHERTEXT = (
    b"\0date\0",
    b"\0message-id\0",
    b"\0subject\0",
    b"\0encoding\0",
    b"\0boundary\0",
    b"\0ciphertext\0",
)
ARRIVED, OCTETS, CRC = b"\0arrived\0", b"\0octets\0", b"\0crc\0"
"""What stands in the templates where a value belongs. A message with NUL in it is never a plain one."""

WORDS_OF_A_FILE, CHANGED = 7, 4
"""In a stamp: how many there are, and which is the time of the last change of any kind, in nanoseconds."""

_MAGIC = b"secmailproxy forward plan 2 "
_PLAN_MOST = 1024 * 1024
_LINE_MOST = 998
_FIELDS_MOST = 200
_RECEIVED_MOST = 50
_SUBJECT_MOST = 500
_OPTIONS = ("--to", "--from", "--fingerprint", "--via", "--sendmail", "--account")
_KINDS = (b"multipart/mixed;", b"multipart/alternative;", b"multipart/related;", b"multipart/report;")
"""Beside text: kinds that cannot be an encrypted message as a whole."""
_NULL_SENDERS = (b"", b"<>", b"MAILER-DAEMON")
_IDENTIFYING = ("LOGNAME", "USER", "LNAME", "USERNAME")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

Fields = dict[str, bytes]


def places() -> tuple[str, str] | None:
    """Paths of the configuration file and the state folder, as `Folders.of_user`; None where in doubt."""
    home = os.environ.get(HOME_VARIABLE)
    if home:
        return (f"{home}/config.toml", f"{home}/state") if home.startswith("/") else None
    own = os.environ.get("HOME", "")
    if sys.platform != "linux" or not own.startswith("/"):
        return None
    config = os.environ.get("XDG_CONFIG_HOME", "") or f"{own}/.config"
    state = os.environ.get("XDG_STATE_HOME", "") or f"{own}/.local/state"
    if not (config.startswith("/") and state.startswith("/")):
        return None
    return f"{config}/secmailproxy/config.toml", f"{state}/secmailproxy"


def are_plain(words: list[str]) -> bool:
    """Whether the arguments after `forward` are nothing but options with values."""
    names, values = words[::2], words[1::2]
    return len(names) == len(values) and all(one in _OPTIONS for one in names)


def path(state: str, words: list[str]) -> str:
    """Where the plan for these options is, if there is one."""
    return f"{state}/forward-plan-{crc32(_joined(words)) % SLOTS}"


def caller(words: list[str]) -> bytes:
    """All that a plan depends on and that is no file: options, user, machine, program, environment."""
    environment = [os.environ.get(name, "") for name in _IDENTIFYING]
    program = [secmailproxy.__version__, sys.version, _stamp(secmailproxy.__file__)]
    user = [str(os.geteuid()), os.uname().nodename]
    return _joined([*program, *user, *environment, "", *words])


def stamps(paths: list[str]) -> bytes:
    """What tells a changed file from an unchanged one, for each of `paths`; of folders (`/` at the end) only
    whose they are and who may enter.

    Raises ValueError for a path that could be taken for two.
    """
    if any("\n" in one for one in paths):
        raise ValueError("a path has a line end")
    return b"".join(os.fsencode(f"{_stamp(one)} {one}\n") for one in paths)


def _stamp(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return "-"
    if path.endswith("/"):
        return f"{found.st_mode} {found.st_uid}"
    if path.endswith("-wal") and not found.st_size:
        # SQLite makes and removes it whenever the database is opened: empty, it says nothing.
        return "-"
    times = f"{found.st_mtime_ns} {found.st_ctime_ns}"
    return f"{found.st_dev} {found.st_ino} {found.st_size} {times} {found.st_mode} {found.st_uid}"


def crc32(octets: bytes) -> int:
    """The checksum of plans, and of messages in the queue."""
    import zlib  # who finds the daemon at work needs no plan

    return zlib.crc32(octets)


def _joined(words: list[str]) -> bytes:
    return b"\0".join(os.fsencode(one) for one in words)


def to_octets(fields: Fields) -> bytes:
    """A plan as it is written."""
    body = b"".join(b"%s %d\n%s\n" % (name.encode(), len(text), text) for name, text in fields.items())
    return b"%s%08x\n%s" % (_MAGIC, crc32(body), body)


def from_octets(octets: bytes) -> Fields:
    """Raises ValueError for what `to_octets` did not write."""
    first, _, body = octets.partition(b"\n")
    if first != b"%s%08x" % (_MAGIC, crc32(body)):
        raise ValueError("not a plan, or a damaged one")
    fields, at = {}, 0
    while at < len(body):
        end = body.index(b"\n", at)
        name, _, length = body[at:end].partition(b" ")
        at = end + 1 + int(length) + 1
        fields[name.decode()] = body[end + 1 : at - 1]
    return fields


def read(file: str, config: str, words: list[str], now: float) -> Fields | None:
    """The plan in `file`, if it may be used now for this configuration file and these options."""
    try:
        fields = from_octets(_private(file))
        listed = fields["stamps"]
        paths = [os.fsdecode(line.partition(b" /")[2]) for line in listed.splitlines()]
        unchanged = listed == stamps([f"/{one}" for one in paths])
        in_time = int(fields["from"]) <= now < int(fields["until"])
        asked = fields["caller"] == caller(words) and fields["config"] == os.fsencode(config)
    except (OSError, ValueError, KeyError):
        return None
    return fields if unchanged and in_time and asked else None


def is_private_folder(path: str) -> bool:
    """Whether it is a folder that only this user may enter. Raises OSError."""
    found = os.lstat(path)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _private(file: str) -> bytes:
    """The octets of a file that nobody else can have written. Raises OSError, ValueError."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise ValueError("not a private file")
        octets = os.read(descriptor, _PLAN_MOST)
        if len(octets) != found.st_size:
            raise ValueError("too large")
        return octets
    finally:
        os.close(descriptor)


def plain(octets: bytes, rcpt_to: bytes) -> tuple[bytes, bool, bytes] | None:
    """(Subject field or b"", whether the sender is null, the message with CRLF) of a message from a pipe.

    None for one that is not of the plainest kind, which the full way must judge.
    """
    said = None
    if octets.startswith(b"From "):
        separator, _, octets = octets.partition(b"\n")
        said = separator[5:].split(b" ", 1)[0]
        if separator[5:].lstrip(b" \t").startswith(b":"):
            return None
    head, found, _ = octets.partition(b"\n\n")
    if not found or len(octets) > MESSAGE_MOST or not head.isascii():
        return None
    if b"\r" in octets or b"\0" in octets or b"-----BEGIN PGP" in octets:
        return None
    if max(map(len, octets.split(b"\n"))) > _LINE_MOST:
        return None
    fields = _fields(head)
    if fields is None or not _is_simple(fields, rcpt_to.lower()):
        return None
    subject = fields["subject"][0] + b"\r\n" if "subject" in fields else b""
    for raw in fields.get("return-path", ()):
        said = raw.partition(b":")[2]
    null = said is not None and said.strip().removeprefix(b"<").removesuffix(b">") in _NULL_SENDERS
    return subject, null, octets.replace(b"\n", b"\r\n")


def _fields(head: bytes) -> dict[str, list[bytes]] | None:
    """The fields of a header by their names in lower case; None where it is not clear what they are."""
    found: dict[str, list[bytes]] = {}
    lines = head.split(b"\n")
    if len(lines) > _FIELDS_MOST:
        return None
    last: list[bytes] = []
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            if not last or not line.strip():
                return None
            last[-1] += b"\n" + line
            continue
        name, colon, _ = line.partition(b":")
        if not colon or not name.replace(b"-", b"").isalnum():
            return None
        last = found.setdefault(name.decode().lower(), [])
        last.append(line)
    return found


def _is_simple(fields: dict[str, list[bytes]], rcpt_to: bytes) -> bool:
    if "x-loop" in fields or len(fields.get("received", ())) > _RECEIVED_MOST:
        return False
    if any(rcpt_to in raw.lower() for raw in fields.get("delivered-to", ())):
        return False
    subjects, kinds = fields.get("subject", ()), fields.get("content-type", ())
    if len(subjects) > 1 or len(kinds) > 1 or len(fields.get("return-path", ())) > 1:
        return False
    if not all(raw.partition(b":")[2].strip().lower().startswith((b"text/", *_KINDS)) for raw in kinds):
        return False
    return all(
        raw.decode("ascii").isprintable() and raw == raw.rstrip() and len(raw) + 2 <= _SUBJECT_MOST
        for raw in subjects
    )


def date(moment: tuple[int, ...]) -> bytes:
    """A Date field's value (RFC 5322 section 3.3) for what `time.gmtime` gives."""
    year, month, day, hour, minute, second, weekday = moment[:7]
    text = f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year} {hour:02}:{minute:02}:{second:02} +0000"
    return text.encode()


def journal(fields: Fields, moment: tuple[int, ...]) -> str:
    """The file in which messages of this day are counted (`journal`); `moment` as `time.gmtime` gives it."""
    return f"{os.fsdecode(fields['journal'])}/{moment[0]:04}-{moment[1]:02}-{moment[2]:02}.journal"


def record(now: float, *, is_sent: bool) -> bytes:
    """The line about one message, in the form of `journal`, without what would have to be sealed."""
    year, month, day, hour, minute, second = time.gmtime(now)[:6]
    at = f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00"
    outcome, why = ("forwarded", "") if is_sent else ("deferred", "UpstreamUnavailable")
    return f'{{"at": "{at}", "outcomes": ["{outcome}"], "rule": "", "why": "{why}"}}\n'.encode()


def encoding(message: bytes) -> bytes:
    """What an embedded message of the plainest kind may claim, as `mime.canonical.embedding`."""
    return b"7bit" if message.isascii() else b"8bit"


def message_id(digits: str, domain: bytes) -> bytes:
    """A Message-ID with its angle brackets; `digits` are 32 random hexadecimal ones."""
    return (
        f"<{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}@".encode()
        + domain
        + b">"
    )


def filled(template: bytes, values: dict[bytes, bytes]) -> bytes:
    """A template with the values in their places."""
    for mark, text in values.items():
        template = template.replace(mark, text)
    return template
