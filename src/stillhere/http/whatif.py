"""What other windows would have led to over the timelines of a store, replayed a little at a time.

The rules are those of ``stillhere advise`` (:mod:`stillhere.core.replay`). Here they run inside a server that has
others to serve, so the work is bounded, and done in slices with pauses between them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from zlib import crc32

import msgspec

from stillhere.core.events import Entry
from stillhere.core.quality import WINDOWS, Figures
from stillhere.core.replay import Run, replay
from stillhere.core.words import FINAL_CAUSES, Cause, UserId
from stillhere.server.node import Node

USERS = 500
"""Timelines that are replayed at most."""

ENTRIES = 500
"""The newest entries of a timeline, which make one slice: 10 ms at 20 µs an entry."""

WORK = 300_000
"""Entries that are run at most, counted once for every window that is tried: some 6 s of a processor."""

_SLICE = 0.004
"""Seconds of work after which the others have their turn."""

_PAUSE = 2.0
"""How much longer than the work the pause after it is."""

_PAGES = 2
_PAGE = 1000
_ALWAYS = 1e12
_EVERYTHING = 1_000_000

WITH_WINDOW = tuple(sorted(cause.value for cause in Cause if cause not in FINAL_CAUSES))
"""The causes whose end of a connection opens a window."""


class Draining(Exception):
    """The node goes away, and the work was given up."""


class Trial(msgspec.Struct):
    """What was found of one cause."""

    ends: int = 0
    """Connections that ended with it."""
    windows: set[float] = set()
    """That were in force then, in seconds."""
    recorded: Figures = msgspec.field(default_factory=Figures)
    tried: dict[float, Figures] = {}
    """By window, in seconds."""


class Tally(msgspec.Struct):
    """What it rests on, and what was found."""

    users: int = 0
    entries: int = 0
    skipped: int = 0
    """Entries at the beginning of timelines that were cut: nobody knows what came before them."""
    unfaithful: int = 0
    """Users whose recorded events did not come out again: entries are missing, or other rules recorded them."""
    oldest: float | None = None
    """Unix time in seconds of the oldest entry that was replayed."""
    complete: bool = True
    """Every user that the store knows was looked at, with the whole timeline."""
    trials: dict[Cause, Trial] = {}


async def try_windows(
    node: Node,
    causes: Collection[Cause],
    extra: Sequence[float] = (),
    *,
    work: int = WORK,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Tally:
    """Replay recorded timelines of a node's store under other windows. It changes nothing.

    Users are taken in an order that does not depend on what their ids look like, so a part of them stands for all.

    Args:
        node: whose store, windows and horizon.
        causes: that are tried, each by itself, all other windows as they were recorded.
        extra: further windows to try, in seconds, beside those of ``stillhere advise`` and the one in force.
        work: entries that are run at most.
        clock: seconds, to measure the work with.
        sleep: waits for so many seconds, while others have their turn.

    Raises:
        StoreError: the store does not answer.
        Draining: the node is about to end.
    """
    users, every = await _known(node)
    tally = Tally(complete=every and len(users) <= USERS)
    longest = node.settings.grace.longest
    tried = {c: _windows(node, c, extra, longest) for c in causes}
    pace = _Pace(node, clock, sleep)
    left = work
    for user in users[:USERS]:
        whole = (await node.store.timeline(user, 0.0, _ALWAYS, _EVERYTHING)).entries
        entries = whole[-ENTRIES:]
        if not entries:
            continue
        if len(entries) > left:
            tally.complete = False
            break
        tally.complete &= len(entries) == len(whole)
        run = _run(node, entries)
        ended = sorted({e.cause for e in run.ends} & tried.keys())
        left -= len(entries) * (1 + sum(len(tried[cause]) for cause in ended))
        _count(tally, run, entries)
        await pace.rest()
        for cause in ended:
            trial = tally.trials.setdefault(cause, Trial(tried={w: Figures() for w in tried[cause]}))
            mine = [e.window for e in run.ends if e.cause is cause]
            trial.ends += len(mine)
            trial.windows.update(mine)
            trial.recorded.count(run.recorded)
            for window, figures in trial.tried.items():
                figures.count(_run(node, entries, {cause: window}).events)
                await pace.rest()
    return tally


async def _known(node: Node) -> tuple[list[UserId], bool]:
    """Known users, shuffled the same way each time, and whether these are all."""
    found: list[UserId] = []
    after: str | None = ""
    for _ in range(_PAGES):
        page = await node.store.page(after or "", _PAGE, "", None)
        found += [user for user, _ in page.users]
        after = page.cursor
        if after is None:
            break
    return sorted(found, key=lambda user: (crc32(user.encode()), user)), after is None


def _windows(node: Node, cause: Cause, extra: Sequence[float], longest: float) -> list[float]:
    now = node.settings.grace.policy.windows[cause]
    return sorted(window for window in {*WINDOWS, *extra, now} if window <= longest)


def _run(node: Node, entries: Sequence[Entry], windows: dict[Cause, float] | None = None) -> Run:
    return replay(entries, windows, horizon=node.settings.limits.false_offline_horizon, until=node.now())


def _count(tally: Tally, run: Run, entries: Sequence[Entry]) -> None:
    tally.users += 1
    tally.entries += run.entries - run.skipped
    tally.skipped += run.skipped
    tally.unfaithful += not run.faithful
    if run.skipped < run.entries:
        first = entries[run.skipped].at
        tally.oldest = first if tally.oldest is None else min(tally.oldest, first)


class _Pace:
    """Lets the others have their turn."""

    def __init__(self, node: Node, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]]) -> None:
        self._node = node
        self._sleep = sleep
        self._clock = clock
        self._since = clock()

    async def rest(self) -> None:
        """Pause, if enough was done since the last pause."""
        worked = self._clock() - self._since
        if worked < _SLICE:
            return
        if self._node.draining:
            raise Draining
        await self._sleep(worked * _PAUSE)
        self._since = self._clock()
