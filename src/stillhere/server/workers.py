"""Several processes behind one port: a parent that starts them, starts them again, and ends when all have ended.

Each worker is a node of its own: its name, its incarnation, its lease, its limits. They know of each other what nodes
know of each other, through the store, and nothing else. The kernel deals new connections out among their listening
sockets (SO_REUSEPORT); the parent serves nobody and awaits nothing.

- The first worker starts alone: what keeps it from starting is told once, and ends the start with its exit status.
- A worker that ends later is started again: at once, or after a pause that grows while it keeps ending soon.
- SIGTERM or SIGINT to the parent ends all, each with its own paced drain. A second one does not wait for the drains.
- A parent that is gone closes a pipe; its workers read the end of it, and drain as if they had been told to.

Workers are forked, not started anew: what the parent has read of settings and secrets is what every worker has, and a
worker that is started again is there in the time of a fork. The parent has no thread and no event loop, so nothing that
a fork could tear apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

PAUSE_LEAST, PAUSE_MOST = 0.5, 30.0
"""Seconds before a worker is started again that ended soon after its start, the second time in a row and at most."""

STEADY = 60.0
"""Seconds after which a worker has proven itself: its next end counts as a first one."""

FORCED = 10.0
"""Seconds that workers have to end after a second signal; then they are killed."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_READY, _ALIVE = "READY=1", "WATCHDOG=1"

_LOG = logging.getLogger("stillhere.workers")


def worker_names(node: str, workers: int) -> list[str]:
    """The names of the nodes: ``n1-1``, ``n1-2`` and so on."""
    return [f"{node}-{number + 1}" for number in range(workers)]


class Line:
    """A worker's line to its parent: what it says of itself, in systemd's words, and whether the parent is there."""

    def __init__(self, words: int, parent: int, watchdog: float = 0.0) -> None:
        """Take over two ends of pipes.

        Args:
            words: where to write.
            parent: what reads as ended when the parent has.
            watchdog: seconds within which ``WATCHDOG=1`` is expected again; 0 for never.
        """
        self._words = words
        self._parent = parent
        self.watchdog = watchdog

    def send(self, state: str) -> None:
        """Say one word, such as ``READY=1``."""
        with contextlib.suppress(OSError):  # the parent is gone, which is noticed elsewhere
            os.write(self._words, state.encode() + b"\n")

    def when_alone(self, stop: Callable[[], None]) -> None:
        """Call this once the parent has ended; to be asked on the loop."""
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(self._parent)
            stop()

        loop.add_reader(self._parent, ended)


Work = Callable[[str, Line], int]
"""What a worker does, given its name; returns its exit status."""


@dataclass(slots=True)
class _Worker:
    name: str
    pid: int = 0
    """0 while it does not run."""
    words: int = -1
    """Where it is heard."""
    due: float = 0.0
    """When it is to be started."""
    began: float = 0.0
    heard: float = 0.0
    ready: bool = False
    proven: bool = False
    """Whether it was ready once, in any of its lives."""
    short_lives: int = 0
    """In a row."""


class Supervisor:
    """The parent."""

    def __init__(
        self,
        names: Sequence[str],
        work: Work,
        *,
        notify: Callable[[str], None] = lambda state: None,
        watchdog: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; :meth:`run` does it.

        Args:
            names: one worker each.
            work: what a worker does, in its own process.
            notify: tells a service manager, in systemd's words.
            watchdog: seconds within which that expects a word, and this of each worker; 0 for never.
            monotonic: seconds that never go back.
        """
        self._workers = [_Worker(name) for name in names]
        self._work = work
        self._notify = notify
        self._watchdog = watchdog
        self._monotonic = monotonic
        self._selector = selectors.DefaultSelector()
        self._alive: tuple[int, int] = (-1, -1)
        self._wakes: tuple[int, int] = (-1, -1)
        self._stopping: int | None = None
        self._forced: float | None = None
        self._turned = self._told = monotonic()
        self._announced = False
        self._status = 0

    def run(self) -> int:
        """Work until all workers have ended for good; in the main thread of a process without others.

        Returns:
            0 after a stop in which every worker ended well; the status of a worker that could not start; minus the
            number of a second signal; 1 otherwise.
        """
        self._alive, self._wakes = os.pipe(), os.pipe()
        for end in self._wakes:
            os.set_blocking(end, False)
        self._selector.register(self._wakes[0], selectors.EVENT_READ)
        before = [signal.signal(number, lambda number, frame: None) for number in _SIGNALS]
        woken = signal.set_wakeup_fd(self._wakes[1], warn_on_full_buffer=False)
        try:
            while self._turn():
                pass
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in zip(_SIGNALS, before, strict=True):
                signal.signal(number, handler)
            self._selector.close()
            for end in (*self._alive, *self._wakes):
                os.close(end)
        return self._status

    def _turn(self) -> bool:
        """Start who is due, wait, hear, and see who has ended; returns whether there is anything left to do."""
        now = self._monotonic()
        for worker in self._startable():
            if not worker.pid and worker.due <= now:
                self._start(worker)
        if self._stopping is not None and not any(worker.pid for worker in self._workers):
            return False
        ready = [key.data for key, _ in self._selector.select(self._patience())]
        for worker in ready:
            if worker is not None:
                self._hear(worker)
        self._obey()
        for worker in self._workers:
            if worker.pid:
                self._look_after(worker)
        self._watch()
        return True

    def _startable(self) -> Sequence[_Worker]:
        """Nobody during a stop; the first alone until it was ready."""
        if self._stopping is not None:
            return ()
        return self._workers if self._workers[0].proven else self._workers[:1]

    def _patience(self) -> float | None:
        """Seconds until there is something to do that nobody announces."""
        now = self._monotonic()
        times = [worker.due - now for worker in self._startable() if not worker.pid]
        if self._forced is not None:
            times.append(self._forced - now)
        if self._watchdog:
            times.append(self._watchdog / 4)
        return max(0.0, min(times)) if times else None

    # -- a worker's life ----------------------------------------------------------------------------------------

    def _start(self, worker: _Worker) -> None:
        heard, words = os.pipe()
        os.set_blocking(heard, False)
        sys.stdout.flush()
        sys.stderr.flush()
        # a signal to the child, before it has handlers of its own, would wake the parent through the pipe they share
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                os.close(heard)
                self._be(worker.name, words)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        os.close(words)
        worker.pid, worker.words, worker.ready = pid, heard, False
        worker.began = worker.heard = self._monotonic()
        self._selector.register(heard, selectors.EVENT_READ, worker)
        _LOG.info("worker_started", extra={"fields": {"worker": worker.name, "pid": pid}})

    def _be(self, name: str, words: int) -> NoReturn:
        """The child: never returns into the parent's code, whatever happens."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # Ctrl-C goes to the group of the terminal: the parent hears it and tells its workers, once
            os.setpgid(0, 0)
            self._selector.close()
            for end in (self._alive[1], *self._wakes, *(other.words for other in self._workers if other.pid)):
                os.close(end)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            status = self._work(name, Line(words, self._alive[0], self._watchdog))
        except KeyboardInterrupt:
            status = 130
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _hear(self, worker: _Worker) -> None:
        try:
            said = os.read(worker.words, 4096).decode(errors="replace").split()
        except OSError:
            return
        if not said:  # its end; what follows is for waitpid to tell
            self._selector.unregister(worker.words)
            return
        worker.heard = self._monotonic()
        if _READY in said:
            worker.ready = worker.proven = True
            if not self._announced and all(other.ready for other in self._workers):
                self._announced = True
                _LOG.info("workers_ready", extra={"fields": {"workers": [other.name for other in self._workers]}})
                self._notify(_READY)

    def _look_after(self, worker: _Worker) -> None:
        pid, status = os.waitpid(worker.pid, os.WNOHANG)
        if pid:
            self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: _Worker, status: int) -> None:
        now = self._monotonic()
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.words)
        os.close(worker.words)
        fields: dict[str, object] = {"worker": worker.name, "pid": worker.pid, "status": status}
        started, worker.pid, worker.words = worker.ready, 0, -1
        worker.ready = False
        if self._stopping is not None:
            # told to stop before it had begun to serve, it just ends by the signal
            well = status == 0 or (status == -signal.SIGTERM and not started)
            if not well and self._status == 0:
                self._status = 1
            _LOG.log(logging.INFO if well else logging.WARNING, "worker_ended", extra={"fields": fields})
        elif not worker.proven:
            _LOG.error("worker_ended", extra={"fields": fields})
            self._status = status if status > 0 else 1
            self._stop(signal.SIGTERM)
        else:
            worker.short_lives = 0 if now - worker.began >= STEADY else worker.short_lives
            pause = min(PAUSE_LEAST * 2 ** (worker.short_lives - 1), PAUSE_MOST) if worker.short_lives else 0.0
            worker.short_lives = min(worker.short_lives + 1, 10)
            worker.due = now + pause
            _LOG.warning("worker_ended", extra={"fields": {**fields, "again_in_s": pause}})

    # -- signals and time ---------------------------------------------------------------------------------------

    def _obey(self) -> None:
        """Do what the signals say that have come."""
        try:
            numbers = os.read(self._wakes[0], 4096)
        except BlockingIOError:
            return
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                if self._stopping is None:
                    self._stop(number)
                elif self._forced is None:
                    self._force(number)

    def _stop(self, number: int) -> None:
        self._stopping = number
        self._notify("STOPPING=1")
        _LOG.info("stopping", extra={"fields": {"workers": [worker.name for worker in self._workers if worker.pid]}})
        self._tell(signal.SIGTERM)

    def _force(self, number: int) -> None:
        self._forced = self._monotonic() + FORCED
        self._status = -number
        self._tell(signal.SIGINT)  # a worker takes every SIGTERM for the same word

    def _tell(self, number: int) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, number)

    def _watch(self) -> None:
        """Kill who does not answer: after a second signal, or to a service manager's question."""
        now = self._monotonic()
        if self._forced is not None and now >= self._forced:
            self._tell(signal.SIGKILL)
        if not self._watchdog:
            return
        stood_still, self._turned = now - self._turned > self._watchdog / 2, now
        for worker in self._workers:
            if stood_still:  # nobody was asked meanwhile
                worker.heard = now
            elif worker.ready and now - worker.heard > self._watchdog:
                _LOG.error("worker_silent", extra={"fields": {"worker": worker.name, "pid": worker.pid}})
                worker.heard = now
                os.kill(worker.pid, signal.SIGKILL)
        if now - self._told >= self._watchdog / 4:
            self._told = now
            self._notify(_ALIVE)
