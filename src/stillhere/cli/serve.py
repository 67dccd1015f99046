"""``stillhere serve``: a server."""

from __future__ import annotations

from pathlib import Path

import click

from stillhere.cli.failure import REFUSED, Failure
from stillhere.cli.options import load, settings_options
from stillhere.server.settings import SettingsError, require_auth


@click.command(short_help="Run a server.")
@settings_options
@click.option("--host", help="Where to listen (server.host).")
@click.option("--port", type=int, help="Where to listen (server.port); 0 takes any free port.")
@click.option("--websocket", help="What carries WebSockets: picows or asgi (server.websocket).")
def serve(
    config: Path | None, assignments: dict[str, str], host: str | None, port: int | None, websocket: str | None
) -> None:
    """Run a server.

    Settings come from a TOML file, then the environment (STILLHERE_SERVER__PORT=…), then these flags; later ones win.
    One of auth.secret, auth.jwks_url and auth.jwks_file is needed.

    SIGTERM or Ctrl-C moves all clients away over server.drain_s seconds and ends with status 0; a second one ends it
    at once. What cannot work ends it with status 2 and a sentence for each problem.

    \b
    Examples:
      stillhere serve --config stillhere.toml
      STILLHERE_AUTH__SECRET_FILE=/run/secrets/stillhere stillhere serve --host 0.0.0.0
      stillhere serve --set store.url=memory: --set grace.going_away=12000
    """
    named = {"server.host": host, "server.port": port, "server.websocket": websocket}
    settings, _ = load(config, {**assignments, **{key: value for key, value in named.items() if value is not None}})
    try:
        require_auth(settings)
    except SettingsError as error:
        raise Failure(*error.problems, status=REFUSED) from None
    from stillhere.cli.running import run  # after the settings: a mistake in them should be told at once

    run(settings)
