"""What the engine of a shared store must offer: a line to each partition, and a reader of its log.

The procedure of a node (:mod:`stillhere.store.cluster.partition`) is written against this alone; Redis is one engine,
the ledger behind a simulated network another. Every operation is one atomic request. The rules behind the operations
are those of :class:`stillhere.core.ledger.Ledger`, whose methods have the same names.

Keys of users, windows and rooms live in **partitions** by user: ``crc32(user) % partitions``. Each partition has a log,
a clock and an epoch of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from stillhere.core.events import Entry, Event, Notice, NoticeKind, Transition
from stillhere.core.leases import Answer
from stillhere.core.record import ConnectionSummary, Contribution, Record, Shown, ShownMember
from stillhere.core.words import Cause, Incarnation, RoomName, Status, UserId


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What every answer says of the partition."""

    answer: Answer
    epoch: int = 0
    seq: int = 0
    """The newest place of the log, this request included."""
    clock: float = 0.0
    """The value of the store clock, in seconds."""
    held_until: float = 0.0
    """Nothing expires before this value of the clock."""
    recovering: bool = False
    """Nodes may still have to tell what they carry: who is not there is *unknown*, not offline."""
    born: int = 0
    """The epoch in which the data began, before which the clock did not run."""


class ToldEvents(Told, frozen=True, kw_only=True):
    """Of an operation that changes users."""

    events: Sequence[Event] = ()
    inherited: Sequence[tuple[UserId, ConnectionSummary]] = ()


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """A node as the others see it."""

    incarnation: Incarnation
    process: str
    deadline: float
    """Of its lease, on the store clock."""
    about: bytes
    """What it says of itself (JSON)."""


class Figures(msgspec.Struct, frozen=True, array_like=True):
    """Sizes of a partition."""

    users_known: int = 0
    users_present: int = 0
    windows_pending: int = 0
    rooms: int = 0


class ToldNodes(Told, frozen=True, kw_only=True):
    """Who has a lease, the new incarnation included."""

    leases: Sequence[Lease] = ()


class ToldBeat(ToldNodes, frozen=True, kw_only=True):
    """Of a renewal."""

    carried: int = 0
    """How many users the store has for the incarnation: a node that counts another number tells them all again."""
    figures: Figures = Figures()


class ToldSweep(ToldEvents, frozen=True, kw_only=True):
    """Of a sweep."""

    dead: Sequence[Incarnation] = ()
    """Incarnations to be reaped."""
    due: float | None = None
    """Seconds until the next window or lease runs out."""
    leases: Sequence[Lease] = ()
    """Only if they were asked for."""


class ToldReap(ToldEvents, frozen=True, kw_only=True):
    """Of one slice of a dead incarnation."""

    drained: int = 0


class ToldSnapshot(Told, frozen=True, kw_only=True):
    """States of users, all at ``(epoch, seq)``; nobody is missing."""

    users: dict[UserId, Shown] = {}
    doubtful: frozenset[UserId] = frozenset()
    """See :meth:`stillhere.core.ledger.Ledger.doubtful`."""


class ToldRoom(Told, frozen=True, kw_only=True):
    """Members of a room at ``(epoch, seq)``."""

    members: dict[UserId, ShownMember] = {}
    doubtful: frozenset[UserId] = frozenset()


class ToldRecord(Told, frozen=True, kw_only=True):
    """All of one user."""

    record: Record | None = None


class ToldRooms(Told, frozen=True, kw_only=True):
    """Rooms with their member counts in this partition, in order of the names."""

    rooms: Sequence[tuple[RoomName, int]] = ()


class ToldPage(Told, frozen=True, kw_only=True):
    """Some known users; the order is the engine's own."""

    users: Sequence[tuple[UserId, Record]] = ()
    cursor: str | None = None
    """Ask on with this; None at the end. A page may be empty and still have a cursor."""


class ToldTimeline(Told, frozen=True, kw_only=True):
    """Events of a user, oldest first."""

    entries: Sequence[Entry] = ()


class ToldLog(msgspec.Struct, frozen=True, kw_only=True):
    """What came after a cursor, in order and without a hole."""

    entries: Sequence[tuple[int, int, Transition | Notice | None]] = ()
    """Epoch, place, entry; None for one that cannot be read (somebody else wrote there): counted, skipped."""
    gap: bool = False
    """The log does not continue at the cursor (trimmed, or it is of another epoch); no entries then."""
    strange: int = 0
    """Entries that were ignored because they are none of ours."""


class Line(Protocol):
    """One connection to one partition; requests are answered one after the other.

    Every method raises :class:`~stillhere.store.contract.StoreUnavailable` when the outcome is not known (the line is
    closed then; open another one and say hello with a higher channel number), or when the store refuses to write.
    A method never raises for ``FENCED``, ``NO_EPOCH`` and ``HOLD``: those are answers.
    """

    async def hello(
        self, known_epoch: int, incarnation: Incarnation, channel: int, nonce: int, processes: Sequence[str]
    ) -> Told:
        """``Ledger.hello`` with the run of the store's process, then ``Ledger.speak``; the first request of a line.

        Raises:
            StoreRefused: the partition has another schema, or another number of partitions.
        """
        ...

    async def join(
        self, incarnation: Incarnation, channel: int, lease: float, process: str, about: bytes
    ) -> ToldNodes: ...

    async def beat(self, incarnation: Incarnation, channel: int, lease: float, about: bytes) -> ToldBeat: ...

    async def asserted(self, incarnation: Incarnation, channel: int) -> Told: ...

    async def put(
        self, incarnation: Incarnation, channel: int, contributions: Sequence[Contribution]
    ) -> ToldEvents: ...

    async def sweep(self, limit: int, *, leases: bool = False) -> ToldSweep:
        """``leases``: whether the answer is to name the nodes, since that of the last renewal was lost."""
        ...

    async def reap(self, incarnation: Incarnation, windows: Mapping[Cause, float], limit: int) -> ToldReap:
        """``windows`` has the seconds for ``node_lost`` and ``node_drain``; which, is what it was retired with."""
        ...

    async def retire(self, incarnation: Incarnation, cause: Cause) -> Told: ...

    async def notify(self, kind: NoticeKind, target: str, user: str, cause: str, reason: str) -> Told: ...

    async def snapshot(self, users: Sequence[UserId]) -> ToldSnapshot: ...

    async def room(self, room: RoomName) -> ToldRoom: ...

    async def record(self, user: UserId) -> ToldRecord: ...

    async def rooms(self, after: str, limit: int) -> ToldRooms: ...

    async def page(self, cursor: str, limit: int, prefix: str, status: Status | None) -> ToldPage: ...

    async def timeline(self, user: UserId, after: float, before: float, limit: int) -> ToldTimeline: ...

    async def close(self) -> None:
        """End the connection; never raises."""
        ...


class Reader(Protocol):
    """A connection that reads the log of one partition."""

    async def read(self, epoch: int, seq: int, limit: int, wait: float) -> ToldLog:
        """What came after a place; waits up to ``wait`` seconds for something to come.

        Raises:
            StoreUnavailable: the reader is closed then.
        """
        ...

    async def close(self) -> None:
        """End the connection; never raises."""
        ...


@runtime_checkable
class Marks(Protocol):
    """An engine that keeps marks beside the partitions; one that does not is given a memory by the store."""

    async def get_mark(self, name: str) -> bytes | None:
        """See :meth:`stillhere.store.contract.Store.get_mark`."""
        ...

    async def set_mark(self, name: str, value: bytes | None) -> None:
        """See :meth:`stillhere.store.contract.Store.set_mark`."""
        ...


class MemoryMarks:
    """Marks that end with the process: for engines that keep none."""

    def __init__(self) -> None:
        """Start empty."""
        self._kept: dict[str, bytes] = {}

    async def get_mark(self, name: str) -> bytes | None:
        """See :class:`Marks`."""
        return self._kept.get(name)

    async def set_mark(self, name: str, value: bytes | None) -> None:
        """See :class:`Marks`."""
        if value is None:
            self._kept.pop(name, None)
        else:
            self._kept[name] = value


class Engine(Protocol):
    """Where the partitions are."""

    kind: str
    partitions: int

    async def check(self) -> None:
        """Look at the server before a node starts.

        Raises:
            StoreRefused: with a sentence: version, eviction policy, rights, address.
            StoreUnavailable: it cannot be reached.
        """
        ...

    async def line(self, partition: int) -> Line:
        """Open a line.

        Raises:
            StoreUnavailable, StoreRefused.
        """
        ...

    async def reader(self, partition: int) -> Reader:
        """Open a reader.

        Raises:
            StoreUnavailable.
        """
        ...

    async def close(self) -> None:
        """Give everything back; never raises."""
        ...
