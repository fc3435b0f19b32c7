"""The sources of a configuration, in its order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from keystore.discovery.ladder import LadderSettings
from keystore.discovery.model import Source, SourceKind
from keystore.discovery.net import NetSettings, open_net
from keystore.gnupg import Gnupg

if TYPE_CHECKING:
    from keystore.discovery.dane import DaneSettings
    from keystore.discovery.ldap import LdapServer

ORDER = (
    SourceKind.GNUPG,
    SourceKind.FOLDER,
    SourceKind.DANE,
    SourceKind.LDAP,
)
"""Those that can be asked, in the order that counts where the owner says nothing.

What asks nobody comes first, then what the owner of an address says of it, then what others say."""


@dataclass(frozen=True, slots=True)
class DiscoverySettings:
    """Which sources are asked, and how."""

    order: tuple[SourceKind, ...] = ORDER
    """What is not in it comes after, in the order above."""
    ladder: LadderSettings = field(default_factory=LadderSettings)
    wait: float = 3.0
    """Seconds that one submission waits in all."""
    gnupg: bool = False
    gnupg_home: Path | None = None
    folder: Path | None = None
    net: NetSettings = field(default_factory=NetSettings)
    dane: DaneSettings | None = None
    ldap: tuple[LdapServer, ...] = ()

    @property
    def asks(self) -> bool:
        """Whether any source is switched on."""
        return bool(_makers(self))


def sources_of(settings: DiscoverySettings) -> list[Source]:
    """The sources that are switched on, in their order. Nothing is opened or asked yet."""
    makers = _makers(settings)
    order = dict.fromkeys((*settings.order, *ORDER))
    return [makers[kind]() for kind in order if kind in makers]


def _makers(settings: DiscoverySettings) -> dict[SourceKind, Callable[[], Source]]:
    # Imported where they are made: each library is wanted by few.
    makers: dict[SourceKind, Callable[[], Source]] = {}
    if settings.gnupg:
        makers[SourceKind.GNUPG] = lambda: _gnupg(settings)
    if settings.folder is not None:
        makers[SourceKind.FOLDER] = lambda: _folder(settings)
    if settings.dane is not None:
        makers[SourceKind.DANE] = lambda: _dane(settings)
    if settings.ldap:
        makers[SourceKind.LDAP] = lambda: _ldap(settings)
    return makers


def _gnupg(settings: DiscoverySettings) -> Source:
    from keystore.discovery.local import GnupgRing

    return GnupgRing(Gnupg(settings.gnupg_home))


def _folder(settings: DiscoverySettings) -> Source:
    from keystore.discovery.local import Folder

    assert settings.folder is not None
    return Folder(settings.folder)


def _dane(settings: DiscoverySettings) -> Source:
    from keystore.discovery.dane import Dane

    return Dane(open_net(settings.net).resolver, settings.dane)


def _ldap(settings: DiscoverySettings) -> Source:
    from keystore.discovery.ldap import Ldap

    return Ldap(settings.ldap, open_net(settings.net))
