"""The section of the configuration for a PKCS #11 token."""

from __future__ import annotations

from keystore.token import TokenSettings
from secmailproxy.config_values import ExistingFile, Section


class Pkcs11(Section):
    """[pkcs11]"""

    module: ExistingFile = None
    token: str = ""

    def settings(self) -> TokenSettings:
        """For the keystore."""
        return TokenSettings(self.module, self.token)
