"""``stillhere tail``: every change that watchers can see, a line each."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

import click
import msgspec

from stillhere.cli.api import Answered, Api, NoAnswer, server_options
from stillhere.cli.failure import until_interrupted
from stillhere.cli.output import clock, json_line, safe

FIRST_WAIT = 0.25
LONGEST_WAIT = 10.0
"""Seconds before the connection is tried again: doubled each time, between these two, with jitter."""


NOTICES = {
    "gap": "the server's log no longer reaches back to where we were: changes were missed",
    "bye": "the server ends the stream: it is stopping, or the token expired",
}
"""Events that are about the stream itself."""


class Sent(NamedTuple):
    """One server-sent event."""

    id: str | None
    """The last ``id:``, in this event or before it."""
    event: str
    data: str


@click.command(short_help="Follow every change.")
@click.argument("user", required=False)
@server_options
@click.option("--json", "as_json", is_flag=True, help="Each change as it came, one line of JSON.")
@click.option("--after", metavar="CURSOR", help="Begin after this place of the log (an `id` of an earlier event).")
def tail(user: str | None, url: str, api_key: str | None, token: str | None, as_json: bool, after: str | None) -> None:
    """Follow every change that watchers can see, or those of one user; until Ctrl-C.

    A lost connection is taken up again where it ended: nothing is missed that the server still has. Against
    `stillhere dev` on this machine no key is needed.

    \b
    Examples:
      stillhere tail
      stillhere tail alice --json
    """
    api = Api(url, api_key=api_key, token=token)
    with until_interrupted():
        for sent in follow(api, user, after):
            if sent.event in NOTICES:
                click.echo(f"stillhere: {NOTICES[sent.event]}", err=True)
            if sent.data and (as_json or sent.event not in NOTICES):
                click.echo(line(sent, as_json=as_json))


def follow(api: Api, user: str | None, after: str | None) -> Iterator[Sent]:
    """All events, or those of one user, across lost connections.

    Raises:
        Failure: the server refuses, or does not answer the first time.
    """
    path = "/v1/events" + (f"?{urlencode({'user': user})}" if user is not None else "")
    answered = False
    wait = FIRST_WAIT
    while True:
        try:
            with api.stream(path, {"Last-Event-ID": after} if after else {}) as lines:
                click.echo(f"stillhere: following {safe(api.url)}{' again' if answered else ''}", err=True)
                answered, wait = True, FIRST_WAIT
                for sent in parse(lines):
                    after = sent.id or after
                    yield sent
        except (NoAnswer, Answered) as error:
            passing = isinstance(error, NoAnswer) or error.http_status >= 500
            if not answered or not passing:
                raise
        click.echo(f"stillhere: the connection to {safe(api.url)} was lost; trying again", err=True)
        time.sleep(wait * random.uniform(0.5, 1.0))
        wait = min(2 * wait, LONGEST_WAIT)


def parse(lines: Iterable[str]) -> Iterator[Sent]:
    """Events out of the lines of a stream, as the HTML standard has it (section 9.2.6).

    One that has an ``id`` and no data is given too: a heartbeat that says how far the reader has come.
    """
    last: str | None = None
    event, moved = "", False
    data: list[str] = []
    for text in lines:
        if not text:
            if data or moved:
                yield Sent(last, event or "message", "\n".join(data))
            event, moved, data = "", False, []
            continue
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name == "id" and "\0" not in value:
            last, moved = value, True
        elif name == "event":
            event = value
        elif name == "data":
            data.append(value)


def line(sent: Sent, *, as_json: bool) -> str:
    """An event as a line: as it came, or time, user, what, why, version."""
    try:
        body = msgspec.json.decode(sent.data, type=dict[str, Any])
    except msgspec.DecodeError:
        return safe(f"{sent.event}  {sent.data}")
    if as_json:
        return json_line({"id": sent.id, "event": sent.event, **body})
    at = body.get("at")
    parts = [clock(at) if isinstance(at, int) else "", str(body.get("user", "")), str(body.get("change", sent.event))]
    state = body.get("presence") or body.get("member")
    told = {**body, "status": state.get("status") if isinstance(state, dict) else None}
    parts += [f"{name}={told[name]}" for name in ("room", "status", "cause", "version") if told.get(name) is not None]
    return "  ".join(safe(part) for part in parts if part)
