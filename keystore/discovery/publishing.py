"""A Web Key Directory for a web server, as a tree of files with the certificates of own addresses.

    FOLDER/DOMAIN/.well-known/openpgpkey/DOMAIN/hu/...    for https://openpgpkey.DOMAIN/ (advanced method)
                                         DOMAIN/policy
                                         hu/...           for https://DOMAIN/ (direct method)
                                         policy

so that FOLDER/DOMAIN can be the root of either host, or of both.

Standards: draft-koch-openpgp-webkey-service-21 sections 3.1 and 4.5.
"""

from __future__ import annotations

import re
from pathlib import Path

from keystore.discovery.directory import places
from keystore.files import replace_file

_POLICY = "policy"
_DOMAIN = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)+")


def tree(address: str, certificate: bytes) -> dict[str, bytes]:
    """The files, by their paths under the folder, that publish a binary certificate for an address.

    The certificate should hold no other address: whoever asks for this one sees it whole. Raises ValueError
    for a domain that is none.
    """
    if not _DOMAIN.fullmatch(address.rpartition("@")[2]):
        raise ValueError("its domain is none that a web server could have")
    files: dict[str, bytes] = {}
    for place in places(address):
        path = f"{place.domain}{place.path}"
        files[path] = certificate
        # Empty: no part of the update protocol is offered, and the file must be there.
        files[f"{path.rpartition('/hu/')[0]}/{_POLICY}"] = b""
    return files


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write a tree, readable for a web server; what else is in the folder stays, policy files too.

    Each file is replaced at once, so that a folder which is served already never shows half of one. Raises
    OSError.
    """
    for name, octets in files.items():
        path = folder / name
        _make_folders(folder, path.parent)
        if path.name == _POLICY and path.exists():
            continue
        replace_file(path, octets, 0o644)


def upload_instructions(address: str) -> list[str]:
    """What is to be done with the tree, for people."""
    advanced, direct = places(address)
    return [
        f"Upload what is in the folder {advanced.domain} (with .well-known) to the root of ONE of these:",
        f"  https://{advanced.host}/   (a name of its own; where it exists, nothing else is asked)",
        f"  https://{direct.host}/   (your web server, if {advanced.host} does not exist)",
        "TLS must be valid for that name, and no password asked. Then see whether it is found:",
        f"  {advanced.url}",
        f"  {direct.url}",
    ]


def _make_folders(top: Path, folder: Path) -> None:
    top.mkdir(parents=True, exist_ok=True)
    made = [one for one in (folder, *folder.parents) if one.is_relative_to(top) and not one.exists()]
    for one in reversed(made):
        one.mkdir()
        one.chmod(0o755)
