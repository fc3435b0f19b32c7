"""`secmailproxy key import`."""

from __future__ import annotations

import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keystore.errors import KeyRefused
from keystore.model import ImportAction, ImportResult, Trust
from secmailproxy.cli.context import Passphrase, load_config_or_defaults, print_json
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import (
    NotFound,
    json_option,
    key_passphrase,
    opened,
    store_passphrase,
    token_pin,
)
from secmailproxy.cli.progress import Progress
from secmailproxy.errors import UpstreamUnavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from keystore.keystore import Keystore

_MAX_FILE = 64 * 1024 * 1024
_NOTHING_IMPORTED = 65
_WORTH_A_BAR = 500


@click.command(name="import", short_help="Import keys from files, stdin, URLs or GnuPG.")
@click.argument("sources", nargs=-1, metavar="[FILE|-|URL]...")
@click.option(
    "--from-gnupg",
    "query",
    is_flag=False,
    flag_value="",
    metavar="[QUERY]",
    help="Import from GnuPG's key ring.",
)
@click.option("--secret", is_flag=True, help="With --from-gnupg: only own keys; GnuPG keeps the secret half.")
@click.option("--token", "from_token", is_flag=True, help="Import from the PKCS #11 token; keys stay there.")
@click.option("--trust", type=click.Choice([one.value for one in Trust]), help="How far to trust the keys.")
@click.option("--ca-file", type=click.Path(path_type=Path), help="Trust this authority for https (PEM).")
@json_option
@key_passphrase
@store_passphrase
@token_pin
def command(
    sources: tuple[str, ...],
    query: str | None,
    secret: bool,
    from_token: bool,
    trust: str | None,
    ca_file: Path | None,
    as_json: bool,
    passphrase: Passphrase,
    secrets_passphrase: Passphrase,
    pin: Passphrase,
) -> None:
    """Import certificates and secret keys from files, stdin (-), https URLs or GnuPG.

    OpenPGP: armored or binary, several in a file. S/MIME: PEM, DER, PKCS #12 (.p12, .pfx) and PKCS #7 (.p7b).
    The passphrase of secret keys is asked for once.
    """
    _check_sources(sources, query, secret, from_token)
    level = Trust(trust) if trust else None
    results: list[tuple[str, ImportResult]] = []
    with opened(_either(secrets_passphrase, passphrase)) as keystore:
        for source in sources:
            found = _import_source(
                keystore, source, partial(_fetched, ca_file, secrets_passphrase), passphrase, level
            )
            results += [(_name(source), result) for result in found]
        if query is not None:
            taken = keystore.holders.take_from_gnupg(query, secret=secret, trust=level)
            results += [("GnuPG", result) for result in taken]
        if from_token:
            asked = pin if pin.given or sys.stdin.isatty() else None
            results += [("token", one) for one in keystore.holders.take_from_token(asked, trust=level)]
    if not results and from_token:
        raise NotFound("The token has no certificate whose secret key is there too.")
    if not results:
        raise NotFound(f"GnuPG has no {'own ' if secret else ''}key that matches {query!r}.")
    if as_json:
        values = [text.result_values(source, result) for source, result in results]
        print_json({"version": text.JSON_VERSION, "results": values})
    else:
        click.echo(text.results_text(results))
    if all(result.action is ImportAction.REFUSED for _, result in results):
        click.echo("secmailproxy: nothing was imported", err=True)
        sys.exit(_NOTHING_IMPORTED)


def _either(secrets_passphrase: Passphrase, passphrase: Passphrase) -> Passphrase:
    """For the secrets file: its own option, else that of the key, which often is the same one."""
    return secrets_passphrase if secrets_passphrase.given or not passphrase.given else passphrase


def _check_sources(sources: tuple[str, ...], query: str | None, secret: bool, from_token: bool) -> None:
    if not sources and query is None and not from_token:
        raise UsageError("Nothing to import: name files, https URLs, - for stdin, --from-gnupg or --token.")
    if secret and query is None:
        raise UsageError("--secret goes with --from-gnupg; secret keys in files are imported as they are.")
    if sources.count("-") > 1:
        raise UsageError("Standard input (-) can be read only once.")
    urls = [source for source in sources if _is_url(source)]
    if urls:
        from secmailproxy.cli.key.fetch import check_url  # httpx is wanted for URLs only

        for url in urls:
            check_url(url)


def _is_url(source: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", source) is not None and not Path(source).exists()


def _name(source: str) -> str:
    if source == "-":
        return "standard input"
    return source if _is_url(source) else f"file {Path(source).name or source}"


def _fetched(ca_file: Path | None, secrets_passphrase: Passphrase, url: str) -> bytes:
    from secmailproxy.cli.key.fetch import fetch

    return fetch(url, ca_file, load_config_or_defaults(secrets_passphrase).discovery.proxy)


def _read(source: str, fetched: Callable[[str], bytes]) -> bytes:
    if source == "-":
        octets = sys.stdin.buffer.read(_MAX_FILE + 1)
    elif _is_url(source):
        return fetched(source)
    else:
        try:
            with open(source, "rb") as file:
                octets = file.read(_MAX_FILE + 1)
        except OSError as error:
            raise KeyRefused(f"{source} cannot be read: {error.strerror}") from error
    if len(octets) > _MAX_FILE:
        raise KeyRefused(f"{source} is larger than {_MAX_FILE // 2**20} MiB; no key file is")
    return octets


def _import_source(
    keystore: Keystore,
    source: str,
    fetched: Callable[[str], bytes],
    passphrase: Passphrase,
    level: Trust | None,
) -> list[ImportResult]:
    """Import one source; one that holds no key at all is a result too, so that the others are still tried."""
    try:
        octets = _read(source, fetched)
        with Progress(_name(source), least=_WORTH_A_BAR) as progress:
            return keystore.import_keys(
                octets, source=_name(source), passphrase=passphrase, trust=level, progress=progress
            )
    except (KeyRefused, UpstreamUnavailable) as refusal:
        return [ImportResult(ImportAction.REFUSED, reason=str(refusal))]
