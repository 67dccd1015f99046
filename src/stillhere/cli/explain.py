"""``stillhere explain``: why is she offline?"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click
import msgspec

from stillhere.cli.api import Api, segment, server_options
from stillhere.cli.failure import REFUSED, Failure
from stillhere.cli.output import json_line, safe
from stillhere.cli.recordings import expect, item_line, load, timeline_in
from stillhere.core.explain import explain as explain_timeline
from stillhere.core.words import UserId
from stillhere.wire.frames import ms
from stillhere.wire.timeline import expand, parse_instant


@click.command(short_help="Say why a user is shown as they are.")
@click.argument("user")
@server_options
@click.option("--at", default="", metavar="WHEN", help="At another instant: -5m, 12:03:05.120 (UTC), a date, Unix ms.")
@click.option("--from", "source", type=click.Path(path_type=Path), help="Out of a recording, in place of a server.")
@click.option("--json", "as_json", is_flag=True, help="The answer as a line of JSON.")
def explain(
    user: str, url: str, api_key: str | None, token: str | None, at: str, source: Path | None, as_json: bool
) -> None:
    """Say why a user is shown as they are, or were at an instant, and show the evidence. Times are UTC.

    \b
    Examples:
      stillhere explain alice
      stillhere explain alice --at -5m
      stillhere explain alice --at 2026-11-24T12:03:05Z --from alice.jsonl
    """
    if source is not None:
        answer = _from_recording(user, at, source)
    else:
        api = Api(url, api_key=api_key, token=token)
        query = f"?{urlencode({'at': at})}" if at else ""
        answer = expect(api.get(f"/v1/users/{segment(user)}/explain{query}"), api, "sentence")
    if as_json:
        click.echo(json_line(answer))
        return
    click.echo(safe(str(answer["sentence"])))
    if answer.get("advice"):
        click.echo(safe(str(answer["advice"])))
    evidence = answer.get("evidence") or ()
    if evidence:
        click.echo()
    for item in evidence:
        click.echo("  " + item_line(item, time.time()))


def _from_recording(user: str, at: str, source: Path) -> dict[str, Any]:
    """The same out of a file; "now" is when it was written."""
    recording = load(source)
    entries = timeline_in(recording, source, user)
    now = recording.exported_at
    try:
        found = explain_timeline(UserId(user), entries, parse_instant(at, now), now)
    except ValueError as error:
        raise Failure(f"--at: {error}", status=REFUSED) from None
    return {
        "user": found.user,
        "at": ms(found.at),
        "status": found.status.value,
        "since": None if found.since is None else ms(found.since),
        "rule": found.rule.value,
        "sentence": found.sentence,
        "advice": found.advice,
        "evidence": [msgspec.to_builtins(item) for index, item in expand(entries) if index in found.evidence],
    }
