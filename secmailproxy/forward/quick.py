"""The quick way of `secmailproxy forward`: by the daemon that runs already, or by a plan made before.

The daemon's door takes the message and answers when it cannot be lost any more. Without a daemon the plan
says whom to encrypt to and how the message is built; the sendmail program or our own queue takes it. In any
doubt the full way does it, with the same input.

Security: exactly one of the ways sends a message. Once the daemon may have it, the sendmail program was
started or the message has its name in the queue, no other is tried: what is not known to be sent is told as
"try later" (75).
"""

# Imported by pipes: see `plan`.
import _signal  # type: ignore[import-not-found]  # what `signal` is made of; typeshed leaves it out
import os
import sys
import time

from secmailproxy.forward import plan

DOOR = "forward.sock"
"""The socket in the state folder; `knock` and `door` are its two ends."""
GUARD = "SECMAILPROXY_HANDED_OVER"
"""Set in the environment of the sendmail program: who finds it hands nothing over to a program again."""
TRY_LATER = 75

_READ_MOST = 64 * 1024 * 1024
_PIECE = 64 * 1024
_SENDMAIL_SECONDS = 300


def run(words: list[str]) -> None:
    """Exits when the message is handed over, or certainly not; returns when the full way has to do it.

    `words` are the arguments after `forward`. Standard input is then as if nobody had read it.
    """
    places = plan.places()
    if places is None or not plan.are_plain(words) or GUARD in os.environ:
        return
    config, state = places
    door = f"{state}/{DOOR}"
    if not (os.path.exists(door) or os.path.exists(plan.path(state, words))) or os.isatty(0):
        return
    octets = _standard_input()
    outcome = _by_daemon(door, words, octets) or _by_plan(plan.path(state, words), config, words, octets)
    if outcome is None:
        _give_back(octets)
        return
    status, line = outcome
    if line:
        _complain(line)
    # Nothing is left to be cleaned up, and to take Python apart would take as long as the encryption.
    os._exit(status)


def _standard_input() -> bytes:
    pieces, length = [], 0
    while length <= _READ_MOST and (piece := os.read(0, _PIECE)):
        pieces.append(piece)
        length += len(piece)
    return b"".join(pieces)


def _give_back(octets: bytes) -> None:
    """Whoever reads sys.stdin finds these octets, and after them what was not read."""
    import io

    class Again(io.RawIOBase):
        head = io.BytesIO(octets)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # what BufferedReader gives
            piece = self.head.read(len(buffer)) or os.read(0, len(buffer))
            buffer[: len(piece)] = piece
            return len(piece)

    sys.stdin = io.TextIOWrapper(io.BufferedReader(Again()))


def _complain(line: bytes) -> None:
    try:
        os.write(2, line + b"\n")
    except OSError:
        return  # nobody listens


def _by_daemon(door: str, words: list[str], octets: bytes) -> tuple[int, bytes] | None:
    if not os.path.exists(door):
        return None
    from secmailproxy.forward import knock

    return knock.at_door(door, words, octets)


def _by_plan(file: str, config: str, words: list[str], octets: bytes) -> tuple[int, bytes] | None:
    now = time.time()
    fields = plan.read(file, config, words, now)
    if fields is None:
        return None
    journal = plan.journal(fields, time.gmtime(now))
    if not os.path.exists(journal):
        return None  # the first message of a day: the full way clears away what is old
    try:
        made = _product(fields, octets, now)
    except Exception:  # noqa: BLE001  # nothing was sent: the full way will find the same, and say it
        return None
    if made is None:
        return None
    null, product = made
    if "spool" in fields:
        # A bounce may be of one of ours, which the full way looks for.
        outcome = None if null else _queued(fields, product, now)
    else:
        mail_from = "<>" if null else os.fsdecode(fields["sender"])
        words = ["-i", "-f", mail_from, "--", os.fsdecode(fields["rcpt_to"])]
        outcome = _handed_over(os.fsdecode(fields["sendmail"]), words, product.replace(b"\r\n", b"\n"))
    if outcome is not None:
        _note(journal, plan.record(now, is_sent=outcome[0] == 0))
    return outcome


def _note(journal: str, line: bytes) -> None:
    """One more is counted; where that cannot be written the message is where it is all the same."""
    try:
        descriptor = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        os.write(descriptor, line)
    except OSError:
        return


def _product(fields: plan.Fields, octets: bytes, now: float) -> tuple[bool, bytes] | None:
    """Whether the sender is null, and the encrypted message with CRLF."""
    mail = plan.plain(octets, fields["rcpt_to"])
    if mail is None:
        return None
    from keystore.quick import encrypted

    subject, null, message = mail
    digits = os.urandom(36).hex()
    values = {
        plan.DATE: plan.date(time.gmtime(now)),
        plan.MESSAGE_ID: plan.message_id(digits[:32], fields["domain"]),
        plan.SUBJECT: subject or fields["subject"],
        plan.ENCODING: plan.encoding(message),
        plan.BOUNDARY: b"=-" + digits[32:].encode(),
    }
    payload = plan.filled(fields["payload"], values) + message
    values[plan.CIPHERTEXT] = encrypted(payload, fields["key"], fields["key_id"])
    return null, plan.filled(fields["product"], values)


def _queued(fields: plan.Fields, product: bytes, now: float) -> tuple[int, bytes] | None:
    """It is in our own queue, on the disk; None when it certainly is not."""
    from keystore.files import sync_folder
    from secmailproxy.forward import filing, wake

    folder, name = os.fsdecode(fields["spool"]), filing.new_name()
    values = {
        plan.ARRIVED: b"%f" % now,
        plan.OCTETS: b"%d" % len(product),
        plan.CRC: b"%d" % plan.crc32(product),
    }
    new = f"{folder}/{filing.temporary(name)}"
    try:
        if not plan.is_private_folder(folder):
            return None
        filing.write(new, plan.filled(fields["line"], values), product)
    except OSError:
        _forget(new)
        return None
    mail = f"{folder}/{name}{filing.MAIL}"
    try:
        os.rename(new, mail)
        sync_folder(folder)
    except OSError as error:
        # Whoever brought it will bring it again: what is there must not leave as well.
        _forget(new)
        _forget(mail)
        why = os.strerror(error.errno or 0).encode()
        return TRY_LATER, b"4.3.0 cannot write to %s: %s" % (fields["spool"], why)
    wake.see_to_delivery(folder)
    return 0, b""


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return  # it is not there


def _handed_over(program: str, words: list[str], octets: bytes) -> tuple[int, bytes] | None:
    """The sendmail program has it, or nobody has. What the program prints may quote the message."""
    name = os.fsencode(program)
    message = _in_memory(octets)
    if message is None:
        return None
    actions = [
        (os.POSIX_SPAWN_DUP2, message, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    try:
        child = os.posix_spawn(
            program,
            [program, *words],
            {**os.environ, GUARD: "1"},
            file_actions=actions,
            setsigdef=[_signal.SIGPIPE],
        )
    except OSError as error:
        return TRY_LATER, b"4.3.0 cannot run %s: %s" % (name, os.strerror(error.errno or 0).encode())
    os.close(message)
    _signal.signal(_signal.SIGALRM, _too_long)
    _signal.alarm(_SENDMAIL_SECONDS)
    try:
        _, status = os.waitpid(child, 0)
    except TimeoutError:
        os.kill(child, _signal.SIGKILL)
        return TRY_LATER, b"4.3.0 %s did not end within %d seconds" % (name, _SENDMAIL_SECONDS)
    code = os.waitstatus_to_exitcode(status)
    return (TRY_LATER, b"4.3.0 %s ended with status %d" % (name, code)) if code else (0, b"")


def _too_long(*_: object) -> None:
    raise TimeoutError


def _in_memory(octets: bytes) -> int | None:
    """A file for a program to read, as `handover`; None where there is no such thing."""
    try:
        descriptor = os.memfd_create("message")
        rest = memoryview(octets)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
    except (AttributeError, OSError):
        return None
    return descriptor
