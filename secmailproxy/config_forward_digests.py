"""The table [[forward.digests]] of the configuration, and what it says of the heartbeat."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, model_validator

from secmailproxy.config_values import Address, LocatedError, Octets, Section

if TYPE_CHECKING:
    from secmailproxy.forward.schedule import DigestPlan, Schedule

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_DEFAULT_TIMES = {"daily": "07:00", "hourly": ":00"}


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f"{value!r} is no name; write 1 to 40 small letters, digits and hyphens")
    return value


def _zone(value: str) -> str:
    if value:
        from secmailproxy.forward.digests import local_zone  # only wanted where one is named

        local_zone(value)
    return value


DigestName = Annotated[str, AfterValidator(_name)]
Zone = Annotated[str, AfterValidator(_zone)]


def schedule_of(every: str, at: str | None) -> Schedule:
    """Raises ValueError that says what to write."""
    from secmailproxy.forward.schedule import Schedule

    return Schedule.of(every, _DEFAULT_TIMES[every] if at is None else at)


class ForwardDigest(Section):
    """[[forward.digests]]"""

    name: DigestName
    every: Literal["hourly", "daily"] = "daily"
    at: str | None = None
    rcpt_tos: tuple[Address, ...] = ()
    max_octets: Octets = 8 * 1024 * 1024

    @model_validator(mode="after")
    def _in_time(self) -> ForwardDigest:
        try:
            schedule_of(self.every, self.at)
        except ValueError as error:
            raise LocatedError(str(error), "at") from None
        return self

    def value(self) -> DigestPlan:
        """For `secmailproxy.forward.digests`."""
        from secmailproxy.forward.schedule import DigestPlan

        return DigestPlan(self.name, schedule_of(self.every, self.at), self.rcpt_tos, self.max_octets)
