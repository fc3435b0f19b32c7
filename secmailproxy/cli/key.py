"""`secmailproxy key`: import, list, show, export, generate, delete, trust and so on (docs/keys.md)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keystore.errors import KeyRefused
from keystore.model import Certificate, Holder, ImportAction, ImportResult, Scheme, Trust
from secmailproxy.cli import keytext
from secmailproxy.cli.context import (
    INTERRUPTED,
    Passphrase,
    load_config_or_defaults,
    open_keystore,
    passphrase_options,
    print_json,
    secret_options,
)
from secmailproxy.errors import SecMailProxyError, UpstreamUnavailable, UsageError

if TYPE_CHECKING:
    from keystore.keystore import Keystore

_MAX_FILE = 64 * 1024 * 1024
_NOTHING_IMPORTED = 65
_NO_KEYS = "There are no keys yet. `secmailproxy setup` makes yours, `secmailproxy key import` takes others'."
_DAYS = {"d": 1, "w": 7, "m": 30, "y": 365}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON (see docs/keys.md).")
key_passphrase = secret_options("passphrase", "passphrase of the key")
store_passphrase = secret_options("secrets-passphrase", "passphrase of the secrets file")


class NotFound(SecMailProxyError):
    """A query that matches nothing."""

    exit_status = 69


@click.group(name="key")
def command() -> None:
    """Keys and certificates: yours, and those of the people you write to."""


@contextmanager
def _keystore(passphrase: Passphrase) -> Iterator[Keystore]:
    keystore = open_keystore(load_config_or_defaults(passphrase), passphrase)
    try:
        yield keystore
    finally:
        keystore.close()


def _either(secrets_passphrase: Passphrase, passphrase: Passphrase) -> Passphrase:
    """For the secrets file: its own option, else that of the key, which often is the same one."""
    return secrets_passphrase if secrets_passphrase.given or not passphrase.given else passphrase


@command.command(name="import", short_help="Import keys from files, stdin, URLs or GnuPG.")
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
@click.option("--trust", type=click.Choice([one.value for one in Trust]), help="How far to trust the keys.")
@click.option("--ca-file", type=click.Path(path_type=Path), help="Trust this authority for https (PEM).")
@json_option
@key_passphrase
@store_passphrase
def import_(
    sources: tuple[str, ...],
    query: str | None,
    secret: bool,
    trust: str | None,
    ca_file: Path | None,
    as_json: bool,
    passphrase: Passphrase,
    secrets_passphrase: Passphrase,
) -> None:
    """Import certificates and secret keys from files, stdin (-), https URLs or GnuPG.

    OpenPGP: armored or binary, several in a file. S/MIME: PEM, DER, PKCS #12 (.p12, .pfx) and PKCS #7 (.p7b).
    The passphrase of secret keys is asked for once.
    """
    _check_sources(sources, query, secret)
    level = Trust(trust) if trust else None
    results: list[tuple[str, ImportResult]] = []
    with _keystore(_either(secrets_passphrase, passphrase)) as keystore:
        for source in sources:
            found = _import_source(keystore, source, ca_file, passphrase, level)
            results += [(_name(source), result) for result in found]
        if query is not None:
            taken = keystore.import_from_gnupg(query, secret=secret, trust=level)
            results += [("GnuPG", result) for result in taken]
    if not results:
        raise NotFound(f"GnuPG has no {'own ' if secret else ''}key that matches {query!r}.")
    if as_json:
        values = [keytext.result_values(source, result) for source, result in results]
        print_json({"version": keytext.JSON_VERSION, "results": values})
    else:
        click.echo(keytext.results_text(results))
    if all(result.action is ImportAction.REFUSED for _, result in results):
        click.echo("secmailproxy: nothing was imported", err=True)
        sys.exit(_NOTHING_IMPORTED)


@command.command(name="list", short_help="List keys and certificates.")
@click.argument("query", nargs=-1)
@json_option
@store_passphrase
def list_(query: tuple[str, ...], as_json: bool, secrets_passphrase: Passphrase) -> None:
    """List keys and certificates: all, or those that match an address, a fingerprint or words."""
    _print_keys(query, as_json, secrets_passphrase, keytext.short_text)


@command.command(short_help="Show everything about a key.")
@click.argument("query", nargs=-1, required=True)
@json_option
@store_passphrase
def show(query: tuple[str, ...], as_json: bool, secrets_passphrase: Passphrase) -> None:
    """Show everything that is known of the keys and certificates that match."""
    _print_keys(query, as_json, secrets_passphrase, keytext.long_text)


@command.command(short_help="Write one certificate, or your secret key.")
@click.argument("query", nargs=-1, required=True)
@click.option("--secret", is_flag=True, help="Export the secret key, protected by a passphrase.")
@click.option("--no-passphrase", is_flag=True, help="With --secret: leave the secret key in clear.")
@json_option
@key_passphrase
@store_passphrase
def export(
    query: tuple[str, ...],
    secret: bool,
    no_passphrase: bool,
    as_json: bool,
    passphrase: Passphrase,
    secrets_passphrase: Passphrase,
) -> None:
    """Write one certificate, armored, to stdout; with --secret, your secret key (S/MIME: as PKCS #12)."""
    if no_passphrase and (not secret or passphrase.given):
        raise UsageError("--no-passphrase goes with --secret, and without a passphrase.")
    with _keystore(secrets_passphrase) as keystore:
        certificate = _only(keystore, query)
        # What is not ours is refused below, before anybody is asked for a passphrase.
        protects = secret and not no_passphrase and certificate.holder is Holder.OWN
        protection = _new_passphrase(passphrase) if protects else None
        exported = keystore.export(certificate.fingerprint, secret=secret, passphrase=protection)
    binary = secret and certificate.scheme is Scheme.SMIME
    if as_json:
        print_json(keytext.export_values(certificate, exported, secret=secret))
    elif binary and sys.stdout.isatty():
        raise UsageError("PKCS #12 is binary: send it to a file, such as > mail.p12")
    else:
        click.echo(exported if binary else exported.replace(b"\r\n", b"\n"), nl=False)


@command.command()
@click.argument("address")
@click.option("--name", default="", help="Your name, for the user ID.")
@click.option("--kind", type=click.Choice(["ed25519", "rsa3072"]), default="ed25519", show_default=True)
@click.option("--expires", default="never", show_default=True, help="never, or a time such as 90d, 18m, 2y.")
@click.option("--another", is_flag=True, help="Make one even though the address has a key already.")
@json_option
@passphrase_options
def generate(
    address: str, name: str, kind: Any, expires: str, another: bool, as_json: bool, passphrase: Passphrase
) -> None:
    """Make a key for an address of yours."""
    lifetime = _lifetime(expires)
    now = datetime.now(UTC)
    with _keystore(passphrase) as keystore:
        known = keystore.identity(address, now)
        if known is not None and not another:
            raise UsageError(
                f"{address} has the key {known.certificate.fingerprint} already; --another makes one more, "
                "which is then used for new mail."
            )
        made = keystore.generate(address, name=name, kind=kind, now=now, expires=lifetime)
        described = keytext.describe(keystore, made, now)
    if as_json:
        print_json({"version": keytext.JSON_VERSION, "key": described})
    else:
        click.echo(keytext.long_text(described))


@command.command(short_help="Delete one certificate or key.")
@click.argument("query", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Delete a secret key without asking.")
@json_option
@store_passphrase
def delete(query: tuple[str, ...], yes: bool, as_json: bool, secrets_passphrase: Passphrase) -> None:
    """Delete one certificate, and the secret key with it if it is yours.

    A key that GnuPG holds is only forgotten here; GnuPG keeps it.
    """
    with _keystore(secrets_passphrase) as keystore:
        certificate = _only(keystore, query)
        if certificate.holder is Holder.OWN and not yes:
            _confirm_loss(certificate)
        keystore.delete(certificate.fingerprint)
    if as_json:
        print_json(
            {
                "version": keytext.JSON_VERSION,
                "deleted": certificate.fingerprint,
                "secret": certificate.holder is Holder.OWN,
            }
        )
    else:
        click.echo(f"deleted {certificate.fingerprint}")


@command.command()
@click.argument("query", nargs=-1, metavar="QUERY...")
@click.argument("level", type=click.Choice([one.value for one in Trust]))
@json_option
@store_passphrase
def trust(query: tuple[str, ...], level: str, as_json: bool, secrets_passphrase: Passphrase) -> None:
    """Say how far a certificate is trusted.

    verified: you compared its fingerprint with its owner. rejected: never used.
    """
    with _keystore(secrets_passphrase) as keystore:
        certificate = _only(keystore, query)
        keystore.set_trust(certificate.fingerprint, Trust(level))
    if as_json:
        print_json({"version": keytext.JSON_VERSION, "fingerprint": certificate.fingerprint, "trust": level})
    else:
        click.echo(f"{certificate.fingerprint} is now {level}")


@command.command(short_help="Show, or fetch, lists of revoked S/MIME certificates.")
@click.option("--fetch", is_flag=True, help="Ask the authorities for their lists first.")
@json_option
@store_passphrase
def revocations(fetch: bool, as_json: bool, secrets_passphrase: Passphrase) -> None:
    """Show which lists of revoked S/MIME certificates are here, or fetch them now.

    `serve` fetches them by itself, unless [smime] revocation = false.
    """
    from secmailproxy.cli import revocations as shown  # wanted for S/MIME only
    from secmailproxy.revocationlists import fetch_all

    now = datetime.now(UTC)
    with _keystore(secrets_passphrase) as keystore:
        fetched = list(fetch_all(keystore, now)) if fetch else []
        lists = keystore.authorities.revocations.all()
    if as_json:
        print_json({"version": keytext.JSON_VERSION, "lists": [shown.values(one) for one in lists]})
    else:
        none = shown.NONE_NAMED if fetch else shown.NONE
        click.echo("\n".join(shown.text(one, now) for one in lists) or none)
    if any(one.failure for one in fetched):
        raise click.exceptions.Exit(UpstreamUnavailable.exit_status)


def _print_keys(
    query: tuple[str, ...], as_json: bool, passphrase: Passphrase, text: Callable[[dict[str, Any]], str]
) -> None:
    now = datetime.now(UTC)
    with _keystore(passphrase) as keystore:
        found = keystore.certificates(" ".join(query))
        described = [keytext.describe(keystore, one, now) for one in found]
    if query and not found:
        raise NotFound(_no_match(query))
    if as_json:
        print_json({"version": keytext.JSON_VERSION, "keys": described})
    else:
        click.echo("\n\n".join(map(text, described)) or _NO_KEYS)


def _only(keystore: Keystore, query: tuple[str, ...]) -> Certificate:
    """Return the one certificate that matches; several are listed and a fingerprint is asked for."""
    if not "".join(query).strip():
        raise UsageError("The query is empty; give a fingerprint or an address.")
    found = keystore.certificates(" ".join(query))
    if not found:
        raise NotFound(_no_match(query))
    if len(found) > 1:
        lines = [
            f"{one.fingerprint} {keytext.scheme_name(one.scheme)} {keytext.plain(', '.join(one.user_ids))}"
            for one in found
        ]
        raise UsageError(
            "\n".join([f"{' '.join(query)!r} matches several keys; give the fingerprint of one:", *lines])
        )
    return found[0]


def _no_match(query: tuple[str, ...]) -> str:
    return f"No key matches {' '.join(query)!r}; `secmailproxy key list` shows all."


def _check_sources(sources: tuple[str, ...], query: str | None, secret: bool) -> None:
    if not sources and query is None:
        raise UsageError("Nothing to import: name files, https URLs, - for stdin, or --from-gnupg.")
    if secret and query is None:
        raise UsageError("--secret goes with --from-gnupg; secret keys in files are imported as they are.")
    if sources.count("-") > 1:
        raise UsageError("Standard input (-) can be read only once.")
    urls = [source for source in sources if _is_url(source)]
    if urls:
        from secmailproxy.cli.keyfetch import check_url  # httpx is wanted for URLs only

        for url in urls:
            check_url(url)


def _is_url(source: str) -> bool:
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", source) is not None and not Path(source).exists()


def _name(source: str) -> str:
    if source == "-":
        return "standard input"
    return source if _is_url(source) else f"file {Path(source).name or source}"


def _read(source: str, ca_file: Path | None) -> bytes:
    if source == "-":
        octets = sys.stdin.buffer.read(_MAX_FILE + 1)
    elif _is_url(source):
        from secmailproxy.cli.keyfetch import fetch

        return fetch(source, ca_file)
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
    keystore: Keystore, source: str, ca_file: Path | None, passphrase: Passphrase, level: Trust | None
) -> list[ImportResult]:
    """Import one source; one that holds no key at all is a result too, so that the others are still tried."""
    try:
        octets = _read(source, ca_file)
        return keystore.import_keys(octets, source=_name(source), passphrase=passphrase, trust=level)
    except (KeyRefused, UpstreamUnavailable) as refusal:
        return [ImportResult(ImportAction.REFUSED, reason=str(refusal))]


def _new_passphrase(passphrase: Passphrase) -> str:
    passphrase.prompt = "Passphrase for the exported key"
    first = passphrase()
    if not passphrase.given and click.prompt("Again", hide_input=True, err=True) != first:
        raise UsageError("The two passphrases differ.")
    if not first:
        raise UsageError("The passphrase is empty; use --no-passphrase to export the secret key in clear.")
    return first


def _confirm_loss(certificate: Certificate) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            f"{certificate.fingerprint} has its secret key here; mail encrypted to it could never be read "
            "again. Use --yes to delete it all the same."
        )
    click.echo(
        f"Mail encrypted to {certificate.fingerprint} can never be read again without this key.", err=True
    )
    if not click.confirm("Delete the secret key?", err=True):
        click.echo("Nothing was deleted.", err=True)
        raise click.exceptions.Exit(INTERRUPTED)


def _lifetime(text: str) -> timedelta | None:
    if text == "never":
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,4})([dwmy])", text)
    days = int(match[1]) * _DAYS[match[2]] if match else 0
    # OpenPGP counts a key's life in 32 bits of seconds (RFC 9580 section 5.2.3.13).
    if not 0 < days < 2**32 // 86400:
        raise UsageError(f"--expires {text}: give never, or a number with d, w, m or y, such as 90d or 2y.")
    return timedelta(days=days)
