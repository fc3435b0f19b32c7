"""The table [discovery] of the configuration: where certificates of correspondents are looked for."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from keystore.discovery.model import SourceKind
from secmailproxy.config_directories import Domain, LdapDirectory, TrustAnchor
from secmailproxy.config_values import AuthorityFile, ExistingFolder, Section, Switch

if TYPE_CHECKING:
    from keystore.discovery.sources import DiscoverySettings


def _proxy(value: str | None) -> str | None:
    if value is not None:
        from keystore.discovery.net import proxy_problem  # wanted by few

        if problem := proxy_problem(value):
            raise ValueError(problem)
    return value


def _server(value: str) -> str:
    from keystore.discovery.keyservers import server_url  # wanted by few

    return server_url(value) if value else ""


def _url(value: str) -> str:
    from keystore.discovery.keyurl import url_problem  # wanted by few

    if value and (problem := url_problem(value)):
        raise ValueError(problem)
    return value


def _once(value: tuple[str, ...]) -> tuple[str, ...]:
    repeated = next((one for one in value if value.count(one) > 1), None)
    if repeated:
        raise ValueError(f"{repeated!r} stands in it twice; remove one")
    return value


Proxy = Annotated[str | None, AfterValidator(_proxy)]
Hours = Annotated[int, Field(strict=True, ge=1, le=8760)]
Server = Annotated[str, AfterValidator(_server)]
SourceName = Literal["gnupg", "folder", "url", "ldap", "wkd", "dane", "vks", "hkps"]
_ORDER: tuple[SourceName, ...] = ("gnupg", "folder", "url", "ldap", "wkd", "dane", "vks", "hkps")


class Discovery(Section):
    """[discovery]"""

    order: Annotated[tuple[SourceName, ...], AfterValidator(_once)] = _ORDER
    gnupg: Switch = False
    folder: ExistingFolder = None
    url: Annotated[str, AfterValidator(_url)] = ""
    wkd: Switch = False
    vks: Server = ""
    hkps: Server = ""
    dane: Switch = False
    trust_anchor: TrustAnchor = None
    ldap: tuple[LdapDirectory, ...] = ()
    ca_file: AuthorityFile = None
    proxy: Proxy = None
    wait_seconds: Annotated[float, Field(ge=0, le=30)] = 3.0
    source_seconds: Annotated[float, Field(ge=1, le=60)] = 10.0
    found_hours: Hours = 168
    nothing_hours: Hours = 24
    failed_minutes: Annotated[int, Field(strict=True, ge=1, le=1440)] = 10
    allow_domains: tuple[Domain, ...] = ()

    def value(self, gnupg_home: Path | None) -> DiscoverySettings:
        """For `keystore.discovery.sources`."""
        from keystore.discovery.dane import DaneSettings
        from keystore.discovery.ladder import LadderSettings
        from keystore.discovery.net import NetSettings
        from keystore.discovery.sources import DiscoverySettings

        return DiscoverySettings(
            order=tuple(SourceKind(one) for one in self.order),
            ladder=LadderSettings(
                seconds=self.source_seconds,
                found=timedelta(hours=self.found_hours),
                nothing=timedelta(hours=self.nothing_hours),
                failed=timedelta(minutes=self.failed_minutes),
                allowed=frozenset(self.allow_domains),
                tor=self.proxy is not None and self.proxy.startswith("socks5h:"),
            ),
            wait=self.wait_seconds,
            gnupg=self.gnupg,
            gnupg_home=gnupg_home,
            folder=self.folder,
            url=self.url,
            wkd=self.wkd,
            vks=self.vks,
            hkps=self.hkps,
            net=NetSettings(ca_file=self.ca_file, proxy=self.proxy, timeout=self.source_seconds),
            dane=DaneSettings(self.trust_anchor) if self.dane else None,
            ldap=tuple(one.value() for one in self.ldap),
        )
