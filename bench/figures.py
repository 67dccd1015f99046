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
    "friends_us": "change among friends, µs/delivery",
    "friends_frames": "friends, frames",
    "friends_p50_ms": "friends, median, ms",
    "friends_p99_ms": "friends, 99th percentile, ms",
    "reconnect_us": "reconnect, CPU µs",
    "reconnect_s": "all back after, s",
    "reconnect_gone": "shown as gone meanwhile",
    "calm_p50_ms": "calm, median, ms",
    "calm_p99_ms": "calm, 99th percentile, ms",
    "calm_max_ms": "calm, longest, ms",
    "busy_p50_ms": "busy, median, ms",
    "busy_p99_ms": "busy, 99th percentile, ms",
    "busy_max_ms": "busy, longest, ms",
    "busy_cpu": "busy, of one CPU",
    "hour_cpu_s": "mixed hour, CPU s",
    "hour_kib": "mixed hour, KiB/user",
    "hour_gone": "shown as gone for nothing",
}
"""Figures, in the order of the table, and how they are titled."""

GROUPS = {
    "connections": ("bare_kib", "tracked_kib", "connect_us", "connect_join_us"),
    "deliveries": ("room_us", "watch_us", "burst_us", "burst_frames", "storm_s", "storm_frames"),
    "friends": ("friends_us", "friends_frames", "friends_p50_ms", "friends_p99_ms"),
    "reconnect": ("reconnect_us", "reconnect_s", "reconnect_gone"),
    "latency": (
        *("calm_p50_ms", "calm_p99_ms", "calm_max_ms", "busy_p50_ms", "busy_p99_ms", "busy_max_ms", "busy_cpu"),
    ),
    "hour": ("hour_cpu_s", "hour_kib", "hour_gone"),
}
"""Figures that belong together, and fit into one table."""

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


def table(measured: Measured, keys: Sequence[str] = tuple(COLUMNS)) -> str:
    """A Markdown table: a row per peer, a column per figure that anybody has; empty if nobody has any.

    Args:
        measured: by peer and figure.
        keys: the figures that may be shown. Peers that have none of them have no row, unless all may be shown.
    """
    columns = [key for key in keys if any(figures.get(key) for figures in measured.values())]
    if not columns:
        return ""
    if len(keys) < len(COLUMNS):
        measured = {peer: figures for peer, figures in measured.items() if any(figures.get(key) for key in columns)}
    lines = [
        "| | " + " | ".join(COLUMNS[key] for key in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for peer, figures in measured.items():
        lines.append(f"| {peer} | " + " | ".join(cell(figures.get(key, ())) for key in columns) + " |")
    return "\n".join(lines)


def tables(measured: Measured) -> str:
    """One table per group of figures that anybody has: all in one could not be read."""
    shown = [table(measured, keys) for keys in GROUPS.values()]
    return "\n\n".join(text for text in shown if text)


def medians(measured: Measured) -> dict[str, dict[str, float]]:
    """The medians alone."""
    return {
        peer: {key: statistics.median(values) for key, values in figures.items() if values}
        for peer, figures in measured.items()
    }
