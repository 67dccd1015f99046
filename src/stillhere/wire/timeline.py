"""A timeline as people and programs read it: one item for each thing that happened, connection keys redacted.

What a node told at once (:class:`~stillhere.core.events.Contributed`) becomes several items: an upgrade, an end, a
state.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated
from zlib import crc32

import msgspec
from msgspec import UNSET, Meta, UnsetType

from stillhere.core.connection import redacted_key
from stillhere.core.events import (
    Contributed,
    Entry,
    GraceCancelled,
    GraceExpired,
    GraceStarted,
    Lapsed,
    Prolonged,
    Returned,
    Transition,
    ghost_of,
)
from stillhere.core.phrases import node_of
from stillhere.core.quality import too_short
from stillhere.core.record import ConnectionSummary, Ending
from stillhere.core.words import Cause, ConnectionId, ReadyState, SessionId, UserId
from stillhere.wire.frames import ms

_CLOSED = {
    Cause.SUPERSEDED: "superseded",
    Cause.KICKED: "kicked",
    Cause.REVOKED: "revoked",
    Cause.EXPIRED: "token_expired",
    Cause.NODE_LOST: "node_lost",
    Cause.NODE_DRAIN: "node_drained",
}

TYPES = (
    "upgrade",
    "upgrade_failed",
    "opened",
    "changed",
    "closing",
    "closed",
    *_CLOSED.values(),
    "room_left_on_purpose",
    "told_again",
    "user_reconnected",
    "grace_started",
    "grace_cancelled",
    "grace_expired",
    "windows_ran_out",
    "windows_prolonged",
    "PRESENCE_ONLINE",
    "PRESENCE_OFFLINE",
    "PRESENCE_UPDATED",
    "ROOM_JOINED",
    "ROOM_LEFT",
    "ROOM_UPDATED",
)
"""What an item may be."""

Text = str | UnsetType
Number = int | UnsetType
Flag = bool | UnsetType


class TimelineItem(msgspec.Struct, rename="camel", frozen=True, omit_defaults=True, kw_only=True):
    """Something that happened. Fields that do not apply are absent."""

    at: Annotated[int, Meta(description="When the store learned of it, milliseconds since the Unix epoch.")]
    type: Annotated[str, Meta(extra_json_schema={"enum": list(TYPES)})]
    connection_key: Annotated[str, Meta(description="`user:session:openedAt:connectionId`, redacted.")] | UnsetType = (
        UNSET
    )
    tab: Text = UNSET
    node: Text = UNSET
    client: Annotated[str, Meta(description="The software, as it named itself.")] | UnsetType = UNSET
    what: Annotated[list[str], Meta(description="What changed of a connection.")] | UnsetType = UNSET
    availability: Text = UNSET
    cause: Text = UNSET
    code: Annotated[int, Meta(description="The close code.")] | UnsetType = UNSET
    by: (
        Annotated[str, Meta(description="Who closed, `client` or `server`; of a window, what ended it.")] | UnsetType
    ) = UNSET
    reason: Annotated[str, Meta(description="That of the close frame, or of a kick.")] | UnsetType = UNSET
    ended_at: Annotated[int, Meta(description="When the connection itself ended, Unix milliseconds.")] | UnsetType = (
        UNSET
    )
    window_ms: Annotated[int, Meta(description="Of the cause; 0 for none.")] | UnsetType = UNSET
    deadline: Annotated[int, Meta(description="When the window runs out, Unix milliseconds.")] | UnsetType = UNSET
    gap_ms: Annotated[int, Meta(description="Since the connection had ended.")] | UnsetType = UNSET
    ghost_ms: Annotated[int, Meta(description="For how long the user was shown after the last end.")] | UnsetType = (
        UNSET
    )
    false_offline: Flag = UNSET
    too_short_ms: Annotated[int, Meta(description="By how much the window was too short.")] | UnsetType = UNSET
    tabs: list[str] | UnsetType = UNSET
    room: Text = UNSET
    version: Number = UNSET
    status: Text = UNSET
    connections: Annotated[int, Meta(description="Active ones of the user, after the change.")] | UnsetType = UNSET
    on_hold: Annotated[bool, Meta(description="Nothing expired at that time.")] | UnsetType = UNSET


def expand(entries: Sequence[Entry]) -> list[tuple[int, TimelineItem]]:
    """Each item with the index of its entry, in order.

    Args:
        entries: the timeline of one user, oldest first, whole: an item may need what comes before or after it.
    """
    reader = _Reader(entries)
    return [(index, item) for index, entry in enumerate(entries) for item in reader.items(entry)]


class _Reader:
    """Knows the connections on the way through a timeline."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        told = [e for e in entries if isinstance(e, Contributed)]
        self._ends = {ending.connection: ending for e in told for ending in e.endings}
        self._begins = entries[0].at if told and not told[0].fresh else 0.0
        self._known: dict[ConnectionId, ConnectionSummary] = {}

    def items(self, entry: Entry) -> Iterator[TimelineItem]:
        at = ms(entry.at)
        match entry:
            case Contributed():
                yield from self._contributed(entry)
            case Returned():
                yield TimelineItem(
                    at=at,
                    type="user_reconnected",
                    tab=entry.tab,
                    cause=entry.cause.value,
                    gap_ms=ms(entry.gap),
                    window_ms=ms(entry.window),
                    false_offline=entry.false_offline,
                    too_short_ms=ms(too_short(entry)) if entry.false_offline else UNSET,
                )
            case GraceStarted():
                deadline = ms(entry.ended_at + entry.window)
                yield TimelineItem(
                    at=at,
                    type="grace_started",
                    cause=entry.cause.value,
                    window_ms=ms(entry.window),
                    deadline=max(at, deadline),
                    ended_at=ms(entry.ended_at),
                )
            case GraceCancelled():
                yield TimelineItem(
                    at=at, type="grace_cancelled", cause=entry.cause.value, gap_ms=ms(entry.gap), by=entry.by
                )
            case GraceExpired():
                yield TimelineItem(at=at, type="grace_expired", cause=entry.cause.value, ghost_ms=ms(entry.ghost))
            case Lapsed():
                yield TimelineItem(at=at, type="windows_ran_out", tabs=list(entry.tabs))
            case Prolonged():
                yield TimelineItem(
                    at=at,
                    type="windows_prolonged",
                    cause=entry.cause.value,
                    window_ms=ms(entry.window),
                    deadline=ms(entry.at + entry.window),
                )
            case _:
                yield _transition(entry)

    def _contributed(self, entry: Contributed) -> Iterator[TimelineItem]:
        hold: Flag = True if entry.on_hold else UNSET
        at, node = ms(entry.at), node_of(entry.incarnation)
        for leave in entry.leaves:
            yield TimelineItem(
                at=at, type="room_left_on_purpose", tab=leave.tab, room=leave.room, node=node, on_hold=hold
            )
        for ending in entry.endings:
            yield self._ended(entry, ending, at, node, hold)
        for id in entry.gone:
            was = self._known.pop(id, None)
            key = UNSET if was is None else _key(entry.user, was)
            tab = UNSET if was is None else was.tab
            yield TimelineItem(at=at, type="upgrade_failed", connection_key=key, tab=tab, node=node, on_hold=hold)
        for c in entry.connections:
            yield self._carried(entry, c, at, node, hold)
        if not (entry.leaves or entry.endings or entry.gone or entry.connections):
            yield TimelineItem(at=at, type="told_again", node=node, on_hold=hold)

    def _ended(self, entry: Contributed, e: Ending, at: int, node: str, hold: Flag) -> TimelineItem:
        was = self._known.pop(e.connection, None) or e.last
        ended_at = entry.at - e.ago if entry.ended_at is None else entry.ended_at
        return TimelineItem(
            at=at,
            type=_CLOSED.get(e.cause, "closed"),
            connection_key=_key_of(entry.user, e, was) if e.connection else UNSET,
            tab=e.tab or UNSET,
            node=node,
            cause=e.cause.value,
            code=e.code or UNSET,
            by=e.by or UNSET,
            reason=e.reason or UNSET,
            ended_at=ms(ended_at),
            window_ms=ms(e.window),
            deadline=ms(entry.at - e.ago + e.window) if e.window > 0 else UNSET,
            on_hold=hold,
        )

    def _carried(self, entry: Contributed, c: ConnectionSummary, at: int, node: str, hold: Flag) -> TimelineItem:
        was = self._known.get(c.id)
        self._known[c.id] = c
        end = self._ends.get(c.id) if c.ready is ReadyState.CLOSING else None
        what: list[str] | UnsetType = UNSET
        if c.ready is ReadyState.CONNECTING:
            type = "upgrade"
        elif c.ready is ReadyState.CLOSING and (was is None or was.ready is not ReadyState.CLOSING):
            type = "closing"
        elif (was is None and c.opened_at >= self._begins) or (was is not None and not was.ready.active):
            type = "opened"
        else:
            type, what = "changed", [] if was is None else _different(was, c)
        return TimelineItem(
            at=at,
            type=type,
            connection_key=_key(entry.user, c),
            tab=c.tab,
            node=node,
            client=(c.client or UNSET) if type in ("upgrade", "opened") else UNSET,
            what=what,
            availability=UNSET if c.availability is None else c.availability.value,
            cause=UNSET if end is None else end.cause.value,
            code=UNSET if end is None else end.code or UNSET,
            by=UNSET if end is None else end.by or UNSET,
            reason=UNSET if end is None else end.reason or UNSET,
            on_hold=hold,
        )


def _transition(entry: Transition) -> TimelineItem:
    shown = entry.shown or entry.member
    ghost = ghost_of(entry)
    return TimelineItem(
        at=ms(entry.at),
        type=entry.change.value,
        cause=entry.cause,
        version=entry.version,
        status=UNSET if shown is None else shown.status.value,
        room=entry.room or UNSET,
        connections=entry.connections if entry.room is None else UNSET,
        ghost_ms=ms(ghost) if ghost else UNSET,
    )


def _different(was: ConnectionSummary, c: ConnectionSummary) -> list[str]:
    return [
        name for name in ("ready", "availability", "meta", "rooms", "info") if getattr(was, name) != getattr(c, name)
    ]


def _key(user: UserId, c: ConnectionSummary) -> str:
    return redacted_key(user, c.session, c.opened_at, c.id)


def _key_of(user: UserId, e: Ending, was: ConnectionSummary | None) -> str:
    if was is not None:
        return _key(user, was)
    known = redacted_key(user, SessionId(e.session), 0.0, e.connection).split(":0:")
    return ":?:".join(known)  # the timeline no longer tells when it was opened


# -- places -----------------------------------------------------------------------------------------------------------


def place_of(entry: Entry, number: int) -> str:
    """A cursor: behind which item of which entry. It stays right while entries come and the oldest go.

    Args:
        entry: the last one that was told of, at least in part.
        number: how many of its items were told.
    """
    return f"{ms(entry.at)}-{crc32(msgspec.json.encode(entry)):08x}-{number}"


class Place(msgspec.Struct, frozen=True):
    """Where to go on in a timeline."""

    index: int
    """Of the entry."""
    number: int
    """Items of it that were told."""
    gap: bool = False
    """The entry is no longer there, so that some between may have been missed."""


_PLACE = re.compile(r"([0-9]{1,15})-([0-9a-f]{8})-([0-9]{1,6})")
CURSOR_PATTERN = "^([0-9]{1,15}-[0-9a-f]{8}-[0-9]{1,6})?$"
"""For readers of the API document."""


def find_place(entries: Sequence[Entry], cursor: str) -> Place:
    """Where a cursor is in a timeline.

    Raises:
        ValueError: it is none.
    """
    found = _PLACE.fullmatch(cursor)
    if found is None:
        raise ValueError(f"the cursor is {cursor[:64]!r}; it must be one that an earlier page gave")
    at = int(found[1])
    for index in range(len(entries) - 1, -1, -1):
        if ms(entries[index].at) == at and place_of(entries[index], 0).split("-")[1] == found[2]:
            return Place(index, int(found[3]))
    later = next((index for index, entry in enumerate(entries) if ms(entry.at) > at), len(entries))
    return Place(later, 0, gap=True)


class TimelinePart(msgspec.Struct, frozen=True):
    """A page of a timeline."""

    items: list[TimelineItem]
    cursor: str | None
    """Where to go on; None where nothing was told yet."""
    more: bool
    """There is more already."""
    gap: bool
    """What the cursor was at is no longer there."""


def read_part(
    entries: Sequence[Entry], cursor: str = "", after: int | None = None, before: int | None = None, limit: int = 1000
) -> TimelinePart:
    """A page of a timeline, oldest first.

    Args:
        entries: the whole timeline.
        cursor: that of the page before; empty for the first.
        after: only what happened after this time, Unix milliseconds.
        before: only what happened before this one.
        limit: items at most.

    Raises:
        ValueError: the cursor is none.
    """
    place = find_place(entries, cursor) if cursor else Place(-1, 0)
    found: list[tuple[int, int, TimelineItem]] = []
    last, number = -1, 0
    for index, item in expand(entries):
        last, number = index, number + 1 if index == last else 1
        in_time = (after is None or item.at > after) and (before is None or item.at < before)
        if in_time and (index, number) > (place.index, place.number):
            found.append((index, number, item))
            if len(found) > limit:
                break
    told = found[:limit]
    if told:
        cursor = place_of(entries[told[-1][0]], told[-1][1])
    return TimelinePart([item for _, _, item in told], cursor or None, len(found) > limit, place.gap)


def is_cut(entries: Sequence[Entry]) -> bool:
    """Whether a timeline no longer reaches back to a time when nobody carried the user."""
    return bool(entries) and not (isinstance(entries[0], Contributed) and entries[0].fresh)


# -- instants ---------------------------------------------------------------------------------------------------------

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_AGO = re.compile(r"-([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|min|h|d)")
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?")
_NUMBER = re.compile(r"-?[0-9]{1,15}")
INSTANT = "milliseconds since the Unix epoch, -5m (also ms, s, h, d), 12:03:05.120 (UTC) or 2026-11-24T12:03:05Z"
"""What an instant may look like."""

INSTANT_PATTERN = (
    "^(now|-?[0-9]{1,15}|-[0-9]{1,9}([.][0-9]{1,3})?(ms|s|m|min|h|d)"
    "|([01]?[0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,6})?)?$"
)
"""The same for readers of the API document, without dates."""


def parse_instant(text: str, now: float) -> float:
    """An instant that somebody wrote, as Unix seconds.

    Args:
        text: see :data:`INSTANT`; a time of day is the last such one, ``now`` and nothing are this moment.
        now: this moment, Unix seconds.

    Raises:
        ValueError: with what would be right.
    """
    text = text.strip()
    if text in ("", "now"):
        return now
    if _NUMBER.fullmatch(text):
        return int(text) / 1000
    if (ago := _AGO.fullmatch(text)) is not None:
        return now - float(ago[1]) * _UNITS[ago[2]]
    if (time := _TIME.fullmatch(text)) is not None and int(time[1]) < 24 and int(time[2]) < 60 and int(time[3]) < 60:
        of_day = int(time[1]) * 3600 + int(time[2]) * 60 + int(time[3]) + float(f"0.{time[4] or 0}")
        at = now // 86_400 * 86_400 + of_day
        return at if at <= now else at - 86_400
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:64]!r} is no instant; it must be {INSTANT}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(seconds=1)
