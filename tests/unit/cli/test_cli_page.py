"""``docs/cli.md`` is about the commands that there are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from stillhere.cli.main import COMMANDS, main

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text("utf-8")


def options() -> Iterator[tuple[str, str]]:
    context = click.Context(main)
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        for inner in command.commands.values() if isinstance(command, click.Group) else (command,):
            yield from ((name, parameter.opts[0]) for parameter in inner.params if isinstance(parameter, click.Option))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_section(name: str) -> None:
    assert f"| [`{name}`](#{name}) |" in PAGE and f"\n## {name}\n\n    stillhere {name}" in PAGE


@pytest.mark.parametrize(("name", "option"), sorted(set(options())))
def test_every_option_is_on_the_page(name: str, option: str) -> None:
    assert option in PAGE
