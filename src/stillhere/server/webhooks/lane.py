"""A window on one partition's log: what a hook has read and not got rid of yet.

Messages of one user go one after the other; those of other users need not wait for one that fails. How far the hook is
(``done_at``) moves over what is done without a hole, so a restart repeats a little and leaves out nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from stillhere.core.events import Transition
from stillhere.server.webhooks.payload import Message, gap_message, transition_message
from stillhere.store.contract import Cursor, LogPage


class Item:
    """One message on its way."""

    __slots__ = (
        "at",
        "attempts",
        "cursor",
        "done",
        "doomed",
        "failing_since",
        "flying",
        "make",
        "reason",
        "retry_at",
        "user",
    )

    def __init__(self, user: str, at: float, cursor: Cursor, make: Callable[[], Message]) -> None:
        """Not tried yet.

        Args:
            user: whose; an empty string stands for everybody's.
            at: when it happened, Unix seconds.
            cursor: its place in the log.
            make: its text; made anew for each attempt, so that what waits costs no more than the log's own entry.
        """
        self.user = user
        self.at = at
        self.cursor = cursor
        self.make = make
        self.attempts = 0
        self.retry_at = 0.0
        self.failing_since: float | None = None
        self.reason = ""
        self.flying = False
        self.doomed = False
        """It is to become a dead letter."""
        self.done = False


class Lane:
    """See the module."""

    def __init__(self, partition: int, after: Cursor, window: int) -> None:
        """Begin after a place.

        Args:
            partition: which log.
            after: how far the hook had come.
            window: most messages that are held.
        """
        self.partition = partition
        self.read_at = after
        self.done_at = after
        self.items: deque[Item] = deque()
        self._window = window

    @property
    def room(self) -> int:
        """How many more messages fit."""
        return max(0, self._window - len(self.items))

    @property
    def oldest(self) -> Item | None:
        """The first that is not done."""
        return self.items[0] if self.items else None

    def take(self, page: LogPage, wants: Callable[[Transition], bool]) -> bool:
        """Take a page in. Returns whether it led any further."""
        moved = page.cursor != self.read_at
        for entry in page.entries:
            if wants(entry):
                self.items.append(self._item(entry, page.epoch))
        self.read_at = page.cursor
        self.settle()
        return moved

    def gap(self, cursor: Cursor, now: float) -> None:
        """The log goes on at a later place, and the hook is to be told so before anything that follows."""
        partition = self.partition
        self.items.append(Item("", now, cursor, lambda: gap_message(cursor, partition, now)))
        self.read_at = cursor

    def settle(self) -> None:
        """Move over what is done."""
        items = self.items
        while items and items[0].done:
            self.done_at = items.popleft().cursor
        if not items:
            self.done_at = self.read_at

    def ready(self, now: float) -> Iterator[Item]:
        """Messages that may be sent, in order: of each user the first, and nothing beyond a gap.

        Args:
            now: on the clock of ``retry_at``.
        """
        busy: set[str] = set()
        for item in self.items:
            if item.done:
                continue
            if not item.user:
                if not busy and not item.flying and not item.doomed and item.retry_at <= now:
                    yield item
                return
            if item.user in busy:
                continue
            busy.add(item.user)
            if not item.flying and not item.doomed and item.retry_at <= now:
                yield item

    def _item(self, entry: Transition, epoch: int) -> Item:
        partition = self.partition
        return Item(
            entry.user, entry.at, Cursor(epoch, entry.version), lambda: transition_message(entry, epoch, partition)
        )
