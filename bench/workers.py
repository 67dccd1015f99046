"""``python -m bench.workers``: what a second worker brings, where neither the load nor the store is what limits it.

The machine of a bench seldom has cores enough for workers, Redis and a generator that is quicker than all of them. So
each worker gets a fixed share of a core from the kernel (a CPU quota of its control group, which needs root), the same
whether there is one or two. What the servers then do per second can be compared; the figures beside it say whether
the workers were full, and whether the generator and Redis were not.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import uvloop

from bench.adapters import PEERS
from bench.client import Client
from bench.cluster.server import RedisServer
from bench.figures import number
from bench.machine import describe
from bench.plan import names
from bench.proc import cpu_nanoseconds, tree
from bench.running import RESULTS, say
from bench.stand import Failed, Stand, free_port, in_turns, raise_file_limit, work_dir
from bench.watching import clock

FULL = 0.85
"""From which part of their share on workers count as full."""

BUSY = 0.85
"""From which part of a core on the generator or Redis may be what limits."""

ROOM = 10
"""Members of a room."""

_PERIOD_US = 10_000
"""Of the quota: short, so that a worker which has used up its share waits for some milliseconds only."""

_TIMEOUT = 300.0
_START = 20.0
_TCP = Path("/proc/net/tcp")


class WorkersPlan(msgspec.Struct, frozen=True):
    """How much."""

    rounds: int = 3
    workers: tuple[int, ...] = (1, 2)
    share: float = 0.3
    """Of a core, for each worker."""
    connections: int = 3000
    seconds: float = 10.0
    """Of changes."""
    in_flight: int = 100
    """Requests that wait for an answer at the same time."""


class Turn(msgspec.Struct, frozen=True):
    """What a number of workers did in one round."""

    workers: int
    connects: float
    """Per second, each with its entry into a room."""
    changes: float
    """Per second, each told to the others in the room."""
    full_connects: float
    """Which part of their share of CPU the workers used meanwhile; the same for changes below."""
    full_changes: float
    load: float
    """Cores that the generator used, in the busier of the two; the same for Redis."""
    redis: float

    @property
    def sound(self) -> bool:
        """Whether it was the workers that set the pace."""
        return min(self.full_connects, self.full_changes) >= FULL and max(self.load, self.redis) < BUSY


def group_of(name: str) -> tuple[Path, dict[str, str]]:
    """Where a control group is made, and what is written into which of its files; `{}` is the quota in microseconds."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return root / name, {"cpu.max": f"{{}} {_PERIOD_US}"}
    return root / "cpu" / name, {"cpu.cfs_period_us": str(_PERIOD_US), "cpu.cfs_quota_us": "{}"}


@contextmanager
def shares(pids: Sequence[int], share: float) -> Iterator[None]:
    """Give each process a share of a core, until the end of the block; by then the processes must have ended.

    Raises:
        Failed: the system does not let us.
    """
    made: list[Path] = []
    try:
        for pid in pids:
            path, files = group_of(f"stillhere-bench-{os.getpid()}-{pid}")
            path.mkdir()
            made.append(path)
            for name, text in files.items():
                (path / name).write_text(text.format(round(share * _PERIOD_US)))
            (path / "cgroup.procs").write_text(str(pid))
        yield
    except OSError as error:
        raise Failed(f"a share of CPU cannot be set, which needs root and control groups: {error}") from error
    finally:
        for path in made:
            _removed(path)


def _removed(path: Path) -> None:
    end = time.monotonic() + 5
    while True:  # the kernel takes a moment to see that the last process has gone
        try:
            path.rmdir()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


class Meter:
    """CPU of several parties over a stretch of time."""

    def __init__(self, workers: Sequence[int], redis: RedisServer) -> None:
        self._workers = workers
        self._redis = redis
        self._begin = self._now()

    def _now(self) -> tuple[float, float, float, float]:
        return clock(), cpu_nanoseconds(list(self._workers)) / 1e9, time.process_time(), self._redis.cpu()

    def read(self) -> tuple[float, float, float, float]:
        """Seconds since the start; cores that the workers, the generator and Redis used."""
        begin, now = self._begin, self._now()
        seconds = now[0] - begin[0]
        workers, load, redis = ((now[at] - begin[at]) / seconds for at in (1, 2, 3))
        return seconds, workers, load, redis


async def turn(number_of: int, plan: WorkersPlan, redis: RedisServer) -> Turn:
    """Measure a number of workers on an empty store.

    Raises:
        Failed: they did not do their work, or cannot be held to their share.
    """
    redis.client.flushall()
    port, work = free_port(), work_dir()
    command = [*PEERS["stillhere"].command(port, work), f"--workers={number_of}", f"--set=store.url={redis.url}"]
    command = [part for part in command if part != "--set=store.url=memory:"]
    stand = Stand(command, PEERS["stillhere"].env, port, os.sched_getaffinity(0))
    try:
        async with asyncio.timeout(_TIMEOUT):
            await stand.__aenter__()
            await _all_listen(port, number_of, stand)
            pids = tree(stand.pid)[1:] if number_of > 1 else [stand.pid]
            with shares(pids, plan.share):
                try:
                    return await _measure(stand, pids, plan, redis)
                finally:
                    await stand.__aexit__(None, None, None)
    except TimeoutError:
        raise Failed(f"no end after {_TIMEOUT:g} s{stand.said()}") from None
    except ExceptionGroup as group:
        raise Failed(f"{group.exceptions[0]}{stand.said()}") from group
    finally:
        shutil.rmtree(work, ignore_errors=True)


def listeners(port: int, tables: str) -> int:
    """How many sockets listen on a port, according to ``/proc/net/tcp``."""
    found = (line.split() for line in tables.splitlines()[1:])
    return sum(1 for fields in found if fields[3] == "0A" and fields[1].endswith(f":{port:04X}"))


async def _all_listen(port: int, number_of: int, stand: Stand) -> None:
    end = clock() + _START
    while listeners(port, _TCP.read_text()) < number_of:  # noqa: ASYNC240 - the kernel answers at once
        if clock() > end:
            raise Failed(f"{number_of} workers were asked for, and not all listen after {_START:g} s{stand.said()}")
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)  # what they do just after


async def _measure(stand: Stand, pids: Sequence[int], plan: WorkersPlan, redis: RedisServer) -> Turn:
    share = plan.share * len(pids)
    users = names(plan.connections)
    meter = Meter(pids, redis)
    rooms = {user: f"room {at // ROOM}" for at, user in enumerate(users)}

    async def come(user: str) -> None:
        client = await stand.visit(user)
        await client.join(rooms[user])

    await in_turns(users, come, plan.in_flight)
    seconds, used, load, store = meter.read()
    connects, full_connects = len(users) / seconds, used / share
    await stand.quiet(1.0)
    meter = Meter(pids, redis)
    end = clock() + plan.seconds
    done = 0

    def people() -> Iterator[Client]:
        while clock() < end:
            yield from stand.clients

    async def change(client: Client) -> None:
        nonlocal done
        if clock() < end:
            await client.change("busy" if done % 2 else "active")
            done += 1

    await in_turns(people(), change, plan.in_flight)
    seconds, used, load_then, store_then = meter.read()
    return Turn(
        len(pids),
        connects,
        done / seconds,
        full_connects,
        used / share,
        max(load, load_then),
        max(store, store_then),
    )


def table(turns: Sequence[Turn]) -> str:
    """Medians, and the gain over the fewest workers."""
    counts = sorted({turn.workers for turn in turns})
    lines = [
        "| workers | connects + joins a second | changes a second | share used | generator, cores | Redis, cores |",
        "|---|---|---|---|---|---|",
    ]
    first: tuple[float, float] | None = None
    for count in counts:
        of = [turn for turn in turns if turn.workers == count]
        connects, changes = (statistics.median(getattr(turn, name) for turn in of) for name in ("connects", "changes"))
        full = min(min(turn.full_connects, turn.full_changes) for turn in of)
        gains = ("", "")
        if first is None:
            first = connects, changes
        else:
            gains = (f" (× {connects / first[0]:.2f})", f" (× {changes / first[1]:.2f})")
        lines.append(
            f"| {count} | {number(connects)}{gains[0]} | {number(changes)}{gains[1]} | {full:.0%} or more | "
            f"{max(turn.load for turn in of):.2f} | {max(turn.redis for turn in of):.2f} |"
        )
    return "\n".join(lines)


async def _all(plan: WorkersPlan) -> list[Turn]:
    found = []
    with RedisServer(os.sched_getaffinity(0)) as redis:
        for at in range(plan.rounds):
            for count in plan.workers if at % 2 == 0 else plan.workers[::-1]:
                gc.collect()
                found.append(await turn(count, plan, redis))
                say(f"round {at + 1}/{plan.rounds}: {found[-1]}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.workers",
        description="What several workers do per second, each held to the same share of a core. Needs root, Linux and "
        "redis-server. Exit status 1: something did not work; 2: it was not the workers that set the pace.",
    )
    parser.add_argument("--share", type=float, help="of a core, for each worker (default 0.3)")
    parser.add_argument("--rounds", type=int, help="default 3")
    parser.add_argument("--quick", action="store_true", help="smaller, one round")
    given = parser.parse_args(argv)
    if sys.platform != "linux":
        raise SystemExit(f"the bench reads /proc, which {sys.platform} does not have; run it on Linux")
    plan = WorkersPlan(rounds=1, connections=600, seconds=3.0) if given.quick else WorkersPlan()
    asked = {key: value for key in ("share", "rounds") if (value := getattr(given, key)) is not None}
    for key, value in asked.items():
        if not 0 < value <= (1 if key == "share" else 100):
            raise SystemExit(f"--{key} is {value:g}; it must be above 0, and a share is 1 at most")
    plan = msgspec.structs.replace(plan, **asked)
    raise_file_limit()
    machine = describe()
    try:
        turns = uvloop.run(_all(plan))
    except Failed as fault:
        say(f"FAILED: {fault}")
        return 1
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"workers-{time.strftime('%Y%m%d-%H%M%S')}.json"
    document = {"kind": "workers", "machine": machine, "plan": plan, "turns": turns}
    path.write_text(json.dumps(msgspec.to_builtins(document), ensure_ascii=False) + "\n")
    print(table(turns))
    say(f"all values: {path}")
    if not all(turn.sound for turn in turns):
        say("in some rounds the workers were not full, or the generator or Redis was: take a smaller --share")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
