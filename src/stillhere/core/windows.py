"""The windows of one record: what an ending opens, what a departure ends, what a return is compared with.

Plain functions over a :class:`~stillhere.core.record.Record`; the ledger calls them and queues what they report.
"""

from __future__ import annotations

from enum import StrEnum
from math import inf

import msgspec

from stillhere.core.clock import StoreClock
from stillhere.core.events import GraceCancelled, GraceExpired, GraceStarted, Returned
from stillhere.core.record import ConnectionSummary, Departure, Ending, Gone, Grace, Hold, Leave, Record
from stillhere.core.words import FINAL_CAUSES, Cause, Phase, ReadyState, TabId

_DEPARTURES = FINAL_CAUSES - {Cause.SUPERSEDED}
_CAUSES = frozenset(Cause)
_HOLDS_MAX = 64
_GONE_MAX = 16
_DEPARTURES_MAX = 8
_ENDED_MAX = 8


class Situation(StrEnum):
    """What the connections and windows of a key amount to."""

    OPENED = "a connection is active"
    PENDING = "none active, window pending"
    IN_FLIGHT = "none active, upgrade in flight"
    NOTHING = "nothing left"


PHASES: dict[tuple[Phase, Situation], Phase] = {
    (Phase.OFFLINE, Situation.OPENED): Phase.ONLINE,
    (Phase.OFFLINE, Situation.PENDING): Phase.OFFLINE,
    (Phase.OFFLINE, Situation.IN_FLIGHT): Phase.OFFLINE,
    (Phase.OFFLINE, Situation.NOTHING): Phase.OFFLINE,
    (Phase.ONLINE, Situation.OPENED): Phase.ONLINE,
    (Phase.ONLINE, Situation.PENDING): Phase.HELD,
    (Phase.ONLINE, Situation.IN_FLIGHT): Phase.HELD,
    (Phase.ONLINE, Situation.NOTHING): Phase.OFFLINE,
    (Phase.HELD, Situation.OPENED): Phase.ONLINE,
    (Phase.HELD, Situation.PENDING): Phase.HELD,
    (Phase.HELD, Situation.IN_FLIGHT): Phase.HELD,
    (Phase.HELD, Situation.NOTHING): Phase.OFFLINE,
}
"""The whole machine of a presence key."""


def situation(record: Record) -> Situation:
    """Where a record stands."""
    connecting = False
    for share in record.shares.values():
        for c in share.connections:
            if c.ready.active:
                return Situation.OPENED
            connecting = connecting or c.ready is ReadyState.CONNECTING
    if record.holds:
        return Situation.PENDING
    return Situation.IN_FLIGHT if connecting else Situation.NOTHING


def end_connection(
    record: Record,
    ending: Ending,
    was: ConnectionSummary | None,
    since: float,
    clock: StoreClock,
    *,
    present: bool,
    carried: bool,
    late_news: float,
) -> Cause:
    """One connection ended: note when, and open or end windows.

    Args:
        record: the user's.
        ending: what the node reported.
        was: the connection as it last was; None if nobody's ended.
        since: when it ended, Unix time.
        clock: the store clock.
        carried: whether the connection was active as far as the store knew: its end is news then, whatever is pending.
        present: whether the user is shown, or will be: nobody is held who came and went before anybody was told.
        late_news: seconds for which what an earlier end must not do again is remembered.

    Returns:
        The cause of the end.
    """
    cause = ending.cause
    pending = record.holds.get(ending.tab)
    again = pending is not None and pending.connection.id == ending.connection and not carried
    if ending.connection in record.ended and not carried and cause not in FINAL_CAUSES:
        return cause  # told again: what it left is a part of a later window, or ended with a goodbye
    if pending is not None and again and cause not in FINAL_CAUSES and not _news(pending, cause):
        # told again: its window was stamped when it was told first; only its rooms are as they are told
        told = pending if was is None else msgspec.structs.replace(pending, connection=was)
        _hold(record, told, clock, late_news)
        return cause
    if cause in _DEPARTURES:
        _depart(record, ending, since, clock, late_news)
    if cause is not Cause.SUPERSEDED and was is not None:
        record.last_seen_at = max(record.last_seen_at or 0.0, since)
    ended = clock.value - ending.ago
    # of an end before a goodbye another node may tell after it
    covered = cause in FINAL_CAUSES or any(d.covers(ending, since, ended) for d in record.departures)
    if covered:
        # nobody goes while nothing expires, either: a node may not have told yet of another connection that is open
        if clock.on_hold and present and was is not None and (cause is not Cause.SUPERSEDED or pending is None):
            _hold(record, Hold(was, cause, since, 0.0, ended), clock, late_news)
        return cause
    gone = Gone(ending.tab, ending.session, cause, since, ending.window)
    record.gone = (*[g for g in record.gone if g.tab != ending.tab][-_GONE_MAX + 1 :], gone)
    deadline = clock.value + ending.window - ending.ago
    # while nothing expires, nobody is judged by news that arrives in any order: the window is kept though it is past
    if (deadline > clock.value or clock.on_hold) and present and was is not None:
        _hold(record, Hold(was, cause, since, ending.window, deadline), clock, late_news)
    return cause


class Left:
    """What tabs left behind in one contribution: an end and the reconnect after it may be told together.

    By then the window of the end may be past, and a superseded connection never had one; the tab is the same all along.
    """

    def __init__(self) -> None:
        """Nothing yet."""
        self._tabs: dict[TabId, tuple[ConnectionSummary, float]] = {}

    def end(self, ending: Ending, was: ConnectionSummary | None, since: float) -> None:
        """One more connection ended; in the order of the ends, since a departure ends what came before it."""
        if ending.cause in _DEPARTURES:
            everything = ending.cause is not Cause.BYE
            for tab, (c, _) in list(self._tabs.items()):
                if everything or c.session == ending.session or tab == ending.tab:
                    del self._tabs[tab]
        elif was is not None:
            until = inf if ending.cause is Cause.SUPERSEDED else since + ending.window
            self._tabs[ending.tab] = was, until

    def of(self, c: ConnectionSummary) -> ConnectionSummary | None:
        """The connection that a new one of its tab takes over from, if that came in time."""
        old, until = self._tabs.get(c.tab, (None, 0.0))
        return old if c.opened_at < until else None


def _news(pending: Hold, cause: Cause) -> bool:
    """What a node that was taken for lost tells itself, later, of an end."""
    return pending.lost and cause is not Cause.NODE_LOST


def _depart(record: Record, ending: Ending, since: float, clock: StoreClock, late_news: float) -> None:
    """A departure ends the windows that its session and its tab left open; a kick or a revocation ends them all.

    Not those left open since: the news of a departure may come late, and more than once. While nothing expires they end
    with the hold.
    """

    ended = clock.value - ending.ago
    departure = Departure(ending.session, ending.tab, ending.cause is not Cause.BYE, since, ended)
    recent = [d for d in record.departures if clock.value - d.clock < late_news]
    record.departures = (*recent, departure)[-_DEPARTURES_MAX:]
    for tab, hold in list(record.holds.items()):
        if hold.ended <= ended and departure.speaks_for(hold.connection.session, tab, hold.cause):
            if clock.on_hold:
                record.holds[tab] = Hold(hold.connection, ending.cause, hold.since, 0.0, ended)
            else:
                del record.holds[tab]
                _note_ended(record, hold, clock, late_news)
    mine = departure.speaks_for
    record.gone = tuple(g for g in record.gone if not (g.ended_at <= since and mine(g.session, g.tab, g.cause)))


def _hold(record: Record, hold: Hold, clock: StoreClock, late_news: float) -> None:
    """Of two windows of a tab the longer one stays, for the newer connection and the rooms of both.

    The rooms come back one message later than the connection: a page that is reloaded twice in a row ends a connection
    that had not joined anything yet. A departure ends the window if it came after the newer of the two ends.
    """
    tab = hold.connection.tab
    pending = record.holds.get(tab)
    if pending is not None:
        if pending.connection.id != hold.connection.id:
            _note_ended(record, pending, clock, late_news)
        connection = hold.connection
        if pending.connection.rooms:
            rooms = {**pending.connection.rooms, **(connection.rooms or {})}
            connection = msgspec.structs.replace(connection, rooms=rooms)
        longer = pending if pending.deadline > hold.deadline else hold
        untold = hold.lost and longer.cause is not Cause.NODE_LOST
        latest = max(pending.ended, hold.ended)
        hold = msgspec.structs.replace(longer, connection=connection, latest=latest, untold=untold)
    record.holds[tab] = hold
    if len(record.holds) > _HOLDS_MAX:
        del record.holds[min(record.holds, key=lambda t: record.holds[t].deadline)]


def _note_ended(record: Record, hold: Hold, clock: StoreClock, late_news: float) -> None:
    """A window that is none of its own any more: told again, its end opens no other.

    Unless the node was taken for lost: what it tells itself of that end, later, is news.
    """
    if not hold.lost:
        recent = record.ended if clock.value - record.noted_at < late_news else ()
        record.ended = (*recent, hold.connection.id)[-_ENDED_MAX:]
        record.noted_at = clock.value


def forget_room(record: Record, leave: Leave) -> None:
    """A tab left a room on purpose: its pending window keeps it there no longer."""
    hold = record.holds.get(leave.tab)
    if hold is None or not hold.connection.rooms or leave.room not in hold.connection.rooms:
        return
    rooms = {room: meta for room, meta in hold.connection.rooms.items() if room != leave.room}
    connection = msgspec.structs.replace(hold.connection, rooms=rooms)
    record.holds[leave.tab] = msgspec.structs.replace(hold, connection=connection)


def note_return(record: Record, c: ConnectionSummary, now: float, horizon: float) -> Returned | None:
    """Compare a new connection with what had gone: the reconnect gap, and whether an OFFLINE was a false one.

    Args:
        horizon: seconds after an OFFLINE within which a return makes it false.
    """
    if not record.gone:
        return None
    back = [g for g in record.gone if g.tab == c.tab] or [g for g in record.gone if g.session == c.session]
    if not back:
        return None
    gone = back[-1]
    record.gone = tuple(g for g in record.gone if g is not gone)
    gap = max(0.0, now - gone.ended_at)
    if gap > gone.window + horizon:
        return None
    false = record.phase is Phase.OFFLINE and now - record.offline_at <= horizon
    if false:
        record.offline_at = 0.0  # each OFFLINE counts once, though several tabs come back at once
    return Returned(record.user, now, gone.tab, gone.session, gone.cause, gap, false, gone.window)


def enter_window(record: Record, now: float, cause: str | None, clock: float) -> GraceStarted | None:
    """Name the window that the user is in: stamped on entry, moved only by a longer one."""
    grace = record.grace
    longest = max(record.holds.values(), key=lambda h: h.deadline, default=None)
    if longest is not None:
        record.grace = Grace(longest.cause, longest.since, longest.window, longest.deadline)
        if grace is None:
            return GraceStarted(record.user, now, longest.cause, longest.window, longest.since)
    elif grace is None:  # a departure, or a window of 0, while an upgrade is in flight
        record.grace = Grace(Cause(cause) if cause in _CAUSES else Cause.ABNORMAL, now, 0.0, clock)
    return None


def leave_window(record: Record, now: float, cause: str | None) -> tuple[str, GraceCancelled | GraceExpired | None]:
    """The window ends: cancelled by a connection, ended by a departure, or run out.

    Returns:
        The cause of what follows, and what to report.
    """
    grace, record.grace = record.grace, None
    assert grace is not None, "a HELD record has a window"
    since = max(0.0, now - (record.last_seen_at or now))
    if record.phase is Phase.ONLINE:
        return cause or "connection_open", GraceCancelled(record.user, now, grace.cause, since)
    if cause in FINAL_CAUSES:
        return str(cause), GraceCancelled(record.user, now, grace.cause, since, str(cause))
    return grace.cause, GraceExpired(record.user, now, grace.cause, since) if grace.window > 0 else None
