"""The key of this machine, which signs system mail where a rule says so."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from keystore.model import Certificate, Holder, Purpose, Scheme
from secmailproxy.errors import SigningKeyUnusable

if TYPE_CHECKING:
    from keystore.keystore import Keystore
    from secmailproxy.forward.model import ForwardSettings

_NAMES = {Scheme.OPENPGP: "OpenPGP", Scheme.SMIME: "S/MIME"}


def host_certificate(
    keystore: Keystore, settings: ForwardSettings, scheme: Scheme, now: datetime
) -> Certificate:
    """Whose secret key signs: the configured one if it is of `scheme`, else that of the sender.

    Raises SigningKeyUnusable, which says why there is none.
    """
    chosen, sender = settings.host_key, settings.sender
    certificate = keystore.certificate(chosen) if chosen else None
    if chosen and (certificate is None or certificate.holder is Holder.NONE):
        raise SigningKeyUnusable(f"there is no secret key for forward.host_key {chosen} in the keystore")
    if certificate is not None and certificate.scheme is scheme:
        usability = keystore.usability(certificate.fingerprint, Purpose.SIGN, now)
        if not usability.usable:
            raise SigningKeyUnusable(f"forward.host_key {chosen} cannot sign: {usability.explanation}")
        return certificate
    identity = keystore.identity(sender, now, scheme=scheme)
    if identity is None:
        unusable = keystore.unusable_own(sender, now, scheme=scheme)
        why = f" ({unusable[0]}: {unusable[1].explanation})" if unusable else ""
        raise SigningKeyUnusable(f"no {_NAMES[scheme]} key of <{sender}> can sign{why}")
    return identity.certificate
