"""``stillhere dev``: a server for a trial on this machine, with a demo page and no passwords."""

from __future__ import annotations

import os
import secrets
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stillhere.cli.failure import REFUSED, Failure
from stillhere.cli.options import load, settings_options
from stillhere.server.secrets import Secret
from stillhere.server.settings import SettingsError, require_loopback

if TYPE_CHECKING:
    from stillhere.server.node import Node
    from stillhere.transport.serve import Server


DEFAULTS: dict[str, object] = {"server.log_format": "pretty", "server.drain_s": 1}
"""What is different here where nobody says otherwise: a person reads the log, and waits after Ctrl-C."""


@click.command(short_help="Try it: a server with a demo page, on this machine only.")
@settings_options
@click.option("--port", type=int, default=7400, help="Where to listen [7400]; 0 takes any free port.")
@click.option("--host", default="127.0.0.1", help="A loopback address [127.0.0.1].")
@click.option("--store", default="memory:", metavar="URL", help="Where presence is kept [memory:, gone at the end].")
@click.option("--open", "open_page", is_flag=True, help="Open the demo page in a browser.")
def dev(config: Path | None, assignments: dict[str, str], port: int, host: str, store: str, open_page: bool) -> None:
    """Run a server for a trial: anybody on this machine may log in as anybody.

    It makes up a new secret at each start, and listens on loopback only. Settings of the environment and of --config
    hold, but those of [auth] and what the options below say.

    \b
    Examples:
      stillhere dev --open
      stillhere dev --port 7500 --set grace.going_away=2000
      stillhere dev --store sqlite:///trial.db
    """
    secret = secrets.token_urlsafe(48)
    flags: dict[str, object] = {
        "delivery.loopback": True,  # an endpoint to try with runs on this machine
        **assignments,
        "server.host": host,
        "server.port": port,
        "store.url": store,
        "auth.secret": secret,
    }
    # A real secret or issuer must not be at work where anybody is let in as anybody.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STILLHERE_AUTH__")}
    _, sources = load(config, flags, environ)
    settings, _ = load(config, {**flags, **{key: DEFAULTS[key] for key in DEFAULTS if key not in sources}}, environ)
    try:
        require_loopback(settings)
    except SettingsError as error:
        raise Failure(*error.problems, status=REFUSED) from None
    from stillhere.cli.running import run
    from stillhere.http.app import DevMode

    def started(server: Server, node: Node) -> None:
        from stillhere.cli.running import address

        url = address(server)
        click.echo("\n".join(greeting(url, store, node.name, pages=pages_are_built())))
        if open_page:
            webbrowser.open(url)

    own = [key for key in DEFAULTS if key not in sources] + [k for k, v in flags.items() if assignments.get(k) != v]
    run(
        settings,
        dev=DevMode(Secret(secret)),
        started=started,
        sources={**sources, **dict.fromkeys(own, "stillhere dev")},
    )


def greeting(url: str, store: str, node: str, *, pages: bool) -> list[str]:
    """What a newcomer needs to know, in lines."""
    where = "" if url == "http://127.0.0.1:7400" else f" --url {url}"
    demo = f"{url}/" if pages else "not built; `make pages` in a checkout builds the pages (it needs Node 20 or newer)"
    return [
        "",
        "  Stillhere runs, for a trial on this machine: anybody may log in as anybody.",
        "",
        f"  Demo       {demo}",
        f"  API        {url}/docs",
        f"  WebSocket  {url.replace('http', 'ws', 1)}/ws",
        f"  Who        stillhere who --watch{where}",
        f"  Changes    stillhere tail{where}",
        f"  Store      {store}",
        f"  Node       {node}",
        "",
        "  Open the demo in two windows, as two people, and reload one of them. Ctrl-C ends the server.",
        "",
    ]


def pages_are_built() -> bool:
    """Whether the package carries its web pages."""
    from stillhere.http.pages import FOLDER

    return (FOLDER / "index.html").is_file()
