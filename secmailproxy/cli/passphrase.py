"""`secmailproxy passphrase`: another passphrase for the secrets file."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from secmailproxy.cli.context import (
    Passphrase,
    load_config_or_defaults,
    open_secrets,
    passphrase_options,
    print_json,
    secret_options,
)
from secmailproxy.errors import UsageError


@click.command("passphrase")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@secret_options("new-passphrase", "new passphrase")
@passphrase_options
def command(passphrase: Passphrase, new_passphrase: Passphrase, as_json: bool) -> None:
    """Change the passphrase of the encrypted secrets file ([secrets] backend = "file").

    If this is interrupted, at whatever moment, the file opens with the old passphrase or with the new one.
    """
    from keystore.secretsfile import FileSecrets

    config = load_config_or_defaults(passphrase)
    named, backend = config.secrets.passphrase_file, config.secrets.backend
    if backend != "file":
        raise UsageError(
            f'There is no passphrase to change: the secrets are in "{backend}". The keyring of a desktop has '
            "a passphrase of its own, which the desktop changes."
        )
    if named is not None and new_passphrase.file is None:
        raise UsageError(
            f"The configuration has the passphrase read from {named}: write the new one to another file, "
            "give that with --new-passphrase-file, and put it in the place of the old one afterwards."
        )
    if new_passphrase.file is not None and named is not None and _same(new_passphrase.file, named):
        raise UsageError(f"{named} is the file with the old passphrase: write the new one to another file.")
    secrets = open_secrets(config, passphrase)
    assert isinstance(secrets, FileSecrets), "that is the backend"
    secrets.get("keystore-key")  # asks for the old passphrase first
    secrets.change_passphrase(_asked(new_passphrase))
    remark = f"now run: {_moved(new_passphrase.file, named)}" if named and new_passphrase.file else ""
    if as_json:
        print_json({"version": 1, "secrets": str(secrets.path), "next": remark})
    else:
        click.echo(f"{secrets.path} has the new passphrase" + (f"; {remark}" if remark else "."))
        click.echo("Copies of the file, such as backups, still open with the old one.", err=True)


def _asked(new: Passphrase) -> str:
    answer = new()
    if not new.given and click.prompt("Again", hide_input=True, err=True) != answer:
        raise UsageError("The two passphrases differ; nothing was changed.")
    return answer


def _moved(new: Path, named: Path) -> str:
    """The commands that put the file in its place; one that others can read would be refused there."""
    close = f"chmod 600 {shlex.quote(str(new))} && " if new.stat().st_mode & 0o077 else ""
    return f"{close}{shlex.join(['mv', str(new), str(named)])}"


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
