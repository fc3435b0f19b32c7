"""Values of system mail: a message as it came, what rules make of it, what leaves. PURE.

Octets are `bytes` with CRLF. A pipe lives for some hundredths of a second: nothing that takes time to import
is imported here or by what is pure in this package.

Standards: RFC 5321 section 2.3.1 (envelope). Words: docs/glossary.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from keystore.model import Fingerprint
    from secmailproxy.model import Envelope


class Entrance(Enum):
    """The way by which a message came in."""

    PIPE = "pipe"
    SENDMAIL = "sendmail"
    SMTP = "smtp"
    LMTP = "lmtp"
    IMAP = "imap"
    OWN = "own"
    """Our digests, alerts, heartbeats and delivery status notifications."""


@dataclass(frozen=True, slots=True)
class SystemMail:
    """One message at an entrance."""

    octets: bytes
    """Whole, as `message.from_pipe` gives it."""
    mail_from: str
    """The envelope sender; "" is the null sender."""
    rcpt_tos: tuple[str, ...]
    """As they came: addresses, or bare local names such as "root"; () where the entrance does not know."""
    entrance: Entrance
    mail_options: tuple[str, ...] = ()
    """ESMTP parameters of MAIL as they came, for what is passed on."""
    rcpt_options: tuple[tuple[str, ...], ...] = ()
    """The same of RCPT: one tuple for each of `rcpt_tos`, or ()."""


@dataclass(frozen=True, slots=True)
class Target:
    """An address that may be sent to, and the certificates pinned for it: each of them can read the message.

    Without any, the only usable certificate in the keystore that was imported for this address counts.
    """

    address: str
    fingerprints: tuple[Fingerprint, ...]


class SubjectMode(StrEnum):
    """What the outer Subject says; the original one is inside always."""

    HIDDEN = "hidden"
    """The same words for every message."""
    KEPT = "kept"
    """The original: it leaves in clear."""
    REPLACED = "replaced"
    """The words of the configuration."""


@dataclass(frozen=True, slots=True)
class Keep:
    """A plain copy stays on this machine."""

    path: str
    """Absolute."""
    form: Literal["maildir", "mbox"]


@dataclass(frozen=True, slots=True)
class Forward:
    """Encrypt and send on."""

    rcpt_tos: tuple[str, ...] = ()
    """(): the recipients after aliases, or where there are none the only target."""
    subject: SubjectMode = SubjectMode.HIDDEN
    subject_text: str = ""
    """For `SubjectMode.REPLACED`."""
    sign: bool = False
    """With the host key."""


@dataclass(frozen=True, slots=True)
class Collect:
    """Put into a digest, which is sent encrypted in time."""

    digest: str
    """Its name in the configuration."""


@dataclass(frozen=True, slots=True)
class PassOn:
    """Unchanged and in clear, with its own envelope: only where a rule says so in these words."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Nothing more happens to the message."""


Action = Keep | Forward | Collect | PassOn | Drop


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a message is like. Texts are regular expressions, found anywhere, case ignored."""

    header: tuple[tuple[str, str], ...] = ()
    """(field name, expression): found in the value of any field of that name, unfolded and decoded."""
    mail_from: tuple[str, ...] = ()
    rcpt_to: tuple[str, ...] = ()
    """Found in any recipient, as it came."""
    body: tuple[str, ...] = ()
    """Found in the text parts, decoded; "^" and "$" are at the ends of lines."""
    larger: int = 0
    """More octets than this; 0 says nothing."""
    smaller: int = 0
    """Fewer octets than this; 0 says nothing."""
    urgent: bool = False
    """One of `ForwardSettings.urgent_words` is in it; False says nothing."""

    @property
    def are_none(self) -> bool:
        """Whether nothing is asked: every message is like this."""
        return self == Conditions()

    @property
    def need_reading(self) -> bool:
        """Whether they ask about what stands in the message."""
        return bool(self.header or self.body or self.urgent)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: holds when all of `match` do and none of `unless`."""

    name: str
    match: Conditions
    unless: Conditions
    actions: tuple[Action, ...]
    goes_on: bool = False
    """The rules below are asked too, as after `:0 c` of procmail."""

    @property
    def ends(self) -> bool:
        """Whether no rule below is ever asked, whatever the message."""
        return not self.goes_on and self.match.are_none and self.unless.are_none


@dataclass(frozen=True, slots=True)
class ForwardSettings:
    """The whole configuration of system mail, as a tree of frozen values: text, numbers, truth and tuples."""

    targets: tuple[Target, ...] = ()
    default: Forward = Forward()
    """What becomes of a message of which no rule speaks."""
    rules: tuple[Rule, ...] = ()
    to: str = ""
    """The target of local users without an alias, and of mail whose recipient is not known; "" is the only
    one."""
    urgent_words: tuple[str, ...] = ()
    """See `forward.severity`."""
    sender: str = ""
    """Envelope sender and From of what leaves; "" where the caller must find one."""
    via: Literal["smarthost", "sendmail", "smtp"] = "smarthost"
    sendmail: str = "/usr/sbin/sendmail"
    relay: str = ""
    """host:port of an SMTP server on this machine; "" for none."""
    bounces: str = ""
    """Who is told when a queued message cannot be delivered; "" for nobody."""
    account: str = ""
    """Address of the account whose smarthost is used; "" for none."""
    aliases: str = ""
    """Path of the aliases file; "" for none."""
    local_domains: tuple[str, ...] = ()
    """An address in one of these is a local user."""
    mark: str = ""
    """What this installation writes into the loop field."""
    host_key: str = ""
    """Fingerprint of the key that signs where a rule says so; "": the own key of `sender`."""
    escrow: Target | None = None
    """Who gets what nobody else can be encrypted to, once it is released; None: such mail is deferred."""
    alert: tuple[str, ...] = ()
    """Addresses that are told when certificates end or are missing."""
    max_octets: int = 50 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Disposition:
    """What is to be done with one message."""

    rule: str
    """The name of the rule that spoke; several, where rules went on, joined by ", "; "" for the default."""
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Product:
    """A message that leaves, encrypted, and where it goes."""

    octets: bytes
    envelope: Envelope
    is_plain: bool = False
    """The original, passed on as a rule asked: it must go to the next hop now, and into no spool of ours."""
    held: str = ""
    """Why it waits in the spool until somebody releases it, being for the escrow; "": it is to be sent."""
    is_notice: bool = False
    """A message of our own that tells nothing of anybody's: it may wait on the disk in clear."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a message. When there is one, nothing can be lost any more."""

    rule: str
    sent: int
    """Products that were taken by the next hop or the spool."""
    kept: int
    collected: int
    held: int = 0
    """Of the products those for the escrow, which wait until they are released."""


class Seals(Protocol):
    """Makes encrypted messages."""

    def seal(self, mail: SystemMail, action: Forward, targets: Sequence[Target]) -> tuple[Product, ...]:
        """All products that carry `mail` to `targets`. Blocks.

        Raises NoUsableCertificate, MalformedMessage, LimitExceeded, NotAllowed (loop).
        """


class Outlet(Protocol):
    """The way out."""

    def take(self, products: Sequence[Product]) -> None:
        """Returns when the next hop, or the spool on disk, has every one. Blocks.

        Raises UpstreamUnavailable, ConfigError, OSError: then the message must be thought of as not taken.
        """


class Copying(Protocol):
    """One try to store the copies of one message."""

    def keep(self, action: Keep) -> None:
        """Returns when the copy is on disk, from this try or an earlier one. Blocks.

        Raises OSError, SecMailProxyError.
        """

    def finish(self) -> None:
        """The message is through: what is alike from now on is another one. Raises OSError."""


class Keeper(Protocol):
    """Stores plain copies on this machine."""

    def attempt(self, mail: SystemMail) -> AbstractContextManager[Copying]:
        """One try, until the context is left. Raises OSError, SecMailProxyError."""


class Collector(Protocol):
    """Stores messages for digests."""

    def collect(self, mail: SystemMail, action: Collect) -> None:
        """Returns when the entry is on disk, sealed; one that is there already is not written again. Blocks.

        Raises OSError, KeystoreError.
        """
