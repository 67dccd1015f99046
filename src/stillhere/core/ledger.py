"""The ledger: who is present, decided in one place.

Nodes hand in contributions; the ledger merges them, opens and ends windows, decides transitions, numbers them and
keeps leases. It is pure: the store's own time comes in as ``now``, events go out through :meth:`Ledger.take_events`,
and :meth:`Ledger.next_deadline` says when :meth:`Ledger.sweep` has something to do.

A presence key moves through three phases::

    OFFLINE --opened--> ONLINE --last active ended--> HELD --opened--> ONLINE       (watchers see nothing)
                          ^                             |--deadline, upgrade in flight--> HELD until its outcome
                          |                             |--deadline--> OFFLINE
                          '--bye, kick or revocation of the last--> OFFLINE at once

Rules that are not obvious, each found the hard way by simulation:

* The **longest pending window wins**, and a reconnect does not shorten it: a tab that closes with a short window, or a
  departure with none, must not cancel the long window of another tab.
* One writer per element, whole states, revisions: repeated and late contributions do no harm.
* A window is measured from the end of the connection (``ended ago``), not from the arrival of the news.
* Versions are places in the log, so that they stay in order although the record of a user may be forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import msgspec

from stillhere.core.deadlines import Deadlines
from stillhere.core.events import Change, Contributed, Entry, Event, Given, Lapsed, Notice, NoticeKind, Prolonged
from stillhere.core.leases import Answer, Leases, LedgerState, Limits
from stillhere.core.publish import publish
from stillhere.core.record import NOBODY, ConnectionSummary, Contribution, Ending, Hold, Record, Share, Shown
from stillhere.core.windows import (
    PHASES,
    Left,
    end_connection,
    enter_window,
    forget_room,
    leave_window,
    note_return,
    situation,
)
from stillhere.core.words import Cause, ConnectionId, Incarnation, Phase, ReadyState, RoomName, UserId

_FORGET_MOST = 1000
"""Users who are forgotten per sweep."""


class Ledger(Leases):
    """The rules over the records of one partition."""

    def __init__(self, limits: Limits | None = None, state: LedgerState | None = None) -> None:
        """Start empty, or from a stored state (then :meth:`load` the records)."""
        super().__init__(limits or Limits(), state or LedgerState())
        self.records: dict[UserId, Record] = {}
        self.rooms: dict[RoomName, set[UserId]] = {}
        self.holders: dict[Incarnation, set[UserId]] = {}
        self._deadlines: Deadlines[UserId] = Deadlines()
        self._departed: OrderedDict[UserId, float] = OrderedDict()
        self._events: list[Entry] = []
        self._dirty: dict[UserId, None] = {}
        self._inherited: list[tuple[UserId, ConnectionSummary]] = []

    # -- what comes out -----------------------------------------------------------------------------------------

    def take_events(self) -> list[Event]:
        """Drain what happened since the last call, in order; without what it followed from."""
        return [entry for entry in self.take_entries() if not isinstance(entry, Given)]

    def take_entries(self) -> list[Entry]:
        """The same with what it followed from: all that timelines are made of."""
        entries, self._events = self._events, []
        return entries

    def take_dirty(self) -> list[tuple[UserId, Record | None]]:
        """Drain the records that changed since the last call; None for one that was forgotten."""
        dirty, self._dirty = self._dirty, {}
        return [(user, self.records.get(user)) for user in dirty]

    def take_inherited(self) -> list[tuple[UserId, ConnectionSummary]]:
        """Drain the connections that took over their tab's availability or metadata: their node wants to know."""
        inherited, self._inherited = self._inherited, []
        return inherited

    def next_deadline(self) -> float | None:
        """When :meth:`sweep` has something to do next, in seconds from the last tick; None for never."""
        clock = self.state.clock
        ats = [at for at in (self._deadlines.next(), *self.state.leases.values()) if at is not None]
        if not ats:
            return None
        return max(min(ats), clock.held_until) - clock.value

    @property
    def windows_pending(self) -> int:
        """How many users have a window, running or covered by a connection."""
        return len(self._deadlines)

    @property
    def users_present(self) -> int:
        """How many users are ONLINE or HELD (or carried by a node)."""
        return len(self.records) - len(self._departed)

    # -- nodes --------------------------------------------------------------------------------------------------

    def reap(self, now: float, incarnation: Incarnation, window: float, limit: int = 200) -> int:
        """End connections of a dead incarnation.

        Args:
            window: seconds for which each of its users is held from now on.
            limit: users per call.

        Returns:
            How many users were drained; fewer than ``limit`` when the incarnation is done with.
        """
        self._tick(now)
        cause = self.state.dead.get(incarnation)
        if cause is None:
            return 0
        held = self.holders.get(incarnation, set())
        ended_at = min(self.state.heard.get(incarnation, now), now)
        users = sorted(held)[:limit]
        for user in users:
            record = self.records[user]
            share = record.shares[incarnation]
            endings = tuple(
                Ending(c.id, c.session, c.tab, cause, window, 0.0) for c in share.connections if c.ready.active
            )
            self._merge(record, incarnation, Contribution(user, share.revision + 1, (), endings), now, ended_at)
        if not self.holders.get(incarnation):
            self.holders.pop(incarnation, None)
            self.state.dead.pop(incarnation)
            self.state.heard.pop(incarnation, None)
            self.state.processes.pop(incarnation, None)
        return len(users)

    # -- contributions ------------------------------------------------------------------------------------------

    def put(self, now: float, incarnation: Incarnation, channel: int, contributions: Iterable[Contribution]) -> Answer:
        """Merge what a node has of some users. Stale revisions are ignored."""
        answer = self._admit(now, incarnation, channel)
        if answer is Answer.OK:
            for contribution in contributions:
                record = self.records.get(contribution.user)
                if record is None:
                    record = self.records[contribution.user] = Record(contribution.user)
                share = record.shares.get(incarnation)
                if share is None or share.revision < contribution.revision:
                    self._merge(record, incarnation, contribution, now)
        return answer

    def sweep(self, now: float, limit: int = 1000) -> Answer:
        """Fire the deadlines that have come and find the leases that ran out.

        Args:
            limit: users per call; call again while :meth:`next_deadline` is not positive.
        """
        if not self.state.run:
            return Answer.NO_EPOCH
        value = self._tick(now)
        if self.state.clock.on_hold:
            return Answer.HOLD
        for incarnation in [inc for inc, at in self.state.leases.items() if at <= value]:
            self.retire(now, incarnation)
        for user in list(self._deadlines.due(value, limit)):
            record = self.records[user]
            self._lapse(record, now, [hold for hold in record.holds.values() if hold.deadline <= value])
        self._forget(now)
        return Answer.OK

    def hold_everyone(self, now: float, cause: Cause, window: float) -> None:
        """After a restart: whoever is in a window gets at least ``window`` seconds from now to come back."""
        self._tick(now)
        for record in self.records.values():
            if record.holds:
                self._prolong(record, now, cause, window)

    def load(self, records: Iterable[Record]) -> None:
        """Take stored records; only for a ledger that is empty."""
        departed: list[tuple[float, UserId]] = []
        for record in records:
            self.records[record.user] = record
            for room in record.members:
                self.rooms.setdefault(room, set()).add(record.user)
            for incarnation in record.shares:
                self.holders.setdefault(incarnation, set()).add(record.user)
            self._watch_deadline(record)
            if record.phase is Phase.OFFLINE and not record.shares:
                departed.append((record.left_at, record.user))
        self._departed = OrderedDict((user, at) for at, user in sorted(departed))

    def doubtful(self, user: UserId) -> bool:
        """Whether a user is there only as an epoch left it that was lost: watchers may know of an end that was lost."""
        record = self.records.get(user)
        return record is not None and record.phase is not Phase.OFFLINE and record.epoch != self.state.epoch

    def shown(self, user: UserId) -> Shown:
        """What a watcher is shown of a user; changes nothing."""
        record = self.records.get(user)
        return NOBODY if record is None else record.shown

    # -- inside -------------------------------------------------------------------------------------------------

    def _lapse(self, record: Record, now: float, ended: Sequence[Hold]) -> None:
        """Windows of a user ran out."""
        for hold in ended:
            del record.holds[hold.connection.tab]
        tabs = tuple(sorted(hold.connection.tab for hold in ended))
        self._events.append(Lapsed(record.user, now, tabs, self.state.clock.value))
        self._settle(record, now, max(ended, key=lambda hold: hold.deadline).cause)

    def _prolong(self, record: Record, now: float, cause: Cause, window: float) -> None:
        """Every window of a user lasts at least so long from now on."""
        value = self.state.clock.value
        for tab, hold in record.holds.items():
            if hold.deadline < value + window:
                record.holds[tab] = msgspec.structs.replace(hold, cause=cause, window=window, deadline=value + window)
        self._events.append(Prolonged(record.user, now, cause, window, value))
        self._settle(record, now, None)

    def _merge(
        self,
        record: Record,
        incarnation: Incarnation,
        told: Contribution,
        now: float,
        ended_at: float | None = None,
    ) -> None:
        """Put a contribution in the place of the incarnation's former one and settle the record."""
        before = {c.id: c for c in record.carried_by(incarnation)}
        fresh = record.phase is Phase.OFFLINE and not record.shares
        for leave in told.leaves:
            forget_room(record, leave)
        opened = any(c.ready.active for c in told.connections)
        present = opened or record.phase is not Phase.OFFLINE
        # what it was told before, a store may have forgotten that lost its last writes: watchers have not
        forgotten = not present and self.limits.watchers_outlive and self.state.clock.recovering
        left = Left()
        cause: str | None = None
        for ending in told.endings:
            since = now - ending.ago if ended_at is None else ended_at
            was = before.get(ending.connection)
            carried = was is not None and was.ready.active
            if ending.last is not None:
                was = self._inherit(record, before, ending.last, left)
            there = present or (forgotten and ending.window > ending.ago)
            cause = end_connection(
                record,
                ending,
                was,
                since,
                self.state.clock,
                present=there,
                carried=carried,
                late_news=self.limits.late_news,
            )
            left.end(ending, was, since)
            rest = tuple(c for c in record.carried_by(incarnation) if c.id != ending.connection)
            record.shares[incarnation] = Share(told.revision, rest)
        connections = tuple(self._inherit(record, before, c, left) for c in told.connections)
        arrived = [c for c in connections if c.ready.active and not _was_active(before, c)]
        if connections:
            record.shares[incarnation] = Share(told.revision, connections)
            self.holders.setdefault(incarnation, set()).add(record.user)
        else:
            record.shares.pop(incarnation, None)
            if (held := self.holders.get(incarnation)) is not None:
                held.discard(record.user)
        again = opened and self.limits.watchers_outlive and record.epoch != self.state.epoch
        self._record(record, incarnation, told, before, connections, now, ended_at, fresh=fresh, again=again)
        if len(record.shares) > (incarnation in record.shares):
            _take_over(record, incarnation, {c.id for c in connections} | {e.connection for e in told.endings})
        if forgotten and record.holds:
            record.phase, cause = Phase.HELD, "connection_open"
        for c in arrived:
            self._supersede(record, incarnation, c, now)
            self._report(note_return(record, c, now, self.limits.false_offline_horizon))
        self._settle(record, now, cause or ("connection_open" if arrived else None))
        if opened and self.limits.watchers_outlive:
            record.epoch = self.state.epoch

    def _inherit(
        self, record: Record, before: dict[ConnectionId, ConnectionSummary], c: ConnectionSummary, left: Left
    ) -> ConnectionSummary:
        """A tab keeps its availability and metadata across reconnects until the new connection states its own."""
        if c.ready is ReadyState.CONNECTING or (c.availability is not None and c.meta is not None):
            return c
        arrived = not _was_active(before, c)
        same = _predecessor(record, c, left) if arrived else before[c.id]
        if same is None or (same.availability is None and same.meta is None):
            return c
        c = msgspec.structs.replace(
            c,
            availability=same.availability if c.availability is None else c.availability,
            meta=same.meta if c.meta is None else c.meta,
        )
        if arrived and c.ready.active:
            self._inherited.append((record.user, c))
        return c

    def _record(
        self,
        record: Record,
        incarnation: Incarnation,
        told: Contribution,
        before: dict[ConnectionId, ConnectionSummary],
        connections: tuple[ConnectionSummary, ...],
        now: float,
        ended_at: float | None,
        *,
        fresh: bool,
        again: bool,
    ) -> None:
        """Note for the timeline what is new in a contribution; all of it where it is told again in a new epoch."""
        changed = tuple(c for c in connections if before.get(c.id) != c)
        there = {c.id for c in connections} | {e.connection for e in told.endings}
        gone = tuple(id for id in before if id not in there)
        if changed or gone or told.endings or told.leaves or again:
            clock = self.state.clock
            self._events.append(
                Contributed(
                    record.user,
                    now,
                    incarnation,
                    changed,
                    tuple(_brief(e, before.get(e.connection)) for e in told.endings),
                    told.leaves,
                    gone,
                    clock.value,
                    clock.on_hold,
                    ended_at,
                    fresh,
                    self.state.epoch if self.limits.watchers_outlive else 0,
                    clock.recovering,
                )
            )

    def _supersede(self, record: Record, incarnation: Incarnation, c: ConnectionSummary, now: float) -> None:
        """An older connection of the tab on another node is a ghost: that node closes it; here it ends nothing."""
        for other, old in record.connections():
            if other != incarnation and old.tab == c.tab and _older(old, c):
                cause = Cause.SUPERSEDED.value
                self._notice(
                    Notice(NoticeKind.SUPERSEDED, self._next_version(), now, other, record.user, old.id, cause)
                )

    def _settle(self, record: Record, now: float, cause: str | None) -> None:
        """Bring phase, window, what is shown and the deadline in line with connections and holds."""
        self._dirty[record.user] = None
        before = record.phase
        record.phase = phase = PHASES[before, situation(record)]
        if phase is Phase.HELD:
            self._report(enter_window(record, now, cause, self.state.clock.value))
        elif before is Phase.HELD:
            cause, ended = leave_window(record, now, cause)
            self._report(ended)
        if phase is Phase.OFFLINE and before is not Phase.OFFLINE:
            record.offline_at = now
        self._watch_deadline(record)
        # who is back from a window of an epoch that was lost: watchers may have been told that it ran out
        again = (
            self.limits.watchers_outlive
            and before is Phase.HELD
            and phase is Phase.ONLINE
            and record.epoch != self.state.epoch
        )
        for transition in publish(record, now, cause or "state", self._next_version, again=again):
            if self.limits.watchers_outlive:
                record.epoch = self.state.epoch
            self._events.append(transition)
            if transition.room is not None:
                self._index(transition.room, record.user, transition.change)
        self._keep(record)

    def _report(self, event: Event | None) -> None:
        if event is not None:
            self._events.append(event)

    def _index(self, room: RoomName, user: UserId, change: Change) -> None:
        if change is Change.LEFT:
            self.rooms[room].discard(user)
            if not self.rooms[room]:
                del self.rooms[room]
        else:
            self.rooms.setdefault(room, set()).add(user)

    def _keep(self, record: Record) -> None:
        """Who is offline and whom no node carries may be forgotten in time; who never was shown, at once.

        But for one who was kicked: a node may tell later of an end before that, which leaves no window.
        """
        if record.phase is not Phase.OFFLINE or record.shares:
            self._departed.pop(record.user, None)
        elif not record.shown.version and not any(d.everything for d in record.departures):
            self._departed.pop(record.user, None)
            del self.records[record.user]
        elif record.user not in self._departed:
            self._departed[record.user] = record.left_at

    def _watch_deadline(self, record: Record) -> None:
        self._deadlines.set(record.user, min((h.deadline for h in record.holds.values()), default=None))

    def _forget(self, now: float) -> None:
        """Drop users who have been offline for long, or for whom there is no room."""
        departed = self._departed
        for _ in range(_FORGET_MOST):
            if not departed:
                return
            user = next(iter(departed))
            if len(departed) <= self.limits.known_users and now - self.records[user].left_at < self.limits.remember:
                return
            del departed[user]
            del self.records[user]
            self._dirty[user] = None


def _predecessor(record: Record, c: ConnectionSummary, left: Left) -> ConnectionSummary | None:
    """The connection of the same tab that was opened last: active, in its window, or ended in the same breath."""
    known = [o for _, o in record.connections() if o.ready.active and o.tab == c.tab]
    if (hold := record.holds.get(c.tab)) is not None:
        known.append(hold.connection)
    if (old := left.of(c)) is not None:
        known.append(old)
    return max(known, key=lambda o: (o.opened_at, o.id), default=None)


def _take_over(record: Record, incarnation: Incarnation, told: set[ConnectionId]) -> None:
    """A connection is in one share only: what a process tells as a new incarnation leaves that of the former one."""
    for other, share in record.shares.items():
        if other != incarnation and any(c.id in told for c in share.connections):
            rest = tuple(c for c in share.connections if c.id not in told)
            record.shares[other] = Share(share.revision, rest)


def _brief(ending: Ending, was: ConnectionSummary | None) -> Ending:
    """An end for the timeline: without the connection, where that is known as it was."""
    last = ending.last
    if last is None or was is None or msgspec.structs.replace(last, ready=was.ready) != was:
        return ending
    return msgspec.structs.replace(ending, last=None)


def _older(old: ConnectionSummary, c: ConnectionSummary) -> bool:
    return old.ready.active and old.opened_at <= c.opened_at


def _was_active(before: dict[ConnectionId, ConnectionSummary], c: ConnectionSummary) -> bool:
    was = before.get(c.id)
    return was is not None and was.ready.active
