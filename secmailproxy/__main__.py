"""`python -m secmailproxy` and the console script `secmailproxy`.

A pipe lives for some hundredths of a second, so nothing else is imported here: `forward.quick` knows what can
be done without the rest of the program.
"""

import gc
import os
import sys

_OBJECTS = 50_000
"""Made before cycles are looked for: all that is imported makes about so many, and they stay."""
_PIPE = "forward"
_TRY_LATER = 75
_FAILED = b"4.3.0 secmailproxy cannot run: out of memory, or its files are being replaced\n"


def main() -> None:
    """Run the command line and exit (SystemExit, or at once)."""
    _keep_private()
    _open_standard_streams()
    _start_fast()
    words = sys.argv[1:]
    if words[:1] == [_PIPE] and _has_no_subcommand(words[1:]):
        _pipe(words[1:])
    from secmailproxy.cli import program

    program.main()


def sendmail() -> None:
    """The console script `secmailproxy-sendmail`, whatever the name of the link to it; exits."""
    _keep_private()
    _open_standard_streams()
    _start_fast()
    try:
        from secmailproxy.cli.sendmail import run

        run(sys.argv[0], sys.argv[1:])
    except Exception:  # noqa: BLE001  it says its own errors: it could not even be read
        _give_up()


def _pipe(words: list[str]) -> None:
    """Exits with 0 or 75: whatever else a pipe ends with, Postfix returns the message for, and quotes it."""
    try:
        from secmailproxy.forward import quick

        quick.run(words)
        from secmailproxy.cli import program

        program.main()
    except SystemExit as end:
        if end.code not in (None, 0, _TRY_LATER):
            _give_up()
        raise
    except BaseException:  # noqa: BLE001  no memory, files of two versions: the message stays where it is
        _give_up()


def _has_no_subcommand(words: list[str]) -> bool:
    """Whether these arguments are options with their values alone."""
    is_value = False
    for word in words:
        if not is_value and not word.startswith("-"):
            return False
        is_value = not is_value and "=" not in word
    return True


def _give_up() -> None:
    # At once: to take Python apart needs memory too, and may end with a status of its own.
    try:
        os.write(2, _FAILED)
    finally:
        os._exit(_TRY_LATER)


def _keep_private() -> None:
    """Whatever is written, to whichever folder, is for the owner alone; a core file would hold messages."""
    os.umask(0o077)
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        return  # a message is worth more than this


def _start_fast() -> None:
    """Nothing is looked for at start that is not there: cycles among new classes, and plugins of Pydantic."""
    gc.set_threshold(_OBJECTS)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")


def _open_standard_streams() -> None:
    """Whoever started us may have closed them: nothing else must ever get their descriptors."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # for the whole process


if __name__ == "__main__":
    main()
