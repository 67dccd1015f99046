"""``python -m bench.growth``: how costs grow with connections, with the members of a room, with the length of a list.

Each curve is fitted by a power, cost = a × n^b. An exponent of 1 is growth in proportion; a sentence says where it is
something else. CPU is read in nanoseconds here (``schedstat``): small rooms cost less than a tick.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import math
import os
import shutil
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import uvloop

from bench.adapters import PEERS
from bench.client import masked
from bench.figures import number
from bench.machine import describe
from bench.plan import names
from bench.running import RESULTS, need_linux, say
from bench.stand import Failed, Stand, free_port, in_turns, raise_file_limit, split_cpus, work_dir
from bench.watching import clock

Point = dict[str, float]
"""Of a curve: `n`, and what it cost."""

GROWING = ("stillhere", "stillhere-sqlite", "ws")

NEAR = 0.15
"""Exponents that differ from 1 by no more are called proportional."""

_WARM = 30
_PATIENCE = 20.0
_TIMEOUT = 400.0


class GrowthPlan(msgspec.Struct, frozen=True):
    """How far the curves go."""

    rounds: int = 3
    connections: tuple[int, ...] = (1000, 2000, 4000, 8000, 16_000)
    rooms: tuple[int, ...] = (10, 100, 1000, 10_000)
    lists: tuple[int, ...] = (1, 10, 100, 1000)
    watchers: int = 200
    """Who watch lists of each length."""
    changes: int = 60
    settle: float = 2.0


QUICK = GrowthPlan(1, (250, 500, 1000, 2000), (10, 100, 500), (1, 10, 100, 1000), watchers=100, changes=30, settle=0.5)

FIGURES = {
    "connections": {"kib": "memory", "cpu_s": "CPU to connect"},
    "rooms": {"change_us": "CPU per change", "join_s": "CPU until all have joined"},
    "lists": {"watch_us": "CPU to watch a list", "list_kib": "memory of a list"},
}
"""The curves, their figures, and how these are called in a sentence."""

WHAT = {"connections": "connections", "rooms": "members of a room", "lists": "users in a list"}

MOST = {("ws", "rooms"): 1000}
"""How far a peer can go: where each join is told to all members, 10,000 joins are 50,000,000 frames."""


async def connections(stand: Stand, plan: GrowthPlan, tell: Callable[[Point], None]) -> None:
    """More and more connections on one server; memory and CPU of all of them so far."""
    await stand.crowd([f"warm-{n}" for n in range(_WARM)])
    await stand.quiet()
    users = names(plan.connections[-1])
    memory, cpu, there = stand.memory(), 0.0, 0
    for count in plan.connections:
        before = stand.cpu_fine()
        await stand.crowd(users[there:count])
        await stand.quiet(0.3)
        cpu += stand.cpu_fine() - before
        there = count
        await asyncio.sleep(plan.settle)
        kib = (stand.memory() - memory) / 1024
        tell({"n": count, "kib": kib, "cpu_s": cpu, "kib_each": kib / count, "cpu_us_each": cpu / count * 1e6})


async def room(stand: Stand, plan: GrowthPlan, members: int) -> Point:
    """One room of this size: what filling it costs, and what a change in it."""
    people = await stand.crowd(names(members))
    await stand.quiet()
    before = stand.cpu_fine()
    await in_turns(people, lambda person: person.ask("join", '"room":"hall"'))
    await stand.quiet(0.5)
    joined = stand.cpu_fine() - before
    frames, before = stand.tally.frames, stand.cpu_fine()
    for turn in range(plan.changes):
        availability = b"active" if turn % 2 else b"busy"
        people[0].say(masked(b'{"type":"state","id":9000,"availability":"%s"}' % availability))
        frames += members + 1
        end = clock() + _PATIENCE
        await asyncio.sleep(0.05)
        while stand.tally.frames < frames:
            if clock() > end:
                raise Failed(f"{frames - stand.tally.frames} of {members} members were not told")
            await asyncio.sleep(0.005)
    change = (stand.cpu_fine() - before) / plan.changes * 1e6
    return {"n": members, "change_us": change, "join_s": joined, "change_us_each": change / members}


async def watched(stand: Stand, plan: GrowthPlan, length: int) -> Point:
    """Lists of this length: what watching one costs."""
    listed = ",".join(f'"friend-{n:04}"' for n in range(length))
    people = await stand.crowd(names(plan.watchers + _WARM))
    # Topics that somebody follows already are not the lists'.
    await in_turns(people[:_WARM], lambda person: person.ask("watch", f'"users":[{listed}]'))
    await stand.quiet()
    memory, before = stand.memory(), stand.cpu_fine()
    await in_turns(people[_WARM:], lambda person: person.ask("watch", f'"users":[{listed}]'))
    await stand.quiet()
    cpu = (stand.cpu_fine() - before) / plan.watchers * 1e6
    await asyncio.sleep(plan.settle)
    kib = max(0.0, (stand.memory() - memory) / 1024 / plan.watchers)
    return {"n": length, "watch_us": cpu, "list_kib": kib, "watch_us_each": cpu / length}


async def _on(peer: str, work: Callable[[Stand], Awaitable[None]]) -> None:
    """Do something with a fresh server."""
    servers, load = split_cpus()
    os.sched_setaffinity(0, load | servers)
    port, folder = free_port(), work_dir()
    gc.collect()
    gc.disable()
    try:
        async with asyncio.timeout(_TIMEOUT):
            async with Stand(PEERS[peer].command(port, folder), PEERS[peer].env, port, servers) as stand:
                os.sched_setaffinity(0, load)
                await work(stand)
    except TimeoutError:
        raise Failed(f"no end after {_TIMEOUT:g} s") from None
    except ExceptionGroup as group:
        raise Failed(str(group.exceptions[0])) from group
    except OSError as error:
        raise Failed(str(error)) from error
    finally:
        gc.enable()
        os.sched_setaffinity(0, load | servers)
        shutil.rmtree(folder, ignore_errors=True)


async def curve(peer: str, name: str, plan: GrowthPlan, tell: Callable[[Point], None]) -> None:
    """One curve of one peer, point by point.

    Raises:
        Failed: the server did not do the work.
    """
    if name == "connections":
        await _on(peer, lambda stand: connections(stand, plan, tell))
        return
    sizes, measure = (plan.rooms, room) if name == "rooms" else (plan.lists, watched)
    for size in sizes:
        if size <= MOST.get((peer, name), size):

            async def work(stand: Stand, size: int = size) -> None:
                tell(await measure(stand, plan, size))

            await _on(peer, work)


# -- what the curves say --------------------------------------------------------------------------------------------


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The b of the power a × n^b that fits best, by least squares of logarithms.

    Args:
        points: n and cost, both above 0.

    Raises:
        ValueError: there are fewer than two different n, or a number is not above 0.
    """
    if len({n for n, _ in points}) < 2 or any(n <= 0 or cost <= 0 for n, cost in points):
        raise ValueError(f"a power needs two points at least, above 0: {points}")
    return statistics.linear_regression([math.log(n) for n, _ in points], [math.log(c) for _, c in points]).slope


def sentence(cost: str, what: str, points: Sequence[tuple[float, float]]) -> str:
    """Whether a cost grows in proportion, and where it does not."""
    usable = [(n, value) for n, value in points if value > 0]
    if len(usable) < 2:
        return f"{cost}: too small to be measured."
    whole = exponent(usable)
    begin = f"{cost} grows with the {what} to the power {whole:.2f} from {number_of(usable[0][0])} to "
    begin += number_of(usable[-1][0])
    bends = []
    for (n, _), (then, _) in itertools.pairwise(usable):
        step = exponent([point for point in usable if n <= point[0] <= then])
        if abs(step - 1) > NEAR:
            bends.append(f"{number_of(n)} to {number_of(then)} ({step:.2f})")
    if not bends:
        return f"{begin}: in proportion throughout."
    return f"{begin}; it is not in proportion from {', from '.join(bends)}."


def number_of(count: float) -> str:
    """``16,000``."""
    return f"{count:,.0f}"


def middle(rounds: Sequence[Sequence[Point]]) -> list[Point]:
    """The median of each figure at each n, over the rounds."""
    found: dict[float, dict[str, list[float]]] = {}
    for point in itertools.chain.from_iterable(rounds):
        for key, value in point.items():
            found.setdefault(point["n"], {}).setdefault(key, []).append(value)
    return [{key: statistics.median(values) for key, values in found[n].items()} for n in sorted(found)]


Curves = dict[str, dict[str, list[list[Point]]]]
"""By name and title of the peer: the rounds."""


def sentences(curves: Curves) -> list[str]:
    """One for each figure of each curve."""
    found = []
    for name, peers in curves.items():
        for key, cost in FIGURES[name].items():
            for title, rounds in peers.items():
                points = [(point["n"], point[key]) for point in middle(rounds)]
                found.append(f"{title}: {sentence(cost, WHAT[name], points)}")
    return found


async def grow(peers: Sequence[str], wanted: Sequence[str], plan: GrowthPlan) -> tuple[Curves, list[str]]:
    """All of it, the peers in turns."""
    curves: Curves = {name: {PEERS[peer].title: [] for peer in peers} for name in wanted}
    faults: list[str] = []
    begin = time.monotonic()
    for turn in range(plan.rounds):
        for name in wanted:
            for peer in peers:
                points: list[Point] = []

                def tell(
                    point: Point, points: list[Point] = points, peer: str = peer, name: str = name, turn: int = turn
                ) -> None:
                    points.append(point)
                    shown = "  ".join(f"{key}={number(value)}" for key, value in point.items() if key != "n")
                    where = f"[{time.monotonic() - begin:5.0f} s] round {turn + 1}/{plan.rounds} {name:<11} {peer:<17}"
                    say(f"{where} n={number_of(point['n'])}  {shown}")

                try:
                    await curve(peer, name, plan, tell)
                except Failed as fault:
                    faults.append(f"round {turn + 1}, {name}, {peer}: {fault}")
                    say(f"FAILED: {faults[-1]}")
                curves[name][PEERS[peer].title].append(points)
    return curves, faults


def main(argv: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="shorter curves, one round")
    parser.add_argument("--rounds", type=int, help="default 3; with --quick 1")
    parser.add_argument("--peers", nargs="+", choices=GROWING, default=["ws", "stillhere"])
    parser.add_argument("--curves", nargs="+", choices=list(FIGURES), default=list(FIGURES))
    given = parser.parse_args(argv)
    need_linux()
    plan = QUICK if given.quick else GrowthPlan()
    if given.rounds:
        plan = msgspec.structs.replace(plan, rounds=given.rounds)
    most, files = max(*plan.connections, *plan.rooms) + 200, raise_file_limit()
    if most > files:
        raise SystemExit(f"this needs {most} open files, and the hard limit is {files} (ulimit -Hn)")
    for peer in given.peers:
        PEERS[peer].prepare()
    machine = describe()
    curves, faults = uvloop.run(grow(given.peers, given.curves, plan))
    said = sentences(curves)
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"growth-{time.strftime('%Y%m%d-%H%M%S')}.json"
    document = {
        "kind": "growth",
        "machine": machine,
        "plan": msgspec.to_builtins(plan),
        "curves": curves,
        "sentences": said,
        "faults": faults,
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print("\n".join(said))
    say(f"all values: {path}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
