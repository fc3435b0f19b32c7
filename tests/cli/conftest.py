"""Fixtures of this folder."""

from tests.fixtures.discovery import https_place

__all__ = ["https_place"]
