"""A connection with a PostgreSQL server that is given up when the server falls silent.

The timeouts of TCP do not help: the system of a machine whose server is stuck goes on to answer for it.
"""

from __future__ import annotations

import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen

ANSWER_SECONDS = 25.0
"""How long a server may say nothing in the middle of something; for locks it waits less itself."""
Result = TypeVar("Result")


class ImpatientConnection(psycopg.Connection[tuple[Any, ...]]):
    """Safe for one thread at a time."""

    def wait(self, gen: PQGen[Result], *args: Any, **words: Any) -> Result:
        """As in psycopg; closed, with OperationalError, after `ANSWER_SECONDS` of silence."""
        return super().wait(self._impatient(gen), *args, **words)

    def _impatient(self, gen: PQGen[Result]) -> PQGen[Result]:
        heard = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    heard = time.monotonic()
                elif time.monotonic() - heard > ANSWER_SECONDS:
                    self.pgconn.finish()
                    raise psycopg.OperationalError("it does not answer")
                wanted = gen.send(ready)
        except StopIteration as done:
            found: Result = done.value
            return found
