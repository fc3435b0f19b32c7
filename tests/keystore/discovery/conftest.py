"""Fixtures of this folder."""

from tests.fixtures.keystores import credentials, keystore, make_keystore

__all__ = ["credentials", "keystore", "make_keystore"]
