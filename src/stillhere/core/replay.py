"""A recorded timeline, run through the same rules again, under the windows that were in force or under others.

A timeline has what the ledger was told (:data:`~stillhere.core.events.Given`) beside what followed from it. Under the
recorded windows the same events follow again: that is what makes the answer for other windows worth something. Two
ledgers run side by side, the **twin** under the recorded windows and the **other**. The twin says when a window that
both have really ran out, however late the sweep was; a window that only the other has runs out at its deadline.

What cannot be known is left as it was: what clients would have done, had they been shown otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf

import msgspec

from stillhere.core.clock import StoreClock
from stillhere.core.events import Contributed, Entry, Event, Given, Lapsed, Prolonged, Transition
from stillhere.core.leases import LedgerState, Limits
from stillhere.core.ledger import Ledger
from stillhere.core.record import NOBODY, Contribution, Ending, Gone, Hold, Record
from stillhere.core.words import FINAL_CAUSES, Cause, ConnectionId, UserId

HORIZON = Limits().false_offline_horizon
"""Seconds after an OFFLINE within which a return makes it a false one, where nothing else is said."""


class Run(msgspec.Struct, frozen=True):
    """One user's timeline, replayed."""

    user: UserId
    entries: int
    skipped: int
    """Entries of the beginning, from which nothing follows: the timeline was cut, and what came before is missing."""
    ends: tuple[Ending, ...]
    """Of the connections, with the windows that were recorded."""
    recorded: tuple[Event, ...]
    """What the timeline says happened."""
    twin: tuple[Event, ...]
    """What follows from it under the recorded windows."""
    events: tuple[Event, ...]
    """What follows from it under the other ones."""

    @property
    def faithful(self) -> bool:
        """Whether the recorded events came out again, all of them and in order; versions aside, which are places."""
        return list(map(without_version, self.recorded)) == list(map(without_version, self.twin))


def replay(
    entries: Sequence[Entry],
    windows: Mapping[Cause, float] | None = None,
    *,
    horizon: float = HORIZON,
    until: float | None = None,
) -> Run:
    """Run one user's timeline.

    Args:
        entries: of one user, oldest first, at least one.
        windows: seconds per cause, in place of what was recorded; a cause that is absent keeps its recorded windows.
        horizon: seconds after an OFFLINE within which a return makes it a false one.
        until: when the recording ended, Unix seconds; windows that are longer than what was recorded may run out until
            then. By default the time of the last entry.
    """
    user = entries[0].user
    start = next((n for n, e in enumerate(entries) if isinstance(e, Contributed) and e.fresh), len(entries))
    twin = _Rerun(user, {}, horizon, entries[:start])
    other = _Rerun(user, dict(windows), horizon, entries[:start]) if windows else twin
    ends: dict[ConnectionId, Ending] = {}
    for entry in entries[start:]:
        if isinstance(entry, Given):
            other.catch_up(twin, entry.at, entry.clock)
            if isinstance(entry, Lapsed):
                shared = tuple(hold for hold in other.holds(entry.tabs) if twin.has(hold))
                twin.lapse(entry.at, entry.clock, twin.holds(entry.tabs))
                if other is not twin:
                    other.lapse(entry.at, entry.clock, shared)
                continue
            if isinstance(entry, Contributed):
                ends.update((ending.connection, ending) for ending in entry.endings)
            for ledger in {id(twin): twin, id(other): other}.values():
                ledger.take(entry)
    last = max((e.at for e in entries), default=0.0) if until is None else until
    other.catch_up(twin, last, None)
    told = tuple(e for e in entries[start:] if not isinstance(e, Given))
    same = tuple(twin.take_events())
    return Run(
        user,
        len(entries),
        start,
        tuple(ends.values()),
        told,
        same,
        same if other is twin else tuple(other.take_events()),
    )


def by_user(entries: Iterable[Entry]) -> dict[UserId, list[Entry]]:
    """The timelines of a recording of many users, each in its order."""
    found: dict[UserId, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.user, []).append(entry)
    return found


def without_version(event: Event) -> Event:
    """An event as it can be compared with that of a replay, which numbers its transitions anew."""
    if not isinstance(event, Transition):
        return event
    shown = None if event.shown is None else msgspec.structs.replace(event.shown, version=0)
    member = None if event.member is None else msgspec.structs.replace(event.member, version=0)
    return msgspec.structs.replace(event, version=0, shown=shown, member=member)


class _Rerun(Ledger):
    """A ledger with one user, whose clock stands where the recorded one stood."""

    def __init__(self, user: UserId, windows: Mapping[Cause, float], horizon: float, before: Sequence[Entry]) -> None:
        super().__init__(Limits(false_offline_horizon=horizon), LedgerState(run="replay"))
        self._user = user
        self._windows = windows
        self._revision = 0
        self._place = (0.0, 0.0)
        if before:
            self.records[user] = _remembered(user, before)

    @property
    def record(self) -> Record:
        record = self.records.get(self._user)
        if record is None:
            record = self.records[self._user] = Record(self._user)
        return record

    def take(self, entry: Contributed | Prolonged) -> None:
        """What the store was told."""
        if isinstance(entry, Prolonged):
            self._set(entry.at, entry.clock)
            if self.record.holds:
                self._prolong(self.record, entry.at, entry.cause, self._window(entry.cause, entry.window))
            return
        self._set(entry.at, entry.clock, on_hold=entry.on_hold, recovering=entry.recovering, epoch=entry.epoch)
        record = self.record
        changed = {c.id: c for c in entry.connections}
        out = {*entry.gone, *(e.connection for e in entry.endings)}
        there = tuple(changed.pop(c.id, c) for c in record.carried_by(entry.incarnation) if c.id not in out)
        endings = tuple(msgspec.structs.replace(e, window=self._window(e.cause, e.window)) for e in entry.endings)
        self._revision += 1
        told = Contribution(self._user, self._revision, (*there, *changed.values()), endings, entry.leaves)
        self._merge(record, entry.incarnation, told, entry.at, entry.ended_at)

    def holds(self, tabs: Iterable[str] | None = None) -> tuple[Hold, ...]:
        """The windows that are pending, those of some tabs only."""
        wanted = None if tabs is None else set(tabs)
        return tuple(hold for tab, hold in self.record.holds.items() if wanted is None or tab in wanted)

    def has(self, hold: Hold) -> bool:
        """Whether a window of the same tab with the same deadline is pending here as well."""
        mine = self.record.holds.get(hold.connection.tab)
        return mine is not None and mine.deadline == hold.deadline

    def lapse(self, at: float, clock: float, ended: Sequence[Hold]) -> None:
        """These windows ran out."""
        self._set(at, clock)
        if ended:
            self._lapse(self.record, at, ended)

    def catch_up(self, twin: _Rerun, at: float, clock: float | None) -> None:
        """Let those windows run out that only this one has.

        Args:
            twin: what it has runs out when it was recorded to.
            at: Unix time that has come.
            clock: the same on the store clock; None where nobody wrote it down.
        """
        while pending := [hold for hold in self.holds() if not twin.has(hold)]:
            since, value = self._place
            deadline = min(hold.deadline for hold in pending)
            due = since + max(0.0, deadline - value)
            if (due > at) if clock is None else (deadline > clock):
                return
            # where the store clock stood still for a while, nobody knows when: as late as can be
            self.lapse(min(due, max(at, since)), max(deadline, value), [h for h in pending if h.deadline <= deadline])

    def _window(self, cause: Cause, recorded: float) -> float:
        return recorded if cause in FINAL_CAUSES else self._windows.get(cause, recorded)

    def _set(
        self, at: float, clock: float, *, on_hold: bool = False, recovering: bool = False, epoch: int | None = None
    ) -> None:
        self.state.clock = StoreClock(clock, at, inf if on_hold else 0.0, inf if recovering else 0.0)
        self._place = (at, clock)
        if epoch is not None and epoch != self.state.epoch:
            self.state.epoch = epoch
            self.limits = msgspec.structs.replace(self.limits, watchers_outlive=epoch != 0)


def _remembered(user: UserId, before: Sequence[Entry]) -> Record:
    """What is left of a cut beginning when nobody carries the user any more: as what they were shown, who had gone."""
    record = Record(user)
    for entry in before:
        if isinstance(entry, Transition) and entry.shown is not None:
            record.shown = msgspec.structs.replace(entry.shown, version=0)
            record.last_seen_at = entry.shown.last_seen_at
            record.hidden_at = entry.shown.last_seen_at if entry.cause == "invisible" else None
            record.offline_at = entry.at
        elif isinstance(entry, Contributed):
            for e in entry.endings:
                record.gone = tuple(gone for gone in record.gone if gone.tab != e.tab)
                if e.cause not in FINAL_CAUSES:
                    record.gone = (*record.gone, Gone(e.tab, e.session, e.cause, entry.at - e.ago, e.window))
    if record.shown is not NOBODY:
        record.shown = msgspec.structs.replace(record.shown, version=1)  # known: a change of it is news
    return record
