"""``stillhere``: one command a file, loaded when it is called for."""

from __future__ import annotations

import importlib

import click

import stillhere

COMMANDS = {
    "serve": "stillhere.cli.serve:serve",
    "dev": "stillhere.cli.dev:dev",
    "who": "stillhere.cli.who:who",
    "tail": "stillhere.cli.tail:tail",
    "explain": "stillhere.cli.explain:explain",
    "timeline": "stillhere.cli.timeline:timeline",
    "replay": "stillhere.cli.replay:replay",
    "advise": "stillhere.cli.replay:advise",
    "token": "stillhere.cli.token:token",
    "config": "stillhere.cli.config:config",
    "webhooks": "stillhere.cli.webhooks:webhooks",
    "bench": "stillhere.cli.bench:bench",
}
"""Name to module and object; ``who`` should not wait for a web server to be imported."""


class Commands(click.Group):
    """Loads the command that is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them, in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(stillhere.__version__, "--version", "-V", prog_name="stillhere")
def main() -> None:
    """Stillhere: who is online, across tabs, devices and nodes.

    \b
    A trial on this machine, with a demo page:   stillhere dev
    Who is online there:                         stillhere who
    Every change, as it happens:                 stillhere tail
    Why is she offline?                          stillhere explain alice
    A server:                                    stillhere serve --config stillhere.toml
    """
