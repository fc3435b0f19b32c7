"""Certificates and import results as text for people, and as the JSON that docs/keystore.md describes."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from keystore.model import Certificate, Holder, ImportAction, ImportResult, Purpose, Scheme, Usability
from keystore.selection import how_to_settle

if TYPE_CHECKING:
    from keystore.keystore import Keystore

JSON_VERSION = 1
_SCHEMES = {Scheme.OPENPGP: "OpenPGP", Scheme.SMIME: "S/MIME"}
_HOLDERS = {
    Holder.NONE: "certificate",
    Holder.OWN: "own key",
    Holder.GNUPG: "own key, held by GnuPG",
    Holder.PKCS11: "own key, held by a token",
}


def plain(text: str) -> str:
    """Text from a certificate with nothing in it that could steer a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def spaced(fingerprint: str) -> str:
    """A fingerprint in groups of four, for reading aloud."""
    return " ".join(fingerprint[at : at + 4] for at in range(0, len(fingerprint), 4))


def how_to_get(address: str) -> str:
    """What to do about an address of which there is no certificate."""
    asked = f"secmailproxy key find {shlex.quote(plain(address))}"
    return f"to look for one: {asked}; to take one that you were given: secmailproxy key import FILE"


def describe(
    keystore: Keystore, certificate: Certificate, now: datetime, held_for: Iterable[str] = ()
) -> dict[str, Any]:
    """One certificate as JSON values. It waits to be settled for the addresses `held_for`."""
    return {
        "fingerprint": certificate.fingerprint,
        "scheme": certificate.scheme.value,
        "user_ids": list(certificate.user_ids),
        "addresses": list(certificate.addresses),
        "created": time(certificate.created),
        "expires": time(certificate.expires) if certificate.expires else None,
        "algorithm": certificate.algorithm,
        "holder": certificate.holder.value,
        "trust": certificate.trust.value,
        "source": certificate.source,
        "held_for": list(held_for),
        "encrypt": _usability(keystore.usability(certificate.fingerprint, Purpose.ENCRYPT, now)),
        "verify": _usability(keystore.usability(certificate.fingerprint, Purpose.VERIFY, now)),
    }


def _usability(usability: Usability) -> dict[str, Any]:
    return {
        "usable": usability.usable,
        "reason": usability.reason.value if usability.reason else None,
        "detail": usability.detail,
        "keys": list(usability.keys),
    }


def time(moment: datetime) -> str:
    """A moment as JSON has it."""
    return moment.isoformat().replace("+00:00", "Z")


def short_text(described: dict[str, Any]) -> str:
    """A stanza of a listing."""
    holder = _HOLDERS[Holder(described["holder"])]
    expires = f"expires {described['expires'][:10]}" if described["expires"] else "never expires"
    lines = [
        described["fingerprint"],
        *(f"    {plain(user_id)}" for user_id in described["user_ids"] or ["(no valid user ID)"]),
        f"    {_scheme(described)} {holder}, trust: {described['trust']}, {described['algorithm']}, "
        f"created {described['created'][:10]}, {expires}",
    ]
    if not described["encrypt"]["usable"]:
        lines.append(f"    cannot be encrypted to: {_reason(described['encrypt'])}")
    lines += [f"    {_held(address)}" for address in described["held_for"]]
    return "\n".join(lines)


def long_text(described: dict[str, Any]) -> str:
    """All that `key show` says of one certificate."""
    rows = [
        ("fingerprint", spaced(described["fingerprint"])),
        *(("user ID", plain(user_id)) for user_id in described["user_ids"] or ["(no valid user ID)"]),
        ("kind", _HOLDERS[Holder(described["holder"])]),
        ("scheme", _scheme(described)),
        ("trust", described["trust"]),
        ("algorithm", described["algorithm"]),
        ("created", described["created"]),
        ("expires", described["expires"] or "never"),
        ("source", plain(described["source"])),
        *(("held", _held(address)) for address in described["held_for"]),
        *_key_rows("encrypt to", described["encrypt"]),
        *_key_rows("verify with", described["verify"]),
    ]
    return "\n".join(f"{name:>12}  {value}" for name, value in rows)


def _held(address: str) -> str:
    return f"not used for {plain(address)}, which has another one: {how_to_settle(address)}"


def _key_rows(name: str, usability: dict[str, Any]) -> list[tuple[str, str]]:
    if not usability["usable"]:
        return [(name, f"no: {_reason(usability)}")]
    return [(name, spaced(key)) for key in usability["keys"]]


def _reason(usability: dict[str, Any]) -> str:
    detail = f" ({plain(usability['detail'])})" if usability["detail"] else ""
    return f"{usability['reason']}{detail}"


def scheme_name(scheme: Scheme) -> str:
    """As people call it."""
    return _SCHEMES[scheme]


def _scheme(described: dict[str, Any]) -> str:
    return scheme_name(Scheme(described["scheme"]))


def export_values(certificate: Certificate, exported: bytes, *, secret: bool) -> dict[str, Any]:
    """What was exported as JSON values; PKCS #12, which is binary, in base64."""
    binary = secret and certificate.scheme is Scheme.SMIME
    return {
        "version": JSON_VERSION,
        "fingerprint": certificate.fingerprint,
        "secret": secret,
        "armored": None if binary else exported.decode("ascii"),
        "pkcs12": base64.b64encode(exported).decode("ascii") if binary else None,
    }


def result_values(source: str, result: ImportResult) -> dict[str, Any]:
    """One import result as JSON values."""
    return {
        "source": source,
        "action": result.action.value,
        "fingerprint": result.fingerprint,
        "addresses": list(result.addresses),
        "user_ids": list(result.user_ids),
        "secret": result.secret,
        "reason": result.reason,
    }


def results_text(results: Iterable[tuple[str, ImportResult]]) -> str:
    """One or two lines for each key."""
    lines = []
    for source, result in results:
        what = result.fingerprint or plain(source)
        who = ", ".join(plain(user_id) for user_id in result.user_ids)
        secret = " with its secret key" if result.secret and result.action is not ImportAction.REFUSED else ""
        lines.append(f"{result.action.value:>9}  {what}{secret}" + (f"  {who}" if who else ""))
        if result.reason:
            lines.append(f"{'':>9}  {plain(result.reason)}")
    return "\n".join(lines)
