"""The network between one node and the store, and the engine that a node's store is given.

Requests travel, are executed in the order in which a line sent them, and their answers travel back. Any of that may
fail: a request is lost, or executed although its line was given up seconds ago; an answer is lost although the request
was executed; the path is cut for a while. A line on which anything failed is closed, as a driver does after a time-out.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from stillhere.core.events import NoticeKind
from stillhere.core.record import Contribution
from stillhere.core.words import Cause, Incarnation, RoomName, Status, UserId
from stillhere.simulation.house import Desk, House
from stillhere.simulation.loops import NodeLoop
from stillhere.store.cluster.line import (
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
from stillhere.store.contract import StoreUnavailable

TIMEOUT = 2.0
"""Seconds after which a node gives a request up."""

LATEST = 6.0
"""A request of a line that was given up may be executed so many seconds after it was sent."""

T = TypeVar("T")


class Path:
    """The way from one node to the store."""

    def __init__(self, house: House, loop: NodeLoop, rng: random.Random, loss: float) -> None:
        """An open way.

        Args:
            house: the store.
            loop: of the node.
            rng: for delays and losses.
            loss: share of the requests that are lost, and of those whose answer is.
        """
        self.house = house
        self.loop = loop
        self.rng = rng
        self.loss = loss
        self.cut = False
        self.starving_since = -1.0
        """Readers that were opened before this are told of nothing new, while everything else works."""
        self.heard_at = 0.0
        """When the node last got an answer."""
        self.latency = rng.choice((0.0002, 0.001, 0.004))

    def answer(self, future: asyncio.Future[Any], result: object) -> None:
        """An answer is on its way."""
        self.house.clock.after(self.latency * (1 + self.rng.random()), self._arrive, future, result)

    def _arrive(self, future: asyncio.Future[Any], result: object) -> None:
        self.heard_at = self.house.clock.now
        self.loop.deliver(_answer, future, result)

    def fail(self, conversation: Conversation, future: asyncio.Future[Any], seconds: float, why: str) -> None:
        """The node will learn, in so many seconds, that nothing came back."""
        self.house.clock.after(seconds, self.loop.deliver, _fail, conversation, future, why)


def _answer(future: asyncio.Future[Any], result: object) -> None:
    if future.done():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)


def _fail(conversation: Conversation, future: asyncio.Future[Any], why: str) -> None:
    conversation.closed = True
    if not future.done():
        future.set_exception(StoreUnavailable(why))


class Conversation:
    """One TCP connection to the store."""

    def __init__(self, path: Path, desk: Desk) -> None:
        """Connected to the process that runs now."""
        self.path = path
        self.desk = desk
        self.run = path.house.run
        self.closed = False
        self._stuck = False
        """Something was lost: TCP keeps back whatever comes after it."""
        self._sent_until = 0.0

    async def close(self) -> None:
        self.closed = True

    async def _ask(self, request: Callable[[], T]) -> T:
        """Send a request and wait for its answer."""
        if self.closed:
            raise StoreUnavailable("the connection to the store is closed")
        path = self.path
        clock, rng = path.house.clock, path.rng
        future: asyncio.Future[T] = path.loop.create_future()
        lost = path.loss > 0 and rng.random() < path.loss
        if self._stuck or lost or path.cut or path.house.down == "hang":
            self._stuck = True
            path.fail(self, future, TIMEOUT, "no answer in time")
            if rng.random() < 0.5:
                clock.after(rng.uniform(TIMEOUT, LATEST), self._execute_late, request)
            return await future
        at = max(clock.now + path.latency * (1 + rng.random()) + path.house.slow, self._sent_until)
        self._sent_until = at
        clock.after(at - clock.now, self._execute, request, future, clock.now)
        return await future

    def _execute(self, request: Callable[[], object], future: asyncio.Future[Any], sent_at: float) -> None:
        path = self.path
        house, rng = path.house, path.rng
        left = sent_at + TIMEOUT - house.clock.now
        if self.run != house.run or house.down == "refuse":
            path.fail(self, future, path.latency, "connection reset")
            return
        if house.down is not None or (self._stuck and left > 0):
            self._stuck = True
            path.fail(self, future, max(0.0, left), "no answer in time")
            return
        result = request()
        if path.cut or left < 0 or (path.loss > 0 and rng.random() < path.loss):
            self._stuck = True
            path.fail(self, future, max(0.0, left), "no answer in time")
        else:
            path.answer(future, result)

    def _execute_late(self, request: Callable[[], object]) -> None:
        """What was lost arrives after all; unless the path is still cut, or another process listens now."""
        path = self.path
        if self.run == path.house.run and path.house.down is None and not path.cut:
            request()


class LedgerLine(Conversation):
    """A line to a desk; see :class:`stillhere.store.cluster.line.Line`."""

    async def hello(
        self, known_epoch: int, incarnation: Incarnation, channel: int, nonce: int, processes: Sequence[str]
    ) -> Told:
        desk = self.desk
        return await self._ask(lambda: desk.hello(known_epoch, incarnation, channel, nonce, list(processes)))

    async def join(self, incarnation: Incarnation, channel: int, lease: float, process: str, about: bytes) -> ToldNodes:
        desk = self.desk
        return await self._ask(lambda: desk.join(incarnation, channel, lease, process, about))

    async def beat(self, incarnation: Incarnation, channel: int, lease: float, about: bytes) -> ToldBeat:
        desk = self.desk
        return await self._ask(lambda: desk.beat(incarnation, channel, lease, about))

    async def asserted(self, incarnation: Incarnation, channel: int) -> Told:
        desk = self.desk
        return await self._ask(lambda: desk.asserted(incarnation, channel))

    async def put(self, incarnation: Incarnation, channel: int, contributions: Sequence[Contribution]) -> ToldEvents:
        desk = self.desk
        return await self._ask(lambda: desk.put(incarnation, channel, contributions))

    async def sweep(self, limit: int, *, leases: bool = False) -> ToldSweep:
        desk = self.desk
        return await self._ask(lambda: desk.sweep(limit, leases=leases))

    async def reap(self, incarnation: Incarnation, windows: Mapping[Cause, float], limit: int) -> ToldReap:
        desk = self.desk
        return await self._ask(lambda: desk.reap(incarnation, windows, limit))

    async def retire(self, incarnation: Incarnation, cause: Cause) -> Told:
        desk = self.desk
        return await self._ask(lambda: desk.retire(incarnation, cause))

    async def notify(self, kind: NoticeKind, target: str, user: str, cause: str, reason: str) -> Told:
        desk = self.desk
        return await self._ask(lambda: desk.notify(kind, target, user, cause, reason))

    async def snapshot(self, users: Sequence[UserId]) -> ToldSnapshot:
        desk, asked = self.desk, list(users)
        return await self._ask(lambda: desk.snapshot(asked))

    async def room(self, room: RoomName) -> ToldRoom:
        desk = self.desk
        return await self._ask(lambda: desk.room(room))

    async def record(self, user: UserId) -> ToldRecord:
        desk = self.desk
        return await self._ask(lambda: desk.record(user))

    async def rooms(self, after: str, limit: int) -> ToldRooms:
        desk = self.desk
        return await self._ask(lambda: desk.rooms(after, limit))

    async def page(self, cursor: str, limit: int, prefix: str, status: Status | None) -> ToldPage:
        desk = self.desk
        return await self._ask(lambda: desk.page(cursor, limit, prefix, status))

    async def timeline(self, user: UserId, after: float, before: float, limit: int) -> ToldTimeline:
        desk = self.desk
        return await self._ask(lambda: desk.timeline(user, after, before, limit))


class LedgerReader(Conversation):
    """Reads a desk's log; see :class:`stillhere.store.cluster.line.Reader`."""

    def __init__(self, path: Path, desk: Desk) -> None:
        super().__init__(path, desk)
        self._opened_at = path.house.clock.now
        self._pending: asyncio.Future[ToldLog] | None = None

    async def close(self) -> None:
        self.closed = True
        if self._pending is not None and not self._pending.done():
            self._pending.set_exception(StoreUnavailable("the reader is closed"))

    async def read(self, epoch: int, seq: int, limit: int, wait: float) -> ToldLog:
        if self.closed:
            raise StoreUnavailable("the reader is closed")
        path = self.path
        clock = path.house.clock
        future: asyncio.Future[ToldLog] = path.loop.create_future()
        self._pending = future
        give_up = clock.now + wait + TIMEOUT
        clock.after(path.latency, self._look, future, (epoch, seq, limit), clock.now + wait, give_up)
        return await future

    def _look(self, future: asyncio.Future[ToldLog], place: tuple[int, int, int], until: float, give_up: float) -> None:
        """Answer if there is something, else wait for it."""
        path, desk = self.path, self.desk
        house = path.house
        clock = house.clock
        if future.done():
            return
        if self.run != house.run or house.down == "refuse":
            path.fail(self, future, path.latency, "connection reset")
            return
        if path.cut or house.down is not None:
            path.fail(self, future, max(0.0, give_up - clock.now), "no answer in time")
            return
        found = ToldLog() if self._opened_at <= path.starving_since else desk.read(*place)
        if found.entries or found.gap or clock.now >= until:
            path.answer(future, found)
            return

        def news() -> None:
            clock.after(0.0, self._look, future, place, until, give_up)

        desk.waiting[news] = None

        def timed_out() -> None:
            if news in desk.waiting:
                del desk.waiting[news]
                self._look(future, place, until, give_up)

        clock.after(until - clock.now, timed_out)


class LedgerEngine:
    """Where a node of the simulation finds its partitions; see :class:`stillhere.store.cluster.line.Engine`."""

    kind = "ledger"

    def __init__(self, path: Path) -> None:
        """Over one node's path."""
        self.path = path
        self.partitions = len(path.house.desks)

    async def check(self) -> None:
        await self._connect()

    async def line(self, partition: int) -> LedgerLine:
        await self._connect()
        return LedgerLine(self.path, self.path.house.desks[partition])

    async def reader(self, partition: int) -> LedgerReader:
        await self._connect()
        return LedgerReader(self.path, self.path.house.desks[partition])

    async def close(self) -> None:
        """Nothing is held."""

    async def _connect(self) -> None:
        """A round trip, or none."""
        path = self.path
        if path.cut or path.house.down == "hang":
            await asyncio.sleep(TIMEOUT)
            raise StoreUnavailable("no answer to the connection attempt")
        await asyncio.sleep(path.latency)
        if path.house.down == "refuse":
            raise StoreUnavailable("connection refused")
