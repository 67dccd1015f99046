"""Options that several commands share, and the settings that come of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from stillhere.cli.failure import REFUSED, Failure
from stillhere.server.settings import Settings, SettingsError, read_settings


def settings_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add ``--config`` and ``--set`` to a command, which gets ``config`` and ``assignments``."""
    for option in (
        click.option(
            "--set",
            "assignments",
            metavar="SECTION.KEY=VALUE",
            multiple=True,
            callback=_assignments,
            help="One setting, written as in the environment (lists as JSON). Wins over all others. Repeatable.",
        ),
        click.option(
            "--config",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="A TOML file; docs/settings.md lists its keys.",
        ),
    ):
        command = option(command)
    return command


def load(
    config: Path | None, flags: Mapping[str, object], environ: Mapping[str, str] = os.environ
) -> tuple[Settings, dict[str, str]]:
    """Read the settings.

    Args:
        config: a TOML file.
        flags: what the command line sets.
        environ: the environment.

    Returns:
        The settings, and for each key that was set where.

    Raises:
        Failure: with every problem, and status 2.
    """
    try:
        return read_settings(config, environ, flags)
    except SettingsError as error:
        raise Failure(*error.problems, status=REFUSED) from None


def _assignments(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            # the text may be a secret that lost its key
            raise click.BadParameter("it must be like grace.going_away=12000: a key, =, and a value")
        found[key.strip()] = value
    return found
