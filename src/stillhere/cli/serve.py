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
@click.option("--workers", type=int, help="How many processes share the port (server.workers); needs a Redis store.")
@click.option("--websocket", help="What carries WebSockets: native or asgi (server.websocket).")
def serve(
    config: Path | None,
    assignments: dict[str, str],
    host: str | None,
    port: int | None,
    workers: int | None,
    websocket: str | None,
) -> None:
    """Run a server.

    Settings come from a TOML file, then the environment (STILLHERE_SERVER__PORT=…), then these flags; later ones win.
    One of auth.secret, auth.jwks_url and auth.jwks_file is needed.

    SIGTERM or Ctrl-C moves all clients away over server.drain_s seconds and ends with status 0; a second one ends it
    at once. What cannot work ends it with status 2 and a sentence for each problem.

    With --workers N, N processes share the port, each a node of its own (NODE-1, NODE-2 and so on) on one Redis or
    Valkey; a parent starts them again when they end. Limits are those of each worker.

    \b
    Examples:
      stillhere serve --config stillhere.toml
      STILLHERE_AUTH__SECRET_FILE=/run/secrets/stillhere stillhere serve --host 0.0.0.0
      stillhere serve --set store.url=memory: --set grace.going_away=12000
      stillhere serve --workers 4 --set store.url=redis://10.0.0.5:6379/0
    """
    named = {"server.host": host, "server.port": port, "server.workers": workers, "server.websocket": websocket}
    given = {**assignments, **{key: value for key, value in named.items() if value is not None}}
    settings, sources = load(config, given)
    try:
        require_auth(settings)
    except SettingsError as error:
        raise Failure(*error.problems, status=REFUSED) from None
    # after the settings: a mistake in them should be told at once
    if settings.server.workers > 1:
        from stillhere.cli.serve_workers import run_workers

        run_workers(settings, sources)
    else:
        from stillhere.cli.running import run

        run(settings, sources=sources)
