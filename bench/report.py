"""``python -m bench.report FILE...``: docs/benchmarks.md and its pictures, from what runs have written down."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.figures import COLUMNS, GROUPS, cell, number, table
from bench.soak import LEAST, STRETCHES, Sample, growth, judge, rise
from bench.svg import bars, lines

ROOT = Path(__file__).parents[1]

AIMS: dict[str, float] = {
    "tracked_kib": 8,
    "connect_join_us": 200,
    "room_us": 7.5,
    "burst_us": 0.8,
    "storm_s": 0.12,
    "storm_frames": 5000,
}
"""What the project aims at: no more than this."""

WS = "ws (Node)"
REFERENCE = {"connect_join_us": 174.0, "room_us": 9.8, "burst_us": 8.8, "storm_s": 3.9}
"""What `ws` took on the machine that the aims of CPU were set on. On another one the kernel and every interpreter are
slower or quicker, and so the aims are also given as the same multiples of `ws`."""

TITLES = {
    "connections": "Connections",
    "deliveries": "Deliveries",
    "friends": "Friends who watch each other",
    "reconnect": "All cut off, and back",
    "latency": "From a change to its watchers",
    "hour": "A mixed hour",
}

Values = dict[str, dict[str, list[float]]]


class Refused(Exception):
    """These results cannot be one report, and why."""


def merge(documents: Sequence[dict[str, Any]]) -> tuple[Values, list[str]]:
    """The values of all bench runs together, and their faults.

    Raises:
        Refused: they were measured on different machines, or with different sizes.
    """
    values: Values = {}
    faults: list[str] = []
    for document in documents:
        for what in ("cpu", "cpus"):
            if document["machine"][what] != documents[0]["machine"][what]:
                raise Refused("the results are of different machines")
        sizes = [
            {key: size for key, size in one["plan"].items() if key != "rounds"} for one in (document, documents[0])
        ]
        if sizes[0] != sizes[1]:
            raise Refused("the results were measured with different sizes")
        faults += document["faults"]
        for peer, figures in document["values"].items():
            for key, found in figures.items():
                values.setdefault(peer, {}).setdefault(key, []).extend(found)
    return values, faults


def main_table(values: Values) -> str:
    """The table that the project is judged by: peers, aims, and whether Stillhere met them."""
    keys = ["tracked_kib", "connect_join_us", "room_us", "burst_us"]
    rows = [
        (
            "| | idle KiB/conn in a room of its own | CPU µs per connect + join | isolated event, CPU µs per watcher "
            "| burst, CPU µs per delivery | storm, CPU s / frames |"
        ),
        "|---|---|---|---|---|---|",
    ]
    for peer, figures in values.items():
        cells = [cell(figures.get(key, ())) for key in keys]
        storm = f"{cell(figures.get('storm_s', ()))} / {cell(figures.get('storm_frames', ()))}"
        rows.append(f"| {peer} | {' | '.join(cells)} | {'–' if storm == '– / –' else storm} |")
    aims = [f"≤ {AIMS[key]:g}" for key in keys]
    rows.append(f"| **aim** | {' | '.join(aims)} | ≤ {AIMS['storm_s']:g} / ≤ {AIMS['storm_frames']:,.0f} |")
    rows += _verdicts(values, AIMS, "aim")
    if scaled := by_ws(values):
        aims = [f"≤ {number(scaled[key])}" if key in REFERENCE else f"≤ {scaled[key]:g}" for key in keys]
        storm = f"≤ {number(scaled['storm_s'])} / ≤ {scaled['storm_frames']:,.0f}"
        rows.append(f"| **aim, as a multiple of `ws`** | {' | '.join(aims)} | {storm} |")
        rows += _verdicts(values, scaled, "aim by `ws`")
    return "\n".join(rows)


def _verdicts(values: Values, aims: Mapping[str, float], name: str) -> list[str]:
    keys = ("tracked_kib", "connect_join_us", "room_us", "burst_us")
    rows = []
    for peer, figures in values.items():
        if peer.startswith("Stillhere") and "storm_s" in figures:
            verdicts = [verdict(aims[key], figures.get(key, ())) for key in keys]
            storm = " / ".join(verdict(aims[key], figures.get(key, ())) for key in ("storm_s", "storm_frames"))
            rows.append(f"| **{peer}: {name}** | {' | '.join(verdicts)} | {storm} |")
    return rows


def by_ws(values: Values) -> dict[str, float]:
    """The aims on this machine: for CPU the same multiples of what ``ws`` took; empty if it was not measured whole."""
    here = {key: statistics.median(found) for key in REFERENCE if (found := values.get(WS, {}).get(key))}
    if len(here) < len(REFERENCE):
        return {}
    return {key: aim * here[key] / REFERENCE[key] if key in here else aim for key, aim in AIMS.items()}


def verdict(aim: float, found: Sequence[float]) -> str:
    """``met``, or by how much the median misses the aim."""
    if not found:
        return "not measured"
    middle = statistics.median(found)
    return "met" if middle <= aim else f"**missed** by {middle / aim - 1:.0%}"


def machine_line(document: dict[str, Any]) -> str:
    """Where and with what."""
    machine = document["machine"]
    load = ", ".join(f"{value:g}" for value in machine["load"])
    return (
        f"{machine['cpu']}, {machine['cpus']} CPUs, load {load} at the start, Linux {machine['kernel']}, "
        f"Python {machine['python']}, Node {machine['node']}, revision {machine['commit']}, {machine['at']}"
    )


def render(documents: Sequence[dict[str, Any]]) -> tuple[str, dict[str, str]]:
    """The page, and the pictures by file name.

    Args:
        documents: of bench, growth and soak runs; those without a kind are bench runs.

    Raises:
        Refused: they do not belong together, or there is no bench run.
    """
    runs = [document for document in documents if document.get("kind", "bench") == "bench"]
    if not runs:
        raise Refused("there is no result of `python -m bench` among the files")
    values, faults = merge(runs)
    pictures: dict[str, str] = {}
    rounds = max(len(found) for figures in values.values() for found in figures.values())
    few = "" if rounds >= 3 else " **Fewer than three rounds: a look, not a measurement.**"
    sizes = ", ".join(f"{key.replace('_', ' ')} {size:g}" for key, size in runs[0]["plan"].items() if key != "rounds")
    page = [
        "# Benchmarks",
        (
            "This page is generated from measurements by `python -m bench.report`; edit that and not this. "
            "[Performance](performance.md) says what each phase does and what limits it."
        ),
        f"The median of up to {rounds} rounds, and the least and greatest. The peers take turns, phase by phase.{few}",
        *(f"Measured on: {machine_line(run)}." for run in runs),
        f"Sizes: {sizes}.",
        main_table(values),
    ]
    for key, aim in AIMS.items():
        if key.startswith("storm"):
            continue
        rows = [
            (peer, statistics.median(found), min(found), max(found))
            for peer, figures in values.items()
            if (found := figures.get(key))
        ]
        if rows:
            name = f"bench-{key.replace('_', '-')}.svg"
            pictures[name] = bars(COLUMNS[key], rows, aim)
            page.append(f"![{COLUMNS[key]}](images/{name})")
    for group, keys in GROUPS.items():
        if shown := table(values, keys):
            page += [f"## {TITLES[group]}", shown]
    if faults:
        page += ["## What failed", "\n".join(f"- {fault.splitlines()[0]}" for fault in faults)]
    for document in documents:
        if document.get("kind") == "growth":
            page += growth_part(document, pictures)
        elif document.get("kind") == "soak":
            page += soak_part(document, pictures)
    return "\n\n".join(page) + "\n", pictures


def growth_part(document: dict[str, Any], pictures: dict[str, str]) -> list[str]:
    """The curves."""
    titles = {
        "connections": ("kib", "memory of all connections, KiB"),
        "rooms": ("change_us", "CPU per change in a room, µs"),
        "lists": ("watch_us", "CPU to watch a list, µs"),
    }
    part = ["## Growth", f"Measured on: {machine_line(document)}."]
    part.append("\n".join(f"- {text}" for text in document["sentences"]))
    for name, peers in document["curves"].items():
        key, title = titles[name]
        series = {
            peer: sorted((point["n"], point[key]) for points in rounds for point in points)
            for peer, rounds in peers.items()
        }
        pictures[f"bench-growth-{name}.svg"] = lines(f"{title} (both axes logarithmic)", series, logarithmic=True)
        part.append(f"![{title}](images/bench-growth-{name}.svg)")
    return part


def soak_part(document: dict[str, Any], pictures: dict[str, str]) -> list[str]:
    """The soak."""
    samples, plan = document["samples"], document["plan"]
    pictures["bench-soak.svg"] = lines(
        "memory over the seconds of the soak, MiB",
        {document["peer"]: [(sample["at"], sample["kib"] / 1024) for sample in samples]},
        logarithmic=False,
    )
    left = {name: count for name, count in document["tables_after"].items() if count}
    taken = msgspec.convert(samples, list[Sample])
    found = [*document["faults"], *judge(taken)]
    faults = "\n".join(f"- {fault}" for fault in found) or "Nothing was left, and nothing failed."
    memory = ""
    if len(taken) >= LEAST:
        memory = (
            f" Memory in the second half: {growth(taken):+.1%} an hour in the median of {STRETCHES} stretches, "
            f"{rise(taken):+.1%} from the first of them to the last."
        )
    return [
        "## Soak",
        (
            f"{document['peer']}, {plan['connections']:,} connections, {plan['rate']:g} doings a second for "
            f"{number(plan['seconds'])} s. Measured on: {machine_line(document)}."
        ),
        (
            f"File descriptors: {document['files_before']} before, {document['files_after']} after. Left in tables: "
            f"{left or 'nothing'}. Shown offline for nothing: {samples[-1]['false_offlines']}.{memory}"
        ),
        faults,
        "![Memory over time](images/bench-soak.svg)",
    ]


def write_report(files: Sequence[Path], docs: Path = ROOT / "docs") -> int:
    """Write the page and its pictures; returns the exit status.

    Raises:
        SystemExit: the files cannot be read, or do not belong together.
    """
    try:
        page, pictures = render([json.loads(path.read_text()) for path in files])
    except (OSError, ValueError, KeyError, Refused) as error:
        raise SystemExit(f"no report: {error}") from None
    (docs / "images").mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        (docs / "images" / name).write_text(picture)
    (docs / "benchmarks.md").write_text(page)
    print(f"{docs / 'benchmarks.md'} and {len(pictures)} pictures")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="Write docs/benchmarks.md.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSON of bench/results")
    return write_report(parser.parse_args(argv).files)


if __name__ == "__main__":
    sys.exit(main())
