"""The tables of the configuration about system mail: [forward], [[forward.targets]]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from keystore.model import Fingerprint
from secmailproxy.config_values import Address, FingerprintText, Section

if TYPE_CHECKING:
    from secmailproxy.config import Config
    from secmailproxy.forward.model import ForwardSettings


class ForwardTarget(Section):
    """[[forward.targets]]"""

    address: Address
    fingerprint: FingerprintText


class Forward(Section):
    """[forward]"""

    account: Address | None = None
    sender: Address | None = None
    via: Literal["smarthost", "sendmail"] = "smarthost"
    sendmail: str = "/usr/sbin/sendmail"
    targets: tuple[ForwardTarget, ...] = ()

    def value(self, config: Config) -> ForwardSettings:
        """For `secmailproxy.forward`; `config` is the whole configuration that this is part of."""
        from secmailproxy.forward.message import loop_mark
        from secmailproxy.forward.model import ForwardSettings, Target

        pinned: dict[str, list[ForwardTarget]] = {}
        for one in self.targets:
            pinned.setdefault(one.address.lower(), []).append(one)
        account = self.account or (config.accounts[0].address if len(config.accounts) == 1 else "")
        return ForwardSettings(
            targets=tuple(
                Target(ones[0].address, tuple(Fingerprint(one.fingerprint) for one in ones))
                for ones in pinned.values()
            ),
            sender=self.sender or "",
            via=self.via,
            sendmail=self.sendmail,
            account=account,
            mark=loop_mark(config.folders.verdict_token()),
            max_octets=config.submission.max_octets,
        )
