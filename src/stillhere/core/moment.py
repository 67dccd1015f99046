"""How things stood for a user at an instant, as far as a timeline tells."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from stillhere.core.events import (
    Change,
    Contributed,
    Entry,
    GraceCancelled,
    GraceExpired,
    GraceStarted,
    Prolonged,
    Transition,
)
from stillhere.core.record import ConnectionSummary, Ending
from stillhere.core.words import ConnectionId, Incarnation, Status

INVISIBLE = "invisible"
"""The cause of a transition of one who hides."""


class Carried(msgspec.Struct, frozen=True):
    """A connection that was there."""

    index: int
    """Of the entry that told of it last."""
    incarnation: Incarnation
    connection: ConnectionSummary


class End(msgspec.Struct, frozen=True):
    """A connection that had ended."""

    index: int
    incarnation: Incarnation
    ending: Ending
    at: float
    """Unix time of the end itself, not of the news; of a lost node's, when that was heard last."""
    deadline: float
    """When its window runs out, Unix time, if the store clock goes as it should."""
    lost: bool
    """The node was lost: nobody knows when the connection really ended."""


class Moment(msgspec.Struct):
    """Entries up to an instant, summed up. Indexes are places in the timeline."""

    carried: dict[ConnectionId, Carried] = {}
    ends: list[End] = []
    """Since the user last came."""
    grace: int | None = None
    """The window that runs: its GraceStarted, or what prolonged it."""
    over: int | None = None
    """The window that ran out or was cancelled last."""
    shown: int | None = None
    """The last transition of the user's own."""
    came: int | None = None
    """The last ONLINE before it, or it."""
    since: float | None = None
    """Since when the status was shown that it shows."""
    held_back: int | None = None
    """The last contribution, where nothing could expire at its time."""

    @property
    def active(self) -> list[Carried]:
        """The active connections, oldest first."""
        found = [c for c in self.carried.values() if c.connection.ready.active]
        return sorted(found, key=lambda c: (c.connection.opened_at, c.connection.id))

    @property
    def connecting(self) -> list[Carried]:
        """Upgrades that are in flight."""
        return [c for c in self.carried.values() if not c.connection.ready.active]


def moment(entries: Sequence[Entry], at: float) -> Moment:
    """Sum up what had happened by an instant.

    Args:
        entries: of one user, oldest first.
        at: Unix time, seconds; what happened right then counts.
    """
    found = Moment()
    for index, entry in enumerate(entries):
        if entry.at > at:
            continue  # not the end: a clock may have been set back
        if isinstance(entry, Contributed):
            _contributed(found, index, entry)
        elif isinstance(entry, GraceStarted):
            found.grace = index
        elif isinstance(entry, Prolonged):
            found.grace = index
            found.ends = [_prolonged(end, entry) for end in found.ends]
        elif isinstance(entry, GraceCancelled | GraceExpired):
            found.grace, found.over = None, index
        elif isinstance(entry, Transition) and entry.shown is not None:
            _shown(found, index, entry, entry.shown.status, entries)
    return found


def _contributed(found: Moment, index: int, entry: Contributed) -> None:
    for ending in entry.endings:
        found.carried.pop(ending.connection, None)
        if ending.connection and any(end.ending.connection == ending.connection for end in found.ends):
            continue  # told again
        at = entry.at - ending.ago if entry.ended_at is None else entry.ended_at
        deadline = entry.at - ending.ago + ending.window
        found.ends.append(End(index, entry.incarnation, ending, at, deadline, entry.ended_at is not None))
    for id in entry.gone:
        found.carried.pop(id, None)
    for connection in entry.connections:
        found.carried[connection.id] = Carried(index, entry.incarnation, connection)
    found.held_back = index if entry.on_hold else None


def _shown(found: Moment, index: int, entry: Transition, status: Status, entries: Sequence[Entry]) -> None:
    before = None if found.shown is None else entries[found.shown]
    if not isinstance(before, Transition) or before.shown is None or before.shown.status is not status:
        found.since = entry.at
    if entry.change is Change.ONLINE:
        found.came = index
        if isinstance(before, Transition) and before.cause != INVISIBLE:
            found.ends = []  # of a time that was over with the OFFLINE
    found.shown = index


def _prolonged(end: End, entry: Prolonged) -> End:
    """A window that a restart made longer; a departure has none."""
    deadline = entry.at + entry.window
    if end.ending.window <= 0 or end.deadline >= deadline:
        return end
    ending = msgspec.structs.replace(end.ending, cause=entry.cause, window=entry.window)
    return msgspec.structs.replace(end, ending=ending, deadline=deadline)
