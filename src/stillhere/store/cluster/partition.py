"""A node's side of one partition: its incarnation there, its line, and what the answers say.

The procedure is that of ``docs/store.md``: the first request of every line is ``hello``, with a channel number higher
than all before, so that what is still under way on an older line changes nothing. Whatever goes wrong with the
incarnation (its lease ran out while this process stood still, the store lost its data, a failover took the last writes
back, the partition moved to another server) ends in one path: :class:`Fenced`, everything marked, :meth:`rejoin`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from stillhere.core.leases import Answer
from stillhere.core.record import Contribution
from stillhere.core.words import Cause, Incarnation, UserId
from stillhere.store.cluster.line import Engine, Figures, Lease, Line, Told, ToldBeat, ToldEvents, ToldReap, ToldSweep
from stillhere.store.contract import Cursor, Fenced, StoreUnavailable

T = TypeVar("T", bound=Told)


class Partition:
    """See the module. One request at a time; those that only read have a line of their own."""

    def __init__(
        self, engine: Engine, number: int, rng: random.Random, covers: Callable[[UserId], bool], lease: float
    ) -> None:
        """Prepare; nothing is opened before :meth:`rejoin`.

        Args:
            engine: where the partition is.
            number: which.
            rng: for nonces.
            covers: which users it has.
            lease: seconds.
        """
        self._engine = engine
        self.number = number
        self._rng = rng
        self._covers = covers
        self.lease = lease
        self.process = ""
        self.incarnation = Incarnation("")
        self.former: list[Incarnation] = []
        """Incarnations of this process whose connections are told again under the new one, and that are still alive."""
        self.processes: set[str] = set()
        """Those that this node knows to be alive: they are awaited in a recovery."""
        self.leases: Sequence[Lease] = ()
        self.figures = Figures()
        self.epoch = self.born = 0
        self.place = Cursor(0, 0)
        self.clock = 0.0
        self.before = 0.0
        """Seconds that the clock ran before the store lost its data, as far as this node knows: it begins anew then."""
        self.held_until = 0.0
        self.recovering = False
        self.due: float | None = None
        self.requests = 0
        self._told: set[UserId] = set()
        self._times = 0
        self._channel = 0
        self._leases_due = True
        """Whether the last answer that was to name the nodes was lost: the next one is asked for them, whatever it is.
        Who is cut off must know where else its clients can go."""
        self._lost = True
        self._announced = True
        """Whether whoever marks what has to be told again knows that the incarnation is lost."""
        self._owes_assertion = True
        self._line: Line | None = None
        self._asking: Line | None = None
        self._lock = asyncio.Lock()
        self._asking_lock = asyncio.Lock()

    # -- the node's duties --------------------------------------------------------------------------------------

    async def rejoin(self, about: bytes) -> None:
        """Come as a new incarnation, if the last one is lost.

        Raises:
            StoreUnavailable: then the last one is as lost as before; what has to be told again is marked already.
        """
        async with self._lock:  # the keeper may come from a put and from a beat at once
            if not self._announced:
                return
            if self.incarnation:
                self.former.append(self.incarnation)
            self._times += 1
            self.incarnation = new = Incarnation(f"{self.process}.{self._times}")
            self._told.clear()
            self._owes_assertion = True
            line = await self._speak()
            told = await self._run(line.join(new, self._channel, self.lease, self.process, about))
            if told.answer is not Answer.OK:
                raise StoreUnavailable(f"the store does not take a new incarnation: {told.answer}")
            self._meet(told.leases)
            self._lost = self._announced = False

    async def put(self, contributions: Sequence[Contribution]) -> ToldEvents:
        """Merge what this node has of some users."""
        told = await self._call(lambda line: line.put(self.incarnation, self._channel, contributions))
        for contribution in contributions:
            if contribution.connections:
                self._told.add(contribution.user)
            else:
                self._told.discard(contribution.user)
        return told

    async def beat(self, about: bytes) -> ToldBeat:
        """Renew the lease; compare what the store carries for this node with what this node has told.

        Raises:
            Fenced: also when the two differ.
        """
        self._leases_due = True
        told = await self._call(lambda line: line.beat(self.incarnation, self._channel, self.lease, about))
        self.figures = told.figures
        self.processes = {self.process}
        self._meet(told.leases)
        if told.carried != len(self._told):
            self._lost = self._announced = True
            raise Fenced(
                f"the store has {told.carried} users of this node in partition {self.number}, not {len(self._told)}: "
                "all are told again",
                self._covers,
            )
        return told

    async def sweep(self, limit: int) -> ToldSweep:
        """Fire what is due."""
        asked = self._leases_due
        told = await self._call(lambda line: line.sweep(limit, leases=asked))
        self.due = told.due
        if asked:
            self._meet(told.leases)
        return told

    async def reap(self, incarnation: Incarnation, windows: dict[Cause, float], limit: int) -> ToldReap:
        """Drain a slice of a dead incarnation."""
        return await self._call(lambda line: line.reap(incarnation, windows, limit))

    async def retire(self, incarnation: Incarnation, cause: Cause) -> None:
        """Declare an incarnation dead."""
        await self._call(lambda line: line.retire(incarnation, cause))
        if incarnation == self.incarnation:
            self._lost = True

    async def settled(self) -> None:
        """Everything is told: say so once per incarnation, and let the former ones go."""
        if self._lost:
            return
        if self._owes_assertion:
            await self._call(lambda line: line.asserted(self.incarnation, self._channel))
            self._owes_assertion = False
        while self.former:
            await self.retire(self.former[0], Cause.NODE_LOST)
            del self.former[0]

    async def order(self, operation: Callable[[Line], Awaitable[T]]) -> T:
        """Some other request of this incarnation."""
        return await self._call(operation)

    async def ask(self, operation: Callable[[Line], Awaitable[T]]) -> T:
        """A request that changes nothing.

        Raises:
            StoreUnavailable: out of reach, or the store is empty and nobody has said hello yet.
        """
        async with self._asking_lock:
            if self._asking is None:
                self._asking = await self._engine.line(self.number)
            line, born = self._asking, self.born
            self.requests += 1
            try:
                told = await operation(line)
            except BaseException:
                self._asking = None
                await line.close()
                raise
        if told.answer is Answer.NO_EPOCH:
            raise StoreUnavailable("the store is empty, and the nodes have not told it yet what they carry")
        self.recovering = told.recovering
        if told.born != born == self.born:  # what is read now is to be compared with the clock that it is of
            self.before += self.clock
            self.born, self.clock = told.born, told.clock
        elif told.epoch == self.epoch:
            self.clock = max(self.clock, told.clock)
        return told

    async def close(self) -> None:
        """End the lines."""
        for line in (self._line, self._asking):
            if line is not None:
                await line.close()
        self._line = self._asking = None

    # -- inside -------------------------------------------------------------------------------------------------

    def _meet(self, leases: Sequence[Lease]) -> None:
        self.leases, self._leases_due = leases, False
        self.processes.update(lease.process for lease in leases if lease.process)

    async def _call(self, operation: Callable[[Line], Awaitable[T]]) -> T:
        async with self._lock:
            line = await self._speak()
            if self._lost:
                raise self._fenced()
            told = await self._run(operation(line))
            if self._lost:
                raise self._fenced()
            return told

    async def _speak(self) -> Line:
        """The line, after its hello."""
        if self._line is None:
            line = self._line = await self._engine.line(self.number)
            self._channel += 1
            processes = sorted(self.processes | {self.process})
            nonce = self._rng.getrandbits(10)
            await self._run(line.hello(self.epoch, self.incarnation, self._channel, nonce, processes))
        return self._line

    async def _run(self, request: Awaitable[T]) -> T:
        """Wait for an answer, and take note of what it says of the partition."""
        self.requests += 1
        try:
            told = await request
            if told.answer is Answer.NO_EPOCH:
                raise StoreUnavailable("the store is empty: it lost its data")
        except BaseException:
            line, self._line = self._line, None
            if line is not None:
                await line.close()
            raise
        self._lost = self._lost or told.answer is Answer.FENCED or told.epoch != self.epoch
        if told.born != self.born:
            self.before += self.clock
        self.epoch, self.born = told.epoch, told.born
        self.place = Cursor(told.epoch, told.seq)
        self.clock, self.held_until, self.recovering = told.clock, told.held_until, told.recovering
        return told

    def _fenced(self) -> Fenced:
        self._announced = True
        return Fenced(
            f"incarnation {self.incarnation!r} is not known to partition {self.number} any more "
            f"(epoch {self.epoch}): its users are told again",
            self._covers,
        )
