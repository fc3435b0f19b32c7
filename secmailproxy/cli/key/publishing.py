"""`secmailproxy key publish`: how others find the certificate of an own address."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keystore import openpgp
from keystore.model import Certificate, Purpose, Reason, Scheme, lower_case
from secmailproxy.cli.context import Passphrase, load_config_or_defaults, passphrase_options, print_json
from secmailproxy.cli.key import text
from secmailproxy.cli.key.common import NotFound, json_option, opened
from secmailproxy.errors import UpstreamUnavailable, UsageError
from secmailproxy.rules import normal_address

if TYPE_CHECKING:
    from keystore.discovery.uploading import Uploaded
    from keystore.keystore import Keystore
    from secmailproxy.config import Config


@dataclass(frozen=True, slots=True)
class _Own:
    """What there is to publish of an address."""

    address: str
    certificates: tuple[bytes, ...] = field(repr=False)
    """Binary, with this address alone: the one in use, then those that are revoked."""
    autocrypt: str
    """The header field, LF line endings; "" where the certificate in use cannot be told so."""


@click.command(name="publish", short_help="Let others find your certificate.")
@click.argument("address")
@click.option(
    "--wkd", type=click.Path(path_type=Path, file_okay=False), help="Write a Web Key Directory here."
)
@click.option("--vks", is_flag=True, help="Upload it to a verifying key server.")
@click.option("--server", help="For --vks, in place of the configured one or keys.openpgp.org.")
@json_option
@passphrase_options
def command(
    address: str,
    wkd: Path | None,
    vks: bool,
    server: str | None,
    as_json: bool,
    passphrase: Passphrase,
) -> None:
    """Let others find the certificate of ADDRESS, one of yours.

    Without --wkd and --vks nothing is written or sent: what you can do is printed, with the header field of
    Autocrypt. A key that you revoked goes along, so that others learn of it.
    """
    if server and not vks:
        raise UsageError("--server goes with --vks.")
    with opened(passphrase) as keystore:
        own = _own(keystore, address, datetime.now(UTC))
    files = _written(own, wkd) if wkd else []
    uploaded = _uploaded(own, server, load_config_or_defaults(passphrase)) if vks else None
    if as_json:
        print_json(_values(own, files, uploaded))
    else:
        click.echo("\n".join(_lines(own, wkd, uploaded)))


def _own(keystore: Keystore, address: str, now: datetime) -> _Own:
    identity = keystore.identity(address, now)
    used = [identity.certificate] if identity else []
    revoked = [one for one in keystore.own(address, Scheme.OPENPGP) if _is_revoked(keystore, one, now)]
    if not used and not revoked:
        raise NotFound(
            f"{address} has no OpenPGP key of yours that works; make one with "
            f"`secmailproxy key generate {address}`."
        )
    lower = lower_case(address)
    certificates = tuple(openpgp.about(one.octets, lower) for one in (*used, *revoked))
    return _Own(lower, certificates, _autocrypt(keystore, used, lower, now))


def _is_revoked(keystore: Keystore, certificate: Certificate, now: datetime) -> bool:
    reason = keystore.usability(certificate.fingerprint, Purpose.SIGN, now).reason
    return reason is Reason.REVOKED


def _autocrypt(keystore: Keystore, used: list[Certificate], address: str, now: datetime) -> str:
    from secmailproxy.mime.autocrypt import certificate_field

    minimal = keystore.exports.minimal(used[0].fingerprint, address, now, signs=True) if used else None
    made = certificate_field("Autocrypt", address, minimal) if minimal else None
    return made.decode("ascii").replace("\r\n", "\n") if made else ""


def _written(own: _Own, folder: Path) -> list[str]:
    from keystore.discovery import publishing

    try:
        files = publishing.tree(_web_address(own.address), b"".join(own.certificates))
        publishing.write(folder, files)
    except ValueError as problem:
        raise UsageError(f"{own.address}: {problem}.") from None
    except OSError as error:
        raise UsageError(f"--wkd {folder}: {error.strerror}.") from None
    return sorted(files)


def _web_address(address: str) -> str:
    """The domain in ASCII, the local part as it is: its name in the directory is a hash of its octets."""
    return address.rpartition("@")[0] + "@" + normal_address(address).rpartition("@")[2]


def _uploaded(own: _Own, server: str | None, config: Config) -> Uploaded:
    from keystore.discovery.keyservers import VKS_SERVER
    from keystore.discovery.model import SourceFailed
    from keystore.discovery.net import open_net
    from keystore.discovery.uploading import upload

    settings = config.discovery_settings()
    net, server = open_net(settings.net), server or settings.vks or VKS_SERVER

    async def each() -> Uploaded:
        told = [await upload(net, one, own.address, server) for one in own.certificates]
        return told[0]

    try:
        return asyncio.run(each())
    except SourceFailed as failed:
        raise UpstreamUnavailable(f"Not uploaded: {failed.text}.") from None
    except ValueError as problem:
        raise UsageError(f"--server {server}: {problem}.") from None


def _values(own: _Own, files: list[str], uploaded: Uploaded | None) -> dict[str, Any]:
    return {
        "version": text.JSON_VERSION,
        "address": own.address,
        "fingerprints": [openpgp.certificate(one).fingerprint for one in own.certificates],
        "autocrypt": own.autocrypt,
        "wkd": files,
        "vks": uploaded
        and {"server": uploaded.server, "status": uploaded.status, "mail_requested": uploaded.asked},
    }


def _lines(own: _Own, folder: Path | None, uploaded: Uploaded | None) -> list[str]:
    from keystore.discovery.publishing import upload_instructions

    if folder is None and uploaded is None:
        return _ways(own)
    lines = []
    if folder is not None:
        lines += [f"Written to {folder}.", *upload_instructions(_web_address(own.address))]
    if uploaded is not None:
        lines.append(_of_upload(own.address, uploaded))
    return lines


def _ways(own: _Own) -> list[str]:
    lines = [
        f"Ways to let others find the certificate of {own.address}:",
        "  by mail      every protected message of yours has it in its header (Autocrypt); attach_key = true",
        "               in the configuration attaches it as a file too",
        f"  your domain  secmailproxy key publish {own.address} --wkd FOLDER",
        f"  key server   secmailproxy key publish {own.address} --vks",
        f"  a file       secmailproxy key export {own.address}",
    ]
    return [*lines, "", own.autocrypt.rstrip("\n")] if own.autocrypt else lines


def _of_upload(address: str, uploaded: Uploaded) -> str:
    from keystore.discovery.uploading import Status

    if uploaded.asked:
        return (
            f"Uploaded to {uploaded.server}. It now writes to {address}: open the link in that mail. "
            "Until then the certificate is found by its fingerprint alone."
        )
    if uploaded.status is Status.PUBLISHED:
        return f"Uploaded to {uploaded.server}, where it is found by {address}."
    return f"Uploaded to {uploaded.server}, which tells others that it is revoked."
