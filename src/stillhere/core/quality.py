"""How good windows are: false offlines, ghost time, and what other windows would have cost.

Two faults pull in two directions. A window that is too short shows a user offline who comes right back (a **false
offline**); one that is too long shows a user online who is gone (**ghost time**). Both are counted here by the cause of
the end, from what happened and from what would have happened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil

import msgspec

from stillhere.core.events import Change, Entry, Event, Returned, Transition, ghost_of
from stillhere.core.replay import HORIZON, Run, replay
from stillhere.core.words import FINAL_CAUSES, Cause, UserId

WINDOWS = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 300.0)
"""Windows that are tried, in seconds: from none to the default of ``grace.max``."""


class Figures(msgspec.Struct):
    """What a policy led to."""

    offline: int = 0
    """How often users were shown offline."""
    false_offline: dict[str, int] = {}
    """By the cause of the end."""
    too_short: dict[str, float] = {}
    """By how much the window of a false offline was too short, at most, in seconds; by cause."""
    ghost: dict[str, float] = {}
    """Seconds that users were shown after their last connection had ended, by the cause of the OFFLINE."""

    def count(self, events: Iterable[Event]) -> None:
        """Add what happened."""
        for event in events:
            if isinstance(event, Returned) and event.false_offline:
                cause = event.cause.value
                self.false_offline[cause] = self.false_offline.get(cause, 0) + 1
                self.too_short[cause] = max(self.too_short.get(cause, 0.0), too_short(event))
            elif isinstance(event, Transition) and event.change is Change.OFFLINE:
                self.offline += 1
                self.ghost[event.cause] = self.ghost.get(event.cause, 0.0) + ghost_of(event)

    @property
    def false_offlines(self) -> int:
        """Over all causes."""
        return sum(self.false_offline.values())

    @property
    def ghost_seconds(self) -> float:
        """Over all causes."""
        return sum(self.ghost.values())


class Comparison(msgspec.Struct):
    """A recording under its own windows, and under others."""

    runs: list[Run]
    recorded: Figures
    """Of what was recorded, as far as it was replayed."""
    other: Figures

    @property
    def unfaithful(self) -> list[Run]:
        """Whose recorded events did not come out again under the recorded windows."""
        return [run for run in self.runs if not run.faithful]


class Point(msgspec.Struct, frozen=True):
    """One window of a trade-off curve."""

    window: float
    """Seconds."""
    false_offlines: int
    """OFFLINEs after an end of this cause that were false."""
    rate: float
    """The same, per end of a connection with this cause."""
    ghost: float
    """Seconds, for this cause."""


class Curve(msgspec.Struct, frozen=True):
    """The trade-off of one cause."""

    cause: Cause
    ends: int
    """Connections that ended with it."""
    recorded: tuple[float, ...]
    """The windows that were in force, in seconds."""
    points: tuple[Point, ...]
    """By window, shortest first."""

    def choose(self, rate: float) -> Point | None:
        """The shortest window that was tried whose rate of false offlines is not above the wanted one.

        Args:
            rate: false offlines per end, from 0 to 1.
        """
        return next((point for point in self.points if point.rate <= rate), None)


def too_short(event: Returned) -> float:
    """By how many seconds the window of a connection's end was too short for its return."""
    return max(0.0, event.gap - event.window)


def enough(gap: float) -> float:
    """A round window that covers a gap; both in seconds."""
    step = 0.5 if gap < 5 else 1.0 if gap < 20 else 5.0
    return ceil(gap / step + 1e-9) * step


def compare(
    timelines: Mapping[UserId, Sequence[Entry]],
    windows: Mapping[Cause, float],
    *,
    horizon: float = HORIZON,
    until: float | None = None,
) -> Comparison:
    """Replay every user.

    Args:
        timelines: entries by user.
        windows: seconds per cause, in place of the recorded ones.
        horizon: seconds after an OFFLINE within which a return makes it a false one.
        until: when the recording ended, Unix seconds.
    """
    runs = [replay(entries, windows, horizon=horizon, until=until) for entries in timelines.values()]
    recorded, other = Figures(), Figures()
    for run in runs:
        recorded.count(run.recorded)
        other.count(run.events)
    return Comparison(runs, recorded, other)


def curves(
    timelines: Mapping[UserId, Sequence[Entry]],
    *,
    horizon: float = HORIZON,
    until: float | None = None,
    tried: Sequence[float] = WINDOWS,
) -> list[Curve]:
    """For every cause that was recorded, what each window would have led to, all other windows as they were.

    Args:
        timelines: entries by user.
        horizon: seconds after an OFFLINE within which a return makes it a false one.
        until: when the recording ended, Unix seconds.
        tried: windows, in seconds; those that were in force are tried as well.
    """
    ends: dict[Cause, list[float]] = {}
    having: dict[Cause, dict[UserId, Sequence[Entry]]] = {}
    for user, entries in timelines.items():
        for ending in replay(entries, horizon=horizon, until=until).ends:
            if ending.cause not in FINAL_CAUSES:
                ends.setdefault(ending.cause, []).append(ending.window)
                having.setdefault(ending.cause, {})[user] = entries
    found = []
    for cause in sorted(ends):
        points = []
        for window in sorted({*tried, *ends[cause]}):
            figures = compare(having[cause], {cause: window}, horizon=horizon, until=until).other
            false = figures.false_offline.get(cause.value, 0)
            ghost = figures.ghost.get(cause.value, 0.0)
            points.append(Point(window, false, false / len(ends[cause]), ghost))
        found.append(Curve(cause, len(ends[cause]), tuple(sorted(set(ends[cause]))), tuple(points)))
    return found
