"""``stillhere who``: who is online, as a table."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import click

from stillhere.cli.api import Api, server_options
from stillhere.cli.failure import REFUSED, Failure, until_interrupted
from stillhere.cli.output import ago, json_line, table

SHOWN_ONLINE = ("online", "busy", "away")
QUERY = 1000
"""Users per question, as the API allows."""

PAGE = 1000
_CLEAR = "\x1b[H\x1b[2J"


@click.command(short_help="Show who is online.")
@click.argument("users", nargs=-1, metavar="[USER]...")
@server_options
@click.option("--json", "as_json", is_flag=True, help='One line of JSON: {"users":[…],"complete":…}.')
@click.option("--watch", is_flag=True, help="Ask again and again, until Ctrl-C.")
@click.option("--every", type=click.FloatRange(0.2, 3600), default=2.0, help="Seconds between two questions [2].")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, help="Most users to list [1000].")
def who(
    users: tuple[str, ...],
    url: str,
    api_key: str | None,
    token: str | None,
    as_json: bool,
    watch: bool,
    every: float,
    limit: int,
) -> None:
    """Show who is online, or how the given users are.

    Against `stillhere dev` on this machine no key is needed.

    \b
    Examples:
      stillhere who
      stillhere who alice bob
      stillhere who --watch --url https://presence.example.com
    """
    api = Api(url, api_key=api_key, token=token)
    with until_interrupted():
        while True:
            found, complete, more = ask(api, users) if users else online(api, limit)
            lines = [json_line({"users": found, "complete": complete})] if as_json else shown(found, complete, more)
            if watch and not as_json and sys.stdout.isatty():
                click.echo(_CLEAR, nl=False)
            click.echo("\n".join(lines))
            if not watch:
                return
            time.sleep(every)


def ask(api: Api, users: tuple[str, ...]) -> tuple[list[dict[str, Any]], bool, bool]:
    """How these users are, whether all is known of them, and False."""
    found: list[dict[str, Any]] = []
    complete = True
    for start in range(0, len(users), QUERY):
        answer = _expect(api.post("/v1/users/query", {"users": users[start : start + QUERY]}), api)
        found += answer["users"]
        complete = complete and bool(answer.get("complete", True))
    return found, complete, False


def online(api: Api, limit: int) -> tuple[list[dict[str, Any]], bool, bool]:
    """Whoever is not offline, by name; whether all is known; and whether there are more than ``limit``."""
    found: list[dict[str, Any]] = []
    complete = True
    for status in SHOWN_ONLINE:
        for answer in _pages(api, status, limit + 1):
            found += answer["users"]
            complete = complete and bool(answer.get("complete", True))
    found.sort(key=lambda user: str(user.get("user")))
    return found[:limit], complete, len(found) > limit


def shown(users: list[dict[str, Any]], complete: bool, more: bool) -> list[str]:
    """The table and what is to be said below it."""
    now = time.time()
    if not users:
        lines = ["nobody is online"]
    else:
        rows = [
            (
                str(user.get("user")),
                str(user.get("status")),
                ago(user.get("changedAt") or None, now),
                ago(user.get("lastSeenAt"), now),
                str(user["devices"]) if user.get("devices") is not None else "",
            )
            for user in users
        ]
        lines = table(("USER", "STATUS", "SINCE", "LAST SEEN", "DEVICES"), rows)
    if more:
        lines.append("… and more; --limit lists more")
    if not complete:
        lines.append("the server's store is out of reach: what it cannot tell is shown as unknown")
    return lines


def _pages(api: Api, status: str, most: int) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    while most > 0:
        query = {"status": status, "limit": min(PAGE, most)} | ({"cursor": cursor} if cursor else {})
        answer = _expect(api.get(f"/v1/users?{urlencode(query)}"), api)
        yield answer
        most -= len(answer["users"])
        cursor = answer.get("cursor")
        if not cursor or not answer["users"]:
            return


def _expect(answer: Any, api: Api) -> dict[str, Any]:
    if not isinstance(answer, dict) or not isinstance(answer.get("users"), list):
        raise Failure(f"what answers at {api.url} is no Stillhere server: its answer has no users", status=REFUSED)
    return answer
