"""Time that a test moves by hand, under asyncio's own event loop.

While a :class:`ManualClock` holds the running loop, the loop's time stands still: no timer fires and nobody's window
ends, however long the test takes. :meth:`ManualClock.advance` lets it pass, timer by timer and in order, in no time at
all. What is real goes on working meanwhile: sockets, threads, subprocesses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

START = 1_790_000_000.0
"""Unix seconds at which a world begins, so that a test sees the same times in every run."""

PATIENCE = 10.0
"""Real seconds after which a loop in which nothing happens is given up."""

TURNS = 10_000
"""Turns of the loop after which whoever still has something to do is taken for one who never has enough."""


class TimeStandsStill(RuntimeError):
    """The test waits for something that only time can bring, and does not let any pass."""


class ManualClock:
    """Fulfils :class:`stillhere.embed.Clock`."""

    def __init__(self, start: float = START) -> None:
        """Stop a clock at some Unix second."""
        self._start = start
        self._base = 0.0
        self._moving = 0
        self.elapsed = 0.0
        """Seconds that have passed."""

    def now(self) -> float:
        """Unix seconds."""
        return self._start + self.elapsed

    def monotonic(self) -> float:
        """What the held loop's ``time()`` says."""
        return self._base + self.elapsed

    async def advance(self, seconds: float) -> None:
        """Let time pass: everything that is due in between happens, each at its own time.

        Raises:
            ValueError: time does not go back.
        """
        if seconds < 0:
            raise ValueError(f"{seconds:g} s cannot pass; time does not go back")
        self._moving += 1
        try:
            await self.settle()
            await asyncio.sleep(seconds)
        finally:
            self._moving -= 1
        await self.settle()

    def run_freely(self) -> None:
        """From now on, time passes whenever everybody waits: for an orderly end."""
        self._moving += 1

    async def settle(self) -> None:
        """Let everybody do what there is to do now, until nobody has anything; no time passes."""
        ready = cast("Any", asyncio.get_running_loop())._ready
        for _ in range(TURNS):
            await asyncio.sleep(0)
            if not ready:
                return

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Take the running loop's time until the end of the block.

        Raises:
            RuntimeError: it is not asyncio's own loop, whose time can be taken.
        """
        loop: Any = asyncio.get_running_loop()
        selector = getattr(loop, "_selector", None)
        if selector is None or "time" in vars(loop):
            why = "it is held already" if selector is not None else f"it is {type(loop).__qualname__}"
            raise RuntimeError(f"the time of this event loop cannot be taken: {why}; asyncio's own loop is needed")
        self._base = loop.time() - self.elapsed
        loop.time = self.monotonic
        selector.select = self._select(selector.select)
        try:
            yield
        finally:
            del loop.time
            del selector.select

    def _select(self, select: Callable[[float | None], list[Any]]) -> Callable[[float | None], list[Any]]:
        """What the loop waits with: it moves the clock to the next timer, or lets no time pass."""

        def moving_select(timeout: float | None = None) -> list[Any]:
            ready = select(0)
            if ready or timeout == 0:
                return ready
            if self._moving and timeout is not None:
                self.elapsed += max(0.0, timeout)
                return ready
            ready = select(PATIENCE)
            if not ready:
                raise TimeStandsStill(
                    f"nothing has happened for {PATIENCE:g} real seconds: the test waits for something that only time "
                    "can bring, and time passes in `await world.advance(seconds)` alone"
                )
            return ready

        return moving_select
