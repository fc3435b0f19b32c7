"""Where configuration, state and cache live, and how files get there.

`SECMAILPROXY_HOME` puts all three under one folder; else they are the platform's own folders. Each is made
for the owner alone (0700); files are written whole or not at all (0600, temporary file, fsync, rename).

Security: a folder that belongs to somebody else is refused; one that others may enter is closed to them.
"""

from __future__ import annotations

import os
import pwd
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keystore.files import replace_file
from secmailproxy.errors import ConfigError

HOME_VARIABLE = "SECMAILPROXY_HOME"
_TOKEN_DIGITS = 20
"""Digits have no case, so that one search finds every spelling of the name."""


@dataclass(frozen=True, slots=True)
class Folders:
    """The places of one installation. Nothing exists before `prepare` or a write."""

    config_file: Path
    state: Path
    cache: Path

    @classmethod
    def of_user(cls) -> Folders:
        """From SECMAILPROXY_HOME, else the platform's folders for this user."""
        home = os.environ.get(HOME_VARIABLE)
        if home:
            root = Path(home).expanduser().absolute()
            return cls(root / "config.toml", root / "state", root / "cache")
        import platformdirs  # not needed where SECMAILPROXY_HOME is set: pipes, containers, tests

        try:
            Path.home()
        except RuntimeError:
            raise ConfigError(
                f"This user has no home folder; set HOME, or {HOME_VARIABLE} to a folder for this alone."
            ) from None
        places = platformdirs.PlatformDirs("secmailproxy", appauthor=False, roaming=False)
        return cls(places.user_config_path / "config.toml", places.user_state_path, places.user_cache_path)

    @property
    def keystore(self) -> Path:
        """The keystore's folder."""
        return self.state / "keystore"

    @property
    def secrets_file(self) -> Path:
        """The encrypted secrets of the "file" backend."""
        return self.state / "secrets.json"

    @property
    def views(self) -> Path:
        """The presented forms of messages: state, not cache, for clients rely on them (RFC 9051 2.3.1.1)."""
        return self.state / "views.sqlite3"

    @property
    def notifications(self) -> Path:
        """Notifications about mail that was delivered in part, until they are delivered themselves."""
        return self.state / "notifications"

    @property
    def spool(self) -> Path:
        """The queue of system mail: ciphertext, until the next hop has it."""
        return self.state / "spool"

    @property
    def collected(self) -> Path:
        """System mail that waits for a digest."""
        return self.state / "collected"

    @property
    def journal(self) -> Path:
        """What became of system mail, for reports."""
        return self.state / "journal"

    @property
    def heartbeat(self) -> Path:
        """When the last heartbeat was sent."""
        return self.state / "heartbeat.json"

    @property
    def slot(self) -> Path:
        """The public half of the keystore's letter box; it moves with the keystore."""
        return self.keystore / "letterbox"

    @property
    def watched(self) -> Path:
        """Which messages of watched mailboxes have been handed on."""
        return self.state / "watched"

    @property
    def opening(self) -> Path:
        """Hashes of the messages that are being opened."""
        return self.state / "opening"

    @property
    def traces(self) -> Path:
        """What has been done already with system mail that may come again."""
        return self.state / "traces"

    @property
    def certificate(self) -> Path:
        """The certificate of the listeners with its encrypted key."""
        return self.state / "localhost.pem"

    def prepare(self) -> None:
        """Make the folders, each 0700. Raises ConfigError for one that is not ours or cannot be made."""
        for folder in (self.config_file.parent, self.state, self.cache):
            make_private(folder)

    def closed(self) -> list[Path]:
        """Close to others every file of the state, and every folder; those that were open until now.

        What belongs to another user, sockets (a listener's may be for a group) and links stay as they are.
        """
        found = [path for path in self.state.rglob("*") if _is_open(path)]
        for path in found:
            path.chmod(0o700 if path.is_dir() else 0o600)
        return found

    def verdict_token(self) -> str:
        """The random digits in the name of the verdict field, made at first use and kept."""
        path = self.state / "verdict-token"
        try:
            token = path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            make_private(self.state)
            write_privately(path, b"%0*d" % (_TOKEN_DIGITS, secrets.randbelow(10**_TOKEN_DIGITS)))
            # Read back rather than returned: of two processes at first start, both must use the same.
            token = path.read_text(encoding="ascii").strip()
        if len(token) != _TOKEN_DIGITS or not token.isdigit():
            raise ConfigError(f"{path} is damaged; delete it to have a new one made.")
        return token

    def agree_on_verdict_token(self, agreed: Callable[[str, bytes], bytes]) -> None:
        """Take the digits of those who show the same presented messages, where others were before us."""
        own = self.verdict_token()
        shared = agreed("verdict-token", own.encode()).decode("ascii")
        if shared != own:
            write_privately(self.state / "verdict-token", shared.encode())


def make_private(folder: Path) -> None:
    """Make `folder` (and its parents), closed to others. Raises ConfigError with the remedy."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
            raise ConfigError(
                f"{folder} belongs to another user; set {HOME_VARIABLE} to a folder of your own."
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            if found.st_mode & stat.S_ISVTX or Path.home().is_relative_to(folder.resolve()):
                # Such as /tmp, / or a home folder: closing it would lock out what else lives there.
                raise ConfigError(f"{folder} is shared; set {HOME_VARIABLE} to a folder for this alone.")
            folder.chmod(0o700)
    except OSError as error:
        raise ConfigError(
            f"Cannot use the folder {folder} as user {_user()}: {error.strerror}. Correct it, or run this as "
            f"the user to whom it belongs, or set {HOME_VARIABLE}."
        ) from None


def _is_open(path: Path) -> bool:
    try:
        state = path.lstat()
    except FileNotFoundError:
        return False  # another process has just taken it away
    ours = state.st_uid == os.geteuid() and (stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode))
    return ours and bool(stat.S_IMODE(state.st_mode) & 0o077)


def _user() -> str:
    """Who this runs as: often another one than its caller thinks."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def write_privately(path: Path, octets: bytes) -> None:
    """Replace `path` by a file with these octets (0600), whole or not at all. Raises ConfigError."""
    make_private(path.parent)
    try:
        replace_file(path, octets)
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror}.") from None


def refuse_writable_by_others(path: Path) -> None:
    """Raise ConfigError when somebody else could have written `path`."""
    found = path.stat()
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"{path} belongs to another user; make it your own (chown) or write it anew.")
    if stat.S_IMODE(found.st_mode) & 0o022:
        raise ConfigError(f"{path} can be written by others; run: chmod 600 {path}")
