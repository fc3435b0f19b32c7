"""Messages that the mail client has protected itself: they pass as they are, or not at all.

Security: a message that only its sender can read does not go to others (SMTP-16); one that is only signed
does not go where a rule requires encryption; one that only looks encrypted goes nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from keystore.errors import NotReadable
from keystore.keystore import Keystore
from keystore.model import HIDDEN, Certificate, Holder, Scheme
from secmailproxy.decision import Decider
from secmailproxy.errors import NotAllowed
from secmailproxy.mime.assemble import Made, openpgp_ciphertext
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.pkcs7 import cms_octets
from secmailproxy.mime.protected import may_leave
from secmailproxy.mime.shown import wrapped_message
from secmailproxy.policy import Question
from secmailproxy.rules import Protect, Rule, rule_for
from secmailproxy.wishes import wished

_NOT_ENCRYPTED = (
    "the mail client says that the message is encrypted, and it is not; let the client encrypt it anew, or "
    "leave protecting to the proxy"
)


def made_by(root: Entity) -> Scheme:
    """The scheme of a message that is protected at its root."""
    kind = root.content_type
    is_smime = "pkcs7" in kind.subtype or "pkcs7" in (kind.param("protocol") or "").lower()
    return Scheme.SMIME if is_smime else Scheme.OPENPGP


def refuse(already: Made, root: Entity, question: Question, decider: Decider) -> None:
    """Raises NotAllowed when a message that the client has protected itself must not go as it is."""
    wish = question.wish
    if wish.attach_key or (wish.scheme and wish.scheme is not made_by(root)):
        raise NotAllowed(
            "the message wishes a scheme, or its key attached, but the mail client has protected it itself; "
            "leave the wish out, or leave protecting to the proxy"
        )
    if already is Made.SIGNED:
        _refuse_signed(root, question, decider.settings.rules)
    elif _only_to_self(root, question.rcpt_tos, decider):
        raise NotAllowed(
            "the message is encrypted only to the sender's own key (a draft?); "
            "its recipients could not read it. Open it in the mail client and send it from there"
        )


def _refuse_signed(root: Entity, question: Question, rules: Sequence[Rule]) -> None:
    for rcpt_to in question.rcpt_tos:
        rule = rule_for(question.sender, rcpt_to, rules, question.account)
        if wished(rule, question.wish, rcpt_to).protect is Protect.REQUIRE:
            raise NotAllowed(
                f"encryption to <{rcpt_to}> is required, and the mail client has only signed the message: "
                "let the client encrypt it, or leave signing to the proxy"
            )
    inside = [*root.parts[:1]]
    inside += [one for one in map(wrapped_message, inside) if one is not None]
    if not all(may_leave(field.name.lower()) for one in inside for field in one.fields):
        raise NotAllowed(
            "the mail client has signed Bcc or a field for wishes with the message, where nobody can remove "
            "it; leave signing to the proxy, or the field out"
        )


def _only_to_self(root: Entity, rcpt_tos: Sequence[str], decider: Decider) -> bool:
    """Whether nobody but the owner of the keystore can read what goes to others too (SMTP-16).

    The recipients that the message names tell, without any secret key. Where it hides its one recipient,
    being able to open it does; with several hidden ones it may be for others. Raises NotAllowed for what is
    not encrypted at all, such as a message of OpenPGP that is only signed.
    """
    keystore, envelope, ciphertext = decider.keystore, cms_octets(root), openpgp_ciphertext(root)
    to_others = not all(decider.is_own(one) for one in rcpt_tos)
    if envelope is not None:
        return _is_only_for_own(envelope, keystore) and to_others
    if ciphertext is None:
        raise NotAllowed(_NOT_ENCRYPTED)
    try:
        named = keystore.addressees(ciphertext)
    except NotReadable as error:
        if error.reason == "no-integrity":  # encrypted, if badly, and its readers are not told
            return False
        raise NotAllowed(_NOT_ENCRYPTED) from None
    if to_others and named == (HIDDEN,):
        return _opens(ciphertext, decider)
    return to_others and bool(named) and all(_is_own(keystore.certificates(key_id)) for key_id in named)


def _opens(ciphertext: bytes, decider: Decider) -> bool:
    try:
        decider.keystore.decrypt(ciphertext, decider.now)
    except NotReadable:
        return False
    return True


def _is_only_for_own(envelope: bytes, keystore: Keystore) -> bool:
    """Whether every certificate that an S/MIME message is encrypted to has its secret key here.

    Raises NotAllowed for what names itself encrypted and has not that form: it could be anything.
    """
    try:
        named = keystore.smime.recipients(envelope)
    except NotReadable:
        raise NotAllowed(_NOT_ENCRYPTED) from None
    return bool(named) and all(one is not None and one.holder is not Holder.NONE for one in named)


def _is_own(certificates: Sequence[Certificate]) -> bool:
    return bool(certificates) and all(one.holder is not Holder.NONE for one in certificates)
