"""``stillhere token``: a token from the configured secret."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import msgspec

from stillhere.cli.failure import REFUSED, Failure
from stillhere.cli.options import load, settings_options
from stillhere.server.auth import Authenticator, AuthError, mint
from stillhere.server.settings import AuthSettings


@click.command(short_help="Make a token from the configured secret.")
@settings_options
@click.option("--sub", required=True, metavar="USER", help="The user whom the token speaks for.")
@click.option("--scope", multiple=True, help="What it opens beside the WebSocket: read or admin. Repeatable.")
@click.option("--ttl", type=click.FloatRange(1, 366 * 86_400), default=3600.0, help="Seconds until it expires [3600].")
@click.option(
    "--watch", multiple=True, metavar="PATTERN", help='Whom the user may watch: an id, prefix:*, or "*". Repeatable.'
)
@click.option("--rooms", multiple=True, metavar="PATTERN", help="Which rooms the user may join; the same. Repeatable.")
@click.option("--sid", metavar="SESSION", help="The session; made by the server if left out.")
@click.option("--info", metavar="JSON", help="A public object, shown to watchers.")
def token(
    config: Path | None,
    assignments: dict[str, str],
    sub: str,
    scope: tuple[str, ...],
    ttl: float,
    watch: tuple[str, ...],
    rooms: tuple[str, ...],
    sid: str | None,
    info: str | None,
) -> None:
    """Print a token for a user, made from auth.secret as the server has it.

    \b
    Examples:
      stillhere token --sub alice --watch '*' --rooms 'team:*'
      stillhere token --sub ops --scope admin --ttl 600
    """
    settings, _ = load(config, assignments)
    auth = settings.auth
    if auth.secret is None:
        raise Failure(
            "auth.secret is not set, and a made-up one would open nothing: give the server's own with --config, "
            "STILLHERE_AUTH__SECRET or STILLHERE_AUTH__SECRET_FILE. (`stillhere dev` hands out tokens itself)",
            status=REFUSED,
        )
    now = time.time()
    made = mint(
        auth.secret,
        sub,
        now=now,
        ttl=ttl,
        algorithm=_algorithm(auth),
        sid=sid,
        info=_info(info),
        watch=_patterns(watch),
        rooms=_patterns(rooms),
        scope=" ".join(scope) or None,
        audience=auth.audience,
        issuer=auth.issuer,
    )
    try:  # what we print must be good for the server that has these settings
        Authenticator(
            secret=auth.secret,
            algorithms=(_algorithm(auth),),
            audience=auth.audience,
            issuer=auth.issuer,
            info_bytes=settings.limits.info_bytes,
        ).verify(made, now)
    except AuthError as error:
        raise Failure(f"the server would refuse it: {error}", status=REFUSED) from None
    click.echo(made)


def _algorithm(auth: AuthSettings) -> str:
    for name in auth.accepted_algorithms:
        if name.startswith("HS"):
            return name
    raise Failure(
        f"auth.algorithms is {', '.join(auth.accepted_algorithms)}: no token made from a secret is accepted",
        status=REFUSED,
    )


def _patterns(given: tuple[str, ...]) -> str | list[str] | None:
    return "*" if "*" in given else list(given) or None


def _info(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise Failure(
            f'--info is {text[:80]!r}; it must be a JSON object, like {{"name":"Alice"}} ({error})', status=REFUSED
        ) from None
    return value
