"""GnuPG's agent: it computes with secret keys that it or a card holds, and never gives them away.

Keys are found by their public numbers (READKEY), so that nothing here need know how GnuPG names them. The
agent asks its person for a passphrase or a card by pinentry, on the screen or terminal that it is told of.

Security: no passphrase passes through here. What the agent says of a failure decides nothing alone: see
`AgentRefused`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from keystore import sexpression
from keystore.assuan import Answer, Conversation, Ended, Refused
from keystore.errors import StoreLocked
from keystore.sexpression import Expression

ANSWER_SECONDS = 60.0
"""How long GnuPG may take, which includes a person who types a passphrase."""

_SHA512 = 10
"""libgcrypt's number of the digest."""
_STANDARD = {"GPG_TTY": "ttyname", "TERM": "ttytype", "DISPLAY": "display", "XAUTHORITY": "xauthority"}
_OTHERS = (
    "WAYLAND_DISPLAY",
    "XDG_SESSION_TYPE",
    "DBUS_SESSION_BUS_ADDRESS",
    "PINENTRY_USER_DATA",
    "INSIDE_EMACS",
)
"""Variables by which a pinentry finds its person, as options of the agent and as they are."""
_PUBLIC_NUMBERS = (b"n", b"q", b"y")
"""What is a key's own: the modulus, the point, of ElGamal and DSA the power."""
_DAMAGE_CODES = frozenset({4, 9, 10, 18, 19, 30, 38, 41, 79, 82, 89, 125})
"""libgpg-error codes (err-codes.h) that blame the message; others may blame the agent, card or person."""
_NO_SECRET_KEY = 17
_CANCELLED = frozenset({99, 198})
"""The codes that say that a person has cancelled a prompt."""


class AgentRefused(Exception):
    """The agent did not decrypt. `blames_message`: surely; otherwise it cannot be told from the answer.

    `absent`: it does not have the key.
    """

    def __init__(self, *, blames_message: bool = False, absent: bool = False) -> None:
        super().__init__("GnuPG's agent refused")
        self.blames_message = blames_message
        self.absent = absent


@dataclass(frozen=True, slots=True)
class AgentKey:
    """A secret key that the agent knows of."""

    number: bytes
    """Of the public key, as `public_number` has it."""
    card: str
    """The serial number of the card that has it; "" when it lies on the disk."""
    protected: bool
    """Whether a passphrase may be asked for. Of a card it is a PIN, always."""


@dataclass(frozen=True, slots=True)
class Decrypted:
    """What the agent made of a session key: the block of RSA or ElGamal, or the shared point of ECDH."""

    octets: bytes
    padded: bool
    """Whether the padding of PKCS #1 is still around it: cards take it off."""


class Agent:
    """The agent of one GnuPG home. Methods raise StoreLocked when it, a card or a person does not answer."""

    def __init__(self, home: Path | None = None, *, seconds: float = ANSWER_SECONDS) -> None:
        """`home` None means GnuPG's own default. Nothing runs yet."""
        self._home = home
        self._seconds = seconds
        self._path: Path | None = None
        self._grips: dict[bytes, str] = {}

    def held(self) -> list[AgentKey]:
        """Every secret key, on disk or card, in no order."""
        with self._conversation() as agent:
            lines = [line.split(" ") for line in agent.ask("KEYINFO --list").status]
            found = []
            # "KEYINFO <keygrip> <type> <card> <key of the card> <cached> <protection> ..."
            for _, grip, kind, card, _, _, protection, *_ in (one for one in lines if len(one) > 6):
                number = _number(agent, grip)
                if number and kind in "DT":
                    self._grips[number] = grip
                    found.append(AgentKey(number, card if kind == "T" else "", protection == "P"))
        return found

    def quiet(self, public: Collection[bytes]) -> frozenset[bytes]:
        """Those of the keys `public` for which nobody would be asked now: unprotected, or remembered."""
        found = set()
        with contextlib.suppress(Ended, Refused), self._conversation() as agent:
            lines = [line.split(" ") for line in agent.ask("KEYINFO --list").status]
            silent = {one[1] for one in lines if len(one) > 6 and (one[5] == "1" or one[6] == "C")}
            for number in public:
                with contextlib.suppress(Refused):
                    if self._grip(agent, number) in silent:
                        found.add(number)
        return frozenset(found)

    def sign(self, public: bytes, digest: bytes, prompt: str) -> Expression:
        """The agent's signature, an S-expression, over a digest of SHA-512 with the key `public`.

        `prompt` is what a person who is asked gets to read.
        """
        try:
            with self._conversation() as agent:
                agent.ask(f"SIGKEY {self._grip(agent, public)}")
                agent.ask(f"SETKEYDESC {_described(prompt)}")
                agent.ask(f"SETHASH {_SHA512} {digest.hex().upper()}")
                made = agent.ask("PKSIGN").octets
            return sexpression.read(made)
        except (Refused, ValueError):
            raise StoreLocked(
                "GnuPG did not sign: its agent is locked or has lost the key, a prompt was cancelled, "
                "or the card is absent"
            ) from None

    def decrypt(self, public: bytes, sealed: Expression, prompt: str) -> Decrypted:
        """What the key `public` makes of `sealed`, such as (rsa (a ...)). Raises AgentRefused."""
        try:
            try:
                answer = self._decrypted(public, sealed, prompt)
            except Ended:
                # By somebody, or by this very question: then once more by that.
                answer = self._decrypted(public, sealed, prompt)
            octets = sexpression.value(sexpression.read(answer.octets.rstrip(b"\0")), b"value")
        except Refused as error:
            if error.code in _CANCELLED:
                raise StoreLocked("GnuPG's prompt for a passphrase or card was cancelled") from None
            raise AgentRefused(
                blames_message=error.code in _DAMAGE_CODES, absent=error.code == _NO_SECRET_KEY
            ) from None
        except (Ended, ValueError):
            raise AgentRefused from None
        return Decrypted(octets or b"", padded="PADDING 0" not in answer.status)

    def _decrypted(self, public: bytes, sealed: Expression, prompt: str) -> Answer:
        asked = {"CIPHERTEXT": sexpression.write((b"enc-val", sealed))}
        with self._conversation() as agent:
            agent.ask(f"SETKEY {self._grip(agent, public)}")
            agent.ask(f"SETKEYDESC {_described(prompt)}")
            return agent.ask("PKDECRYPT", asked)

    def _grip(self, agent: Conversation, public: bytes) -> str:
        """GnuPG's name of a key. Raises Refused where the agent does not have it, as it would itself."""
        if public not in self._grips:
            for line in agent.ask("KEYINFO --list").status:
                _, _, rest = line.partition(" ")
                grip = rest.split(" ")[0]
                if grip not in self._grips.values() and (number := _number(agent, grip)):
                    self._grips[number] = grip
        if public not in self._grips:
            raise Refused(_NO_SECRET_KEY)
        return self._grips[public]

    # -- the way to it

    @contextlib.contextmanager
    def _conversation(self) -> Iterator[Conversation]:
        with self._connected() as agent:
            for option in _session():
                # What it does not know, or does not allow, it can do without.
                with contextlib.suppress(Refused):
                    agent.ask(f"OPTION {option}")
            yield agent

    def _connected(self) -> Conversation:
        path = self._socket()
        for attempt in (1, 2):
            try:
                return Conversation(path, self._seconds)
            except (FileNotFoundError, ConnectionRefusedError):
                # Nothing runs, or what ran has left its socket.
                if attempt == 1:
                    self._gpgconf("--launch", "gpg-agent")
            except (OSError, ValueError, Refused) as error:
                detail = f": {error.strerror}" if isinstance(error, OSError) else ""
                raise StoreLocked(f"GnuPG's agent cannot be reached at {path}{detail}") from None
        raise StoreLocked(f"GnuPG's agent does not start: nobody listens at {path}")

    def _socket(self) -> Path:
        if self._path is None:
            line = self._gpgconf("--list-dirs", "agent-socket").split(b"\n")[0]
            if not line:
                raise StoreLocked("GnuPG does not say where its agent listens (gpgconf --list-dirs)")
            self._path = Path(os.fsdecode(unquote_to_bytes(line)))
        return self._path

    def _gpgconf(self, *words: str) -> bytes:
        home = ("--homedir", str(self._home)) if self._home else ()
        try:
            with time_of_its_own():
                return subprocess.run(
                    ["gpgconf", *home, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    timeout=self._seconds,
                    check=False,
                ).stdout
        except FileNotFoundError:
            raise StoreLocked("GnuPG is not installed, or gpgconf is not on PATH") from None
        except OSError as error:
            raise StoreLocked(f"gpgconf cannot be started: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise StoreLocked("GnuPG's agent does not start") from None


@contextlib.contextmanager
def time_of_its_own() -> Iterator[None]:
    """What is started in the block may outlive what this process has of the processor for one message.

    An agent that is started keeps passphrases for hours, and would have had the same bound.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if soft == hard:
        yield
        return
    resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def plain_number(octets: bytes) -> bytes:
    """A public number without what differs between its writers: leading zeros, the prefix of a curve."""
    short = octets.lstrip(b"\0")
    return short[1:] if short[:1] == b"\x40" and len(short) % 2 else short


def _number(agent: Conversation, grip: str) -> bytes | None:
    """The public number of a key; None where the agent cannot tell."""
    try:
        expression = sexpression.read(agent.ask(f"READKEY {grip}").octets)
    except (Refused, ValueError):
        return None
    found = (sexpression.value(expression, name) for name in _PUBLIC_NUMBERS)
    # DSA has a "q" of its own beside "y": the last is the key's.
    numbers = [one for one in found if one is not None]
    return plain_number(numbers[-1]) if numbers else None


def _session() -> list[str]:
    """Options that tell a pinentry where its person is."""
    given = dict(os.environ)
    if "GPG_TTY" not in given:
        with contextlib.suppress(OSError):
            given["GPG_TTY"] = os.ttyname(0)
    options = [f"{_STANDARD[name]}={given[name]}" for name in _STANDARD if given.get(name)]
    options += [f"putenv={name}={given[name]}" for name in _OTHERS if given.get(name)]
    return [one for one in options if one.isprintable() and len(one.encode()) < 900]


def _described(prompt: str) -> str:
    """A prompt as SETKEYDESC takes it: percent and plus escaped, without what steers a terminal."""
    shown = "".join(one if one.isprintable() or one == "\n" else "?" for one in prompt)[:200]
    return "".join(one if one.isalnum() and one.isascii() else _percent(one) for one in shown)


def _percent(character: str) -> str:
    return "+" if character == " " else "".join(f"%{octet:02X}" for octet in character.encode("utf-8"))
