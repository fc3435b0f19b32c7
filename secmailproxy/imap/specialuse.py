"""Which mailboxes hold drafts and sent mail, so that what is appended there is encrypted to its owner. PURE.

Plaintext drafts and sent mail on the server are the classic leak of mail clients with encryption (IMAP-16).

Standards: RFC 6154 (special use).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from secmailproxy.imap.grammar import GrammarError, Source, Verb, mailbox_key

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
_LIST = re.compile(rb'\* (?:LIST|XLIST) \(([^)]*)\) (?:NIL|"(?:\\.|[^"\\])") ', re.IGNORECASE)


@dataclass(slots=True)
class SpecialUse:
    """Which mailboxes hold drafts and sent mail: by special use where the server tells, else by name."""

    encrypt_drafts: bool = True
    encrypt_sent: bool = True
    encrypt_other: bool = False
    """What is neither drafts nor sent mail."""
    drafts: set[bytes] = field(default_factory=set)
    sent: set[bytes] = field(default_factory=set)

    def learn(self, line: bytes) -> None:
        """Note the special use in a LIST response."""
        match = _LIST.match(line)
        if match is None:
            return
        try:
            name = mailbox_key(Source(line, match.end()).astring())
        except GrammarError:
            return
        self._mark(name, match[1])

    def notice(self, octets: bytes, verb: Verb) -> None:
        """Note a special use given at CREATE (RFC 6154 section 3)."""
        if verb.name != "CREATE" or b"USE" not in octets.upper():
            return
        source = Source(octets, verb.arguments)
        try:
            source.expect(b" ")
            self._mark(mailbox_key(source.astring()), octets[source.at :])
        except GrammarError:
            return

    def _mark(self, name: bytes, attributes: bytes) -> None:
        if rb"\drafts" in attributes.lower():
            self.drafts.add(name)
        if rb"\sent" in attributes.lower():
            self.sent.add(name)

    def is_drafts(self, mailbox: bytes) -> bool:
        """Whether a mailbox holds drafts."""
        return mailbox_key(mailbox) in self.drafts or not _DRAFTS.isdisjoint(_levels(mailbox))

    def is_sent(self, mailbox: bytes) -> bool:
        """Whether a mailbox holds sent mail."""
        return mailbox_key(mailbox) in self.sent or not _SENT.isdisjoint(_levels(mailbox))

    def encrypts(self, mailbox: bytes, *, draft: bool) -> bool:
        """Whether a message (with the flag \\Draft, or without) is encrypted before it is stored there."""
        drafts, sent = draft or self.is_drafts(mailbox), self.is_sent(mailbox)
        if drafts or sent:
            return (self.encrypt_drafts and drafts) or (self.encrypt_sent and sent)
        return self.encrypt_other


def _levels(mailbox: bytes) -> list[str]:
    """The levels of a mailbox name, lower case, whatever the hierarchy delimiter.

    All count: who files sent mail by the year has it in "Sent/2026".
    """
    name = re.sub(rb"&([A-Za-z0-9+,]*)-", _modified_base64, mailbox).decode("utf-8", "replace")
    return [level.strip() for level in re.split(r"[./\\^|]", unicodedata.normalize("NFC", name).casefold())]


def _modified_base64(match: re.Match[bytes]) -> bytes:
    """One shifted run of modified UTF-7 (RFC 3501 section 5.1.3) as UTF-8."""
    if not match[1]:
        return b"&"
    shifted = b"+" + match[1].replace(b",", b"/") + b"-"
    return shifted.decode("utf-7", "replace").encode("utf-8", "replace")
