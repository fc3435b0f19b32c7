"""What the commands of `secmailproxy key` share: the keystore opened, a query answered, options, errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from keystore.model import Certificate
from secmailproxy.cli.context import Passphrase, load_config_or_defaults, open_keystore, secret_options
from secmailproxy.cli.key import text
from secmailproxy.errors import SecMailProxyError, UsageError

if TYPE_CHECKING:
    from keystore.keystore import Keystore

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON (see docs/keystore.md).")
key_passphrase = secret_options("passphrase", "passphrase of the key")
token_pin = secret_options("pin", "PIN of the token")
store_passphrase = secret_options("secrets-passphrase", "passphrase of the secrets file")

BACKUP = (
    "Without your key nobody can read your mail. Keep a copy elsewhere: secmailproxy key backup FILE --code"
)
"""Said of a new key."""


class NotFound(SecMailProxyError):
    """A query that matches nothing."""

    exit_status = 69


@contextmanager
def opened(passphrase: Passphrase) -> Iterator[Keystore]:
    """The keystore of the configuration, closed at the end."""
    keystore = open_keystore(load_config_or_defaults(passphrase), passphrase)
    try:
        yield keystore
    finally:
        keystore.close()


def only(
    keystore: Keystore, query: tuple[str, ...], prefer: Callable[[Certificate], bool] | None = None
) -> Certificate:
    """Return the one certificate that matches; several are listed and a fingerprint is asked for.

    Where some of them are such as to `prefer`, the others do not count.
    """
    if not "".join(query).strip():
        raise UsageError("The query is empty; give a fingerprint or an address.")
    found = keystore.certificates(" ".join(query))
    if not found:
        raise NotFound(no_match(query))
    found = [one for one in found if prefer is not None and prefer(one)] or found
    if len(found) > 1:
        lines = [
            f"{one.fingerprint} {text.scheme_name(one.scheme)} {text.plain(', '.join(one.user_ids))}"
            for one in found
        ]
        raise UsageError(
            "\n".join([f"{' '.join(query)!r} matches several keys; give the fingerprint of one:", *lines])
        )
    return found[0]


def no_match(query: tuple[str, ...]) -> str:
    """What is said of a query that matches nothing."""
    return f"No key matches {' '.join(query)!r}; `secmailproxy key list` shows all."
