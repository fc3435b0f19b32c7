"""[store]: a PostgreSQL server that several installations share, in place of files of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, model_validator

from secmailproxy.config_values import AuthorityFile, Section

if TYPE_CHECKING:
    from keystore.database import Server

_SCHEMES = ("postgresql", "postgres")


def _checked_url(url: str) -> str:
    """Raises ValueError for what is no URL of PostgreSQL, or holds a password."""
    if not url:
        return url
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError('must be a URL such as "postgresql://secmailproxy@db.example.org/secmailproxy"')
    if parts.password is not None or "password" in parse_qs(parts.query):
        raise ValueError("must not hold a password: take it out, and run `secmailproxy store password`")
    return url


class StoreSection(Section):
    """[store]"""

    url: Annotated[str, AfterValidator(_checked_url)] = ""
    ca_file: AuthorityFile = None

    @model_validator(mode="after")
    def _belonging(self) -> StoreSection:
        if self.ca_file is not None and not self.url:
            raise ValueError("ca_file is for the server of url, and there is no url")
        return self

    @property
    def server(self) -> Server | None:
        """For `keystore.database.Place`; None where everything is in files."""
        from keystore.database import Server

        return Server(self.url, self.ca_file) if self.url else None
