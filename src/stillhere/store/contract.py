"""What every store can do.

A store decides who is present (the rules are :mod:`stillhere.core.ledger`, or the same rules in its own engine), keeps
it as durably as its kind allows, and tells every node each transition in order. Errors::

    StoreError (RemoteFault)
    ├── StoreUnavailable     out of reach for now; the caller keeps its state and tries again
    ├── StoreRefused         the store can never work like this: another schema, a second writer, a bad address
    └── Fenced               this incarnation is dead to the store; come back as a new one
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from stillhere.core.errors import RemoteFault
from stillhere.core.events import Event, Transition
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


class Cursor(msgspec.Struct, frozen=True, array_like=True, order=True):
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
    cursor: Cursor = Cursor(0, 0)
    """A place of the log that includes it."""


class Snapshot(msgspec.Struct, frozen=True):
    """The states of some users, all at one place of the log."""

    cursor: Cursor
    users: dict[UserId, Shown]


class RoomSnapshot(msgspec.Struct, frozen=True):
    """The members of a room at one place of the log."""

    cursor: Cursor
    members: dict[UserId, ShownMember]


class Page(msgspec.Struct, frozen=True):
    """Some of the known users, in the order of their ids."""

    users: list[tuple[UserId, Record]]
    cursor: UserId | None
    """Ask on after this id; None at the end."""


class LogPage(msgspec.Struct, frozen=True):
    """Transitions after a cursor, in order."""

    epoch: int
    entries: Sequence[Transition]
    cursor: Cursor
    """Ask on after this."""
    gap: bool = False
    """The log no longer reaches back to the cursor: take fresh snapshots. There are no entries then."""


class TimelinePage(msgspec.Struct, frozen=True):
    """What happened to one user, oldest first."""

    entries: Sequence[Event]


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

    async def tip(self) -> Cursor:
        """The newest place of the log."""
        ...

    async def read_log(self, after: Cursor, limit: int = 1000) -> LogPage:
        """Transitions after a cursor; at once, empty when there is nothing new."""
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
