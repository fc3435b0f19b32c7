"""A PKCS #11 token (smartcard, USB token, security module) that holds secret keys of S/MIME.

The token computes with a key and never gives it away. Its module, a library of its maker, is loaded into this
process when a key is first needed. One session is kept; where the token was taken out, another is opened.

Standards: PKCS #11 2.40 (OASIS). This is the only importer of `pkcs11` (python-pkcs11).
Security: a PIN that was wrong is not tried again, for a token locks itself after a few; while the token says
that it was given a wrong one, only a person's PIN is tried. What was signed is verified before it is used.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from keystore.errors import KeyRefused, StoreLocked

if TYPE_CHECKING:
    from keystore.secrets import Secrets

    Mechanism = tuple[str, Any]
    """The mechanism's name in python-pkcs11, and its parameters."""

PIN_NAME = "token-pin"
_REMEDY = "give it with `secmailproxy key import --token`"
_GONE = frozenset(
    {
        "DeviceError",
        "DeviceRemoved",
        "KeyHandleInvalid",
        "ObjectHandleInvalid",
        "SessionClosed",
        "SessionHandleInvalid",
        "TokenNotPresent",
        "UserNotLoggedIn",
    }
)
"""Errors after which a new session may help."""

_ANSWER_SECONDS = 60.0
"""How long a token may take, which includes a person at its PIN pad."""
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """`module` is the library of the token's maker; `label` the token's name, "" where there is only one."""

    module: Path | None = None
    label: str = ""


class TokenRefused(Exception):
    """The token did not compute; whether by the fault of what it was given cannot be told."""


class NotForThis(ValueError):
    """The token says of the key that it is not for this."""


class Token:
    """One token. Safe for threads. Methods raise StoreLocked when it is absent, or its PIN not known."""

    def __init__(self, settings: TokenSettings, secrets: Secrets, seconds: float = _ANSWER_SECONDS) -> None:
        """Nothing is loaded yet. `seconds` is how long one waits for another who uses it."""
        self._settings = settings
        self._secrets = secrets
        self._lock = threading.RLock()
        self._seconds = seconds
        self._session: Any = None
        self._keys: dict[bytes, Any] = {}
        self._refused: set[bytes] = set()
        """Digests of PINs that were wrong."""

    def close(self) -> None:
        """Log out; not from one that does not answer."""
        with suppress(StoreLocked), self._alone():
            session, self._session, self._keys = self._session, None, {}
            if session is not None:
                _quietly(session.close)

    def log_in(self, ask: Callable[[], str] | None) -> None:
        """Log in with a PIN that a person gives, and keep it among the secrets when it was right.

        It is not asked for where the token has a PIN pad, or wants none. With None, the PIN that is kept
        serves. Raises StoreLocked, and KeystoreError where secrets cannot be kept.
        """
        given: list[str] = []

        def answer() -> str:
            given.append(ask() if ask is not None else "")
            return given[-1]

        with self._alone():
            self.close()
            self._open(answer if ask is not None else None)
            if given and self._secrets.get(PIN_NAME) != given[-1]:
                self._secrets.set(PIN_NAME, given[-1])

    def certificates(self) -> list[bytes]:
        """Every X.509 certificate on the token (DER) whose secret key is there too."""
        from keystore.smime.key import spki_of

        with self._alone():
            found = self._asked(lambda session: [one for one in _certificates(session).values()])
            return [der for der in found if spki_of(der) in self._keys]

    def holds(self, spki: bytes) -> bool:
        """Whether the token has the secret key of a public one (SubjectPublicKeyInfo, DER)."""
        with self._alone():
            return self._asked(lambda session: spki in self._keys)

    def sign(self, spki: bytes, octets: bytes, mechanism: Mechanism) -> bytes:
        """Sign with the key of this public one. Raises TokenRefused and NotForThis; so do the next two."""
        return self._with_key(spki, lambda key, m: key.sign(octets, **m), mechanism)

    def decrypt(self, spki: bytes, octets: bytes, mechanism: Mechanism) -> bytes:
        """Decrypt with the key of this public one."""
        return self._with_key(spki, lambda key, m: key.decrypt(octets, **m), mechanism)

    def agree(self, spki: bytes, point: bytes, length: int) -> bytes:
        """The secret, of `length` octets, that the key of this public one shares with a point (ECDH)."""
        import pkcs11

        template = {
            pkcs11.Attribute.TOKEN: False,
            pkcs11.Attribute.SENSITIVE: False,
            pkcs11.Attribute.EXTRACTABLE: True,
        }

        def derived(key: Any, mechanism: dict[str, Any]) -> bytes:
            secret = key.derive_key(
                pkcs11.KeyType.GENERIC_SECRET, 8 * length, template=template, store=False, **mechanism
            )
            return bytes(secret[pkcs11.Attribute.VALUE])

        return self._with_key(spki, derived, ("ECDH1_DERIVE", (pkcs11.KDF.NULL, None, point)))

    def _with_key(
        self, spki: bytes, action: Callable[[Any, dict[str, Any]], bytes], mechanism: Mechanism
    ) -> bytes:
        import pkcs11

        name, parameters = mechanism
        words = {"mechanism": pkcs11.Mechanism[name], "mechanism_param": parameters}
        with self._alone():
            try:
                return bytes(self._asked(lambda session: action(self._key(spki), words)))
            except AttributeError:  # python-pkcs11's way to say so
                raise NotForThis("the token's key is not for this") from None

    def _key(self, spki: bytes) -> Any:
        if spki not in self._keys:
            raise StoreLocked(f"the token {self._name} does not have this key: is it another one?")
        return self._keys[spki]

    def _asked(self, question: Callable[[Any], Result]) -> Result:
        """The answer, by a new session where the old one has ended. Raises TokenRefused."""
        import pkcs11

        for attempt in (1, 2):
            if self._session is None:
                self._open(None)
            try:
                return question(self._session)
            except pkcs11.PKCS11Error as error:
                gone = type(error).__name__ in _GONE
                if gone:
                    self.close()
                if attempt == 2 or not gone:
                    raise TokenRefused from None
        raise AssertionError("the second attempt returns or raises")

    # -- the way to it

    @contextmanager
    def _alone(self) -> Iterator[None]:
        # A module may never come back from its token: one thread is lost then, and not all that come after.
        if not self._lock.acquire(timeout=self._seconds):
            raise StoreLocked(f"the token {self._name} does not answer: is it waiting for somebody?")
        try:
            yield
        finally:
            self._lock.release()

    @property
    def _name(self) -> str:
        return repr(self._settings.label) if self._settings.label else f"of {self._settings.module}"

    def _open(self, given: Callable[[], str] | None) -> None:
        pkcs11 = _library()
        if self._settings.module is None:
            raise StoreLocked("no token is configured: name its module in the section [pkcs11]")
        try:
            session = self._logged_in(pkcs11, given)
            self._keys = _keys(session)
        except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange):
            raise StoreLocked(f"the PIN of the token {self._name} is wrong: {_REMEDY}") from None
        except pkcs11.PinLocked:
            raise StoreLocked(
                f"the token {self._name} has locked itself after wrong PINs: unlock it with the program of "
                "its maker"
            ) from None
        except (pkcs11.NoSuchToken, pkcs11.TokenNotPresent):
            raise StoreLocked(f"the token {self._name} is not there: plug it in") from None
        except pkcs11.MultipleTokensReturned:
            raise StoreLocked(
                f"several tokens are there ({self._name}): name one by `token` in the section [pkcs11]"
            ) from None
        except (pkcs11.PKCS11Error, RuntimeError) as error:
            kind = type(error).__name__
            raise StoreLocked(f"the token {self._name} cannot be used ({kind}): is it plugged in?") from None
        self._session = session

    def _logged_in(self, pkcs11: Any, given: Callable[[], str] | None) -> Any:
        library = pkcs11.lib(str(self._settings.module))
        token = self._found(pkcs11, library)
        flags = token.flags
        if flags & pkcs11.TokenFlag.PROTECTED_AUTHENTICATION_PATH:
            return _session(pkcs11, token, pkcs11.PROTECTED_AUTH)
        if not flags & pkcs11.TokenFlag.LOGIN_REQUIRED:
            return token.open()
        if flags & pkcs11.TokenFlag.USER_PIN_LOCKED:
            raise pkcs11.PinLocked
        careless = flags & (pkcs11.TokenFlag.USER_PIN_COUNT_LOW | pkcs11.TokenFlag.USER_PIN_FINAL_TRY)
        if given is None and careless:
            raise StoreLocked(
                f"the token {self._name} was given a wrong PIN before, so the one that is kept is not tried: "
                f"{_REMEDY}"
            )
        pin = given() if given is not None else self._secrets.get(PIN_NAME)
        if not pin:
            raise StoreLocked(f"the PIN of the token {self._name} is not known: {_REMEDY}")
        digest = hashlib.sha256(pin.encode()).digest()
        if given is None and digest in self._refused:
            raise pkcs11.PinIncorrect
        try:
            return _session(pkcs11, token, pin)
        except pkcs11.PinIncorrect:
            self._refused.add(digest)
            raise

    def _found(self, pkcs11: Any, library: Any) -> Any:
        wanted = {"token_label": self._settings.label} if self._settings.label else {}
        initialized = {"token_flags": pkcs11.TokenFlag.TOKEN_INITIALIZED}
        try:
            return library.get_token(**wanted, **initialized)
        except pkcs11.NoSuchToken:
            # Some modules look for tokens when they are loaded, and never again.
            library.reinitialize()
            return library.get_token(**wanted, **initialized)


def _library() -> Any:
    try:
        import pkcs11
    except ImportError:
        raise StoreLocked(
            "keys of tokens need python-pkcs11: pip install 'secmailproxy[pkcs11]', or python3-pkcs11"
        ) from None
    return pkcs11


def _session(pkcs11: Any, token: Any, pin: object) -> Any:
    try:
        return token.open(user_pin=pin)
    except pkcs11.UserAlreadyLoggedIn:
        # Login is for the whole process.
        return token.open()


def _certificates(session: Any) -> dict[bytes, bytes]:
    """X.509 certificates (DER) by their ID on the token."""
    from pkcs11 import Attribute, CertificateType, ObjectClass

    wanted = {Attribute.CLASS: ObjectClass.CERTIFICATE, Attribute.CERTIFICATE_TYPE: CertificateType.X_509}
    return {bytes(one[Attribute.ID]): bytes(one[Attribute.VALUE]) for one in session.get_objects(wanted)}


def _keys(session: Any) -> dict[bytes, Any]:
    """The token's private keys by their public ones (SubjectPublicKeyInfo, DER).

    A private key and what is public of it have the same ID.
    """
    from pkcs11 import Attribute, ObjectClass

    from keystore.smime.key import spki_of

    public = {number: spki_of(der) for number, der in _certificates(session).items()}
    for one in session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY}):
        public.setdefault(bytes(one[Attribute.ID]), _spki(one))
    private = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
    found = {public.get(bytes(one[Attribute.ID]), b""): one for one in private}
    return {spki: one for spki, one in found.items() if spki}


def _spki(public: Any) -> bytes:
    from pkcs11 import KeyType
    from pkcs11.util.ec import encode_ec_public_key
    from pkcs11.util.rsa import encode_rsa_public_key

    from keystore.smime.key import spki_of_public

    try:
        if public.key_type is KeyType.RSA:
            return spki_of_public(encode_rsa_public_key(public))
        if public.key_type is KeyType.EC:
            return spki_of_public(encode_ec_public_key(public))
    except (ValueError, KeyError):
        pass
    return b""


def _quietly(action: Callable[[], object]) -> None:
    """Do what is only tidy, and may fail where the token has gone."""
    try:
        action()
    except RuntimeError:  # what all of the library's errors derive from
        return


def demand_token(token: Token | None) -> Token:
    """The token, where one is configured. Raises KeyRefused."""
    if token is None:
        raise KeyRefused("no token is configured: name its module in the section [pkcs11]")
    return token
