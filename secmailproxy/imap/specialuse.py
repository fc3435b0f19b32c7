"""Which mailboxes hold drafts and sent mail, so that what is appended there is encrypted to its owner. PURE.

Plaintext drafts and sent mail on the server are the classic leak of mail clients with encryption (IMAP-16).

Standards: RFC 6154 (special use).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from secmailproxy.imap.grammar import GrammarError, Source, Verb

_DRAFTS = frozenset(
    """drafts|draft|entwürfe|brouillons|borradores|bozze|concepten|rascunhos|utkast|kladder|luonnokset
    |kopie robocze|szkice|koncepty|rozepsané|piszkozatok|taslaklar|черновики|чернетки|πρόχειρα
    |下書き|草稿|草稿箱|임시보관함
    |templates|vorlagen|modèles|plantillas|modelli|sjablonen|modelos|mallar|skabeloner|maler|mallit
    |szablony|šablony|sablonok|şablonlar|шаблоны|шаблони|πρότυπα|テンプレート|模板
    |서식""".replace("\n    ", "").split("|")
)
"""Templates are drafts that stay. Thunderbird stores them without \\Draft, and there is no special use."""
_SENT = frozenset(
    """sent|sent items|sent messages|sent mail|sent-mail|sent_mail|sentmail|sentbox|gesendet
    |gesendete elemente|gesendete objekte|gesendete nachrichten|envoyés|messages envoyés|éléments envoyés
    |courrier envoyé|enviados|elementos enviados|mensajes enviados|itens enviados|inviata|inviati
    |posta inviata|elementi inviati|verzonden|verzonden items|verzonden berichten|skickat
    |skickade objekt|sendt|sendte elementer|lähetetyt|wysłane|elementy wysłane|odeslané|odoslané|elküldött
    |elküldött elemek|gönderilmiş öğeler|gönderilenler
    |отправленные|надіслані|απεσταλμένα
    |送信済み|送信済みアイテム|已发送|已傳送郵件|보낸편지함""".replace("\n    ", "").split("|")
)
_LIST = re.compile(rb'\* (?:X?LIST|LSUB) +\(([^)]*)\) +(?:NIL|"(?:\\.|[^"\\])*"|[^\s"]+) +', re.IGNORECASE)
_OF_MAILBOX = re.compile(rb"\* (?:X?LIST|LSUB) ", re.IGNORECASE)
_HEARD_MOST = 64 * 1024
"""Octets of a response that names a mailbox."""
_MARKED_MOST = 1000
"""Mailboxes of either use; a server that marks more has something in mind."""


@dataclass(slots=True)
class SpecialUse:
    """Which mailboxes hold drafts and sent mail: by special use where the server tells, else by name."""

    encrypt_drafts: bool = True
    encrypt_sent: bool = True
    encrypt_other: bool = False
    """What is neither drafts nor sent mail."""
    drafts: set[str] = field(default_factory=set)
    sent: set[str] = field(default_factory=set)
    """Names as `_whole` has them. What was once in there stays: a server that no longer tells is no reason to
    send in clear what the client goes on to file there."""

    def learn(self, line: bytes) -> None:
        """Note the special use in a LIST response."""
        match = _LIST.match(line)
        if match is None:
            return
        try:
            name = Source(line, match.end()).astring()
        except GrammarError:
            return
        attributes = match[1].lower()
        self._mark(name, drafts=rb"\drafts" in attributes, sent=rb"\sent" in attributes)

    def notice(self, octets: bytes, verb: Verb) -> None:
        """Note a special use given at CREATE (RFC 6154 section 3), and one that moves with RENAME."""
        if verb.name not in {"CREATE", "RENAME"}:
            return
        source = Source(octets, verb.arguments)
        try:
            source.expect(b" ")
            name = source.astring()
            if verb.name == "CREATE":
                rest = octets[source.at :].lower()
                self._mark(name, drafts=rb"\drafts" in rest, sent=rb"\sent" in rest)
            else:
                source.expect(b" ")
                self._mark(source.astring(), drafts=self.is_drafts(name), sent=self.is_sent(name))
        except GrammarError:
            return

    def _mark(self, name: bytes, *, drafts: bool, sent: bool) -> None:
        if drafts and len(self.drafts) <= _MARKED_MOST:
            self.drafts.add(_whole(name))
        if sent and len(self.sent) <= _MARKED_MOST:
            self.sent.add(_whole(name))

    def is_drafts(self, mailbox: bytes) -> bool:
        """Whether a mailbox holds drafts."""
        return _whole(mailbox) in self.drafts or not _DRAFTS.isdisjoint(_levels(mailbox))

    def is_sent(self, mailbox: bytes) -> bool:
        """Whether a mailbox holds sent mail."""
        return _whole(mailbox) in self.sent or not _SENT.isdisjoint(_levels(mailbox))

    def encrypts(self, mailbox: bytes, *, draft: bool) -> bool:
        """Whether a message (with the flag \\Draft, or without) is encrypted before it is stored there."""
        drafts, sent = draft or self.is_drafts(mailbox), self.is_sent(mailbox)
        if len(self.drafts) > _MARKED_MOST or len(self.sent) > _MARKED_MOST:
            return True
        if drafts or sent:
            return (self.encrypt_drafts and drafts) or (self.encrypt_sent and sent)
        return self.encrypt_other


class Overheard:
    """What the server tells the client of special uses; it may tell us less, or nothing, at the login."""

    def __init__(self, special_use: SpecialUse) -> None:
        """`special_use` learns."""
        self._special_use = special_use
        self._heard: bytearray | None = None

    def begins(self, line: bytes) -> None:
        """The first line of a response."""
        self._heard = bytearray(line) if _OF_MAILBOX.match(line) else None

    def goes_on(self, octets: bytes) -> None:
        """More of it."""
        if self._heard is not None and len(self._heard) < _HEARD_MOST:
            self._heard += octets

    def ends(self) -> None:
        """It is whole."""
        if self._heard is not None:
            self._special_use.learn(bytes(self._heard))
            self._heard = None


def _levels(mailbox: bytes) -> list[str]:
    """The levels of a mailbox name, lower case, whatever the hierarchy delimiter.

    All count: who files sent mail by the year has it in "Sent/2026".
    """
    return [level.strip() for level in re.split(r"[./\\^|]", _whole(mailbox))]


def _whole(mailbox: bytes) -> str:
    """The name in one spelling: clients read a name and write it again, and not always as it was."""
    name = re.sub(rb"&([A-Za-z0-9+,]*)-", _modified_base64, mailbox).decode("utf-8", "replace")
    return unicodedata.normalize("NFC", name).casefold()


def _modified_base64(match: re.Match[bytes]) -> bytes:
    """One shifted run of modified UTF-7 (RFC 3501 section 5.1.3) as UTF-8."""
    if not match[1]:
        return b"&"
    shifted = b"+" + match[1].replace(b",", b"/") + b"-"
    return shifted.decode("utf-7", "replace").encode("utf-8", "replace")
