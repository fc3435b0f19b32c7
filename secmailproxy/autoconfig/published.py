"""The autoconfig XML ("clientConfig", version 1.1) that points mail clients of this machine at us. PURE.

The password goes in clear text, and the socket type is "plain" where there is no listener for TLS: both ends
are on this machine, for the listeners bind loopback addresses only.

Standards: draft-ietf-mailmaint-autoconfig.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

_DOCUMENT = """\
<?xml version="1.0" encoding="UTF-8"?>
<clientConfig version="1.1">
  <emailProvider id="{first}">
{domains}
    <displayName>secmailproxy</displayName>
    <displayShortName>secmailproxy</displayShortName>
    <incomingServer type="imap">
      <hostname>{imap.host}</hostname>
      <port>{imap.port}</port>
      <socketType>{imap.socket}</socketType>
      <username>%EMAILADDRESS%</username>
      <authentication>password-cleartext</authentication>
    </incomingServer>
    <outgoingServer type="smtp">
      <hostname>{submission.host}</hostname>
      <port>{submission.port}</port>
      <socketType>{submission.socket}</socketType>
      <username>%EMAILADDRESS%</username>
      <authentication>password-cleartext</authentication>
    </outgoingServer>
  </emailProvider>
</clientConfig>
"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A listener, for mail clients."""

    host: str
    port: int
    tls: bool = False
    """From the first octet."""

    @property
    def socket(self) -> str:
        """The name that the document has for it."""
        return "SSL" if self.tls else "plain"


def document(domains: Sequence[str], imap: Endpoint, submission: Endpoint) -> str:
    """The document, LF line ends, for accounts of these mail domains (ASCII form, at least one).

    The user name is the address, which every account of the proxy accepts.
    """
    lines = [f"    <domain>{escape(domain)}</domain>" for domain in domains]
    return _DOCUMENT.format(
        first=escape(domains[0]),
        domains="\n".join(lines),
        imap=replace(imap, host=escape(imap.host)),
        submission=replace(submission, host=escape(submission.host)),
    )
