"""``python -m bench.soak``: thousands of people come and go for half an hour; what a server keeps of it.

Memory, file descriptors and tables are read all the time. In the end all leave, and the tables and descriptors have to
be back where they were. Timelines are kept short, so that they are full before the half of the time in which memory is
judged: what grows after that grows for no reason.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import msgspec
import uvloop

from bench.adapters import PEERS
from bench.churn import Churn
from bench.machine import describe
from bench.proc import open_files, pss_bytes
from bench.reads import Reader
from bench.running import RESULTS, need_linux, say
from bench.stand import Crowd, Failed, Stand, free_port, raise_file_limit, split_cpus, work_dir
from bench.watching import clock

TABLES = {
    "connections": "connections",
    "usersPresent": "users who are present",
    "windowsPending": "users with a pending window",
    "rooms": "rooms",
    "topics": "topics",
}
"""What has to be empty when all have left, as ``/v1/stats`` calls it, and in words."""

GROWTH_PER_HOUR = 0.05
"""By how much memory may grow in a stretch of the second half, as a share of it, extrapolated to an hour."""

RISE = 0.05
"""By how much it may be higher at the end of the second half than at its beginning, as a share."""

STRETCHES = 6
"""Of the second half. What is kept for no reason grows in each of them. A standstill of the machine piles up work, and
the pages that this takes stay: one step, which must not be taken for growth for ever, and is bounded by ``RISE``."""

LONG = 600.0
"""Seconds of churn from which on memory is judged: before, a process is still growing to its size."""

LEAST = 4 * STRETCHES
"""Samples from which on it is: two of each stretch."""

TIMELINE = 10
"""Entries kept per user."""

SOAKED = ("stillhere", "stillhere-sqlite")


class SoakPlan(msgspec.Struct, frozen=True):
    """How much."""

    seconds: float = 1800.0
    connections: int = 10_000
    rate: float = 200.0
    """Doings per second of all people together."""
    every: float = 10.0
    """Seconds between two samples."""
    patience: float = 60.0
    """Seconds until the tables have to be empty after all have left; the longest window is 15 s."""


class Sample(msgspec.Struct, frozen=True):
    """What there is at a moment."""

    at: float
    """Seconds since the churn began."""
    kib: float
    files: int
    connections: int
    windows: int
    rooms: int
    topics: int
    known: int
    false_offlines: int
    lag_ms: int


class Soaked(msgspec.Struct):
    """What came of it."""

    samples: list[Sample]
    files_before: int
    files_after: int
    tables_after: dict[str, int]
    kib_after: float
    doings: dict[str, int]
    faults: list[str]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The median slope of all pairs (Theil and Sen): a few odd samples do not move it.

    Args:
        points: time and value.

    Raises:
        ValueError: there are fewer than two.
    """
    slopes = [(b - a) / (then - now) for (now, a), (then, b) in combinations(points, 2) if then != now]
    if not slopes:
        raise ValueError("a slope needs two points at least")
    return statistics.median(slopes)


def _stretches(samples: Sequence[Sample]) -> list[Sequence[Sample]]:
    half = samples[len(samples) // 2 :]
    size = len(half) // STRETCHES
    return [half[n * size : (n + 1) * size] for n in range(STRETCHES)]


def growth(samples: Sequence[Sample]) -> float:
    """By which share memory would grow in an hour: the median of what the stretches of the second half say.

    Args:
        samples: :data:`LEAST` at least.
    """
    slopes = [slope([(sample.at, sample.kib) for sample in stretch]) for stretch in _stretches(samples)]
    return statistics.median(slopes) * 3600 / statistics.median(s.kib for s in samples[len(samples) // 2 :])


def rise(samples: Sequence[Sample]) -> float:
    """By which share the last stretch of the second half lies above the first, medians of both.

    Args:
        samples: :data:`LEAST` at least.
    """
    first, *_, last = (statistics.median(sample.kib for sample in stretch) for stretch in _stretches(samples))
    return last / first - 1


def judge(samples: Sequence[Sample]) -> list[str]:
    """What is wrong with a long run, in sentences; tables and descriptors are judged by :func:`soak`."""
    found = []
    if len(samples) >= LEAST and samples[-1].at >= LONG:
        if (grown := growth(samples)) > GROWTH_PER_HOUR:
            found.append(f"memory grew by {grown:.1%} an hour in the second half; {GROWTH_PER_HOUR:.0%} is allowed")
        if (risen := rise(samples)) > RISE:
            found.append(f"memory rose by {risen:.1%} in the second half; {RISE:.0%} is allowed")
    if samples and (false := samples[-1].false_offlines):
        found.append(f"{false} users who came back in time were shown offline")
    return found


async def soak(
    crowd: Crowd, pid: int, secret: str, plan: SoakPlan, tell: Callable[[str], None] = lambda _: None
) -> Soaked:
    """Soak a server.

    Args:
        crowd: nobody in it yet.
        pid: of the server, which is one process.
        secret: for the token of the reads.
        plan: how much.
        tell: takes progress.

    Raises:
        Failed: it refused somebody, or ended a connection.
    """
    async with Reader(crowd.port, secret) as reader:
        await _warm(crowd)
        await _empty(reader, plan.patience)
        before = open_files(pid)
        churn = Churn(crowd, plan.connections, plan.rate)
        tell(f"{plan.connections} connections come, {before} file descriptors before")
        await churn.come()
        samples: list[Sample] = []
        begin = clock()
        running = asyncio.create_task(churn.run(plan.seconds))
        while not running.done():
            samples.append(await _sample(reader, pid, clock() - begin))
            if len(samples) % 6 == 1:
                tell(_progress(samples[-1], plan, churn))
            await asyncio.wait([running], timeout=plan.every)
        await running
        samples.append(await _sample(reader, pid, clock() - begin))
        tell("all leave")
        await churn.go()
        tables = await _empty(reader, plan.patience)
        after = await _files(pid, before, plan.patience)
        faults = [f"{count} {TABLES[name]} are left" for name, count in tables.items() if count]
        if after > before:
            faults.append(f"{after - before} file descriptors are left: {before} before, {after} after")
        if crowd.tally.lost > 0:
            faults.append(f"the server ended {crowd.tally.lost} connections")
        kib = pss_bytes([pid]) / 1024
        return Soaked(samples, before, after, tables, kib, dict(sorted(churn.done.items())), faults)


async def _warm(crowd: Crowd) -> None:
    """What a server opens and loads with its first clients does not count."""
    warm = await crowd.crowd([f"warm-{n}" for n in range(20)], "warm")
    for client in warm:
        client.say(b"\x81\x8e\0\0\0\0" + b'{"type":"bye"}')
        crowd.leave(client, 1000)
    await crowd.gone()


async def _sample(reader: Reader, pid: int, at: float) -> Sample:
    told = await reader.stats()
    now = told["now"]
    return Sample(
        round(at, 1),
        round(pss_bytes([pid]) / 1024),
        open_files(pid),
        now["connections"],
        now["windowsPending"],
        now["rooms"],
        now["topics"],
        now["usersKnown"],
        told["falseOffline"]["total"],
        told["service"]["loopLagMs"],
    )


def _progress(sample: Sample, plan: SoakPlan, churn: Churn) -> str:
    return (
        f"[{sample.at:5.0f} of {plan.seconds:.0f} s] {sample.kib / 1024:.1f} MiB, {sample.files} descriptors, "
        f"{sample.connections} connections, {sample.windows} windows, {sample.rooms} rooms, "
        f"{sample.false_offlines} false offlines, {churn.done.total()} doings, loop late by {sample.lag_ms} ms"
    )


async def _empty(reader: Reader, patience: float) -> dict[str, int]:
    """Wait until the tables are empty; returns what is in them then, or when the patience is over."""
    end = clock() + patience
    while True:
        now = (await reader.stats())["now"]
        tables = {name: int(now[name]) for name in TABLES}
        if not any(tables.values()) or clock() > end:
            return tables
        await asyncio.sleep(0.2)


async def _files(pid: int, before: int, patience: float) -> int:
    """Wait until there are no more descriptors than before; returns how many there are."""
    end = clock() + patience
    while True:
        now = open_files(pid)
        if now <= before or clock() > end:
            return now
        await asyncio.sleep(0.2)


async def _measure(peer: str, plan: SoakPlan) -> Soaked:
    servers, load = split_cpus()
    port, work = free_port(), work_dir()
    command = [*PEERS[peer].command(port, work), f"--set=timeline.entries={TIMELINE}", "--set=server.log_level=warning"]
    try:
        async with Stand(command, PEERS[peer].env, port, servers) as stand:
            os.sched_setaffinity(0, load)
            try:
                return await soak(stand, stand.pid, stand.secret, plan, say)
            except (ExceptionGroup, OSError, Failed) as error:
                first = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
                raise Failed(f"{first}{stand.said()}") from error
    finally:
        os.sched_setaffinity(0, load | servers)
        shutil.rmtree(work, ignore_errors=True)


def plan_of(given: argparse.Namespace, files: int) -> SoakPlan:
    """How much, as asked for.

    Raises:
        SystemExit: the system does not allow so many connections, or a number makes no sense.
    """
    asked = {key: value for key in ("seconds", "connections", "rate") if (value := getattr(given, key)) is not None}
    for key, value in asked.items():
        if value <= 0:
            raise SystemExit(f"--{key} is {value:g}; it must be more than 0")
    plan = SoakPlan(seconds=30.0, connections=500, every=1.0) if given.quick else SoakPlan()
    plan = msgspec.structs.replace(plan, **asked)
    plan = msgspec.structs.replace(plan, every=min(plan.every, max(plan.seconds / 20, 0.5)))
    if plan.connections + 200 > files:
        raise SystemExit(f"{plan.connections} connections need more open files than {files}; pass --connections")
    return plan


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak",
        description="Soak a server: churn for half an hour, then all leave. Fails where something is left.",
    )
    parser.add_argument("--seconds", type=float, help="of churn (default 1800; with --quick 30)")
    parser.add_argument("--connections", type=int, help="default 10000; with --quick 500")
    parser.add_argument("--rate", type=float, help="doings per second (default 200)")
    parser.add_argument("--peer", choices=SOAKED, default="stillhere")
    parser.add_argument("--quick", action="store_true", help="small and short")
    given = parser.parse_args(argv)
    need_linux()
    plan = plan_of(given, raise_file_limit())
    machine = describe()
    say(f"soaking {given.peer}: {plan.connections} connections, {plan.rate:g} doings a second, {plan.seconds:g} s")
    try:
        soaked = uvloop.run(_measure(given.peer, plan))
    except Failed as fault:
        say(f"FAILED: {fault}")
        return 1
    path = write(RESULTS, given.peer, machine, plan, soaked)
    if len(soaked.samples) >= LEAST:
        print(f"memory {growth(soaked.samples):+.1%} an hour, {rise(soaked.samples):+.1%} in the second half", end="; ")
    print(f"descriptors {soaked.files_before} before, {soaked.files_after} after; tables after: {soaked.tables_after}")
    say(f"all values: {path}")
    faults = soaked.faults + judge(soaked.samples)
    for text in faults:
        say(f"FAILED: {text}")
    return 1 if faults else 0


def write(folder: Path, peer: str, machine: dict[str, object], plan: SoakPlan, soaked: Soaked) -> Path:
    """Write everything down."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"soak-{time.strftime('%Y%m%d-%H%M%S')}.json"
    document = {
        "kind": "soak",
        "machine": machine,
        "peer": PEERS[peer].title,
        "plan": msgspec.to_builtins(plan),
        **msgspec.to_builtins(soaked),
    }
    path.write_text(json.dumps(document, ensure_ascii=False) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
