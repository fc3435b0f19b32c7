"""[autocrypt]: what is kept of what mail says by Autocrypt (docs/configuration.md)."""

from __future__ import annotations

from secmailproxy.config_values import Section, Switch


class AutocryptSection(Section):
    """[autocrypt]"""

    harvest: Switch = True
    gossip: Switch = True
