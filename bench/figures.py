"""From measurements to a table: medians with their spread."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

COLUMNS = {
    "bare_kib": "idle, KiB/conn",
    "tracked_kib": "in a room of its own, KiB/conn",
    "connect_us": "connect, CPU µs",
    "connect_join_us": "connect + join, CPU µs",
    "room_us": "change in a room, µs/watcher",
    "watch_us": "change of a watched user, µs/watcher",
    "burst_us": "burst, µs/delivery",
    "burst_frames": "burst, frames",
    "storm_s": "join storm, CPU s",
    "storm_frames": "join storm, frames",
}
"""Figures, in the order of the table, and how they are titled."""

Measured = Mapping[str, Mapping[str, Sequence[float]]]
"""Of each peer, of each figure, one value per round."""


def number(value: float) -> str:
    """Three significant digits, and no more than a reader can use: ``0.71``, ``8.4``, ``231``, ``500,500``."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cell(values: Sequence[float]) -> str:
    """The median, and the least and greatest where there are several: ``8.4 (8.1 to 8.9)``."""
    if not values:
        return "–"
    middle = number(statistics.median(values))
    if len(values) == 1 or min(values) == max(values):
        return middle
    return f"{middle} ({number(min(values))} to {number(max(values))})"


def table(measured: Measured) -> str:
    """A Markdown table: a row per peer, a column per figure that anybody has."""
    columns = [key for key in COLUMNS if any(figures.get(key) for figures in measured.values())]
    lines = [
        "| | " + " | ".join(COLUMNS[key] for key in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for peer, figures in measured.items():
        lines.append(f"| {peer} | " + " | ".join(cell(figures.get(key, ())) for key in columns) + " |")
    return "\n".join(lines)


def medians(measured: Measured) -> dict[str, dict[str, float]]:
    """The medians alone."""
    return {
        peer: {key: statistics.median(values) for key, values in figures.items() if values}
        for peer, figures in measured.items()
    }
