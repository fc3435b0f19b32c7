"""One machine with everything that system mail can pass through: ours, the classic recipe, zeyple, kuvert.

All have the same message, the same keys, and a real next hop: Postfix' sendmail and postdrop with a queue
that nobody empties (zeyple speaks SMTP only: to a server that throws away). `ended` waits for the last
process of each, whoever has started it.
"""

from __future__ import annotations

import compileall
import os
import shutil
import socketserver
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.crypto import Keys, keys
from secmailproxy.forward import wake
from tests.comparison.recipes import CLASSIC
from tests.fixtures.postdrop import MAIN
from tests.fixtures.processes import free_port
from tests.fixtures.proxy import SOURCES, ProxyHome, empty_home

READER, WRITER = "bob@example.org", "alice@example.org"
SENDMAIL = "/usr/sbin/sendmail"
MESSAGE = b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@host> backup\n\n" + b"".join(
    b"line %d of the report: /var/backups/disk ok\n" % number for number in range(60)
)
PIPE = f'formail -I "" | gpg --batch --trust-model always -ear {READER} | mail -r root@host -s x {READER}'
"""What the recipe does, without procmail and without the two fields that it takes from the message."""
KUVERT = """\
queuedir {folder}/kuvert
tempdir {folder}/kuvert-temp
msp {sendmail} -om -oi -oem
gpg /usr/bin/gpg
alwaystrust t
use-agent t
defaultkey 0x{key}
 {reader} mustencrypt
"""
_PLACES = ("MAIL_CONFIG", "MAILRC", "GNUPGHOME")
ZEYPLE = """\
[zeyple]
log_file = {folder}/zeyple.log
[gpg]
home = {gnupg}
[relay]
host = 127.0.0.1
port = {port}
"""


def ended(words: Sequence[str | Path], environment: dict[str, str], folder: Path) -> None:
    """Run a program on MESSAGE until it and every process that came of it have ended.

    procmail does not wait for a pipe without "w", nor mail(1) for sendmail; each of them holds a descriptor.
    """
    reader, held = os.pipe()
    with open(reader, "rb") as everybody:
        subprocess.run(
            words,
            input=MESSAGE,
            env=environment,
            cwd=folder,
            pass_fds=(held,),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        os.close(held)
        everybody.read()


@dataclass(frozen=True)
class Host:
    """The machine. Each method brings MESSAGE through one way, to its end."""

    folder: Path
    home: ProxyHome
    """Hands over to sendmail."""
    spooling: ProxyHome
    """Puts into our own queue."""
    bin: Path
    environment: dict[str, str]
    key: str

    def ours(self, home: ProxyHome | None = None) -> None:
        """`secmailproxy forward`."""
        self._run((self.bin / "secmailproxy", "forward"), home or self.home)

    def sendmail(self) -> None:
        """`secmailproxy-sendmail`, called as cron and mail(1) call it."""
        self._run((self.bin / "secmailproxy-sendmail", "-i", "--", "root"), self.home)

    def recipe(self) -> None:
        """The classic recipe, by procmail."""
        self._run(("procmail", "-m", self.folder / "procmailrc"))

    def pipe(self) -> None:
        """Its pipe alone."""
        self._run(("sh", "-c", PIPE))

    def zeyple(self, program: str) -> None:
        """By a program that takes the message from standard input and ends."""
        self._run((program, READER))

    def kuvert(self) -> None:
        """Its queue once, with one message in it."""
        envelope = f"X-Kuvert-From: {WRITER}\nX-Kuvert-To: {READER}\n".encode()
        queued = self.folder / "kuvert" / "1"
        queued.write_bytes(envelope + f"From: {WRITER}\nTo: {READER}\n".encode() + MESSAGE.split(b"\n", 2)[2])
        self._run(("kuvert", "-o", "-c", self.folder / "kuvertrc"))
        if queued.exists() or (self.folder / "kuvert" / ".1").exists():
            raise RuntimeError("kuvert has not sent the message")

    def _run(self, words: Sequence[str | Path], home: ProxyHome | None = None) -> None:
        own = {"SECMAILPROXY_HOME": str(home.folder)} if home else {}
        ended(words, self.environment | own, self.folder)

    def prove(self, way: Callable[[], None]) -> None:
        """Raises RuntimeError when what is measured does not bring an encrypted message to Postfix."""
        before = set((self.folder / "queue" / "maildrop").iterdir())
        way()
        new = set((self.folder / "queue" / "maildrop").iterdir()) - before
        if len(new) != 1 or b"-----END PGP MESSAGE-----" not in new.pop().read_bytes():
            raise RuntimeError(f"{way.__name__}: Postfix has not got one encrypted message")

    def taken(self) -> int:
        """How many messages Postfix has."""
        return len(list((self.folder / "queue" / "maildrop").iterdir()))

    def spooled(self) -> int:
        """How many messages our own queue has."""
        return len(list(self.spooling.folders.spool.glob("*.mail")))

    @contextmanager
    def runner(self) -> Iterator[None]:
        """As if a runner of our queue worked already, which takes nothing."""
        spool = self.spooling.folders.spool
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = wake.lock(spool)
        assert lock is not None
        os.mkfifo(spool / wake.POKE, 0o600)
        poke = os.open(spool / wake.POKE, os.O_RDWR | os.O_NONBLOCK)
        try:
            yield
        finally:
            (spool / wake.POKE).unlink()
            os.close(poke)
            os.close(lock)


@contextmanager
def host() -> Iterator[Host]:
    """A machine on which one message has gone each way of ours, so that there are plans."""
    if os.geteuid():
        raise SystemExit(
            "postdrop takes a queue of its own from root alone: unshare --map-root-user --map-auto"
        )
    with ExitStack() as stack:
        both = stack.enter_context(keys())
        # mkdtemp closes it to others: Postfix leaves the programs that it runs here in the group postdrop.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smp-bench-", dir="/tmp")))
        stack.enter_context(postfix(folder))
        port = stack.enter_context(relay())
        made = Host(
            folder,
            configured(folder / "direct", both, f'via = "sendmail"\nsendmail = "{SENDMAIL}"'),
            configured(folder / "spooling", both, f'via = "smarthost"\naccount = "{WRITER}"'),
            installed(folder / "venv"),
            {
                **{name: text for name, text in os.environ.items() if name != "PYTHONPATH"},
                **dict(
                    zip(
                        _PLACES,
                        map(str, (folder / "config", folder / "mailrc", both.gnupg.home)),
                        strict=True,
                    )
                ),
                "HOME": str(folder),
                "TMPDIR": str(folder),
            },
            both.alice,
        )
        peers(made, both, port)
        for home in (made.home, made.spooling):
            home.folders.verdict_token()
            with made.runner() if home is made.spooling else ExitStack():
                # A plan is made of files that are older than a tick of their clock.
                for _ in range(3):
                    made.ours(home)
        for way in (made.ours, made.sendmail, made.recipe, made.pipe):
            made.prove(way)
        yield made


def peers(made: Host, both: Keys, port: int) -> None:
    """The configurations of all the others."""
    folder = made.folder
    (folder / "mailrc").write_text(f"set sendmail={SENDMAIL}\n")
    rc = folder / "procmailrc"
    # procmail forgets the environment.
    kept = "".join(f"{name}={made.environment[name]}\n" for name in ("PATH", "HOME", *_PLACES))
    rc.write_text(
        f"SHELL=/bin/sh\nDEFAULT={folder}/kept\n{kept}{CLASSIC.replace('admin@example.org', READER)}"
    )
    rc.chmod(0o600)
    (folder / "zeyple.conf").write_text(ZEYPLE.format(folder=folder, gnupg=both.gnupg.home, port=port))
    (folder / "kuvert").mkdir(mode=0o700)
    words = {"folder": folder, "sendmail": SENDMAIL, "key": both.alice, "reader": READER}
    (folder / "kuvertrc").write_text(KUVERT.format(**words))


def configured(folder: Path, both: Keys, way: str) -> ProxyHome:
    """A home that sends system mail this way to the reader."""
    home = empty_home(folder)
    with home.keystore() as keystore:
        keystore.import_keys(both.keystore.export(both.bob), source="bench")
    server = f'{{ host = "127.0.0.1", port = {free_port()}, tls = "implicit" }}'
    home.add_config(
        f'[forward]\n{way}\nsender = "{WRITER}"\nto = "{READER}"\n'
        f'[[forward.targets]]\naddress = "{READER}"\nfingerprint = "{both.bob}"\n'
        f'[[accounts]]\naddress = "{WRITER}"\nimap = {server}\nsmtp = {server}\n'
    )
    return home


@contextmanager
def postfix(folder: Path) -> Iterator[None]:
    """Postfix' maildrop queue in `folder`, and somebody who hears when there is something new."""
    (folder / "config").mkdir()
    (folder / "config" / "main.cf").write_text(MAIN.format(folder=folder))
    for name in ("data", "queue/maildrop", "queue/public", "queue/pid"):
        (folder / name).mkdir(parents=True)
    shutil.chown(folder / "data", "postfix")
    # For the daemon too, which is started in the environment of the benchmark.
    os.environ["MAIL_CONFIG"] = str(folder / "config")
    os.mkfifo(folder / "queue" / "public" / "pickup")
    pickup = os.open(folder / "queue" / "public" / "pickup", os.O_RDWR)
    try:
        yield
    finally:
        os.close(pickup)
        del os.environ["MAIL_CONFIG"]


def installed(folder: Path) -> Path:
    """The scripts of an environment as pip makes it from wheels: the packages are in it, no .pth."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for own in ("secmailproxy", "keystore"):
        shutil.copytree(SOURCES / own, packages / own, ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(packages, quiet=1)
    for library in Path(sysconfig.get_path("purelib")).iterdir():
        if library.suffix != ".pth" and not (packages / library.name).exists():
            (packages / library.name).symlink_to(library)
    for name in ("secmailproxy", "secmailproxy-sendmail"):
        script = folder / "bin" / name
        source = SOURCES / "secmailproxy" / "scripts" / name
        script.write_text(source.read_text().replace("#!python", f"#!{folder}/bin/python"))
        script.chmod(0o755)
    return folder / "bin"


class Relay(socketserver.StreamRequestHandler):
    """An SMTP server that takes everything and keeps nothing; it costs next to nothing."""

    def handle(self) -> None:
        """One connection."""
        self.wfile.write(b"220 localhost ESMTP\r\n")
        for line in self.rfile:
            word = line[:4].upper()
            if word.startswith(b"DATA"):
                self.wfile.write(b"354 go on\r\n")
                while self.rfile.readline() not in (b".\r\n", b""):
                    pass
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")


@contextmanager
def relay() -> Iterator[int]:
    """The port at which a `Relay` listens."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
