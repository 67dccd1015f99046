"""From a settled record to the transitions that watchers see."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from stillhere.core.events import Change, Transition
from stillhere.core.record import Record, Shown, ShownMember
from stillhere.core.show import counted, info_of, meta_of, rooms_of, status_of
from stillhere.core.words import Phase, Status


def publish(
    record: Record, now: float, cause: str, number: Callable[[], int], *, again: bool = False
) -> list[Transition]:
    """Compute what is shown of a user; where a watcher could tell the difference, number it.

    Args:
        record: settled; ``shown``, ``members`` and ``hidden_at`` are brought up to date.
        now: Unix time, stamped on what changed.
        cause: why.
        number: gives the next version.
        again: number a user who is present even if nothing changed, rooms included.

    Returns:
        The transitions: the user's own first, then those of the rooms.
    """
    old = record.shown
    new, hidden = _look(record, now)
    found: list[Transition] = []
    # an invisible user who connects, changes or goes is offline before and after: nothing moves, not even a time
    if not (new.status is Status.OFFLINE and old.status is Status.OFFLINE) and (again or not new.looks_like(old)):
        record.shown = new = msgspec.structs.replace(new, version=number(), changed_at=now)
        if new.status is Status.OFFLINE:
            change = Change.OFFLINE
        else:
            change = Change.ONLINE if old.status is Status.OFFLINE else Change.UPDATED
        why = "invisible" if hidden else cause
        found.append(Transition(record.user, change, new.version, now, why, new, connections=record.active_count))
    _publish_rooms(record, now, cause, number, found, again)
    return found


def _look(record: Record, now: float) -> tuple[Shown, bool]:
    """What is to be shown, and whether the user hides it."""
    old = record.shown
    if record.phase is Phase.OFFLINE:
        hidden_at = record.hidden_at
        seen = record.last_seen_at if hidden_at is None else hidden_at
        return Shown(Status.OFFLINE, old.version, old.changed_at, seen, old.info), False
    counting = counted(record)
    if not counting:  # the last window ran out while an upgrade is in flight: all stays as it was
        return old, False
    status, info = status_of(counting), info_of(counting, old.info)
    if status is Status.OFFLINE:
        record.hidden_at = now if record.hidden_at is None else record.hidden_at
        return Shown(status, old.version, old.changed_at, record.hidden_at, info), True
    record.hidden_at = None
    return Shown(status, old.version, old.changed_at, None, info, meta_of(counting)), False


def _publish_rooms(
    record: Record, now: float, cause: str, number: Callable[[], int], found: list[Transition], again: bool
) -> None:
    status, info = record.shown.status, record.shown.info
    there = {} if status is Status.OFFLINE else rooms_of(record)
    if not there and status is not Status.OFFLINE and record.members and not counted(record):
        return  # as above: only an upgrade is in flight
    for room in [room for room in record.members if room not in there]:
        del record.members[room]
        found.append(Transition(record.user, Change.LEFT, number(), now, cause, room=room))
    for room, metas in there.items():
        old = record.members.get(room)
        new = ShownMember(status, 0, now if old is None else old.joined_at, info, metas)
        if old is not None and not again and new.looks_like(old):
            continue
        record.members[room] = new = msgspec.structs.replace(new, version=number())
        change = Change.JOINED if old is None else Change.MEMBER
        found.append(Transition(record.user, change, new.version, now, cause, room=room, member=new))
