"""Files that are there whole, the old or the new one, whatever happens while they are written."""

# Imported by pipes: no pathlib, and no typing for it.
import os

_Path = str | os.PathLike[str]


def replace_file(path: _Path, octets: bytes, mode: int = 0o600) -> None:
    """Put a file with `octets` and `mode` in the place of `path`; it is on the disk when this returns.

    The folder must exist. Raises OSError, and what was there before stays.
    """
    import tempfile  # takes time to import, and pipes have little

    folder, name = os.path.split(os.path.abspath(path))
    descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(octets)
            stream.flush()
            if mode != 0o600:
                os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.lexists(temporary):
            os.unlink(temporary)
        raise
    sync_folder(folder)


def sync_folder(folder: _Path) -> None:
    """Have a new name in `folder` on the disk too. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
