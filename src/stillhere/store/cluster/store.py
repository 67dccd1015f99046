"""The contract of a store over the partitions of a shared one."""

from __future__ import annotations

import asyncio
import contextlib
import random
import zlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from math import inf
from typing import TypeVar

from stillhere.core.events import Event, NoticeKind, Transition
from stillhere.core.grace import GracePolicy
from stillhere.core.record import NOBODY, ConnectionSummary, Contribution, Record, Shown, ShownMember
from stillhere.core.words import Cause, Incarnation, RoomName, Status, UserId
from stillhere.store.cluster.follow import LOG_KEPT, LogFollower
from stillhere.store.cluster.line import Engine, Line, Marks, MemoryMarks, Told
from stillhere.store.cluster.partition import Partition
from stillhere.store.contract import (
    Cursor,
    Fenced,
    LogPage,
    NodeState,
    Outcome,
    Page,
    RoomSnapshot,
    Snapshot,
    StoreError,
    StoreRefused,
    StoreStatistics,
    StoreUnavailable,
    TimelinePage,
)

SLICE = 200
"""Users who are drained of a dead incarnation per request, so that no request keeps the others waiting for long."""

SLICES = 10
"""Slices per sweep."""

SWEEP_LIMIT = 500
"""Windows fired per request."""

T = TypeVar("T", bound=Told)


class ClusterStore:
    """See the module."""

    applies_at_once = False

    def __init__(
        self,
        engine: Engine,
        *,
        policy: GracePolicy | None = None,
        now: Callable[[], float],
        rng: random.Random,
        timeline_keep: float = inf,
        log_kept: int = LOG_KEPT,
    ) -> None:
        """Prepare; nothing is opened before :meth:`start`.

        Args:
            engine: where the partitions are.
            policy: the windows for the users of a node that died or went.
            now: Unix seconds, to date deadlines for people.
            rng: for the nonces of epochs and the spread of sweeps.
            timeline_keep: seconds after which an entry of a timeline is told no more.
            log_kept: how many entries of each log this node has in memory at least, once there were so many.
        """
        self.kind = engine.kind
        self.partitions = engine.partitions
        self.about: Callable[[], bytes] = bytes
        self._engine = engine
        self._marks: Marks = engine if isinstance(engine, Marks) else MemoryMarks()
        self._policy = policy or GracePolicy.of()
        self._windows = {cause: self._policy.window(cause) for cause in (Cause.NODE_LOST, Cause.NODE_DRAIN)}
        self._now = now
        self._rng = rng
        self._timeline_keep = timeline_keep
        self._log_kept = log_kept
        self._parts: list[Partition] = []
        self._followers: list[LogFollower] = []
        self._listeners: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._process = ""
        self._swept: list[Event] = []
        """What sweeps brought about that has not been told yet."""

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self, incarnation: Incarnation, lease: float) -> None:
        """See :meth:`Store.start`."""
        try:
            await self._engine.check()
            self._process = incarnation
            for number in range(self.partitions):
                part = Partition(self._engine, number, self._rng, self._covers(number), lease)
                part.process = incarnation
                self._parts.append(part)
                await part.rejoin(self.about())
                follower = LogFollower(self._engine, part, self._news, self._log_kept)
                await follower.begin()
                self._followers.append(follower)
                self._tasks.append(asyncio.get_running_loop().create_task(follower.run()))
        except StoreUnavailable as error:
            await self.stop()
            raise StoreRefused(f"the store cannot be reached: {error}") from error
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """See :meth:`Store.stop`: the lease is given back, if the store can be reached."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2.0):
                await self._each(lambda part: part.retire(part.incarnation, Cause.NODE_DRAIN))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for part in self._parts:
            await part.close()
        self._parts, self._tasks, self._followers = [], [], []
        await self._engine.close()

    def _covers(self, number: int) -> Callable[[UserId], bool]:
        return lambda user: self.partition_of(user) == number

    def _news(self) -> None:
        for listener in self._listeners:
            listener()

    # -- writing ------------------------------------------------------------------------------------------------

    async def beat(self) -> Outcome:
        """See :meth:`Store.beat`."""
        about = self.about()
        await self._each(lambda part: part.beat(about))
        return Outcome()

    async def retire(self, incarnation: Incarnation, cause: Cause) -> None:
        """See :meth:`Store.retire`."""
        await self._each(lambda part: part.retire(incarnation, cause))

    async def rejoin(self) -> None:
        """See :meth:`Store.rejoin`."""
        about = self.about()
        await self._each(lambda part: part.rejoin(about))

    async def settled(self) -> None:
        """See :meth:`Store.settled`."""
        await self._each(Partition.settled)

    async def nodes(self) -> list[NodeState]:
        """See :meth:`Store.nodes`; as of the last answer that named them."""
        if not self._parts:
            return []
        part = self._parts[0]
        return [NodeState(x.incarnation, max(0.0, x.deadline - part.clock), x.about) for x in part.leases]

    async def notify(self, kind: NoticeKind, target: str, user: str = "", cause: str = "", reason: str = "") -> None:
        """See :meth:`Store.notify`."""
        part = self._part(self.partition_of(UserId(user)) if user else 0)
        await part.order(lambda line: line.notify(kind, target, user, cause, reason))

    def partition_of(self, user: UserId) -> int:
        """See :meth:`Store.partition_of`."""
        if self.partitions == 1:
            return 0
        return zlib.crc32(user.encode(errors="surrogatepass")) % self.partitions

    def recovering(self, user: UserId) -> bool:
        """See :meth:`Store.recovering`."""
        return self._part(self.partition_of(user)).recovering

    def incarnation_for(self, user: UserId) -> Incarnation:
        """See :meth:`Store.incarnation_for`."""
        return self._part(self.partition_of(user)).incarnation

    def mine(self, incarnation: str) -> bool:
        """See :meth:`Store.mine`."""
        return incarnation == self._process or incarnation.rpartition(".")[0] == self._process

    def put(self, contributions: Sequence[Contribution]) -> Awaitable[Outcome]:
        """See :meth:`Store.put`: one request per partition."""
        if self.partitions == 1:
            return self._put({0: contributions})
        parts: dict[int, list[Contribution]] = {}
        for contribution in contributions:
            parts.setdefault(self.partition_of(contribution.user), []).append(contribution)
        return self._put(parts)

    async def _put(self, parts: dict[int, Sequence[Contribution]] | dict[int, list[Contribution]]) -> Outcome:
        told = await asyncio.gather(
            *(self._part(number).put(theirs) for number, theirs in parts.items()), return_exceptions=True
        )
        _raise(told)
        events: list[Event] = []
        inherited: list[tuple[UserId, ConnectionSummary]] = []
        cursors: dict[int, Cursor] = {}
        for number, answer in zip(parts, told, strict=True):
            assert not isinstance(answer, BaseException), "raised above"
            events.extend(answer.events)
            inherited.extend(answer.inherited)
            cursors[number] = Cursor(answer.epoch, answer.seq)
        return Outcome(events, inherited, cursors)

    async def sweep(self) -> Outcome:
        """See :meth:`Store.sweep`: every node does, and the store sees to it that each thing happens once."""
        await self._each(self._sweep)
        events, self._swept = self._swept, []
        return Outcome(events)

    async def _sweep(self, part: Partition) -> None:
        told = await part.sweep(SWEEP_LIMIT)
        self._swept.extend(told.events)
        slices = SLICES
        for incarnation in told.dead:
            if incarnation == part.incarnation:
                continue
            drained = SLICE
            while drained == SLICE and slices > 0:
                slices -= 1
                reaped = await part.reap(incarnation, self._windows, SLICE)
                self._swept.extend(reaped.events)
                drained = reaped.drained

    async def _each(self, do: Callable[[Partition], Awaitable[object]]) -> None:
        """Do something with all partitions at the same time: one whose server is down keeps no other waiting.

        Raises:
            StoreError: it failed with one of them; with the others it is done.
        """
        if len(self._parts) == 1:
            await do(self._parts[0])
        else:
            _raise(await asyncio.gather(*map(do, self._parts), return_exceptions=True))

    def next_deadline(self) -> float | None:
        """See :meth:`Store.next_deadline`."""
        return min((part.due for part in self._parts if part.due is not None), default=None)

    def deadline_at(self, deadline: float) -> float:
        """See :meth:`Store.deadline_at`. Of several partitions the first one's clock is taken."""
        part = self._part(0)
        return self._now() + max(deadline, part.held_until) - part.clock

    def clock(self, partition: int) -> tuple[float, float]:
        """See :meth:`Store.clock`."""
        part = self._part(partition)
        return part.clock, part.before

    # -- reading ------------------------------------------------------------------------------------------------

    async def snapshot(self, users: Sequence[UserId]) -> Snapshot:
        """See :meth:`Store.snapshot`; the users of a partition that does not answer are unknown."""
        parts: dict[int, list[UserId]] = {}
        for user in users:
            parts.setdefault(self.partition_of(user), []).append(user)
        cursors: dict[int, Cursor] = {}
        shown: dict[UserId, Shown] = {}
        doubtful: set[UserId] = set()
        unknown: set[UserId] = set()
        answers = await self._ask(parts, lambda number: lambda line: line.snapshot(parts[number]))
        for number, told in answers.items():
            if told is None:
                shown.update(dict.fromkeys(parts[number], NOBODY))
                unknown.update(parts[number])
                continue
            cursors[number] = _place(told)
            shown.update(told.users)
            doubtful |= told.doubtful
            if told.recovering:
                unknown.update(user for user, state in told.users.items() if state.status is Status.OFFLINE)
        return Snapshot(cursors, shown, frozenset(doubtful), frozenset(unknown))

    async def record(self, user: UserId) -> Record | None:
        """See :meth:`Store.record`."""
        return (await self._part(self.partition_of(user)).ask(lambda line: line.record(user))).record

    async def room(self, room: RoomName) -> RoomSnapshot:
        """See :meth:`Store.room`; it is not complete when a partition does not answer."""
        cursors: dict[int, Cursor] = {}
        members: dict[UserId, ShownMember] = {}
        doubtful: set[UserId] = set()
        complete = True
        for number, told in (await self._ask(range(self.partitions), lambda _: lambda line: line.room(room))).items():
            if told is None:
                complete = False
                continue
            cursors[number] = _place(told)
            members.update(told.members)
            doubtful |= told.doubtful
            complete = complete and not told.recovering
        return RoomSnapshot(cursors, members, frozenset(doubtful), complete)

    async def rooms(self, after: str, limit: int) -> list[tuple[RoomName, int]]:
        """See :meth:`Store.rooms`."""
        counts: dict[RoomName, int] = {}
        for told in await asyncio.gather(*(part.ask(lambda line: line.rooms(after, limit)) for part in self._parts)):
            for name, count in told.rooms:
                counts[name] = counts.get(name, 0) + count
        # each partition told its first names, so the first of all are among them, and counted whole
        return sorted(counts.items())[:limit]

    async def page(self, after: str, limit: int, prefix: str, status: Status | None) -> Page:
        """See :meth:`Store.page`; the cursor is ``<partition>.<the engine's>``."""
        number_text, _, rest = after.partition(".")
        number = int(number_text) if number_text.isascii() and number_text.isdigit() else 0
        found: list[tuple[UserId, Record]] = []
        while number < self.partitions:
            told = await self._part(number).ask(
                lambda line, at=rest: line.page(at, limit - len(found), prefix, status)  # type: ignore[misc]
            )
            found.extend(told.users)
            if told.cursor is None:
                number, rest = number + 1, ""
            else:
                rest = told.cursor
            if len(found) >= limit:
                break
        return Page(found, f"{number}.{rest}" if number < self.partitions else None)

    async def tip(self, partition: int = 0) -> Cursor:
        """See :meth:`Store.tip`."""
        return _place(await self._part(partition).ask(lambda line: line.snapshot(())))

    async def read_log(self, after: Cursor, limit: int = 1000, partition: int = 0) -> LogPage:
        """See :meth:`Store.read_log`; from what this node keeps of the log."""
        if not self._followers:
            raise StoreUnavailable("the store is not open")
        return self._followers[partition].page(after, limit)

    async def read_back(self, after: Cursor, limit: int = 1000, partition: int = 0) -> LogPage:
        """See :meth:`Store.read_back`: a reader of its own for one page."""
        page = await self.read_log(after, limit, partition)
        if not page.gap or after.epoch != page.epoch:
            return page
        reader = await self._engine.reader(partition)
        try:
            told = await reader.read(after.epoch, after.seq, limit, 0.0)
        finally:
            await reader.close()
        if told.gap or not told.entries:
            return page
        return LogPage(
            after.epoch,
            [entry for _, _, entry in told.entries if isinstance(entry, Transition)],
            Cursor(*told.entries[-1][:2]),
        )

    async def get_mark(self, name: str) -> bytes | None:
        """See :meth:`Store.get_mark`."""
        return await self._marks.get_mark(name)

    async def set_mark(self, name: str, value: bytes | None) -> None:
        """See :meth:`Store.set_mark`."""
        await self._marks.set_mark(name, value)

    def on_news(self, callback: Callable[[], None]) -> None:
        """See :meth:`Store.on_news`."""
        self._listeners.append(callback)

    async def timeline(self, user: UserId, after: float, before: float, limit: int) -> TimelinePage:
        """See :meth:`Store.timeline`."""
        after = max(after, self._now() - self._timeline_keep)
        told = await self._part(self.partition_of(user)).ask(lambda line: line.timeline(user, after, before, limit))
        return TimelinePage(told.entries)

    def statistics(self) -> StoreStatistics:
        """See :meth:`Store.statistics`; sizes are of the last beat."""
        figures = [part.figures for part in self._parts]
        return StoreStatistics(
            kind=self.kind,
            epoch=self._parts[0].epoch if self._parts else 0,
            seq=sum(part.place.seq for part in self._parts),
            users_known=sum(f.users_known for f in figures),
            users_present=sum(f.users_present for f in figures),
            windows_pending=sum(f.windows_pending for f in figures),
            rooms=max((f.rooms for f in figures), default=0),
            writes=sum(part.requests for part in self._parts),
            reachable=all(follower.reachable for follower in self._followers),
        )

    async def _ask(
        self, numbers: Iterable[int], question: Callable[[int], Callable[[Line], Awaitable[T]]]
    ) -> dict[int, T | None]:
        """Ask several partitions at the same time; None stands for one that does not answer.

        Raises:
            StoreError: none of them does.
        """
        asked = list(numbers)
        told = await asyncio.gather(
            *(self._part(number).ask(question(number)) for number in asked), return_exceptions=True
        )
        if not all(isinstance(answer, StoreError) for answer in told):
            _raise([answer for answer in told if not isinstance(answer, StoreError)])
            return {n: None if isinstance(a, BaseException) else a for n, a in zip(asked, told, strict=True)}
        _raise(told)
        return {}

    def _part(self, number: int) -> Partition:
        if not self._parts:
            raise StoreUnavailable("the store is not open")
        return self._parts[number]


def _raise(answers: Sequence[object]) -> None:
    """Of several partitions' failures raise one: all lost ones together, since the caller marks what they cover."""
    lost = [answer for answer in answers if isinstance(answer, Fenced)]
    if lost:
        covers = [error.covers for error in lost if error.covers is not None]
        raise Fenced("; ".join(map(str, lost)), lambda user: any(covered(user) for covered in covers))
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer


def _place(told: Told) -> Cursor:
    return Cursor(told.epoch, told.seq)
