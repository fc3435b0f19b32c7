"""How far long work is: a bar on standard error, where that is a terminal, and nothing anywhere else."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

import click

if TYPE_CHECKING:
    from click._termui_impl import ProgressBar


class Progress:
    """Called with what is done and what there is in all; use it as a context, or call `end`."""

    def __init__(self, label: str, *, least: int = 1, stream: TextIO | None = None) -> None:
        """What is less than `least` in all is done before anybody has read a bar."""
        self._label, self._least = label, least
        self._stream = stream or sys.stderr
        self._bar: ProgressBar[int] | None = None

    def __call__(self, done: int, total: int) -> None:
        """Show it."""
        if total < self._least or not self._stream.isatty():
            return
        if self._bar is None:
            self._bar = click.progressbar(length=total, label=self._label, file=self._stream, show_pos=True)
            self._bar.render_progress()
        self._bar.update(done - self._bar.pos)

    def end(self) -> None:
        """Leave the line, so that what is printed next has one of its own."""
        if self._bar is not None:
            self._bar.render_finish()
            self._bar = None

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it, however the work ended."""
        self.end()
