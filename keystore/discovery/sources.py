"""The sources of a configuration, in its order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
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
    SourceKind.URL,
    SourceKind.LDAP,
    SourceKind.WKD,
    SourceKind.DANE,
    SourceKind.VKS,
    SourceKind.HKPS,
)
"""Those that can be asked, in the order that counts where the owner says nothing.

What asks nobody comes first, then whom the owner of this store chose, then what the owner of an address says
of it, then what others say."""


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
    url: str = ""
    wkd: bool = False
    vks: str = ""
    """The server, as `keyservers.server_url` gives it; "" for none."""
    hkps: str = ""

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
    known: dict[SourceKind, tuple[object, Callable[[DiscoverySettings], Source]]] = {
        SourceKind.GNUPG: (settings.gnupg, _gnupg),
        SourceKind.FOLDER: (settings.folder, _folder),
        SourceKind.URL: (settings.url, _url),
        SourceKind.LDAP: (settings.ldap, _ldap),
        SourceKind.WKD: (settings.wkd, _wkd),
        SourceKind.DANE: (settings.dane, _dane),
        SourceKind.VKS: (settings.vks, _vks),
        SourceKind.HKPS: (settings.hkps, _hkps),
    }
    return {kind: partial(make, settings) for kind, (wanted, make) in known.items() if wanted}


def _gnupg(settings: DiscoverySettings) -> Source:
    from keystore.discovery.local import GnupgRing

    return GnupgRing(Gnupg(settings.gnupg_home, seconds=settings.ladder.seconds))


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


def _url(settings: DiscoverySettings) -> Source:
    from keystore.discovery.keyurl import KeyUrl

    return KeyUrl(open_net(settings.net), settings.url)


def _wkd(settings: DiscoverySettings) -> Source:
    from keystore.discovery.wkd import Wkd

    return Wkd(open_net(settings.net))


def _vks(settings: DiscoverySettings) -> Source:
    from keystore.discovery.keyservers import Vks

    return Vks(open_net(settings.net), settings.vks)


def _hkps(settings: DiscoverySettings) -> Source:
    from keystore.discovery.keyservers import Hkps

    return Hkps(open_net(settings.net), settings.hkps)
