"""Values of [discovery] for the DNS and for directories, and the tables [[discovery.ldap]]."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, model_validator

from secmailproxy.config_values import ExistingFile, Section

if TYPE_CHECKING:
    from keystore.discovery.ldap import LdapServer


def _domain(value: str) -> str:
    domain = value.lower().removesuffix(".")
    if not domain or not domain.isascii() or any(one in domain for one in "@*/: "):
        raise ValueError(f"{value!r} is not a domain; write it as example.org (in ASCII: xn--...)")
    return domain


def _anchor(value: Path | None) -> Path | None:
    if value is not None:
        from keystore.discovery.dnssec import read_anchors  # wanted by few

        try:
            read_anchors(value.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{value} is no trust anchor: {error}") from None
    return value


Domain = Annotated[str, AfterValidator(_domain)]
TrustAnchor = Annotated[ExistingFile, AfterValidator(_anchor)]


class LdapDirectory(Section):
    """[[discovery.ldap]]"""

    url: str
    domains: tuple[Domain, ...] = ()
    bind_dn: str | None = None
    password_file: ExistingFile = None

    @model_validator(mode="after")
    def _checked(self) -> LdapDirectory:
        if (self.bind_dn is None) is not (self.password_file is None):
            raise ValueError("bind_dn and password_file go together: name both, or none")
        self.value()
        return self

    def value(self) -> LdapServer:
        """For `keystore.discovery.ldap`. Raises ValueError for an URL that names no directory."""
        from keystore.discovery.ldap import read_url

        return read_url(
            self.url, domains=self.domains, bind_dn=self.bind_dn, password_file=self.password_file
        )
