"""`secmailproxy key setup-message`: an own key to and from other mail programs, by Autocrypt."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path

import click

from keystore.errors import KeyRefused
from keystore.model import Holder, Scheme
from secmailproxy.cli.context import (
    Passphrase,
    load_config_or_defaults,
    open_keystore,
    print_json,
    secret_options,
)
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import json_option, opened, store_passphrase
from secmailproxy.errors import UsageError

setup_code = secret_options("code", "setup code")


@click.command(name="setup-message")
@click.argument("address_or_file", metavar="ADDRESS|FILE")
@click.option("--import", "imports", is_flag=True, help="Take the key out of the Setup Message in FILE.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the message there; else to standard output, and the code to standard error.",
)
@json_option
@setup_code
@store_passphrase
def command(
    address_or_file: str,
    imports: bool,
    output: Path | None,
    as_json: bool,
    code: Passphrase,
    secrets_passphrase: Passphrase,
) -> None:
    """Write an Autocrypt Setup Message with your key for ADDRESS, or take one in.

    Another mail program opens it with the code that is shown: put the message into your mailbox with a mail
    client, or open the file there. Do not send it through secmailproxy, which would encrypt it once more.
    """
    if imports:
        if output is not None:
            raise UsageError("--output goes with a message that is written; --import reads FILE.")
        _take(Path(address_or_file), code, secrets_passphrase, as_json=as_json)
    else:
        if code.given:
            raise UsageError("The code is made here, and shown; a code option goes with --import.")
        _make(address_or_file, output, secrets_passphrase, as_json=as_json)


def _make(address: str, output: Path | None, passphrase: Passphrase, *, as_json: bool) -> None:
    from keystore.files import replace_file
    from keystore.openpgp.setup import new_code
    from secmailproxy.mime.setupmessage import setup_message

    config = load_config_or_defaults(passphrase)
    account = config.account(address)
    mutual = account is not None and account.prefer_encrypt == "mutual"
    code, now = new_code(), datetime.now(UTC)
    keystore = open_keystore(config, passphrase)
    try:
        identity = keystore.identity(address, now)
        if identity is None or identity.certificate.scheme is not Scheme.OPENPGP:
            raise UsageError(f"There is no OpenPGP key that signs for {address}.")
        if identity.certificate.holder is not Holder.OWN:
            raise UsageError(f"The key of {address} is held elsewhere, which does not give it out.")
        sealed = keystore.exports.setup_message(identity.certificate.fingerprint, code, mutual=mutual)
    finally:
        keystore.close()
    message = setup_message(identity.address, sealed, now, secrets.token_hex(12))
    if output is not None:
        try:
            replace_file(output, message)
        except OSError as error:
            raise UsageError(f"Cannot write {output}: {error.strerror}.") from None
    if as_json:
        print_json({"version": text.JSON_VERSION, "code": code, "message": message.decode("ascii")})
        return
    if output is None:
        click.echo(message, nl=False)
    click.echo("Its setup code, which is shown only now:\n" + _in_lines(code), err=output is None)


def _take(file: Path, code: Passphrase, passphrase: Passphrase, *, as_json: bool) -> None:
    from keystore.openpgp.setup import MOST_OCTETS, open_setup
    from secmailproxy.mime.setupmessage import setup_attachment

    try:
        with file.open("rb") as stream:
            octets = stream.read(2 * MOST_OCTETS)
    except OSError as error:
        raise UsageError(f"Cannot read {file}: {error.strerror}.") from None
    setup = open_setup(setup_attachment(octets), code())
    with opened(passphrase) as keystore:
        results = keystore.import_keys(setup.key, source="Autocrypt Setup Message")
    if not any(one.secret for one in results):
        raise KeyRefused("there is no secret key in this Setup Message")
    if as_json:
        values = [text.result_values(file.name, one) for one in results]
        print_json({"version": text.JSON_VERSION, "results": values, "mutual": setup.mutual})
        return
    click.echo(text.results_text([(file.name, one) for one in results]))
    if setup.mutual:
        click.echo('It asks others to encrypt; here prefer_encrypt = "mutual" of an account does.', err=True)


def _in_lines(code: str) -> str:
    """Three groups in a line, as other programs show it."""
    groups = code.split("-")
    return "\n".join("  " + "-".join(groups[at : at + 3]) + ("-" if at < 6 else "") for at in (0, 3, 6))
