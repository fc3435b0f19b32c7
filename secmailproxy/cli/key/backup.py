"""`secmailproxy key backup` and `key restore`: everything of the keystore in one encrypted file, and back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keystore.model import Holder, Purpose
from secmailproxy.cli.context import (
    Passphrase,
    load_config_or_defaults,
    open_keystore,
    open_secrets,
    print_json,
    secret_options,
)
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import json_option, store_passphrase
from secmailproxy.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from keystore import backup as format_
    from keystore.keystore import Keystore
    from keystore.restoring import Restored
    from secmailproxy.config import Config

_CONFIG, _TOKEN = "config.toml", "verdict-token"
_MOST_OCTETS = 2**31 - 1024
backup_passphrase = secret_options("passphrase", "passphrase of the backup")


@click.command(name="backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--code", is_flag=True, help="Make a code that opens it, and print it, once.")
@click.option(
    "--passwords", is_flag=True, help="Put in passwords too: accounts', the shared store's, a token's PIN."
)
@click.option("--no-config", is_flag=True, help="Leave the configuration out.")
@json_option
@backup_passphrase
@store_passphrase
def backup(
    file: Path,
    code: bool,
    passwords: bool,
    no_config: bool,
    as_json: bool,
    passphrase: Passphrase,
    secrets_passphrase: Passphrase,
) -> None:
    """Write one encrypted file with everything: keys, certificates, trust, peers, the keystore key.

    Who has it and its passphrase (or code) can read all your mail; without either nobody can. Keys that
    GnuPG or a token holds are not in it.
    """
    from keystore import backup as format_

    if code and passphrase.given:
        raise UsageError("--code makes the passphrase itself: leave the passphrase option out.")
    config = load_config_or_defaults(secrets_passphrase)
    opens = format_.new_code() if code else format_.Passphrase(_new(passphrase))
    keystore = open_keystore(config, secrets_passphrase)
    try:
        secrets = _passwords(config, secrets_passphrase) if passwords else {}
        files = {} if no_config else _files(config)
        contents = keystore.backups.contents(datetime.now(UTC), secrets, files)
    finally:
        keystore.close()
    format_.write(file, contents, opens)
    certificates = len(contents.tables["certificates"].rows)
    holders = contents.tables["secret_keys"].select("certificate", "holder")
    elsewhere = sorted(str(one) for one, holder in holders if holder != Holder.OWN.value)
    own = len(holders) - len(elsewhere)
    if as_json:
        counts = {"certificates": certificates, "own": own, "elsewhere": elsewhere}
        made = {"file": str(file), **counts, "code": opens.text if code else None}
        print_json({"version": text.JSON_VERSION, **made})
        return
    click.echo(f"{file}: {certificates} certificates, {own} own keys; read back and compared")
    if code:
        click.echo(f"Its code, which is shown only now: {opens.text}")
    for one in elsewhere:
        click.echo(
            f"Not in it is the secret key {one}: its holder has it, so back that up as well.", err=True
        )


@click.command(name="restore")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--no-config", is_flag=True, help="Leave the configuration in it where it is.")
@json_option
@backup_passphrase
@store_passphrase
def restore(
    file: Path, no_config: bool, as_json: bool, passphrase: Passphrase, secrets_passphrase: Passphrase
) -> None:
    """Bring everything of a backup in. What is here already stays; nothing is replaced.

    On a clean machine do this before setup, or after it: both lead to the same keys.
    """
    from keystore import backup as format_

    octets = _read(file)
    if not format_.is_backup(octets):
        raise UsageError(f"{file} is no backup of secmailproxy.")
    if format_.is_under_code(octets):
        passphrase.prompt = "Code of the backup"
    contents = format_.unseal(octets, passphrase())
    remarks = [] if no_config else _bring_config(contents)
    config = load_config_or_defaults(secrets_passphrase)
    keystore = open_keystore(config, secrets_passphrase)
    try:
        restored = keystore.backups.restore(contents, datetime.now(UTC))
        remarks += _supplanted(keystore, restored)
    finally:
        keystore.close()
    remarks += _bring_passwords(config, contents, secrets_passphrase)
    remarks += _next_steps(config, secrets_passphrase)
    if as_json:
        print_json({"version": text.JSON_VERSION, **_values(restored), "remarks": remarks})
        return
    click.echo(
        f"restored from {contents.made:%Y-%m-%d}: {restored.certificates} certificates, {restored.added} of "
        f"them new here; {len(restored.own)} own keys"
    )
    for remark in [*remarks, *_remarks(restored)]:
        click.echo(remark, err=True)


def _values(restored: Restored) -> dict[str, object]:
    return {
        "certificates": restored.certificates,
        "added": restored.added,
        "own": list(restored.own),
        "elsewhere": list(restored.elsewhere),
        "held": list(restored.held),
    }


def _remarks(restored: Restored) -> list[str]:
    return [
        *(
            f"The secret key {one} is not in any backup: its holder must have it."
            for one in restored.elsewhere
        ),
        *(f"{one} is held: its address has another certificate here." for one in restored.held),
    ]


def _supplanted(keystore: Keystore, restored: Restored) -> list[str]:
    """Keys of the backup in whose place a newer one serves, which nobody knows yet: as `setup` makes one."""
    now, old = datetime.now(UTC), set(restored.own)
    remarks = []
    for certificate in (one for one in keystore.owned() if one.fingerprint in old):
        if not keystore.usability(certificate.fingerprint, Purpose.SIGN, now).usable:
            continue
        for address in certificate.addresses:
            used = keystore.identity(address, now, scheme=certificate.scheme)
            if used is not None and used.certificate.fingerprint not in old:
                remarks.append(
                    f"{address} signs with {used.certificate.fingerprint}, which is newer than "
                    f"{certificate.fingerprint} of the backup. If correspondents know only that one: "
                    f"secmailproxy key revoke {used.certificate.fingerprint} --reason superseded"
                )
    return remarks


def _next_steps(config: Config, passphrase: Passphrase) -> list[str]:
    """What is missing until the proxy can serve."""
    from secmailproxy.accounts import password_secret

    if not config.folders.config_file.exists():
        return ["There is no configuration yet: secmailproxy setup you@your.domain"]
    secrets = open_secrets(config, passphrase)
    return [
        f"No password of {one.address} is kept: secmailproxy setup {one.address}"
        for one in config.accounts
        if secrets.get(password_secret(one.address)) is None
    ]


def _new(passphrase: Passphrase) -> str:
    answer = passphrase()
    if not passphrase.given and click.prompt("Again", hide_input=True, err=True) != answer:
        raise UsageError("The two passphrases differ; nothing was written.")
    if not answer:
        raise UsageError("The passphrase is empty; --code makes one.")
    return answer


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > _MOST_OCTETS:
            raise UsageError(f"{file} is larger than any backup.")
        return file.read_bytes()
    except OSError as error:
        raise UsageError(f"Cannot read {file}: {error.strerror}.") from None


def _files(config: Config) -> dict[str, bytes]:
    """The configuration, and the name of the verdict field, which mail clients may have filters for."""
    found = {_TOKEN: config.folders.verdict_token().encode("ascii")}
    if config.folders.config_file.exists():
        found[_CONFIG] = config.folders.config_file.read_bytes()
    return found


def _password_names(config: Config) -> list[str]:
    from keystore.database import PASSWORD
    from keystore.token import PIN_NAME
    from secmailproxy.accounts import local_password_secret, password_secret

    kinds = (password_secret, local_password_secret)
    of_accounts = [name(one.address) for one in config.accounts for name in kinds]
    return [*of_accounts, PASSWORD, PIN_NAME]


def _passwords(config: Config, passphrase: Passphrase) -> dict[str, str]:
    secrets = open_secrets(config, passphrase)
    found = {name: secrets.get(name) for name in _password_names(config)}
    return {name: value for name, value in found.items() if value is not None}


def _bring_config(contents: format_.Contents) -> list[str]:
    """Write what is not there; what is to be said of it."""
    from secmailproxy.config import Config
    from secmailproxy.folders import Folders, write_privately

    folders = Folders.of_user()
    folders.prepare()
    token = folders.state / _TOKEN
    if _TOKEN in contents.files and not token.exists():
        write_privately(token, contents.files[_TOKEN])
    octets, path = contents.files.get(_CONFIG), folders.config_file
    if octets is None or (path.exists() and path.read_bytes() == octets):
        return []
    beside = path.with_name(f"{path.name}.from-backup")
    if path.exists():
        write_privately(beside, octets)
        return [f"Your configuration stays; that of the backup is in {beside}."]
    try:
        Config.parse(octets, folders)
    except ConfigError as error:
        write_privately(beside, octets)
        return [f"The configuration of the backup does not fit here, and is in {beside}: {error.text}"]
    write_privately(path, octets)
    return []


def _bring_passwords(config: Config, contents: format_.Contents, passphrase: Passphrase) -> list[str]:
    from keystore.vault import KEY_NAME

    names = [name for name in contents.secrets if name != KEY_NAME]
    if not names:
        return []
    secrets = open_secrets(config, passphrase)
    kept = [name for name in names if secrets.get(name) not in (None, contents.secrets[name])]
    for name in names:
        if secrets.get(name) is None:
            secrets.set(name, contents.secrets[name])
    return [f"Another {name} is here already, and stays." for name in kept]
