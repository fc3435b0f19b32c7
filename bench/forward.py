"""`secmailproxy forward` against the classic recipe: procmail, formail, gpg and mail, from exec to exit.

The same message, keys and sendmail program, a sink. Ours runs from an environment as pip makes it, once by a
plan and once by a running daemon. The recipe's mail(1) does not wait for sendmail, ours does. With zeyple on
PATH (it has no option for a message at hand but standard input) it is measured beside them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.crypto import keys
from bench.measure import Aim, Row, alternating, cost, faster, seconds
from tests.fixtures.proxy import SOURCES, ProxyHome, empty_home, serving

RUNS = 21
AT_ONCE = 1000
TOGETHER = 50
READER = "bob@example.org"
MESSAGE = b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@host> backup\n\n" + b"".join(
    b"line %d of the report: /var/backups/disk ok\n" % number for number in range(60)
)
RECIPE = """PATH=/usr/bin:/bin:/usr/sbin
SHELL=/bin/sh
GNUPGHOME={gnupg}
MAILRC={mailrc}
DEFAULT=/dev/null
:0 w
* ^To:.*root.*
| formail -I "" | gpg --batch --trust-model always -ear {reader} | mail -r root@localhost -s x {reader}
"""


@dataclass(frozen=True)
class Bench:
    """A configured home, and the programs that are called."""

    home: ProxyHome
    program: Path
    environment: dict[str, str]

    def ours(self) -> None:
        """One message by `secmailproxy forward`."""
        subprocess.run([self.program, "forward"], input=MESSAGE, env=self.environment, check=True)

    def classic(self) -> None:
        """One message by the recipe."""
        recipe = self.home.folder / "procmailrc"
        subprocess.run(["procmail", "-m", recipe], input=MESSAGE, env=self.environment, check=True)

    def taken(self) -> int:
        """How many messages the sink has."""
        return len(list((self.home.folder / "sunk").iterdir()))


def rows() -> Iterator[Row]:
    """One row for each way."""
    with prepared() as bench:
        names = ("forward", "recipe")
        times = alternating(RUNS, lambda: seconds(bench.ours), lambda: seconds(bench.classic))
        yield cost("forward by a plan", names, times, 2.0)
        if zeyple := shutil.which("zeyple"):
            other = [zeyple, READER]
            run = lambda: subprocess.run(other, input=MESSAGE, env=bench.environment, check=True)  # noqa: E731
            times = alternating(RUNS, lambda: seconds(bench.ours), lambda: seconds(run))
            yield faster("forward by a plan", ("forward", "zeyple"), times, 5.0)
        yield many("by a plan", bench)
        with serving(bench.home):
            bench.ours()
            times = alternating(RUNS, lambda: seconds(bench.ours), lambda: seconds(bench.classic))
            yield cost("forward with a daemon", names, times, 1.0)
            yield many("with a daemon", bench)


def many(how: str, bench: Bench) -> Row:
    """AT_ONCE messages by as many processes, TOGETHER at a time; every one is counted at the sink."""
    before = bench.taken()
    began = time.perf_counter()
    with ThreadPoolExecutor(TOGETHER) as pool:
        for one in [pool.submit(bench.ours) for _ in range(AT_ONCE)]:
            one.result()
    each = (time.perf_counter() - began) / AT_ONCE
    taken = bench.taken() - before
    return Row(
        f"{AT_ONCE} processes {how}, {taken} taken", "each", each, "", 0.0, taken, "", Aim.AT_LEAST, AT_ONCE
    )


@contextmanager
def prepared() -> Iterator[Bench]:
    """A home that has sent one message, so that there is a plan."""
    with ExitStack() as stack:
        both = stack.enter_context(keys())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="smp-bench-", dir="/tmp")))
        home = empty_home(folder / "home")
        (home.folder / "sunk").mkdir()
        sink = home.folder / "sink"
        sink.write_text(f"#!/bin/sh\nexec cat > {home.folder}/sunk/$$.$(cut -d' ' -f22 /proc/self/stat)\n")
        sink.chmod(0o755)
        mailrc = home.folder / "mailrc"
        mailrc.write_text(f"set sendmail={sink}\n")
        recipe = RECIPE.format(reader=READER, gnupg=both.gnupg.home, mailrc=mailrc)
        (home.folder / "procmailrc").write_text(recipe)
        (home.folder / "procmailrc").chmod(0o600)
        with home.keystore() as keystore:
            keystore.import_keys(both.keystore.export(both.bob), source="bench")
        home.add_config(
            f'[forward]\nvia = "sendmail"\nsendmail = "{sink}"\nsender = "bounce@host.example"\n'
            f'[[forward.targets]]\naddress = "{READER}"\nfingerprint = "{both.bob}"\n'
        )
        environment = {name: text for name, text in home.environment.items() if name != "PYTHONPATH"}
        bench = Bench(home, console_script(folder / "venv"), environment)
        home.folders.verdict_token()
        while not list(home.folders.state.glob("forward-plan-*")):
            bench.ours()
        yield bench


def console_script(folder: Path) -> Path:
    """`secmailproxy` as in an environment that pip has installed it into: no editable finder at the start."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "bench.pth").write_text(f"{SOURCES}\n{sysconfig.get_path('purelib')}\n")
    script = folder / "bin" / "secmailproxy"
    script.write_text(
        f"#!{folder}/bin/python\nimport sys\nfrom secmailproxy.__main__ import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    return script
