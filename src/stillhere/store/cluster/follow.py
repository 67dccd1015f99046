"""Reading the log of one partition: the newest part of it is kept here, for every reader of this node."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from stillhere.core.events import Notice, NoticeKind, Transition
from stillhere.store.cluster.line import Engine, Reader
from stillhere.store.cluster.partition import Partition
from stillhere.store.contract import Cursor, LogPage, StoreError, StoreUnavailable

_LOG = logging.getLogger("stillhere.store")

LOG_KEPT = 20_000
"""Entries that every reader of this node can go back, at least, once there were so many."""

PAGE = 1000
WAIT = 1.0
"""Seconds that one request waits for news."""

STARVING = 3.0
"""A reader that has nothing for so long, in seconds, although the partition's answers speak of newer places, is given
up: its connection may be half open."""

_BACK_OFF, _BACK_OFF_MAX = 0.1, 1.0


class LogFollower:
    """See the module."""

    def __init__(self, engine: Engine, part: Partition, news: Callable[[], None], kept: int = LOG_KEPT) -> None:
        """Prepare.

        Args:
            engine: opens the reader.
            part: whose log; its answers tell how far the log has come.
            news: called when there is something new to read, or the log became unreachable.
            kept: entries that are kept, at least.
        """
        self._engine = engine
        self._part = part
        self._news = news
        self._kept = kept
        self._base = Cursor(0, 0)
        """The place before the first entry that is kept."""
        self._at = Cursor(0, 0)
        """The place of the last."""
        self._entries: list[Transition | Notice | None] = []
        self.reachable = True
        self.strange = 0
        """Entries that were none of ours."""

    async def begin(self) -> None:
        """Start at the newest place of the log, and forget what was kept.

        Raises:
            StoreUnavailable: the place is not known.
        """
        told = await self._part.ask(lambda line: line.snapshot(()))
        self._base = self._at = Cursor(told.epoch, told.seq)
        self._entries = []

    def page(self, after: Cursor, limit: int) -> LogPage:
        """What came after a place; a gap where it is not kept.

        Raises:
            StoreUnavailable: the log cannot be read at the moment.
        """
        if not self.reachable:
            raise StoreUnavailable("the log of the store cannot be read")
        here = self._at
        if after.epoch == here.epoch and after.seq >= here.seq:  # a snapshot may be ahead of the reader
            return LogPage(here.epoch, (), after)
        if after.epoch != here.epoch or after.seq < self._base.seq:
            return LogPage(here.epoch, (), here, gap=True)
        first = after.seq - self._base.seq
        found = self._entries[first : first + limit]
        return LogPage(
            here.epoch,
            [entry for entry in found if isinstance(entry, Transition)],
            Cursor(here.epoch, after.seq + len(found)),
            notices=[entry for entry in found if isinstance(entry, Notice)],
        )

    async def run(self) -> None:
        """Read, for ever."""
        back_off = _BACK_OFF
        reader: Reader | None = None
        starving = 0.0
        lost = False
        try:
            while True:
                try:
                    if lost:
                        await self.begin()
                        lost = False
                        self._news()
                    if reader is None:
                        reader = await self._engine.reader(self._part.number)
                    # after an outage the first answer says that the log can be read again: it is not waited for
                    wait = WAIT if self.reachable else 0.0
                    told = await reader.read(self._at.epoch, self._at.seq, PAGE, wait)
                except StoreError as error:
                    if reader is not None:
                        await reader.close()
                        reader = None
                    if self.reachable:
                        _LOG.warning("the log of the store cannot be read: %s", error)
                    self.reachable = False
                    self._news()
                    await asyncio.sleep(back_off)
                    back_off = min(2 * back_off, _BACK_OFF_MAX)
                    continue
                back_off = _BACK_OFF
                was, self.reachable = self.reachable, True
                self.strange += told.strange
                behind = not told.entries and self._part.place.epoch != self._at.epoch
                if told.gap or behind:  # epochs are compared by inequality: a new one may be the lower number
                    lost = True
                    continue
                for epoch, seq, entry in told.entries:
                    self._take(Cursor(epoch, seq), entry)
                if told.entries or not was:
                    self._news()
                starving = starving + wait if not told.entries and self._part.place > self._at else 0.0
                if starving >= STARVING:
                    _LOG.warning("the reader is at %s, the log at %s: reading anew", self._at, self._part.place)
                    starving = 0.0
                    await reader.close()
                    reader = None
        finally:
            if reader is not None:
                await reader.close()

    def _take(self, place: Cursor, entry: Transition | Notice | None) -> None:
        if isinstance(entry, Notice) and entry.kind is NoticeKind.JOINED:
            self._part.processes.add(entry.target)
        self._at = place
        self._entries.append(entry)
        if len(self._entries) > 2 * self._kept:
            del self._entries[: self._kept]
            self._base = Cursor(place.epoch, self._base.seq + self._kept)
