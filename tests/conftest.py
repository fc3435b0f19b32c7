"""The real servers and tools that tests use: see docs/testing.md for the list of fixtures."""

from __future__ import annotations

pytest_plugins = [
    "tests.fixtures.certificates",
    "tests.fixtures.dovecot",
    "tests.fixtures.postfix",
    "tests.fixtures.gnupg",
]
