"""The keeper: what a node owes its store.

What one turn of the loop changed in the roster is put in one request, together with what came within 5 ms of the last
one; due windows are swept, after everything that
this node knows has been put; the lease is renewed. What could not be put is marked and put again: states, not a
growing queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from math import inf

from stillhere.core.events import Event, Transition
from stillhere.core.record import Contribution
from stillhere.core.roster import Roster
from stillhere.core.words import UserId
from stillhere.server.eventlog import EventLog
from stillhere.server.metrics import Metrics
from stillhere.server.tasks import Tasks
from stillhere.store.contract import Cursor, Fenced, Outcome, Store, StoreError

_LOG = logging.getLogger("stillhere.store")

SWEEP_MOST = 1.0
"""The store is swept at least this often, in seconds: its clock must tick."""

STALL = 0.5
"""A loop that did not come round for so long, in seconds, has not heard what came meanwhile."""

TURN, TURNS, CATCH_UP = 0.05, 10, 2.0
"""After a stall the sweep waits for so many sleeps of so many seconds, and on until one of them is not late itself; but
not longer than this in all, in seconds."""

BATCH = 500
"""Users per put."""

GATHER = 0.005
"""Seconds between two puts, at least: a put, its acknowledgement and the reading of the log cost nearly as much for one
user as for ten. Who comes alone does not wait."""

RETRY = 0.25
"""Seconds before a put that failed is tried again."""


class Keeper:
    """Puts, sweeps and beats for one node."""

    def __init__(
        self,
        store: Store,
        roster: Roster,
        tasks: Tasks,
        metrics: Metrics,
        log: EventLog,
        *,
        beat: float,
        monotonic: Callable[[], float],
    ) -> None:
        """Prepare; :meth:`run` sweeps and beats.

        Args:
            store: started by the node.
            roster: what is put.
            tasks: where puts are awaited.
            metrics: counts what happened.
            log: tells it.
            beat: seconds between two renewals of the lease.
            monotonic: seconds that never go back.
        """
        self._store = store
        self._roster = roster
        self._tasks = tasks
        self._metrics = metrics
        self._log = log
        self._beat = beat
        self._monotonic = monotonic
        self.error: str | None = None
        """Why the store cannot be used at the moment."""
        self.reached_at = monotonic()
        """When the last request began that the whole store answered; on the clock of ``monotonic``, as all of these."""
        self.renewed_at = monotonic()
        """When the last renewal of the lease began: the store counts the lease from then, or from a little later."""
        self.failing_since: float | None = None
        """When the first request began that was not answered; None while the store answers."""
        self.patience = max(beat, 2 * SWEEP_MOST)
        """Seconds after :attr:`reached_at` for which it may be said that the store is in reach."""
        self.acknowledged_at: dict[int, Cursor] = {}
        """Of each partition, a place of the log that includes all that was acknowledged."""
        self._waiting: list[tuple[UserId, int, Callable[[], None]]] = []
        self._puts = 0
        self.gather = GATHER if monotonic is time.monotonic else 0.0  # a clock that is turned by hand may stand still
        """Seconds between two puts, at least."""
        self._flushed_at = -inf
        self._handle: asyncio.Handle | None = None
        self._wake = asyncio.Event()
        self._beat_at = -inf
        """When the next renewal of the lease is due."""
        self._turned_at = self._awake_since = monotonic()
        self._stalled = False

    @property
    def unreachable_for(self) -> float:
        """Seconds since requests to the store fail; 0 while they do not."""
        return 0.0 if self.failing_since is None else self._monotonic() - self.failing_since

    @property
    def fresh(self) -> bool:
        """Whether the store was reached lately: one that has just gone away has not failed yet."""
        return self._monotonic() - self.reached_at <= self.patience

    def changed(self) -> None:
        """The roster has something new: put it at the end of this turn, or with what comes just after the last put."""
        if self._handle is None and self._roster.changed and not self._busy:
            loop = asyncio.get_running_loop()
            at = self._flushed_at + self.gather
            self._handle = loop.call_soon(self.flush) if loop.time() >= at else loop.call_at(at, self.flush)

    def when_acknowledged(self, user: UserId, done: Callable[[], None]) -> None:
        """Call ``done`` when the store has what this node has of the user now."""
        self._waiting.append((user, self._roster.revision_of(user), done))

    def flush(self) -> None:
        """Hand what changed to the store, in one request."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._busy or not self._roster.changed:
            return
        contributions = self._roster.take_contributions(self._monotonic(), BATCH)
        self._flushed_at = asyncio.get_running_loop().time()
        self._puts += 1
        try:
            waiting = self._store.put(contributions)
        except StoreError as error:
            waiting = _refused(error)
        self._tasks.spawn(self._put(waiting, contributions))
        self.changed()

    async def settle(self, timeout: float = 5.0) -> None:
        """Wait, in seconds at most, until the store has acknowledged all that this node has."""
        end = self._monotonic() + timeout
        while (self._roster.changed or self._puts) and self._monotonic() < end:
            self.flush()
            await asyncio.sleep(0.005)

    async def run(self) -> None:
        """Sweep when something is due, beat in time; for ever."""
        self.reached_at = self.renewed_at = began = self._monotonic()
        while True:
            try:
                await self._catch_up()
                if self._store.applies_at_once:
                    self.flush()  # nobody is judged before all that this node knows is told
                began = self._monotonic()
                self.report((await self._store.sweep()).events)
                self.reached_at = began
                if self._monotonic() >= self._beat_at:
                    began = self._monotonic()
                    self._beat_at = began + self._beat
                    self.report((await self._store.beat()).events)
                    self.reached_at = self.renewed_at = began
                if not (self._roster.changed or self._puts):
                    began = self._monotonic()
                    await self._store.settled()
                self.error = self.failing_since = None
            except StoreError as error:
                if self.renewed_at < self._beat_at - self._beat:
                    self._beat_at = -inf  # a renewal that was lost is not left for a whole beat
                self._trouble(error, began)
                await self._come_back(error)
            due = self._store.next_deadline()
            wait = SWEEP_MOST if due is None else min(max(due, 0.005), SWEEP_MOST)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            self._wake.clear()

    def look(self) -> None:
        """Called a few times a second: a new window may be due before the next sweep."""
        self._turned()
        due = self._store.next_deadline()
        if due is not None and due < SWEEP_MOST:
            self._wake.set()

    def beat_soon(self) -> None:
        """Renew the lease now: the answer names the other nodes, and there is a new one, or this one is new itself."""
        self._beat_at = -inf
        self._wake.set()

    def _turned(self) -> None:
        now = self._monotonic()
        if now - self._turned_at > STALL:
            self._stalled, self._awake_since = True, now
        self._turned_at = now

    async def _catch_up(self) -> None:
        """Read before you judge: who came back while the process stood still waits in the kernel for an accept.

        That takes a few turns of the loop, and with many at the door long ones: wait until they are short again.
        """
        self._turned()
        end, turns = self._turned_at + CATCH_UP, 0
        while self._stalled:
            before = self._turned_at
            await asyncio.sleep(TURN)
            turns += 1
            self._turned_at = now = self._monotonic()
            late = now - before > 2 * TURN
            self._stalled = (late or turns < TURNS) and now < end

    def report(self, events: Sequence[Event]) -> None:
        """Log and count what happened to users."""
        self._metrics.count(events)
        for event in events:
            if not (isinstance(event, Transition) and event.room is not None):
                self._log.presence(event, self._roster.active_count(event.user))

    @property
    def _busy(self) -> bool:
        """A store in another process gets one request at a time; meanwhile changes gather."""
        return self._puts > 0 and not self._store.applies_at_once

    async def _put(self, waiting: Awaitable[Outcome], contributions: Sequence[Contribution]) -> None:
        began = self._monotonic()
        try:
            outcome = await waiting
        except StoreError as error:
            self._trouble(error, began)
            self._roster.mark(told.user for told in contributions)
            await self._come_back(error)
            await asyncio.sleep(RETRY)
        else:
            self.acknowledged_at.update(outcome.cursors)
            self._roster.acknowledge(contributions)
            for user, told in outcome.inherited:
                self._roster.adopt(user, told)
            self.report(outcome.events)
            self._acknowledged(contributions)
        finally:
            self._puts -= 1
        self.changed()

    def _acknowledged(self, contributions: Sequence[Contribution]) -> None:
        told = {c.user: c.revision for c in contributions}
        waiting, self._waiting = self._waiting, []
        for user, revision, done in waiting:
            if told.get(user, -1) >= revision:
                done()
            else:
                self._waiting.append((user, revision, done))

    def _trouble(self, error: StoreError, began: float | None = None) -> None:
        """Note a failure.

        Args:
            error: what happened.
            began: when the request did; now if nobody knows.
        """
        self._metrics.store_errors.inc()
        if self.error is None:
            _LOG.error("the store failed: %s", error)
        self.error = str(error)
        if self.failing_since is None and not isinstance(error, Fenced):  # who is fenced was answered
            self._turned()
            # what went unanswered while this process stood still says nothing about the store
            self.failing_since = max(self._monotonic() if began is None else began, self._awake_since)

    async def _come_back(self, error: StoreError) -> None:
        """One path back, whatever happened: a zombie, a lost lease, a store that lost its data, a failover.

        What this node carries is marked before the new incarnation joins: a join whose reply is lost counts, too.
        """
        if not isinstance(error, Fenced):
            return
        self._log.emit("lease_lost", reason=str(error))
        covers = error.covers
        began = self._monotonic()
        self._roster.mark(user for user in self._roster.users() if covers is None or covers(user))
        try:
            await self._store.rejoin()
        except StoreError as again:
            self._trouble(again, began)
        else:
            if not self._store.applies_at_once:
                self.beat_soon()
                self.changed()


async def _refused(error: StoreError) -> Outcome:
    """A put that failed before anything could be awaited."""
    raise error
