"""A backup: everything that a keystore is, in one encrypted file that any later version can read.

    {"secmailproxy backup": 1, "under": "code" or "passphrase", "kdf": {"name": "argon2id", "salt": ..,
     "iterations": .., "lanes": .., "memory_kib": ..}} LF
    a wrap (`keystore.wrap`) of the zlib-compressed JSON of the contents, bound to that first line

The contents are tables by name with their columns and rows, secrets by name, and files by name; octets are
{"b64": ..} among them. Own keys are in their tables as the store has them, under the keystore key, which is
one of the secrets: who has file and passphrase has everything, and who lacks one has nothing.

Standards: RFC 9106 (Argon2id), RFC 8259 (JSON), RFC 1950 (zlib).
Security: what was made is opened again and compared before it counts; a wrong passphrase and a changed file
are not told apart.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keystore.errors import KeystoreError, NotReadable, StoreDamaged
from keystore.files import replace_file, sync_folder
from keystore.wrap import PassphraseKdf, unwrap, wrap

_MARK = "secmailproxy backup"
_VERSION = 1
_FIRST_LINE_MOST = 4096
_CODE_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Without I, L, O and U (Crockford's base32): whoever writes them by hand cannot confuse any."""
_CODE_GROUPS, _CODE_GROUP = 5, 5
_CONFUSED = str.maketrans("ILO", "110", " -\t\r\n")

Value = str | int | bytes | None


@dataclass(frozen=True, slots=True)
class Table:
    """One table."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...] = field(repr=False)

    def select(self, *names: str) -> list[tuple[Value, ...]]:
        """These columns of each row."""
        at = [self.columns.index(name) for name in names]
        return [tuple(row[one] for one in at) for row in self.rows]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a backup holds."""

    made: datetime
    """To the second."""
    schema: int
    """The version of the tables: how many of `schema.MIGRATIONS` they have seen."""
    tables: dict[str, Table]
    """In the order in which their rows can be written."""
    secrets: dict[str, str] = field(repr=False)
    """Those of the secrets backend, by name; the keystore key is always there."""
    files: dict[str, bytes] = field(default_factory=dict, repr=False)
    """By a name that says what they are; never a path to write to."""


@dataclass(frozen=True, slots=True)
class Passphrase:
    """What opens a backup."""

    text: str = field(repr=False)
    is_code: bool = False
    """Whether we have made it: then blanks, hyphens, case and letters that look alike do not matter."""

    @property
    def normal(self) -> str:
        """What the key is derived from."""
        return self.text.upper().translate(_CONFUSED) if self.is_code else self.text


def new_code() -> Passphrase:
    """A code of 125 bits, in groups."""
    groups = ("".join(secrets.choice(_CODE_LETTERS) for _ in range(_CODE_GROUP)) for _ in range(_CODE_GROUPS))
    return Passphrase("-".join(groups), is_code=True)


def as_code(text: str) -> str:
    """The normal form of what looks like a code of ours; any other text as it is."""
    normal = Passphrase(text, is_code=True).normal
    is_code = len(normal) == _CODE_GROUPS * _CODE_GROUP and set(normal) <= set(_CODE_LETTERS)
    return normal if is_code else text


def seal(contents: Contents, passphrase: Passphrase) -> bytes:
    """The octets of the file."""
    kdf = PassphraseKdf.fresh()
    first = json.dumps(
        {
            _MARK: _VERSION,
            "under": "code" if passphrase.is_code else "passphrase",
            "kdf": kdf.values(),
        }
    ).encode()
    return first + b"\n" + wrap(kdf.key(passphrase.normal), zlib.compress(_written(contents)), first)


def is_backup(octets: bytes) -> bool:
    """Whether the file says of itself that it is one."""
    return octets.startswith(b'{"' + _MARK.encode() + b'":')


def is_under_code(octets: bytes) -> bool:
    """Whether it is opened by a code that we have made. Raises StoreDamaged where it is no backup."""
    return bool(_first_line(octets)[0]["under"] == "code")


def unseal(octets: bytes, passphrase: str) -> Contents:
    """What `seal` was given. Raises NotReadable for a wrong passphrase or changed octets, StoreDamaged."""
    header, first, rest = _first_line(octets)
    given = Passphrase(passphrase, is_code=header["under"] == "code")
    try:
        kdf = PassphraseKdf.of(header["kdf"])
    except (ValueError, KeyError, TypeError):
        raise StoreDamaged("the first line of this backup is damaged") from None
    key = kdf.key(given.normal)
    try:
        packed = unwrap(key, rest, first)
    except StoreDamaged:
        what = "code" if given.is_code else "passphrase"
        text = f"the {what} does not open this backup, or the file is damaged"
        raise NotReadable(text, reason="passphrase") from None
    try:
        return _read(zlib.decompress(packed))
    except (ValueError, KeyError, TypeError, zlib.error):
        raise StoreDamaged(
            "this backup was not written by secmailproxy, or by a newer version of it"
        ) from None


def write(path: Path, contents: Contents, passphrase: Passphrase) -> None:
    """Write the file, 0600, in the place of whatever is there.

    It is put there when it has been read back from the disk, opened and compared. Raises KeystoreError, and
    what was there before stays.
    """
    new = path.with_name(f".{path.name}.new")
    octets = seal(contents, passphrase)
    try:
        replace_file(new, octets)
        try:
            if unseal(new.read_bytes(), passphrase.text) != contents:
                raise KeystoreError(
                    f"what was written to {path} is not what it should be; is the disk sound?"
                )
            os.replace(new, path)
        finally:
            new.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise KeystoreError(f"the backup {path} cannot be written: {error.strerror}") from error


def _first_line(octets: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    first, _, rest = octets[:_FIRST_LINE_MOST].partition(b"\n")
    try:
        if not is_backup(octets):
            raise ValueError("another file")
        header = json.loads(first)
        version, under, name = header[_MARK], header["under"], header["kdf"]["name"]
    except (ValueError, KeyError, TypeError):
        raise StoreDamaged("this is no backup of secmailproxy, or its first line is damaged") from None
    if (version, name) != (_VERSION, "argon2id") or under not in ("code", "passphrase"):
        raise StoreDamaged("this backup was written by a newer version of secmailproxy: upgrade it")
    return header, first, rest + octets[_FIRST_LINE_MOST:]


def _written(contents: Contents) -> bytes:
    document = {
        "made": contents.made.astimezone(UTC).isoformat(),
        "schema": contents.schema,
        "tables": {
            name: {"columns": table.columns, "rows": [[_value(one) for one in row] for row in table.rows]}
            for name, table in contents.tables.items()
        },
        "secrets": contents.secrets,
        "files": {name: _text(octets) for name, octets in contents.files.items()},
    }
    return json.dumps(document).encode()


def _read(octets: bytes) -> Contents:
    document = json.loads(octets)
    return Contents(
        datetime.fromisoformat(document["made"]),
        document["schema"],
        {
            name: Table(tuple(table["columns"]), tuple(tuple(map(_plain, row)) for row in table["rows"]))
            for name, table in document["tables"].items()
        },
        document["secrets"],
        {name: base64.b64decode(text, validate=True) for name, text in document["files"].items()},
    )


def _value(one: Value) -> Any:
    return {"b64": _text(one)} if isinstance(one, bytes) else one


def _plain(one: Any) -> Value:
    if isinstance(one, dict):
        return base64.b64decode(one["b64"], validate=True)
    if one is None or isinstance(one, (str, int)):
        return one
    raise ValueError("a value of another kind")


def _text(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")
