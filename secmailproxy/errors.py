"""The few errors there are, each knowing its SMTP reply, IMAP response code and exit status.

    SecMailProxyError          451 4.3.0   NO                exit 75
    +-- ConfigError            451 4.3.5                     exit 78
    +-- UsageError             -                             exit 64
    +-- MalformedMessage       554 5.6.0                     exit 65
    |   +-- LimitExceeded      552 5.3.4   NO [LIMIT]        exit 65
    +-- NoUsableCertificate    550 5.7.5                     exit 69
    +-- SigningKeyUnusable     554 5.7.5                     exit 69
    +-- NotAllowed             554 5.7.1   NO [NOPERM]       exit 77
    |   +-- LoginRefused       535 5.7.8   NO [AUTHENTICATIONFAILED]  exit 77
    +-- KeystoreLocked         451 4.7.5   NO [UNAVAILABLE]  exit 75
    +-- StillLooking           451 4.7.5                     exit 75
    +-- UpstreamUnavailable    451 4.4.1   NO [UNAVAILABLE]  exit 75
        +-- UpstreamLost       451 4.4.2   NO [UNAVAILABLE]  exit 75

The text of each is for people: one line, ASCII where it can be, with the address, file or option and the
remedy, never a secret, never message text. Unexpected exceptions are answered with the base class's codes and
a fixed text (protocol replies never carry exception text, SMTP-18).

Standards: RFC 5321 section 4.2, RFC 3463, RFC 5530 section 3; exit codes of sysexits.
"""

from __future__ import annotations


class SecMailProxyError(Exception):
    """Base class; by itself a temporary internal failure."""

    smtp_code = 451
    enhanced_status = "4.3.0"
    imap_code = ""
    exit_status = 75

    @property
    def text(self) -> str:
        """The one-line explanation, safe to show."""
        return " ".join(str(self).split())


class ConfigError(SecMailProxyError):
    """The configuration is missing, malformed or contradicts itself."""

    enhanced_status = "4.3.5"
    exit_status = 78


class UsageError(SecMailProxyError):
    """A command was called in a way that cannot work."""

    exit_status = 64


class MalformedMessage(SecMailProxyError):
    """A message breaks RFC 5322 or MIME in a way that cannot be passed on safely."""

    smtp_code = 554
    enhanced_status = "5.6.0"
    exit_status = 65


class LimitExceeded(MalformedMessage):
    """A message is deeper, longer or larger than we handle."""

    smtp_code = 552
    enhanced_status = "5.3.4"
    imap_code = "LIMIT"


class NoUsableCertificate(SecMailProxyError):
    """A rule demands encryption and there is no certificate to encrypt to."""

    smtp_code = 550
    enhanced_status = "5.7.5"
    exit_status = 69


class SigningKeyUnusable(SecMailProxyError):
    """The sender's own key is missing, expired or revoked."""

    smtp_code = 554
    enhanced_status = "5.7.5"
    exit_status = 69


class NotAllowed(SecMailProxyError):
    """A rule forbids this submission."""

    smtp_code = 554
    enhanced_status = "5.7.1"
    imap_code = "NOPERM"
    exit_status = 77


class LoginRefused(NotAllowed):
    """The mail server refused the login; the text is its own."""

    smtp_code = 535
    enhanced_status = "5.7.8"
    imap_code = "AUTHENTICATIONFAILED"

    def __init__(
        self, text: str, *, smtp_code: int = 535, enhanced_status: str = "5.7.8", challenge: str = ""
    ) -> None:
        """The codes are those of the server's reply, where it was SMTP.

        `challenge` is what it said of an access token before it refused, in base64, for programs to read.
        """
        super().__init__(text)
        self.challenge = challenge
        self.smtp_code = smtp_code
        self.enhanced_status = enhanced_status


class KeystoreLocked(SecMailProxyError):
    """The secret key needed is locked or its holder is absent: temporary."""

    smtp_code = 451
    enhanced_status = "4.7.5"
    imap_code = "UNAVAILABLE"


class StillLooking(SecMailProxyError):
    """A rule demands encryption, and the certificate for it is still being looked for: temporary."""

    enhanced_status = "4.7.5"


class UpstreamUnavailable(SecMailProxyError):
    """The mail server cannot be reached, or not over verified TLS, or went away: temporary."""

    smtp_code = 451
    enhanced_status = "4.4.1"
    imap_code = "UNAVAILABLE"


class UpstreamLost(UpstreamUnavailable):
    """The connection to the mail server broke, stalled or made no sense; what it did last is not known."""

    enhanced_status = "4.4.2"
