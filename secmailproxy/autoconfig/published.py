"""The autoconfig XML ("clientConfig", version 1.1) that points mail clients of this machine at us. PURE.

The socket type is "plain" and the password goes in clear text, for both ends are on this machine: the
listeners bind loopback addresses only.

Standards: draft-ietf-mailmaint-autoconfig.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_DOCUMENT = """\
<?xml version="1.0" encoding="UTF-8"?>
<clientConfig version="1.1">
  <emailProvider id="{first}">
{domains}
    <displayName>secmailproxy</displayName>
    <displayShortName>secmailproxy</displayShortName>
    <incomingServer type="imap">
      <hostname>{imap[0]}</hostname>
      <port>{imap[1]}</port>
      <socketType>plain</socketType>
      <username>%EMAILADDRESS%</username>
      <authentication>password-cleartext</authentication>
    </incomingServer>
    <outgoingServer type="smtp">
      <hostname>{submission[0]}</hostname>
      <port>{submission[1]}</port>
      <socketType>plain</socketType>
      <username>%EMAILADDRESS%</username>
      <authentication>password-cleartext</authentication>
    </outgoingServer>
  </emailProvider>
</clientConfig>
"""


def document(domains: Sequence[str], imap: tuple[str, int], submission: tuple[str, int]) -> str:
    """The document, LF line ends, for accounts of these mail domains (ASCII form, at least one).

    `imap` and `submission` are the listeners: host and port. The user name is the address, which every
    account of the proxy accepts.
    """
    lines = [f"    <domain>{escape(domain)}</domain>" for domain in domains]
    return _DOCUMENT.format(
        first=escape(domains[0]),
        domains="\n".join(lines),
        imap=(escape(imap[0]), imap[1]),
        submission=(escape(submission[0]), submission[1]),
    )
