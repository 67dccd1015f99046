"""``stillhere config``: whether the settings are right, and what is in force."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from stillhere.cli.failure import REFUSED, Failure
from stillhere.cli.options import load, settings_options
from stillhere.cli.output import escaped, json_line, safe
from stillhere.server.settings import SettingsError, redacted, require_auth


@click.group(short_help="Check or show the settings.")
def config() -> None:
    """Check or show the settings: from a file, the environment and --set, as `stillhere serve` would read them."""


@config.command()
@settings_options
def check(config: Path | None, assignments: dict[str, str]) -> None:
    """Say ok, or name every problem and end with status 2."""
    settings, _ = load(config, assignments)
    try:
        require_auth(settings)
    except SettingsError as error:
        raise Failure(*error.problems, status=REFUSED) from None
    click.echo("ok")


@config.command()
@settings_options
@click.option("--json", "as_json", is_flag=True, help='As one line of JSON: {"settings":{…},"sources":{…}}.')
def show(config: Path | None, assignments: dict[str, str], as_json: bool) -> None:
    """Print what is in force, secrets as ***, and where each value that was set came from."""
    settings, sources = load(config, assignments)
    shown = redacted(settings)
    if as_json:
        click.echo(json_line({"settings": shown, "sources": sources}))
    else:
        click.echo("\n".join(as_toml(shown, sources)))


def as_toml(settings: Mapping[str, Any], sources: Mapping[str, str]) -> Iterator[str]:
    """Lines of TOML; of a key that is unset, a comment."""
    plain = {key: value for key, value in settings.items() if not isinstance(value, dict)}
    for key, value in plain.items():
        yield _line(key, value, sources.get(key))
    for section, values in settings.items():
        if isinstance(values, dict):
            yield ""
            yield f"[{section}]"
            for name, value in values.items():
                yield _line(name, value, sources.get(f"{section}.{name}"))


def _line(name: str, value: Any, source: str | None) -> str:
    where = f"  # {safe(source)}" if source else ""
    return f"# {name} is unset" if value is None else f"{name} = {toml(value)}{where}"


def toml(value: Any) -> str:
    """A plain value in TOML."""
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {toml(item)}" for key, item in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    # a JSON string is a TOML string, and so are numbers and booleans
    return escaped(msgspec.json.encode(value).decode())
