"""What a pipe says when it could not hand a message on. PURE.

Standards: RFC 3463 (class 4, which Postfix obeys over any exit status).
Security: one line, and nothing of the message in it.
"""

from __future__ import annotations

from keystore.errors import KeystoreError, StoreLocked
from secmailproxy.errors import SecMailProxyError

_CRYPTO_STATUSES = frozenset({"5.7.5", "4.7.5"})


def complaint(error: BaseException) -> str:
    """One line for stderr, beginning with a status; what is not ours is told by its kind alone."""
    status, text = "4.3.0", f"internal error ({type(error).__name__})"
    if isinstance(error, OSError) and error.strerror:
        text = f"cannot read or write: {error.strerror}"
    elif isinstance(error, KeystoreError):
        status, text = "4.7.5" if isinstance(error, StoreLocked) else status, " ".join(str(error).split())
    elif isinstance(error, SecMailProxyError):
        status, text = "4.7.5" if error.enhanced_status in _CRYPTO_STATUSES else status, error.text
    return f"{status} {text}"
