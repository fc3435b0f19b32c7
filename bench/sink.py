"""A smarthost that accepts everything, with implicit TLS and AUTH: `python -m bench.sink PORT CERT KEY`."""

from __future__ import annotations

import asyncio
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session


class Sink:
    """Takes a message, forgets it, and says what it was."""

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Called by aiosmtpd with each message."""
        octets = envelope.original_content or b""
        kind = b"encrypted" if b"multipart/encrypted" in octets[:4096] else b"plain"
        return f"250 2.0.0 {len(octets)} octets, {kind.decode()}"


def _anybody(*_: object) -> AuthResult:
    return AuthResult(success=True)


async def main(port: int, certificate: str, key: str) -> None:
    """Serve until the process ends."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    listener = await asyncio.get_running_loop().create_server(
        lambda: SMTP(Sink(), authenticator=_anybody, auth_require_tls=False), "127.0.0.1", port, ssl=context
    )
    await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:4]))
