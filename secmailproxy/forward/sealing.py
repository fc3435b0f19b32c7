"""What a system message becomes, whoever knows the keys: its outside, the OpenPGP message around it. PURE.

`seals` asks the keystore for the keys; `preparing` writes down for pipes what is made here.

Security: nothing is returned that was not taken apart again and compared with what was decided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from secmailproxy.forward.model import Forward, ForwardSettings, Product, SubjectMode, SystemMail
from secmailproxy.mime import assemble
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.protected import ProtectedMessage
from secmailproxy.mime.system import (
    SUBJECT,
    OutsideTells,
    SystemHeader,
    passed_on,
    prove_outside,
    subject_field,
)
from secmailproxy.model import Envelope


def system_header(
    action: Forward, settings: ForwardSettings, author: str, rcpt_tos: Sequence[str]
) -> SystemHeader:
    """What the outside says. Raises UsageError for a text that cannot be a subject."""
    subject: bytes | None = SUBJECT
    if action.subject is SubjectMode.KEPT:
        subject = None
    elif action.subject is SubjectMode.REPLACED:
        subject = subject_field(action.subject_text)
    return SystemHeader(author, tuple(rcpt_tos), settings.mark, subject)


def bounces_to(mail: SystemMail, settings: ForwardSettings) -> str:
    """The envelope sender: never the original one, to whom failures would tell of this machine.

    The null sender stays, but for a submission server, which wants its user as sender.
    """
    return "" if not mail.mail_from and settings.via != "smarthost" else settings.sender


def passed(root: Entity, mail: SystemMail, settings: ForwardSettings, rcpt_tos: Sequence[str]) -> Product:
    """A message that is sealed already, for all `rcpt_tos`: it is the same for each of them."""
    envelope = Envelope(bounces_to(mail, settings), tuple(rcpt_tos))
    return Product(passed_on(root, settings.mark), envelope)


def openpgp_product(ready: ProtectedMessage, encrypt: Callable[[bytes], bytes], boundary: str) -> bytes:
    """multipart/encrypted around what `encrypt` makes of the payload: an armored message (CRLF).

    Raises OutsideTells, and whatever `encrypt` raises.
    """
    ciphertext = encrypt(ready.payload)
    product = assemble.encrypted(ready.outer, ciphertext, boundary)
    if assemble.openpgp_ciphertext(prove_outside(product, ready)) != ciphertext:
        raise OutsideTells("the message did not come out as multipart/encrypted")
    return product
