"""The kinds of value in the configuration file, each with its check and a text that says what to write.

Paths are relative to the folder of the configuration file, which comes as `folder` in pydantic's context.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from secmailproxy.mime.address import is_plain


class Section(BaseModel):
    """A table of the file: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class ListenAddress(Section):
    """Where one listener listens. Port 0 lets the system choose."""

    host: str
    port: Annotated[int, Field(ge=0, le=65535)]

    @property
    def is_path(self) -> bool:
        """Whether `host` is the path of a Unix socket; the port is 0 then."""
        return self.host.startswith("/")

    def __str__(self) -> str:
        if self.is_path:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def refuse_one_port_twice(addresses: Mapping[str, ListenAddress]) -> None:
    """Raise ValueError naming two listeners at one place."""
    for one, other in combinations(addresses, 2):
        place = addresses[one]
        if place == addresses[other] and (place.port or place.is_path):
            raise ValueError(f"{one} and {other} have the same address and port; give each its own port")


class LocatedError(ValueError):
    """A value contradicts another: the place of it, from the table that was checked, comes with the text."""

    def __init__(self, text: str, *location: str | int) -> None:
        super().__init__(text)
        self.location = location


_SOCKET_PATH_MOST = 107
"""What `sockaddr_un` of Linux holds, without its final NUL."""
_FINGERPRINT = re.compile(r"(?:[0-9A-F]{40}|[0-9A-F]{64})")
_PATTERN = re.compile(r"\*|(?:\*\.|@)[^\s@*]+|[^\s@*]+@[^\s@*]+")


def _address(value: str) -> str:
    if not is_plain(value):
        raise ValueError(f"{value!r} is not a mail address; write it as alice@example.org")
    return value


def _fingerprint(value: str) -> str:
    digits = re.sub(r"[\s:]", "", value).upper().removeprefix("0X")
    if not _FINGERPRINT.fullmatch(digits):
        raise ValueError(
            f"{value!r} is not a fingerprint; give all 40 (or 64) hexadecimal digits, as "
            "`secmailproxy key list` shows them"
        )
    return digits


def _pattern(value: str) -> str:
    if not _PATTERN.fullmatch(value):
        raise ValueError(f"{value!r} is no pattern; write an address, @example.org, *.example.org or *")
    return value


def _word(value: str) -> str:
    if not value.isprintable() or len(value.split()) != 1 or value != value.strip():
        raise ValueError(f"{value!r} is not one word; write it without blanks, such as [encrypt]")
    return value


def _mark(value: str) -> str:
    # "signed" and its like would be written by senders, too.
    if value and not re.fullmatch(r"(?=.*[0-9])[A-Za-z0-9._~+-]{6,40}", value):
        raise ValueError(
            "must be 6 to 40 letters, digits and . _ ~ + -, a digit among them: a word that nobody guesses"
        )
    return value


def _listener(value: object) -> object:
    """Split "host:port" (RFC 3986 brackets for IPv6) and insist on loopback, however it was written."""
    if not isinstance(value, str):
        raise ValueError('must be text in quotes, such as "127.0.0.1:1143"')
    host, colon, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isascii() or not port.isdigit():
        raise ValueError(f'{value!r} is not "host:port"; write for example "127.0.0.1:1143" or "[::1]:1143"')
    if not _is_loopback(host):
        raise ValueError(
            f"{host!r} is not a loopback address; mail is in clear here and must not leave the machine, so "
            "only 127.0.0.1, [::1] or localhost will do"
        )
    return {"host": host, "port": int(port)}


def _place(value: object) -> object:
    """The same, or the absolute path of a Unix socket."""
    if isinstance(value, str) and "/" in value and not value.startswith("/"):
        raise ValueError(f'the path of a Unix socket is absolute; write for example "/run/{value}"')
    if not isinstance(value, str) or not value.startswith("/"):
        return _listener(value)
    if len(os.fsencode(value)) > _SOCKET_PATH_MOST:
        raise ValueError(
            f"the path of a Unix socket has at most {_SOCKET_PATH_MOST} octets; choose a shorter one"
        )
    return {"host": value, "port": 0}


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _file(value: object, info: ValidationInfo) -> Path | None:
    """A path to a file that must exist; "" means none; relative to the configuration's folder."""
    path = _path(value, info)
    if path is not None and not path.is_file():
        raise ValueError(f"there is no file {path}; correct the path or remove the option")
    return path


def _authority(value: object, info: ValidationInfo) -> Path | None:
    """A file of PEM certificates that OpenSSL can read."""
    path = _file(value, info)
    if path is not None:
        import ssl  # only wanted where there is a private authority

        try:
            ssl.create_default_context(cafile=path)
        except ssl.SSLError:
            raise ValueError(f"{path} holds no certificate in PEM form; name the authority's own") from None
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    return path


def _roots(value: object, info: ValidationInfo) -> Path:
    """A file with certificates of authorities that vouch for mail."""
    path = _file(value, info)
    if path is None:
        raise ValueError("must be a path, in quotes; leave the list empty for no file")
    from keystore.errors import KeystoreError  # only wanted where roots are named
    from keystore.roots import read_roots

    try:
        read_roots(path)
    except KeystoreError as error:
        raise ValueError(str(error)) from None
    return path


def _folder(value: object, info: ValidationInfo) -> Path | None:
    """The same for a folder."""
    path = _path(value, info)
    if path is not None and not path.is_dir():
        raise ValueError(f"there is no folder {path}; correct the path or remove the option")
    return path


def _path(value: object, info: ValidationInfo) -> Path | None:
    if value is None or value == "":
        return None
    if not isinstance(value, (str, Path)):
        raise ValueError("must be a path, in quotes")
    folder: Path = (info.context or {}).get("folder", Path())
    return folder / Path(value).expanduser()


def absolute_path(value: str, info: ValidationInfo) -> str:
    """A path of which nothing need exist yet; a "/" at its end stays, "" too."""
    path = _path(value, info)
    if path is None:
        return ""
    return os.path.abspath(path) + ("/" if value.endswith("/") else "")


Address = Annotated[str, AfterValidator(_address)]
FingerprintText = Annotated[str, AfterValidator(_fingerprint)]
Pattern = Annotated[str, AfterValidator(_pattern)]
Mark = Annotated[str, AfterValidator(_mark)]
Word = Annotated[str, AfterValidator(_word)]
ExistingFile = Annotated[Path | None, BeforeValidator(_file)]
AuthorityFile = Annotated[Path | None, BeforeValidator(_authority)]
ExistingFolder = Annotated[Path | None, BeforeValidator(_folder)]
RootsFile = Annotated[Path, BeforeValidator(_roots)]
Host = Annotated[str, Field(min_length=1, pattern=r"^[^\s/:@]+$|^[0-9a-fA-F:.]+$")]
Switch = Annotated[bool, Field(strict=True)]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
Octets = Annotated[int, Field(strict=True, ge=64 * 1024, le=1024**3)]
Listener = Annotated[ListenAddress, BeforeValidator(_listener)]
Place = Annotated[ListenAddress, BeforeValidator(_place)]
