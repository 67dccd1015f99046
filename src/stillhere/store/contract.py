"""What every store can do.

A store decides who is present (the rules are :mod:`stillhere.core.ledger`, or the same rules in its own engine), keeps
it as durably as its kind allows, and tells every node each transition in order. Errors::

    StoreError (RemoteFault)
    ├── StoreUnavailable     out of reach for now; the caller keeps its state and tries again
    ├── StoreRefused         the store can never work like this: another schema, a second writer, a bad address
    └── Fenced               this incarnation is dead to the store; come back as a new one
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from stillhere.core.errors import RemoteFault
from stillhere.core.events import Entry, Event, Notice, NoticeKind, Transition
from stillhere.core.record import ConnectionSummary, Contribution, Record, Shown, ShownMember
from stillhere.core.words import Cause, Incarnation, RoomName, Status, UserId


class StoreError(RemoteFault):
    """Root of what a store may raise."""


class StoreUnavailable(StoreError):
    """The store cannot be reached or cannot write at the moment. Nothing was lost; try again."""


class StoreRefused(StoreError):
    """The store will not work like this; starting again does not help."""


class Fenced(StoreError):
    """The incarnation has no lease any more; its operations change nothing."""

    def __init__(self, message: str, covers: Callable[[UserId], bool] | None = None) -> None:
        """Say what happened.

        Args:
            message: for the operator.
            covers: which users have to be told again; all of them if None.
        """
        super().__init__(message)
        self.covers = covers


class Cursor(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """A place in the log. On the wire ``<epoch>-<seq>``."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read what ``str()`` wrote.

        Raises:
            ValueError: with the text and what would be right.
        """
        epoch, dash, seq = text.partition("-")
        if not (dash and epoch.isascii() and epoch.isdigit() and seq.isascii() and seq.isdigit()):
            raise ValueError(f"cursor {text[:64]!r} is not of the form <epoch>-<number>")
        return cls(int(epoch), int(seq))


class Outcome(msgspec.Struct, frozen=True):
    """What an operation did, once it is as durable as the store makes it."""

    events: Sequence[Event] = ()
    """What happened to users because of it: the caller logs and counts them."""
    inherited: Sequence[tuple[UserId, ConnectionSummary]] = ()
    """Connections that took over their tab's availability or metadata."""
    cursors: Mapping[int, Cursor] = {}
    """Of each partition that it changed, a place of the log that includes it."""

    @property
    def cursor(self) -> Cursor:
        """That of the first partition."""
        return self.cursors.get(0, Cursor(0, 0))


class Snapshot(msgspec.Struct, frozen=True):
    """The states of some users, those of a partition all at one place of its log."""

    cursors: Mapping[int, Cursor]
    """Per partition."""
    users: dict[UserId, Shown]
    doubtful: frozenset[UserId] = frozenset()
    """Who is there only as an epoch left it that was lost, and was not told of since: watchers may know of an end that
    the store forgot. It lasts until a node tells of the user, or the user goes."""
    unknown: frozenset[UserId] = frozenset()
    """Who is not there, in a store that is still being told who is."""

    @property
    def cursor(self) -> Cursor:
        """That of the first partition."""
        return self.cursors.get(0, Cursor(0, 0))


class RoomSnapshot(msgspec.Struct, frozen=True):
    """The members of a room, those of a partition at one place of its log."""

    cursors: Mapping[int, Cursor]
    members: dict[UserId, ShownMember]
    doubtful: frozenset[UserId] = frozenset()
    complete: bool = True
    """False while the store is still being told who is there."""

    @property
    def cursor(self) -> Cursor:
        """That of the first partition."""
        return self.cursors.get(0, Cursor(0, 0))


class Page(msgspec.Struct, frozen=True):
    """Some of the known users; a store of one node has them in the order of their ids."""

    users: list[tuple[UserId, Record]]
    cursor: str | None
    """Ask on with this; None at the end."""


class LogPage(msgspec.Struct, frozen=True):
    """Transitions after a cursor, in order."""

    epoch: int
    entries: Sequence[Transition]
    cursor: Cursor
    """Ask on after this."""
    gap: bool = False
    """The log no longer reaches back to the cursor: take fresh snapshots. There are no entries then."""
    notices: Sequence[Notice] = ()
    """What nodes have to hear of each other."""


class NodeState(msgspec.Struct, frozen=True):
    """A node, as the store knows it."""

    incarnation: Incarnation
    lease: float
    """Seconds that are left of its lease."""
    about: bytes
    """What it says of itself: JSON."""


class TimelinePage(msgspec.Struct, frozen=True):
    """What happened to one user, oldest first."""

    entries: Sequence[Entry]


class StoreStatistics(msgspec.Struct, frozen=True):
    """Figures of a store, for metrics and pages."""

    kind: str
    epoch: int
    seq: int
    users_known: int
    users_present: int
    windows_pending: int
    rooms: int
    writes: int = 0
    """Commits, or round trips."""
    write_seconds: float = 0.0
    backlog: int = 0
    """Changes that are not durable yet."""
    reachable: bool = True


class Store(Protocol):
    """The contract; one suite of tests runs over all that fulfil it."""

    kind: str
    applies_at_once: bool
    """Whether :meth:`put` and :meth:`sweep` take effect in the call itself, before anything is awaited."""
    partitions: int
    """Parts with a log each; see :meth:`partition_of`."""
    about: Callable[[], bytes]
    """Set by the node: what it says of itself to the others, as JSON."""

    async def start(self, incarnation: Incarnation, lease: float) -> None:
        """Open, recover, and register the incarnation.

        A store that only one node uses ends here what the former run left: its users are held for a window.

        Raises:
            StoreRefused: with a sentence for the operator.
        """
        ...

    async def stop(self) -> None:
        """Everything acknowledged is durable; close."""
        ...

    async def beat(self) -> Outcome:
        """Renew the lease; notices a store that lost its data."""
        ...

    async def retire(self, incarnation: Incarnation, cause: Cause) -> None:
        """Declare an incarnation dead."""
        ...

    async def rejoin(self) -> None:
        """After :class:`Fenced`, come back as a new incarnation. Mark what has to be told again **before**."""
        ...

    async def settled(self) -> None:
        """All that this node carries has been put: former incarnations of it, and a recovery, may end."""
        ...

    async def nodes(self) -> list[NodeState]:
        """Every node with a lease; empty for a store that serves one."""
        ...

    async def notify(self, kind: NoticeKind, target: str, user: str = "", cause: str = "", reason: str = "") -> None:
        """Tell all nodes something through the log; a store that serves one does nothing."""
        ...

    def partition_of(self, user: UserId) -> int:
        """Which log has the transitions of a user."""
        ...

    def recovering(self, user: UserId) -> bool:
        """Whether, as of the last answer, nodes may still have to tell of a user: who is not there is unknown then."""
        ...

    def incarnation_for(self, user: UserId) -> Incarnation:
        """Under which incarnation this node tells of a user."""
        ...

    def mine(self, incarnation: str) -> bool:
        """Whether a notice's target is this process or an incarnation of it."""
        ...

    def put(self, contributions: Sequence[Contribution]) -> Awaitable[Outcome]:
        """Merge contributions; the awaitable is done when they are acknowledged.

        Raises:
            Fenced, StoreUnavailable.
        """
        ...

    async def sweep(self) -> Outcome:
        """Fire what is due: windows, leases, dead incarnations (in slices)."""
        ...

    def next_deadline(self) -> float | None:
        """Seconds until :meth:`sweep` has something to do, as far as this node knows; None for never."""
        ...

    def deadline_at(self, deadline: float) -> float:
        """When a deadline on the store clock comes, Unix seconds: for people, as far as this node can tell.

        Args:
            deadline: of a :class:`~stillhere.core.record.Hold` or a :class:`~stillhere.core.record.Grace`.
        """
        ...

    def clock(self, partition: int) -> tuple[float, float]:
        """The store clock of a partition as of its last answer, and for how long it ran before its data was lost.

        No wall clock tells whether something was before a thing that a record says: those of nodes differ, and that
        of the store jumps.
        """
        ...

    async def snapshot(self, users: Sequence[UserId]) -> Snapshot:
        """The states of users, unknown ones included."""
        ...

    async def record(self, user: UserId) -> Record | None:
        """All that is known of a user, read atomically. Must not be changed."""
        ...

    async def room(self, room: RoomName) -> RoomSnapshot:
        """The members of a room; an unknown room is empty."""
        ...

    async def rooms(self, after: str, limit: int) -> list[tuple[RoomName, int]]:
        """Names and member counts, in order of the names, after a name."""
        ...

    async def page(self, after: str, limit: int, prefix: str, status: Status | None) -> Page:
        """Known users by id."""
        ...

    async def tip(self, partition: int = 0) -> Cursor:
        """The newest place of a log."""
        ...

    async def read_log(self, after: Cursor, limit: int = 1000, partition: int = 0) -> LogPage:
        """Transitions after a cursor; at once, empty when there is nothing new."""
        ...

    async def read_back(self, after: Cursor, limit: int = 1000, partition: int = 0) -> LogPage:
        """Like :meth:`read_log`, and what this node does not have in memory it asks the engine for.

        For readers that come from before this node's start; slower, so only where :meth:`read_log` has a gap.
        """
        ...

    async def get_mark(self, name: str) -> bytes | None:
        """What :meth:`set_mark` last kept under a name, on whatever node; None for nothing.

        Raises:
            StoreUnavailable.
        """
        ...

    async def set_mark(self, name: str, value: bytes | None) -> None:
        """Keep some bytes under a name, as durably as the store keeps everything else.

        For readers of the log that have to know after a restart how far they had come. The last writer wins.

        Args:
            name: at most 200 characters of ASCII.
            value: at most some hundred kilobytes; None forgets the name.

        Raises:
            StoreUnavailable: it may be kept or not.
        """
        ...

    def on_news(self, callback: Callable[[], None]) -> None:
        """Call this, soon and on the loop, whenever :meth:`read_log` has something new."""
        ...

    async def timeline(self, user: UserId, after: float, before: float, limit: int) -> TimelinePage:
        """Events of a user between two Unix times."""
        ...

    def statistics(self) -> StoreStatistics:
        """Figures of now."""
        ...
