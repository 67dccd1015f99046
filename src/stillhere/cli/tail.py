"""``stillhere tail``: every change that watchers can see, a line each; of one user also what is recorded already."""

from __future__ import annotations

import random
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode

import click
import msgspec

from stillhere.cli.api import Answered, Api, NoAnswer, server_options
from stillhere.cli.failure import REFUSED, Failure, until_interrupted
from stillhere.cli.output import clock, json_line, safe
from stillhere.cli.recordings import item_text, past_of
from stillhere.wire.timeline import parse_instant

_SPAN = re.compile(r"\d+(\.\d+)?(ms|s|m|h|d)")
"""How long ago, without the sign that :func:`parse_instant` wants."""

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
@click.option(
    "--since", default="", metavar="WHEN", help="First what is recorded of the user since then: 10m, 12:03:05, a date."
)
@click.option("--last", type=click.IntRange(min=1), metavar="N", help="First the N newest entries of the user.")
def tail(
    user: str | None,
    url: str,
    api_key: str | None,
    token: str | None,
    as_json: bool,
    after: str | None,
    since: str,
    last: int | None,
) -> None:
    """Follow every change that watchers can see, or those of one user; until Ctrl-C.

    With --since or --last, the entries of the user's timeline come first: connections, ends, windows and changes.

    A lost connection is taken up again where it ended: nothing is missed that the server still has. Against
    `stillhere dev` on this machine no key is needed.

    \b
    Examples:
      stillhere tail
      stillhere tail alice --json
      stillhere tail alice --since 10m
      stillhere tail alice --last 20
    """
    since = checked_since(since, time.time())
    past = bool(since) or last is not None
    if past and user is None:
        raise Failure("--since and --last tell the timeline of one user: name one", status=REFUSED)
    if past and after is not None:
        raise Failure("--after is a place of the log, --since and --last are of the timeline: give one", status=REFUSED)
    api = Api(url, api_key=api_key, token=token)
    seen: set[int] = set()
    with until_interrupted():
        for sent in follow(api, user, after):
            if past and user is not None:
                # The stream stands: what happens from now on is in it, and what it repeats of the past is known.
                past = False
                seen = _tell_past(user, deque(past_of(api, user, since), last), as_json)
            if seen and sent.data and sent.event not in NOTICES:
                if _version(sent) in seen:
                    continue
                seen = set()  # only the first events can be in both
            if sent.event in NOTICES:
                click.echo(f"stillhere: {NOTICES[sent.event]}", err=True)
            if sent.data and (as_json or sent.event not in NOTICES):
                click.echo(line(sent, as_json=as_json))


def checked_since(text: str, now: float) -> str:
    """The beginning of the past, as the server takes it; ``10m`` is ten minutes ago, like ``-10m``.

    Args:
        text: as it was given; nothing for no beginning.
        now: Unix seconds.

    Raises:
        Failure: it is no instant.
    """
    text = text.strip()
    if _SPAN.fullmatch(text):
        text = f"-{text}"
    if text:
        try:
            parse_instant(text, now)
        except ValueError as error:
            raise Failure(f"--since: {error}", status=REFUSED) from None
    return text


def _tell_past(user: str, items: Iterable[dict[str, Any]], as_json: bool) -> set[int]:
    """Print entries of a timeline; the versions of the changes among them."""
    versions: set[int] = set()
    for item in items:
        click.echo(past_line(user, item, as_json=as_json))
        if isinstance(version := item.get("version"), int):
            versions.add(version)
    return versions


def _version(sent: Sent) -> int | None:
    try:
        version = msgspec.json.decode(sent.data, type=dict[str, Any]).get("version")
    except msgspec.DecodeError:
        return None
    return version if isinstance(version, int) else None


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


def past_line(user: str, item: dict[str, Any], *, as_json: bool) -> str:
    """An entry of a timeline as a line, beside those of :func:`line`."""
    if as_json:
        return json_line({"event": "timeline", "user": user, **item})
    return "  ".join((clock(item["at"]), safe(user), item_text(item, clock)))


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
