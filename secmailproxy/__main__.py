"""`python -m secmailproxy` and the console script `secmailproxy`.

A pipe lives for some hundredths of a second, so nothing else is imported here: `forward.quick` knows what can
be done without the rest of the program.
"""

import os
import sys

_PIPE = "forward"


def main() -> None:
    """Run the command line and exit (SystemExit, or at once)."""
    # Whatever is written, to whichever folder, is for the owner alone.
    os.umask(0o077)
    _open_standard_streams()
    if sys.argv[1:2] == [_PIPE]:
        from secmailproxy.forward import quick

        quick.run(sys.argv[2:])
    from secmailproxy.cli import program

    program.main()


def sendmail() -> None:
    """The console script `secmailproxy-sendmail`, whatever the name of the link to it; exits."""
    os.umask(0o077)
    _open_standard_streams()
    from secmailproxy.cli.sendmail import run

    run(sys.argv[0], sys.argv[1:])


def _open_standard_streams() -> None:
    """Whoever started us may have closed them: nothing else must ever get their descriptors."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # for the whole process


if __name__ == "__main__":
    main()
