"""Rules, broken one at a time: a check that never fails proves nothing.

Each mutant replaces a rule of the ledger or of a node's procedure by what somebody might have written instead. The
tests know for each of them a schedule that notices it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from stillhere.core import ledger as ledger_rules
from stillhere.core import windows
from stillhere.core.clock import ClockLimits, StoreClock
from stillhere.core.leases import Answer, Leases
from stillhere.core.ledger import Ledger
from stillhere.core.record import Contribution, Hold, Record
from stillhere.core.words import Incarnation, Phase, UserId
from stillhere.server.keeper import Keeper
from stillhere.simulation.house import Desk
from stillhere.store.cluster import follow
from stillhere.store.cluster.line import ToldNodes
from stillhere.store.cluster.partition import Partition
from stillhere.store.cluster.store import ClusterStore
from stillhere.store.contract import Cursor, Fenced, LogPage, Outcome, Snapshot, StoreError

Change = tuple[Any, str, Any]
"""Of what, which attribute, and its replacement."""


# -- the clock --------------------------------------------------------------------------------------------------------


def _no_clamp() -> Iterable[Change]:
    def tick(self: StoreClock, now: float, limits: ClockLimits) -> float:
        step = 0.0 if self.seen is None else now - self.seen
        self.seen = now
        self.value += max(0.0, step)
        return self.value

    yield StoreClock, "tick", tick


def _no_gap_hold() -> Iterable[Change]:
    whole = StoreClock.tick

    def tick(self: StoreClock, now: float, limits: ClockLimits) -> float:
        value = whole(self, now, limits)
        self.hold_until = 0.0
        return value

    yield StoreClock, "tick", tick


def _no_recovery_hold() -> Iterable[Change]:
    whole = Leases.hello

    def hello(self: Leases, now: float, run: str, *rest: Any) -> None:
        whole(self, now, run, *rest)
        self.state.clock.recover_until = 0.0

    yield Leases, "hello", hello


# -- epochs -----------------------------------------------------------------------------------------------------------


def _epoch(next_epoch: Callable[[int, int, float, int], int]) -> Iterable[Change]:
    whole = Leases.hello

    def hello(
        self: Leases, now: float, run: str, known: int = 0, nonce: int = 0, processes: Iterable[str] = ()
    ) -> None:
        before, other_run = self.state.epoch, self.state.run != run
        whole(self, now, run, known, nonce, processes)
        if other_run:
            self.state.epoch = next_epoch(before, known, now, nonce)

    yield Leases, "hello", hello


def _no_epoch() -> Iterable[Change]:
    return _epoch(lambda before, known, now, nonce: before or 1024)


def _epoch_without_time_and_nonce() -> Iterable[Change]:
    return _epoch(lambda before, known, now, nonce: (max(before, known) // 1024 + 1) * 1024)


def _epoch_without_nonce() -> Iterable[Change]:
    return _epoch(lambda before, known, now, nonce: (max(before, known, round(now * 1000) * 1024) // 1024 + 1) * 1024)


def _no_empty_guard() -> Iterable[Change]:
    def admit(self: Leases, now: float, incarnation: Incarnation, channel: int) -> Answer:
        self._tick(now)
        if incarnation not in self.state.leases or self.state.channels.get(incarnation, 0) > channel:
            return Answer.FENCED
        return Answer.OK

    def guarded(whole: Callable[..., Any]) -> Callable[..., Any]:
        def unguarded(self: Leases, *arguments: Any, **named: Any) -> Any:
            empty = not self.state.run
            self.state.run = self.state.run or "none"
            found = whole(self, *arguments, **named)
            if empty:
                self.state.run = ""
            return found

        return unguarded

    yield Leases, "_admit", admit
    yield Leases, "join", guarded(Leases.join)
    yield Ledger, "sweep", guarded(Ledger.sweep)
    yield Desk, "_empty", False
    yield Desk, "_readable", Answer.OK


# -- the fence --------------------------------------------------------------------------------------------------------


def _no_fence() -> Iterable[Change]:
    def admit(self: Leases, now: float, incarnation: Incarnation, channel: int) -> Answer:
        if not self.state.run:
            return Answer.NO_EPOCH
        self._tick(now)
        self.state.heard[incarnation] = now
        return Answer.OK

    yield Leases, "_admit", admit


def _no_channel() -> Iterable[Change]:
    def admit(self: Leases, now: float, incarnation: Incarnation, channel: int) -> Answer:
        if not self.state.run:
            return Answer.NO_EPOCH
        self._tick(now)
        if incarnation not in self.state.leases:
            return Answer.FENCED
        self.state.heard[incarnation] = now
        return Answer.OK

    yield Leases, "_admit", admit


def _no_revision() -> Iterable[Change]:
    def put(
        self: Ledger, now: float, incarnation: Incarnation, channel: int, contributions: Iterable[Contribution]
    ) -> Answer:
        answer = self._admit(now, incarnation, channel)
        if answer is Answer.OK:
            for told in contributions:
                record = self.records.setdefault(told.user, Record(told.user))
                self._merge(record, incarnation, told, now)
        return answer

    yield Ledger, "put", put


def _no_revision_no_channel() -> Iterable[Change]:
    yield from _no_revision()
    yield from _no_channel()


# -- windows ----------------------------------------------------------------------------------------------------------


def _newest_window() -> Iterable[Change]:
    def hold(record: Record, hold: Hold, *_: Any) -> None:
        record.holds = {hold.connection.tab: hold}

    yield windows, "_hold", hold


def _blind_sweep() -> Iterable[Change]:
    whole = Ledger._settle

    def sweep(self: Ledger, now: float, limit: int = 1000) -> Answer:
        def settle(ledger: Ledger, record: Record, now: float, cause: str | None) -> None:
            if not record.holds:
                for incarnation in record.shares:
                    ledger.holders[incarnation].discard(record.user)
                record.shares.clear()
            whole(ledger, record, now, cause)

        Ledger._settle = settle  # type: ignore[method-assign, assignment]
        try:
            return former(self, now, limit)
        finally:
            Ledger._settle = whole  # type: ignore[method-assign]

    former = Ledger.sweep
    yield Ledger, "sweep", sweep


def _no_departures() -> Iterable[Change]:
    whole = windows._depart

    def depart(record: Record, *rest: Any) -> None:
        whole(record, *rest)
        record.departures = ()

    yield windows, "_depart", depart


def _no_kick_of_strangers() -> Iterable[Change]:
    whole = Ledger._keep

    def keep(self: Ledger, record: Record) -> None:
        if not record.shown.version:
            record.departures = ()
        whole(self, record)

    yield Ledger, "_keep", keep


def _ends_taken_over_forgotten() -> Iterable[Change]:
    yield windows, "_note_ended", lambda record, *_: None


def _no_upgrades() -> Iterable[Change]:
    def situation(record: Record) -> windows.Situation:
        found = windows.Situation.PENDING if record.holds else windows.Situation.NOTHING
        return windows.Situation.OPENED if record.active_count else found

    yield windows, "situation", situation
    yield ledger_rules, "situation", situation


def _no_doubtful() -> Iterable[Change]:
    yield Ledger, "doubtful", lambda self, user: False


def _no_reemit() -> Iterable[Change]:
    whole = Ledger.__init__

    def init(self: Ledger, limits: Any = None, state: Any = None) -> None:
        whole(self, msgspec.structs.replace(limits, watchers_outlive=False), state)

    yield Ledger, "__init__", init


# -- a node's procedure -----------------------------------------------------------------------------------------------


def _renewals_alone_name_nodes() -> Iterable[Change]:
    join, sweep = Desk.join, Desk.sweep

    def nameless(self: Desk, *arguments: Any) -> ToldNodes:
        return msgspec.structs.replace(join(self, *arguments), leases=())

    yield Desk, "join", nameless
    yield Desk, "sweep", lambda self, limit, *, leases: sweep(self, limit)


def _mark_after_join() -> Iterable[Change]:
    async def come_back(self: Keeper, error: StoreError) -> None:
        if not isinstance(error, Fenced):
            return
        covers = error.covers
        try:
            await self._store.rejoin()
        except StoreError as again:
            self._trouble(again)
        else:
            self._roster.mark(user for user in self._roster.users() if covers is None or covers(user))
            self.beat_soon()
            self.changed()

    yield Keeper, "_come_back", come_back


def _no_digest() -> Iterable[Change]:
    whole = Partition._call

    async def call(self: Partition, operation: Callable[..., Any]) -> Any:
        told = await whole(self, operation)
        if hasattr(told, "carried"):
            told = msgspec.structs.replace(told, carried=len(self._told))
        return told

    yield Partition, "_call", call


def _offline_in_recovery() -> Iterable[Change]:
    whole = ClusterStore.snapshot

    async def snapshot(self: ClusterStore, users: Sequence[UserId]) -> Snapshot:
        told = await whole(self, users)
        silent = frozenset(user for user in told.unknown if self.partition_of(user) not in told.cursors)
        return msgspec.structs.replace(told, unknown=silent)

    yield ClusterStore, "snapshot", snapshot


def _gap_unnoticed() -> Iterable[Change]:
    whole = ClusterStore.read_log

    async def read_log(self: ClusterStore, after: Cursor, limit: int = 1000, partition: int = 0) -> LogPage:
        return msgspec.structs.replace(await whole(self, after, limit, partition), gap=False)

    yield ClusterStore, "read_log", read_log


def _starving_unnoticed() -> Iterable[Change]:
    yield follow, "STARVING", float("inf")


def _one_loss_of_two() -> Iterable[Change]:
    async def put(self: ClusterStore, parts: Mapping[int, Sequence[Contribution]]) -> Outcome:
        told = await asyncio.gather(
            *(self._part(number).put(theirs) for number, theirs in parts.items()), return_exceptions=True
        )
        cursors = {}
        for number, answer in zip(parts, told, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            cursors[number] = Cursor(answer.epoch, answer.seq)
        return Outcome((), [pair for answer in told for pair in answer.inherited], cursors)  # type: ignore[union-attr]

    yield ClusterStore, "_put", put


def _held_is_gone() -> Iterable[Change]:
    """A key whose last connection ended is OFFLINE at once."""
    phases = dict(windows.PHASES)
    phases[Phase.ONLINE, windows.Situation.PENDING] = Phase.OFFLINE
    yield windows, "PHASES", phases
    yield ledger_rules, "PHASES", phases


MUTANTS: Mapping[str, Callable[[], Iterable[Change]]] = {
    "no clamp": _no_clamp,
    "no gap hold": _no_gap_hold,
    "no recovery hold": _no_recovery_hold,
    "no epoch": _no_epoch,
    "epoch without time and nonce": _epoch_without_time_and_nonce,
    "epoch without nonce": _epoch_without_nonce,
    "no empty guard": _no_empty_guard,
    "no fence": _no_fence,
    "no channel": _no_channel,
    "no revision": _no_revision,
    "no revision, no channel": _no_revision_no_channel,
    "newest window": _newest_window,
    "blind sweep": _blind_sweep,
    "no departures": _no_departures,
    "no kick of strangers": _no_kick_of_strangers,
    "ends taken over are forgotten": _ends_taken_over_forgotten,
    "no upgrades": _no_upgrades,
    "no doubtful": _no_doubtful,
    "no re-emit": _no_reemit,
    "renewals alone name nodes": _renewals_alone_name_nodes,
    "mark after join": _mark_after_join,
    "no digest": _no_digest,
    "offline in recovery": _offline_in_recovery,
    "gap unnoticed": _gap_unnoticed,
    "starving unnoticed": _starving_unnoticed,
    "one loss of two": _one_loss_of_two,
    "held is gone": _held_is_gone,
}
"""By name: what they change."""

COVERED: Mapping[str, str] = {"no revision": "no revision, no channel"}
"""Harmless alone: the pair in which the other defence is broken as well. A second request of the same revision comes
over another line, and what an older line sent is refused by the channel before anybody looks at revisions."""


@contextmanager
def mutated(name: str | None) -> Iterator[None]:
    """Break a rule for a while; None breaks nothing.

    Raises:
        KeyError: there is no mutant of this name.
    """
    changes = list(MUTANTS[name]()) if name is not None else []
    former = [(of, attribute, vars(of)[attribute]) for of, attribute, _ in changes]
    try:
        for of, attribute, replacement in changes:
            setattr(of, attribute, replacement)
        yield
    finally:
        for of, attribute, value in former:
            setattr(of, attribute, value)
