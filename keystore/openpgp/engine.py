"""The one way to call the engine: whatever goes wrong inside becomes `EngineRefused`, without its text.

The engine's texts differ by version and quote internals ("assertion failed ..."), and its panics are no
`Exception`s; neither may reach a log, a reply or a client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class EngineRefused(Exception):
    """The engine could not do what it was asked."""


def ask(question: Callable[[], T]) -> T:
    """Call `question` and return its answer. Raises EngineRefused."""
    try:
        return question()
    except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException:  # noqa: BLE001 - a panic of the engine derives from BaseException
        raise EngineRefused("the OpenPGP engine refused") from None


def holds(question: Callable[[], object]) -> bool:
    """Whether `question` goes through: the engine's way to say that a signature is right."""
    try:
        ask(question)
    except EngineRefused:
        return False
    return True
