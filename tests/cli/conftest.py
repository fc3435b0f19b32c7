"""Fixtures of this folder."""

from tests.fixtures.discovery import https_place
from tests.fixtures.keycommand import home, key, key_json

__all__ = ["home", "https_place", "key", "key_json"]
