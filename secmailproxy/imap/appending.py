"""Which appended messages are encrypted to their owner, and the task that does it. PURE.

Plaintext drafts and sent mail on the server are the classic leak of mail clients with encryption, so APPEND
to a drafts or sent mailbox, or with the flag \\Draft, stores ciphertext (IMAP-16). Afterwards the client
reads what it wrote, octet for octet.

Some clients move mail by appending what they hold: mail that was decrypted for them. It carries our verdict
field, which never goes to the server, and is encrypted wherever it goes.

Standards: RFC 9051 section 6.3.12; RFC 4315 (APPENDUID); RFC 6154 (special use).
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from secmailproxy.imap.grammar import AppendCommand, GrammarError, Source, Verb, mailbox_key, parse_append
from secmailproxy.imap.steps import Ask, Completion, EncryptToSelf, FixAppended, Task
from secmailproxy.imap.wire import Command
from secmailproxy.mime import header

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
_APPENDUID = re.compile(rb"OK \[APPENDUID (\d+) (\d+)\]", re.IGNORECASE)


@dataclass(slots=True)
class SpecialUse:
    """Which mailboxes hold drafts and sent mail: by special use where the server tells, else by name."""

    encrypt_drafts: bool = True
    encrypt_sent: bool = True
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

    def encrypts(self, head: AppendCommand) -> bool:
        """Whether the message of this APPEND is encrypted before it is stored."""
        drafts = head.draft or self.is_drafts(head.mailbox)
        return (self.encrypt_drafts and drafts) or (self.encrypt_sent and self.is_sent(head.mailbox))


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


def head_of(command: Command, verb: Verb) -> AppendCommand:
    """The head of a whole APPEND command. Raises `GrammarError` for forms that we do not offer."""
    if command.fragments[-1] not in (b"\r\n", b"\n"):
        raise GrammarError("APPEND takes one message")
    head = parse_append(Command(command.fragments[:-1], command.literals[:-1]), verb)
    if head is None:
        raise GrammarError("APPEND takes a mailbox, flags, a date and one literal")
    return head


@dataclass(frozen=True, slots=True)
class Plan:
    """How a message is stored that does not pass as it is."""

    message: bytes
    """What the client wrote, without our verdict field."""
    encrypt: bool
    sign: bool


def plan(head: AppendCommand, message: bytes, special_use: SpecialUse, field_name: bytes) -> Plan | None:
    """What to do with an appended message; None when it passes as it is."""
    status = presented_status(message, field_name)
    to_folder = special_use.encrypts(head)
    if status is None:
        sign = special_use.is_sent(head.mailbox) and not head.draft
        return Plan(message, encrypt=True, sign=sign) if to_folder else None
    without = header.remove_fields(message, (field_name.decode(),))
    # What others wrote is not signed by us; what was only signed verifies as before without our field.
    return Plan(without, encrypt=to_folder or b"encrypted" in status, sign=False)


def presented_status(message: bytes, field_name: bytes) -> bytes | None:
    """What our verdict field in the header section of `message` begins with; None without the field.

    `message` may be the beginning of one.
    """
    ends = [at for at in (message.find(b"\r\n\r\n"), message.find(b"\n\n")) if at >= 0]
    found = re.search(
        rb"^" + re.escape(field_name) + rb":([^;]*)",
        message[: min(ends, default=len(message))],
        re.IGNORECASE | re.MULTILINE,
    )
    return None if found is None else found[1].strip().lower()


def append(head: AppendCommand, plan: Plan) -> Task:
    """Encrypt where planned, store, and fix the view of what was stored before the client hears of it."""
    stored: object = plan.message
    if plan.encrypt:
        stored = yield EncryptToSelf(plan.message, plan.sign)
    assert isinstance(stored, bytes)
    mailbox = b"{%d}\r\n" % len(head.mailbox)
    announce = head.mailbox + head.options + b" {%d}\r\n" % len(stored)
    result = yield Ask([(b"APPEND " + mailbox, announce, stored + b"\r\n")])
    assert isinstance(result, list)
    completion: Completion = result[0]
    uid = _APPENDUID.match(completion.octets)
    if uid is not None and stored != plan.message:
        yield FixAppended(mailbox_key(head.mailbox), int(uid[1]), int(uid[2]), stored, plan.message)
    return completion.octets
