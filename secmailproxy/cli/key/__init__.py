"""`secmailproxy key`: one file for each command, imported when it is called (docs/keys.md)."""

from __future__ import annotations

from secmailproxy.cli.lazy import LazyGroup

COMMANDS = {
    "import": ("secmailproxy.cli.key.importing:command", "Import keys from files, stdin, URLs or GnuPG."),
    "list": ("secmailproxy.cli.key.listing:list_", "List keys and certificates."),
    "show": ("secmailproxy.cli.key.listing:show", "Show everything about a key."),
    "export": ("secmailproxy.cli.key.exporting:command", "Write one certificate, or your secret key."),
    "generate": ("secmailproxy.cli.key.generating:command", "Make a key for an address of yours."),
    "request": ("secmailproxy.cli.key.requesting:request", "A request for an S/MIME certificate."),
    "requests": ("secmailproxy.cli.key.requesting:requests", "Requests that wait for their certificate."),
    "holders": ("secmailproxy.cli.key.holders:command", "Who holds your secret keys, and who answers."),
    "rotate": ("secmailproxy.cli.key.renewing:rotate", "Give your key a new subkey for encryption."),
    "extend": ("secmailproxy.cli.key.renewing:extend", "Give your key another end."),
    "identity": ("secmailproxy.cli.key.identities:command", "Add an address to your key, or take one away."),
    "revoke": ("secmailproxy.cli.key.revoking:revoke", "End a key, for ever."),
    "revocation-certificate": ("secmailproxy.cli.key.revoking:revocation", "What ends your key, to keep it."),
    "explain": (
        "secmailproxy.cli.key.explaining:explain",
        "Where a certificate comes from, and what mail does.",
    ),
    "find": ("secmailproxy.cli.key.explaining:find", "Ask the sources for a certificate now."),
    "publish": ("secmailproxy.cli.key.publishing:command", "Let others find your certificate."),
    "delete": ("secmailproxy.cli.key.deleting:command", "Delete one certificate or key."),
    "trust": ("secmailproxy.cli.key.trusting:command", "Say how far a certificate is trusted."),
    "verify": ("secmailproxy.cli.key.verifying:command", "Compare fingerprints, with a QR code."),
    "settle": ("secmailproxy.cli.key.settling:command", "Decide which certificate of an address is right."),
    "introducer": (
        "secmailproxy.cli.key.introducing:command",
        "Take a key's word for others' certificates.",
    ),
    "peers": ("secmailproxy.cli.key.peers:command", "List your correspondents, and what was seen of them."),
    "backup": ("secmailproxy.cli.key.backup:backup", "Write one encrypted file with everything."),
    "restore": ("secmailproxy.cli.key.backup:restore", "Bring everything of a backup in."),
    "setup-message": (
        "secmailproxy.cli.key.setupmessage:command",
        "Your key to or from other programs.",
    ),
    "paper": ("secmailproxy.cli.key.paper:command", "Your key on a page to print, and back."),
    "revocations": ("secmailproxy.cli.key.revocations:command", "Lists of revoked S/MIME certificates."),
}
"""Command -> ("module:attribute", the line that --help shows)."""

command = LazyGroup(
    "key", COMMANDS, help="Keys and certificates: yours, and those of the people you write to."
)
