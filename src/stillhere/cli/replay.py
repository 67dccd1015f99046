"""``stillhere replay`` and ``stillhere advise``: what other grace windows would have led to. They change nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from stillhere.cli.failure import REFUSED, Failure
from stillhere.cli.output import json_line, safe, table
from stillhere.cli.recordings import load
from stillhere.core.events import Transition
from stillhere.core.grace import GRACE_MAX, PROFILES
from stillhere.core.phrases import instant, length
from stillhere.core.quality import Comparison, Curve, Figures, Point, compare, curves
from stillhere.core.replay import Run
from stillhere.core.words import FINAL_CAUSES, Cause
from stillhere.wire.frames import ms

_SHOWN = 20
"""Differences that are listed unless all are asked for."""


@click.command(short_help="Run a recording under other grace windows.")
@click.argument("log", type=click.Path(path_type=Path))
@click.option(
    "--grace", "windows", multiple=True, metavar="CAUSE=MS", help="A window in place of the recorded ones. Repeatable."
)
@click.option("--profile", type=click.Choice(sorted(PROFILES)), help="The windows of a profile; --grace wins over it.")
@click.option("--changes", is_flag=True, help="List every change that watchers would have seen otherwise.")
@click.option("--json", "as_json", is_flag=True, help="The figures as a line of JSON.")
def replay(log: Path, windows: tuple[str, ...], profile: str | None, changes: bool, as_json: bool) -> None:
    """Run a recording through the same rules under other grace windows, and show what that would have led to.

    LOG is what `stillhere timeline --export` wrote (- for the input). Nothing is changed anywhere. Without --grace and
    --profile the recorded windows hold, and all comes out as it was recorded.

    \b
    Examples:
      stillhere replay everybody.jsonl --grace going_away=2000
      stillhere replay everybody.jsonl --profile fast --changes
    """
    policy = _policy(windows, profile)
    recording = load(log)
    found = compare(recording.timelines, policy, horizon=recording.horizon, until=recording.exported_at)
    if as_json:
        click.echo(json_line(_as_json(found, policy)))
        return
    _warn(found)
    entries = sum(run.entries - run.skipped for run in found.runs)
    click.echo(f"{len(found.runs)} users, {entries} entries; {_named(policy)}")
    click.echo("\n".join(_figures(found.recorded, found.other)))
    lines = [line for run in found.runs for line in _differences(run)]
    if lines:
        click.echo("\nshown otherwise (- as recorded, + with these windows; UTC):")
        click.echo("\n".join(lines if changes else lines[:_SHOWN]))
        if not changes and len(lines) > _SHOWN:
            click.echo(f"… and {len(lines) - _SHOWN} more; --changes lists all")


@click.command(short_help="Say which grace windows a recording speaks for.")
@click.argument("log", type=click.Path(path_type=Path))
@click.option(
    "--rate", type=click.FloatRange(0, 1), default=0.01, help="Wanted false offlines per end of a connection [0.01]."
)
@click.option("--json", "as_json", is_flag=True, help="The curves as a line of JSON.")
def advise(log: Path, rate: float, as_json: bool) -> None:
    """For every cause, show what each window would have led to, and the shortest that keeps false offlines rare enough.

    LOG is what `stillhere timeline --export` wrote (- for the input). It only advises: no setting is changed.

    \b
    Examples:
      stillhere advise everybody.jsonl
      stillhere advise everybody.jsonl --rate 0.001
    """
    recording = load(log)
    found = curves(recording.timelines, horizon=recording.horizon, until=recording.exported_at)
    if as_json:
        click.echo(json_line({"rate": rate, "causes": [_curve_as_json(curve, rate) for curve in found]}))
        return
    if not found:
        click.echo("no connection ended in this recording with a cause that has a window")
    for curve in found:
        click.echo("\n".join(_curve(curve, rate)))


def _policy(given: Sequence[str], profile: str | None) -> dict[Cause, float]:
    """Seconds per cause."""
    policy = dict(PROFILES[profile]) if profile else {}
    possible = [cause.value for cause in Cause if cause not in FINAL_CAUSES]
    for text in given:
        name, equals, number = text.partition("=")
        if name not in possible or not equals:
            raise Failure(
                f"--grace {text!r} is wrong; it must be CAUSE=MS, with a cause out of {', '.join(possible)}",
                status=REFUSED,
            )
        if not (number.isascii() and number.isdigit()) or int(number[:12]) > GRACE_MAX * 1000:
            raise Failure(
                f"--grace {text!r} is wrong; the window must be 0 to {GRACE_MAX * 1000:.0f} milliseconds",
                status=REFUSED,
            )
        policy[Cause(name)] = int(number) / 1000
    return policy


def _named(policy: dict[Cause, float]) -> str:
    if not policy:
        return "with the recorded windows"
    return "with " + ", ".join(f"{cause.value}={ms(window)}" for cause, window in sorted(policy.items()))


def _warn(found: Comparison) -> None:
    """What stands in the way of believing the figures."""
    cut = [run for run in found.runs if run.skipped]
    if cut:
        entries = sum(run.skipped for run in cut)
        click.echo(
            f"stillhere: of {len(cut)} users the timeline was cut: {entries} entries at its beginning are left out, "
            "since nobody knows what came before them",
            err=True,
        )
    for run in found.unfaithful[:5]:
        click.echo(
            f"stillhere: what was recorded of {safe(run.user)} does not follow from what was told of it: entries are "
            "missing, or it was recorded by other rules",
            err=True,
        )


def _figures(recorded: Figures, other: Figures) -> list[str]:
    rows = [
        ("OFFLINE shown", str(recorded.offline), str(other.offline), ""),
        ("false offlines", str(recorded.false_offlines), str(other.false_offlines), ""),
        ("ghost time", length(recorded.ghost_seconds), length(other.ghost_seconds), ""),
    ]
    for cause in sorted({*recorded.false_offline, *other.false_offline, *recorded.ghost, *other.ghost}):
        false = [f"{figures.false_offline.get(cause, 0)} false" for figures in (recorded, other)]
        ghost = [length(figures.ghost.get(cause, 0.0)) for figures in (recorded, other)]
        short = other.too_short.get(cause)
        note = "" if short is None else f"too short by {length(short)} at most"
        rows.append((f"  {cause}", f"{false[0]}, {ghost[0]}", f"{false[1]}, {ghost[1]}", note))
    return table(("", "AS RECORDED", "WITH THESE", ""), rows)


def _differences(run: Run) -> Iterator[str]:
    """Transitions of a user that only one of the two has, by time."""
    sides = [
        {(e.at, e.change, e.cause): e for e in events if isinstance(e, Transition) and e.room is None}
        for events in (run.recorded, run.events)
    ]
    only = [("-", *key) for key in sides[0].keys() - sides[1].keys()]
    only += [("+", *key) for key in sides[1].keys() - sides[0].keys()]
    for sign, at, change, cause in sorted(only, key=lambda row: (row[1], row[0])):
        yield f"{sign} {instant(at)}  {safe(run.user)}  {change.value}  cause={safe(cause)}"


def _as_json(found: Comparison, policy: dict[Cause, float]) -> dict[str, Any]:
    def told(figures: Figures) -> dict[str, Any]:
        return {
            "offline": figures.offline,
            "falseOffline": figures.false_offline,
            "tooShortMs": {cause: ms(seconds) for cause, seconds in figures.too_short.items()},
            "ghostMs": {cause: ms(seconds) for cause, seconds in figures.ghost.items()},
        }

    return {
        "users": len(found.runs),
        "entries": sum(run.entries for run in found.runs),
        "skipped": sum(run.skipped for run in found.runs),
        "unfaithful": [run.user for run in found.unfaithful],
        "windowsMs": {cause.value: ms(window) for cause, window in policy.items()},
        "recorded": told(found.recorded),
        "replayed": told(found.other),
    }


def _curve(curve: Curve, rate: float) -> Iterator[str]:
    chosen = curve.choose(rate)
    yield f"{curve.cause.value}: {curve.ends} ends"
    yield from table(
        ("  WINDOW", "FALSE OFFLINES", "RATE", "GHOST TIME", ""), [_row(point, curve, chosen) for point in curve.points]
    )
    if chosen is None:
        yield f"  no window that was tried keeps false offlines at {rate:g} or below"
    else:
        yield f"  for a rate of at most {rate:g}: grace.{curve.cause.value} = {ms(chosen.window)} (ms)"
    if curve.ends < 1 / rate if rate else True:
        yield f"  {curve.ends} ends are few for such a rate: record for longer before you trust it"
    yield ""


def _row(point: Point, curve: Curve, chosen: Point | None) -> tuple[str, ...]:
    notes = [note for note, holds in (("recorded", point.window in curve.recorded), ("<-", point is chosen)) if holds]
    ghost, false = length(point.ghost), str(point.false_offlines)
    return f"  {length(point.window)}", false, f"{point.rate:.2%}", ghost, " ".join(notes)


def _curve_as_json(curve: Curve, rate: float) -> dict[str, Any]:
    chosen = curve.choose(rate)
    return {
        "cause": curve.cause.value,
        "ends": curve.ends,
        "recordedMs": [ms(window) for window in curve.recorded],
        "adviceMs": None if chosen is None else ms(chosen.window),
        "points": [
            {
                "windowMs": ms(point.window),
                "falseOfflines": point.false_offlines,
                "rate": round(point.rate, 6),
                "ghostMs": ms(point.ghost),
            }
            for point in curve.points
        ],
    }
