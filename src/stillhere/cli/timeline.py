"""``stillhere timeline``: what happened to users, to look at or to take along."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from stillhere.cli.api import Api, segment, server_options
from stillhere.cli.failure import REFUSED, Failure
from stillhere.cli.output import json_line, safe
from stillhere.cli.recordings import STANDARD, item_line, known_users, load, past_of, timeline_in
from stillhere.core.events import Entry
from stillhere.wire.frames import ms
from stillhere.wire.pseudonyms import Masks, Pseudonyms
from stillhere.wire.recording import BrokenRecording, Header, Recording, read_recording, write_entry, write_header
from stillhere.wire.timeline import parse_instant, read_part


@click.command(short_help="Show or export what happened to users.")
@click.argument("users", nargs=-1, metavar="[USER]...")
@server_options
@click.option("--all", "everybody", is_flag=True, help="Of every user that the server knows.")
@click.option("--after", default="", metavar="WHEN", help="Only what happened after this: -5m, 12:03:05, a date.")
@click.option("--before", default="", metavar="WHEN", help="Only what happened before this.")
@click.option("--from", "source", type=click.Path(path_type=Path), help="Out of a recording, in place of a server.")
@click.option(
    "--export", "target", type=click.Path(path_type=Path), help="Write a recording to this file (- for the output)."
)
@click.option("--pseudonymise", is_flag=True, help="Replace every id in the export, so that it can be shared.")
@click.option(
    "--key", envvar="STILLHERE_PSEUDONYM_KEY", help="For the same pseudonyms next time [STILLHERE_PSEUDONYM_KEY]."
)
@click.option("--json", "as_json", is_flag=True, help="Each item as a line of JSON.")
def timeline(
    users: tuple[str, ...],
    url: str,
    api_key: str | None,
    token: str | None,
    everybody: bool,
    after: str,
    before: str,
    source: Path | None,
    target: Path | None,
    pseudonymise: bool,
    key: str | None,
    as_json: bool,
) -> None:
    """Show what happened to users, oldest first: connections, ends, windows, changes. Times are UTC.

    With --export, write it as JSON lines, which `stillhere replay`, `advise`, `explain --from` and `timeline --from`
    read.

    \b
    Examples:
      stillhere timeline alice --after -1h
      stillhere timeline alice --export alice.jsonl --pseudonymise
      stillhere timeline --all --export everybody.jsonl
    """
    if not users and not everybody:
        raise Failure("name users, or say --all", status=REFUSED)
    if target is not None and (after or before):
        raise Failure("--export takes timelines whole; --after and --before are for looking at them", status=REFUSED)
    if (pseudonymise or key) and target is None:
        raise Failure("--pseudonymise and --key are for --export", status=REFUSED)
    recording = load(source) if source is not None else None
    if recording is None:
        api = Api(url, api_key=api_key, token=token)
        names: Sequence[str] = list(known_users(api)) if everybody else users
        if target is not None:
            _export(_fetch(api, names), target, pseudonymise, key)
            return
        for name in names:
            _show(name, past_of(api, name, after, before), everybody or len(names) > 1, as_json)
        return
    assert source is not None
    names = list(recording.timelines) if everybody else users
    chosen = {name: timeline_in(recording, source, name) for name in names}
    if target is not None:
        recording.timelines = {entries[0].user: list(entries) for entries in chosen.values()}
        _export(recording, target, pseudonymise, key)
        return
    for name, entries in chosen.items():
        _show(name, _items(entries, after, before, recording.exported_at), len(chosen) > 1, as_json)


def _items(entries: Sequence[Entry], after: str, before: str, now: float) -> Iterator[dict[str, Any]]:
    """Out of a recording; times ago are before it was written."""
    try:
        since = ms(parse_instant(after, now)) if after else None
        until = ms(parse_instant(before, now)) if before else None
    except ValueError as error:
        raise Failure(str(error), status=REFUSED) from None
    for item in read_part(entries, after=since, before=until, limit=1 << 30).items:
        yield msgspec.to_builtins(item)


def _show(user: str, items: Iterator[dict[str, Any]], named: bool, as_json: bool) -> None:
    now = time.time()
    for item in items:
        if as_json:
            click.echo(json_line({"user": user, **item}))
        else:
            click.echo((f"{safe(user)}  " if named else "") + item_line(item, now))


def _fetch(api: Api, users: Sequence[str]) -> Recording:
    """The recordings of users, as one."""
    whole = Recording()
    for user in users:
        try:
            found = read_recording(api.get_lines(f"/v1/users/{segment(user)}/timeline/recording"))
        except BrokenRecording as error:
            raise Failure(f"what answers at {api.url} sent a recording that is not right: {error}") from None
        whole.exported_at = max(whole.exported_at, found.exported_at)
        whole.horizon, whole.windows = found.horizon, found.windows
        whole.timelines.update(found.timelines)
    return whole


def _export(recording: Recording, target: Path, pseudonymise: bool, key: str | None) -> None:
    """Write a recording; nobody else may read the file."""
    masks: Masks | None = None
    if pseudonymise:
        masks = Pseudonyms(key.encode() if key else secrets.token_bytes(32))
    header = Header(
        exported_at=recording.exported_at,
        horizon=recording.horizon,
        windows=recording.windows,
        pseudonyms=pseudonymise,
    )
    entries: list[Entry] = [entry for told in recording.timelines.values() for entry in told]
    if masks is not None:
        entries = list(map(masks.entry, entries))
    lines = [write_header(header), *map(write_entry, entries)]
    if str(target) == STANDARD:
        sys.stdout.buffer.write(b"".join(lines))
        return
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.writelines(lines)
    except OSError as error:
        raise Failure(f"{target} cannot be written: {error.strerror}", status=REFUSED) from None
    users = len(recording.timelines)
    click.echo(
        f"stillhere: {recording.entries} entries of {users} user{'' if users == 1 else 's'} in {target}", err=True
    )
