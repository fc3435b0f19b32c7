"""The real servers and tools that tests use: see docs/testing.md for the list of fixtures."""

from __future__ import annotations

import asyncio
import os
import signal

from hypothesis import settings

from tests.fixtures.loops import TidyPolicy

pytest_plugins = [
    "tests.fixtures.certificates",
    "tests.fixtures.dovecot",
    "tests.fixtures.postfix",
    "tests.fixtures.postgresql",
    "tests.fixtures.postdrop",
    "tests.fixtures.gnupg",
    "tests.fixtures.odd_mail",
    "tests.fixtures.proxy",
    "tests.fixtures.recorder",
    "tests.fixtures.relay",
    "tests.fixtures.scripted",
    "tests.fixtures.clients",
    "tests.fixtures.web",
    "tests.fixtures.x509",
]

# Debian's servers live where the PATH of ordinary users does not look.
os.environ["PATH"] += ":/usr/sbin:/sbin"

# Hundreds of programs start from these sources: they are compiled once, not at every start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A shell has what it starts in the background ignore this, and so would every program that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# In place of the garbage collector, which would complain in another test.
asyncio.set_event_loop_policy(TidyPolicy())

# No limit for one example: how long it takes says more of the machine than of the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
