"""What a shell can complete beyond commands and options: addresses and fingerprints of the keystore.

Security: a shell puts what it is given into its command line. Certificates are written by strangers, so only
what consists of letters, digits and few signs is offered.
"""

from __future__ import annotations

import re
from contextlib import closing

import click
from click.shell_completion import CompletionItem

VARIABLE = "_SECMAILPROXY_COMPLETE"
"""Of the environment; a shell's script sets it to ask what fits."""

MOST = 200
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+=-]*")


def known(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Addresses and fingerprints that begin with `incomplete`; none where the keystore cannot be read."""
    from keystore.errors import KeystoreError
    from secmailproxy.cli.context import Passphrase, load_config_or_defaults, open_keystore
    from secmailproxy.errors import SecMailProxyError

    try:
        config = load_config_or_defaults(Passphrase())
        if not config.keystore_settings().folder.exists():
            return []  # a question must not make one
        with closing(open_keystore(config, _nobody_to_ask)) as keystore:
            certificates = keystore.beginning(incomplete, MOST)
    except (SecMailProxyError, KeystoreError, OSError):
        return []
    begun = incomplete.casefold()
    found: dict[str, str] = {}
    for certificate in certificates:
        for address in certificate.addresses:
            found.setdefault(address, certificate.algorithm)
        if begun:
            found.setdefault(certificate.fingerprint, ", ".join(certificate.addresses))
    fitting = [word for word in found if word.casefold().startswith(begun) and _PLAIN.fullmatch(word)]
    return [CompletionItem(word, help=_words(found[word])) for word in fitting[:MOST]]


def _nobody_to_ask() -> str:
    from secmailproxy.errors import KeystoreLocked

    raise KeystoreLocked("A shell that completes a word cannot ask for a passphrase.")


def _words(text: str) -> str:
    return "".join(one for one in text if one.isalnum() or one in " @.,+-_")[:80]
