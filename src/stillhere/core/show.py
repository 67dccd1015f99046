"""From a record to what is shown: pure functions, no state.

The most available of a user's tabs wins: ``ACTIVE > BUSY > AWAY``; ``INVISIBLE``, set by any of them, is for the user
as a whole. A tab counts while it has an active connection, and during its window: a reload of one tab must not let the
status of the others shine through.
"""

from __future__ import annotations

from collections.abc import Iterable

from stillhere.core.record import ConnectionSummary, Meta, Record
from stillhere.core.words import Availability, ConnectionId, RoomName, Status

_RANK = {Availability.ACTIVE: 3, Availability.BUSY: 2, Availability.AWAY: 1}
_STATUS = {
    None: Status.ONLINE,
    Availability.ACTIVE: Status.ONLINE,
    Availability.BUSY: Status.BUSY,
    Availability.AWAY: Status.AWAY,
}


def counted(record: Record) -> list[ConnectionSummary]:
    """The connections that count for what is shown, oldest first: active ones, then tabs in their window."""
    active = [c for _, c in record.connections() if c.ready.active]
    if not record.holds:
        return active
    tabs = {c.tab for c in active}
    held = [hold.connection for tab, hold in record.holds.items() if tab not in tabs]
    held.sort(key=lambda c: (c.opened_at, c.id))
    return held + active


def status_of(connections: Iterable[ConnectionSummary]) -> Status:
    """The merged status of connections of which at least one counts; OFFLINE when any is invisible."""
    best: Availability | None = None
    for connection in connections:
        stated = connection.availability or Availability.ACTIVE
        if stated is Availability.INVISIBLE:
            return Status.OFFLINE
        if best is None or _RANK[stated] > _RANK[best]:
            best = stated
    return _STATUS[best]


def meta_of(connections: Iterable[ConnectionSummary]) -> Meta | None:
    """The merged metadata: of several connections that set a key, the one opened last wins."""
    merged: Meta = {}
    for connection in connections:
        if connection.meta:
            merged.update(connection.meta)
    return merged or None


def info_of(connections: Iterable[ConnectionSummary], before: Meta | None) -> Meta | None:
    """The public object of the newest token; what was shown before where no connection brought any."""
    for connection in connections:
        if connection.info is not None:
            before = connection.info
    return before


def rooms_of(record: Record) -> dict[RoomName, tuple[tuple[ConnectionId, Meta], ...]]:
    """Every room the user is in, with the metadata of each connection there, oldest first.

    A tab in its window keeps its rooms until the tab has joined them anew: after a reload the rooms come back one
    message later than the connection, and nobody is to see the gap.
    """
    if not record.holds:
        # the plain case, without an intermediate set per room
        found: dict[RoomName, tuple[tuple[ConnectionId, Meta], ...]] = {}
        for _, c in record.connections():
            if c.rooms and c.ready.active:
                for room, meta in c.rooms.items():
                    found[room] = (*found.get(room, ()), (c.id, meta))
        return found
    active = [c for _, c in record.connections() if c.ready.active]
    there: dict[RoomName, list[ConnectionSummary]] = {}
    for c in active:
        for room in c.rooms or ():
            there.setdefault(room, []).append(c)
    for hold in record.holds.values():
        c = hold.connection
        for room in c.rooms or ():
            if all(c.tab != other.tab for other in there.get(room, ())):
                there.setdefault(room, []).append(c)
    return {
        room: tuple((c.id, (c.rooms or {})[room]) for c in sorted(cs, key=lambda c: (c.opened_at, c.id)))
        for room, cs in there.items()
    }
