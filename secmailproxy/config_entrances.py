"""The tables of the configuration about where system mail comes in: [forward.listen], [[forward.watch]]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from secmailproxy.config_values import Address, ListenAddress, Pattern, Place, Section, Switch

if TYPE_CHECKING:
    from secmailproxy.errands.watch import WatchSettings


class ForwardListen(Section):
    """[forward.listen]"""

    smtp: Place | None = None
    lmtp: Place | None = None
    recipients: tuple[Pattern, ...] = ()
    everyone: Switch = False

    @model_validator(mode="after")
    def _closed(self) -> ForwardListen:
        is_open = self.everyone or any(not one.is_path for one in self.addresses.values())
        if "*" in self.recipients and is_open:
            raise ValueError(
                'recipients = ["*"] takes mail for anybody, from every program that can connect; listen on a '
                "Unix socket without everyone for that, or name the recipients, such as @host.example.org"
            )
        if self.everyone and not any(one.is_path for one in self.addresses.values()):
            raise ValueError(
                "everyone opens Unix sockets to all users of the machine; there is none: let smtp be a path"
            )
        return self

    @property
    def addresses(self) -> dict[str, ListenAddress]:
        """The listeners there are, by the name of their option."""
        named = {"smtp": self.smtp, "lmtp": self.lmtp}
        return {name: address for name, address in named.items() if address is not None}


class ForwardWatch(Section):
    """[[forward.watch]]"""

    account: Address
    mailbox: Annotated[str, Field(min_length=1)] = "INBOX"
    after: Literal["keep", "move", "delete"] = "keep"
    move_to: str = ""
    poll_seconds: Annotated[int, Field(strict=True, ge=5, le=86400)] = 60

    @model_validator(mode="after")
    def _consistent(self) -> ForwardWatch:
        if (self.after == "move") != bool(self.move_to):
            raise ValueError('after = "move" needs move_to, the name of a mailbox; the others have none')
        if self.after == "move" and self.move_to == self.mailbox:
            raise ValueError("move_to is the mailbox that is watched; name another one")
        return self

    def value(self) -> WatchSettings:
        """For `secmailproxy.errands.watch.Watch`."""
        from secmailproxy.errands.watch import After, WatchSettings

        return WatchSettings(
            self.account, self.mailbox, After(self.after), self.move_to, float(self.poll_seconds)
        )
