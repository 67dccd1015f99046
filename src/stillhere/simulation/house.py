"""The shared store of a simulation: ledgers behind a desk that can be troubled.

One :class:`Desk` per partition answers the requests of :class:`stillhere.store.cluster.line.Line`, each at once and
whole, as a Redis function would. The :class:`House` is the server process around them: its run, its clock, its outages,
and what its disk or its replicas would have after a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from stillhere.core.clock import ClockLimits
from stillhere.core.events import Event, Notice, NoticeKind, Transition
from stillhere.core.leases import Answer, LedgerState, Limits
from stillhere.core.ledger import Ledger
from stillhere.core.record import Contribution, Record
from stillhere.core.words import Cause, Incarnation, RoomName, Status, UserId
from stillhere.simulation.loops import Clock
from stillhere.store.cluster.line import (
    Figures,
    Lease,
    Told,
    ToldBeat,
    ToldEvents,
    ToldLog,
    ToldNodes,
    ToldPage,
    ToldReap,
    ToldRecord,
    ToldRoom,
    ToldRooms,
    ToldSnapshot,
    ToldSweep,
    ToldTimeline,
)

START = 1_790_000_000.0
"""Unix time at the start of a simulation."""

CLUSTER_CLOCK = ClockLimits(gap_hold=6.0, recovery_hold=20.0)
"""Of the store's design: a gap hold above a beat, a recovery of a lease and a beat."""

Entry = tuple[int, int, Transition | Notice | None]
T = TypeVar("T", bound=Told)
_STATE = msgspec.msgpack.Decoder(tuple[LedgerState, list[Record]])
_RECORD = msgspec.msgpack.Decoder(Record)


class Observer(Protocol):
    """Who watches what the store does, for the checks."""

    def before_put(self, desk: Desk, incarnation: Incarnation, contributions: Sequence[Contribution]) -> object:
        """A put is about to be executed; what it returns comes back in :meth:`executed`."""
        ...

    def executed(
        self,
        desk: Desk,
        request: str,
        incarnation: Incarnation,
        told: Told,
        changed: Sequence[tuple[UserId, Record | None]],
        noted: object,
        channel: int,
    ) -> None:
        """A request was executed."""
        ...

    def emitted(self, desk: Desk, entry: Transition | Notice, epoch: int) -> None:
        """Something was written to the log."""
        ...


class Desk:
    """One partition. Requests have the names and the arguments of a line's."""

    def __init__(self, house: House, number: int) -> None:
        """Start empty."""
        self.house = house
        self.number = number
        self.limits = Limits(watchers_outlive=True, clock=house.clock_limits)
        self.ledger = Ledger(self.limits)
        self.log: list[Entry] = []
        self.timelines: dict[UserId, list[Event]] = {}
        self.waiting: dict[Callable[[], None], None] = {}
        """Readers to be called when the log has grown."""

    # -- trouble ----------------------------------------------------------------------------------------------------

    def image(self) -> tuple[bytes, list[Entry]]:
        """All of it, as a replica would have it."""
        ledger = self.ledger
        return msgspec.msgpack.encode((ledger.state, list(ledger.records.values()))), list(self.log)

    def restore(self, image: tuple[bytes, list[Entry]]) -> None:
        """Go back to an image."""
        state, records = _STATE.decode(image[0])
        self.ledger = Ledger(self.limits, state)
        self.ledger.load(records)
        self.log = list(image[1])

    def evict(self, user: UserId) -> None:
        """One record is deleted, by somebody who should not; the log and the numbers go on."""
        ledger = self.ledger
        record = ledger.records.pop(user, None)
        if record is None:
            return
        for users in (*ledger.holders.values(), *ledger.rooms.values()):
            users.discard(user)
        for room in [room for room, users in ledger.rooms.items() if not users]:
            del ledger.rooms[room]
        ledger._deadlines.set(user, None)
        ledger._departed.pop(user, None)

    def wipe(self) -> None:
        """Everything is lost."""
        self.ledger = Ledger(self.limits)
        self.log = []
        self.timelines = {}

    # -- nodes ------------------------------------------------------------------------------------------------------

    def hello(
        self, known_epoch: int, incarnation: Incarnation, channel: int, nonce: int, processes: Sequence[str]
    ) -> Told:
        ledger = self.ledger
        ledger.hello(self.house.now(), self.house.run, known_epoch, nonce, processes)
        ledger.speak(incarnation, channel)
        return self._tell("hello", incarnation, Told(answer=Answer.OK), channel=channel)

    def join(self, incarnation: Incarnation, channel: int, lease: float, process: str, about: bytes) -> ToldNodes:
        answer = self.ledger.join(self.house.now(), incarnation, channel, lease, process, about)
        return self._tell("join", incarnation, ToldNodes(answer=answer, leases=self._leases()), channel=channel)

    def beat(self, incarnation: Incarnation, channel: int, lease: float, about: bytes) -> ToldBeat:
        ledger = self.ledger
        answer = ledger.beat(self.house.now(), incarnation, channel, lease, about)
        told = ToldBeat(
            answer=answer,
            carried=len(ledger.holders.get(incarnation, ())),
            leases=self._leases(),
            figures=Figures(len(ledger.records), ledger.users_present, ledger.windows_pending, len(ledger.rooms)),
        )
        return self._tell("beat", incarnation, told, channel=channel)

    def asserted(self, incarnation: Incarnation, channel: int) -> Told:
        answer = self.ledger.asserted(self.house.now(), incarnation, channel)
        return self._tell("asserted", incarnation, Told(answer=answer), channel=channel)

    def put(self, incarnation: Incarnation, channel: int, contributions: Sequence[Contribution]) -> ToldEvents:
        noted = self.house.observer.before_put(self, incarnation, contributions)
        answer = self.ledger.put(self.house.now(), incarnation, channel, contributions)
        told = ToldEvents(answer=answer, inherited=self.ledger.take_inherited())
        return self._tell("put", incarnation, told, noted, channel)

    def sweep(self, limit: int, *, leases: bool = False) -> ToldSweep:
        ledger = self.ledger
        answer = ledger.sweep(self.house.now(), limit)
        named = self._leases() if leases else ()
        told = ToldSweep(answer=answer, dead=sorted(ledger.state.dead), due=ledger.next_deadline(), leases=named)
        return self._tell("sweep", Incarnation(""), told)

    def reap(self, incarnation: Incarnation, windows: Mapping[Cause, float], limit: int) -> ToldReap:
        ledger = self.ledger
        if self._empty:
            return self._tell("reap", incarnation, ToldReap(answer=Answer.NO_EPOCH))
        cause = ledger.state.dead.get(incarnation, Cause.NODE_LOST)
        noted = self.house.observer.before_put(self, incarnation, ())
        drained = ledger.reap(self.house.now(), incarnation, windows.get(cause, 0.0), limit)
        return self._tell("reap", incarnation, ToldReap(answer=Answer.OK, drained=drained), noted)

    def retire(self, incarnation: Incarnation, cause: Cause) -> Told:
        if self._empty:
            return self._tell("retire", incarnation, Told(answer=Answer.NO_EPOCH))
        self.ledger.retire(self.house.now(), incarnation, cause)
        return self._tell("retire", incarnation, Told(answer=Answer.OK))

    def notify(self, kind: NoticeKind, target: str, user: str, cause: str, reason: str) -> Told:
        answer = self.ledger.notify(self.house.now(), kind, target, user, cause, reason)
        return self._tell("notify", Incarnation(""), Told(answer=answer))

    # -- reading: changes nothing -----------------------------------------------------------------------------------

    def snapshot(self, users: Sequence[UserId]) -> ToldSnapshot:
        ledger = self.ledger
        told = ToldSnapshot(
            answer=self._readable,
            users={user: ledger.shown(user) for user in users},
            doubtful=frozenset(user for user in users if ledger.doubtful(user)),
        )
        return self._tell("snapshot", Incarnation(""), told)

    def room(self, room: RoomName) -> ToldRoom:
        ledger = self.ledger
        inside = ledger.rooms.get(room, ())
        told = ToldRoom(
            answer=self._readable,
            members={user: ledger.records[user].members[room] for user in sorted(inside)},
            doubtful=frozenset(user for user in inside if ledger.doubtful(user)),
        )
        return self._tell("room", Incarnation(""), told)

    def record(self, user: UserId) -> ToldRecord:
        told = ToldRecord(answer=self._readable, record=_copy(self.ledger.records.get(user)))
        return self._tell("record", Incarnation(""), told)

    def rooms(self, after: str, limit: int) -> ToldRooms:
        rooms = self.ledger.rooms
        names = sorted(name for name in rooms if name > after)[:limit]
        told = ToldRooms(answer=self._readable, rooms=[(name, len(rooms[name])) for name in names])
        return self._tell("rooms", Incarnation(""), told)

    def page(self, cursor: str, limit: int, prefix: str, status: Status | None) -> ToldPage:
        records = self.ledger.records
        names = sorted(
            user
            for user, record in records.items()
            if user > cursor
            and user.startswith(prefix)
            and record.shown.version
            and (status is None or record.shown.status is status)
        )
        users = [(user, record) for user in names[:limit] if (record := _copy(records[user])) is not None]
        told = ToldPage(answer=self._readable, users=users, cursor=names[limit - 1] if len(names) > limit else None)
        return self._tell("page", Incarnation(""), told)

    def timeline(self, user: UserId, after: float, before: float, limit: int) -> ToldTimeline:
        entries = [e for e in self.timelines.get(user, ()) if after < e.at < before][:limit]
        return self._tell("timeline", Incarnation(""), ToldTimeline(answer=self._readable, entries=entries))

    def read(self, epoch: int, seq: int, limit: int) -> ToldLog:
        """What the log has after a place."""
        log = self.log
        if not log or (log[-1][0], log[-1][1]) <= (epoch, seq):
            return ToldLog()
        first = len(log)
        while first > 0 and (log[first - 1][0], log[first - 1][1]) > (epoch, seq):
            first -= 1
        found: list[Entry] = []
        for entry in log[first : first + limit]:
            if (entry[0], entry[1]) != (epoch, seq + 1 + len(found)):
                return ToldLog(entries=found, gap=not found)
            found.append(entry)
        return ToldLog(entries=found)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _leases(self) -> list[Lease]:
        state = self.ledger.state
        return [
            Lease(inc, state.processes.get(inc, ""), at, state.about.get(inc, b""))
            for inc, at in sorted(state.leases.items())
        ]

    @property
    def _empty(self) -> bool:
        """Nobody has said hello since everything was lost."""
        return not self.ledger.state.run

    @property
    def _readable(self) -> Answer:
        return Answer.NO_EPOCH if self._empty else Answer.OK

    def _tell(self, request: str, incarnation: Incarnation, told: T, noted: object = None, channel: int = 0) -> T:
        """Write the log, have the checks look, and complete the answer."""
        ledger, state = self.ledger, self.ledger.state
        events = ledger.take_events()
        notices = ledger.take_notices()
        ledger.take_inherited()
        observer = self.house.observer
        if events or notices:
            written: list[Transition | Notice] = [e for e in events if isinstance(e, Transition)]
            written += notices
            written.sort(key=lambda entry: entry.version)
            for entry in written:
                self.log.append((state.epoch, entry.version, entry))
                observer.emitted(self, entry, state.epoch)
            if len(self.log) > self.house.retention:
                del self.log[: -self.house.retention]
            for event in events:
                self.timelines.setdefault(event.user, []).append(event)
            if written:
                waiting, self.waiting = self.waiting, {}
                for reader in waiting:
                    reader()
        clock = state.clock
        changes: dict[str, object] = {
            "epoch": state.epoch,
            "seq": state.seq,
            "clock": clock.value,
            "held_until": clock.held_until,
            "recovering": clock.recovering,
            "born": state.born,
        }
        if events and isinstance(told, ToldEvents):
            changes["events"] = events
        told = msgspec.structs.replace(told, **changes)
        observer.executed(self, request, incarnation, told, ledger.take_dirty(), noted, channel)
        return told


class House:
    """The server process of the store."""

    def __init__(
        self,
        clock: Clock,
        observer: Observer,
        *,
        partitions: int = 1,
        retention: int = 20_000,
        clock_limits: ClockLimits = CLUSTER_CLOCK,
    ) -> None:
        """Start empty.

        Args:
            clock: of the simulation.
            observer: sees everything that is done.
            partitions: how many desks.
            retention: entries that the log of a partition keeps.
            clock_limits: of the store clock.
        """
        self.clock = clock
        self.observer = observer
        self.retention = retention
        self.clock_limits = clock_limits
        self.offset = 0.0
        """By how much the server's clock is wrong, in seconds."""
        self.runs = 1
        self.down: str | None = None
        """``refuse``: no process listens; ``hang``: nothing comes back."""
        self.slow = 0.0
        """Seconds by which it answers late."""
        self.desks = [Desk(self, number) for number in range(partitions)]

    @property
    def run(self) -> str:
        """What tells one run of the process from another."""
        return f"run-{self.runs}"

    def now(self) -> float:
        """The server's idea of Unix time."""
        return START + self.clock.now + self.offset

    def restart(self) -> None:
        """The process is another one: all connections are gone."""
        self.runs += 1
        for desk in self.desks:
            waiting, desk.waiting = desk.waiting, {}
            for reader in waiting:
                reader()


def _copy(record: Record | None) -> Record | None:
    return None if record is None else _RECORD.decode(msgspec.msgpack.encode(record))
