"""Fixtures of this folder."""

from tests.fixtures.discovery import https_place, nameserver

__all__ = ["https_place", "nameserver"]
