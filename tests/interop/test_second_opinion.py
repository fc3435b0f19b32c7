"""Other programs on the same mail: what we call valid is good for them too, and what they call good, for us.

Where they differ, tests/interop/differences.txt says why, and has no line that is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

from keystore.keystore import Keystore
from secmailproxy import inbound
from secmailproxy.model import Verdict
from tests.fixtures.corpora import Case, cases, keys_of
from tests.fixtures.gnupg import GnuPG, gnupg_home
from tests.fixtures.keystores import KeystoreFactory, credentials, make_keystore
from tests.interop.opinions import (
    Bench,
    Opinion,
    by_gpg,
    by_gpgsm,
    by_notmuch,
    by_openssl,
    by_pysequoia,
    furnished,
)

__all__ = ["credentials", "gnupg_home", "make_keystore"]

DIFFERENCES = Path(__file__).with_name("differences.txt")
PROGRAMS: dict[str, Callable[[Bench, Mapping[str, bytes]], dict[str, Opinion]]] = {
    "notmuch": by_notmuch,
    "gpg": by_gpg,
    "gpgsm": by_gpgsm,
    "openssl": by_openssl,
    "pysequoia": by_pysequoia,
}


@dataclass(frozen=True)
class Reason:
    """One line of the file, for one program."""

    pattern: str
    program: str
    whose: str

    def explains(self, path: str, program: str, whose: str) -> bool:
        """Whether it is about this difference."""
        return (self.program, self.whose) == (program, whose) and fnmatch(path, self.pattern)


def reasons() -> Iterator[Reason]:
    """What the file says."""
    for line in DIFFERENCES.read_text().splitlines():
        if line and not line.startswith("#"):
            pattern, programs, whose, why = (item.strip() for item in line.split("|"))
            assert why, line
            yield from (Reason(pattern, program.strip(), whose) for program in programs.split(","))


def test_second_opinion(
    make_keystore: KeystoreFactory, gnupg_home: Callable[[], GnuPG], tmp_path: Path
) -> None:
    """MIME-02, MIME-03: on the corpora; each program has the keys of all of them."""
    known = cases()
    found: set[tuple[str, str, str]] = set()
    for corpus in dict.fromkeys(case.corpus for case in known):
        mail = {str(case.line["path"]): case for case in known if case.corpus == corpus}
        (tmp_path / f"{corpus}-bench").mkdir()
        keys = keys_of(corpus, tmp_path / f"{corpus}-keys")
        keystore: Keystore = make_keystore(corpus)
        keys.fill(keystore)
        ours = {path: valid(case, keystore) for path, case in mail.items()}
        bench = furnished(gnupg_home(), keys, tmp_path / f"{corpus}-bench")
        octets = {path: case.octets for path, case in mail.items() if case.octets.strip()}
        for program, opinions in ((name, ask(bench, octets)) for name, ask in PROGRAMS.items()):
            for path, theirs in opinions.items():
                if theirs is not None and theirs != ours[path]:
                    found.add((path, program, "theirs" if theirs else "ours"))
    known_reasons = list(reasons())
    open_questions = [one for one in sorted(found) if not any(why.explains(*one) for why in known_reasons)]
    assert not open_questions, "\n".join(map(str, open_questions))
    at_hand = [str(case.line["path"]) for case in known]
    in_reach = [why for why in known_reasons if fnmatch_any(at_hand, why.pattern)]
    idle = [why for why in in_reach if not any(why.explains(*one) for one in found)]
    assert not idle, "\n".join(map(str, idle))


def fnmatch_any(paths: list[str], pattern: str) -> bool:
    """Whether one of them is meant."""
    return any(fnmatch(path, pattern) for path in paths)


def valid(case: Case, keystore: Keystore) -> bool:
    """Whether we call the signature valid."""
    read = inbound.unprotect(case.octets, keystore, case.now(datetime.now(UTC)), "Secmail-Verdict-x")
    return read.summary.verdict is Verdict.VALID
