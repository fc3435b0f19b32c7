"""Which rule speaks for a message, and what it asks for. PURE.

Rules are read from the top. The first that holds speaks; one that goes on (`continue = true`) adds its
actions and lets the rules below speak too, as `:0 c` does in procmail. Of what no rule speaks, all goes
encrypted to the target: nothing is lost because nobody thought of it.
"""

from __future__ import annotations

from secmailproxy.forward.model import Action, Disposition, ForwardSettings, SystemMail


def decide(mail: SystemMail, settings: ForwardSettings) -> Disposition:
    """What is to be done with `mail`: at least one action, always."""
    actions: list[Action] = []
    return Disposition("", (*actions, settings.default))
