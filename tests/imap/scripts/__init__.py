"""Scripts of IMAP commands, as data: what `tests/imap/test_scripts.py` plays directly and through the proxy.

To add one: put a `Script` into the table of the module that fits (or of a new module, named in `ALL`), say
in `shows` which capabilities of our allow-list it is there for, and run

    pytest tests/imap/test_scripts.py -k <name>

Each script starts from mailboxes of its own; their INBOX holds the mail that `mail` names
(`scripts/mail.py`). A step is

- octets: one command line, without tag and CRLF; the next waits for its completion;
- a tuple: a command with literals that wait for "+": the line up to the literal's announcement, the octets
  of the literal, what follows it, and so on;
- a list: command lines that are sent in one segment, without waiting; the line may hold literals that do
  not wait ("{3+}");
- `Beside(step)`: the step in a second session of the same account, also direct or proxied;
- `Idle(step, ..., until=b"EXISTS")`: IDLE, those steps in the second session, until this is told, then DONE;
- `Outline(step)`: what depends on octets of messages is left out of FETCH responses, and their order, for
  protected mail is presented in another form and after plain mail;
- `Refused(step)`: of the completion only OK, NO or BAD is compared, for its text is the proxy's own.

In lines, `<UIDVALIDITY>` and `<HIGHESTMODSEQ>` stand for what the session was told last, `<OWN>` for the
account's address, `<LENGTH>` for the octets of that, `<PLAIN>` for its SASL response.
"""

from __future__ import annotations

from dataclasses import dataclass

Commands = bytes | tuple[bytes, ...] | list[bytes]


@dataclass(frozen=True)
class Beside:
    """A step of the second session."""

    step: Commands


@dataclass(frozen=True)
class Outline:
    """A command that reads protected mail; its content is not compared."""

    step: bytes | tuple[bytes, ...]


@dataclass(frozen=True)
class Refused:
    """A command that is refused in words of the proxy's own."""

    step: bytes | tuple[bytes, ...]


@dataclass(frozen=True, init=False)
class Idle:
    """IDLE while the second session does something."""

    steps: tuple[Commands, ...]
    until: bytes

    def __init__(self, *steps: Commands, until: bytes) -> None:
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "until", until)


Step = Commands | Beside | Outline | Refused | Idle


@dataclass(frozen=True, init=False)
class Script:
    """Steps and what they start from."""

    steps: tuple[Step, ...]
    shows: frozenset[str]
    """Capabilities, upper case."""
    mail: str
    """A key of `MAIL`."""
    login: bool
    """Whether the session is logged in before the first step."""

    def __init__(self, *steps: Step, shows: str = "", mail: str = "plain", login: bool = True) -> None:
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "shows", frozenset(shows.split()))
        object.__setattr__(self, "mail", mail)
        object.__setattr__(self, "login", login)

    @property
    def lines(self) -> list[bytes]:
        """The command lines, each up to its first literal."""
        found: list[bytes] = []
        for step in self.steps:
            match step:
                case Idle(steps):
                    found.append(b"IDLE")
                    found += [line for inner in steps for line in _lines(inner)]
                case Beside(inner) | Outline(inner) | Refused(inner):
                    found += _lines(inner)
                case _:
                    found += _lines(step)
        return found


def _lines(step: Commands) -> list[bytes]:
    match step:
        case bytes():
            return [step]
        case tuple():
            return [step[0]]
        case list():
            return step
