"""Virtual time: several event loops on one clock that nobody waits for.

Each node has a loop of its own, so that a node can stand still (its timers and tasks do not run, what arrives for it
waits as in a kernel's buffers) or vanish (nothing of it ever runs again), while everything else goes on. Where no loop
has anything to do, the clock moves to the next timer. There are no threads, no selectors and no sockets; the same
inputs give the same order of events.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from heapq import heappop, heappush
from math import inf
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Work = Callable[..., object]


class Clock:
    """The time of the whole simulation, in seconds from its start, and what is to happen outside of all loops."""

    def __init__(self) -> None:
        """Start at 0."""
        self.now = 0.0
        self.loops: tuple[NodeLoop, ...] = ()
        self._events: list[tuple[float, int, Work, tuple[Any, ...]]] = []
        self._count = 0
        self.steps = 0
        """Turns of loops and events so far."""
        self.halted = False
        """Whether the rest is of no interest."""

    def after(self, seconds: float, work: Work, *args: Any) -> None:
        """Call this outside of all loops, in so many seconds; in the order of the calls where two fall together."""
        self._count += 1
        heappush(self._events, (self.now + seconds, self._count, work, args))

    def run(self, until: float) -> None:
        """Let time pass up to an instant."""
        former = asyncio._get_running_loop()
        try:
            self._run(until)
        finally:
            asyncio._set_running_loop(former)

    def _run(self, until: float) -> None:
        """Do what is due now, or move on to the next instant; until there is none before the end."""
        # one long function: a schedule goes around here tens of thousands of times
        events, running, step_into = self._events, asyncio._get_running_loop(), asyncio._set_running_loop
        while not self.halted:
            now = self.now
            if events and events[0][0] <= now:
                if running is not None:
                    step_into(None)
                    running = None
                while events and events[0][0] <= now:
                    _, _, work, args = heappop(events)
                    self.steps += 1
                    work(*args)
            upcoming, busy = inf, False
            for loop in self.loops:
                if loop.stopped:
                    continue
                timers = loop._timers
                while timers and timers[0][2]._cancelled:
                    heappop(timers)
                if loop._ready or loop._inbox or (timers and timers[0][0] <= now):
                    if running is not loop:
                        step_into(loop)  # asks the operating system for the process's id: not for nothing
                        running = loop
                    self.steps += 1
                    loop.turn()
                    busy = True
                elif timers and timers[0][0] < upcoming:
                    upcoming = timers[0][0]
            if busy:
                continue
            if events and events[0][0] < upcoming:
                upcoming = events[0][0]
            if upcoming > until:
                self.now = max(now, until)
                return
            if upcoming > now:
                self.now = upcoming


class _Handle(asyncio.TimerHandle):
    """A handle of asyncio's without what it keeps for debugging: most of what a simulation does is to make them."""

    __slots__ = ()
    _repr = None
    _source_traceback = None
    _scheduled = False

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], loop: NodeLoop, context: Context
    ) -> None:
        self._when = when
        self._callback = callback
        self._args = args
        self._loop = loop
        self._context = context
        self._cancelled = False

    def cancel(self) -> None:
        """A cancelled timer is dropped when its time comes."""
        self._cancelled = True
        self._callback = self._args = None  # type: ignore[assignment]  # as asyncio's do: they hold nothing any more


class NodeLoop(asyncio.AbstractEventLoop):
    """An asyncio loop on such a clock: what tasks, futures, sleeps and time-outs need, and nothing else."""

    def __init__(self, clock: Clock) -> None:
        """Join the clock."""
        self._clock = clock
        self._ready: deque[_Handle | _Call] = deque()
        self._timers: list[tuple[float, int, _Handle]] = []
        self._inbox: deque[_Call] = deque()
        self._count = 0
        self._tasks: list[asyncio.Task[Any]] = []
        self.stopped = False
        """A loop that stands still: nothing of it runs, what arrives waits."""
        self.dead = False
        self.broken: list[str] = []
        """What nobody caught."""
        clock.loops = (*clock.loops, self)

    # -- what the simulation does -----------------------------------------------------------------------------------

    def deliver(self, work: Work, *args: Any) -> None:
        """Something arrives from outside: the loop takes it in its next turn, before its timers."""
        if not self.dead:
            self._inbox.append(_Call(work, args))

    def die(self) -> None:
        """Nothing of it ever runs again."""
        self.dead = self.stopped = True
        self._inbox.clear()
        self._clock.loops = tuple(loop for loop in self._clock.loops if loop is not self)

    def bury(self) -> None:
        """At the end of a simulation: close what still waits, in silence."""
        self.dead = self.stopped = True
        for task in self._tasks:
            work = task.get_coro()
            if not task.done() and isinstance(work, Coroutine):
                try:
                    work.close()
                except (RuntimeError, ValueError):
                    pass  # it awaited in a finally clause: nobody is there to answer
        self._tasks.clear()
        self._ready.clear()
        self._timers.clear()

    def turn(self) -> None:
        """One turn, as asyncio does it: what arrived, the timers that are due, and then what was ready."""
        ready, inbox, timers, now = self._ready, self._inbox, self._timers, self._clock.now
        while inbox:
            ready.append(inbox.popleft())
        while timers and timers[0][0] <= now:
            handle = heappop(timers)[2]
            if not handle._cancelled:
                ready.append(handle)
        for _ in range(len(ready)):
            due = ready.popleft()
            if due._cancelled:
                continue
            work = due._callback
            try:
                if due._context is None:
                    work(*due._args)
                else:
                    due._context.run(work, *due._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                what = getattr(work, "__qualname__", repr(work))
                self.call_exception_handler({"message": f"Exception in {what}()", "exception": error})
            if self.dead:
                return

    # -- what asyncio asks for --------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._clock.now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = _Handle(0.0, callback, args, self, copy_context() if context is None else context)
        if not self.dead:
            self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        when = self._clock.now + delay if delay > 0.0 else self._clock.now
        handle = _Handle(when, callback, args, self, copy_context() if context is None else context)
        self._count += 1
        heappush(self._timers, (when, self._count, handle))
        return handle

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = _Handle(when, callback, args, self, copy_context() if context is None else context)
        self._count += 1
        heappush(self._timers, (when, self._count, handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Generator[Any, None, T] | Coroutine[Any, Any, T], **options: Any) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=options.get("name", "node"))
        # a node that crashes leaves its tasks where they are
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        if len(self._tasks) > 256:
            self._tasks = [other for other in self._tasks if not other.done()]
        self._tasks.append(task)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self.dead

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.default_exception_handler(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.dead:
            self.broken.append(f"{context.get('message')}: {context.get('exception')!r}")

    def get_exception_handler(self) -> None:
        return None


class _Call:
    """What arrived from outside: a handle without a context of its own."""

    __slots__ = ("_args", "_callback")
    _cancelled = False
    _context = None

    def __init__(self, work: Work, args: tuple[Any, ...]) -> None:
        self._callback, self._args = work, args


def make_loop(clock: Clock) -> NodeLoop:
    """A loop of its own on this clock."""
    # what it leaves out (sockets, processes, signals, threads) is what a simulation must not use
    return NodeLoop(clock)  # type: ignore[abstract]
