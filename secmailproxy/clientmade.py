"""Messages that the mail client has protected itself: they pass as they are, or not at all.

Security: a message that only its sender can read does not go to others (SMTP-16); one that is only signed
does not go where a rule requires encryption.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from keystore.errors import NotReadable
from keystore.keystore import Keystore
from keystore.model import Holder, Scheme
from secmailproxy.errors import NotAllowed
from secmailproxy.mime.assemble import openpgp_ciphertext
from secmailproxy.mime.entity import Entity
from secmailproxy.policy import Protect, Rule, rule_for


def made_by(root: Entity) -> Scheme:
    """The scheme of a message that is protected at its root."""
    kind = root.content_type
    is_smime = "pkcs7" in kind.subtype or "pkcs7" in (kind.param("protocol") or "").lower()
    return Scheme.SMIME if is_smime else Scheme.OPENPGP


def refuse_signed(sender: str, rcpt_tos: Sequence[str], rules: Sequence[Rule]) -> None:
    """Raises NotAllowed where a message that the client has only signed must not go."""
    for rcpt_to in rcpt_tos:
        if rule_for(sender, rcpt_to, rules).protect is Protect.REQUIRE:
            raise NotAllowed(
                f"a rule requires encryption to <{rcpt_to}>, and the mail client has only signed the "
                "message: let the client encrypt it, or leave signing to the proxy"
            )


def refuse_encrypted(root: Entity, rcpt_tos: Sequence[str], keystore: Keystore, now: datetime) -> None:
    """Raises NotAllowed when only the owner of `keystore` can read what goes to others too (SMTP-16)."""
    if _only_to_self(root, rcpt_tos, keystore, now):
        raise NotAllowed(
            "the message is encrypted only to the sender's own key (a draft?); "
            "its recipients could not read it"
        )


def _only_to_self(root: Entity, rcpt_tos: Sequence[str], keystore: Keystore, now: datetime) -> bool:
    ciphertext = openpgp_ciphertext(root)
    others = [one for one in rcpt_tos if not keystore.own(one)]
    if ciphertext is None or not others:
        return False
    try:
        opened = keystore.decrypt(ciphertext, now)
    except NotReadable:
        return False
    known = [keystore.certificates(key_id) for key_id in opened.recipients]
    return all(
        certificates and all(one.holder is not Holder.NONE for one in certificates) for certificates in known
    )
