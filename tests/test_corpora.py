"""Signed and encrypted mail of other programs, each with what is expected of it.

The messages of tests/corpus/openpgp are always here; more are searched at SECMAILPROXY_CORPORA or beside the
repository (OpenPGP only; received S/MIME is not read). Lines of strength "hard" must hold; the rest must not
crash, and never shows plaintext that the line does not allow.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from keystore.keystore import Keystore
from secmailproxy import inbound, verdict
from secmailproxy.mime import entity, structure
from secmailproxy.model import DecryptionState, Verdict
from tests.fixtures.gnupg import keys_in
from tests.fixtures.keystores import KeystoreFactory, credentials, make_keystore
from tests.fixtures.processes import service_folder

__all__ = ["credentials", "make_keystore"]

ROOT = Path(__file__).parents[1]
OWN = ROOT / "tests" / "corpus"
CORPORA = Path(os.environ.get("SECMAILPROXY_CORPORA", ROOT.parent / "shared" / "corpora"))
OPENPGP = frozenset({"kde", "notmuch", "protected-headers"})

DECRYPTION = {"ok": DecryptionState.OK, "fail": DecryptionState.FAILED, "none": DecryptionState.NOT_NEEDED}
VERDICTS = {
    "good": Verdict.VALID,
    "bad": Verdict.INVALID,
    "unknown_key": Verdict.UNKNOWN_KEY,
    "mismatch": Verdict.MISMATCH,
    "none": Verdict.NONE,
}

DECIDED_OTHERWISE = {
    # Signed by test@kolab.org, From is bcc@bcc.org: never valid, whatever the mathematics says.
    "kde/openpgp-signed-sender-mismatch.mbox": Verdict.MISMATCH,
    # Over the very octets (CRLF) gpg gives GOODSIG for these three; two of them have another address in From.
    # The expectation "bad" is probably that of a reader that prints a message again before it verifies.
    "kde/openpgp-encrypted-attachment.mbox": Verdict.VALID,
    "kde/openpgp-signed-encrypted-two-attachments.mbox": Verdict.MISMATCH,
    "kde/openpgp-signed-two-attachments.mbox": Verdict.MISMATCH,
}


def cases() -> Iterator[tuple[Path, dict[str, Any]]]:
    for folder, manifest in (
        (OWN, OWN / "openpgp" / "manifest.jsonl"),
        (CORPORA, CORPORA / "manifest.jsonl"),
    ):
        lines = manifest.read_text().splitlines() if manifest.exists() else []
        for case in map(json.loads, lines):
            if (folder == OWN or case["corpus"] in OPENPGP) and "smime" not in case["path"]:
                yield folder / case["path"], case


def fill(keystore: Keystore, corpus: str, scratch: Path) -> None:
    if corpus == "openpgp":
        files = [OWN / "openpgp" / "alice.asc", OWN / "openpgp" / "bob-secret.asc"]
        keys = [path.read_bytes() for path in files]
    else:
        known = json.loads((CORPORA / "keys.json").read_text())[corpus]
        keys = [(CORPORA / name).read_bytes() for name in known.get("openpgp", [])]
        if "gnupghome" in known:
            keys += keys_in(CORPORA / known["gnupghome"], scratch)
    for octets in keys:
        keystore.import_keys(octets, source="corpus", passphrase=str)


@pytest.fixture
def keystores(make_keystore: KeystoreFactory) -> Iterator[Callable[[str], Keystore]]:
    """One filled keystore for each corpus."""
    with service_folder("corpora") as scratch, ExitStack() as stack:
        filled: dict[str, Keystore] = {}

        def keystore(corpus: str) -> Keystore:
            if corpus not in filled:
                filled[corpus] = stack.enter_context(closing(make_keystore(corpus)))
                fill(filled[corpus], corpus, scratch)
            return filled[corpus]

        yield keystore


def complaints(case: dict[str, Any], read: inbound.Unprotected) -> Iterator[str]:
    summary = read.summary
    if case["enc"] == "partial":
        if summary.errant_layers == 0 or read.presented is not None:
            yield "ciphertext of a part was not left alone"
    elif case["enc"] == "none":
        # Undecryptable mail counts as "none" in some corpora.
        if read.presented is not None:
            yield "plaintext of what is not encrypted"
    elif summary.decryption is not DECRYPTION[case["enc"]]:
        yield f"decryption {summary.decryption}"
    expected = DECIDED_OTHERWISE.get(case["id"], VERDICTS[case["sig"]])
    if summary.verdict is not expected:
        yield f"verdict {summary.verdict}, not {expected}"
    if summary.subject != case["subject"]:
        yield f"subject {summary.subject!r}, not {case['subject']!r}"
    if "signer" in case and summary.signer != case["signer"]:
        yield f"signer {summary.signer}"
    text = (read.presented or b"").decode("latin-1")
    yield from (f"{word!r} is missing" for word in case.get("must", []) if word not in text)
    yield from (f"{word!r} is there" for word in case.get("mustnot", []) if word in text)


def test_every_hard_line_holds_and_nothing_crashes(keystores: Callable[[str], Keystore]):
    now = datetime.now(UTC)
    wrong: list[str] = []
    held = 0
    for path, case in cases():
        read = inbound.unprotect(path.read_bytes(), keystores(case["corpus"]), now, "Secmail-Verdict-x")
        assert len(verdict.render(read.summary, "Secmail-Verdict-x")) == verdict.VERDICT_LENGTH
        if read.presented is not None:
            root = entity.parse(read.presented)
            assert structure.bodystructure(root)
            assert read.presented.count(b"\n") == read.presented.count(b"\r\n")
        if case["strength"] == "hard":
            found = list(complaints(case, read))
            wrong += [f"{case['id']}: {', '.join(found)}"] if found else []
            held += not found
    assert not wrong, "\n".join(wrong)
    assert held >= 12
