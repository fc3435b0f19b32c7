"""`secmailproxy completion`: what makes bash, zsh and fish complete its words."""

from __future__ import annotations

import click

from secmailproxy.cli.completing import VARIABLE


@click.command(short_help="Print what makes a shell complete words.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete commands, options, addresses and fingerprints.

    Put it where the shell looks for it, or into its start file:

    \b
    bash   secmailproxy completion bash > ~/.local/share/bash-completion/completions/secmailproxy
    zsh    eval "$(secmailproxy completion zsh)", after compinit, in ~/.zshrc
    fish   secmailproxy completion fish > ~/.config/fish/completions/secmailproxy.fish

    Nothing is asked for to complete a word: where a passphrase would be needed, there is none to offer.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "a choice that click knows"
    click.echo(kind(context.find_root().command, {}, "secmailproxy", VARIABLE).source())
