"""A store inside the process: the ledger itself, with a hook for making its changes durable.

Everything is applied to the ledger at once and on the loop; what differs between the stores built on this is when a
change counts as acknowledged. Nothing is told to anybody, watchers included, before it is.
"""

from __future__ import annotations

import heapq
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from stillhere.core.clock import ClockLimits
from stillhere.core.events import Entry, Given, NoticeKind, Transition
from stillhere.core.grace import GracePolicy
from stillhere.core.leases import Answer, Limits
from stillhere.core.ledger import Ledger
from stillhere.core.record import Contribution, Record
from stillhere.core.words import Cause, Incarnation, RoomName, Status, UserId
from stillhere.store.contract import (
    Cursor,
    Fenced,
    LogPage,
    NodeState,
    Outcome,
    Page,
    RoomSnapshot,
    Snapshot,
    StoreStatistics,
    TimelinePage,
)

LOG_KEPT = 20_000
"""Transitions that can be read from memory."""

_CHANNEL = 1
_LEASE = 1e10
"""A local store has one caller and no late requests: its word is the only one there is, however long it stalled."""


class LocalStore:
    """The contract over a :class:`Ledger` in memory. Subclasses override the hooks at the end."""

    kind = "local"
    applies_at_once = True
    partitions = 1

    def __init__(
        self,
        now: Callable[[], float],
        *,
        policy: GracePolicy | None = None,
        limits: Limits | None = None,
        timeline_entries: int = 200,
        log_kept: int = LOG_KEPT,
    ) -> None:
        """Prepare; nothing is opened before :meth:`start`.

        Args:
            now: the time of the store, Unix seconds; the ledger clamps its jumps.
            policy: the windows for those whom a former run left behind.
            limits: what is remembered.
            timeline_entries: how many events are kept per user.
            log_kept: how many transitions are kept in memory.
        """
        self._now = now
        self.policy = policy or GracePolicy.of()
        self.limits = limits or Limits(clock=ClockLimits())
        self.ledger = Ledger(self.limits)
        self._incarnation = Incarnation("")
        self.about: Callable[[], bytes] = bytes
        self._timeline_entries = timeline_entries
        self._timelines: dict[UserId, list[Entry]] = {}
        self._log: deque[Transition] = deque(maxlen=log_kept)
        self._log_kept = log_kept
        self._published = 0
        self._listeners: list[Callable[[], None]] = []
        self._former_clean = False
        self._carried = Outcome()
        self._marks: dict[str, bytes] = {}

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self, incarnation: Incarnation, lease: float) -> None:
        """See :meth:`Store.start`: whoever a former run left is held from now on."""
        await self._open()
        now = self._now()
        ledger = self.ledger
        ledger.hello(now, secrets.token_hex(8), nonce=secrets.randbelow(1024))
        self._published = ledger.state.seq
        self._end_former_run(now)
        self._incarnation = incarnation
        ledger.join(now, incarnation, _CHANNEL, _LEASE)
        self._carried = self._take()
        await self._commit()

    async def stop(self) -> None:
        """See :meth:`Store.stop`."""
        await self._commit()
        await self._close()

    def _end_former_run(self, now: float) -> None:
        """Whoever was there, or in a window, gets the window of a stop or of a crash to come back."""
        ledger = self.ledger
        cause = Cause.NODE_DRAIN if self._former_clean else Cause.NODE_LOST
        for incarnation in sorted({*ledger.state.leases, *ledger.holders}):
            if incarnation not in ledger.state.dead:
                ledger.retire(now, incarnation, cause)
        for incarnation, why in list(ledger.state.dead.items()):
            while ledger.reap(now, incarnation, self.policy.window(why), limit=len(ledger.records) + 1):
                pass
        ledger.hold_everyone(now, cause, self.policy.window(cause))

    # -- writing ------------------------------------------------------------------------------------------------

    async def beat(self) -> Outcome:
        """See :meth:`Store.beat`."""
        return await self._finish(self.ledger.beat(self._now(), self._incarnation, _CHANNEL, _LEASE))

    async def retire(self, incarnation: Incarnation, cause: Cause) -> None:
        """See :meth:`Store.retire`."""
        self.ledger.retire(self._now(), incarnation, cause)
        await self._commit()

    async def rejoin(self) -> None:
        """See :meth:`Store.rejoin`: nobody fences the only node."""

    async def settled(self) -> None:
        """See :meth:`Store.settled`: there is nobody who waits for it."""

    async def nodes(self) -> list[NodeState]:
        """See :meth:`Store.nodes`."""
        return []

    async def notify(self, kind: NoticeKind, target: str, user: str = "", cause: str = "", reason: str = "") -> None:
        """See :meth:`Store.notify`."""

    def partition_of(self, user: UserId) -> int:
        """See :meth:`Store.partition_of`."""
        return 0

    def recovering(self, user: UserId) -> bool:
        """See :meth:`Store.recovering`."""
        return False

    def incarnation_for(self, user: UserId) -> Incarnation:
        """See :meth:`Store.incarnation_for`."""
        return self._incarnation

    def mine(self, incarnation: str) -> bool:
        """See :meth:`Store.mine`."""
        return incarnation == self._incarnation

    def put(self, contributions: Sequence[Contribution]) -> Awaitable[Outcome]:
        """See :meth:`Store.put`. Applied at once, before the first await."""
        answer = self.ledger.put(self._now(), self._incarnation, _CHANNEL, contributions)
        return self._finish(answer)

    def _finish(self, answer: Answer) -> Awaitable[Outcome]:
        """Take what happened before anything else can; the awaitable is done when it is durable."""
        return self._acknowledge(answer, self._take())

    async def _acknowledge(self, answer: Answer, outcome: Outcome) -> Outcome:
        if answer is not Answer.OK:
            raise Fenced(f"incarnation {self._incarnation!r} has no lease: {answer}")
        try:
            await self._commit()
        except BaseException:
            self._carry(outcome)
            raise
        return outcome

    async def sweep(self) -> Outcome:
        """See :meth:`Store.sweep`."""
        now = self._now()
        ledger = self.ledger
        ledger.beat(now, self._incarnation, _CHANNEL, _LEASE)  # dates the end of a run that is killed
        ledger.sweep(now)
        for incarnation, why in list(ledger.state.dead.items()):
            if incarnation != self._incarnation:
                ledger.reap(now, incarnation, self.policy.window(why))
        return await self._finish(Answer.OK)

    def next_deadline(self) -> float | None:
        """See :meth:`Store.next_deadline`."""
        return self.ledger.next_deadline()

    def deadline_at(self, deadline: float) -> float:
        """See :meth:`Store.deadline_at`. The same at every call while the clock runs normally."""
        clock = self.ledger.state.clock
        seen = self._now() if clock.seen is None else clock.seen
        return seen + max(deadline, clock.hold_until) - clock.value

    def clock(self, partition: int) -> tuple[float, float]:
        """See :meth:`Store.clock`."""
        return self.ledger.state.clock.value, 0.0

    def _take(self) -> Outcome:
        """What happened since the last call; noted in the log and the timelines, whole, before any of it is kept."""
        entries = self.ledger.take_entries()
        self._log.extend(entry for entry in entries if isinstance(entry, Transition))
        self._note(entries)
        events = [entry for entry in entries if not isinstance(entry, Given)]
        state = self.ledger.state
        outcome = Outcome(events, self.ledger.take_inherited(), {0: Cursor(state.epoch, state.seq)})
        carried, self._carried = self._carried, Outcome()
        if carried.events or carried.inherited:
            return Outcome(
                [*carried.events, *outcome.events], [*carried.inherited, *outcome.inherited], outcome.cursors
            )
        return outcome

    def _carry(self, outcome: Outcome) -> None:
        """Nobody was told: the next operation that succeeds tells it, as far as it is kept."""
        later = self._carried
        events = [*outcome.events, *later.events][-self._log_kept :]
        self._carried = Outcome(events, [*outcome.inherited, *later.inherited][-self._log_kept :])

    # -- reading: changes nothing -------------------------------------------------------------------------------

    async def snapshot(self, users: Sequence[UserId]) -> Snapshot:
        """See :meth:`Store.snapshot`."""
        shown = self.ledger.shown
        return Snapshot({0: await self.tip()}, {user: shown(user) for user in users})

    async def record(self, user: UserId) -> Record | None:
        """See :meth:`Store.record`."""
        return self.ledger.records.get(user)

    async def room(self, room: RoomName) -> RoomSnapshot:
        """See :meth:`Store.room`."""
        records = self.ledger.records
        members = {user: records[user].members[room] for user in self.ledger.rooms.get(room, ())}
        return RoomSnapshot({0: await self.tip()}, members)

    async def rooms(self, after: str, limit: int) -> list[tuple[RoomName, int]]:
        """See :meth:`Store.rooms`."""
        rooms = self.ledger.rooms
        names = heapq.nsmallest(limit, (name for name in rooms if name > after))
        return [(name, len(rooms[name])) for name in names]

    async def page(self, after: str, limit: int, prefix: str, status: Status | None) -> Page:
        """See :meth:`Store.page`."""
        records = self.ledger.records
        found = heapq.nsmallest(
            limit + 1,
            (
                user
                for user, record in records.items()
                if user > after
                and user.startswith(prefix)
                and record.shown.version
                and (status is None or record.shown.status is status)
            ),
        )
        more = len(found) > limit
        found = found[:limit]
        return Page([(user, records[user]) for user in found], found[-1] if more else None)

    async def tip(self, partition: int = 0) -> Cursor:
        """See :meth:`Store.tip`."""
        return Cursor(self.ledger.state.epoch, self.ledger.state.seq)

    async def read_log(self, after: Cursor, limit: int = 1000, partition: int = 0) -> LogPage:
        """See :meth:`Store.read_log`."""
        epoch = self.ledger.state.epoch
        log = self._log
        tip = Cursor(epoch, self._published)
        first = log[0].version if log else self.ledger.state.seq + 1
        if after.epoch == epoch and self._published < after.seq <= self.ledger.state.seq:
            return LogPage(epoch, (), after)  # of a snapshot that was ahead of its own commit
        if after.seq > self._published or (after.epoch != epoch and not await self._knows(after)):
            return LogPage(epoch, (), tip, gap=True)
        if after.seq + 1 < first and after.seq != self._published:
            return await self._read_old(after, limit, tip)
        entries = []
        for entry in reversed(log):  # a reader is near the end nearly always
            if entry.version <= after.seq:
                break
            if entry.version <= self._published:
                entries.append(entry)
        entries.reverse()
        del entries[limit:]
        seq = entries[-1].version if entries else after.seq
        return LogPage(epoch, entries, Cursor(epoch, seq))

    async def read_back(self, after: Cursor, limit: int = 1000, partition: int = 0) -> LogPage:
        """See :meth:`Store.read_back`: here it is the same."""
        return await self.read_log(after, limit, partition)

    async def get_mark(self, name: str) -> bytes | None:
        """See :meth:`Store.get_mark`."""
        return self._marks.get(name)

    async def set_mark(self, name: str, value: bytes | None) -> None:
        """See :meth:`Store.set_mark`."""
        if value is None:
            self._marks.pop(name, None)
        else:
            self._marks[name] = value

    def on_news(self, callback: Callable[[], None]) -> None:
        """See :meth:`Store.on_news`."""
        self._listeners.append(callback)

    async def timeline(self, user: UserId, after: float, before: float, limit: int) -> TimelinePage:
        """See :meth:`Store.timeline`."""
        entries = [e for e in self._timelines.get(user, ()) if after < e.at < before]
        return TimelinePage(entries[:limit])

    def statistics(self) -> StoreStatistics:
        """See :meth:`Store.statistics`."""
        ledger = self.ledger
        return StoreStatistics(
            kind=self.kind,
            epoch=ledger.state.epoch,
            seq=ledger.state.seq,
            users_known=len(ledger.records),
            users_present=ledger.users_present,
            windows_pending=ledger.windows_pending,
            rooms=len(ledger.rooms),
        )

    # -- hooks --------------------------------------------------------------------------------------------------

    def _publish(self, seq: int) -> None:
        """Everything up to ``seq`` is acknowledged: watchers may know."""
        if seq > self._published:
            self._published = seq
            for listener in self._listeners:
                listener()

    async def _open(self) -> None:
        """Open whatever keeps the changes, and load what it has; say in ``_former_clean`` how the last run ended."""

    async def _close(self) -> None:
        """Close it."""

    def _note(self, entries: Sequence[Entry]) -> None:
        """Add to the timelines."""
        for entry in entries:
            timeline = self._timelines.get(entry.user)
            if timeline is None:
                timeline = self._timelines[entry.user] = []  # an empty deque takes ten times as much
            timeline.append(entry)
            if len(timeline) > self._timeline_entries:
                del timeline[0]

    async def _commit(self) -> None:
        """Return when all that the ledger holds is durable."""
        for user, record in self.ledger.take_dirty():
            if record is None:  # forgotten: so is what happened to them
                self._timelines.pop(user, None)
        self._publish(self.ledger.state.seq)

    async def _knows(self, cursor: Cursor) -> bool:
        """Whether the log of an earlier run reaches back to this cursor."""
        return False

    async def _read_old(self, after: Cursor, limit: int, tip: Cursor) -> LogPage:
        """What memory no longer has."""
        return LogPage(tip.epoch, (), tip, gap=True)
