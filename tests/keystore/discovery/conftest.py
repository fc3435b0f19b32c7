"""Fixtures of this folder."""

from tests.fixtures.gnupg import gnupg_home
from tests.fixtures.keystores import credentials, keystore, make_keystore

__all__ = ["credentials", "gnupg_home", "keystore", "make_keystore"]
